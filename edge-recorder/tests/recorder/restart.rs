//! A restart is not the end of a call.

use std::time::Duration;

use model::EventBody;
use model::command::CommandBody;
use model::recording::{MarkKind, flag};
use segment::RecordKind;

use crate::support::{Site, Src, assert_said, two_calls};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_after_a_restart_on_the_same_ports_and_dialog() {
    let mut site = Site::new().await;
    let recorder = site.start().await;
    // A restarted recorder has the address that callers know.
    site.config.sip.listen = recorder.ready.sip;
    let mut events = site.events();
    let mut src = Src::tcp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let ports = src.targets.clone();
    let mut said = src.speak(20).await;
    // What has arrived at the sockets is not lost, though no sweep has seen it yet.
    recorder.stop().await;

    let recorder = site.start().await;
    for (said, more) in said.iter_mut().zip(src.speak(20).await) {
        said.extend(more);
    }
    src.reconnect().await;
    let again = src.sdp(["sendonly"; 2]);
    let answer = src.send_invite("application/sdp", &again).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(src.targets, ports);
    assert_eq!(src.bye().await.status, 200);

    let session = events.session(&src.call_id).await;
    let ended = events.stored_end(session).await;
    let EventBody::Ended { flags, reason, duration_ms, .. } = &ended.body else { unreachable!() };
    assert_eq!(reason, "bye");
    assert!(flags.contains(flag::INTERRUPTED), "{flags:?}");
    assert!(!flags.contains(flag::NO_METADATA), "metadata came before the restart");
    assert!(*duration_ms >= 80, "{duration_ms}");
    let stored = site.stored(session).await;
    assert_eq!(stored.keys, 2, "a resumed call has a new data key");
    for (stream, said) in (0..).zip(&said) {
        assert_said(&stored.datagrams(stream), said);
    }
    let starts: Vec<_> = stored
        .records
        .iter()
        .filter(|record| record.kind == RecordKind::Started)
        .map(|record| record.as_started().unwrap().resumed)
        .collect();
    assert_eq!(starts, [false, true]);
    let gaps: Vec<_> = events
        .seen
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Mark { mark: MarkKind::Gap, begins, .. } => Some((event.at, *begins)),
            _ => None,
        })
        .collect();
    assert_eq!(gaps.len(), 2, "{gaps:?}");
    assert!(gaps[0].1 && !gaps[1].1 && gaps[0].0 < gaps[1].0, "{gaps:?}");
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_does_not_make_audible_what_was_paused() {
    let mut site = Site::new().await;
    let recorder = site.start().await;
    site.config.sip.listen = recorder.ready.sip;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let session = events.session(&src.call_id).await;
    let recording = session.first_recording();
    let said = src.speak(5).await;
    assert!(site.command(&mut events, CommandBody::Pause { recording }).await.0);
    recorder.stop().await;
    let recorder = site.start().await;
    src.speak(5).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(src.bye().await.status, 200);
    events.stored_end(session).await;
    assert_said(&site.stored(session).await.datagrams(0), &said[0]);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_src_that_answers_no_options_keeps_its_call_only_while_it_is_heard() {
    for (speaks, expected) in [(true, "bye"), (false, "gone")] {
        let mut site = Site::new().await;
        let recorder = site.start().await;
        site.config.sip.listen = recorder.ready.sip;
        let mut events = site.events();
        let mut src = Src::udp(recorder.ready.sip).await;
        assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
        let mut said = src.speak(5).await;
        recorder.stop().await;
        let recorder = site.start().await;
        let mut speak_on = async |src: &mut Src| {
            for (said, more) in said.iter_mut().zip(src.speak(10).await) {
                said.extend(more);
            }
        };
        if speaks {
            speak_on(&mut src).await;
            // Until the sweep has heard it.
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
        src.answer_request("OPTIONS", "408 Request Timeout").await;
        let session = events.session(&src.call_id).await;
        if speaks {
            tokio::time::sleep(Duration::from_millis(200)).await;
            speak_on(&mut src).await;
            assert_eq!(src.bye().await.status, 200);
        }
        let ended = events.stored_end(session).await;
        let EventBody::Ended { reason, .. } = &ended.body else { unreachable!() };
        assert_eq!(reason, expected);
        assert_said(&site.stored(session).await.datagrams(0), &said[0]);
        recorder.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_metadata_told_last_is_still_known_after_a_restart() {
    let mut site = Site::new().await;
    let recorder = site.start().await;
    site.config.sip.listen = recorder.ready.sip;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    // The second stream becomes a call of its own, with another name.
    let newer = two_calls(["cs-1", "cs-2"]).replace("Bob Marker-Smith", "Roberta");
    assert_eq!(src.update(&newer).await.status, 200);
    let session = events.session(&src.call_id).await;
    let second = session.further_recording("cs-2");
    recorder.stop().await;
    let recorder = site.start().await;
    // Shows what is known without adding to it.
    assert_eq!(src.update("<recording><broken").await.status, 200);
    let facts = events
        .wait_for("facts after the restart", |event| match &event.body {
            EventBody::Metadata { recording, facts, flags, .. }
                if *recording == second && flags.contains(flag::METADATA_ERROR) =>
            {
                Some(facts.clone())
            }
            _ => None,
        })
        .await;
    assert_eq!(facts.participants.len(), 1, "{facts:?}");
    assert_eq!(facts.participants[0].name.as_ref().unwrap().reveal(), "Roberta");
    assert_eq!(src.bye().await.status, 200);
    events.stored_end(session).await;
    let ended: Vec<_> = events
        .seen
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Ended { recording, reason, .. } => Some((*recording, reason.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(ended, [(second, "bye"), (session.first_recording(), "bye")]);
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_gone_on_with_is_ended_and_its_src_is_told() {
    let mut site = Site::new().await;
    let recorder = site.start().await;
    site.config.sip.listen = recorder.ready.sip;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let session = events.session(&src.call_id).await;
    recorder.stop().await;
    // Room for one record at a time, and none for all that a resumption writes at once.
    site.config.journal.buffer_bytes = 1.try_into().unwrap();
    let recorder = site.start().await;
    src.answer_request("BYE", "200 OK").await;
    let ended = events.stored_end(session).await;
    let EventBody::Ended { reason, .. } = &ended.body else { unreachable!() };
    assert_eq!(reason, "interrupted");
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_policy_serves_when_the_store_has_none() {
    let site = Site::new().await;
    site.start().await.stop().await;
    let key = model::object_key::ObjectKey::policy();
    storage_ports::ObjectStore::delete(&*site.engines.objects(), &key).await.unwrap();
    let recorder = site.start().await;
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(None).await.status, 200);
    recorder.stop().await;
}
