//! Trunks: who may record, by configuration and by policy, and how their calls are treated.

use model::EventBody;
use model::command::CommandBody;
use model::object_key::ObjectKey;
use model::recording::flag;
use model::trunk::Trunks;
use storage_ports::{ObjectStore, PutMode};

use crate::support::{Site, Src, trunks};

fn table(value: serde_json::Value) -> Trunks {
    serde_json::from_value(serde_json::json!([value])).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_call_over_udp_gets_no_answer_and_is_counted() {
    let mut site = Site::new().await;
    site.config.sip.trunks = trunks(&["127.0.0.1"]);
    let recorder = site.start().await;
    const NAME: &str = "linekeeper_sip_strangers_total{answer=\"none\"}";
    let before = recorder.metric(NAME).await;
    let mut stranger = Src::udp_from("127.0.0.66", recorder.ready.sip).await;
    let invite = "INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.66;branch=z9hG4bKstranger\r\n\
        From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: stranger\r\nCSeq: 1 INVITE\r\n\r\n";
    stranger.send_raw(invite.as_bytes()).await;
    recorder.wait_for_metric(NAME, before).await;
    assert!(!stranger.was_answered());
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(None).await.status, 200);
    assert_eq!(src.bye().await.status, 200);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_says_which_trunk_it_came_from_and_its_numbers_in_one_form() {
    let mut site = Site::new().await;
    site.config.sip.trunks = table(serde_json::json!({
        "name": "sbc-london", "sources": ["127.0.0.0/8"], "codecs": ["pcmu"],
        "numbering": {"country_code": "44", "national_prefix": "0", "extension_digits": [4]},
    }));
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    let metadata = src
        .metadata()
        .replace("sip:bob@example.com", "sip:02079460123@example.com")
        .replace("sip:ana@example.com", "4711");
    assert_eq!(src.invite(Some(&metadata)).await.status, 200);
    assert_eq!(src.bye().await.status, 200);
    let session = events.session(&src.call_id).await;
    let facts = events
        .wait_for("metadata", |event| match &event.body {
            EventBody::Metadata { facts, .. } => Some(facts.clone()),
            _ => None,
        })
        .await;
    let numbers: Vec<_> = facts
        .participants
        .iter()
        .map(|party| {
            let text = |value: &Option<model::Personal<String>>| {
                value.as_ref().map(|value| value.reveal().clone())
            };
            (text(&party.aor).unwrap(), text(&party.number))
        })
        .collect();
    let expected = [
        ("sip:02079460123@example.com".to_owned(), Some("+442079460123".to_owned())),
        ("4711".to_owned(), None),
    ];
    assert_eq!(numbers, expected);
    let told = |name: &str| {
        let found = facts.extensions.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.reveal().clone())
    };
    assert_eq!(told("trunk").as_deref(), Some("sbc-london"));
    assert_eq!(told("trunk-authentication").as_deref(), Some("unauthenticated"));
    let ended = events.stored_end(session).await;
    assert!(!format!("{ended:?}").contains(flag::UNTRUSTED_SOURCE));
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_a_codec_that_the_trunk_may_use_is_refused() {
    let mut site = Site::new().await;
    site.config.sip.trunks = table(serde_json::json!({
        "name": "sbc", "sources": ["127.0.0.1"], "codecs": ["G729"],
    }));
    let recorder = site.start().await;
    assert_eq!(Src::udp(recorder.ready.sip).await.invite(None).await.status, 488);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trunk_with_a_password_is_challenged() {
    let mut site = Site::new().await;
    site.config.sip.trunks = table(serde_json::json!({
        "name": "sbc", "digest": {"user": "src", "password": "correct horse"},
    }));
    let recorder = site.start().await;
    let refused = Src::udp(recorder.ready.sip).await.invite(None).await;
    assert_eq!(refused.status, 401);
    let challenge = refused.header("WWW-Authenticate").unwrap();
    assert!(challenge.contains("realm=\"linekeeper\"") && challenge.contains("SHA-256"));
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trunks_of_the_policy_take_effect_without_a_restart() {
    let mut site = Site::new().await;
    site.config.sip.trunks = trunks(&["192.0.2.0/24"]);
    let recorder = site.start().await;
    assert_eq!(Src::tcp(recorder.ready.sip).await.invite(None).await.status, 403);
    let policy = serde_json::json!({
        "version": 1,
        "revision": 2,
        "tenants": [{"tenant": "default", "public_key": site.keys.public().to_string()}],
        "trunks": [{"name": "sbc-of-policy", "sources": ["127.0.0.1"], "max_calls": 1}],
    });
    let body = policy.to_string().into_bytes().into();
    site.engines.objects().put(&ObjectKey::policy(), body, PutMode::Replace).await.unwrap();
    let (ok, _) = site.command(&mut site.events(), CommandBody::PolicyChanged).await;
    assert!(ok);
    let mut one = Src::tcp(recorder.ready.sip).await;
    // The command was carried out; the recorder looks at the policy every quarter of a second.
    let mut status = 403;
    for _ in 0..100 {
        status = one.invite(None).await.status;
        if status != 403 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        one = Src::tcp(recorder.ready.sip).await;
    }
    assert_eq!(status, 200);
    let mut two = Src::tcp(recorder.ready.sip).await;
    let refused = two.invite(None).await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("Retry-After").is_some());
    let active = "linekeeper_trunk_calls_active{trunk=\"sbc-of-policy\"}";
    assert_eq!(recorder.wait_for_metric(active, 0.0).await, 1.0);
    assert_eq!(one.bye().await.status, 200);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audio_that_comes_after_the_bye_is_kept_and_flagged() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let before = src.speak(5).await;
    assert_eq!(src.bye().await.status, 200);
    // Without a pause, for longer than packets may be under way.
    let mut after = [Vec::new(), Vec::new()];
    let begun = std::time::Instant::now();
    while begun.elapsed() < std::time::Duration::from_millis(1_000) {
        let said = src.speak(5).await;
        for (all, said) in after.iter_mut().zip(said) {
            all.extend(said);
        }
    }
    let session = events.session(&src.call_id).await;
    let ended = events.stored_end(session).await;
    let EventBody::Ended { flags, reason, .. } = &ended.body else { panic!("{ended:?}") };
    assert!(flags.contains(flag::MEDIA_AFTER_BYE), "{flags:?}");
    assert_eq!(reason, "bye");
    let stored = site.stored(session).await;
    for (stream, (mut said, after)) in before.into_iter().zip(after).enumerate() {
        said.extend(after);
        crate::support::assert_said(&stored.datagrams(stream as u16), &said);
    }
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ciscos_network_based_recording_works_without_metadata() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    let sdp: String = src
        .sdp(["sendonly"; 2])
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("a=label"))
        .collect();
    let headers = "Content-Type: application/sdp\r\nCisco-Guid: 1-2-3-4\r\n\
        X-Cisco-Recording-Participant: sip:708090@10.0.0.1;media-index=\"1\"\r\n\
        X-Cisco-Recording-Participant: sip:5001@10.0.0.2;media-index=\"0\"\r\n";
    assert_eq!(src.request("INVITE", headers, &sdp).await.status, 200);
    let session = events.session(&src.call_id).await;
    let facts = events
        .wait_for("who takes part", |event| match &event.body {
            EventBody::Metadata { facts, .. } => Some(facts.clone()),
            _ => None,
        })
        .await;
    let heard = |label: &str| -> Vec<String> {
        let speakers = facts.speakers(label);
        speakers.map(|party| party.aor.as_ref().unwrap().reveal().clone()).collect()
    };
    assert_eq!(heard("0"), ["sip:5001@10.0.0.2"]);
    assert_eq!(heard("1"), ["sip:708090@10.0.0.1"]);
    assert!(facts.extensions.iter().any(|(name, _)| name == "Cisco-Guid"));
    assert_eq!(src.bye().await.status, 200);
    let ended = events.stored_end(session).await;
    let EventBody::Ended { flags, .. } = &ended.body else { panic!("{ended:?}") };
    assert!(flags.contains(flag::NO_METADATA), "{flags:?}");
    recorder.stop().await;
}
