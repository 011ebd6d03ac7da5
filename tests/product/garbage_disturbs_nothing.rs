//! On a stream, what cannot be read must not take the calls of its connection with it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use e2e::product::{Product, has_flag};

/// A SIPREC call without metadata, by hand: one stream, no media.
fn invite(call_id: &str) -> String {
    let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
               m=audio 40000 RTP/AVP 0\r\na=label:1\r\na=sendonly\r\n";
    message("INVITE", call_id, 1, &format!("Content-Type: application/sdp\r\n{}", length(sdp)), sdp)
}

fn length(body: &str) -> String {
    format!("Content-Length: {}\r\n", body.len())
}

fn message(method: &str, call_id: &str, cseq: u32, headers: &str, body: &str) -> String {
    format!(
        "{method} sip:srs@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5999;branch=z9hG4bK{cseq}{method}{call_id}\r\n\
         From: <sip:src@127.0.0.1>;tag=src\r\nTo: <sip:srs@127.0.0.1>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
         Contact: <sip:src@127.0.0.1;transport=tcp>;+sip.src\r\nRequire: siprec\r\nMax-Forwards: 70\r\n{headers}\r\n{body}"
    )
}

/// Reads until a response to this CSeq has come; returns its status and To tag.
fn answer(stream: &mut TcpStream, seen: &mut String, cseq: &str) -> (u16, String) {
    let mut buffer = [0; 4096];
    loop {
        let found = seen.split("SIP/2.0 ").skip(1).find(|response| {
            response.contains(&format!("CSeq: {cseq}")) && !response.starts_with("100")
        });
        if let Some(response) = found {
            let status = response[..3].parse().expect("a status");
            let tag = response
                .lines()
                .find_map(|line| line.strip_prefix("To:"))
                .and_then(|to| to.split("tag=").nth(1))
                .map(|tag| tag.trim().to_owned())
                .unwrap_or_default();
            return (status, tag);
        }
        let count = stream.read(&mut buffer).expect("the connection stays open");
        assert!(count > 0, "the connection was closed; so far: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}

#[test]
fn garbage_between_good_messages_on_one_connection_disturbs_nothing() {
    let product = Product::start();
    let mut stream = TcpStream::connect(product.sip).expect("SIP listens on TCP");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
    let mut seen = String::new();
    let send = |stream: &mut TcpStream, bytes: &[u8]| stream.write_all(bytes).expect("sent");

    send(&mut stream, invite("before").as_bytes());
    let (status, tag) = answer(&mut stream, &mut seen, "1 INVITE");
    assert_eq!(status, 200, "{seen}");
    send(&mut stream, message("ACK", "before", 1, "Content-Length: 0\r\n", "").as_bytes());

    send(&mut stream, b"\r\n\r\nthis is not a message\r\nof any kind\r\n\r\n");
    send(&mut stream, b"\x00\xff\xfe\x80 binary \x01\x02\r\n\r\n");
    send(&mut stream, b"INVITE \r\nVia garbage\r\nContent-Length: 4\r\n\r\nbody");

    seen.clear();
    send(&mut stream, message("OPTIONS", "ping", 7, "Content-Length: 0\r\n", "").as_bytes());
    assert_eq!(answer(&mut stream, &mut seen, "7 OPTIONS").0, 200, "{seen}");
    send(&mut stream, invite("after").as_bytes());
    assert_eq!(answer(&mut stream, &mut seen, "1 INVITE").0, 200, "{seen}");

    let bye = message("BYE", "before", 2, "Content-Length: 0\r\n", "")
        .replace("To: <sip:srs@127.0.0.1>", &format!("To: <sip:srs@127.0.0.1>;tag={tag}"));
    send(&mut stream, bye.as_bytes());
    assert_eq!(answer(&mut stream, &mut seen, "2 BYE").0, 200, "{seen}");

    let recording = product.wait_for("before", "stored");
    assert!(has_flag(&recording, "no_metadata"), "{recording}");
    product.wait_for("after", "recording");
}
