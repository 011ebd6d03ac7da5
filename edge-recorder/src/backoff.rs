//! How long to wait before trying again what another machine refused.
//!
//! Waits double up to a limit, and each is drawn from its upper half: recorders that lost the same
//! store at the same moment must not all come back at the same moment.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Backoff {
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { longest, next: first }
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.longest);
        // Without randomness the wait is the shortest it may be, which is still a wait.
        let share = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
        whole.mul_f64(0.5 + share / 2.0)
    }
}

#[test]
fn waits_double_to_a_limit_and_vary_by_half() {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
    for whole in [100, 200, 400, 800, 1_000, 1_000] {
        let wait = backoff.wait();
        assert!(wait >= Duration::from_millis(whole / 2), "{wait:?} of {whole} ms");
        assert!(wait <= Duration::from_millis(whole), "{wait:?} of {whole} ms");
    }
}
