//! Requests that come twice, in the wrong order, or by two ways.

mod pair;

use std::time::Duration;

use pair::{Pair, two_streams};
use siprec::{Accepting, Event, Refusal};

#[test]
fn a_retransmitted_invite_gets_the_same_answer_and_makes_no_second_call() {
    let mut pair = Pair::udp();
    let invite = pair.siprec_invite();
    pair.send(&invite);
    pair.send(&invite);
    let answers = pair.all();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0].text, answers[1].text);
    assert_eq!(pair.srs.session_count(), 1);
    let offers = pair.events.iter().filter(|event| matches!(event, Event::Offered { .. })).count();
    assert_eq!(offers, 1);
}

#[test]
fn a_merged_invite_is_a_loop() {
    let mut pair = Pair::udp();
    let invite = pair.siprec_invite();
    assert_eq!(pair.status_of(&invite), 200);
    let other_way = invite.replace("branch=z9hG4bK-", "branch=z9hG4bK-other-");
    assert_eq!(pair.status_of(&other_way), 482);
    assert_eq!(pair.srs.session_count(), 1);
}

#[test]
fn every_retransmission_within_a_dialog_is_answered_the_same_and_done_once() {
    let mut pair = Pair::udp();
    pair.establish();
    for method in ["INFO", "OPTIONS", "UPDATE", "MESSAGE", "PRACK", "BYE"] {
        let request = pair.request(method, "", "");
        pair.send(&request);
        let first = pair.one();
        pair.events.clear();
        pair.send(&request);
        let second = pair.one();
        assert_eq!(first.status(), 200, "{method}");
        assert_eq!(first.text, second.text, "{method}");
        assert_eq!(pair.event_names(), [""; 0], "{method}");
    }
}

#[test]
fn a_request_with_an_old_number_is_out_of_order() {
    let mut pair = Pair::udp();
    pair.establish();
    let info = pair.request("INFO", "", "");
    assert_eq!(pair.status_of(&info), 200);
    pair.call.cseq -= 2;
    let late = pair.request("INFO", "", "");
    assert_eq!(pair.status_of(&late), 500);
}

#[test]
fn an_invite_while_one_waits_for_the_shell_must_come_again_later() {
    let mut pair = Pair::udp();
    pair.establish();
    pair.answers = false;
    let first = pair.invite("", &two_streams("inactive"));
    pair.send(&first);
    for method in ["INVITE", "UPDATE"] {
        let headers = "Content-Type: application/sdp\r\n";
        let second = pair.request(method, headers, &two_streams("sendonly"));
        pair.send(&second);
        let busy = pair.one();
        assert_eq!(busy.status(), 500, "{method}");
        let retry_after: u32 = busy.header("retry-after").parse().expect("seconds");
        assert!(retry_after <= 10);
    }
    pair.advance(Duration::from_millis(200));
    assert_eq!(pair.one().status(), 100);
    let key = pair.key();
    pair.srs.refuse(pair.now, key, Refusal::NotAcceptable);
    pair.drain();
    assert_eq!(pair.one().status(), 488);
    assert_eq!(pair.ended(), None, "the session goes on as before");
}

#[test]
fn a_refusal_is_repeated_over_udp_until_it_is_acknowledged() {
    let mut pair = Pair::udp();
    pair.answers = false;
    let invite = pair.siprec_invite();
    pair.send(&invite);
    let Some(Event::Offered { key, .. }) = pair.events.first() else { panic!("no offer") };
    pair.srs.refuse(pair.now, *key, Refusal::Busy { retry_after_secs: 7 });
    pair.drain();
    pair.advance(Duration::from_millis(1600));
    let refusals = pair.all();
    assert_eq!(refusals.len(), 3);
    assert!(refusals.iter().all(|refusal| refusal.status() == 503));
    assert_eq!(refusals[0].header("retry-after"), "7");
    pair.call.to_tag = Some(refusals[0].to_tag());
    let ack = pair.request_again("ACK", "", "");
    pair.send(ack);
    pair.advance(Duration::from_secs(60));
    assert!(pair.all().is_empty());
    assert_eq!(pair.srs.poll_timeout(), None, "nothing is kept");
}

#[test]
fn an_answer_that_keeps_nothing_is_the_same_every_time() {
    let mut pair = Pair::udp();
    pair.srs.set_accepting(Accepting::No { retry_after_secs: 30 });
    let invite = pair.siprec_invite();
    pair.send(&invite);
    pair.send(&invite);
    let answers = pair.all();
    assert_eq!((answers[0].status(), answers.len()), (503, 2));
    assert_eq!(answers[0].text, answers[1].text);
    assert_eq!(pair.srs.poll_timeout(), None);
}

#[test]
fn nothing_is_kept_of_a_call_that_is_over() {
    let mut pair = Pair::udp();
    pair.establish();
    let bye = pair.request("BYE", "", "");
    assert_eq!(pair.status_of(&bye), 200);
    pair.advance(Duration::from_secs(33));
    assert_eq!(pair.srs.poll_timeout(), None);
    assert_eq!(pair.status_of(&bye), 481);
}

/// The SRC repeats what is not answered; the network loses a third of everything.
#[test]
fn a_call_survives_a_network_that_loses_a_third_of_all_messages() {
    for seed in 1..=200_u64 {
        let mut dice = seed;
        let mut lost = move || {
            // xorshift: as random as a test needs.
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % 3 == 0
        };
        let mut pair = Pair::udp();
        // Each way has a copy of the dice.
        let mut lost_towards_src = lost;
        pair.lose = Box::new(move |_| lost_towards_src());
        let mut exchange = |pair: &mut Pair, request: String| {
            for wait_ms in [500, 1000, 2000, 4000, 4000, 4000, 4000, 4000, 4000] {
                if !lost() {
                    pair.send(&request);
                }
                pair.advance(Duration::from_millis(wait_ms));
                if let Some(answer) = pair.all().into_iter().find(|a| a.status() >= 200) {
                    return Some(answer);
                }
            }
            None
        };
        let invite = pair.siprec_invite();
        let Some(ok) = exchange(&mut pair, invite) else { continue };
        assert_eq!(ok.status(), 200, "seed {seed}");
        pair.call.to_tag = Some(ok.to_tag());
        pair.ack("", "");
        let hold = pair.invite("", &two_streams("inactive"));
        if let Some(held) = exchange(&mut pair, hold) {
            assert_eq!(held.status(), 200, "seed {seed}");
            pair.ack("", "");
        }
        let bye = pair.request("BYE", "", "");
        if let Some(gone) = exchange(&mut pair, bye) {
            assert_eq!(gone.status(), 200, "seed {seed}");
        }
        pair.lose = Box::new(|_| false);
        pair.advance(Duration::from_secs(4000));
        assert_eq!(pair.srs.session_count(), 0, "seed {seed}");
        assert_eq!(pair.srs.poll_timeout(), None, "seed {seed}: something is kept");
    }
}
