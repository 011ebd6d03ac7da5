//! What goes over the ports of a stream beside the audio of its source: reports to the SRC, other
//! people's packets, ciphertext.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use segment::Body;
use siprec::rtp::rtcp::{self, Rtcp};
use siprec::rtp::srtp::{Receiver, Sender};
use siprec::sdp::{Crypto, offer};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::support::{Answer, PATIENCE, Site, Src, assert_said, rtp_packet};

const KEY: [u8; 30] = [0x5a; 30];

fn crypto_line() -> String {
    format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", STANDARD.encode(KEY))
}

/// The offer of two streams, encrypted, with RTCP of the first at `rtcp`.
fn secure_offer(src: &Src, rtcp: SocketAddr) -> String {
    let line = format!("a=crypto:{}\r\n", crypto_line());
    let sdp = src.sdp(["sendonly"; 2]).replace("RTP/AVP", "RTP/SAVP");
    let (head, media) = sdp.split_at(sdp.find("m=audio").unwrap());
    let (first, second) = media.split_at(media.rfind("m=audio").unwrap());
    format!("{head}{first}{line}a=rtcp:{}\r\n{second}{line}", rtcp.port())
}

fn keys(answer: &Answer) -> Receiver {
    let answer = offer::parse(answer.body.as_bytes()).unwrap();
    Receiver::new(&answer.media[0].crypto[0].keying().unwrap())
}

async fn heard(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2_048];
    let (length, from) =
        timeout(PATIENCE, socket.recv_from(&mut buffer)).await.expect("RTCP in time").unwrap();
    (buffer[..length].to_vec(), from)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_src_hears_who_listens_how_much_arrives_and_when_it_is_over() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut src = Src::udp(recorder.ready.sip).await;
    let rtcp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = rtcp.local_addr().unwrap().port();
    let sdp = src.sdp(["sendonly"; 2]);
    let sdp = sdp.replacen("a=sendonly", &format!("a=rtcp:{port}\r\na=sendonly"), 1);
    assert_eq!(src.send_invite("application/sdp", &sdp).await.status, 200);
    src.speak(20).await;
    // One is lost on its way.
    src.media[0].send_to(&rtp_packet(65_530 + 3, 0), src.targets[0]).await.unwrap();

    let (compound, from) = heard(&rtcp).await;
    assert_eq!(from.port(), src.targets[0].port() + 1, "from the port above");
    let told = rtcp::parse(&compound);
    let Rtcp::ReceiverReport { ssrc: ours, blocks } = &told[0] else { panic!("{told:?}") };
    let [block] = blocks.as_slice() else { panic!("{told:?}") };
    assert_eq!((block.ssrc, block.extended_highest_sequence), (7, 65_549));
    assert_ne!(*ours, 7);
    // The second packet of the compound is its name (RFC 3550 §6.1).
    let description = &compound[8 + 24..];
    assert_eq!((description[0], description[1]), (0x81, 202));

    assert_eq!(src.bye().await.status, 200);
    loop {
        let told = rtcp::parse(&heard(&rtcp).await.0);
        if let Some(Rtcp::Bye { ssrcs }) = told.get(1) {
            assert_eq!(ssrcs, &[*ours]);
            break;
        }
    }
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_stream_is_kept_as_it_came_with_its_key_beside_it_and_no_stranger_in_it() {
    let site = Site::new().await;
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    let rtcp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let sdp = secure_offer(&src, rtcp.local_addr().unwrap());
    let answer = src.send_invite("application/sdp", &sdp).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let keying = Crypto::parse(&crypto_line()).unwrap().keying().unwrap();
    let mut sender = Sender::new(&keying);
    // Behind a translator: not the port that the offer names.
    let translated = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut said = Vec::new();
    for sequence in 0..150 {
        stranger.send_to(&rtp_packet(sequence, 1), src.targets[0]).await.unwrap();
        let mut packet = rtp_packet(sequence, 0);
        sender.seal_rtp(&mut packet).unwrap();
        translated.send_to(&packet, src.targets[0]).await.unwrap();
        said.push(packet);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (mut report, _) = heard(&rtcp).await;
    assert!(rtcp::parse(&report).len() <= 1, "only its first header can be read");
    report = keys(&answer).open_rtcp(&report).expect("protected with the key of the answer");
    assert!(matches!(rtcp::parse(&report)[0], Rtcp::ReceiverReport { .. }));

    assert_eq!(src.bye().await.status, 200);
    let session = events.session(&src.call_id).await;
    events.stored_end(session).await;
    let stored = site.stored(session).await;
    assert_said(&stored.datagrams(0), &said);
    let lines = stored.bodies.iter().filter_map(|body| match body {
        Body::Streams(streams) => streams[0].crypto.first().map(|line| line.reveal().clone()),
        _ => None,
    });
    assert!(lines.clone().count() > 0 && lines.into_iter().all(|line| line == crypto_line()));
    let (_, metrics) = recorder.http("GET", "/metrics").await;
    assert!(metrics.contains("linekeeper_rtp_rejected_packets_total{reason=\"source\"}"));
    recorder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_an_encrypted_stream_from_elsewhere_is_known_by_where_its_counter_was() {
    let mut site = Site::new().await;
    let recorder = site.start().await;
    let (sip, mut events) = (recorder.ready.sip, site.events());
    site.config.sip.listen = sip;
    let mut src = Src::udp(sip).await;
    let rtcp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let sdp = secure_offer(&src, rtcp.local_addr().unwrap());
    assert_eq!(src.send_invite("application/sdp", &sdp).await.status, 200);
    let session = events.session(&src.call_id).await;
    let mut sender = Sender::new(&Crypto::parse(&crypto_line()).unwrap().keying().unwrap());
    let mut said = Vec::new();
    // Each from another port, so that each has to be authentic. Ten rounds are further than one who
    // knows nothing would look.
    for step in 0..=22_u32 {
        let packet = send_from_elsewhere(&mut sender, src.targets[0], step * 30_000).await;
        said.push(packet);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A visit of the sockets and a tick, after which it is written down.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    recorder.stop().await;
    let recorder = site.start().await;
    for n in 1..=20 {
        said.push(send_from_elsewhere(&mut sender, src.targets[0], 660_000 + n).await);
        // From elsewhere, one that was overtaken cannot be told from one that is sent again; and
        // where a sender changes its core, loopback does reorder.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    src.reconnect().await;
    assert_eq!(src.bye().await.status, 200);
    events.stored_end(session).await;
    assert_said(&site.stored(session).await.datagrams(0), &said);
    recorder.stop().await;
}

async fn send_from_elsewhere(sender: &mut Sender, target: SocketAddr, index: u32) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut packet = rtp_packet(index as u16, 0);
    sender.seal_rtp(&mut packet).unwrap();
    socket.send_to(&packet, target).await.unwrap();
    packet
}
