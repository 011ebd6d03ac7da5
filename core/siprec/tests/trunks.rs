//! Who may record here, and who may touch a call: addresses, certificates, passwords, limits.

mod pair;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use pair::{Pair, Received};
use sha2::{Digest as _, Sha256};
use siprec::sip::digest::{Account, NONCE_LIFETIME};
use siprec::trunk::{Network, Proof, Trunk, Trunks};
use siprec::{ConnId, Event, Input, Recognition, SrsConfig, Transport};

const STRANGER: &str = "203.0.113.66:5060";

fn trunk(name: &str, source: &str) -> Trunk {
    let sources = match source {
        "" => Vec::new(),
        address => vec![Network { address: address.parse().unwrap(), prefix_bits: 32 }],
    };
    Trunk {
        name: name.to_owned(),
        sources,
        tls_names: Vec::new(),
        account: None,
        recognition: Recognition::AnyInvite,
        max_sessions: None,
        reserved_sessions: 0,
        max_new_per_sec: None,
    }
}

fn with_password(name: &str) -> Trunk {
    let account = Some(Account::with_password(name, "linekeeper", "correct horse"));
    Trunk { account, ..trunk(name, "") }
}

fn pair(transport: Transport, trunks: Vec<Trunk>) -> Pair {
    Pair::new(transport, SrsConfig { trunks: Trunks::new(trunks), ..SrsConfig::default() })
}

fn from_src(transport: Transport) -> Pair {
    pair(transport, vec![trunk("sbc", "192.0.2.1"), trunk("other", "198.51.100.7")])
}

/// Goes on from another address.
fn move_to(pair: &mut Pair, address: &str) {
    pair.peer = address.parse::<SocketAddr>().unwrap();
    pair.connect();
}

fn try_call(pair: &mut Pair) -> Received {
    pair.call.call_id += "x";
    pair.call.to_tag = None;
    let invite = pair.siprec_invite();
    pair.send(invite);
    let answer = pair.one();
    if answer.status() == 200 {
        pair.call.to_tag = Some(answer.to_tag());
        pair.ack("", "");
    }
    answer
}

#[test]
fn a_strangers_datagram_gets_no_answer_whatever_it_is() {
    let mut pair = from_src(Transport::Udp);
    move_to(&mut pair, STRANGER);
    for method in ["INVITE", "OPTIONS", "REGISTER", "BYE", "ACK", "HACK"] {
        let request = pair.request(method, "", "");
        pair.send(request);
    }
    pair.send("garbage");
    pair.send("OPTIONS sip:x SIP/7.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\r\n");
    pair.advance(Duration::from_secs(60));
    assert_eq!(pair.all().len(), 0);
    assert_eq!(pair.event_names(), [""; 0]);
    assert_eq!(pair.srs.take_counts().silenced, 8);
    assert_eq!(pair.srs.take_counts().silenced, 0, "told once");
}

#[test]
fn a_stranger_on_a_connection_is_forbidden_and_only_so_often() {
    let mut pair = from_src(Transport::Tcp);
    move_to(&mut pair, STRANGER);
    assert_eq!(try_call(&mut pair).status(), 403);
    let options = pair.request("OPTIONS", "", "");
    assert_eq!(pair.status_of(&options), 403);
    for _ in 0..200 {
        let invite = pair.siprec_invite();
        pair.send(invite);
    }
    assert_eq!(pair.all().len(), 48, "a burst of fifty");
    assert_eq!(pair.closed.len(), 1, "then the connection is closed");
    assert_eq!(pair.event_names(), [""; 0]);
    assert_eq!(pair.srs.take_counts().forbidden, 50);
}

#[test]
fn strangers_may_be_recorded_where_the_operator_wants_it() {
    let trunks = Trunks::new(vec![trunk("sbc", "192.0.2.1")]);
    let config = SrsConfig { trunks, admit_strangers: true, ..SrsConfig::default() };
    let mut pair = Pair::new(Transport::Udp, config);
    pair.establish();
    move_to(&mut pair, STRANGER);
    let bye = pair.request("BYE", "", "");
    pair.send(bye);
    assert_eq!(pair.ended(), None, "but the calls of a trunk are not theirs");
    assert_eq!(try_call(&mut pair).status(), 200);
    let trunks: Vec<_> = pair.events.iter().filter_map(offered_by).collect();
    assert_eq!(trunks, [Some("sbc".to_owned()), None]);
}

fn offered_by(event: &Event) -> Option<Option<String>> {
    match event {
        Event::Offered { invite, .. } => Some(invite.trunk.clone()),
        _ => None,
    }
}

#[test]
fn a_call_can_be_touched_by_its_own_trunk_only() {
    for transport in [Transport::Udp, Transport::Tcp] {
        for stranger in ["198.51.100.7:5060", STRANGER] {
            let mut pair = from_src(transport);
            pair.establish();
            pair.event_names();
            let own = pair.peer;
            move_to(&mut pair, stranger);
            // All of them with the right tags, numbers and branches.
            let reinvite = pair.invite("", &pair::two_streams("inactive"));
            for request in [
                reinvite,
                pair.request("BYE", "", ""),
                pair.request(
                    "UPDATE",
                    "Content-Type: application/rs-metadata+xml\r\n",
                    pair::METADATA,
                ),
                pair.request("INFO", "", ""),
                pair.request("CANCEL", "", ""),
                pair.request("ACK", "", ""),
            ] {
                pair.send(request);
            }
            assert_eq!(pair.event_names(), [""; 0], "{stranger}");
            for answer in pair.all() {
                assert!([403, 481].contains(&answer.status()), "{}", answer.text);
            }
            pair.peer = own;
            pair.connect();
            let bye = pair.request("BYE", "", "");
            assert_eq!(pair.status_of(&bye), 200);
            let counts = pair.srs.take_counts();
            // ACK is answered by nobody, nor counted.
            assert!(counts.foreign + counts.silenced + counts.forbidden >= 4, "{counts:?}");
        }
    }
}

#[test]
fn a_stranger_cannot_cancel_an_invite_that_waits() {
    let mut pair = from_src(Transport::Udp);
    pair.answers = false;
    let invite = pair.siprec_invite();
    pair.send(invite);
    let own = pair.peer;
    move_to(&mut pair, "198.51.100.7:5060");
    let cancel = pair.request_again("CANCEL", "", "").replace("198.51.100.7", "192.0.2.1");
    pair.send(&cancel);
    assert_eq!(pair.ended(), None);
    pair.peer = own;
    pair.send(&cancel);
    assert_eq!(pair.ended(), Some(siprec::EndReason::Cancelled));
}

#[test]
fn the_shell_learns_which_trunk_calls_and_how_it_proved_that() {
    let cases = [
        (Transport::Udp, trunk("sbc", "192.0.2.1"), Proof::Datagram),
        (Transport::Tcp, trunk("sbc", "192.0.2.1"), Proof::Connection),
    ];
    for (transport, trunk, expected) in cases {
        let mut pair = pair(transport, vec![trunk]);
        pair.establish();
        let proof = pair.events.iter().find_map(|event| match event {
            Event::Offered { invite, .. } => Some((invite.trunk.clone(), invite.proof)),
            _ => None,
        });
        assert_eq!(proof, Some((Some("sbc".to_owned()), expected)));
        assert_eq!(pair.srs.sessions_of(Some("sbc")), 1);
    }
}

#[test]
fn a_certificate_identifies_a_trunk_wherever_it_comes_from() {
    let tls = Trunk { tls_names: vec!["*.sbc.example.com".to_owned()], ..trunk("sbc", "") };
    let mut pair = pair(Transport::Tls, vec![tls]);
    assert_eq!(try_call(&mut pair).status(), 403, "no certificate");
    pair.connect();
    let show = |pair: &mut Pair, conn, name: &str| {
        let names = [name.to_owned()];
        pair.srs.handle_input(pair.now, Input::Certificate { conn: ConnId(conn), names: &names });
    };
    show(&mut pair, 2, "sbc.example.com");
    assert_eq!(try_call(&mut pair).status(), 403, "another name");
    pair.connect();
    show(&mut pair, 3, "one.sbc.example.com");
    assert_eq!(try_call(&mut pair).status(), 200);
    pair.connect();
    let bye = pair.request("BYE", "", "");
    assert_eq!(pair.status_of(&bye), 403, "a connection without the certificate");
    pair.connect();
    show(&mut pair, 5, "two.sbc.example.com");
    let bye = pair.request("BYE", "", "");
    assert_eq!(pair.status_of(&bye), 200, "another one with it");
}

/// The `Authorization` that answers a challenge, made without the code under test.
fn authorization(
    challenge: &Received,
    method: &str,
    user: &str,
    password: &str,
    nc: u32,
) -> String {
    let value = challenge.header("www-authenticate");
    let nonce = value.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let hash = |text: String| -> String {
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let secret = hash(format!("{user}:linekeeper:{password}"));
    let request = hash(format!("{method}:sip:srs"));
    let response = hash(format!("{secret}:{nonce}:{nc:08x}:cn:auth:{request}"));
    format!(
        "Authorization: Digest username=\"{user}\", realm=\"linekeeper\", nonce=\"{nonce}\", \
         uri=\"sip:srs\", response=\"{response}\", algorithm=SHA-256, qop=auth, cnonce=\"cn\", \
         nc={nc:08x}\r\n"
    )
}

fn invite_with(pair: &mut Pair, authorization: &str) -> Received {
    let sdp = pair::two_streams("sendonly");
    let invite = pair.invite(authorization, &sdp);
    pair.send(invite);
    pair.one()
}

#[test]
fn a_password_is_asked_for_and_each_answer_is_good_once() {
    let mut pair = pair(Transport::Udp, vec![with_password("src")]);
    let challenge = invite_with(&mut pair, "");
    assert_eq!(challenge.status(), 401);
    assert!(challenge.header("www-authenticate").contains("algorithm=SHA-256"));
    assert_eq!(challenge.text.matches("WWW-Authenticate").count(), 2, "{}", challenge.text);
    assert_eq!(pair.srs.session_count(), 0);

    let wrong = authorization(&challenge, "INVITE", "src", "guessed", 1);
    let again = invite_with(&mut pair, &wrong);
    assert_eq!(again.status(), 401);
    assert!(!again.text.contains("stale"), "{}", again.text);
    let nobody = authorization(&challenge, "INVITE", "nobody", "correct horse", 1);
    assert_eq!(invite_with(&mut pair, &nobody).status(), 401);
    assert_eq!(pair.srs.take_counts().wrong_passwords, 2);

    let right = authorization(&challenge, "INVITE", "src", "correct horse", 1);
    let ok = invite_with(&mut pair, &right);
    assert_eq!(ok.status(), 200);
    pair.call.to_tag = Some(ok.to_tag());
    pair.ack("", "");

    let replayed = authorization(&challenge, "BYE", "src", "correct horse", 1);
    let bye = pair.request("BYE", &replayed, "");
    pair.send(bye);
    let stale = pair.one();
    assert_eq!(stale.status(), 401);
    assert!(stale.header("www-authenticate").contains("stale=true"), "{}", stale.text);
    assert_eq!(pair.ended(), None);

    let next = authorization(&challenge, "BYE", "src", "correct horse", 2);
    let bye = pair.request("BYE", &next, "");
    assert_eq!(pair.status_of(&bye), 200);
}

#[test]
fn a_nonce_expires() {
    let mut pair = pair(Transport::Udp, vec![with_password("src")]);
    let challenge = invite_with(&mut pair, "");
    pair.advance(NONCE_LIFETIME);
    let late = authorization(&challenge, "INVITE", "src", "correct horse", 1);
    let stale = invite_with(&mut pair, &late);
    assert_eq!(stale.status(), 401);
    let fresh = authorization(&stale, "INVITE", "src", "correct horse", 1);
    assert_eq!(invite_with(&mut pair, &fresh).status(), 200);
}

#[test]
fn a_connection_that_proved_the_password_needs_not_prove_it_again() {
    let mut pair = pair(Transport::Tcp, vec![with_password("src")]);
    let challenge = invite_with(&mut pair, "");
    let right = authorization(&challenge, "INVITE", "src", "correct horse", 1);
    let ok = invite_with(&mut pair, &right);
    assert_eq!(ok.status(), 200);
    pair.call.to_tag = Some(ok.to_tag());
    pair.ack("", "");
    let update = pair.request("UPDATE", "", "");
    assert_eq!(pair.status_of(&update), 200);
    pair.connect();
    let bye = pair.request("BYE", "", "");
    assert_eq!(pair.status_of(&bye), 401, "another connection does");
    assert_eq!(pair.ended(), None);
}

#[test]
fn an_ack_and_a_cancel_are_never_challenged() {
    let mut pair = pair(Transport::Udp, vec![with_password("src")]);
    let challenge = invite_with(&mut pair, "");
    pair.answers = false;
    let right = authorization(&challenge, "INVITE", "src", "correct horse", 1);
    let invite = pair.invite(&right, &pair::two_streams("sendonly"));
    pair.send(invite);
    let cancel = pair.request_again("CANCEL", "", "");
    pair.send(cancel);
    let statuses: Vec<_> = pair.all().iter().map(Received::status).collect();
    assert_eq!(statuses, [200, 487]);
    let ack = pair.request_again("ACK", "", "");
    pair.send(ack);
    pair.advance(Duration::from_secs(60));
    assert_eq!(pair.all().len(), 0, "the ACK was heard");
}

#[test]
fn each_trunk_has_its_own_idea_of_what_siprec_is() {
    let strict = Trunk { recognition: Recognition::Strict, ..trunk("strict", "192.0.2.1") };
    let any = trunk("any", "198.51.100.7");
    let mut pair = pair(Transport::Udp, vec![strict, any]);
    assert_eq!(invite_with(&mut pair, "").status(), 421);
    assert_eq!(try_call(&mut pair).status(), 200);
    move_to(&mut pair, "198.51.100.7:5060");
    pair.call.call_id += "y";
    pair.call.to_tag = None;
    assert_eq!(invite_with(&mut pair, "").status(), 200);
}

#[test]
fn a_trunk_has_so_many_calls_and_so_many_a_second() {
    let limited = Trunk {
        max_sessions: NonZeroU32::new(3),
        max_new_per_sec: NonZeroU32::new(1),
        ..trunk("sbc", "192.0.2.1")
    };
    let mut pair = pair(Transport::Udp, vec![limited]);
    assert_eq!(try_call(&mut pair).status(), 200);
    assert_eq!(try_call(&mut pair).status(), 200);
    let refused = try_call(&mut pair);
    assert_eq!((refused.status(), refused.header("retry-after").as_str()), (503, "1"));
    pair.advance(Duration::from_secs(1));
    assert_eq!(try_call(&mut pair).status(), 200);
    pair.advance(Duration::from_secs(5));
    assert_eq!(try_call(&mut pair).status(), 503, "three at a time");
    assert_eq!(pair.srs.take_counts().over_limit, 2);
    // OPTIONS is no call.
    let options = pair.request("OPTIONS", "", "");
    assert_eq!(pair.status_of(&options), 200);
}

#[test]
fn what_is_reserved_for_a_trunk_is_left_free_for_it() {
    let important = Trunk { reserved_sessions: 2, ..trunk("dispatch", "198.51.100.7") };
    let trunks = Trunks::new(vec![trunk("sbc", "192.0.2.1"), important]);
    let config = SrsConfig { trunks, max_sessions: 3, ..SrsConfig::default() };
    let mut pair = Pair::new(Transport::Udp, config);
    assert_eq!(try_call(&mut pair).status(), 200);
    assert_eq!(try_call(&mut pair).status(), 503, "two are kept free");
    move_to(&mut pair, "198.51.100.7:5060");
    assert_eq!(try_call(&mut pair).status(), 200);
    assert_eq!(try_call(&mut pair).status(), 200);
    assert_eq!(try_call(&mut pair).status(), 503, "all are taken");
}

#[test]
fn when_a_trunk_is_taken_away_its_calls_go_on_from_where_they_were() {
    let mut pair = from_src(Transport::Udp);
    pair.establish();
    pair.srs.set_trunks(Trunks::new(vec![trunk("other", "198.51.100.7")]));
    let own = pair.peer;
    move_to(&mut pair, "198.51.100.7:5060");
    let bye = pair.request("BYE", "", "");
    pair.send(bye);
    assert_eq!(pair.ended(), None);
    pair.peer = own;
    pair.inbox.clear();
    let update = pair.request("UPDATE", "", "");
    assert_eq!(pair.status_of(&update), 200);
    let bye = pair.request("BYE", "", "");
    assert_eq!(pair.status_of(&bye), 200);
    pair.call.call_id += "new";
    pair.call.to_tag = None;
    let invite = pair.siprec_invite();
    pair.send(invite);
    assert_eq!(pair.all().len(), 0, "but it makes no new ones");
}

#[test]
fn a_connection_on_which_nothing_is_said_is_closed() {
    let mut pair = from_src(Transport::Tcp);
    pair.advance(Duration::from_secs(33));
    assert_eq!(pair.closed.len(), 1);
    pair.connect();
    let options = pair.request("OPTIONS", "", "");
    assert_eq!(pair.status_of(&options), 200);
    pair.advance(Duration::from_secs(3600));
    assert_eq!(pair.closed.len(), 1, "one that is used stays");
}
