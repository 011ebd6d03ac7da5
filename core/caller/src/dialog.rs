//! Requests within a dialog (RFC 3261 §12.2) and the one that creates it (§8.1.1).

use std::net::{IpAddr, SocketAddr};

use crate::message::Message;
use crate::plan::{CallPlan, ContactStyle};
use crate::report::CallError;

pub(crate) struct Dialog {
    pub call_id: String,
    local: SocketAddr,
    via: &'static str,
    from: String,
    /// With the peer's tag once there is one.
    to: String,
    request_uri: String,
    contact: String,
    routes: Vec<String>,
    cseq: u32,
}

/// A request on its way.
pub(crate) struct Request {
    pub method: &'static str,
    pub cseq: u32,
    pub bytes: Vec<u8>,
    branch: String,
}

impl Dialog {
    pub fn new(plan: &CallPlan, local: SocketAddr) -> Result<Self, CallError> {
        let host = plan.host();
        let transport = plan.transport.via();
        let own = format!("sip:src@{local};transport={}", transport.to_lowercase());
        let contact = match plan.contact {
            ContactStyle::Standard => format!("<{own}>;+sip.src"),
            ContactStyle::InsideUri => format!("<{own};+sip.src>"),
            ContactStyle::Src => format!("<{own}>;src"),
            ContactStyle::Unmarked => format!("<{own}>"),
        };
        Ok(Self {
            call_id: format!("{}@{}", random_text()?, local.ip()),
            local,
            via: transport,
            from: format!("<sip:src@{local}>;tag={}", random_text()?),
            to: format!("<sip:recorder@{host}>"),
            request_uri: format!("sip:recorder@{host};transport={}", transport.to_lowercase()),
            contact,
            routes: Vec::new(),
            cseq: 0,
        })
    }

    /// `headers` are whole lines.
    pub fn request(
        &mut self,
        method: &'static str,
        headers: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<Request, CallError> {
        self.cseq += 1;
        let branch = format!("z9hG4bK{}", random_text()?);
        let mut text = self.head(method, self.cseq, &branch);
        text += &format!("Contact: {}\r\n{headers}", self.contact);
        let content = match body {
            Some((content_type, content)) => {
                text += &format!("Content-Type: {content_type}\r\n");
                content
            }
            None => &[],
        };
        text += &format!("Content-Length: {}\r\n\r\n", content.len());
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(content);
        Ok(Request { method, cseq: self.cseq, bytes, branch })
    }

    /// The ACK of a 2xx, a transaction of its own (§13.2.2.4).
    pub fn ack_success(&self, cseq: u32) -> Result<Vec<u8>, CallError> {
        let branch = format!("z9hG4bK{}", random_text()?);
        Ok(format!("{}Content-Length: 0\r\n\r\n", self.head("ACK", cseq, &branch)).into_bytes())
    }

    /// The ACK of any other final answer, part of the transaction of `request` (§17.1.1.3).
    pub fn ack_failure(&self, request: &Request, answer: &Message) -> Vec<u8> {
        let mut head = self.head("ACK", request.cseq, &request.branch);
        if let Some(to) = answer.header("To") {
            head = head.replace(&format!("To: {}\r\n", self.to), &format!("To: {to}\r\n"));
        }
        format!("{head}Content-Length: 0\r\n\r\n").into_bytes()
    }

    fn head(&self, method: &str, cseq: u32, branch: &str) -> String {
        let Self { request_uri, via, local, from, to, call_id, .. } = self;
        let routes: String =
            self.routes.iter().map(|route| format!("Route: {route}\r\n")).collect();
        format!(
            "{method} {request_uri} SIP/2.0\r\nVia: SIP/2.0/{via} {local};branch={branch};rport\r\n\
             Max-Forwards: 70\r\n{routes}From: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nUser-Agent: linekeeper-caller/{}\r\n",
            env!("CARGO_PKG_VERSION")
        )
    }

    /// Takes tag, target and routes from a 2xx to an INVITE (§12.1.2, §12.2.1.2).
    pub fn learn(&mut self, answer: &Message) {
        if let Some(to) = answer.header("To") {
            self.to = to.to_owned();
        }
        if let Some(uri) = answer.header("Contact").and_then(uri_of) {
            self.request_uri = uri.to_owned();
        }
        // Only the first answer sets the route, from the end.
        if self.routes.is_empty() {
            let routes = answer.all("Record-Route").flat_map(|value| value.split(','));
            self.routes = routes.map(|route| route.trim().to_owned()).collect();
            self.routes.reverse();
        }
    }

    /// Where to send on UDP: the peer's contact if that is an address and nothing is in between.
    pub fn next_hop(&self) -> Option<SocketAddr> {
        let uri = self.routes.first().and_then(|route| uri_of(route)).unwrap_or(&self.request_uri);
        address_of(uri)
    }
}

/// The URI of a name-addr or addr-spec.
fn uri_of(value: &str) -> Option<&str> {
    match value.split_once('<') {
        Some((_, rest)) => rest.split_once('>').map(|(uri, _)| uri),
        None => value.split(';').next().map(str::trim).filter(|uri| !uri.is_empty()),
    }
}

fn address_of(uri: &str) -> Option<SocketAddr> {
    let rest = uri.split_once(':')?.1;
    let rest = rest.split([';', '?']).next()?;
    let host = rest.rsplit('@').next()?;
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    let ip: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(SocketAddr::new(ip, 5060))
}

/// 64 random bits, unique enough for tags, branches and Call-IDs of a test tool.
fn random_text() -> Result<String, CallError> {
    Ok(format!("{:016x}", getrandom::u64().map_err(CallError::Random)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialog(contact: ContactStyle) -> Dialog {
        let mut plan = CallPlan::to("192.0.2.1:5060".parse().unwrap());
        plan.contact = contact;
        Dialog::new(&plan, "192.0.2.9:4321".parse().unwrap()).unwrap()
    }

    #[test]
    fn requests_of_one_dialog_count_on_and_differ_in_branch() {
        let mut dialog = dialog(ContactStyle::Standard);
        let first = dialog.request("INVITE", "X: y\r\n", Some(("a/b", b"body"))).unwrap();
        let second = dialog.request("BYE", "", None).unwrap();
        let text = String::from_utf8(first.bytes.clone()).unwrap();
        assert!(text.ends_with("X: y\r\nContent-Type: a/b\r\nContent-Length: 4\r\n\r\nbody"));
        assert!(text.contains(">;+sip.src\r\n"), "{text}");
        let (one, two) =
            (Message::parse(&first.bytes).unwrap(), Message::parse(&second.bytes).unwrap());
        assert_eq!(one.cseq(), Some((1, "INVITE")));
        assert_eq!(two.cseq(), Some((2, "BYE")));
        assert_ne!(one.header("Via"), two.header("Via"));
        assert_eq!(one.header("Call-ID"), two.header("Call-ID"));
    }

    #[test]
    fn the_mark_of_an_src_is_where_the_style_says() {
        for (style, end) in [
            (ContactStyle::InsideUri, "transport=tcp;+sip.src>"),
            (ContactStyle::Src, "transport=tcp>;src"),
            (ContactStyle::Unmarked, "transport=tcp>"),
        ] {
            let request = dialog(style).request("INVITE", "", None).unwrap();
            let contact = Message::parse(&request.bytes).unwrap();
            assert!(contact.header("Contact").unwrap().ends_with(end), "{style:?}");
        }
    }

    #[test]
    fn what_the_answer_says_is_used_from_then_on() {
        let mut dialog = dialog(ContactStyle::Standard);
        let request = dialog.request("INVITE", "", None).unwrap();
        let answer = Message::parse(
            b"SIP/2.0 200 OK\r\nTo: <sip:recorder@x>;tag=peer\r\nContact: \"R\" \
              <sip:rec@198.51.100.7:5070;lr>;+sip.srs\r\nRecord-Route: <sip:p1>, <sip:p2>\r\n\r\n",
        )
        .unwrap();
        let failed = String::from_utf8(dialog.ack_failure(&request, &answer)).unwrap();
        assert!(failed.contains("To: <sip:recorder@x>;tag=peer\r\n"), "{failed}");
        assert!(failed.contains(&request.branch), "{failed}");
        assert_eq!(dialog.next_hop(), Some("192.0.2.1:5060".parse().unwrap()));
        dialog.learn(&answer);
        let ack = String::from_utf8(dialog.ack_success(1).unwrap()).unwrap();
        assert!(ack.starts_with("ACK sip:rec@198.51.100.7:5070;lr SIP/2.0\r\n"), "{ack}");
        assert!(ack.contains("Route: <sip:p2>\r\nRoute: <sip:p1>\r\n"), "{ack}");
        assert!(!ack.contains(&request.branch), "{ack}");
        assert_eq!(dialog.next_hop(), None);
        dialog.routes.clear();
        assert_eq!(dialog.next_hop(), Some("198.51.100.7:5070".parse().unwrap()));
    }

    #[test]
    fn an_address_is_taken_from_a_uri_with_and_without_port() {
        for (uri, address) in [
            ("sip:192.0.2.1", Some("192.0.2.1:5060")),
            ("sip:a@[2001:db8::1]:5070;x=y", Some("[2001:db8::1]:5070")),
            ("sip:a@[2001:db8::1]", Some("[2001:db8::1]:5060")),
            ("sip:rec.example.com", None),
            ("nonsense", None),
        ] {
            assert_eq!(address_of(uri), address.map(|text| text.parse().unwrap()), "{uri}");
        }
    }
}
