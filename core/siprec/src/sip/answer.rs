//! Repeats our 200 OK until the SRC acknowledges it (RFC 3261 §13.3.1.4).
//!
//! A 2xx ends the INVITE transaction, so the transaction layer no longer covers for a lost
//! packet; we must, on TCP too: a proxy in between may speak UDP on its other side.

use std::time::{Duration, Instant};

use super::{T1, T2, TRANSACTION_LIFETIME};

/// A 200 OK that has been sent and not yet acknowledged. Drop it when the ACK arrives.
#[derive(Debug)]
pub struct UnackedAnswer {
    next_send: Instant,
    interval: Duration,
    give_up: Instant,
}

/// What to do with an answer that nobody acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    SendAgain,
    GiveUp,
}

impl UnackedAnswer {
    pub fn sent(now: Instant) -> Self {
        Self { next_send: now + T1, interval: T1, give_up: now + TRANSACTION_LIFETIME }
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Instant {
        self.next_send.min(self.give_up)
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Option<Action> {
        if now >= self.give_up {
            return Some(Action::GiveUp);
        }
        if now < self.next_send {
            return None;
        }
        self.interval = (self.interval * 2).min(T2);
        self.next_send = now + self.interval;
        Some(Action::SendAgain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn an_answer_is_repeated_ever_more_slowly_and_given_up_after_32_seconds() {
        let start = Instant::now();
        let mut answer = UnackedAnswer::sent(start);
        let mut sent_at_ms = Vec::new();
        let given_up_at = loop {
            let at = answer.poll_timeout();
            match answer.handle_timeout(at) {
                Some(Action::SendAgain) => sent_at_ms.push((at - start).as_millis()),
                Some(Action::GiveUp) => break at,
                None => panic!("nothing to do at its own deadline"),
            }
        };
        assert_eq!(sent_at_ms[..6], [500, 1500, 3500, 7500, 11_500, 15_500]);
        assert_eq!(sent_at_ms.len(), 10);
        assert_eq!(given_up_at - start, Duration::from_secs(32));
    }
}
