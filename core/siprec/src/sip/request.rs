//! A request that can be processed, or what to answer to one that cannot (RFC 3261 §8.2).

use rsip::StatusCode;

use super::address::Address;
use super::message::{BodyProblem, Message, Method, StartLine};
use super::via::Via;

/// A request with everything that transactions and dialogs are matched by.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub uri: String,
    pub via: Via,
    pub call_id: String,
    pub from: Address,
    pub to: Address,
    pub cseq: u32,
    pub message: Message,
}

/// Why a request is not processed.
#[derive(Debug)]
pub enum Unusable {
    /// It has what a response needs: answer it.
    Answer(Box<Refusal>),
    /// Nobody could match an answer to it.
    Ignore,
}

/// The answer to a request that cannot be processed.
#[derive(Debug)]
pub struct Refusal {
    pub via: Via,
    pub message: Message,
    pub status: StatusCode,
    pub reason: &'static str,
}

impl Request {
    /// `message` must be a request; a response is ignored.
    pub fn read(message: Message) -> Result<Self, Unusable> {
        let Some((via, _)) = message.text("via").and_then(|value| Via::parse(&value)) else {
            return Err(Unusable::Ignore);
        };
        if ["from", "to", "call-id", "cseq"].iter().any(|name| message.header(name).is_none()) {
            return Err(Unusable::Ignore);
        }
        match check(&message) {
            Ok((from, to, cseq)) => {
                let StartLine::Request { method, uri, .. } = message.start.clone() else {
                    return Err(Unusable::Ignore);
                };
                let call_id = message.text("call-id").unwrap_or_default().into_owned();
                Ok(Self { method, uri, via, call_id, from, to, cseq, message })
            }
            // An ACK is never answered (RFC 3261 §17.1.1.3).
            Err(_) if is_ack_or_response(&message) => Err(Unusable::Ignore),
            Err((status, reason)) => {
                Err(Unusable::Answer(Box::new(Refusal { via, message, status, reason })))
            }
        }
    }

    pub fn is(&self, method: rsip::Method) -> bool {
        self.method.is(method)
    }

    pub fn from_tag(&self) -> Option<&str> {
        self.from.tag()
    }

    pub fn to_tag(&self) -> Option<&str> {
        self.to.tag()
    }

    /// The first Contact, unless there is none or it is `*`.
    pub fn contact(&self) -> Option<Address> {
        let first = self.message.list("contact").into_iter().next()?;
        Address::parse(&first).ok().filter(|address| address.uri != "*")
    }
}

fn is_ack_or_response(message: &Message) -> bool {
    match &message.start {
        StartLine::Request { method, .. } => method.is(rsip::Method::Ack),
        StartLine::Response { .. } => true,
    }
}

type Problem = (StatusCode, &'static str);

fn check(message: &Message) -> Result<(Address, Address, u32), Problem> {
    let bad = |reason| (StatusCode::BadRequest, reason);
    let StartLine::Request { method, uri, version } = &message.start else {
        return Err(bad("Not A Request"));
    };
    if version != "SIP/2.0" {
        return Err((StatusCode::VersionNotSupported, "Version Not Supported"));
    }
    match message.body_problem {
        None => {}
        Some(BodyProblem::TooLarge) => {
            return Err((StatusCode::MessageTooLarge, "Message Too Large"));
        }
        Some(BodyProblem::BadLength) => return Err(bad("Bad Content-Length")),
        Some(BodyProblem::Truncated) => return Err(bad("Body Shorter Than Content-Length")),
        Some(BodyProblem::MissingLength) => return Err(bad("Missing Content-Length")),
    }
    if uri.is_empty() || uri.starts_with('<') || uri.contains(char::is_whitespace) {
        return Err(bad("Bad Request-URI"));
    }
    for (name, reason) in [
        ("from", "Duplicate From"),
        ("to", "Duplicate To"),
        ("call-id", "Duplicate Call-ID"),
        ("cseq", "Duplicate CSeq"),
    ] {
        if message.headers(name).count() > 1 {
            return Err(bad(reason));
        }
    }
    let address = |name, reason| {
        let text = message.text(name).unwrap_or_default();
        Address::parse(&text).map_err(|_| bad(reason))
    };
    let (from, to) = (address("from", "Bad From")?, address("to", "Bad To")?);
    if message.text("call-id").is_none_or(|value| value.is_empty()) {
        return Err(bad("Empty Call-ID"));
    }
    let cseq = message.text("cseq").unwrap_or_default();
    let (number, name) = cseq.split_once(char::is_whitespace).ok_or(bad("Bad CSeq"))?;
    // RFC 3261 §8.1.1.5: less than 2³¹.
    let number = number.parse::<u32>().ok().filter(|number| *number < 1 << 31);
    let number = number.ok_or(bad("Bad CSeq"))?;
    if Method::from_token(name.trim()) != *method {
        // RFC 4475 §3.1.2.18: for an unknown method, 501 is as good and says more.
        return Err(match method {
            Method::Known(_) => bad("CSeq Method Mismatch"),
            Method::Other(_) => (StatusCode::NotImplemented, "Not Implemented"),
        });
    }
    Ok((from, to, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "INFO sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
        From: <sip:a@b>;tag=1\r\nTo: \"B\" <sip:c@d>\r\nCall-ID: i\r\nCSeq: 0009\r\n INFO\r\n\r\n";

    fn read(text: &str) -> Result<Request, Unusable> {
        Request::read(Message::from_datagram(text.as_bytes()).expect("a SIP message"))
    }

    #[test]
    fn a_good_request_is_read() {
        let request = read(GOOD).expect("usable");
        assert_eq!((request.cseq, request.from_tag(), request.to_tag()), (9, Some("1"), None));
    }

    #[test]
    fn what_can_be_answered_is_answered() {
        for (from, to, code) in [
            ("SIP/2.0\r\nVia", "SIP/7.0\r\nVia", 505),
            ("sip:x@y", "<sip:x@y>", 400),
            ("sip:x@y", "sip:x @y", 400),
            ("0009", "4294967295", 400),
            ("0009", "2147483648", 400),
            ("0009\r\n INFO", "9 OPTIONS", 400),
            ("0009\r\n INFO", "9", 400),
            ("\"B\"", "\"B", 400),
            ("Call-ID: i", "Call-ID: i\r\nCall-ID: j", 400),
            ("Call-ID: i", "Call-ID: i\r\nContent-Length: -1", 400),
        ] {
            match read(&GOOD.replace(from, to)) {
                Err(Unusable::Answer(refusal)) => assert_eq!(refusal.status.code(), code, "{to}"),
                other => panic!("{to}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_cannot_be_answered_is_ignored() {
        for header in ["Via", "From", "To", "Call-ID", "CSeq"] {
            let text = GOOD.replace(&format!("{header}:"), "X-Was:");
            assert!(matches!(read(&text), Err(Unusable::Ignore)), "{header}");
        }
        let ack = GOOD.replace("INFO", "ACK").replace("\"B\"", "\"B");
        assert!(matches!(read(&ack), Err(Unusable::Ignore)));
    }
}
