//! What is written today must be readable for ever: one file per message, byte for byte.
//!
//! A test that fails here says that a format changed. Add a field with a default and a new file;
//! never edit a file that was released. `LINEKEEPER_WRITE_GOLDEN=1` writes files that are missing
//! and none that exists.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use model::access::Role;
use model::api;
use model::call::{CallFacts, Party, StreamFact};
use model::command::{self, Command, CommandBody};
use model::event::{self, EventBody, RecordingEvent};
use model::id::CommandId;
use model::index::{Ended, Finalized, Guarded, JournalState, RecordingState};
use model::policy::{self, PolicySnapshot, TenantPolicy};
use model::recording::{Mark, MarkKind, Participant, Recording, Status, Track, flag};
use model::trunk::Trunks;
use model::{
    EdgeId, JournalId, Personal, Position, RecordingId, SessionId, TenantId, UserId, WallTime,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// `value` is written exactly as the file has it, and the file reads back as `value`.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, value: &T) {
    golden_text(name, value);
    assert_eq!(&read::<T>(name), value, "{name} reads back as something else");
}

fn golden_text<T: Serialize>(name: &str, value: &T) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let mut written = serde_json::to_string_pretty(value).unwrap();
    written.push('\n');
    if std::env::var_os("LINEKEEPER_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, &written).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(written, kept, "{name} is written differently");
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn at(ms: i64) -> WallTime {
    WallTime::from_unix_ms(1_795_334_400_000 + ms)
}

fn journal() -> JournalId {
    "019aab12-0000-7000-8000-000000000001".parse().unwrap()
}

fn recording_id() -> RecordingId {
    "019aab12-3456-7000-8000-0000000000aa".parse().unwrap()
}

fn command_id() -> CommandId {
    "019aab12-3456-7000-8000-0000000000cc".parse().unwrap()
}

fn edge() -> EdgeId {
    EdgeId::new("edge-1").unwrap()
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn facts() -> CallFacts {
    CallFacts {
        participants: vec![
            Party {
                id: "zSfPoSvdSDCmU3A3TRDxAw==".to_owned(),
                name: Some(Personal::from("Eva Novák")),
                aor: Some(Personal::from("sip:+38612345678@pbx.example.com")),
                number: None,
                role: Some("caller".to_owned()),
            },
            Party { id: "b".to_owned(), name: None, aor: None, number: None, role: None },
        ],
        streams: vec![StreamFact {
            label: "96".to_owned(),
            senders: vec!["zSfPoSvdSDCmU3A3TRDxAw==".to_owned()],
        }],
        call_ids: set(&["hVpd7YQgRW2nD22h7q60JQ==", "00001234561795334400"]),
        extensions: vec![("apkt:ucid".to_owned(), Personal::from("00FA08"))],
    }
}

fn events() -> Vec<(&'static str, EventBody)> {
    let (tenant, recording) = (TenantId::default(), recording_id());
    let beat = |dead_man| EventBody::Beat {
        seq: 12,
        stored_through: Position(40),
        live: vec![recording],
        dead_man,
    };
    vec![
        (
            "started",
            EventBody::Started {
                tenant: tenant.clone(),
                recording,
                session: SessionId(recording.0),
                call_ids: vec!["a84b4c76e66710@sbc.example.com".to_owned()],
                flags: set(&[flag::NO_SIPREC_TAG]),
            },
        ),
        (
            "metadata",
            EventBody::Metadata {
                tenant: tenant.clone(),
                recording,
                facts: facts(),
                flags: set(&[flag::MIXED]),
                document: Some(
                    "<recording xmlns='urn:ietf:params:xml:ns:recording:1'/>".to_owned(),
                ),
            },
        ),
        (
            "mark",
            EventBody::Mark {
                tenant: tenant.clone(),
                recording,
                mark: MarkKind::Hold,
                label: Some("96".to_owned()),
                begins: true,
                detail: None,
            },
        ),
        (
            "ended",
            EventBody::Ended {
                tenant,
                recording,
                reason: "bye".to_owned(),
                duration_ms: 61_020,
                flags: set(&[flag::INTERRUPTED]),
            },
        ),
        ("stored", EventBody::Stored { through: Position(40) }),
        ("beat", beat(false)),
        ("dead_man", beat(true)),
        (
            "command_done",
            EventBody::CommandDone {
                command: command_id(),
                ok: false,
                detail: "no such recording".to_owned(),
            },
        ),
    ]
}

#[test]
fn every_event_keeps_its_form() {
    let heard = EventBody::Heard {
        tenant: TenantId::default(),
        recording: recording_id(),
        flags: set(&[flag::ONE_WAY_AUDIO]),
    };
    for (name, body) in events().into_iter().chain([("heard", heard)]) {
        let event = RecordingEvent {
            version: event::VERSION,
            edge: edge(),
            journal: journal(),
            epoch: 3,
            position: Position(42),
            at: at(123),
            body,
        };
        golden(&format!("event_{name}.v1.json"), &event);
        assert_eq!(RecordingEvent::from_json(&event.to_json()).unwrap(), event);
    }
}

#[test]
fn an_event_of_a_newer_version_says_what_to_do() {
    let text = r#"{"version": 2, "event": "sung", "tune": "new"}"#;
    let error = RecordingEvent::from_json(text).unwrap_err();
    assert!(matches!(error, event::EventError::TooNew { found: 2 }), "{error}");
    assert!(error.to_string().contains("upgrade"), "{error}");
    for malformed in ["", "{}", "[]", r#"{"version": 1, "event": "sung"}"#, r#"{"version": -1}"#] {
        let error = RecordingEvent::from_json(malformed).unwrap_err();
        assert!(matches!(error, event::EventError::Malformed(_)), "{malformed:?}: {error}");
    }
}

#[test]
fn every_command_keeps_its_form() {
    let recording = recording_id();
    let bodies = [
        ("pause", CommandBody::Pause { recording }),
        ("resume", CommandBody::Resume { recording }),
        ("stop", CommandBody::Stop { recording }),
        ("drain", CommandBody::Drain),
        ("policy-changed", CommandBody::PolicyChanged),
    ];
    for (name, body) in bodies {
        let command = Command { version: command::VERSION, id: command_id(), at: at(0), body };
        golden(&format!("command_{name}.v1.json"), &command);
    }
}

#[test]
fn the_policy_keeps_its_form() {
    let policy = PolicySnapshot {
        version: policy::VERSION,
        revision: 7,
        tenants: vec![TenantPolicy {
            tenant: TenantId::default(),
            public_key: "c2VhbCB0byB0aGlzIGtleSwgYW5kIHRvIG5vIG90aGU=".to_owned(),
        }],
        trunks: Trunks::default(),
    };
    golden("policy.v1.json", &policy);
    let all = r#"[{"name": "sbc", "sources": ["192.0.2.0/24"], "tls_names": ["*.sbc.example.com"],
        "digest": {"user": "src", "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        "recognition": "standard-or-metadata", "tenant": "default", "media_sources": ["198.51.100.0/24"],
        "codecs": ["PCMU"], "numbering": {"country_code": "44", "national_prefix": "0"},
        "max_calls": 500, "reserved_calls": 100, "max_calls_per_sec": 20}]"#;
    let policy = PolicySnapshot { trunks: serde_json::from_str(all).unwrap(), ..policy };
    golden("policy_with_trunks.v1.json", &policy);
}

fn track() -> Track {
    Track {
        label: "96".to_owned(),
        participant: Some(Personal::from("sip:+38612345678@pbx.example.com")),
        speakers: vec![0],
        codec: "PCMU".to_owned(),
        packets_expected: 3_051,
        packets_received: 3_049,
        packets_lost: 2,
        duration_ms: 61_020,
        alignment: None,
    }
}

fn marks() -> Vec<Mark> {
    vec![
        Mark { kind: MarkKind::Hold, from_ms: 5_000, to_ms: 9_000, track: None, detail: None },
        Mark {
            kind: MarkKind::Gap,
            from_ms: 20_000,
            to_ms: 21_000,
            track: Some(0),
            detail: Some("recorder restarted".to_owned()),
        },
    ]
}

fn recording() -> Recording {
    Recording {
        id: recording_id(),
        status: Status::Stored,
        started_at: at(0),
        ended_at: Some(at(61_020)),
        duration_ms: Some(61_020),
        edge: edge(),
        call_ids: vec!["a84b4c76e66710@sbc.example.com".to_owned()],
        participants: vec![
            Participant {
                name: Some(Personal::from("Eva Novák")),
                aor: Some(Personal::from("sip:+38612345678@pbx.example.com")),
                number: None,
                role: Some("caller".to_owned()),
            },
            Participant { name: None, aor: None, number: None, role: None },
        ],
        tracks: vec![track()],
        flags: vec![flag::INTERRUPTED.to_owned()],
        marks: marks(),
        sha256: Some("0f".repeat(32)),
        playable: true,
        end_reason: Some("bye".to_owned()),
    }
}

fn call_in_progress() -> Recording {
    Recording {
        status: Status::Recording,
        ended_at: None,
        duration_ms: None,
        tracks: Vec::new(),
        marks: Vec::new(),
        sha256: None,
        playable: false,
        end_reason: None,
        ..recording()
    }
}

fn user() -> api::User {
    api::User {
        login: UserId::new("admin").unwrap(),
        role: Role::Administrator,
        must_change_password: true,
    }
}

#[test]
fn every_answer_of_the_api_keeps_its_form() {
    golden("api_recording.json", &recording());
    golden(
        "api_recordings.json",
        &api::Recordings {
            recordings: vec![recording(), call_in_progress()],
            next: Some("1.1a202aae000.019aab12345670008000000000000000aa".to_owned()),
        },
    );
    golden("api_recordings_none.json", &api::Recordings { recordings: vec![], next: None });
    golden("api_live.json", &api::Live { now: at(30_000), recordings: vec![call_in_progress()] });
    golden("api_user.json", &user());
    golden("api_signed_in_cookie.json", &api::SignedIn { user: user(), token: None });
    let token = Some("b64url-token".to_owned());
    golden("api_signed_in_token.json", &api::SignedIn { user: user(), token });
    let document = |text: Option<&str>, base64: Option<&str>| api::MetadataDocument {
        received_at: at(5),
        content_type: "application/rs-metadata+xml".to_owned(),
        text: text.map(str::to_owned),
        base64: base64.map(str::to_owned),
    };
    golden(
        "api_metadata.json",
        &api::Metadata {
            id: recording_id(),
            documents: vec![document(Some("<recording/>"), None), document(None, Some("/w=="))],
        },
    );
    golden(
        "api_health.json",
        &api::Health {
            summary: "1 recorder is alive and 1 call is being recorded.".to_owned(),
            ok: true,
            now: at(0),
            edges: vec![api::EdgeHealth {
                edge: edge(),
                alive: true,
                last_seen: at(-900),
                calls: 1,
                index_lag_ms: 900,
            }],
            queues: vec![api::QueueHealth {
                queue: "events".to_owned(),
                waiting: 6,
                oldest_ms: Some(0),
                dead_letters: 0,
            }],
            odd_calls: std::collections::BTreeMap::new(),
        },
    );
    golden(
        "api_error.json",
        &api::ErrorBody {
            error: api::ErrorDetail {
                code: "not_found".to_owned(),
                message: "There is no recording of this id.".to_owned(),
                request_id: "019aab12".to_owned(),
            },
        },
    );
    golden("api_roles.json", &Role::ALL);
    golden("api_statuses.json", &Status::ALL);
    assert!(Status::ALL.iter().all(|status| Status::parse(status.as_str()) == Some(*status)));
    let kinds = [
        MarkKind::Hold,
        MarkKind::Pause,
        MarkKind::Gap,
        MarkKind::Dtmf,
        MarkKind::Join,
        MarkKind::Leave,
    ];
    golden("api_mark_kinds.json", &kinds);
}

#[test]
fn every_request_of_the_api_keeps_its_form() {
    // Neither compares nor prints, because of the passwords.
    let sign_in = api::SignIn {
        login: "admin".to_owned(),
        password: "correct horse".to_owned(),
        token: true,
    };
    golden_text("api_sign_in.json", &sign_in);
    let back: api::SignIn = read("api_sign_in.json");
    assert_eq!(
        (back.login, back.password, back.token),
        ("admin".to_owned(), "correct horse".to_owned(), true)
    );
    let short: api::SignIn = serde_json::from_str(r#"{"login": "a", "password": "b"}"#).unwrap();
    assert!(!short.token, "a browser does not ask for a token");
    let change =
        api::ChangePassword { current: "correct horse".to_owned(), new: "battery".to_owned() };
    golden_text("api_change_password.json", &change);
    let back: api::ChangePassword = read("api_change_password.json");
    assert_eq!((back.current, back.new), ("correct horse".to_owned(), "battery".to_owned()));
}

#[test]
fn the_states_that_an_index_keeps_are_readable_for_ever() {
    let mut states: (Option<RecordingState>, JournalState) =
        (None, JournalState::new(journal(), edge()));
    for (number, (_, body)) in events().into_iter().enumerate() {
        let event = RecordingEvent {
            version: event::VERSION,
            edge: edge(),
            journal: journal(),
            epoch: 3,
            position: Position(42 + number as u64),
            at: at(123),
            body,
        };
        states.1 = states.1.fold(&event);
        if event.recording().is_some() {
            states.0 = RecordingState::fold(states.0, &event);
        }
    }
    let (Some(mut recording), journal) = states else { panic!("no event is about a recording") };
    assert!(recording.finalized(Finalized {
        generation: 1,
        through: Position(45),
        complete: true,
        duration_ms: 61_020,
        tracks: vec![track()],
        packets: None,
        marks: marks(),
        flags: set(&[flag::SILENT_TRACK]),
        sha256: "0f".repeat(32),
        sealed_keys: vec!["a2V5".to_owned()],
    }));
    golden("index_recording.v1.json", &recording);
    golden("index_journal.v1.json", &journal);
    let ended = Ended { at: at(123), reason: "bye".to_owned(), duration_ms: 61_020 };
    assert_eq!(recording.ended, Some(Guarded { position: Position(45), value: ended }));
}
