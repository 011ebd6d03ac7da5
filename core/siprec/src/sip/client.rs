//! Requests of our own in a dialog (RFC 3261 §17.1.2): BYE, OPTIONS, UPDATE. Never INVITE.

use std::time::{Duration, Instant};

use super::transaction::Route;
use super::{T1, T2, TRANSACTION_LIFETIME};
use crate::event::SessionKey;

/// What a request was sent for, which decides what its response means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The session is already over for us.
    Bye,
    /// To hear whether the SRC still knows the dialog.
    Probe,
    /// To extend the session timer.
    Refresh,
    /// To get complete metadata; the session goes on whatever the answer is.
    Snapshot,
}

/// A request that waits for its final response.
#[derive(Debug)]
pub struct ClientTransaction {
    pub session: SessionKey,
    pub purpose: Purpose,
    pub route: Route,
    pub bytes: Vec<u8>,
    /// Timer E: when to send again, over UDP.
    repeat: Option<(Instant, Duration)>,
    /// Timer F.
    give_up: Instant,
}

/// What a transaction wants when its time has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    SendAgain,
    /// Nobody answered: as good as a 408 (§8.1.3.1).
    TimedOut,
}

impl ClientTransaction {
    pub fn sent(
        now: Instant,
        session: SessionKey,
        purpose: Purpose,
        route: Route,
        bytes: Vec<u8>,
    ) -> Self {
        let repeat = (!route.is_reliable()).then_some((now + T1, T1));
        Self { session, purpose, route, bytes, repeat, give_up: now + TRANSACTION_LIFETIME }
    }

    /// The peer is working on it: repeat at the slowest pace (§17.1.2.2).
    pub fn provisional(&mut self) {
        if let Some((_, interval)) = &mut self.repeat {
            *interval = T2;
        }
    }

    pub fn poll_timeout(&self) -> Instant {
        self.repeat.map_or(self.give_up, |(next, _)| next.min(self.give_up))
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Due {
        if now >= self.give_up {
            return Due::TimedOut;
        }
        match &mut self.repeat {
            Some((next, interval)) if now >= *next => {
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
    use super::*;
    use crate::event::ConnId;

    fn times_sent(start: Instant, route: Route) -> usize {
        let mut transaction =
            ClientTransaction::sent(start, SessionKey(1), Purpose::Bye, route, Vec::new());
        let mut times = 1;
        loop {
            let at = transaction.poll_timeout();
            match transaction.handle_timeout(at) {
                Due::SendAgain => times += 1,
                Due::TimedOut => {
                    assert_eq!(at - start, TRANSACTION_LIFETIME);
                    return times;
                }
                Due::Nothing => panic!("nothing to do at its own deadline"),
            }
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_request_is_repeated_over_udp_only() {
        let start = Instant::now();
        let address = "192.0.2.1:5060".parse().expect("an address");
        assert_eq!(times_sent(start, Route::Datagram { local: address, peer: address }), 11);
        assert_eq!(times_sent(start, Route::Stream(ConnId(1))), 1);
    }
}
