//! Any sequence of inputs, times and answers of the shell: no panic, no endless loop, nothing
//! sent to anybody who did not ask, and in the end nothing is kept.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use siprec::{ConnId, Event, Input, MediaAddress, Refusal, Srs, SrsConfig, Transmit, Transport};

#[derive(Arbitrary, Debug)]
enum Step {
    /// A message from a template, which gets further than random bytes do.
    Request { method: Method, cseq: u8, branch: u8, in_dialog: bool, with_offer: bool, raw: Vec<u8> },
    Datagram(Vec<u8>),
    Stream(Vec<u8>),
    Reconnect,
    Wait { millis: u32 },
    HangUp,
    Probe,
    Restart,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Update,
    Info,
    Options,
    Prack,
}

fuzz_target!(|input: (bool, bool, Vec<Step>)| {
    let (accepts, over_tcp, steps) = input;
    let local: SocketAddr = "192.0.2.50:5060".parse().expect("an address");
    let peer: SocketAddr = "192.0.2.1:5060".parse().expect("an address");
    let mut now = Instant::now();
    let mut conn = 1;
    let connected = |conn| Input::Connected {
        conn: ConnId(conn),
        transport: Transport::Tcp,
        local,
        peer,
    };
    let mut srs = Srs::new(SrsConfig::default(), [1; 32]);
    srs.handle_input(now, connected(conn));
    let mut keys = Vec::new();
    let mut tag = String::new();
    for step in steps {
        match step {
            Step::Request { method, cseq, branch, in_dialog, with_offer, raw } => {
                let tag = if in_dialog { format!(";tag={tag}") } else { String::new() };
                let mut bytes = request(method, cseq, branch, &tag, with_offer, &raw);
                if over_tcp {
                    srs.handle_input(now, Input::Stream { conn: ConnId(conn), bytes: &bytes });
                } else {
                    bytes.truncate(65_507);
                    srs.handle_input(now, Input::Datagram { local, peer, bytes: &bytes });
                }
            }
            Step::Datagram(bytes) => {
                srs.handle_input(now, Input::Datagram { local, peer, bytes: &bytes });
            }
            Step::Stream(bytes) => {
                srs.handle_input(now, Input::Stream { conn: ConnId(conn), bytes: &bytes });
            }
            Step::Reconnect => {
                srs.handle_input(now, Input::Disconnected { conn: ConnId(conn) });
                conn += 1;
                srs.handle_input(now, connected(conn));
            }
            Step::Wait { millis } => {
                now += Duration::from_millis(u64::from(millis));
                srs.handle_timeout(now);
            }
            Step::HangUp => keys.iter().for_each(|key| srs.hang_up(now, *key)),
            Step::Probe => keys.iter().for_each(|key| {
                if !srs.probe(now, *key) {
                    srs.give_up(now, *key);
                }
            }),
            Step::Restart => {
                let states: Vec<_> = keys.iter().filter_map(|key| srs.dialog_state(*key)).collect();
                srs = Srs::new(SrsConfig::default(), [2; 32]);
                conn += 1;
                srs.handle_input(now, connected(conn));
                keys = states.into_iter().map(|state| srs.restore(now, state)).collect();
            }
        }
        drain(&mut srs, now, accepts, conn, peer, &mut keys, &mut tag);
    }
    for key in keys.drain(..) {
        srs.hang_up(now, key);
    }
    let mut deadlines = 0;
    srs.handle_input(now, Input::Disconnected { conn: ConnId(conn) });
    while let Some(at) = srs.poll_timeout() {
        now = now.max(at);
        srs.handle_timeout(now);
        drain(&mut srs, now, accepts, conn, peer, &mut keys, &mut tag);
        deadlines += 1;
        assert!(deadlines < 1_000_000, "time does not help");
    }
    assert_eq!(srs.session_count(), 0);
});

fn drain(
    srs: &mut Srs,
    now: Instant,
    accepts: bool,
    conn: u64,
    asker: SocketAddr,
    keys: &mut Vec<siprec::SessionKey>,
    tag: &mut String,
) {
    loop {
        let mut idle = true;
        while let Some(event) = srs.poll_event() {
            idle = false;
            match event {
                Event::Offered { key, offer, .. } | Event::Reoffered { key, offer } => {
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                    let rtp = "192.0.2.50:20000".parse().expect("an address");
                    let media = vec![Some(MediaAddress { rtp }); offer.len()];
                    if accepts {
                        srs.accept(now, key, &media);
                    } else {
                        srs.refuse(now, key, Refusal::Busy { retry_after_secs: 1 });
                    }
                }
                Event::Ended { key, .. } => keys.retain(|other| *other != key),
                _ => {}
            }
        }
        while let Some(transmit) = srs.poll_transmit() {
            idle = false;
            let bytes = match transmit {
                Transmit::Datagram { peer, bytes, .. } => {
                    assert_eq!(peer.ip(), asker.ip());
                    bytes
                }
                Transmit::Stream { conn: to, bytes } => {
                    assert_eq!(to, ConnId(conn));
                    bytes
                }
                Transmit::Close { .. } => continue,
            };
            let text = String::from_utf8_lossy(&bytes);
            let to = text.lines().find(|line| line.starts_with("To: "));
            if let Some((_, found)) = to.and_then(|to| to.split_once(";tag=")) {
                found.clone_into(tag);
            }
        }
        if idle {
            break;
        }
    }
}

fn request(
    method: Method,
    cseq: u8,
    branch: u8,
    tag: &str,
    with_offer: bool,
    raw: &[u8],
) -> Vec<u8> {
    let method = format!("{method:?}").to_uppercase();
    let (content_type, body) = if with_offer {
        let sdp = "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0 101\r\na=label:1\r\n";
        ("Content-Type: application/sdp\r\n", [sdp.as_bytes(), raw].concat())
    } else {
        ("", raw.to_vec())
    };
    let mut bytes = format!(
        "{method} sip:srs@192.0.2.50 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{branch}\r\nFrom: <sip:src@192.0.2.1>;tag=f\r\n\
         To: <sip:srs@192.0.2.50>{tag}\r\nCall-ID: c\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:src@192.0.2.1>\r\nSupported: timer\r\n{content_type}\
         Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(&body);
    bytes
}
