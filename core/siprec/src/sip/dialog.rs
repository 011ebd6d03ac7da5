//! A dialog in which we are the UAS (RFC 3261 §12): who the peer is, and in what order its
//! requests come.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::address::{Address, SipUri, param};
use super::message::Method;
use super::request::Request;
use crate::event::Transport;

/// Everything that identifies a dialog and addresses a request in it. Survives a restart.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dialog {
    pub call_id: String,
    pub local_tag: String,
    pub remote_tag: Option<String>,
    /// Of the last request we sent.
    local_cseq: u32,
    /// Of the last request of the peer other than ACK and CANCEL.
    remote_cseq: u32,
    /// Of the INVITE that made the dialog.
    invite_cseq: u32,
    /// Our From: the To of the INVITE, with our tag.
    local_party: Vec<u8>,
    /// Our To: the From of the INVITE.
    remote_party: Vec<u8>,
    /// The Record-Routes of the INVITE in their order (§12.1.1).
    route_set: Vec<String>,
    /// The peer's latest Contact.
    remote_target: Option<String>,
    pub transport: Transport,
    /// The two ends of the last request.
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

impl Dialog {
    /// The dialog that our 2xx to this INVITE creates.
    pub fn from_invite(
        invite: &Request,
        local_tag: String,
        transport: Transport,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Self {
        let mut local_party = invite.message.header("to").unwrap_or_default().to_vec();
        local_party.extend_from_slice(format!(";tag={local_tag}").as_bytes());
        Self {
            call_id: invite.call_id.clone(),
            remote_tag: invite.from_tag().map(str::to_owned),
            local_tag,
            local_cseq: 0,
            remote_cseq: invite.cseq,
            invite_cseq: invite.cseq,
            local_party,
            remote_party: invite.message.header("from").unwrap_or_default().to_vec(),
            route_set: invite.message.list("record-route"),
            remote_target: invite.contact().map(|contact| contact.uri),
            transport,
            local,
            peer,
        }
    }

    /// Whether a request belongs to this dialog (§12.2.2). A peer of RFC 2543 has no tag.
    pub fn matches(&self, request: &Request) -> bool {
        request.call_id == self.call_id
            && request.to_tag() == Some(self.local_tag.as_str())
            && request.from_tag() == self.remote_tag.as_deref()
    }

    /// Whether `invite` is the INVITE that made this dialog, come again by another path (§8.2.2.2).
    pub fn is_merged_with(&self, invite: &Request) -> bool {
        invite.call_id == self.call_id
            && invite.from_tag() == self.remote_tag.as_deref()
            && invite.cseq == self.invite_cseq
    }

    /// Whether an ACK with this number is for the INVITE that made the dialog.
    pub fn made_by(&self, cseq: u32) -> bool {
        self.invite_cseq == cseq
    }

    /// Notes the number of a request. False when it is not above the last one (§12.2.2).
    pub fn take_cseq(&mut self, request: &Request) -> bool {
        let in_order = request.cseq > self.remote_cseq;
        if in_order {
            self.remote_cseq = request.cseq;
        }
        in_order
    }

    /// Notes the Contact of a target refresh request (§12.2.2).
    pub fn refresh_target(&mut self, request: &Request) {
        if let Some(contact) = request.contact() {
            self.remote_target = Some(contact.uri);
        }
    }

    /// Where our own requests go over UDP.
    ///
    /// To the next hop of §12.2.1.1 if that is the host that talks to us, which gives the
    /// port; otherwise back to where its requests come from. So requests pass NAT, and nobody
    /// can make us send to a third party by naming it in a Contact.
    pub fn next_hop(&self) -> SocketAddr {
        let first_route = self.route_set.first().and_then(|text| Address::parse(text).ok());
        let uri = first_route.map(|route| route.uri).or_else(|| self.remote_target.clone());
        let hop = uri.and_then(|uri| SipUri::parse(&uri)).and_then(|uri| {
            let ip: IpAddr = uri.host.parse().ok()?;
            let same = ip.to_canonical() == self.peer.ip().to_canonical();
            same.then(|| SocketAddr::new(self.peer.ip(), uri.port.unwrap_or(5060)))
        });
        hop.filter(|hop| hop.port() != 0).unwrap_or(self.peer)
    }

    /// Builds a request in this dialog (§12.2.1.1). `headers` are whole lines.
    pub fn request(
        &mut self,
        method: rsip::Method,
        branch: &str,
        headers: &str,
        body: &[u8],
    ) -> Vec<u8> {
        self.local_cseq += 1;
        let target = self.remote_target.clone().unwrap_or_else(|| self.party_uri());
        let mut routes = self.route_set.clone();
        let is_loose = |route: &String| {
            let uri = Address::parse(route).ok().and_then(|address| SipUri::parse(&address.uri));
            uri.is_none_or(|uri| param(&uri.params, "lr").is_some())
        };
        let uri = match routes.first() {
            Some(first) if !is_loose(first) => {
                let strict = Address::parse(first).map_or_else(|_| target.clone(), |a| a.uri);
                routes.remove(0);
                routes.push(format!("<{target}>"));
                strict
            }
            _ => target,
        };
        let method = Method::Known(method);
        let transport = match self.transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        };
        let mut head = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {};branch={branch};rport\r\n",
            self.local
        );
        for route in &routes {
            write!(head, "Route: {route}\r\n").expect("writing to a String cannot fail");
        }
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(b"Max-Forwards: 70\r\nFrom: ");
        bytes.extend_from_slice(&self.local_party);
        bytes.extend_from_slice(b"\r\nTo: ");
        bytes.extend_from_slice(&self.remote_party);
        let rest = format!(
            "\r\nCall-ID: {}\r\nCSeq: {} {method}\r\n{headers}Content-Length: {}\r\n\r\n",
            self.call_id,
            self.local_cseq,
            body.len()
        );
        bytes.extend_from_slice(rest.as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    /// The URI of the remote party, for a peer whose INVITE had no Contact.
    fn party_uri(&self) -> String {
        let text = super::message::text_of(&self.remote_party);
        Address::parse(&text).map_or_else(|_| format!("sip:{}", self.peer), |address| address.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;

    fn dialog(extra: &str) -> Dialog {
        let text = format!(
            "INVITE sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
             From: \"M\u{fc}\" <sip:a@b>;tag=f\r\nTo: <sip:c@d>\r\nCall-ID: i\r\nCSeq: 7 INVITE\r\n\
             {extra}\r\n"
        );
        let message = Message::from_datagram(text.as_bytes()).expect("SIP");
        let invite = Request::read(message).expect("usable");
        let (local, peer) = ("192.0.2.9:5060", "192.0.2.1:40000");
        let (local, peer) = (local.parse().expect("address"), peer.parse().expect("address"));
        Dialog::from_invite(&invite, "l".to_owned(), Transport::Udp, local, peer)
    }

    fn bye(dialog: &mut Dialog) -> String {
        let bytes = dialog.request(rsip::Method::Bye, "z9hG4bK2", "", b"");
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn a_request_of_ours_is_addressed_to_the_contact_along_the_route() {
        let mut dialog = dialog(
            "Contact: <sip:src@192.0.2.1:5080>;+sip.src\r\n\
             Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\n",
        );
        assert_eq!(
            bye(&mut dialog),
            "BYE sip:src@192.0.2.1:5080 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK2;rport\r\n\
             Route: <sip:p1;lr>\r\nRoute: <sip:p2;lr>\r\nMax-Forwards: 70\r\n\
             From: <sip:c@d>;tag=l\r\nTo: \"M\u{fc}\" <sip:a@b>;tag=f\r\nCall-ID: i\r\n\
             CSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n"
        );
        assert!(bye(&mut dialog).contains("CSeq: 2 BYE"));
    }

    #[test]
    fn a_strict_router_gets_the_request_and_the_target_goes_last() {
        let mut dialog = dialog("m: <sip:src@x>\r\nRecord-Route: <sip:p1>\r\n");
        let text = bye(&mut dialog);
        assert!(text.starts_with("BYE sip:p1 SIP/2.0\r\n"), "{text}");
        assert!(text.contains("Route: <sip:src@x>\r\n"), "{text}");
    }

    #[test]
    fn requests_go_to_the_host_that_talks_to_us_and_to_no_other() {
        let hop = |contact: &str| dialog(&format!("m: <{contact}>\r\n")).next_hop().to_string();
        assert_eq!(hop("sip:192.0.2.1:5080"), "192.0.2.1:5080");
        assert_eq!(hop("sip:192.0.2.1"), "192.0.2.1:5060");
        assert_eq!(hop("sip:198.51.100.7:5080"), "192.0.2.1:40000");
        assert_eq!(hop("sip:sbc.example.com"), "192.0.2.1:40000");
        assert_eq!(dialog("").next_hop().to_string(), "192.0.2.1:40000");
    }
}
