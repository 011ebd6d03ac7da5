//! INVITEs that a strict recorder would refuse, and those that even we must.

mod pair;

use std::time::Duration;

use pair::{METADATA, Pair, count, m_lines, two_streams};
use siprec::{Event, Oddity, Recognition, SrsConfig, Transport};

fn oddities(pair: &Pair) -> Vec<Oddity> {
    let found = pair.events.iter().find_map(|event| match event {
        Event::Offered { invite, .. } => Some(invite.oddities.iter().copied().collect()),
        _ => None,
    });
    found.expect("an offer")
}

#[test]
fn labels_metadata_and_require_may_be_missing() {
    let mut pair = Pair::udp();
    let sdp =
        two_streams("sendonly").replace("a=label:0\r\n", "").replace("a=label:16777227\r\n", "");
    let contact = pair.contact();
    let invite = pair.invite("", &sdp).replace(&contact, "Contact: <sip:src@192.0.2.1>;src\r\n");
    pair.send(invite);
    let ok = pair.one();
    assert_eq!(ok.status(), 200);
    assert_eq!(count(&ok.body(), "a=recvonly"), 2);
    assert!(!ok.body().contains("a=label"));
    assert_eq!(oddities(&pair), [Oddity::NoSiprecTag, Oddity::NoLabel, Oddity::NoMetadata]);
}

#[test]
fn the_src_parameter_counts_wherever_it_stands() {
    for contact in [
        "<sip:src@192.0.2.1>;+sip.src",
        "<sip:src@192.0.2.1>;src",
        "\"Recorder; client\" <sip:src@192.0.2.1>;expires=60;+SIP.SRC",
        "<sip:src@192.0.2.1;transport=tcp;+sip.src>",
    ] {
        let mut pair = Pair::udp();
        let written = pair.contact();
        let invite = pair.siprec_invite().replace(&written, &format!("Contact: {contact}\r\n"));
        pair.send(invite);
        assert_eq!(pair.one().status(), 200);
        assert_eq!(oddities(&pair), [], "{contact}");
    }
}

#[test]
fn a_strict_policy_refuses_what_is_not_siprec() {
    let strict = SrsConfig { recognition: Recognition::Strict, ..SrsConfig::default() };
    let mut pair = Pair::new(Transport::Udp, strict);
    let plain = pair.invite("", &two_streams("sendonly"));
    pair.send(plain);
    let refusal = pair.one();
    assert_eq!((refusal.status(), refusal.header("require").as_str()), (421, "siprec"));
    let siprec = pair.siprec_invite();
    assert_eq!(pair.status_of(&siprec), 200);
}

#[test]
fn without_an_offer_we_make_one_and_the_answer_comes_with_the_ack() {
    for mut pair in [Pair::udp(), Pair::tcp()] {
        let headers = "Contact: <sip:cucm@192.0.2.1>;isFocus\r\n";
        let invite = pair.request("INVITE", headers, "");
        pair.send(invite);
        let ok = pair.one();
        assert_eq!(m_lines(&ok.body()), ["m=audio 20000 RTP/AVP 0 8 9 18 101"]);
        assert_eq!(count(&ok.body(), "a=recvonly"), 1);
        assert_eq!(oddities(&pair), [Oddity::NoSiprecTag, Oddity::NoMetadata, Oddity::NoOffer]);
        assert!(pair.streams().is_empty(), "nothing is agreed yet");

        pair.call.to_tag = Some(ok.to_tag());
        let invite_meanwhile = pair.invite("", &two_streams("sendonly"));
        assert_eq!(pair.status_of(&invite_meanwhile), 491);
        pair.call.cseq -= 1;
        let answer = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 9\r\na=sendonly\r\n";
        pair.ack("Content-Type: application/sdp\r\n", answer);
        let streams = pair.streams();
        assert_eq!(streams.len(), 1);
        assert_eq!(streams[0].formats[0].encoding, "G722");
        assert_eq!(streams[0].remote, Some("192.0.2.1:4000".parse().expect("an address")));
        assert_eq!(streams[0].local, Some("192.0.2.50:20000".parse().expect("an address")));
    }
}

#[test]
fn an_answer_that_never_comes_does_not_stop_the_recording() {
    let mut pair = Pair::udp();
    let invite = pair.request("INVITE", "", "");
    pair.send(invite);
    pair.call.to_tag = Some(pair.one().to_tag());
    pair.ack("", "");
    let streams = pair.streams();
    assert_eq!((streams.len(), streams[0].remote, streams[0].removed), (1, None, false));
    assert_eq!(streams[0].formats.len(), 5);
}

#[test]
fn a_re_invite_without_an_offer_is_offered_what_we_have() {
    let mut pair = Pair::udp();
    let first = pair.establish();
    let hold = pair.invite("", &two_streams("inactive"));
    assert_eq!(pair.status_of(&hold), 200);
    pair.ack("", "");
    let contact = pair.contact();
    let bare = pair.request("INVITE", &contact, "");
    pair.send(bare);
    let ok = pair.one();
    assert_eq!(m_lines(&ok.body()), m_lines(&first.body()));
    assert_eq!(count(&ok.body(), "a=recvonly"), 2, "it is for the SRC to hold");
    pair.ack("Content-Type: application/sdp\r\n", &two_streams("sendonly"));
    assert!(pair.streams().iter().all(|stream| !stream.removed));
    pair.advance(Duration::from_secs(40));
    assert_eq!(pair.ended(), None);
}

#[test]
fn what_cannot_be_recorded_is_refused_stream_by_stream_and_never_with_6xx() {
    let audio = "m=audio 4000 RTP/AVP 0\r\n";
    // The mode of encryption is one that we do not have.
    let secure = "m=audio 4002 RTP/SAVP 0\r\n\
                  a=crypto:1 F8_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw\r\n";
    let dtls = "m=audio 4002 UDP/TLS/RTP/SAVP 0\r\na=fingerprint:sha-256 00\r\n";
    let fax = "m=image 4004 udptl t38\r\n";
    let head = "v=0\r\nc=IN IP4 192.0.2.1\r\n";
    for (media, status, warning) in [
        (format!("{audio}{secure}{fax}"), 200, ""),
        (secure.to_owned(), 488, "399"),
        (dtls.to_owned(), 488, "302"),
        (fax.to_owned(), 488, "304"),
        (format!("{secure}{fax}"), 488, "399"),
        ("m=audio 4000 RTP/AVP\r\n".to_owned(), 488, "305"),
    ] {
        let mut pair = Pair::udp();
        let invite = pair.invite("", &format!("{head}{media}"));
        pair.send(invite);
        let answer = pair.one();
        assert_eq!(answer.status(), status, "{media}");
        assert!(answer.header("warning").starts_with(warning), "{}", answer.text);
        assert!(!answer.text.contains("MTIzNDU2"), "no key of the SRC is repeated");
        if status == 200 {
            let sdp = answer.body();
            let lines = m_lines(&sdp);
            assert_eq!(lines[1..], ["m=audio 0 RTP/SAVP 0", "m=image 0 udptl t38"]);
        } else {
            assert_eq!(pair.event_names(), ["offered", "ended"]);
        }
    }
}

#[test]
fn a_session_may_start_with_nothing_to_record() {
    let mut pair = Pair::udp();
    for sdp in ["v=0\r\ns=persistent\r\n", "v=0\r\nm=audio 0 RTP/AVP 0\r\n"] {
        pair.call.call_id.push('x');
        let invite = pair.invite("", sdp);
        assert_eq!(pair.status_of(&invite), 200, "{sdp}");
    }
}

#[test]
fn a_re_offer_that_cannot_be_recorded_leaves_the_session_as_it_was() {
    let mut pair = Pair::udp();
    pair.establish();
    let before = pair.streams();
    let secure = two_streams("sendonly").replace("RTP/AVP", "RTP/SAVP");
    let invite = pair.invite("", &secure);
    assert_eq!(pair.status_of(&invite), 488);
    assert_eq!(pair.streams(), before);
    assert_eq!(pair.ended(), None);
}

#[test]
fn what_we_do_not_understand_is_named() {
    let mut pair = Pair::udp();
    let sdp = two_streams("sendonly");
    let invite = pair.invite("Require: siprec, teleport, 100rel\r\n", &sdp);
    pair.send(invite);
    let refusal = pair.one();
    assert_eq!((refusal.status(), refusal.header("unsupported").as_str()), (420, "teleport"));

    let invite = pair.invite("Content-Encoding: gzip\r\n", &sdp);
    pair.send(invite);
    let refusal = pair.one();
    assert_eq!(refusal.status(), 415);
    assert_eq!(refusal.header("accept-encoding"), "identity");

    let invite = pair.request("INVITE", "Content-Type: application/isup\r\n", "x");
    pair.send(invite);
    let refusal = pair.one();
    assert_eq!(refusal.status(), 415);
    assert!(refusal.header("accept").contains("application/sdp"));

    let invite = pair.invite("", "this is no description");
    assert_eq!(pair.status_of(&invite), 488);
    assert!(pair.events.is_empty());
}

#[test]
fn metadata_without_an_offer_is_a_call_to_be_offered() {
    let mut pair = Pair::udp();
    let headers = "Content-Type: application/rs-metadata+xml\r\n";
    let invite = pair.request("INVITE", headers, METADATA);
    assert_eq!(pair.status_of(&invite), 200);
    assert_eq!(oddities(&pair), [Oddity::NoSiprecTag, Oddity::NoOffer]);
}

#[test]
fn calls_beyond_the_limit_go_to_another_recorder() {
    let one = SrsConfig { max_sessions: 1, ..SrsConfig::default() };
    let mut pair = Pair::new(Transport::Udp, one);
    pair.establish();
    pair.call.call_id = "call-2".to_owned();
    pair.call.to_tag = None;
    let invite = pair.siprec_invite();
    pair.send(invite);
    let full = pair.one();
    assert_eq!(full.status(), 503);
    assert_ne!(full.header("retry-after"), "");
}
