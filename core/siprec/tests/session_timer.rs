//! Session timers (RFC 4028): an SRC that is gone without a BYE.

mod pair;

use std::time::Duration;

use pair::{Pair, two_streams};
use siprec::EndReason;

const TIMER: &str = "Supported: timer\r\nAllow: INVITE, UPDATE\r\n";

fn establish(pair: &mut Pair, headers: &str) -> pair::Received {
    let invite = pair.invite(headers, &two_streams("sendonly"));
    pair.send(invite);
    let ok = pair.one();
    pair.call.to_tag = Some(ok.to_tag());
    pair.ack("", "");
    ok
}

#[test]
fn a_session_that_is_not_refreshed_ends_a_little_early() {
    let mut pair = Pair::udp();
    let ok = establish(&mut pair, &format!("{TIMER}Session-Expires: 1800\r\n"));
    assert_eq!(ok.header("session-expires"), "1800;refresher=uac");
    assert_eq!(ok.header("require"), "timer");
    pair.advance(Duration::from_secs(1767));
    assert_eq!(pair.ended(), None);
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.ended(), Some(EndReason::Timeout));
    assert!(pair.one().is_request("BYE"));
}

#[test]
fn a_re_invite_and_an_update_refresh_the_session() {
    let mut pair = Pair::tcp();
    establish(&mut pair, &format!("{TIMER}Session-Expires: 1800\r\n"));
    let headers = format!("{TIMER}Session-Expires: 1800;refresher=uac\r\n");
    for round in 0..6 {
        pair.advance(Duration::from_secs(900));
        if round % 2 == 0 {
            let ok = establish(&mut pair, &headers);
            assert_eq!(ok.header("session-expires"), "1800;refresher=uac");
        } else {
            let update = pair.request("UPDATE", &headers, "");
            assert_eq!(pair.status_of(&update), 200);
        }
    }
    assert_eq!(pair.ended(), None);
    pair.advance(Duration::from_secs(1768));
    assert_eq!(pair.ended(), Some(EndReason::Timeout));
}

#[test]
fn a_short_interval_is_refused_with_the_shortest_we_take() {
    let mut pair = Pair::udp();
    let invite =
        pair.invite("Supported: timer\r\nSession-Expires: 60\r\n", &two_streams("sendonly"));
    pair.send(invite);
    let refusal = pair.one();
    assert_eq!((refusal.status(), refusal.header("min-se").as_str()), (422, "90"));
    assert!(pair.events.is_empty());
}

#[test]
fn an_src_without_timers_is_recorded_without_one() {
    let mut pair = Pair::udp();
    let ok = establish(&mut pair, "");
    assert_eq!(ok.header("session-expires"), "");
    pair.advance(Duration::from_secs(24 * 3600));
    assert_eq!(pair.ended(), None);
}

#[test]
fn where_the_src_wants_us_to_refresh_we_do() {
    let mut pair = Pair::udp();
    let ok = establish(&mut pair, &format!("{TIMER}Session-Expires: 600;refresher=uas\r\n"));
    assert_eq!(ok.header("session-expires"), "600;refresher=uas");
    for _ in 0..5 {
        pair.advance(Duration::from_secs(300));
        let update = pair.one();
        assert!(update.is_request("UPDATE"), "{}", update.text);
        assert_eq!(update.header("session-expires"), "600;refresher=uac");
        let line_end = update.text.find("\r\n").expect("a line");
        pair.send(format!("SIP/2.0 200 OK{}", &update.text[line_end..]));
    }
    assert_eq!(pair.ended(), None);
    pair.advance(Duration::from_secs(300 + 32));
    assert_eq!(pair.ended(), Some(EndReason::Timeout), "nobody answers any more");
}
