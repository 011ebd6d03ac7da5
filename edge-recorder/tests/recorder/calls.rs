//! Calls as their SRC and the object store see them.

use std::path::Path;

use model::call::StreamFact;
use model::command::CommandBody;
use model::recording::{MarkKind, flag};
use model::{EventBody, RecordingEvent};

use crate::support::{LABELS, Site, Src, assert_said, two_calls};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_recorded_packet_by_packet() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    let answer = src.invite(Some(&src.metadata())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.labels(), LABELS);
    assert_eq!(answer.body.matches("a=recvonly").count(), 2, "{}", answer.body);
    assert!(answer.head.contains("+sip.srs"), "{}", answer.head);
    assert!(src.targets.iter().all(|target| target.port() % 2 == 0));

    let said = src.speak(60).await;
    assert_eq!(src.bye().await.status, 200);

    let session = events.session(&src.call_id).await;
    let ended = events.stored_end(session).await;
    let EventBody::Ended { reason, flags, duration_ms, .. } = &ended.body else { unreachable!() };
    assert_eq!(reason, "bye");
    assert!((100..10_000).contains(duration_ms), "{duration_ms}");
    assert!(flags.contains(flag::UNTRUSTED_SOURCE) && !flags.contains(flag::NO_METADATA));
    let stored = site.stored(session).await;
    assert_eq!(stored.keys, 1);
    for (stream, said) in (0..).zip(&said) {
        assert_said(&stored.datagrams(stream), said);
        let source = src.media[usize::from(stream)].local_addr().unwrap();
        let packets = stored.rtp(stream);
        assert!(packets.iter().all(|packet| packet.source == source));
        assert!(packets.windows(2).all(|two| two[0].arrival_boot_ns <= two[1].arrival_boot_ns));
    }
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_story_of_the_call_is_told_in_the_order_of_its_metadata() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::tcp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let session = events.session(&src.call_id).await;
    let (facts, document) = events
        .wait_for("metadata", |event| match &event.body {
            EventBody::Metadata { facts, document, recording, .. }
                if *recording == session.first_recording() =>
            {
                Some((facts.clone(), document.clone()))
            }
            _ => None,
        })
        .await;
    let ids: Vec<_> = facts.participants.iter().map(|party| party.id.as_str()).collect();
    assert_eq!(ids, ["p-bob", "p-ana"]);
    let sent = |label: &str, sender: &str| StreamFact {
        label: label.to_owned(),
        senders: vec![sender.to_owned()],
    };
    assert_eq!(facts.streams, [sent(LABELS[0], "p-ana"), sent(LABELS[1], "p-bob")]);
    assert!(facts.call_ids.contains("sip-session-77"), "{:?}", facts.call_ids);
    assert_eq!(document.as_deref(), Some(src.metadata().as_str()));
    assert_eq!(src.bye().await.status, 200);
    events.stored_end(session).await;
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_said_or_told_can_be_read_on_the_disk() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    src.speak(20).await;
    assert_eq!(src.bye().await.status, 200);
    let session = events.session(&src.call_id).await;
    events.stored_end(session).await;
    recorder.stop().await;
    let mut searched = 0;
    for place in ["journal", "objects"] {
        for (path, bytes) in files(&site.dir.path().join(place)) {
            searched += bytes.len();
            for secret in ["Marker-Smith", "sip:ana@", "SPOKEN-A", src.call_id.as_str()] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} is readable in {}", path.display());
            }
        }
    }
    assert!(searched > 10_000, "{searched} bytes");
}

fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_is_flagged_and_recorded_all_the_same() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    for (metadata, expected) in
        [(None, flag::NO_METADATA), (Some("<recording><broken"), flag::METADATA_ERROR)]
    {
        let mut src = Src::udp(recorder.ready.sip).await;
        assert_eq!(src.invite(metadata).await.status, 200);
        let said = src.speak(5).await;
        assert_eq!(src.bye().await.status, 200);
        let session = events.session(&src.call_id).await;
        let ended = events.stored_end(session).await;
        let EventBody::Ended { flags, .. } = &ended.body else { unreachable!() };
        assert!(flags.contains(expected), "{expected} is not in {flags:?}");
        assert_said(&site.stored(session).await.datagrams(0), &said[0]);
    }
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hold_is_answered_on_the_same_ports_and_marked() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::tcp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let ports = src.targets.clone();
    let mut said = src.speak(10).await;
    let hold = src.sdp(["sendonly", "inactive"]);
    let answer = src.send_invite("application/sdp", &hold).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body.matches("a=inactive").count(), 1, "{}", answer.body);
    assert_eq!(src.targets, ports);
    let resumed = src.sdp(["sendonly", "sendonly"]);
    assert_eq!(src.send_invite("application/sdp", &resumed).await.status, 200);
    assert_eq!(src.targets, ports);
    for (said, more) in said.iter_mut().zip(src.speak(10).await) {
        said.extend(more);
    }
    assert_eq!(src.bye().await.status, 200);
    let session = events.session(&src.call_id).await;
    events.stored_end(session).await;
    let marks: Vec<_> = events
        .seen
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Mark { mark, label, begins, .. } => Some((*mark, label.clone(), *begins)),
            _ => None,
        })
        .collect();
    let label = Some(LABELS[1].to_owned());
    assert_eq!(marks, [(MarkKind::Hold, label.clone(), true), (MarkKind::Hold, label, false)]);
    assert_said(&site.stored(session).await.datagrams(1), &said[1]);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leg_that_sends_nothing_is_told_while_the_call_lasts() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let session = events.session(&src.call_id).await;
    let mut heard = async |told: &[&str]| {
        let what = format!("{told:?}");
        let is_told = |event: &RecordingEvent| match &event.body {
            EventBody::Heard { recording, flags, .. } => {
                assert_eq!(*recording, session.first_recording());
                flags.iter().eq(told).then_some(())
            }
            _ => None,
        };
        events.wait_for(&what, is_told).await;
    };
    src.speak_on(0, 60).await;
    heard(&[flag::NO_PACKETS, flag::ONE_WAY_AUDIO]).await;
    src.speak_on(1, 60).await;
    heard(&[]).await;
    assert_eq!(src.bye().await.status, 200);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digit_told_by_info_is_marked_unless_the_recording_is_paused() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::tcp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let session = events.session(&src.call_id).await;
    let recording = session.first_recording();
    let relay = "Content-Type: application/dtmf-relay\r\n";
    assert_eq!(src.request("INFO", relay, "Signal=5\r\nDuration=160\r\n").await.status, 200);
    let (ok, detail) = site.command(&mut events, CommandBody::Pause { recording }).await;
    assert!(ok, "{detail}");
    assert_eq!(src.request("INFO", relay, "Signal=6\r\n").await.status, 200);
    let (ok, detail) = site.command(&mut events, CommandBody::Resume { recording }).await;
    assert!(ok, "{detail}");
    assert_eq!(src.request("INFO", "Content-Type: application/dtmf\r\n", "#").await.status, 200);
    assert_eq!(src.bye().await.status, 200);
    events.stored_end(session).await;
    let digits: Vec<_> = events
        .seen
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Mark { mark: MarkKind::Dtmf, detail, .. } => detail.clone(),
            _ => None,
        })
        .collect();
    assert_eq!(digits, ["5", "#"]);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_while_paused_is_written_nowhere() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let session = events.session(&src.call_id).await;
    let recording = session.first_recording();
    let before = src.speak(5).await;
    let (ok, detail) = site.command(&mut events, CommandBody::Pause { recording }).await;
    assert!(ok, "{detail}");
    src.speak(5).await;
    let (ok, detail) = site.command(&mut events, CommandBody::Resume { recording }).await;
    assert!(ok, "{detail}");
    let after = src.speak(5).await;
    let (ok, detail) = site.command(&mut events, CommandBody::Stop { recording }).await;
    assert!(ok, "{detail}");
    let ended = events.stored_end(session).await;
    let EventBody::Ended { reason, .. } = &ended.body else { unreachable!() };
    assert_eq!(reason, "stopped");
    let stored = site.stored(session).await;
    for stream in 0..2 {
        let expected = [before[stream].clone(), after[stream].clone()].concat();
        assert_said(&stored.datagrams(stream as u16), &expected);
    }
    let (ok, detail) = site.command(&mut events, CommandBody::Pause { recording }).await;
    assert!(!ok && detail.contains("not in progress"), "{detail}");
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_follows_its_call_to_another_stream_and_ends_with_it() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::tcp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&two_calls(["cs-1", "cs-2"]))).await.status, 200);
    let session = events.session(&src.call_id).await;
    let recording = session.further_recording("cs-2");
    let (ok, detail) = site.command(&mut events, CommandBody::Pause { recording }).await;
    assert!(ok, "{detail}");
    let mut expected = [Vec::new(), Vec::new()];
    let ended = two_calls(["cs-1", "cs-2"]).replace(
        "session_id=\"cs-2\"></session>",
        "session_id=\"cs-2\"><stop-time>2026-11-22T14:00:00Z</stop-time></session>",
    );
    let steps: [(Option<String>, &[usize]); 3] =
        [(None, &[0]), (Some(two_calls(["cs-2", "cs-1"])), &[1]), (Some(ended), &[0, 1])];
    for (metadata, audible) in steps {
        if let Some(metadata) = metadata {
            assert_eq!(src.update(&metadata).await.status, 200);
        }
        // Longer than capture takes to hear of it, and to read what was said before.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        let mut said = src.speak(5).await;
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        for stream in audible {
            expected[*stream].append(&mut said[*stream]);
        }
    }
    assert_eq!(src.bye().await.status, 200);
    events.stored_end(session).await;
    let stored = site.stored(session).await;
    for (stream, expected) in (0..).zip(&expected) {
        assert_said(&stored.datagrams(stream), expected);
    }
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_a_connection_costs_no_call() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut src = Src::tcp(recorder.ready.sip).await;
    src.send_raw(b"\r\n\r\n").await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let mut other = Src::tcp(recorder.ready.sip).await;
    other.send_raw(&[0xff; 4_000]).await;
    let mut udp = Src::udp(recorder.ready.sip).await;
    udp.send_raw(b"INVITE\r\n\r\n").await;
    src.send_raw(b"OPTIONS sip:x SIP/2.0\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(src.bye().await.status, 200);
    recorder.stop().await;
}
