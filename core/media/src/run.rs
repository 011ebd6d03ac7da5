//! One sender's unbroken numbering: the packets of one SSRC between two resets.
//!
//! A run ends where the numbering starts again (a new SSRC, or a jump that no loss explains) and
//! where timestamp and arrival part ways, as they do when a sender stops its clock during hold.
//! What follows is a run of its own, laid where it arrived.
//!
//! Here is only what decides to which run a packet belongs. It is small and can be cloned, so that
//! a call can be read again from the middle with the same result.

use siprec::rtp::{
    ExtendedSeq, ExtendedTimestamp, RtpHeader, SequenceUnwrapper, TimestampUnwrapper,
};

use crate::clock::AxisNs;

/// RFC 3550 appendix A.1 takes a jump of 3,000 packets, a minute, for a restart of the sender.
const MAX_SEQUENCE_JUMP: u16 = 3_000;
/// No packet can be earlier than the fastest one by this much, unless its timestamp jumped.
const MAX_EARLY_NS: i64 = 100_000_000;
/// Nor later: the sender's clock fell behind, or stood still.
pub(crate) const MAX_LATE_NS: i64 = 1_000_000_000;
/// After a pause this long, timestamps must have advanced with the clock to within
/// [`MAX_EARLY_NS`].
const PAUSE_NS: i64 = 200_000_000;

/// The most by which clocks are taken to run apart, in nanoseconds a second: an order more than
/// the crystals of telephones do.
pub(crate) const MAX_DRIFT_NS_PER_SECOND: i64 = 250_000;

/// Ticks of a clock as nanoseconds.
pub(crate) fn ticks_to_ns(ticks: i64, clock_rate: u32) -> i64 {
    // Timestamps are 32 bits and a wrap a day at most: nowhere near 128 bits.
    let ns = i128::from(ticks) * 1_000_000_000 / i128::from(clock_rate.max(1));
    i64::try_from(ns).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
}

/// What is known of a run while its packets come.
#[derive(Clone, Debug)]
pub(crate) struct RunHead {
    pub ssrc: u32,
    pub clock_rate: u32,
    sequences: SequenceUnwrapper,
    timestamps: TimestampUnwrapper,
    newest: Option<Newest>,
    /// Least of arrival minus media time, give or take [`MAX_DRIFT_NS_PER_SECOND`].
    fastest: Option<(i64, AxisNs)>,
}

/// Where a run took over from another one of its SSRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Before {
    /// Packets missing between the two.
    pub lost: u64,
    /// When the newest packet of the run before came.
    pub since: AxisNs,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    sequence: i64,
    timestamp: i64,
    arrival: AxisNs,
}

/// A packet's place in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub sequence: i64,
    pub timestamp: i64,
    /// Arrival minus media time.
    pub transit_ns: i64,
    /// It came after a later one.
    pub overtaken: bool,
}

impl RunHead {
    pub fn new(ssrc: u32, clock_rate: u32) -> Self {
        Self {
            ssrc,
            clock_rate,
            sequences: SequenceUnwrapper::default(),
            timestamps: TimestampUnwrapper::default(),
            newest: None,
            fastest: None,
        }
    }

    /// Whether a packet of this SSRC belongs to this run, or begins another.
    pub fn continues(&self, header: &RtpHeader<'_>, clock_rate: u32, arrival: AxisNs) -> bool {
        let (Some(newest), Some((fastest, since))) = (self.newest, self.fastest) else {
            return clock_rate == self.clock_rate;
        };
        let jump = header.sequence.wrapping_sub(newest.sequence as u16) as i16;
        let ticks = header.timestamp.wrapping_sub(newest.timestamp as u32) as i32;
        let media_ns = self.ns(i64::from(ticks));
        let passed_ns = arrival.saturating_sub(newest.arrival);
        let transit = arrival.saturating_sub(self.ns(newest.timestamp + i64::from(ticks)));
        let delay = transit.saturating_sub(fastest).saturating_sub(drift_ns(since, arrival));
        let stopped = passed_ns > PAUSE_NS
            && passed_ns.saturating_sub(media_ns).unsigned_abs() > MAX_EARLY_NS as u64;
        // A small step back beside a large one forward in time: the numbers wrapped unheard.
        let wrapped = jump < 0 && media_ns > MAX_LATE_NS;
        clock_rate == self.clock_rate
            && jump.unsigned_abs() <= MAX_SEQUENCE_JUMP
            && !wrapped
            && (-MAX_EARLY_NS..=MAX_LATE_NS).contains(&delay)
            && !stopped
    }

    /// What is missing between this run and one that begins with `header`.
    pub fn before(&self, header: &RtpHeader<'_>) -> Option<Before> {
        let newest = self.newest?;
        let step = header.sequence.wrapping_sub(newest.sequence as u16);
        let lost = if (1..=MAX_SEQUENCE_JUMP).contains(&step) { u64::from(step - 1) } else { 0 };
        Some(Before { lost, since: newest.arrival })
    }

    pub fn push(&mut self, header: &RtpHeader<'_>, arrival: AxisNs) -> Place {
        let ExtendedSeq(sequence) = self.sequences.extend(header.sequence);
        let ExtendedTimestamp(timestamp) = self.timestamps.extend(header.timestamp);
        let transit_ns = arrival.saturating_sub(self.ns(timestamp));
        let is_faster = self.fastest.is_none_or(|(fastest, since)| {
            transit_ns <= fastest.saturating_add(drift_ns(since, arrival))
        });
        if is_faster {
            self.fastest = Some((transit_ns, arrival));
        }
        let overtaken = self.newest.is_some_and(|newest| sequence < newest.sequence);
        if self.newest.is_none_or(|newest| sequence > newest.sequence) {
            self.newest = Some(Newest { sequence, timestamp, arrival });
        }
        Place { sequence, timestamp, transit_ns, overtaken }
    }

    /// The number that never wraps of a timestamp near the newest one.
    pub fn extend_timestamp(&self, timestamp: u32) -> Option<i64> {
        let newest = self.newest?.timestamp;
        let ticks = timestamp.wrapping_sub(newest as u32) as i32;
        Some(newest + i64::from(ticks))
    }

    pub fn ns(&self, ticks: i64) -> i64 {
        ticks_to_ns(ticks, self.clock_rate)
    }
}

fn drift_ns(since: AxisNs, until: AxisNs) -> i64 {
    let passed_ms = until.saturating_sub(since).max(0) / 1_000_000;
    passed_ms.saturating_mul(MAX_DRIFT_NS_PER_SECOND / 1_000)
}
