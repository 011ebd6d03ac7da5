//! A call from INVITE to BYE, with a hold in between (RFC 7866 §7.2).

mod pair;

use std::time::Duration;

use pair::{METADATA, Pair, count, m_lines, multipart, two_streams};
use siprec::{Direction, EndReason, Event, Oddity, Transport};

#[test]
fn a_siprec_invite_is_answered_so_that_audio_comes() {
    for mut pair in [Pair::udp(), Pair::tcp(), Pair::new(Transport::Tls, Default::default())] {
        let ok = pair.establish();
        let sdp = ok.body();
        assert_eq!(
            m_lines(&sdp),
            ["m=audio 20000 RTP/AVP 0 101", "m=audio 20002 RTP/AVP 8 101"],
            "same lines in the same order, telephone-event included"
        );
        assert_eq!(count(&sdp, "a=recvonly"), 2);
        assert_eq!(count(&sdp, "a=label:0"), 1);
        assert_eq!(count(&sdp, "a=label:16777227"), 1);
        assert!(ok.header("contact").contains(";+sip.srs"), "{}", ok.text);
        assert_eq!(ok.header("supported"), "timer, siprec");
        assert_eq!(
            pair.event_names(),
            ["offered", "media", "changed", "metadata", "established", "changed"]
        );
    }
}

#[test]
fn the_shell_learns_who_calls_and_what_is_odd() {
    let mut pair = Pair::udp();
    let invite = pair.invite("X-Call: 7\r\nUser-Agent: SBC\r\n", "v=0\r\nm=audio 1 RTP/AVP 0\r\n");
    pair.send(invite);
    let Some(Event::Offered { invite, .. }) = pair.events.first() else { panic!("no offer") };
    assert_eq!(invite.call_id, "call-1");
    assert_eq!(invite.from_uri, "sip:src@192.0.2.1:5060");
    assert_eq!(invite.user_agent.as_deref(), Some("SBC"));
    assert_eq!(invite.headers, [("X-Call".to_owned(), "7".to_owned())]);
    let odd: Vec<_> = invite.oddities.iter().copied().collect();
    assert_eq!(odd, [Oddity::NoSiprecTag, Oddity::NoLabel, Oddity::NoMetadata]);
}

#[test]
fn a_hold_is_mirrored_although_the_version_of_the_offer_does_not_change() {
    let mut pair = Pair::udp();
    let first = pair.establish();
    assert_eq!(pair.directions(), [Direction::SendOnly; 2]);

    let hold = two_streams("sendonly").replacen("a=sendonly", "a=inactive", 1);
    let held = pair.invite("", &hold);
    pair.send(held);
    let ok = pair.one();
    assert_eq!(m_lines(&ok.body()), m_lines(&first.body()), "the ports stay");
    assert_eq!(count(&ok.body(), "a=inactive"), 1);
    assert_eq!(count(&ok.body(), "a=recvonly"), 1);
    assert!(ok.header("contact").contains(";+sip.srs"));
    assert_eq!(pair.directions(), [Direction::Inactive, Direction::SendOnly]);
    pair.ack("", "");

    let resume = pair.invite("", &two_streams("sendonly"));
    pair.send(resume);
    assert_eq!(count(&pair.one().body(), "a=recvonly"), 2);
    assert_eq!(pair.directions(), [Direction::SendOnly; 2]);
    pair.ack("", "");

    let bye = pair.request("BYE", "", "");
    assert_eq!(pair.status_of(&bye), 200);
    assert_eq!(pair.ended(), Some(EndReason::Bye));
    assert_eq!(pair.srs.session_count(), 0);
}

#[test]
fn our_own_version_grows_with_every_answer_that_differs_and_with_no_other() {
    let mut pair = Pair::udp();
    let origin = |sdp: String| sdp.lines().find(|line| line.starts_with("o=")).map(str::to_owned);
    let first = origin(pair.establish().body());
    let mut answer = |direction: &str| {
        let invite = pair.invite("", &two_streams(direction));
        pair.send(invite);
        let answer = origin(pair.one().body());
        pair.ack("", "");
        answer
    };
    assert_eq!(answer("sendonly"), first);
    let held = answer("inactive");
    assert_ne!(held, first);
    assert_eq!(answer("inactive"), held);
}

#[test]
fn a_hold_by_null_address_is_a_hold() {
    let mut pair = Pair::udp();
    pair.establish();
    let held = two_streams("sendonly").replace("c=IN IP4 192.0.2.1", "c=IN IP4 0.0.0.0");
    let invite = pair.invite("", &held);
    assert_eq!(pair.status_of(&invite), 200);
    assert_eq!(pair.directions(), [Direction::Inactive; 2]);
    assert!(pair.streams().iter().all(|stream| stream.remote.is_none()));
}

#[test]
fn a_second_stream_may_join_and_the_first_leave() {
    let mut pair = Pair::udp();
    let both = two_streams("sendonly");
    let second = both.rfind("m=audio").expect("a second stream");
    let one = &both[..second];
    let invite = pair.invite("", one);
    pair.send(invite);
    pair.call.to_tag = Some(pair.one().to_tag());
    pair.ack("", "");

    let join = pair.invite("", &both);
    pair.send(join);
    let ports = ["m=audio 20000 RTP/AVP 0 101", "m=audio 20002 RTP/AVP 8 101"];
    assert_eq!(m_lines(&pair.one().body()), ports);
    pair.ack("", "");

    let leave = pair.invite("", &both.replace("m=audio 12240", "m=audio 0"));
    pair.send(leave);
    assert_eq!(m_lines(&pair.one().body())[0], "m=audio 0 RTP/AVP 0 101");
    let removed: Vec<_> = pair.streams().iter().map(|stream| stream.removed).collect();
    assert_eq!(removed, [true, false]);
}

#[test]
fn a_codec_may_change_and_its_source_move_while_our_ports_stay() {
    let mut pair = Pair::udp();
    pair.establish();
    let changed = two_streams("sendonly")
        .replace("12240 RTP/AVP 0 101", "40000 RTP/AVP 96 101")
        .replace("a=label:0", "a=rtpmap:96 opus/48000/2\r\na=label:0")
        .replace("c=IN IP4 192.0.2.1", "c=IN IP4 192.0.2.9");
    let invite = pair.invite("", &changed);
    pair.send(invite);
    let answer = pair.one().body();
    let ports = ["m=audio 20000 RTP/AVP 96 101", "m=audio 20002 RTP/AVP 8 101"];
    assert_eq!(m_lines(&answer), ports);
    assert_eq!(count(&answer, "a=label:0"), 1);
    let streams = pair.streams();
    assert_eq!((streams[0].formats[0].encoding.as_str(), streams[0].removed), ("opus", false));
    assert_eq!(streams[0].remote, Some("192.0.2.9:40000".parse().expect("an address")));
    assert_eq!(streams[1].remote, Some("192.0.2.9:22456".parse().expect("an address")));
}

/// Two SBCs, or one that is told to use two recorders that turn out to be one.
#[test]
fn one_call_that_comes_twice_is_recorded_twice_and_ends_twice() {
    let mut pair = Pair::udp();
    pair.establish();
    let first = pair.call.clone();
    pair.call.call_id = "call-2".to_owned();
    pair.call.to_tag = None;
    pair.establish();
    assert_eq!(pair.srs.session_count(), 2);
    let bye = pair.request("BYE", "", "");
    assert_eq!(pair.status_of(&bye), 200);
    assert_eq!(pair.srs.session_count(), 1);
    pair.call = first;
    let bye = pair.request("BYE", "", "");
    assert_eq!(pair.status_of(&bye), 200);
    assert_eq!(pair.srs.session_count(), 0);
}

#[test]
fn metadata_comes_with_update_info_and_bye() {
    let mut pair = Pair::tcp();
    pair.establish();
    pair.event_names();
    let headers = "Content-Type: application/rs-metadata+xml\r\n\
                   Content-Disposition: recording-session\r\n";
    for (method, expected) in [
        ("UPDATE", vec!["changed", "metadata"]),
        ("INFO", vec!["changed", "metadata"]),
        ("BYE", vec!["metadata", "ended"]),
    ] {
        let request = pair.request(method, headers, METADATA);
        pair.send(request);
        let ok = pair.one();
        assert_eq!((ok.status(), ok.body().as_str()), (200, ""), "{method}");
        assert_eq!(pair.event_names(), expected, "{method}");
    }
}

#[test]
fn an_update_may_carry_an_offer_and_is_answered_with_the_ports_we_have() {
    let mut pair = Pair::udp();
    let first = pair.establish();
    let body = multipart(&two_streams("inactive"), METADATA);
    let update = pair.request("UPDATE", "Content-Type: multipart/mixed;boundary=b\r\n", &body);
    pair.send(update);
    let ok = pair.one();
    assert_eq!(m_lines(&ok.body()), m_lines(&first.body()));
    assert!(ok.header("contact").contains(";+sip.srs"));
    pair.advance(Duration::from_secs(60));
    assert!(pair.all().is_empty(), "a 200 to an UPDATE is not repeated");
}

#[test]
fn metadata_that_cannot_be_read_is_kept_and_costs_nothing() {
    let mut pair = Pair::udp();
    let headers = "Content-Type: multipart/mixed;boundary=b\r\n";
    let invite = pair.request("INVITE", headers, &multipart(&two_streams("sendonly"), "<broken"));
    pair.send(invite);
    assert_eq!(pair.one().status(), 200);
    let Some(Event::Offered { invite, .. }) = pair.events.first() else { panic!("no offer") };
    assert!(invite.oddities.contains(&Oddity::MetadataError));
    let kept = pair.events.iter().any(|event| {
        matches!(event, Event::Metadata { document, view: Err(_), .. }
            if document.trim_ascii_end() == b"<broken")
    });
    assert!(kept, "{:?}", pair.event_names());
}
