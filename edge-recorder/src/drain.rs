//! How a recorder is told to stop, and by whom.
//!
//! A signal, the admin port and a command can all ask; the stronger wish wins and none is ever
//! taken back. SIGTERM and `POST /drain` drain: new calls are refused with 503, and the process
//! exits when the last call has ended, or at a deadline. SIGINT stops at once. Calls that are in
//! progress at that moment, or at the deadline, are resumed by the next start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// What was asked for so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    #[default]
    GoOn,
    /// Exit when the last call has ended, at the latest at `until`.
    Drain { until: Instant },
    /// Sync and exit.
    Now,
}

/// Clones share one wish.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    wish: Arc<watch::Sender<Wish>>,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// A second drain changes nothing: the first deadline was promised to somebody.
    pub fn drain(&self, deadline: Duration) {
        let until = Instant::now() + deadline;
        self.raise(|wish| *wish == Wish::GoOn, Wish::Drain { until });
    }

    pub fn now(&self) {
        self.raise(|wish| *wish != Wish::Now, Wish::Now);
    }

    pub fn wish(&self) -> Wish {
        *self.wish.borrow()
    }

    /// Returns once somebody has asked for anything.
    pub async fn asked(&self) {
        // The sender lives as long as `self`.
        let _ = self.wish.subscribe().wait_for(|wish| *wish != Wish::GoOn).await;
    }

    /// Returns once somebody has asked to stop at once.
    pub async fn asked_now(&self) {
        let _ = self.wish.subscribe().wait_for(|wish| *wish == Wish::Now).await;
    }

    fn raise(&self, from: impl FnOnce(&Wish) -> bool, to: Wish) {
        self.wish.send_if_modified(|wish| {
            let change = from(wish);
            if change {
                *wish = to;
                tracing::info!(wish = ?to, "asked to stop");
            }
            change
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_drain_keeps_the_first_deadline() {
        let shutdown = Shutdown::new();
        shutdown.drain(Duration::from_secs(60));
        let first = shutdown.wish();
        shutdown.clone().drain(Duration::from_secs(1));
        assert_eq!(shutdown.wish(), first);
    }

    #[test]
    fn stopping_at_once_beats_draining_and_is_final() {
        let shutdown = Shutdown::new();
        shutdown.drain(Duration::from_secs(60));
        shutdown.now();
        shutdown.drain(Duration::from_secs(60));
        assert_eq!(shutdown.wish(), Wish::Now);
    }

    #[tokio::test]
    async fn whoever_waits_is_told() {
        let shutdown = Shutdown::new();
        let waiting = shutdown.clone();
        let waiter = tokio::spawn(async move { waiting.asked().await });
        shutdown.drain(Duration::ZERO);
        waiter.await.unwrap();
    }
}
