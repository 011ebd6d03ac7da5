//! A call with whatever offer a test writes, over UDP; its media come from elsewhere.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

pub struct RawCall {
    socket: UdpSocket,
    pub call_id: String,
    to: String,
    /// The 200, byte for byte.
    pub answer: Vec<u8>,
    /// Of each m-line: where the recorder receives it; 0 when it is refused.
    pub ports: Vec<u16>,
}

impl RawCall {
    /// Places the call and acknowledges the answer. Panics with what came when that is no 200.
    pub fn place(recorder: SocketAddr, sdp: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.connect(recorder).expect("loopback");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let call_id = format!("raw-{}@linekeeper.test", socket.local_addr().expect("bound").port());
        let to = "<sip:recorder@linekeeper.test>".to_owned();
        let (answer, ports) = (Vec::new(), Vec::new());
        let mut call = Self { socket, call_id, to, answer, ports };
        call.send(1, "INVITE", "Require: siprec\r\nContent-Type: application/sdp\r\n", sdp);
        let answer = call.final_answer();
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.starts_with("SIP/2.0 200"), "{text}");
        let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        call.to = header("To: ").expect("a To").to_owned();
        let media = text.lines().filter(|line| line.starts_with("m="));
        let port = |line: &str| line.split(' ').nth(1).and_then(|port| port.parse().ok());
        call.ports = media.map(|line| port(line).expect("a port")).collect();
        call.answer = answer;
        call.send(1, "ACK", "", "");
        call
    }

    pub fn bye(&self) {
        self.send(2, "BYE", "", "");
        self.final_answer();
    }

    fn send(&self, cseq: u32, method: &str, extra: &str, body: &str) {
        let local = self.socket.local_addr().expect("bound");
        let Self { call_id, to, .. } = self;
        let message = format!(
            "{method} sip:recorder@linekeeper.test SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{cseq}-{method}\r\nMax-Forwards: 70\r\n\
             From: <sip:raw@linekeeper.test>;tag=raw\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:raw@{local}>;+sip.src\r\n{extra}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.send(message.as_bytes()).expect("loopback");
    }

    fn final_answer(&self) -> Vec<u8> {
        let mut buffer = vec![0; 65_536];
        loop {
            let length = self.socket.recv(&mut buffer).expect("an answer in time");
            if !buffer[..length].starts_with(b"SIP/2.0 1") {
                return buffer[..length].to_vec();
            }
        }
    }
}
