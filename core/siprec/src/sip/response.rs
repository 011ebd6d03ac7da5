//! Builds responses (RFC 3261 §8.2.6). Headers of the request are echoed byte for byte.

use std::net::SocketAddr;

use rsip::StatusCode;

use super::address::Address;
use super::message::{Message, text_of};
use super::via::Via;

/// A response that is being put together.
#[derive(Clone, Debug)]
pub struct Response {
    status: u16,
    reason: String,
    headers: Vec<(&'static str, Vec<u8>)>,
    body: Vec<u8>,
}

impl Response {
    /// A response with Via, From, To, Call-ID and CSeq. `to_tag` is added where To has none.
    pub fn new(
        request: &Message,
        via: &Via,
        source: SocketAddr,
        status: StatusCode,
        to_tag: Option<&str>,
    ) -> Self {
        let mut headers = Vec::with_capacity(16);
        for (index, value) in request.headers("via").enumerate() {
            if index > 0 {
                headers.push(("Via", value.to_vec()));
                continue;
            }
            headers.push(("Via", via.for_response(source).into_bytes()));
            if let Some((_, rest)) = Via::parse(&text_of(value)).filter(|(_, r)| !r.is_empty()) {
                headers.push(("Via", rest.into_bytes()));
            }
        }
        for (name, lower) in [("From", "from"), ("To", "to"), ("Call-ID", "call-id")] {
            let mut value = request.header(lower).unwrap_or_default().to_vec();
            if let (true, Some(tag)) = (lower == "to" && !has_tag(&value), to_tag) {
                value.extend_from_slice(b";tag=");
                value.extend_from_slice(tag.as_bytes());
            }
            headers.push((name, value));
        }
        headers.push(("CSeq", request.header("cseq").unwrap_or_default().to_vec()));
        let reason = reason_phrase(&status).to_owned();
        Self { status: status.code(), reason, headers, body: Vec::new() }
    }

    /// Replaces the reason phrase.
    pub fn reason(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }

    pub fn header(mut self, name: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn header_if(self, name: &'static str, value: Option<String>) -> Self {
        match value {
            Some(value) => self.header(name, value),
            None => self,
        }
    }

    /// Echoes every Record-Route, as the response that forms a dialog must (§12.1.1).
    pub fn record_routes(mut self, request: &Message) -> Self {
        for value in request.headers("record-route") {
            self.headers.push(("Record-Route", value.to_vec()));
        }
        self
    }

    pub fn body(mut self, content_type: &str, body: Vec<u8>) -> Self {
        self.headers.push(("Content-Type", content_type.as_bytes().to_vec()));
        self.body = body;
        self
    }

    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = format!("SIP/2.0 {} {}\r\n", self.status, self.reason).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

fn has_tag(to: &[u8]) -> bool {
    Address::parse(&text_of(to)).is_ok_and(|address| address.tag().is_some())
}

/// The phrases of RFC 3261 §21 and its extensions.
fn reason_phrase(status: &StatusCode) -> &'static str {
    match status.code() {
        100 => "Trying",
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        405 => "Method Not Allowed",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        491 => "Request Pending",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_echoes_what_it_must_byte_for_byte() {
        let request = Message::from_datagram(
            b"BYE sip:x SIP/2.0\r\nv: SIP/2.0/UDP b;rport, SIP/2.0/TCP c\r\nv: SIP/2.0/UDP d\r\n\
              f: \"M\xfcller\" <sip:a>;tag=1\r\nt: <sip:b>\r\ni: i\r\nCSeq: 1 BYE\r\n\r\n",
        )
        .expect("a SIP message");
        let via = Via::parse("SIP/2.0/UDP b;rport").expect("a Via").0;
        let source = "192.0.2.1:5070".parse().unwrap();
        let bytes = Response::new(&request, &via, source, StatusCode::OK, Some("t")).into_bytes();
        assert_eq!(
            bytes,
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP b;received=192.0.2.1;rport=5070\r\n\
              Via: SIP/2.0/TCP c\r\nVia: SIP/2.0/UDP d\r\nFrom: \"M\xfcller\" <sip:a>;tag=1\r\n\
              To: <sip:b>;tag=t\r\nCall-ID: i\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
        );
    }
}
