//! What was received of one source, as a receiver report tells it (RFC 3550 §6.4.1, appendices A.3
//! and A.8).

use super::rtcp::ReportBlock;
use super::{RtpHeader, SequenceUnwrapper};

/// A greater step than this is a sender that began anew (appendix A.1, `MAX_DROPOUT`): a minute.
const MAX_DROPOUT: u16 = 3_000;

/// Counts the packets of one SSRC.
#[derive(Clone, Debug)]
pub struct Reception {
    ssrc: u32,
    unwrapper: SequenceUnwrapper,
    first: i64,
    newest: i64,
    received: u64,
    /// Times 16, so that the estimate needs no fractions.
    jitter: u32,
    /// Arrival minus timestamp of the packet before, in ticks.
    transit: Option<u32>,
    /// Middle of the NTP time of the newest sender report, and when it came.
    last_report: Option<(u32, u64)>,
    /// Expected and received when the last report block was made.
    told: (u64, u64),
    heard: bool,
}

impl Reception {
    /// Of the source of `header`, which is still to be counted.
    pub fn new(header: &RtpHeader<'_>) -> Self {
        let sequence = i64::from(header.sequence);
        Self {
            ssrc: header.ssrc,
            unwrapper: SequenceUnwrapper::default(),
            first: sequence,
            newest: sequence,
            received: 0,
            jitter: 0,
            transit: None,
            last_report: None,
            told: (0, 0),
            heard: false,
        }
    }

    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Takes a packet that came at `arrival_ns`. `clock_rate` is that of its payload type; zero
    /// where its timestamps are no measure, as for telephone events (RFC 4733 §2.5.1.2).
    pub fn count(&mut self, header: &RtpHeader<'_>, clock_rate: u32, arrival_ns: u64) {
        let step = header.sequence.wrapping_sub(self.newest as u16) as i16;
        if self.received > 0 && step.unsigned_abs() > MAX_DROPOUT {
            *self = Self { last_report: self.last_report, ..Self::new(header) };
        }
        let extended = self.unwrapper.extend(header.sequence).0;
        self.first = self.first.min(extended);
        self.newest = self.newest.max(extended);
        self.received += 1;
        self.heard = true;
        if clock_rate == 0 {
            return;
        }
        // In microseconds first: nanoseconds times the clock rate are too many after days.
        let ticks = (arrival_ns / 1_000).wrapping_mul(u64::from(clock_rate)) / 1_000_000;
        let transit = (ticks as u32).wrapping_sub(header.timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let difference = (transit.wrapping_sub(before) as i32).unsigned_abs();
            let decayed = self.jitter - (self.jitter.saturating_add(8) >> 4);
            self.jitter = decayed.saturating_add(difference);
        }
    }

    /// Takes a sender report of this source.
    pub fn sender_report(&mut self, compact_ntp: u32, arrival_ns: u64) {
        self.last_report = Some((compact_ntp, arrival_ns));
    }

    /// Packets from the first to the newest one, and how many of them came. Repeated ones count.
    fn expected_and_received(&self) -> (u64, u64) {
        if self.received == 0 {
            return (0, 0);
        }
        (u64::try_from(self.newest - self.first + 1).unwrap_or(0), self.received)
    }

    /// Packets that have not come so far.
    pub fn lost(&self) -> u64 {
        let (expected, received) = self.expected_and_received();
        expected.saturating_sub(received)
    }

    /// The block for the next report; `None` when nothing was heard since the one before.
    pub fn report(&mut self, now_ns: u64) -> Option<ReportBlock> {
        if !std::mem::take(&mut self.heard) {
            return None;
        }
        let (expected, received) = self.expected_and_received();
        let (told_expected, told_received) =
            std::mem::replace(&mut self.told, (expected, received));
        let expected_since = expected.saturating_sub(told_expected);
        let lost_since = expected_since.saturating_sub(received.saturating_sub(told_received));
        let fraction = (lost_since << 8).checked_div(expected_since).unwrap_or(0);
        let (last_sr, delay) = self.last_report.map_or((0, 0), |(ntp, at_ns)| {
            let since_ns = u128::from(now_ns.saturating_sub(at_ns));
            (ntp, u32::try_from((since_ns << 16) / 1_000_000_000).unwrap_or(u32::MAX))
        });
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            cumulative_lost: i32::try_from(expected as i64 - received as i64).unwrap_or(i32::MAX),
            // What the wire has room for: 16 bits of wraps and the number itself.
            extended_highest_sequence: self.newest as u32,
            interarrival_jitter: self.jitter >> 4,
            last_sr,
            delay_since_last_sr: delay,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn count(reception: &mut Option<Reception>, sequence: u16, timestamp: u32, at_ms: u64) {
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend([0, 0, 0, 7]);
        let header = RtpHeader::parse(&packet).unwrap();
        let reception = reception.get_or_insert_with(|| Reception::new(&header));
        reception.count(&header, 8000, at_ms * MS);
    }

    #[test]
    fn a_steady_stream_has_no_loss_and_no_jitter() {
        let mut reception = None;
        for n in 0..100_u16 {
            count(&mut reception, n.wrapping_sub(10), u32::from(n) * 160, u64::from(n) * 20);
        }
        let mut reception = reception.unwrap();
        let block = reception.report(2_000 * MS).unwrap();
        assert_eq!((block.ssrc, block.fraction_lost, block.cumulative_lost), (7, 0, 0));
        assert_eq!(block.extended_highest_sequence, 0x1_0000 + 89);
        assert_eq!((block.interarrival_jitter, block.last_sr), (0, 0));
        assert_eq!(reception.report(2_000 * MS), None, "nothing was heard since");
    }

    #[test]
    fn loss_is_told_as_a_fraction_since_the_last_report_and_as_a_sum() {
        let mut reception = None;
        for n in (0..100_u16).filter(|n| n % 4 != 1) {
            count(&mut reception, n, u32::from(n) * 160, u64::from(n) * 20);
        }
        let first = reception.as_mut().unwrap().report(0).unwrap();
        assert_eq!((first.fraction_lost, first.cumulative_lost), (64, 25));
        for n in 100..200_u16 {
            count(&mut reception, n, u32::from(n) * 160, u64::from(n) * 20);
        }
        // Late, and twice.
        count(&mut reception, 97, 0, 4_000);
        count(&mut reception, 97, 0, 4_000);
        let mut reception = reception.unwrap();
        let second = reception.report(0).unwrap();
        assert_eq!((second.fraction_lost, second.cumulative_lost, reception.lost()), (0, 23, 23));
    }

    #[test]
    fn jitter_is_the_mean_deviation_of_appendix_a_8() {
        let mut reception = None;
        // Every other packet is 10 ms late: the difference is 80 ticks each time.
        for n in 0..2_000_u16 {
            let late_ms = if n % 2 == 0 { 0 } else { 10 };
            count(&mut reception, n, u32::from(n) * 160, u64::from(n) * 20 + late_ms);
        }
        let jitter = reception.unwrap().report(0).unwrap().interarrival_jitter;
        assert!((79..=81).contains(&jitter), "{jitter}");
    }

    #[test]
    fn a_sender_report_is_echoed_with_the_time_since() {
        let mut reception = None;
        count(&mut reception, 1, 0, 0);
        let mut reception = reception.unwrap();
        reception.sender_report(0x1234_5678, 1_000 * MS);
        let block = reception.report(2_500 * MS).unwrap();
        assert_eq!((block.last_sr, block.delay_since_last_sr), (0x1234_5678, 0x1_8000));
    }

    #[test]
    fn a_sender_that_begins_anew_has_lost_nothing() {
        let mut reception = None;
        count(&mut reception, 10, 0, 0);
        count(&mut reception, 30_000, 0, 20);
        count(&mut reception, 30_001, 160, 40);
        let mut reception = reception.unwrap();
        assert_eq!(reception.lost(), 0);
        let block = reception.report(0).unwrap();
        assert_eq!((block.cumulative_lost, block.extended_highest_sequence), (0, 30_001));
    }
}
