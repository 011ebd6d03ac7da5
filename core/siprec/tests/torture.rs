//! The test messages of RFC 4475 and RFC 5118.

mod pair;

use std::path::Path;
use std::time::Duration;

use pair::{Pair, SRC};
use siprec::sip::message::{Message, StartLine};
use siprec::sip::request::Request;
use siprec::{Accepting, Event};

fn read(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    #[expect(clippy::disallowed_methods, reason = "a test may read its data")]
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// RFC 4475 §3.1.1.
const VALID: [&str; 13] = [
    "wsinv",
    "intmeth",
    "esc01",
    "escnull",
    "esc02",
    "lwsdisp",
    "longreq",
    "dblreq",
    "semiuri",
    "transports",
    "mpart01",
    "unreason",
    "noreason",
];

#[test]
fn every_valid_message_of_rfc_4475_is_read() {
    for name in VALID {
        let message = Message::from_datagram(&read(&format!("rfc4475/{name}.dat")))
            .unwrap_or_else(|| panic!("{name} is a message"));
        assert_eq!(message.body_problem, None, "{name}");
        if let StartLine::Request { .. } = message.start {
            Request::read(message).unwrap_or_else(|why| panic!("{name}: {why:?}"));
        }
    }
}

#[test]
fn the_tortuous_invite_says_what_it_means() {
    let message = Message::from_datagram(&read("rfc4475/wsinv.dat")).expect("a message");
    let request = Request::read(message).expect("usable");
    assert_eq!(request.cseq, 9);
    assert_eq!(request.to_tag(), Some("1918181833n"));
    assert_eq!(request.from_tag(), Some("98asjd8"));
    assert_eq!(request.via.sent_by(), "192.0.2.2:5060");
    assert_eq!(request.via.branch(), Some("390skdjuw"));
    assert_eq!(request.message.list("via").len(), 3);
    assert_eq!(request.message.text("subject").as_deref(), Some(""));
    assert_eq!(
        request.message.text("newfangledheader").as_deref(),
        Some("newfangled value continued newfangled value")
    );
    assert_eq!(request.message.body.len(), 150);
}

/// What a recorder answers to each: `None` is silence. The invalid ones of §3.1.2 get the
/// answer that the RFC names, or are taken for what they obviously mean where it allows that.
const ANSWERS: [(&str, Option<u16>); 50] = [
    // Valid, but of a dialog or method that a recorder does not know.
    ("wsinv", Some(481)),
    ("intmeth", Some(501)),
    ("esc01", Some(200)),
    ("escnull", Some(405)),
    ("esc02", Some(501)),
    ("lwsdisp", Some(200)),
    ("longreq", Some(200)),
    ("dblreq", Some(405)),
    ("semiuri", Some(200)),
    ("transports", Some(200)),
    ("mpart01", Some(405)),
    ("unreason", None),
    ("noreason", None),
    // Invalid.
    ("badinv01", Some(200)),
    ("clerr", Some(400)),
    ("ncl", Some(400)),
    ("scalar02", Some(400)),
    ("scalarlg", None),
    ("quotbal", Some(400)),
    ("ltgtruri", Some(400)),
    ("lwsruri", Some(400)),
    ("lwsstart", Some(200)),
    ("trws", Some(200)),
    ("escruri", Some(200)),
    ("baddate", Some(200)),
    ("regbadct", Some(405)),
    ("badaspec", Some(200)),
    ("baddn", Some(200)),
    ("badvers", Some(505)),
    ("mismatch01", Some(400)),
    ("mismatch02", Some(501)),
    ("bigcode", None),
    // Transactions and application.
    ("badbranch", Some(200)),
    ("insuf", None),
    ("unkscm", Some(416)),
    ("novelsc", Some(416)),
    ("unksm2", Some(405)),
    ("bext01", Some(420)),
    ("invut", Some(415)),
    ("regaut01", Some(405)),
    ("multi01", Some(400)),
    ("mcl01", Some(400)),
    ("bcast", None),
    ("zeromf", Some(200)),
    ("cparam01", Some(405)),
    ("cparam02", Some(405)),
    ("regescrt", Some(405)),
    ("sdp01", Some(200)),
    ("inv2543", Some(200)),
    ("test", None),
];

#[test]
fn every_message_of_rfc_4475_gets_the_answer_it_deserves() {
    let mut wrong = Vec::new();
    for (name, expected) in ANSWERS {
        let mut pair = Pair::udp();
        pair.send(read(&format!("rfc4475/{name}.dat")));
        let answers: Vec<_> = pair.all().iter().map(|answer| answer.status()).collect();
        let expected: Vec<_> = expected.into_iter().collect();
        if answers != expected {
            wrong.push(format!("{name}: {answers:?}, not {expected:?}"));
        }
        pair.advance(Duration::from_secs(40));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_message_of_rfc_4475_leaves_a_stream_usable() {
    for (name, _) in ANSWERS {
        let mut pair = Pair::tcp();
        pair.send(read(&format!("rfc4475/{name}.dat")));
        pair.advance(Duration::from_secs(33));
        pair.all();
        if pair.closed.is_empty() {
            let options = pair.request("OPTIONS", "", "");
            pair.send(format!("\r\n{options}"));
            let ok = pair
                .all()
                .iter()
                .any(|m| m.text.starts_with("SIP/2.0 200") && m.header("call-id") == "call-1");
            assert!(ok, "{name}");
        }
    }
}

#[test]
fn every_message_of_rfc_5118_is_read_and_answered() {
    for (name, expected) in [
        ("ipv6-good", 405),
        ("ipv6-bad", 405),
        ("port-ambiguous", 405),
        ("port-unambiguous", 405),
        ("via-received-param-with-delim", 481),
        ("via-received-param-no-delim", 200),
        ("ipv6-in-sdp", 200),
        ("mult-ip-in-header", 481),
        ("mult-ip-in-sdp", 200),
        ("ipv4-mapped-ipv6", 200),
        ("ipv6-bug-abnf-3-colons", 200),
        ("ipv6-correct-abnf-2-colons", 200),
    ] {
        let mut pair = Pair::udp();
        pair.peer = "[2001:db8::9:1]:5060".parse().expect("an address");
        pair.send(read(&format!("rfc5118/{name}.dat")));
        assert_eq!(pair.one().status(), expected, "{name}");
    }
}

#[test]
fn the_audio_of_an_ipv6_offer_is_recorded() {
    let mut pair = Pair::udp();
    pair.send(read("rfc5118/ipv6-in-sdp.dat"));
    let streams = pair.streams();
    assert_eq!(streams[0].remote, Some("[2001:db8::20]:6000".parse().expect("an address")));
    assert_eq!((streams[0].media.as_str(), streams[1].media.as_str()), ("audio", "video"));
    assert_eq!(streams[1].remote, Some("[2001:db8::20]:6024".parse().expect("an address")));
    assert!(streams.iter().all(|stream| !stream.removed));
}

/// Every message with bytes cut off, doubled and changed, as datagram and as stream.
#[test]
fn no_mutilated_message_panics_or_is_sent_elsewhere() {
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut roll = |sides: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        usize::try_from(dice % sides as u64).expect("below sides")
    };
    for (name, _) in ANSWERS {
        let whole = read(&format!("rfc4475/{name}.dat"));
        for _ in 0..200 {
            let mut bytes = whole.clone();
            for _ in 0..=roll(4) {
                let at = roll(bytes.len());
                match roll(4) {
                    0 => bytes.truncate(at.max(1)),
                    1 => bytes[at] = u8::try_from(roll(256)).expect("a byte"),
                    2 => bytes.extend_from_within(at..),
                    _ => bytes.insert(at, b"\r\n:;,\"<>@ \0\xff="[roll(13)]),
                }
            }
            let mut pair = if roll(2) == 0 { Pair::udp() } else { Pair::tcp() };
            assert_eq!(pair.peer, SRC.parse().expect("an address"));
            pair.send(&bytes);
            pair.advance(Duration::from_secs(70));
        }
    }
}

#[test]
fn the_names_of_people_are_not_printed() {
    let mut pair = Pair::udp();
    pair.srs.set_accepting(Accepting::Yes);
    pair.send(read("rfc4475/lwsdisp.dat"));
    let invite = pair.siprec_invite().replace("<sip:src@", "\"Alice\" <sip:alice@");
    pair.send(invite);
    let Some(Event::Offered { invite, .. }) = pair.events.first() else { panic!("no offer") };
    assert!(invite.from_uri.contains("alice"));
    assert!(!format!("{invite:?}").to_lowercase().contains("alice"));
}
