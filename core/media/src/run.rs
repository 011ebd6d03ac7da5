//! One sender's unbroken numbering: the packets of one SSRC between two resets, put in order and
//! laid onto call time.
//!
//! - Where a run lies is fixed by its packet with the least delay: a network only ever adds delay,
//!   so that packet tells the truth about all of them. Within the run the RTP timestamps decide,
//!   to the sample.
//! - A run ends where the numbering starts again (a new SSRC, or a jump that no loss explains) and
//!   where timestamp and arrival part ways, as they do when a sender stops its clock during hold.
//!   What follows is a run of its own, laid where it arrived.

use siprec::rtp::{
    ExtendedSeq, ExtendedTimestamp, RtpHeader, SequenceUnwrapper, TimestampUnwrapper,
};

use crate::clock::AxisNs;
use crate::codec::Codec;
use crate::quality::Jitter;

/// RFC 3550 appendix A.1 takes a jump of 3,000 packets, a minute, for a restart of the sender.
const MAX_SEQUENCE_JUMP: u16 = 3_000;
/// No packet can be earlier than the fastest one by this much, unless its timestamp jumped.
const MAX_EARLY_NS: i64 = 100_000_000;
/// Nor later: the sender's clock fell behind, or stood still.
const MAX_LATE_NS: i64 = 1_000_000_000;
/// After a pause this long, timestamps must have advanced with the clock to within
/// [`MAX_EARLY_NS`].
const PAUSE_NS: i64 = 200_000_000;
/// How long a packet is whose length does not tell.
const USUAL_PACKET_NS: i64 = 20_000_000;

/// A packet, without its header.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub sequence: i64,
    pub timestamp: i64,
    pub codec: Codec,
    payload: std::ops::Range<usize>,
}

#[derive(Debug)]
pub(crate) struct Run {
    ssrc: u32,
    clock_rate: u32,
    sequences: SequenceUnwrapper,
    timestamps: TimestampUnwrapper,
    newest: Newest,
    /// Least of arrival minus media time: where media time zero lies on the axis.
    anchor_ns: i64,
    pub entries: Vec<Entry>,
    payloads: Vec<u8>,
    pub jitter: Jitter,
    pub reordered: u64,
    pub duplicates: u64,
    /// Packets missing between the run of this SSRC before and this one.
    pub lost_before: u64,
    /// When the newest packet of the run before came.
    lost_since: AxisNs,
}

/// Packets that did not come, and the time in which they would have been heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub from: AxisNs,
    pub to: AxisNs,
    pub packets: u64,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    sequence: i64,
    timestamp: i64,
    arrival: AxisNs,
}

impl Run {
    /// `before`: the run of the same SSRC, which this one goes on from.
    pub fn new(
        header: &RtpHeader<'_>,
        clock_rate: u32,
        arrival: AxisNs,
        before: Option<&Run>,
    ) -> Self {
        let lost_before = before.map_or(0, |before| {
            let step = header.sequence.wrapping_sub(before.newest.sequence as u16);
            if (1..=MAX_SEQUENCE_JUMP).contains(&step) { u64::from(step - 1) } else { 0 }
        });
        let newest = Newest {
            sequence: i64::from(header.sequence),
            timestamp: i64::from(header.timestamp),
            arrival,
        };
        Self {
            ssrc: header.ssrc,
            clock_rate,
            sequences: SequenceUnwrapper::default(),
            timestamps: TimestampUnwrapper::default(),
            newest,
            anchor_ns: i64::MAX,
            entries: Vec::new(),
            payloads: Vec::new(),
            jitter: Jitter::default(),
            reordered: 0,
            duplicates: 0,
            lost_before,
            lost_since: before.map_or(arrival, |before| before.newest.arrival),
        }
    }

    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Whether a packet of this SSRC belongs to this run, or begins another.
    pub fn continues(&self, header: &RtpHeader<'_>, clock_rate: u32, arrival: AxisNs) -> bool {
        let jump = header.sequence.wrapping_sub(self.newest.sequence as u16) as i16;
        let ticks = header.timestamp.wrapping_sub(self.newest.timestamp as u32) as i32;
        let media_ns = self.ns(i64::from(ticks));
        let passed_ns = arrival.saturating_sub(self.newest.arrival);
        let transit = arrival.saturating_sub(self.ns(self.newest.timestamp + i64::from(ticks)));
        let delay = transit.saturating_sub(self.anchor_ns);
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

    pub fn push(&mut self, header: &RtpHeader<'_>, codec: Codec, arrival: AxisNs) {
        let ExtendedSeq(sequence) = self.sequences.extend(header.sequence);
        let ExtendedTimestamp(timestamp) = self.timestamps.extend(header.timestamp);
        let transit = arrival.saturating_sub(self.ns(timestamp));
        self.anchor_ns = self.anchor_ns.min(transit);
        if sequence < self.newest.sequence {
            self.reordered += 1;
        } else if sequence > self.newest.sequence || self.entries.is_empty() {
            self.newest = Newest { sequence, timestamp, arrival };
        }
        // Events repeat the timestamp at which they began (RFC 4733 §2.5.1.2): no measure of jitter.
        if codec != Codec::TelephoneEvent {
            self.jitter.observe(transit);
        }
        let start = self.payloads.len();
        self.payloads.extend_from_slice(header.payload);
        let payload = start..self.payloads.len();
        self.entries.push(Entry { sequence, timestamp, codec, payload });
    }

    /// Puts the packets into the order in which they were sent, each of them once.
    pub fn settle(&mut self) {
        // Stable: of two packets with one number the first that came stays.
        self.entries.sort_by_key(|entry| entry.sequence);
        let came = self.entries.len();
        self.entries.dedup_by_key(|entry| entry.sequence);
        self.duplicates = (came - self.entries.len()) as u64;
    }

    pub fn payload(&self, entry: &Entry) -> &[u8] {
        self.payloads.get(entry.payload.clone()).unwrap_or_default()
    }

    /// Where numbers are missing, also before the first packet; after [`Self::settle`].
    pub fn holes(&self) -> impl Iterator<Item = Hole> {
        let first = self.entries.first().filter(|_| self.lost_before > 0).map(|first| Hole {
            from: self.lost_since,
            to: self.axis_of(first.timestamp),
            packets: self.lost_before,
        });
        let within = self.entries.windows(2).filter_map(|pair| {
            let [before, after] = pair else { return None };
            let packets = (after.sequence - before.sequence).unsigned_abs().saturating_sub(1);
            let from = self.axis_of(before.timestamp.saturating_add(self.ticks(before)));
            (packets > 0).then(|| Hole { from, to: self.axis_of(after.timestamp), packets })
        });
        first.into_iter().chain(within)
    }

    /// Where the media of a timestamp lies on the axis.
    pub fn axis_of(&self, timestamp: i64) -> AxisNs {
        self.anchor_ns.saturating_add(self.ns(timestamp))
    }

    /// First and last moment of the media, after [`Self::settle`].
    pub fn extent(&self) -> Option<(AxisNs, AxisNs)> {
        let first = self.entries.iter().map(|entry| entry.timestamp).min()?;
        let last =
            self.entries.iter().map(|entry| self.axis_of(entry.timestamp + self.ticks(entry)));
        Some((self.axis_of(first), last.max()?))
    }

    /// How long a packet's media lasts.
    pub fn ticks(&self, entry: &Entry) -> i64 {
        if let Some(ticks) = entry.codec.ticks(entry.payload.len()) {
            return ticks;
        }
        match entry.codec {
            Codec::Unknown if !entry.payload.is_empty() => {
                USUAL_PACKET_NS * i64::from(self.clock_rate) / 1_000_000_000
            }
            _ => 0,
        }
    }

    pub fn clock_rate(&self) -> u32 {
        self.clock_rate
    }

    fn ns(&self, ticks: i64) -> i64 {
        // Timestamps are 32 bits and a wrap a day at most: nowhere near 128 bits.
        let ns = i128::from(ticks) * 1_000_000_000 / i128::from(self.clock_rate);
        i64::try_from(ns).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
    }
}
