//! The SRC cancels its INVITE (RFC 3261 §9), before or after we have answered it.

mod pair;

use std::time::Duration;

use pair::{Pair, two_streams};
use siprec::EndReason;

#[test]
fn a_cancel_before_the_answer_ends_the_call() {
    for mut pair in [Pair::udp(), Pair::tcp()] {
        pair.answers = false;
        let invite = pair.siprec_invite();
        pair.send(&invite);
        let cancel = pair.request_again("CANCEL", "", "");
        pair.send(&cancel);
        let answers = pair.all();
        assert_eq!(answers.iter().map(|a| a.status()).collect::<Vec<_>>(), [200, 487]);
        assert_eq!(answers[0].header("cseq"), "2 CANCEL");
        assert_eq!(answers[1].header("cseq"), "2 INVITE");
        assert_eq!(answers[0].to_tag(), answers[1].to_tag());
        assert_eq!(pair.ended(), Some(EndReason::Cancelled));
        let ack = pair.request_again("ACK", "", "");
        pair.send(ack);
        pair.advance(Duration::from_secs(40));
        assert!(pair.all().is_empty());
        assert_eq!(pair.srs.poll_timeout(), None);
    }
}

#[test]
fn a_cancel_after_the_answer_changes_nothing() {
    let mut pair = Pair::udp();
    let invite = pair.siprec_invite();
    pair.send(&invite);
    let ok = pair.one();
    let cancel = pair.request_again("CANCEL", "", "");
    assert_eq!(pair.status_of(&cancel), 200);
    assert_eq!(pair.ended(), None);
    pair.call.to_tag = Some(ok.to_tag());
    pair.ack("", "");
    let bye = pair.request("BYE", "", "");
    assert_eq!(pair.status_of(&bye), 200);
    assert_eq!(pair.ended(), Some(EndReason::Bye));
}

#[test]
fn a_cancel_of_nothing_is_told_so() {
    let mut pair = Pair::udp();
    let cancel = pair.request("CANCEL", "", "");
    assert_eq!(pair.status_of(&cancel), 481);
}

#[test]
fn a_cancelled_re_invite_leaves_the_session_as_it_was() {
    let mut pair = Pair::udp();
    pair.establish();
    let before = pair.streams();
    pair.answers = false;
    let invite = pair.invite("", &two_streams("inactive"));
    pair.send(&invite);
    let cancel = pair.request_again("CANCEL", "", "");
    pair.send(&cancel);
    let statuses: Vec<_> = pair.all().iter().map(|answer| answer.status()).collect();
    assert_eq!(statuses, [200, 487]);
    assert_eq!(pair.ended(), None);
    assert_eq!(pair.streams(), before);
}

#[test]
fn a_bye_ends_a_re_invite_that_waits() {
    let mut pair = Pair::udp();
    pair.establish();
    pair.answers = false;
    let invite = pair.invite("", &two_streams("inactive"));
    pair.send(&invite);
    let bye = pair.request("BYE", "", "");
    pair.send(&bye);
    let statuses: Vec<_> = pair.all().iter().map(|answer| answer.status()).collect();
    assert_eq!(statuses, [487, 200]);
    assert_eq!(pair.ended(), Some(EndReason::Bye));
}
