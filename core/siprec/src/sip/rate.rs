//! A bucket of tokens: so many a second, and a burst.

use std::time::Instant;

/// What is left of an allowance.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(now: Instant, burst: u32) -> Self {
        Self { tokens: f64::from(burst), filled: now }
    }

    /// Takes one token, if there is one.
    pub fn take(&mut self, now: Instant, per_sec: u32, burst: u32) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + passed * f64::from(per_sec)).min(f64::from(burst));
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn a_burst_is_followed_by_the_rate() {
    use std::time::Duration;
    let start = Instant::now();
    let mut bucket = Bucket::new(start, 4);
    let mut taken = |at| (0..10).filter(|_| bucket.take(start + at, 2, 4)).count();
    assert_eq!(taken(Duration::ZERO), 4);
    assert_eq!(taken(Duration::from_millis(999)), 1);
    assert_eq!(taken(Duration::from_secs(1)), 1);
    assert_eq!(taken(Duration::from_secs(60)), 4, "no more than a burst");
}
