//! Generated histories of packets, rendered by us and by a reference that is slow and obvious:
//! it knows when every packet was spoken, because it made them.
//!
//! What must hold of each packet that came: it is heard where it was spoken, to within 5 ms; and
//! what came, was lost and came twice is counted. Lanes are compared with each other by what the
//! sender's clocks say, not by when packets happened to arrive.

mod support;

use media::Call as Recorded;
use model::recording::AlignmentMethod;
use proptest::prelude::*;
use segment::{Body, Packet};
use siprec::rtp::rtcp::{SenderInfo, sender_report};
use support::{Call, stream};

const MS: i64 = 1_000_000;
const SECOND: i64 = 1_000 * MS;
const FRAME: usize = 160;
/// 40 samples.
const TOLERANCE_MS: i64 = 5;

/// What one sender does, and the network to us.
#[derive(Clone, Debug)]
struct Sender {
    ppm: i64,
    /// The least delay, and what comes on top.
    delay_ms: i64,
    jitter_ms: i64,
    /// Of a thousand.
    lost: u64,
    doubled: u64,
    reports: bool,
    /// When the sender changes its SSRC and numbers.
    restarts: Vec<i64>,
    /// From when to when nothing is sent, and whether timestamps go on meanwhile.
    pauses: Vec<(i64, i64, bool)>,
    seed: u64,
}

/// A packet that was sent: when its first sample was spoken, by a clock that is never wrong.
#[derive(Clone, Debug)]
struct Spoken {
    true_ns: i64,
    came: bool,
    samples: Vec<i16>,
}

#[derive(Default)]
struct History {
    spoken: Vec<Spoken>,
    datagrams: Vec<(i64, bool, Vec<u8>)>,
    received: u64,
    doubled: u64,
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// The history of one stream: 20 ms after 20 ms of its own clock.
fn history(sender: &Sender, seconds: i64) -> History {
    let mut history = History::default();
    let mut state = sender.seed | 1;
    let mut ssrc = random(&mut state) as u32;
    // Near a wrap, so that both numbers wrap in every history.
    let mut sequence = 65_000_u16.wrapping_add(random(&mut state) as u16 % 500);
    let mut timestamp = u32::MAX - 50_000;
    let mut restarts = sender.restarts.clone();
    let mut next_report = SECOND;
    // Of the sender's clock, which is `ppm` fast.
    let mut media_ns: i64 = 0;
    loop {
        let true_ns = media_ns - media_ns / 1_000_000 * sender.ppm;
        if true_ns >= seconds * SECOND {
            return history;
        }
        if restarts.first().is_some_and(|at| true_ns >= at * SECOND) {
            restarts.remove(0);
            ssrc = random(&mut state) as u32;
            sequence = random(&mut state) as u16;
            timestamp = random(&mut state) as u32;
        }
        let pause = sender
            .pauses
            .iter()
            .find(|(from, to, _)| (from * SECOND..to * SECOND).contains(&true_ns));
        if let Some((_, to, keeps_time)) = pause {
            let to_ns = to * SECOND + to * SECOND / 1_000_000 * sender.ppm;
            let skipped = (to_ns - media_ns + 20 * MS - 1) / (20 * MS);
            media_ns += skipped * 20 * MS;
            if *keeps_time {
                timestamp = timestamp.wrapping_add(skipped as u32 * 160);
            }
            continue;
        }
        // No two packets alike, none periodic.
        let mut low = 0.0;
        let samples: Vec<i16> = (0..FRAME)
            .map(|_| {
                // Low enough that a sample put in between, where clocks drift, changes little.
                low = 0.9 * low + (random(&mut state) as i32 % 8_000 - 4_000) as f64;
                low.clamp(-30_000.0, 30_000.0) as i16
            })
            .collect();
        let arrival = true_ns
            + sender.delay_ms * MS
            + (random(&mut state) as i64 * 1_009) % (sender.jitter_ms * MS).max(1);
        let came = random(&mut state) % 1_000 >= sender.lost;
        if came {
            let mut datagram = vec![0x80, 0];
            datagram.extend(sequence.to_be_bytes());
            datagram.extend(timestamp.to_be_bytes());
            datagram.extend(ssrc.to_be_bytes());
            datagram.extend(audio_codec_encode(&samples));
            history.received += 1;
            if random(&mut state) % 1_000 < sender.doubled {
                history.doubled += 1;
                history.datagrams.push((arrival + 3 * MS, false, datagram.clone()));
            }
            history.datagrams.push((arrival, false, datagram));
        }
        history.spoken.push(Spoken { true_ns, came, samples });
        if sender.reports && true_ns >= next_report {
            next_report += 5 * SECOND;
            let ntp_ns = 3_900_000_000 * 1_000_000_000_i128 + i128::from(true_ns);
            let seconds = (ntp_ns / 1_000_000_000) as u64;
            let fraction = (ntp_ns % 1_000_000_000) as u64;
            let ntp = (seconds << 32) | ((fraction << 32) / 1_000_000_000);
            let info = SenderInfo { ntp, rtp_timestamp: timestamp, packets: 1, octets: 1 };
            history.datagrams.push((arrival + MS, true, sender_report(ssrc, &info, "src")));
        }
        media_ns += 20 * MS;
        sequence = sequence.wrapping_add(1);
        timestamp = timestamp.wrapping_add(160);
    }
}

fn audio_codec_encode(samples: &[i16]) -> Vec<u8> {
    use audio_codec::Encoder as _;
    audio_codec::pcmu::PcmuEncoder::new().encode(samples)
}

/// Sends the histories to a recorder that journals what came every 100 ms.
fn record(histories: &[History]) -> Recorded {
    let mut call = Call::of_two(["96", "97"]);
    call.negotiate(1, &[stream(0, Some("96")), stream(1, Some("97"))]);
    let mut all: Vec<(i64, u16, bool, &Vec<u8>)> = Vec::new();
    for (lane, history) in (0..).zip(histories) {
        all.extend(history.datagrams.iter().map(|(at, rtcp, bytes)| (*at, lane, *rtcp, bytes)));
    }
    all.sort_by_key(|(at, ..)| *at);
    for batch in all.chunk_by(|a, b| a.0 / (100 * MS) == b.0 / (100 * MS)) {
        let packets = batch.iter().map(|(at, lane, rtcp, bytes)| Packet {
            stream: *lane,
            rtcp: *rtcp,
            arrival_boot_ns: support::BOOT_NS + *at as u64,
            source: ([192, 0, 2, 1], 4_000 + 2 * lane).into(),
            datagram: (*bytes).clone(),
        });
        let at_ms = batch.last().map_or(0, |(at, ..)| at / MS) as u64;
        call.seal(at_ms, &Body::Packets(packets.collect()));
    }
    call.assemble()
}

/// By how many samples `heard` at `at` is off from `sent`, at most `most` either way.
fn shift(sent: &[i16], heard: &[i16], at: i64, most: i64) -> Option<i64> {
    let alike = |shift: i64| -> f64 {
        let Ok(from) = usize::try_from(at + shift) else { return 0.0 };
        let Some(part) = heard.get(from..from + sent.len()) else { return 0.0 };
        support::correlation(sent, part)
    };
    // The middle of a packet is enough, and is not touched by what comes before and after.
    (0..=most).flat_map(|n| [n, -n]).find(|shift| alike(*shift) > 0.8)
}

/// Compares every `step`th packet with where the reference has it; the greatest difference of any
/// two lanes from each other, in samples.
fn compare(senders: &[Sender], histories: &[History], built: &Recorded, step: usize) -> (i64, i64) {
    let most = 8 * 3 * TOLERANCE_MS;
    let by_reports = senders.iter().all(|sender| sender.reports);
    // By reports lanes lie by the sender's clock; by arrival each is later by its least delay.
    let place = |lane: usize, spoken: &Spoken| {
        spoken.true_ns + if by_reports { 0 } else { senders[lane].delay_ms * MS }
    };
    let first = histories.iter().enumerate().flat_map(|(lane, history)| {
        history.spoken.iter().filter(|spoken| spoken.came).map(move |spoken| place(lane, spoken))
    });
    let zero = first.min().unwrap_or(0);
    let (mut least, mut greatest) = (i64::MAX, i64::MIN);
    for (lane, history) in histories.iter().enumerate() {
        let heard = support::pcm(built, lane);
        let came = history.spoken.iter().filter(|spoken| spoken.came);
        for spoken in came.step_by(step) {
            let at = (place(lane, spoken) - zero) * 8 / MS;
            let off = shift(&spoken.samples[20..140], &heard, at + 20, most);
            let off = off.unwrap_or_else(|| {
                panic!("lane {lane}: the packet of {} ms is not heard near it", spoken.true_ns / MS)
            });
            (least, greatest) = (least.min(off), greatest.max(off));
        }
    }
    (least, greatest)
}

fn counts(histories: &[History], built: &Recorded) {
    for (lane, history) in built.lanes.iter().zip(histories) {
        let quality = lane.quality;
        assert_eq!(quality.received, history.received);
        assert_eq!(quality.duplicates, history.doubled);
        assert_eq!(quality.late, 0);
    }
}

fn sender() -> impl Strategy<Value = Sender> {
    let network = (-100..=100_i64, 0..40_i64, 1..80_i64, 0..50_u64, 0..20_u64, any::<u64>());
    let life = (
        prop::collection::vec(5..40_i64, 0..2),
        prop::collection::vec((8..30_i64, 2..8_i64, any::<bool>()), 0..2),
    );
    (network, life).prop_map(
        |((ppm, delay_ms, jitter_ms, lost, doubled, seed), (restarts, pauses))| Sender {
            ppm,
            delay_ms,
            jitter_ms,
            lost,
            doubled,
            reports: false,
            restarts,
            pauses: pauses.into_iter().map(|(at, long, keeps)| (at, at + long, keeps)).collect(),
            seed,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_is_heard_where_the_reference_has_it(
        senders in prop::array::uniform2(sender()),
    ) {
        let histories: Vec<History> = senders.iter().map(|sender| history(sender, 45)).collect();
        let built = record(&histories);
        counts(&histories, &built);
        let (least, greatest) = compare(&senders, &histories, &built, 11);
        prop_assert!(
            greatest - least <= 8 * 2 * TOLERANCE_MS && greatest <= 8 * TOLERANCE_MS && least >= -8 * TOLERANCE_MS,
            "off by {least} to {greatest} samples"
        );
    }
}

/// ±100 ppm, 3 % lost, 80 ms of jitter, hold and resume.
fn hour(reports: bool) -> [Sender; 2] {
    let sender = |ppm, delay_ms, seed, keeps_time| Sender {
        ppm,
        delay_ms,
        jitter_ms: 80,
        lost: 30,
        doubled: 2,
        reports,
        restarts: vec![],
        pauses: vec![(1_200, 1_260, keeps_time)],
        seed,
    };
    // Ways that differ by 60 ms, which only reports can tell.
    [sender(100, 10, 7, true), sender(-100, 70, 8, false)]
}

#[test]
fn over_an_hour_sender_reports_keep_lanes_within_5_ms() {
    let senders = hour(true);
    let histories = senders.clone().map(|sender| history(&sender, 3_600));
    let built = record(&histories);
    counts(&histories, &built);
    for lane in &built.lanes {
        let alignment = lane.track.alignment.unwrap();
        assert_eq!(alignment.method, AlignmentMethod::SenderReports);
        assert!(alignment.within_ms <= 5, "{alignment:?}");
    }
    let (least, greatest) = compare(&senders, &histories, &built, 97);
    println!("off by {least} to {greatest} samples of 8 kHz");
    assert!(greatest - least <= 8 * TOLERANCE_MS, "off by {least} to {greatest} samples");
}

#[test]
fn over_an_hour_arrival_keeps_lanes_within_5_ms_of_their_least_delay() {
    let senders = hour(false);
    let histories = senders.clone().map(|sender| history(&sender, 3_600));
    let built = record(&histories);
    for lane in &built.lanes {
        assert_eq!(lane.track.alignment.unwrap().method, AlignmentMethod::Arrival);
    }
    let (least, greatest) = compare(&senders, &histories, &built, 97);
    println!("off by {least} to {greatest} samples of 8 kHz");
    let most = 8 * TOLERANCE_MS;
    assert!(least >= -most && greatest <= most, "off by {least} to {greatest} samples");
}
