//! The recorder restarts during a call: only what was written down remains.

mod pair;

use std::time::Duration;

use pair::{METADATA, Pair, m_lines, two_streams};
use siprec::{DialogState, Direction, EndReason, Event};

#[test]
fn a_call_goes_on_after_a_restart() {
    for mut pair in [Pair::udp(), Pair::tcp()] {
        let first = pair.establish();
        pair.restart();
        assert!(pair.event_names().contains(&"established"));
        let hold = pair.invite("", &two_streams("inactive"));
        pair.send(hold);
        let ok = pair.one();
        assert_eq!(ok.status(), 200);
        assert_eq!(m_lines(&ok.body()), m_lines(&first.body()), "the ports stay");
        assert_eq!(ok.header("to").matches("tag=").count(), 1);
        assert_eq!(pair.directions(), [Direction::Inactive; 2]);
        pair.ack("", "");
        let bye = pair.request("BYE", "", "");
        assert_eq!(pair.status_of(&bye), 200);
        assert_eq!(pair.ended(), Some(EndReason::Bye));
    }
}

#[test]
fn the_answer_written_down_before_the_crash_is_repeated_after_it() {
    let mut pair = Pair::udp();
    let invite = pair.siprec_invite();
    pair.lose = Box::new(|_| true);
    pair.send(&invite);
    pair.lose = Box::new(|_| false);
    pair.restart();
    pair.send(&invite);
    let ok = pair.one();
    assert_eq!(ok.status(), 200);
    pair.advance(Duration::from_millis(500));
    assert_eq!(pair.one().text, ok.text, "still not acknowledged");
    pair.call.to_tag = Some(ok.to_tag());
    pair.ack("", "");
    pair.advance(Duration::from_secs(40));
    assert!(pair.all().is_empty());
    assert_eq!(pair.ended(), None);
}

#[test]
fn a_retransmission_after_a_restart_is_not_processed_again() {
    let mut pair = Pair::udp();
    pair.establish();
    let update =
        pair.request("UPDATE", "Content-Type: application/sdp\r\n", &two_streams("inactive"));
    pair.send(&update);
    let first = pair.one();
    pair.restart();
    pair.events.clear();
    pair.send(&update);
    assert_eq!(pair.one().text, first.text);
    assert!(pair.events.is_empty());
}

#[test]
fn over_tcp_nothing_is_sent_before_the_src_has_connected_again() {
    let mut pair = Pair::tcp();
    let invite = pair.siprec_invite();
    pair.send(&invite);
    let ok = pair.one();
    pair.disconnect();
    pair.advance(Duration::from_secs(2));
    assert!(pair.all().is_empty());
    pair.connect();
    pair.call.to_tag = Some(ok.to_tag());
    let info = pair.request("INFO", "", "");
    assert_eq!(pair.status_of(&info), 200);
    pair.advance(Duration::from_secs(4));
    assert!(pair.all().iter().any(|again| again.text == ok.text), "on the new connection");
}

#[test]
fn metadata_is_folded_onto_what_was_known_before_the_restart() {
    let mut pair = Pair::udp();
    pair.establish();
    pair.restart();
    let partial = METADATA
        .replace("complete", "partial")
        .replace("cGFydGljaXBhbnQtYWxpY2U=", "cGFydGljaXBhbnQtYm9iYnk=")
        .replace("alice", "bob");
    let update = pair.request("UPDATE", "Content-Type: application/rs-metadata+xml\r\n", &partial);
    assert_eq!(pair.status_of(&update), 200);
    let Some(Event::Metadata { view: Ok(view), .. }) = pair.events.last() else {
        panic!("{:?}", pair.event_names());
    };
    assert_eq!(view.participants.len(), 2);
}

#[test]
fn a_state_survives_being_written_and_read() {
    let mut pair = Pair::udp();
    pair.establish();
    let key = pair.key();
    let state = pair.srs.dialog_state(key).expect("a live session");
    assert_eq!(state.call_id(), "call-1");
    assert_eq!(state.streams().len(), 2);
    let written = serde_json::to_vec(&state).expect("a state can be written");
    let read: DialogState = serde_json::from_slice(&written).expect("and read");
    assert_eq!(serde_json::to_vec(&read).expect("and written again"), written);
    assert!(!format!("{state:?}").contains("alice"), "a state does not print people");
}

#[test]
fn where_the_src_is_is_known_until_its_session_ends_and_after_a_restart() {
    let mut pair = Pair::udp();
    pair.establish();
    assert_eq!(pair.srs.peer(pair.key()), Some(pair.peer));
    let key = pair.restart();
    assert_eq!(pair.srs.peer(key), Some(pair.peer));
    pair.srs.hang_up(pair.now, key);
    assert_eq!(pair.srs.peer(key), None);
}

#[test]
fn a_call_that_is_not_answered_has_no_state() {
    let mut pair = Pair::udp();
    pair.answers = false;
    let invite = pair.siprec_invite();
    pair.send(invite);
    let key = pair.key();
    assert!(pair.srs.dialog_state(key).is_none());
}

#[test]
fn after_a_restart_complete_metadata_can_be_asked_for() {
    let mut pair = Pair::udp();
    pair.establish();
    let key = pair.restart();
    pair.srs.request_snapshot(pair.now, key);
    pair.drain();
    let update = pair.one();
    assert!(update.is_request("UPDATE"), "{}", update.text);
    assert_eq!(update.header("require"), "siprec");
    assert_eq!(update.header("content-disposition"), "recording-session");
    assert!(update.body().contains("<requestsnapshot xmlns='urn:ietf:params:xml:ns:recording:1'>"));
    pair.advance(Duration::from_secs(40));
    assert_eq!(pair.ended(), None, "an SRC that does not know it is still recorded");
}

#[test]
fn who_cannot_be_asked_after_a_restart_can_be_given_up() {
    let mut pair = Pair::tcp();
    pair.establish();
    let key = pair.restart();
    pair.disconnect();
    assert!(!pair.srs.probe(pair.now, key), "nothing connects us with the SRC");
    assert_eq!(pair.ended(), None);
    pair.srs.give_up(pair.now, key);
    pair.drain();
    assert_eq!(pair.ended(), Some(EndReason::Gone));
}
