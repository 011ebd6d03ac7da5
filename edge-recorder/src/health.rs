//! Whether this recorder can take a call: one answer for OPTIONS, INVITE and `/healthz`.
//!
//! An SRC finds out by OPTIONS that it should go elsewhere, a load balancer by `/healthz`. Both
//! must agree, so the recording half decides and everybody else reads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::journal::CannotAccept;

/// Why no new call is taken. Calls in progress go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unable {
    #[error("starting")]
    Starting,
    #[error("draining: no new calls, exits when the last one has ended")]
    Draining,
    #[error("stopping at once: the next start goes on with the calls in progress")]
    Stopping,
    /// Without the key nothing can be sealed, and nothing is written unsealed.
    #[error(
        "the public key of tenant {tenant} is not known: policy/snapshot.json in the object store must name it"
    )]
    NoTenantKey { tenant: model::TenantId },
    #[error("{0}")]
    Journal(#[from] CannotAccept),
}

/// Clones share one answer.
#[derive(Clone, Debug)]
pub struct Health {
    unable: Arc<watch::Sender<Option<Unable>>>,
    /// When the recording half said so last.
    told: Arc<Mutex<Instant>>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            unable: Arc::new(watch::Sender::new(Some(Unable::Starting))),
            told: Arc::new(Mutex::new(Instant::now())),
        }
    }
}

impl Health {
    /// `None`: calls can be recorded.
    pub fn unable(&self) -> Option<Unable> {
        self.unable.borrow().clone()
    }

    /// How long ago the recording half looked after itself, which it does several times a second.
    pub fn silent_for(&self) -> Duration {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// As if that had been so much longer ago.
    #[cfg(test)]
    pub fn backdate(&self, by: Duration) {
        *self.told.lock().unwrap() -= by;
    }

    /// Returns whether this is news.
    pub fn set(&self, unable: Option<Unable>) -> bool {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.unable.send_if_modified(|held| {
            // How many bytes are free changes all the time and is not news.
            let news = match (&*held, &unable) {
                (Some(held), Some(unable)) => {
                    std::mem::discriminant(held) != std::mem::discriminant(unable)
                }
                (held, unable) => held.is_some() != unable.is_some(),
            };
            *held = unable;
            news
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorder_is_unable_until_it_has_started() {
        let health = Health::default();
        assert_eq!(health.unable(), Some(Unable::Starting));
        assert!(health.set(None));
        assert_eq!(health.unable(), None);
    }

    #[test]
    fn a_number_that_changes_is_not_news_but_is_told() {
        let full = |free_bytes| {
            Some(Unable::Journal(CannotAccept::DiskFull { free_bytes, min_free_bytes: 10 }))
        };
        let health = Health::default();
        assert!(health.set(full(5)));
        assert!(!health.set(full(4)));
        assert!(health.unable().unwrap().to_string().contains(" 4 bytes free"));
        assert!(health.set(None));
    }
}
