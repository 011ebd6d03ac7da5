//! How much of a stream came (RFC 3550 §6.4.1 and appendix A.3).

use serde::Serialize;

/// Counts of one stream. `expected` is never below `received`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// From the first to the last sequence number.
    pub expected: u64,
    /// Different packets that came.
    pub received: u64,
    pub lost: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Greatest interarrival jitter (RFC 3550 §6.4.1).
    pub jitter_max_ms: f64,
    /// Changes of SSRC, or of its numbering.
    pub restarts: u64,
    /// Datagrams on the RTP port that are not RTP.
    pub not_rtp: u64,
}

/// The running estimate of interarrival jitter (RFC 3550 appendix A.8), in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Jitter {
    transit_ns: Option<i64>,
    estimate_ns: f64,
    max_ns: f64,
}

impl Jitter {
    /// `transit_ns`: arrival minus media time, by clocks that need not agree.
    pub fn observe(&mut self, transit_ns: i64) {
        if let Some(before) = self.transit_ns {
            let change = transit_ns.abs_diff(before) as f64;
            self.estimate_ns += (change - self.estimate_ns) / 16.0;
            self.max_ns = self.max_ns.max(self.estimate_ns);
        }
        self.transit_ns = Some(transit_ns);
    }

    pub fn max_ms(&self) -> f64 {
        self.max_ns / 1e6
    }
}

#[test]
fn jitter_settles_at_the_mean_change() {
    let mut jitter = Jitter::default();
    for packet in 0..1_000 {
        jitter.observe(if packet % 2 == 0 { 0 } else { 5_000_000 });
    }
    assert!((jitter.max_ms() - 5.0).abs() < 0.01, "{}", jitter.max_ms());
}
