//! SIP messages as a client reads them (RFC 3261 §7), and cutting a stream into them (§18.3).
//!
//! The recorder's reader is not used on purpose: what one of them gets wrong, the other notices.

/// A request or a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub start: Start,
    /// In order; long names as they were written.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Request { method: String },
    Response { status: u16, reason: String },
}

/// Larger than any answer to us.
const LIMIT_BYTES: usize = 1024 * 1024;

impl Message {
    /// Reads a datagram, or the one message that [`take`] cut out.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (head_end, body_start) = head(bytes)?;
        let head = String::from_utf8_lossy(&bytes[..head_end]);
        // A header is folded onto the line before by leading blanks.
        let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        let mut lines = head.lines();
        let start = start_line(lines.next()?)?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (long_name(name.trim()), value.trim().to_owned()))
            .collect();
        let mut message = Self { start, headers, body: bytes[body_start..].to_vec() };
        if let Some(length) = message.content_length() {
            message.body.truncate(length);
        }
        Some(message)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    fn content_length(&self) -> Option<usize> {
        self.header("Content-Length")?.parse().ok()
    }

    /// Number and method of `CSeq`.
    pub fn cseq(&self) -> Option<(u32, &str)> {
        let (number, method) = self.header("CSeq")?.split_once(char::is_whitespace)?;
        Some((number.parse().ok()?, method.trim()))
    }

    pub fn status(&self) -> Option<u16> {
        match self.start {
            Start::Response { status, .. } => Some(status),
            Start::Request { .. } => None,
        }
    }

    /// Our answer to this request (§8.2.6): what identifies it is copied.
    pub fn response(&self, status: u16, reason: &str, tag: &str, extra: &str) -> Vec<u8> {
        let mut text = format!("SIP/2.0 {status} {reason}\r\n");
        for (name, value) in &self.headers {
            let copied = ["Via", "From", "Call-ID", "CSeq", "Record-Route"];
            if copied.iter().any(|copied| copied.eq_ignore_ascii_case(name)) {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        let to = self.header("To").unwrap_or_default();
        let tag = if to.contains(";tag=") { String::new() } else { format!(";tag={tag}") };
        text.push_str(&format!("To: {to}{tag}\r\n{extra}Content-Length: 0\r\n\r\n"));
        text.into_bytes()
    }
}

fn start_line(line: &str) -> Option<Start> {
    let mut fields = line.trim().splitn(3, ' ');
    let (first, second, third) = (fields.next()?, fields.next()?, fields.next());
    if first.eq_ignore_ascii_case("SIP/2.0") {
        let status = second.parse().ok().filter(|status| (100..700).contains(status))?;
        return Some(Start::Response { status, reason: third.unwrap_or_default().to_owned() });
    }
    third?.eq_ignore_ascii_case("SIP/2.0").then(|| Start::Request { method: first.to_owned() })
}

/// The compact forms of §7.3.3 that we look at.
fn long_name(name: &str) -> String {
    let long = match name.to_ascii_lowercase().as_str() {
        "v" => "Via",
        "f" => "From",
        "t" => "To",
        "i" => "Call-ID",
        "m" => "Contact",
        "l" => "Content-Length",
        "c" => "Content-Type",
        "x" => "Session-Expires",
        _ => name,
    };
    long.to_owned()
}

/// Where the head ends and the body begins.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some((end, end + 4))
}

/// What [`take`] found at the start of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Message(Message),
    /// More bytes are needed.
    Incomplete,
    /// Not SIP; the stream cannot go on.
    Broken,
}

/// Takes the next message off a stream.
pub(crate) fn take(stream: &mut Vec<u8>) -> Taken {
    // Keep-alives between messages (RFC 5626 §3.5.1).
    let blank = stream.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    stream.drain(..blank);
    let Some((head_end, body_start)) = head(stream) else {
        return if stream.len() > LIMIT_BYTES { Taken::Broken } else { Taken::Incomplete };
    };
    let Some(head) = Message::parse(&stream[..body_start]) else { return Taken::Broken };
    let Some(length) = head.content_length() else { return Taken::Broken };
    if length > LIMIT_BYTES || head_end > LIMIT_BYTES {
        return Taken::Broken;
    }
    if stream.len() < body_start + length {
        return Taken::Incomplete;
    }
    let message = Message { body: stream[body_start..body_start + length].to_vec(), ..head };
    stream.drain(..body_start + length);
    Taken::Message(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP a;branch=z9\r\nf: <sip:a>;tag=1\r\n\
                      t: <sip:b>\r\n ;tag=2\r\ni: x@y\r\nCSeq: 2  INVITE\r\nl: 4\r\n\r\nbodyrest";

    #[test]
    fn a_response_with_compact_and_folded_headers_is_read() {
        let message = Message::parse(OK.as_bytes()).unwrap();
        assert_eq!(message.status(), Some(200));
        assert_eq!(message.header("to"), Some("<sip:b> ;tag=2"));
        assert_eq!(message.header("Call-ID"), Some("x@y"));
        assert_eq!(message.cseq(), Some((2, "INVITE")));
        assert_eq!(message.body, b"body");
    }

    #[test]
    fn a_stream_in_pieces_gives_its_messages_one_by_one() {
        let whole = format!("\r\n\r\n{}\r\n{OK}", &OK[..OK.len() - 4]);
        let mut stream = Vec::new();
        let mut taken = 0;
        for byte in whole.bytes() {
            stream.push(byte);
            if let Taken::Message(message) = take(&mut stream) {
                assert_eq!(message.body, b"body");
                taken += 1;
            }
        }
        assert_eq!((taken, stream.as_slice()), (2, b"rest".as_slice()));
    }

    #[test]
    fn what_is_not_sip_breaks_a_stream_and_is_no_datagram() {
        assert_eq!(take(&mut b"HTTP/1.1 200 OK\r\n\r\n".to_vec()), Taken::Broken);
        assert_eq!(take(&mut b"SIP/2.0 200 OK\r\nl: 9999999\r\n\r\n".to_vec()), Taken::Broken);
        assert_eq!(take(&mut vec![b'x'; LIMIT_BYTES + 1]), Taken::Broken);
        assert_eq!(Message::parse(b"SIP/2.0 99 Low\r\n\r\n"), None);
        assert_eq!(Message::parse(b"\r\n\r\n"), None);
    }

    #[test]
    fn our_answer_repeats_what_identifies_the_request() {
        let request = "BYE sip:a SIP/2.0\r\nVia: 1\r\nVia: 2\r\nFrom: f;tag=9\r\nTo: t\r\n\
                       Call-ID: c\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n";
        let request = Message::parse(request.as_bytes()).unwrap();
        let answer = Message::parse(&request.response(200, "OK", "mine", "")).unwrap();
        assert_eq!(answer.status(), Some(200));
        assert_eq!(answer.all("Via").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(answer.header("To"), Some("t;tag=mine"));
        assert_eq!(answer.cseq(), Some((1, "BYE")));
    }
}
