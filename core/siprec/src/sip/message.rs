//! Reads SIP messages from bytes (RFC 3261 §7), as real peers write them.
//!
//! `rsip` names the methods and status codes; its tokenizer is never given bytes from the
//! network, because it refuses compact and folded headers, IPv6, Latin-1 and bare LF. So:
//!
//! - lines end in CRLF or LF; a value may be folded over several lines (§7.3.1);
//! - header names are compared without case, compact forms are expanded (§7.3.3);
//! - values are bytes and are echoed as they came, whatever their encoding;
//! - a line that is no header is skipped, an unknown header or method is kept.
//!
//! Whether a message can be *processed* is decided later, in [`super::request`]: a message
//! that cannot still has to be answered, with the headers it does have.

use std::borrow::Cow;

use super::address::split_list;

/// A method. Case matters in methods (RFC 3261 §7.1), so `invite` is not INVITE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    Known(rsip::Method),
    Other(String),
}

impl Method {
    pub fn from_token(token: &str) -> Self {
        rsip::Method::all()
            .into_iter()
            .find(|method| method.to_string() == token)
            .map_or_else(|| Self::Other(token.to_owned()), Self::Known)
    }

    pub fn is(&self, method: rsip::Method) -> bool {
        *self == Self::Known(method)
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Known(method) => method.fmt(f),
            Self::Other(token) => f.write_str(token),
        }
    }
}

/// The first line of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartLine {
    Request {
        method: Method,
        /// As received; may be nonsense.
        uri: String,
        /// `SIP/2.0` unless the peer speaks something else.
        version: String,
    },
    Response {
        status: u16,
    },
}

impl StartLine {
    /// Reads a line without its line end. `None` for anything that is not SIP.
    pub fn read(line: &[u8]) -> Option<Self> {
        let line = trim(line);
        let first = line.split(|b| is_blank(*b)).next()?;
        let last = line.rsplit(|b| is_blank(*b)).next()?;
        if is_version(first) {
            let rest = trim(&line[first.len()..]);
            let digits = rest.split(|b| is_blank(*b)).next()?;
            let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
            return (100..700).contains(&status).then_some(Self::Response { status });
        }
        if !is_version(last) || first.is_empty() || !first.iter().all(|b| is_token_byte(*b)) {
            return None;
        }
        let uri = trim(line.get(first.len()..line.len() - last.len())?);
        Some(Self::Request {
            method: Method::from_token(&text_of(first)),
            uri: text_of(uri).into_owned(),
            version: text_of(last).to_ascii_uppercase(),
        })
    }
}

/// `SIP/` and two numbers (RFC 3261 §7.1). Its letters may be in any case.
fn is_version(token: &[u8]) -> bool {
    let Some((name, number)) = token.split_at_checked(4) else { return false };
    let mut parts = number.split(|b| *b == b'.');
    let is_number = |part: Option<&[u8]>| {
        part.is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
    };
    name.eq_ignore_ascii_case(b"SIP/")
        && is_number(parts.next())
        && is_number(parts.next())
        && parts.next().is_none()
}

/// A header field. Its value is unfolded and trimmed, otherwise as received.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// In lower case, compact forms expanded.
    pub name: String,
    /// The name as the peer wrote it.
    pub written_name: String,
    pub value: Vec<u8>,
}

/// Values identify people; only the name prints.
impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.written_name)
    }
}

/// A request or response whose first line makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub start: StartLine,
    pub headers: Vec<Header>,
    pub body: Vec<u8>,
    /// Why the body cannot be trusted, if so.
    pub body_problem: Option<BodyProblem>,
}

/// What is wrong with the length of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyProblem {
    /// `Content-Length` is not a number, is negative, or two of them disagree.
    BadLength,
    /// Fewer bytes came than `Content-Length` says.
    Truncated,
    /// On a stream: there is a body and no `Content-Length` to end it (RFC 3261 §18.3).
    MissingLength,
    /// More bytes than we take.
    TooLarge,
}

/// What `Content-Length` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentLength {
    Absent,
    Bytes(usize),
    Bad,
}

/// The length of the head including the empty line that ends it, from `from` on.
///
/// `from` is where an earlier search of a shorter prefix may go on.
pub fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(offset) = bytes.get(at..)?.iter().position(|b| *b == b'\n') {
        at += offset + 1;
        match bytes.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

impl Message {
    /// Reads a head: start line and headers. `None` when the first line is not SIP.
    ///
    /// A CR inside a line becomes a blank: echoed, it would end the line for some readers.
    pub fn from_head(head: &[u8]) -> Option<Self> {
        let mut lines = head.split(|b| *b == b'\n').map(strip_cr);
        let start = StartLine::read(lines.next()?)?;
        let mut headers: Vec<Header> = Vec::new();
        for line in lines {
            match line {
                [] => break,
                [b' ' | b'\t', ..] => {
                    if let Some(last) = headers.last_mut() {
                        let more = trim(line);
                        if !last.value.is_empty() && !more.is_empty() {
                            last.value.push(b' ');
                        }
                        last.value.extend_from_slice(more);
                    }
                }
                _ => headers.extend(read_header(line)),
            }
        }
        for byte in headers.iter_mut().flat_map(|header| &mut header.value) {
            if *byte == b'\r' {
                *byte = b' ';
            }
        }
        Some(Self { start, headers, body: Vec::new(), body_problem: None })
    }

    /// Reads a datagram. Bytes after `Content-Length` are ignored, and without one the body
    /// is the rest (RFC 3261 §18.3). `None` for anything that is not SIP.
    pub fn from_datagram(bytes: &[u8]) -> Option<Self> {
        let start = bytes.iter().position(|b| !matches!(b, b'\r' | b'\n'))?;
        let bytes = &bytes[start..];
        let end = head_end(bytes, 0).unwrap_or(bytes.len());
        let mut message = Self::from_head(&bytes[..end])?;
        let rest = &bytes[end..];
        match message.content_length() {
            ContentLength::Absent => message.body = rest.to_vec(),
            ContentLength::Bytes(length) => match rest.get(..length) {
                Some(body) => message.body = body.to_vec(),
                None => message.body_problem = Some(BodyProblem::Truncated),
            },
            ContentLength::Bad => message.body_problem = Some(BodyProblem::BadLength),
        }
        Some(message)
    }

    pub fn content_length(&self) -> ContentLength {
        let mut length = ContentLength::Absent;
        for value in self.headers("content-length") {
            let digits = std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'));
            let Some(this) = digits.and_then(|text| text.parse().ok()) else {
                return ContentLength::Bad;
            };
            match length {
                ContentLength::Bytes(other) if other != this => return ContentLength::Bad,
                _ => length = ContentLength::Bytes(this),
            }
        }
        length
    }

    /// The values of all headers of this (lower-case) name, in order.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.headers.iter().filter(move |header| header.name == name).map(|h| h.value.as_slice())
    }

    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|header| header.name == name).map(|h| h.value.as_slice())
    }

    /// The first header of this name as text; bytes that are not UTF-8 are read as Latin-1.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.header(name).map(text_of)
    }

    /// The elements of all headers of this name, split at commas (RFC 3261 §7.3.1).
    pub fn list(&self, name: &str) -> Vec<String> {
        self.headers(name)
            .flat_map(|value| {
                split_list(&text_of(value)).into_iter().map(str::to_owned).collect::<Vec<_>>()
            })
            .filter(|element| !element.is_empty())
            .collect()
    }

    /// Whether an option tag stands in `Require`, `Supported`, … (RFC 3261 §19.2).
    pub fn has_option(&self, header: &str, tag: &str) -> bool {
        self.list(header).iter().any(|element| element.eq_ignore_ascii_case(tag))
    }
}

fn read_header(line: &[u8]) -> Option<Header> {
    let colon = line.iter().position(|b| *b == b':')?;
    let written = trim(&line[..colon]);
    if written.is_empty() || !written.iter().all(|b| is_token_byte(*b)) {
        return None;
    }
    let written_name = text_of(written).into_owned();
    let lower = written_name.to_ascii_lowercase();
    let name = expand_compact(&lower).map_or(lower, str::to_owned);
    Some(Header { name, written_name, value: trim(&line[colon + 1..]).to_vec() })
}

/// The compact forms of RFC 3261 §20 and of the extensions that define one.
fn expand_compact(name: &str) -> Option<&'static str> {
    Some(match name {
        "a" => "accept-contact",
        "b" => "referred-by",
        "c" => "content-type",
        "d" => "request-disposition",
        "e" => "content-encoding",
        "f" => "from",
        "i" => "call-id",
        "j" => "reject-contact",
        "k" => "supported",
        "l" => "content-length",
        "m" => "contact",
        "o" => "event",
        "r" => "refer-to",
        "s" => "subject",
        "t" => "to",
        "u" => "allow-events",
        "v" => "via",
        "x" => "session-expires",
        "y" => "identity",
        _ => return None,
    })
}

/// Bytes as text: UTF-8, or Latin-1 where they are not, so that no byte is lost.
pub fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(bytes.iter().map(|b| char::from(*b)).collect()),
    }
}

/// A byte of a `token` (RFC 3261 §25.1).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn strip_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Without surrounding blanks and line ends.
pub fn trim(bytes: &[u8]) -> &[u8] {
    bytes.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Message {
        Message::from_datagram(text.as_bytes()).expect("a SIP message")
    }

    #[test]
    fn compact_folded_and_oddly_cased_headers_are_read() {
        let message = read(
            "OPTIONS sip:x SIP/2.0\nv: SIP/2.0/UDP a\r\nTO :\r\n sip:b\n\t;tag=1\r\nsUbJect:   hi  \r\n\r\n",
        );
        assert_eq!(message.text("via").as_deref(), Some("SIP/2.0/UDP a"));
        assert_eq!(message.text("to").as_deref(), Some("sip:b ;tag=1"));
        assert_eq!(message.text("subject").as_deref(), Some("hi"));
    }

    #[test]
    fn without_a_length_the_body_is_the_rest_of_the_datagram() {
        assert_eq!(read("\r\n\r\nINFO sip:x SIP/2.0\r\n\r\nabc").body, b"abc");
        assert_eq!(read("INFO sip:x SIP/2.0\r\nl: 2\r\n\r\nabc").body, b"ab");
    }

    #[test]
    fn a_length_that_cannot_be_right_is_a_problem_of_the_body() {
        let problem =
            |length: &str| read(&format!("INFO sip:x SIP/2.0\r\n{length}\r\n\r\nabc")).body_problem;
        assert_eq!(problem("l: 4"), Some(BodyProblem::Truncated));
        assert_eq!(problem("l: -3"), Some(BodyProblem::BadLength));
        assert_eq!(problem("l: 99999999999999999999999"), Some(BodyProblem::BadLength));
        assert_eq!(problem("l: 3\r\nContent-Length: 2"), Some(BodyProblem::BadLength));
        assert_eq!(problem("l: 3\r\nContent-Length: 3"), None);
    }

    #[test]
    fn latin_1_bytes_survive() {
        let bytes = b"INFO sip:x SIP/2.0\r\nSubject: M\xfcller\r\n\r\n";
        let message = Message::from_datagram(bytes).expect("a SIP message");
        assert_eq!(message.header("subject"), Some(&b"M\xfcller"[..]));
        assert_eq!(message.text("subject").as_deref(), Some("Müller"));
    }

    #[test]
    fn no_value_can_break_the_line_that_echoes_it() {
        let message = read("INFO sip:x SIP/2.0\r\nCall-ID: a\rBYE: b\r\n c\r\r\n\r\n");
        assert_eq!(message.text("call-id").as_deref(), Some("a BYE: b c"));
    }

    #[test]
    fn methods_are_case_sensitive_and_open() {
        assert!(Method::from_token("PRACK").is(rsip::Method::PRack));
        assert_eq!(Method::from_token("invite"), Method::Other("invite".to_owned()));
        let StartLine::Request { method, .. } = read("!odd-1.0 sip:x SIP/2.0\r\n\r\n").start else {
            panic!("a request");
        };
        assert_eq!(method.to_string(), "!odd-1.0");
    }

    #[test]
    fn what_is_not_sip_is_not_read() {
        for line in ["", "hello", "GET / HTTP/1.1", "SIP/2.0 4294967301 x", "(x) sip:x SIP/2.0"] {
            assert_eq!(StartLine::read(line.as_bytes()), None, "{line}");
        }
        assert_eq!(
            StartLine::read(b"sip/2.0  200"),
            Some(StartLine::Response { status: 200 }),
            "a response without a reason"
        );
    }
}
