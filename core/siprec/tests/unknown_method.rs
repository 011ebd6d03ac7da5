//! Requests that are not part of a recorded call: probes, the unknown, the unwelcome.

mod pair;

use std::time::Duration;

use pair::Pair;
use siprec::{Accepting, EndReason, Event};

#[test]
fn options_tell_whether_calls_are_welcome() {
    for mut pair in [Pair::udp(), Pair::tcp()] {
        let options = pair.request("OPTIONS", "", "");
        pair.send(&options);
        let ok = pair.one();
        assert_eq!(ok.status(), 200);
        for accepted in ["application/sdp", "application/rs-metadata+xml", "multipart/mixed"] {
            assert!(ok.header("accept").contains(accepted));
        }
        assert!(ok.header("allow").contains("UPDATE"));
        assert_eq!(ok.header("supported"), "timer, siprec");

        pair.srs.set_accepting(Accepting::No { retry_after_secs: 30 });
        let options = pair.request("OPTIONS", "", "");
        pair.send(&options);
        let full = pair.one();
        assert_eq!((full.status(), full.header("retry-after").as_str()), (503, "30"));
        pair.srs.set_accepting(Accepting::Yes);
        assert_eq!(pair.status_of(&options), 200);
    }
}

#[test]
fn while_draining_calls_in_progress_go_on() {
    let mut pair = Pair::udp();
    pair.establish();
    pair.srs.set_accepting(Accepting::No { retry_after_secs: 30 });
    for method in ["OPTIONS", "UPDATE", "INFO"] {
        let request = pair.request(method, "", "");
        assert_eq!(pair.status_of(&request), 200, "{method}");
    }
    let mine = pair.call.clone();
    pair.call.call_id = "call-2".to_owned();
    pair.call.to_tag = None;
    let invite = pair.siprec_invite();
    assert_eq!(pair.status_of(&invite), 503);
    pair.call = mine;
    let bye = pair.request("BYE", "", "");
    assert_eq!(pair.status_of(&bye), 200);
}

#[test]
fn an_unknown_method_is_answered_and_the_connection_lives() {
    let mut pair = Pair::tcp();
    for method in ["FROBNICATE", "invite"] {
        let request = pair.request(method, "", "");
        pair.send(&request);
        let answer = pair.one();
        assert_eq!(answer.status(), 501, "{method}");
        assert!(answer.header("allow").contains("INVITE"));
    }
    pair.establish();
    let request = pair.request("FROBNICATE", "", "");
    assert_eq!(pair.status_of(&request), 501);
    assert!(pair.closed.is_empty());
    assert_eq!(pair.ended(), None);
}

#[test]
fn what_a_recorder_does_not_do_is_refused_with_what_it_does() {
    let mut pair = Pair::udp();
    for method in ["REGISTER", "SUBSCRIBE", "PUBLISH", "NOTIFY", "REFER", "MESSAGE"] {
        let request = pair.request(method, "", "");
        pair.send(&request);
        let answer = pair.one();
        assert_eq!(answer.status(), 405, "{method}");
        assert!(answer.header("allow").contains("INVITE"));
    }
    pair.establish();
    for method in ["NOTIFY", "REFER"] {
        let request = pair.request(method, "", "");
        assert_eq!(pair.status_of(&request), 405, "{method}");
    }
}

#[test]
fn a_dialog_that_nobody_knows_does_not_exist() {
    let mut pair = Pair::udp();
    for method in ["BYE", "INFO", "UPDATE", "PRACK"] {
        let request = pair.request(method, "", "");
        assert_eq!(pair.status_of(&request), 481, "{method} without a tag");
    }
    pair.call.to_tag = Some("gone".to_owned());
    for method in ["BYE", "INFO", "UPDATE", "PRACK", "INVITE", "OPTIONS", "MESSAGE", "REFER"] {
        let request = pair.request(method, "", "");
        assert_eq!(pair.status_of(&request), 481, "{method}");
    }
    pair.ack("", "");
    assert!(pair.all().is_empty(), "an ACK is never answered");
}

#[test]
fn a_dialog_belongs_to_the_tags_of_both_sides() {
    let mut pair = Pair::udp();
    pair.establish();
    let bye = pair.request("BYE", "", "").replace(";tag=src", ";tag=somebody-else");
    assert_eq!(pair.status_of(&bye), 481);
    assert_eq!(pair.ended(), None);
}

#[test]
fn an_info_reaches_the_shell() {
    let mut pair = Pair::udp();
    pair.establish();
    let info = pair.request("INFO", "Content-Type: application/dtmf-relay\r\n", "Signal=5\r\n");
    assert_eq!(pair.status_of(&info), 200);
    let Some(Event::Info { content_type, body, .. }) = pair.events.last() else {
        panic!("{:?}", pair.event_names());
    };
    assert_eq!(content_type, "application/dtmf-relay");
    assert_eq!(body, b"Signal=5\r\n");
}

#[test]
fn a_probe_ends_a_call_that_the_src_does_not_know() {
    for (answer, ended) in [("481 Gone", Some(EndReason::Gone)), ("405 No", None), ("200 OK", None)]
    {
        let mut pair = Pair::udp();
        pair.establish();
        let key = pair.key();
        pair.srs.probe(pair.now, key);
        pair.drain();
        let probe = pair.one();
        assert!(probe.is_request("OPTIONS"), "{}", probe.text);
        let line_end = probe.text.find("\r\n").expect("a line");
        pair.send(format!("SIP/2.0 {answer}{}", &probe.text[line_end..]));
        pair.advance(Duration::from_secs(33));
        assert_eq!(pair.ended(), ended, "{answer:?}");
    }
}

#[test]
fn a_probe_that_nobody_answers_is_reported_and_ends_no_call_by_itself() {
    for timed_out_at_a_proxy in [false, true] {
        let mut pair = Pair::udp();
        pair.establish();
        let key = pair.key();
        assert!(pair.srs.probe(pair.now, key));
        pair.drain();
        let probe = pair.one();
        if timed_out_at_a_proxy {
            let line_end = probe.text.find("\r\n").expect("a line");
            pair.send(format!("SIP/2.0 408 Request Timeout{}", &probe.text[line_end..]));
        }
        pair.advance(Duration::from_secs(33));
        let unanswered = |event: &&Event| matches!(event, Event::ProbeUnanswered { .. });
        assert_eq!(pair.events.iter().filter(unanswered).count(), 1);
        assert_eq!(pair.ended(), None);
        pair.all();
        pair.srs.give_up(pair.now, key);
        pair.drain();
        assert_eq!(pair.ended(), Some(EndReason::Gone));
        let bye = pair.one();
        assert!(bye.is_request("BYE"), "{}", bye.text);
    }
}

#[test]
fn responses_go_where_the_request_asks_for_and_to_no_third_party() {
    let mut pair = Pair::udp();
    let options = pair.request("OPTIONS", "", "").replace(
        "SIP/2.0/UDP 192.0.2.1:5060;",
        "SIP/2.0/UDP 10.9.9.9:7000;rport;maddr=203.0.113.1;",
    );
    pair.send(options);
    let via = pair.one().header("via");
    assert!(via.ends_with(";received=192.0.2.1;rport=5060"), "{via}");
}
