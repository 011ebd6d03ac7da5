//! Server transactions (RFC 3261 §17.2, RFC 6026 §7.1): a request that comes twice is
//! processed once and answered the same.
//!
//! Only requests that a session has seen get a transaction. All others are answered without
//! keeping anything (RFC 3261 §8.2.7), so that a flood of them costs no memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::request::Request;
use super::{T1, T2, T4, TRANSACTION_LIFETIME};
use crate::event::{ConnId, SessionKey};

/// How a message reaches its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Datagram { local: SocketAddr, peer: SocketAddr },
    Stream(ConnId),
}

impl Route {
    /// Whether the transport repeats lost packets by itself.
    pub fn is_reliable(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}

/// What a request and its retransmissions have in common (RFC 3261 §17.2.3).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TransactionKey(String);

/// Branches that start with this, and do not end with it, are unique in space and time.
const MAGIC_COOKIE: &str = "z9hG4bK";

impl TransactionKey {
    /// The transaction a request belongs to; for an ACK, that of its INVITE.
    pub fn of(request: &Request) -> Self {
        if request.is(rsip::Method::Ack) {
            return Self::with_method(request, "INVITE");
        }
        Self::with_method(request, &request.method.to_string())
    }

    /// The INVITE transaction that a CANCEL is about (§9.2).
    pub fn cancelled_by(request: &Request) -> Self {
        Self::with_method(request, "INVITE")
    }

    fn with_method(request: &Request, method: &str) -> Self {
        let sent_by = request.via.sent_by();
        let cookie = |branch: &&str| {
            let start = branch.get(..MAGIC_COOKIE.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(MAGIC_COOKIE))
                && branch.len() > MAGIC_COOKIE.len()
        };
        Self(match request.via.branch().filter(cookie) {
            Some(branch) => format!("{branch} {sent_by} {method}"),
            // A peer of RFC 2543: its branch, if any, may repeat.
            None => format!(
                "{} {} {} {sent_by} {method}",
                request.call_id,
                request.from_tag().unwrap_or_default(),
                request.cseq,
            ),
        })
    }
}

/// One request that is being, or was, processed.
#[derive(Debug)]
pub struct ServerTransaction {
    pub session: SessionKey,
    pub route: Route,
    is_invite: bool,
    state: State,
    /// The last response sent.
    response: Option<Vec<u8>>,
}

#[derive(Debug)]
enum State {
    /// The session has not answered yet.
    Proceeding,
    /// Answered with other than 2xx, or no INVITE. An INVITE's answer is repeated over UDP.
    Completed { repeat: Option<(Instant, Duration)>, until: Instant },
    /// The ACK for a non-2xx came; more of them may come.
    Confirmed { until: Instant },
    /// A 2xx to an INVITE, which the session itself repeats (RFC 6026 §7.1).
    Accepted { until: Instant },
}

/// What a transaction wants when its time has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    SendAgain,
    Forget,
}

impl ServerTransaction {
    pub fn new(request: &Request, session: SessionKey, route: Route) -> Self {
        let is_invite = request.is(rsip::Method::Invite);
        Self { session, route, is_invite, state: State::Proceeding, response: None }
    }

    /// Takes up a transaction of an earlier process that has been answered with 2xx.
    pub fn restored(
        now: Instant,
        session: SessionKey,
        route: Route,
        is_invite: bool,
        response: Vec<u8>,
    ) -> Self {
        let until = now + TRANSACTION_LIFETIME;
        let state = if is_invite {
            State::Accepted { until }
        } else {
            State::Completed { repeat: None, until }
        };
        Self { session, route, is_invite, state, response: Some(response) }
    }

    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Proceeding)
    }

    /// Notes a 100, to be repeated while the session makes up its mind.
    pub fn provisional(&mut self, response: Vec<u8>) {
        self.response = Some(response);
    }

    /// Notes the final response. `success` tells a 2xx.
    pub fn answered(&mut self, now: Instant, response: Vec<u8>, success: bool) {
        self.response = Some(response);
        let until = now + TRANSACTION_LIFETIME;
        self.state = match (self.is_invite, success) {
            (true, true) => State::Accepted { until },
            // Timer G, for UDP only, and H.
            (true, false) => {
                let repeat = (!self.route.is_reliable()).then_some((now + T1, T1));
                State::Completed { repeat, until }
            }
            // Timer J would be zero on TCP. A peer that was cut off may ask again over a new
            // connection, so there it is kept as well.
            (false, _) => State::Completed { repeat: None, until },
        };
    }

    /// The response to a retransmission of the request.
    pub fn retransmitted(&self) -> Option<&[u8]> {
        match self.state {
            State::Confirmed { .. } => None,
            _ => self.response.as_deref(),
        }
    }

    /// An ACK came for this INVITE; it concerns us unless the answer was 2xx.
    pub fn acknowledged(&mut self, now: Instant) {
        if matches!(self.state, State::Completed { .. }) && self.is_invite {
            let linger = if self.route.is_reliable() { Duration::ZERO } else { T4 };
            self.state = State::Confirmed { until: now + linger };
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Proceeding => None,
            State::Completed { repeat, until } => {
                Some(repeat.map_or(until, |(next, _)| next.min(until)))
            }
            State::Confirmed { until } | State::Accepted { until } => Some(until),
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Due {
        match &mut self.state {
            State::Proceeding => Due::Nothing,
            State::Completed { until, .. }
            | State::Confirmed { until }
            | State::Accepted { until }
                if now >= *until =>
            {
                Due::Forget
            }
            State::Completed { repeat: Some((next, interval)), .. } if now >= *next => {
                *interval = (*interval * 2).min(T2);
                *next = now + *interval;
                Due::SendAgain
            }
            _ => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;

    fn request(method: &str, branch: &str) -> Request {
        let text = format!(
            "{method} sip:x SIP/2.0\r\nVia: SIP/2.0/UDP Host{branch}\r\nFrom: <sip:a>;tag=1\r\n\
             To: <sip:b>\r\nCall-ID: i\r\nCSeq: 5 {method}\r\n\r\n"
        );
        Request::read(Message::from_datagram(text.as_bytes()).expect("SIP")).expect("usable")
    }

    fn udp() -> Route {
        let address = "192.0.2.1:5060".parse().expect("an address");
        Route::Datagram { local: address, peer: address }
    }

    #[test]
    fn an_ack_and_a_cancel_find_their_invite() {
        for branch in [";branch=z9hG4bK7", ";branch=1", ""] {
            let invite = TransactionKey::of(&request("INVITE", branch));
            assert_eq!(TransactionKey::of(&request("ACK", branch)), invite);
            assert_eq!(TransactionKey::cancelled_by(&request("CANCEL", branch)), invite);
            assert_ne!(TransactionKey::of(&request("CANCEL", branch)), invite);
        }
        let one = TransactionKey::of(&request("INVITE", ";branch=z9hG4bK7"));
        assert_ne!(one, TransactionKey::of(&request("INVITE", ";branch=z9hG4bK8")));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_refusal_is_repeated_over_udp_until_it_is_acknowledged() {
        let start = Instant::now();
        let mut transaction = ServerTransaction::new(&request("INVITE", ""), SessionKey(1), udp());
        assert!(transaction.is_waiting());
        transaction.answered(start, b"503".to_vec(), false);
        let first = transaction.poll_timeout().expect("timer G");
        assert_eq!(first - start, T1);
        assert_eq!(transaction.handle_timeout(first), Due::SendAgain);
        assert_eq!(transaction.poll_timeout(), Some(first + 2 * T1));
        assert_eq!(transaction.retransmitted(), Some(&b"503"[..]));
        transaction.acknowledged(first);
        assert_eq!(transaction.retransmitted(), None);
        assert_eq!(transaction.handle_timeout(first + T4), Due::Forget);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn an_accepted_invite_is_remembered_for_32_seconds() {
        let start = Instant::now();
        let route = Route::Stream(ConnId(1));
        let mut transaction = ServerTransaction::new(&request("INVITE", ""), SessionKey(1), route);
        transaction.answered(start, b"200".to_vec(), true);
        transaction.acknowledged(start);
        assert_eq!(transaction.retransmitted(), Some(&b"200"[..]));
        assert_eq!(transaction.handle_timeout(start + T1), Due::Nothing);
        assert_eq!(transaction.handle_timeout(start + TRANSACTION_LIFETIME), Due::Forget);
    }
}
