//! How much of a stream came (RFC 3550 §6.4.1 and appendix A.3).

use serde::Serialize;

use crate::clock::AxisNs;
use crate::survey::StreamFacts;

/// A pause is marked when it is commanded, and capture obeys within a visit or two of its sockets.
const OBEYED_WITHIN_NS: i64 = 150_000_000;

/// The formula of [`Quality::mos`].
pub const MOS_FORMULA: &str = "ITU-T G.107 (06/2015) E-model with default values, without delay; \
     Ie and Bpl of ITU-T G.113 Appendix I for the codec (Ie 0, Bpl 25.1 where it lists none), Ppl \
     the share of packets lost or late, BurstR 1";

/// Counts of one stream. `expected` is never below `received`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quality {
    /// From the first to the last sequence number, but for what a pause left out.
    pub expected: u64,
    /// Different packets that came.
    pub received: u64,
    pub lost: u64,
    /// Of the lost: packets that came when their place was taken for lost already.
    pub late: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Greatest interarrival jitter (RFC 3550 §6.4.1).
    pub jitter_max_ms: f64,
    /// The longest time for which packets are missing.
    pub longest_gap_ms: u64,
    /// Changes of SSRC, or of its numbering.
    pub restarts: u64,
    /// Datagrams on the RTP port that are not RTP.
    pub not_rtp: u64,
    /// Packets of an encrypted stream that are not of who has its key. They are kept and left out.
    pub not_authentic: u64,
    /// How much of the call is silent on this track. Known once it is rendered.
    pub silence_ratio: Option<f64>,
    /// Estimated mean opinion score, 1 to 4.5, by [`MOS_FORMULA`]. Absent without a packet.
    pub mos: Option<f64>,
}

impl Quality {
    /// Of a stream, in a call that was paused at times. `holes`: where packets are missing.
    pub(crate) fn of(stream: &StreamFacts, holes: &[Hole], pauses: &[(AxisNs, AxisNs)]) -> Self {
        let mut quality =
            Self { not_rtp: stream.stray, not_authentic: stream.not_authentic, ..Self::default() };
        for run in &stream.runs {
            quality.received += run.received;
            quality.late += run.late;
            quality.duplicates += run.duplicates;
            quality.reordered += run.reordered;
            quality.jitter_max_ms = quality.jitter_max_ms.max(run.jitter.max_ms());
        }
        for hole in holes {
            let lost = lost(*hole, pauses);
            quality.lost += lost;
            if lost > 0 {
                let ms = hole.to.saturating_sub(hole.from).max(0) as u64 / 1_000_000;
                quality.longest_gap_ms = quality.longest_gap_ms.max(ms);
            }
        }
        quality.expected = quality.received.saturating_add(quality.lost);
        quality.restarts = (stream.runs.len() as u64).saturating_sub(1);
        quality.mos = (quality.received > 0)
            .then(|| mos(&stream.codec(), quality.lost as f64 / quality.expected as f64));
        quality
    }
}

/// Packets that did not come, and the time in which they would have been heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub from: AxisNs,
    pub to: AxisNs,
    pub packets: u64,
}

/// See [`MOS_FORMULA`].
fn mos(codec: &str, lost_share: f64) -> f64 {
    /// R of a call of which nothing is wrong: G.107 Table 3.
    const BEST_R: f64 = 93.2;
    // Equipment impairment and robustness against loss: G.113 Tables I.1 to I.4.
    let (ie, bpl) = match codec.to_ascii_uppercase().as_str() {
        "G729" | "G729A" | "G729AB" => (11.0, 19.0),
        "G726-40" | "AAL2-G726-40" => (2.0, 25.1),
        "G726-32" | "AAL2-G726-32" => (7.0, 25.1),
        "G726-24" | "AAL2-G726-24" => (25.0, 25.1),
        "G726-16" | "AAL2-G726-16" => (50.0, 25.1),
        "GSM" => (20.0, 25.1),
        "ILBC" => (11.0, 32.0),
        _ => (0.0, 25.1),
    };
    let percent = lost_share * 100.0;
    let r = BEST_R - (ie + (95.0 - ie) * percent / (percent + bpl));
    if r <= 0.0 {
        return 1.0;
    }
    // G.107 Annex B; below R 6.5 the cubic dips under 1.
    let mos = 1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6;
    (mos.max(1.0) * 100.0).round() / 100.0
}

#[test]
fn an_opinion_falls_with_loss_and_by_codec() {
    // G.107 Annex B: R 93.2 is 4.41.
    assert_eq!(mos("PCMU", 0.0), 4.41);
    assert_eq!(mos("pcmu", 1.0), 1.18);
    let scores = [mos("PCMA", 0.01), mos("PCMA", 0.05), mos("G729", 0.05), mos("G726-16", 0.5)];
    assert!(scores.is_sorted_by(|a, b| a > b), "{scores:?}");
}

/// How many packets of a hole nobody left out on purpose. They are taken to lie evenly in it.
fn lost(hole: Hole, pauses: &[(AxisNs, AxisNs)]) -> u64 {
    let length = i128::from(hole.to.saturating_sub(hole.from));
    let middle = |packet: u64| {
        let at = i128::from(hole.from)
            + length * (2 * i128::from(packet) + 1) / (2 * i128::from(hole.packets));
        AxisNs::try_from(at).unwrap_or(hole.to)
    };
    let touches = |(from, to): &&(AxisNs, AxisNs)| *from <= hole.to && hole.from <= *to;
    let pauses: Vec<_> = pauses
        .iter()
        .map(|(from, to)| {
            (from.saturating_sub(OBEYED_WITHIN_NS), to.saturating_add(OBEYED_WITHIN_NS))
        })
        .collect();
    let near: Vec<_> = pauses.iter().filter(touches).collect();
    if near.is_empty() {
        return hole.packets;
    }
    let is_paused = |at: AxisNs| near.iter().any(|(from, to)| (*from..=*to).contains(&at));
    (0..hole.packets).filter(|packet| !is_paused(middle(*packet))).count() as u64
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
fn a_hole_counts_as_far_as_it_is_outside_of_pauses() {
    const SECOND: AxisNs = 1_000_000_000;
    let hole = |from, to, packets| Hole { from: from * SECOND, to: to * SECOND, packets };
    let pauses =
        [(10 * SECOND, 20 * SECOND), (AxisNs::MIN, 2 * SECOND), (30 * SECOND, AxisNs::MAX)];
    assert_eq!(lost(hole(10, 20, 500), &pauses), 0);
    assert_eq!(lost(hole(0, 1, 50), &pauses), 0);
    assert_eq!(lost(hole(100, 200, 5_000), &pauses), 0);
    assert_eq!(lost(hole(21, 29, 400), &pauses), 400);
    // Half of it in the pause, and what the pause took to be obeyed.
    assert_eq!(lost(hole(15, 25, 500), &pauses), 242);
    assert_eq!(lost(hole(21, 29, 400), &[]), 400);
}

#[test]
fn jitter_settles_at_the_mean_change() {
    let mut jitter = Jitter::default();
    for packet in 0..1_000 {
        jitter.observe(if packet % 2 == 0 { 0 } else { 5_000_000 });
    }
    assert!((jitter.max_ms() - 5.0).abs() < 0.01, "{}", jitter.max_ms());
}
