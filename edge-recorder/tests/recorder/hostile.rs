//! Peers that mean harm: calls in progress lose nothing, memory stays bounded, `/metrics` tells.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use crate::support::{PATIENCE, Running, Site, Src, assert_said, trunks};

const STRANGER: &str = "127.0.0.66";

/// What an attack may cost beside what other tests of this process need at the same time.
const ROOM_BYTES: u64 = 256 << 20;

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

async fn connect_from(ip: &str, target: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(ip.parse().unwrap(), 0))?;
    socket.connect(target).await
}

/// Runs an attack while a call of a trunk is recorded, and looks at what the call lost.
async fn under_attack(attack: impl AsyncFnOnce(&Running, &Src)) {
    let mut site = Site::new().await;
    site.config.sip.trunks = trunks(&["127.0.0.1"]);
    site.config.sip.max_connections = 64.try_into().unwrap();
    let recorder = site.start().await;
    let mut events = site.events();
    let mut src = Src::udp(recorder.ready.sip).await;
    assert_eq!(src.invite(Some(&src.metadata())).await.status, 200);
    let before = resident_bytes();
    let mut said = src.speak(20).await;
    attack(&recorder, &src).await;
    for (all, more) in said.iter_mut().zip(src.speak(20).await) {
        all.extend(more);
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < ROOM_BYTES, "grown by {grown} bytes");
    // Who is no stranger is answered as ever.
    let mut other = Src::tcp(recorder.ready.sip).await;
    assert_eq!(other.invite(None).await.status, 200);
    assert_eq!(other.bye().await.status, 200);
    assert_eq!(src.bye().await.status, 200, "the call was still there");
    let session = events.session(&src.call_id).await;
    events.stored_end(session).await;
    let stored = site.stored(session).await;
    for (stream, said) in said.into_iter().enumerate() {
        assert_said(&stored.datagrams(stream as u16), &said);
    }
    recorder.stop().await;
}

fn invite(number: usize) -> String {
    format!(
        "INVITE sip:srs@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {STRANGER}:5060;branch=z9hG4bK{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@b>;tag={number}\r\nTo: <sip:c@d>\r\nCall-ID: {number}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:a@{STRANGER}>\r\nContent-Length: 0\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_invites_from_strangers_costs_no_call_and_no_answer() {
    const NAME: &str = "linekeeper_sip_strangers_total{answer=\"none\"}";
    under_attack(async |recorder, _| {
        let before = recorder.metric(NAME).await;
        let socket = UdpSocket::bind((STRANGER, 0)).await.unwrap();
        for number in 0..20_000 {
            socket.send_to(invite(number).as_bytes(), recorder.ready.sip).await.unwrap();
        }
        recorder.wait_for_metric(NAME, before + 1_000.0).await;
        assert!(socket.try_recv(&mut [0; 2_000]).is_err(), "a stranger was answered");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_who_knows_the_tags_of_a_call_cannot_end_it() {
    const NAME: &str = "linekeeper_sip_strangers_total{answer=\"none\"}";
    under_attack(async |recorder, src| {
        let before = recorder.metric(NAME).await;
        let socket = UdpSocket::bind((STRANGER, 0)).await.unwrap();
        for method in ["BYE", "CANCEL", "INVITE", "UPDATE"] {
            let forged = src.forge(method);
            socket.send_to(forged.as_bytes(), recorder.ready.sip).await.unwrap();
        }
        recorder.wait_for_metric(NAME, before + 3.0).await;
        // On a connection as well.
        let mut stream = connect_from(STRANGER, recorder.ready.sip).await.unwrap();
        stream.write_all(src.forge("BYE").as_bytes()).await.unwrap();
        let mut answer = vec![0; 2_000];
        let length = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..length].starts_with(b"SIP/2.0 403 "));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_connections_that_say_nothing_leave_room_for_a_trunk() {
    const NAME: &str = "linekeeper_sip_connections_refused_total{limit=\"strangers\"}";
    under_attack(async |recorder, _| {
        let before = recorder.metric(NAME).await;
        let mut open = Vec::new();
        for number in 0..5_000 {
            let Ok(stream) = connect_from(STRANGER, recorder.ready.sip).await else { continue };
            // Half a message at most.
            let _ = stream.try_write(b"INVITE sip:srs SIP/2.0\r\nVia: ");
            open.push(stream);
            if number % 100 == 99 {
                open.retain(|stream| {
                    let read = stream.try_read(&mut [0; 64]);
                    matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
                });
            }
        }
        recorder.wait_for_metric(NAME, before + 1_000.0).await;
    })
    .await;
}

/// Whether the recorder has had enough of this connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = async {
        let mut rest = Vec::new();
        while let Ok(length) = stream.read_buf(&mut rest).await {
            if length == 0 {
                break;
            }
        }
    };
    timeout(PATIENCE, read).await.is_ok()
}

fn with_body(content_type: &str, body: &str) -> String {
    format!(
        "INVITE sip:srs@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK{0:x}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: {0:x}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:a@127.0.0.1>\r\nContent-Type: {content_type}\r\n\
         Content-Length: {1}\r\n\r\n{body}",
        body.as_ptr() as usize ^ body.len(),
        body.len()
    )
}

/// The status of the answer.
async fn ask(stream: &mut TcpStream, request: &str) -> u16 {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 16_384];
    let length = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
    let text = std::str::from_utf8(&answer[..length]).unwrap();
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_is_a_weapon_is_recorded_as_metadata_that_cannot_be_read() {
    const SDP: &str = "v=0\r\no=a 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
        m=audio 4000 RTP/AVP 0\r\na=sendonly\r\na=label:1\r\n";
    let entities: String = (1..12)
        .map(|level| format!("<!ENTITY a{level} \"{}\">", format!("&a{};", level - 1).repeat(10)))
        .collect();
    let weapons = [
        format!("<!DOCTYPE r [<!ENTITY a0 \"lol\">{entities}]><recording>&a11;</recording>"),
        "<!DOCTYPE r SYSTEM \"file:///etc/passwd\"><recording/>".to_owned(),
        "<a>".repeat(20_000),
        format!("<recording {}/>", "a='b' ".repeat(20_000)),
        "<recording>".to_owned() + &"<participant/>".repeat(15_000) + "</recording>",
        "<recording><!--".to_owned() + &"-".repeat(200_000),
    ];
    under_attack(async |recorder, _| {
        let mut stream = connect_from("127.0.0.1", recorder.ready.sip).await.unwrap();
        for weapon in &weapons {
            let body = format!(
                "--b\r\nContent-Type: application/sdp\r\n\r\n{SDP}\r\n--b\r\n\
                 Content-Type: application/rs-metadata+xml\r\n\r\n{weapon}\r\n--b--\r\n"
            );
            let request = with_body("multipart/mixed;boundary=b", &body);
            assert_eq!(ask(&mut stream, &request).await, 200, "{}", &weapon[..40]);
        }
        // 200,000 elements in each other are more than a message may have.
        let deep = with_body("application/rs-metadata+xml", &"<a>".repeat(200_000));
        assert_eq!(ask(&mut stream, &deep).await, 513);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_a_weapon_costs_its_connection_alone() {
    under_attack(async |recorder, _| {
        let begin = "OPTIONS sip:srs@127.0.0.1 SIP/2.0\r\n";
        let one_long = format!("{begin}Subject: {}\r\n\r\n", "x".repeat(1 << 20));
        let many = format!("{begin}{}\r\n", "Route: <sip:x>\r\n".repeat(10_000));
        let folded = format!("{begin}Subject: x\r\n{}\r\n", " y\r\n".repeat(100_000));
        for weapon in [one_long, many, folded, "\0".repeat(1 << 20), "SIP/2.0".repeat(100_000)] {
            let mut stream = connect_from("127.0.0.1", recorder.ready.sip).await.unwrap();
            // The recorder may close before it has taken all.
            let _ = stream.write_all(weapon.as_bytes()).await;
            assert!(is_closed(&mut stream).await, "{}", &weapon[..50.min(weapon.len())]);
        }
        for lie in ["-1", "4294967296", "99999999999999999999", "1e3", "0x10", "5, 6"] {
            let mut stream = connect_from("127.0.0.1", recorder.ready.sip).await.unwrap();
            let request = with_body("text/plain", "abc");
            let liar = request.replace("Content-Length: 3", &format!("Content-Length: {lie}"));
            assert_eq!(ask(&mut stream, &liar).await, 400, "{lie}");
        }
        // One that does not come to an end keeps its connection, for a while, and nobody else's.
        let mut slow = connect_from("127.0.0.1", recorder.ready.sip).await.unwrap();
        slow.write_all(b"INVITE sip:srs SIP/2.0\r\nContent-Length: 99999\r\n\r\n").await.unwrap();
        sleep(Duration::from_millis(50)).await;
    })
    .await;
}
