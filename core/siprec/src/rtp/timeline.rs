//! Media time: RTP timestamps that never wrap, and where they lie on the clock of the recorder.
//!
//! A timestamp counts samples in 32 bits from a random start (RFC 3550 §5.1). At 48 kHz it wraps
//! in a day, and half of all streams start where a wrap is nearer than that. What it has in
//! common with our clock is only that both advance: [`Anchor`] fixes one to the other.

use std::time::Duration;

/// A timestamp plus the wraps counted so far, in ticks of the stream's clock rate.
///
/// Negative for media sampled before the first packet received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedTimestamp(pub i64);

/// Extends the timestamps of one SSRC.
#[derive(Clone, Debug, Default)]
pub struct TimestampUnwrapper {
    newest: Option<ExtendedTimestamp>,
}

impl TimestampUnwrapper {
    /// Extends `timestamp` to the value nearest the newest so far, earlier or later.
    pub fn extend(&mut self, timestamp: u32) -> ExtendedTimestamp {
        let extended = match self.newest {
            None => ExtendedTimestamp(i64::from(timestamp)),
            Some(ExtendedTimestamp(newest)) => {
                // Read as i32, the 32-bit difference is the short way round the circle.
                let distance = timestamp.wrapping_sub(newest as u32) as i32;
                ExtendedTimestamp(newest + i64::from(distance))
            }
        };
        self.newest = self.newest.max(Some(extended));
        extended
    }
}

/// Ties media time to the clock on which packets arrive: at timestamp zero of the stream, that
/// clock showed `zero_ns`.
///
/// A packet arrives when it was sampled plus the delay of the network, and a delay only ever
/// adds. So of all packets the one with the least delay tells the truth, and each later packet
/// can move the anchor to an earlier time but never to a later one. The difference between the
/// two clocks' rates is not this type's business: over the seconds in which an anchor is fixed
/// it is far below a millisecond.
#[derive(Clone, Debug)]
pub struct Anchor {
    clock_rate: u32,
    zero_ns: Option<i64>,
}

impl Anchor {
    /// `clock_rate` is that of the payload type; zero is taken for 8000.
    pub fn new(clock_rate: u32) -> Self {
        Self { clock_rate: if clock_rate == 0 { 8000 } else { clock_rate }, zero_ns: None }
    }

    /// Takes a packet into account.
    pub fn observe(&mut self, timestamp: ExtendedTimestamp, arrival_ns: i64) {
        let zero_ns = arrival_ns.saturating_sub(self.ticks_to_ns(timestamp));
        self.zero_ns = Some(self.zero_ns.map_or(zero_ns, |known| known.min(zero_ns)));
    }

    /// When this timestamp would have arrived with the least delay seen; `None` before the first
    /// packet.
    pub fn ideal_arrival_ns(&self, timestamp: ExtendedTimestamp) -> Option<i64> {
        Some(self.zero_ns?.saturating_add(self.ticks_to_ns(timestamp)))
    }

    /// How much later than the fastest packet this one came.
    pub fn delay(&self, timestamp: ExtendedTimestamp, arrival_ns: i64) -> Option<Duration> {
        let late_ns = arrival_ns.saturating_sub(self.ideal_arrival_ns(timestamp)?);
        Some(Duration::from_nanos(u64::try_from(late_ns).unwrap_or(0)))
    }

    fn ticks_to_ns(&self, ExtendedTimestamp(ticks): ExtendedTimestamp) -> i64 {
        let ns = i128::from(ticks) * 1_000_000_000 / i128::from(self.clock_rate);
        // Only a stream that runs for centuries gets here.
        i64::try_from(ns).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_and_a_late_packet_around_it_are_told_apart() {
        let mut unwrapper = TimestampUnwrapper::default();
        let start = i64::from(u32::MAX) - 79;
        assert_eq!(unwrapper.extend(u32::MAX - 79), ExtendedTimestamp(start));
        assert_eq!(unwrapper.extend(80), ExtendedTimestamp(start + 160));
        assert_eq!(unwrapper.extend(u32::MAX - 239), ExtendedTimestamp(start - 160));
        assert_eq!(unwrapper.extend(240), ExtendedTimestamp(start + 320));
    }

    #[test]
    fn the_fastest_packet_fixes_the_anchor() {
        let mut anchor = Anchor::new(8000);
        assert_eq!(anchor.ideal_arrival_ns(ExtendedTimestamp(0)), None);
        // Sampled 20 ms apart; the network took 30, 10 and 25 ms.
        for (packet, network_ms) in [(0, 30), (1, 10), (2, 25)] {
            anchor.observe(ExtendedTimestamp(packet * 160), (packet * 20 + network_ms) * 1_000_000);
        }
        assert_eq!(anchor.ideal_arrival_ns(ExtendedTimestamp(0)), Some(10_000_000));
        assert_eq!(
            anchor.delay(ExtendedTimestamp(320), 65_000_000),
            Some(Duration::from_millis(15))
        );
    }

    #[test]
    fn a_clock_rate_of_zero_and_extreme_times_do_no_harm() {
        let mut anchor = Anchor::new(0);
        anchor.observe(ExtendedTimestamp(i64::MAX), i64::MIN);
        anchor.observe(ExtendedTimestamp(i64::MIN), i64::MAX);
        assert!(anchor.ideal_arrival_ns(ExtendedTimestamp(i64::MAX)).is_some());
        assert_eq!(anchor.delay(ExtendedTimestamp(i64::MAX), i64::MIN), Some(Duration::ZERO));
    }
}
