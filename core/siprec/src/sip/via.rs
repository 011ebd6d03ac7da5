//! The Via header: where a response goes (RFC 3261 §18.2.2, RFC 3581).

use std::net::{IpAddr, SocketAddr};

use super::address::{Params, param, parse_host_port, parse_params, split_list};

/// The topmost Via of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    pub host: String,
    pub port: Option<u16>,
    params: Params,
    /// The element as received.
    text: String,
}

const DEFAULT_PORT: u16 = 5060;

impl Via {
    /// Reads the first element of a Via value, and what follows it.
    pub fn parse(value: &str) -> Option<(Self, String)> {
        let elements = split_list(value);
        let text = (*elements.first()?).to_owned();
        let rest = elements[1..].join(", ");
        let (sent, params) = text.split_at(text.find(';').unwrap_or(text.len()));
        // `SIP / 2.0 / UDP host : port`: blanks are allowed around every separator.
        let mut parts = sent.splitn(3, '/').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("SIP") {
            return None;
        }
        let (_version, transport_and_host) = (parts.next()?, parts.next()?);
        let (_transport, host) = transport_and_host.split_once(char::is_whitespace)?;
        let (host, port) = parse_host_port(host)?;
        let params = parse_params(params);
        Some((Self { host, port, params, text }, rest))
    }

    pub fn branch(&self) -> Option<&str> {
        param(&self.params, "branch").filter(|branch| !branch.is_empty())
    }

    /// `host:port` as the sender wrote it, which is part of the transaction's identity.
    pub fn sent_by(&self) -> String {
        format!("{}:{}", self.host.to_ascii_lowercase(), self.port.unwrap_or(DEFAULT_PORT))
    }

    fn wants_rport(&self) -> bool {
        param(&self.params, "rport").is_some()
    }

    /// Where to send a response over UDP.
    ///
    /// Always to the address the request came from, never to a third party; `maddr` is for
    /// multicast and is ignored. The port is the source's if the peer asked for that
    /// (RFC 3581 §4), else the one in the Via.
    pub fn response_address(&self, source: SocketAddr) -> SocketAddr {
        let port = if self.wants_rport() {
            source.port()
        } else {
            self.port.filter(|port| *port != 0).unwrap_or(DEFAULT_PORT)
        };
        SocketAddr::new(source.ip(), port)
    }

    /// The element for the response, with `received` and `rport` filled in.
    pub fn for_response(&self, source: SocketAddr) -> String {
        let named: Option<IpAddr> = self.host.parse().ok();
        let wants_rport = self.wants_rport();
        let same_host = named.is_some_and(|host| host.to_canonical() == source.ip().to_canonical());
        if same_host && !wants_rport {
            return self.text.clone();
        }
        let mut pieces = self.text.split(';');
        let mut out = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let name = piece.split('=').next().unwrap_or_default().trim();
            // A value that the peer itself put there would be a lie.
            if !name.eq_ignore_ascii_case("rport") && !name.eq_ignore_ascii_case("received") {
                out.push(';');
                out.push_str(piece);
            }
        }
        out.push_str(&format!(";received={}", source.ip().to_canonical()));
        if wants_rport {
            out.push_str(&format!(";rport={}", source.port()));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn via(text: &str) -> Via {
        Via::parse(text).expect("a Via").0
    }

    #[test]
    fn blanks_around_separators_are_allowed() {
        let text = "SIP  / 2.0\t /   TLS     spindle.example.com : 4000 ;  branch  = z9hG4bK9ikj8  , SIP/2.0/UDP b";
        let (first, rest) = Via::parse(text).expect("a Via");
        assert_eq!(first.sent_by(), "spindle.example.com:4000");
        assert_eq!(first.branch(), Some("z9hG4bK9ikj8"));
        assert_eq!(rest, "SIP/2.0/UDP b");
    }

    #[test]
    fn rport_sends_the_response_back_where_the_request_came_from() {
        let source: SocketAddr = "192.0.2.1:9988".parse().unwrap();
        let asked = via("SIP/2.0/UDP 10.1.1.1:4540;rport;branch=z9hG4bKkjshdyff");
        assert_eq!(asked.response_address(source), source);
        assert_eq!(
            asked.for_response(source),
            "SIP/2.0/UDP 10.1.1.1:4540;branch=z9hG4bKkjshdyff;received=192.0.2.1;rport=9988"
        );
        let silent = via("SIP/2.0/UDP 192.0.2.1:4540;branch=z9hG4bK1");
        assert_eq!(silent.response_address(source), "192.0.2.1:4540".parse().unwrap());
        assert_eq!(silent.for_response(source), "SIP/2.0/UDP 192.0.2.1:4540;branch=z9hG4bK1");
    }

    #[test]
    fn ipv6_hosts_are_read_with_and_without_brackets() {
        let source: SocketAddr = "[2001:db8::9]:5070".parse().unwrap();
        for text in ["SIP/2.0/UDP [2001:db8::9]:6050;branch=z9hG4bK1", "SIP/2.0/UDP [2001:db8::9]"]
        {
            let via = via(text);
            assert_eq!(via.host, "2001:db8::9");
            assert_eq!(via.for_response(source), text);
        }
        assert_eq!(
            via("SIP/2.0/UDP [2001:db8::1];received=1.2.3.4").for_response(source),
            "SIP/2.0/UDP [2001:db8::1];received=2001:db8::9"
        );
    }

    #[test]
    fn what_is_no_via_is_not_read() {
        for text in ["", "SIP/2.0", "SIP/2.0/UDP", "HTTP/2.0/UDP a", "SIP/2.0/UDP a b"] {
            assert!(Via::parse(text).is_none(), "{text}");
        }
    }
}
