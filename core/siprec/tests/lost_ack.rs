//! The ACK for our 200 is lost, or never comes (RFC 3261 §13.3.1.4).

mod pair;

use std::time::Duration;

use pair::{Pair, two_streams};
use siprec::{EndReason, Transport};

#[test]
fn the_answer_is_repeated_until_the_ack_comes_on_every_transport() {
    for mut pair in [Pair::udp(), Pair::tcp(), Pair::new(Transport::Tls, Default::default())] {
        let invite = pair.siprec_invite();
        pair.send(invite);
        pair.advance(Duration::from_millis(3600));
        let answers = pair.all();
        let at_ms: Vec<_> = answers.iter().map(|answer| answer.at.as_millis()).collect();
        assert_eq!(at_ms, [0, 500, 1500, 3500], "{:?}", pair.transport);
        assert!(answers.iter().all(|answer| answer.text == answers[0].text));

        pair.call.to_tag = Some(answers[0].to_tag());
        pair.ack("", "");
        pair.advance(Duration::from_secs(120));
        assert!(pair.all().is_empty());
        assert_eq!(pair.ended(), None);
    }
}

#[test]
fn a_call_that_is_never_acknowledged_ends_with_bye_after_32_seconds() {
    for mut pair in [Pair::udp(), Pair::tcp()] {
        let invite = pair.siprec_invite();
        pair.send(invite);
        pair.all();
        pair.advance(Duration::from_millis(31_999));
        assert_eq!(pair.ended(), None);
        pair.all();
        pair.advance(Duration::from_millis(1));
        assert_eq!(pair.ended(), Some(EndReason::NoAck));
        let bye = pair.one();
        assert!(bye.is_request("BYE"), "{}", bye.text);
        assert_eq!(pair.srs.session_count(), 0);
    }
}

#[test]
fn our_bye_is_repeated_over_udp_until_it_is_answered() {
    let mut pair = Pair::udp();
    pair.establish();
    let key = pair.key();
    pair.srs.hang_up(pair.now, key);
    pair.drain();
    assert_eq!(pair.ended(), Some(EndReason::HungUp));
    pair.advance(Duration::from_millis(1600));
    let byes = pair.all();
    assert_eq!(byes.len(), 3);
    assert!(byes.iter().all(|bye| bye.is_request("BYE")));
    let ok = byes[0].text.replacen("BYE sip:src@192.0.2.1:5060 SIP/2.0", "SIP/2.0 200 OK", 1);
    assert!(ok.starts_with("SIP/2.0 200 OK"), "sent to the Contact: {}", byes[0].text);
    pair.send(ok);
    pair.advance(Duration::from_secs(60));
    assert!(pair.all().is_empty());
    assert_eq!(pair.srs.poll_timeout(), None, "nothing is kept");
}

#[test]
fn a_lost_ack_of_a_re_invite_does_not_stop_the_next_one() {
    let mut pair = Pair::udp();
    pair.establish();
    for direction in ["inactive", "sendonly"] {
        let invite = pair.invite("", &two_streams(direction));
        assert_eq!(pair.status_of(&invite), 200);
    }
    pair.ack("", "");
    pair.call.cseq -= 1;
    pair.ack("", "");
    pair.all();
    pair.advance(Duration::from_secs(40));
    assert!(pair.all().is_empty(), "both are acknowledged");
    assert_eq!(pair.ended(), None);
}

#[test]
fn an_ack_is_for_the_answer_with_its_number_and_no_other() {
    let mut pair = Pair::udp();
    pair.establish();
    let first = pair.invite("", &two_streams("inactive"));
    assert_eq!(pair.status_of(&first), 200);
    let second = pair.invite("", &two_streams("sendonly"));
    assert_eq!(pair.status_of(&second), 200);
    pair.ack("", "");
    pair.advance(Duration::from_millis(500));
    assert_eq!(pair.one().header("cseq"), "3 INVITE", "the first is still repeated");
}

#[test]
fn an_ack_of_another_dialog_acknowledges_nothing() {
    let mut pair = Pair::udp();
    let invite = pair.siprec_invite();
    pair.send(invite);
    pair.all();
    pair.call.to_tag = Some("somebody-else".to_owned());
    pair.ack("", "");
    pair.advance(Duration::from_millis(500));
    assert_eq!(pair.one().status(), 200);
}
