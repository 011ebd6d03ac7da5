//! One call, told in the dialect of each vendor, is one call to us.
//!
//! The documents are our own, see `tests/data/metadata/README.md`.

use std::path::Path;

use siprec::metadata::{self, Label, Participant, Role, Snapshot, xml};

fn fixture(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/metadata").join(name);
    #[expect(clippy::disallowed_methods, reason = "a test may read its data")]
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All documents of one recording session, in their order.
fn told(names: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for name in names {
        let document = xml::read(&fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        snapshot.fold(document);
    }
    snapshot
}

fn is_ana(participant: &Participant) -> bool {
    participant.name() == Some("Ana")
        && participant.aor().is_some_and(|aor| aor.contains("15550100"))
}

fn is_ben(participant: &Participant) -> bool {
    matches!(participant.name(), Some("Ben") | None)
        && participant.aor().is_some_and(|aor| aor.contains("15550199"))
}

/// Ana is heard on one label, Ben on the other, and they are all there is.
fn assert_ana_and_ben(call: &Snapshot, anas: &str, bens: &str, dialect: &str) {
    assert_eq!(call.participants.len(), 2, "{dialect}");
    assert!(is_ana(&call.participants[0]) && is_ben(&call.participants[1]), "{dialect}");
    let speakers = |label: &str| call.speakers(&Label(label.to_owned())).collect::<Vec<_>>();
    let (on_anas, on_bens) = (speakers(anas), speakers(bens));
    assert!(on_anas.len() == 1 && is_ana(on_anas[0]), "{dialect} {anas}");
    assert!(on_bens.len() == 1 && is_ben(on_bens[0]), "{dialect} {bens}");
}

#[test]
fn every_dialect_with_separate_streams_tells_who_is_heard_where() {
    for (name, anas, bens) in [
        ("cisco_cube.xml", "1", "2"),
        ("oracle_sbc.xml", "1", "2"),
        ("audiocodes_legacy.xml", "1", "2"),
        ("ribbon_sbc.xml", "1", "2"),
        ("broadworks.xml", "1", "2"),
        ("avaya_sbce_update.xml", "10", "20"),
        ("netsapiens.xml", "1", "2"),
        ("opensips.xml", "1", "0"),
        ("sems.xml", "a_leg", "b_leg"),
        ("jambonz.xml", "1", "2"),
    ] {
        assert_ana_and_ben(&told(&[name]), anas, bens, name);
        // The same document again changes nothing.
        assert_eq!(told(&[name, name]), told(&[name]), "{name}");
    }
}

#[test]
fn on_a_mixed_stream_both_are_heard() {
    let call = told(&["metaswitch.xml"]);
    let speakers: Vec<_> = call.speakers(&Label("1".into())).collect();
    assert!(is_ana(speakers[0]) && is_ben(speakers[1]) && speakers.len() == 2);
    assert_eq!(call.stream(&Label("1".into())).unwrap().mode.as_deref(), Some("mixed"));
}

#[test]
fn the_caller_is_known_where_the_vendor_tells() {
    for name in
        ["oracle_sbc.xml", "ribbon_sbc.xml", "metaswitch.xml", "broadworks.xml", "netsapiens.xml"]
    {
        let call = told(&[name]);
        let roles: Vec<_> = call.participants.iter().map(|participant| participant.role).collect();
        assert_eq!(roles, [Some(Role::Caller), Some(Role::Callee)], "{name}");
    }
    for name in ["cisco_cube.xml", "opensips.xml", "sems.xml"] {
        assert!(told(&[name]).participants.iter().all(|p| p.role.is_none()), "{name}");
    }
}

#[test]
fn a_call_can_be_looked_up_by_every_id_its_vendor_has_for_it() {
    for (name, ids) in [
        (
            "cisco_cube.xml",
            &["2f5c1a9a00105000a000a093516b3ad1", "5cdf8bd700105000a000a0935168b0e2"][..],
        ),
        ("oracle_sbc.xml", &["00FA080100019B66430F60", "BYiC7uSZQGN3VQdzWI1HWw=="]),
        (
            "audiocodes_legacy.xml",
            &["FA080001000B2C5E6A7F", "00000000-0000-0000-0000-00908f0a1b2c"],
        ),
        ("ribbon_sbc.xml", &["805306369_1@192.0.2.10", "805306369"]),
        ("broadworks.xml", &["3271:1", "callhalf-4711:0"]),
        ("avaya_sbce_update.xml", &["00FA080001019B66430F60"]),
        ("netsapiens.xml", &["20240514093000012345-group@core1.example.com"]),
        ("opensips.xml", &["a84b4c76e66710@192.0.2.10", "support queue"]),
        ("jambonz.xml", &["b0e1a2c3-call@192.0.2.10"]),
    ] {
        let call = told(&[name]);
        for id in ids {
            assert!(call.call_ids.contains(*id), "{name} {id}: {:?}", call.call_ids);
        }
    }
}

#[test]
fn what_a_vendor_adds_is_kept_and_belongs_to_something() {
    let call = told(&["broadworks.xml"]);
    let user = call.extensions.iter().find(|extension| extension.name() == "userID").unwrap();
    assert_eq!(user.element, "broadWorksRecordingMetadata/userID");
    assert_eq!(user.text, "ana@example.com");
    assert_eq!(user.scope, metadata::Scope::Session(call.sessions[0].id.clone()));

    let call = told(&["oracle_sbc.xml"]);
    let header = call.extensions.iter().find(|extension| extension.name() == "header").unwrap();
    assert_eq!(header.attributes, [("label".to_owned(), "From".to_owned())]);
    assert_eq!(header.text, "\"Ana\" <sip:+15550100@192.0.2.10>;tag=1");
    assert_eq!(header.scope, metadata::Scope::Participant(call.participants[0].id.clone()));
}

#[test]
fn times_are_understood_with_any_zone_and_without_one() {
    // `date -u -d 2024-05-14T09:30:00Z +%s`
    let start_ms = Some(1_715_679_000_000);
    for (name, zoned) in [
        ("oracle_sbc.xml", false),
        ("ribbon_sbc.xml", true),
        ("broadworks.xml", true),
        ("avaya_sbce_update.xml", false),
        ("opensips.xml", true),
    ] {
        let call = told(&[name]);
        let start = call.sessions[0].start.as_ref().unwrap();
        assert_eq!((start.unix_ms, start.zoned), (start_ms, zoned), "{name}");
    }
}

#[test]
fn the_dummy_that_avaya_announces_first_is_replaced_by_the_callee() {
    let first = told(&["avaya_sbce_invite.xml"]);
    assert_eq!(first.participants[1].name(), Some("ASBCE"));
    assert_eq!(first.speakers(&Label("20".into())).count(), 0);
    let call = told(&["avaya_sbce_invite.xml", "avaya_sbce_update.xml"]);
    assert_ana_and_ben(&call, "10", "20", "avaya");
}

#[test]
fn whoever_was_heard_is_still_known_when_the_bye_says_that_all_have_left() {
    let call = told(&["ribbon_sbc.xml", "ribbon_sbc_bye.xml"]);
    assert_ana_and_ben(&call, "1", "2", "ribbon");
    assert!(call.senders.is_empty());
    assert!(call.associations.iter().all(|association| association.to.is_some()));
    assert_eq!(call.associations.len(), 2);
    assert!(call.sessions[0].stop.is_some() && call.sessions[0].start.is_some());
}

#[test]
fn the_examples_of_rfc_7865_are_read() {
    let call = told(&["rfc7865_complete.xml"]);
    let name_on = |call: &Snapshot, label: &str| {
        let speakers = call.speakers(&Label(label.to_owned()));
        speakers.map(|speaker| speaker.name().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(name_on(&call, "96"), ["Bob"]);
    assert_eq!(name_on(&call, "97"), ["Bob"]);
    assert_eq!(name_on(&call, "98"), ["Paul"]);
    assert!(call.call_ids.contains("47755a9de7794ba387653f2099600ef2"));
    let supervisor =
        call.extensions.iter().find(|e| e.element == "call-center/supervisor").unwrap();
    assert_eq!(supervisor.scope, metadata::Scope::Group(call.groups[0].id.clone()));

    let updated = told(&["rfc7865_complete.xml", "rfc7865_partial.xml"]);
    assert_eq!(name_on(&updated, "96"), ["Bob"]);
    let bob = &updated.participants[0];
    let interval =
        updated.associations.iter().find(|a| a.participant.as_ref() == Some(&bob.id)).unwrap();
    assert!(interval.from.is_some() && interval.to.is_some());
}
