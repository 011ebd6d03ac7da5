//! The least SIPREC client that places many calls quickly and sends no media (RFC 7866 §6).
//!
//! Media is [`crate::generate`]'s: thousands of streams from a handful of sockets, which a client
//! that behaves like a telephone system cannot do. One request at a time, so that the time to an
//! answer is the recorder's alone.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const REPEAT_AFTER: Duration = Duration::from_millis(500);
const GIVE_UP_AFTER: Duration = Duration::from_secs(20);

pub struct Client {
    socket: UdpSocket,
    local: SocketAddr,
    target: SocketAddr,
    calls: u32,
}

/// A call that was answered with 200 and acknowledged.
pub struct Placed {
    call_id: String,
    /// With the recorder's tag.
    to: String,
    /// Where it wants the two streams.
    pub media: [SocketAddr; 2],
    /// From the INVITE to the 200.
    pub answered_in: Duration,
}

impl Client {
    pub fn connect(target: SocketAddr) -> Result<Self> {
        let socket = UdpSocket::bind("127.0.0.2:0").context("open a SIP socket")?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(REPEAT_AFTER))?;
        Ok(Self { local: socket.local_addr()?, socket, target, calls: 0 })
    }

    /// Offers two streams that will come from these addresses.
    pub fn place(&mut self, sources: [SocketAddr; 2]) -> Result<Placed> {
        self.calls += 1;
        let call_id = format!("bench-{}-{}", self.local.port(), self.calls);
        let body = body(self.calls, sources);
        let extra = "Require: siprec\r\nContent-Type: multipart/mixed;boundary=part\r\n";
        let to = format!("<sip:recorder@{}>", self.target);
        let begun = Instant::now();
        let answer = self.transact("INVITE", 1, &call_id, &to, extra, &body)?;
        let answered_in = begun.elapsed();
        let to = header(&answer, "To").context("an answer without To")?.to_owned();
        self.send("ACK", 1, &call_id, &to, "", "")?;
        let sdp = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let sdp = siprec::sdp::offer::parse(sdp.as_bytes()).context("read the SDP answer")?;
        let media: Vec<SocketAddr> = sdp.media.iter().filter_map(|media| media.address).collect();
        let media = media.try_into().map_err(|media| anyhow::anyhow!("two streams: {media:?}"))?;
        Ok(Placed { call_id, to, media, answered_in })
    }

    pub fn hang_up(&mut self, call: &Placed) -> Result<()> {
        self.transact("BYE", 2, &call.call_id, &call.to, "", "").map(drop)
    }

    /// Sends a request until it is answered with 200.
    fn transact(
        &self,
        method: &str,
        cseq: u32,
        call_id: &str,
        to: &str,
        extra: &str,
        body: &str,
    ) -> Result<String> {
        let begun = Instant::now();
        let wanted = [format!("Call-ID: {call_id}\r\n"), format!("CSeq: {cseq} {method}\r\n")];
        let mut buffer = vec![0; 65_536];
        while begun.elapsed() < GIVE_UP_AFTER {
            self.send(method, cseq, call_id, to, extra, body)?;
            let sent = Instant::now();
            while sent.elapsed() < REPEAT_AFTER {
                // Nothing came: sent again.
                let Ok(length) = self.socket.recv(&mut buffer) else { break };
                let text = String::from_utf8_lossy(&buffer[..length]);
                if !wanted.iter().all(|line| text.contains(line)) {
                    continue;
                }
                match text.split(' ').nth(1) {
                    Some("200") => return Ok(text.into_owned()),
                    Some(status) if status.starts_with('1') => {}
                    _ => bail!("{method} was refused: {}", text.lines().next().unwrap_or("")),
                }
            }
        }
        bail!("{method} of {call_id} was not answered")
    }

    fn send(
        &self,
        method: &str,
        cseq: u32,
        call_id: &str,
        to: &str,
        extra: &str,
        body: &str,
    ) -> Result<()> {
        let (local, target) = (self.local, self.target);
        let message = format!(
            "{method} sip:recorder@{target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{call_id}-{cseq}-{method}\r\n\
             From: <sip:src@{local}>;tag={call_id}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:src@{local}>;+sip.src\r\n\
             Max-Forwards: 70\r\n{extra}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.socket.send(message.as_bytes()).context("send a SIP message")?;
        Ok(())
    }
}

fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn body(call: u32, sources: [SocketAddr; 2]) -> String {
    let ip = sources[0].ip();
    let mut sdp = format!("v=0\r\no=- {call} 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n");
    for (label, source) in (1..).zip(sources) {
        sdp += &format!(
            "m=audio {} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=sendonly\r\na=label:{label}\r\n",
            source.port()
        );
    }
    // Base64 of 16 bytes, as RFC 7865 §6.10 has its ids.
    let id = |what: u8| format!("AAAAAAAA{what:02}AA{call:08}AA==");
    let (session, ana, ben, one, two) = (id(0), id(1), id(2), id(3), id(4));
    let metadata = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <recording xmlns=\"urn:ietf:params:xml:ns:recording:1\">\r\n\
         <datamode>complete</datamode>\r\n<session session_id=\"{session}\"/>\r\n\
         <participant participant_id=\"{ana}\"><nameID aor=\"sip:{call}@pbx.example.com\">\
         <name>Ana {call}</name></nameID></participant>\r\n\
         <participant participant_id=\"{ben}\"><nameID aor=\"sip:ben@pbx.example.com\">\
         <name>Ben</name></nameID></participant>\r\n\
         <stream stream_id=\"{one}\" session_id=\"{session}\"><label>1</label></stream>\r\n\
         <stream stream_id=\"{two}\" session_id=\"{session}\"><label>2</label></stream>\r\n\
         <participantstreamassoc participant_id=\"{ana}\"><send>{one}</send><recv>{two}</recv>\
         </participantstreamassoc>\r\n\
         <participantstreamassoc participant_id=\"{ben}\"><send>{two}</send><recv>{one}</recv>\
         </participantstreamassoc>\r\n</recording>\r\n"
    );
    format!(
        "--part\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--part\r\n\
         Content-Type: application/rs-metadata+xml\r\n\
         Content-Disposition: recording-session\r\n\r\n{metadata}\r\n--part--\r\n"
    )
}
