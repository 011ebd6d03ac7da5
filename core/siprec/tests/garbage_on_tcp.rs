//! Nonsense on the network: it costs at most the message it is in.

mod pair;

use std::time::Duration;

use pair::{Pair, two_streams};
use siprec::{ConnId, Transport};

#[test]
fn a_call_goes_through_byte_by_byte() {
    let mut pair = Pair::tcp();
    let invite = pair.siprec_invite();
    for byte in invite.as_bytes() {
        pair.send([*byte]);
    }
    assert_eq!(pair.one().status(), 200);
}

#[test]
fn garbage_between_messages_disturbs_neither_them_nor_other_dialogs() {
    let mut pair = Pair::tcp();
    pair.establish();
    let first = pair.request("INFO", "", "");
    let second = pair.request("OPTIONS", "", "");
    pair.send(format!("{first}\0\u{7f}%%% nonsense\r\nmore: nonsense\r\n\r\n\r\n{second}"));
    let statuses: Vec<_> = pair.all().iter().map(|answer| answer.status()).collect();
    assert_eq!(statuses, [200, 200]);
    assert!(pair.closed.is_empty());
    assert_eq!(pair.ended(), None);
}

#[test]
fn a_bad_message_is_answered_400_and_the_next_is_read() {
    let mut pair = Pair::tcp();
    pair.establish();
    for length in ["-1", "1x", "3\r\nContent-Length: 4", "99999999999999999999999999"] {
        let bad = pair
            .request("INFO", "Content-Type: application/sdp\r\n", "v=0\r\n")
            .replace("Content-Length: 5", &format!("Content-Length: {length}"));
        let good = pair.request("INFO", "", "");
        pair.send(format!("{bad}{good}"));
        let statuses: Vec<_> = pair.all().iter().map(|answer| answer.status()).collect();
        assert_eq!(statuses, [400, 200], "{length}");
    }
}

#[test]
fn pipelined_messages_are_all_answered() {
    let mut pair = Pair::tcp();
    pair.establish();
    let requests: String = (0..50).map(|_| pair.request("INFO", "", "")).collect();
    pair.send(requests);
    assert_eq!(pair.all().len(), 50);
}

#[test]
fn a_ping_is_answered_on_streams_and_ignored_over_udp() {
    let mut tcp = Pair::tcp();
    tcp.send("\r\n\r\n");
    assert_eq!(tcp.raw_out, b"\r\n");
    let mut udp = Pair::udp();
    udp.send("\r\n\r\n");
    assert_eq!(udp.raw_out, b"");
}

#[test]
fn a_body_that_is_too_large_is_answered_513_and_skipped() {
    let mut pair = Pair::tcp();
    let large = "x".repeat(300_000);
    let request = pair.request("MESSAGE", "Content-Type: text/plain\r\n", &large);
    pair.send(request);
    assert_eq!(pair.one().status(), 513);
    let options = pair.request("OPTIONS", "", "");
    assert_eq!(pair.status_of(&options), 200);
}

#[test]
fn an_invite_of_60_kilobytes_is_no_trouble() {
    for mut pair in [Pair::udp(), Pair::tcp()] {
        let padding = format!("X-Padding: {}\r\n", "y".repeat(30_000));
        let sdp = format!("{}{}", two_streams("sendonly"), "a=x-padding:y\r\n".repeat(2000));
        let invite = pair.invite(&padding, &sdp);
        assert_eq!(pair.status_of(&invite), 200);
    }
}

#[test]
fn a_message_that_never_ends_is_given_up_and_what_hid_in_it_is_read() {
    let mut pair = Pair::tcp();
    pair.establish();
    let swallowing = pair
        .request("INFO", "Content-Type: text/plain\r\n", "hello\r\n")
        .replace("Content-Length: 7", "Content-Length: 70000");
    let next = pair.request("OPTIONS", "", "");
    pair.send(format!("{swallowing}{next}"));
    assert!(pair.all().is_empty());
    pair.advance(Duration::from_secs(32));
    let statuses: Vec<_> = pair.all().iter().map(|answer| answer.status()).collect();
    assert_eq!(statuses, [400, 200]);
    assert!(pair.closed.is_empty());
}

#[test]
fn a_head_that_trickles_in_for_ever_costs_the_connection_and_not_the_call() {
    let mut pair = Pair::tcp();
    pair.establish();
    for _ in 0..40 {
        pair.send("X");
        pair.advance(Duration::from_secs(1));
    }
    assert_eq!(pair.closed, [ConnId(1)]);
    assert_eq!(pair.ended(), None);
    pair.connect();
    let bye = pair.request("BYE", "", "");
    assert_eq!(pair.status_of(&bye), 200);
}

#[test]
fn what_cannot_be_answered_is_ignored() {
    let mut pair = Pair::udp();
    for text in
        ["", "\0", "hello", "INVITE", "INVITE sip:x SIP/2.0\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n"]
    {
        pair.send(text);
    }
    assert!(pair.all().is_empty());
    assert!(pair.events.is_empty());
}

#[test]
fn everything_may_be_ipv6() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let mut pair = Pair::new(transport, Default::default());
        pair.local = "[2001:db8::50]:5060".parse().expect("an address");
        pair.peer = "[2001:db8::1]:5070".parse().expect("an address");
        pair.connect();
        let ok = pair.establish();
        assert!(ok.header("contact").contains("@[2001:db8::50]:5060"), "{}", ok.text);
        assert!(ok.body().contains("c=IN IP6 2001:db8::50"), "{}", ok.body());
        let bye = pair.request("BYE", "", "");
        assert_eq!(pair.status_of(&bye), 200);
    }
}
