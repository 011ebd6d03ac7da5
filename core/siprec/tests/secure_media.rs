//! Encrypted streams by SDP (RFC 4568): what is taken, how it is answered, and how keys change.

mod pair;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pair::{Pair, m_lines};
use siprec::rtp::srtp::{Receiver, Sender, Suite};
use siprec::sdp::Crypto;
use siprec::{NegotiatedStream, SrtpKeys};

fn key(suite: Suite, seed: u8) -> String {
    STANDARD.encode(vec![seed; suite.key_and_salt_bytes()])
}

fn offer(profile: &str, lines: &[String]) -> String {
    let media = |port: u16, label: &str| {
        let lines: String = lines.iter().map(|line| format!("a=crypto:{line}\r\n")).collect();
        format!("m=audio {port} {profile} 0\r\n{lines}a=sendonly\r\na=label:{label}\r\n")
    };
    format!("v=0\r\nc=IN IP4 192.0.2.1\r\n{}{}", media(4000, "1"), media(4002, "2"))
}

fn cm80(tag: u32, seed: u8) -> String {
    let suite = Suite::AesCm128Sha1Tag80;
    format!("{tag} {} inline:{}", suite.name(), key(suite, seed))
}

fn crypto_lines(sdp: &str) -> Vec<Crypto> {
    let lines = sdp.lines().filter_map(|line| line.strip_prefix("a=crypto:"));
    lines.map(|line| Crypto::parse(line).expect("a line that can be read")).collect()
}

fn keys(stream: &NegotiatedStream) -> &SrtpKeys {
    stream.srtp.as_ref().expect("an encrypted stream")
}

/// Sends an INVITE, acknowledges the answer, and returns the answer's SDP.
fn agree(pair: &mut Pair, sdp: &str) -> String {
    let invite = pair.invite("", sdp);
    pair.send(invite);
    let ok = pair.one();
    assert_eq!(ok.status(), 200, "{}", ok.text);
    pair.call.to_tag = Some(ok.to_tag());
    pair.ack("", "");
    ok.body()
}

#[test]
fn every_suite_is_answered_with_its_tag_and_a_key_of_our_own_by_which_reports_are_read() {
    for profile in ["RTP/SAVP", "RTP/SAVPF"] {
        for suite in Suite::ALL {
            let mut pair = Pair::udp();
            let line = format!("3 {} inline:{}|2^31|1:4", suite.name(), key(suite, 1));
            let answer = agree(&mut pair, &offer(profile, std::slice::from_ref(&line)));
            assert_eq!(m_lines(&answer)[0], format!("m=audio 20000 {profile} 0"));
            let answered = crypto_lines(&answer);
            let streams = pair.streams();
            assert_eq!((answered.len(), streams.len()), (2, 2));
            assert_ne!(answered[0].keys, answered[1].keys, "each stream has a key of its own");
            for (answered, stream) in answered.iter().zip(&streams) {
                assert_eq!((answered.tag, answered.suite.as_str()), (3, suite.name()));
                assert_eq!(answered.keys[0].lifetime_packets, None);
                assert_eq!(keys(stream).theirs, Crypto::parse(&line).expect("a line"));
                assert_eq!(&keys(stream).ours, answered);
                let (_, ours) = keys(stream).keying().expect("usable keys");
                let mut report = siprec::rtp::rtcp::receiver_report(1, &[], "x");
                let plain = report.clone();
                Sender::new(&ours).seal_rtcp(&mut report).expect("a report");
                let theirs = Receiver::new(&answered.keying().expect("keys")).open_rtcp(&report);
                assert_eq!(theirs, Ok(plain));
            }
        }
    }
}

#[test]
fn of_several_keys_the_first_that_we_can_use_is_answered() {
    let mut pair = Pair::udp();
    let f8 = format!("1 F8_128_HMAC_SHA1_80 inline:{}", key(Suite::AesCm128Sha1Tag80, 1));
    let cut = format!("2 AES_CM_128_HMAC_SHA1_80 inline:{}", STANDARD.encode([1; 20]));
    let unknown = format!("{} TELEPORT", cm80(3, 1));
    let unauthenticated = format!("{} UNAUTHENTICATED_SRTP", cm80(4, 1));
    let lines = [f8, cut, unknown, unauthenticated, cm80(5, 2), cm80(6, 3)];
    let answer = agree(&mut pair, &offer("RTP/SAVP", &lines));
    assert!(crypto_lines(&answer).iter().all(|line| line.tag == 5));
    assert!(pair.streams().iter().all(|stream| keys(stream).theirs.tag == 5));
}

#[test]
fn a_key_that_changes_in_mid_call_is_taken_and_ours_stays() {
    let mut pair = Pair::udp();
    let first = agree(&mut pair, &offer("RTP/SAVP", &[cm80(1, 1)]));
    let same = agree(&mut pair, &offer("RTP/SAVP", &[cm80(1, 1)]));
    assert_eq!(same, first, "nothing changed, nothing changes");
    let second = agree(&mut pair, &offer("RTP/SAVP", &[cm80(2, 9)]));
    let (before, after) = (crypto_lines(&first), crypto_lines(&second));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.tag, after.tag), (1, 2));
        assert_eq!(before.keys, after.keys);
    }
    assert_eq!(keys(&pair.streams()[0]).theirs.keys[0].key_and_salt, vec![9; 30]);
    let gcm = Suite::AeadAes128Gcm;
    let line = format!("1 {} inline:{}", gcm.name(), key(gcm, 4));
    let third = crypto_lines(&agree(&mut pair, &offer("RTP/SAVP", &[line])));
    assert_eq!(third[0].keys[0].key_and_salt.len(), gcm.key_and_salt_bytes());
}

#[test]
fn an_encrypted_stream_beside_one_that_cannot_be_used_is_taken_alone() {
    let mut pair = Pair::udp();
    let sdp = offer("RTP/SAVP", &[cm80(1, 1)]);
    let (first, second) = sdp.split_at(sdp.rfind("m=audio").expect("two m-lines"));
    let without_key = second.replace(&format!("a=crypto:{}\r\n", cm80(1, 1)), "");
    let answer = agree(&mut pair, &format!("{first}{without_key}"));
    assert_eq!(m_lines(&answer)[1], "m=audio 0 RTP/SAVP 0");
    assert_eq!(crypto_lines(&answer).len(), 1);
    let streams = pair.streams();
    assert!(!streams[0].removed && streams[1].removed);
}

#[test]
fn a_restart_keeps_the_keys_of_both_sides() {
    let mut pair = Pair::udp();
    let first = agree(&mut pair, &offer("RTP/SAVP", &[cm80(1, 1)]));
    let before = pair.streams();
    pair.restart();
    assert_eq!(pair.srs.streams(pair.key()).expect("a session"), before);
    assert_eq!(agree(&mut pair, &offer("RTP/SAVP", &[cm80(1, 1)])), first);
}

#[test]
fn no_key_is_in_anything_that_prints() {
    let mut pair = Pair::udp();
    let answer = agree(&mut pair, &offer("RTP/SAVP", &[cm80(1, 201)]));
    let ours = crypto_lines(&answer).remove(0).keys.remove(0).key_and_salt;
    let state = pair.srs.dialog_state(pair.key());
    let printed = format!("{state:?} {:?} {:?}", pair.events, pair.streams());
    for secret in [format!("{:?}", &ours[..4]), "201, 201".to_owned()] {
        assert!(!printed.contains(secret.trim_matches(['[', ']'])));
    }
    for secret in [STANDARD.encode(&ours), key(Suite::AesCm128Sha1Tag80, 201)] {
        assert!(!printed.contains(&secret));
    }
}
