//! The second reading of a call: its packets become sound, lane beside lane, from the first sample
//! to the last or of any part between.
//!
//! - A packet is placed by its RTP timestamp, so that a lost one leaves a hole of its own length.
//! - A hole of up to 60 ms that is a loss is concealed: by the codec where it can, else by the
//!   20 ms before it, fading out. Longer ones, and pauses of the sender, are silence.
//! - Audio follows the clock of the call: a packet is stretched by a sample where the sender's
//!   clock drifts.
//! - Memory is that of some seconds of samples, whatever the length of the call.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use segment::{Opener, SealError, SessionRecord};

use crate::align::Placement;
use crate::clock::AxisNs;
use crate::codec::{Codec, Decoder};
use crate::plan::Plan;
use crate::router::{Event, Routed, Router};
use crate::run::ticks_to_ns;
use crate::sequencer::Sequencer;
use crate::survey::Survey;

/// The longest loss that is concealed; a longer one is marked.
pub const CONCEALED_MS: u64 = 60;
/// What a concealment repeats.
const REPEATED_MS: u64 = 20;
/// How long after it should have come a packet can still be heard: the longest stall of a network
/// or of a machine that is not a gap.
pub(crate) const LATEST_NS: i64 = 10_000_000_000;
/// Decoders settle within this much of what is before the part that is wanted.
pub(crate) const PRE_ROLL_NS: i64 = 1_500_000_000;
/// In-order packets are certain when this much has passed; see [`Sequencer`].
const CERTAIN_NS: i64 = 1_300_000_000;
/// One description of comfort noise lasts at most this long.
const LONGEST_NOISE_NS: i64 = 10_000_000_000;
/// Nothing can be this far ahead of what has come.
const FURTHEST_SECONDS: u64 = 60;

/// Renders a part of a call.
pub(crate) struct Renderer<'a> {
    plan: &'a Plan,
    opener: &'a Opener,
    router: Router,
    /// Which lane a stream is, by its number.
    lane_of: BTreeMap<usize, usize>,
    lanes: Vec<LaneState<'a>>,
    now: AxisNs,
    end: u64,
}

struct LaneState<'a> {
    samples: Buffer,
    runs: BTreeMap<usize, RunState<'a>>,
}

/// Samples from `at` on that are not read yet.
struct Buffer {
    samples: VecDeque<i16>,
    at: u64,
    end: u64,
    furthest: u64,
}

/// One run while it is decoded.
struct RunState<'a> {
    place: &'a Placement,
    clock: Clock,
    waiting: Sequencer<Held>,
    decoder: Decoder,
    newest_sequence: Option<i64>,
    /// Where the audio so far ends.
    end: Option<i64>,
    /// The newest samples, for concealment.
    tail: Vec<i16>,
    /// From where on comfort noise is heard, until packets come again, and its latest end.
    noise: Option<(i64, i64)>,
}

/// From ticks of a run to samples of the call.
#[derive(Clone, Copy)]
struct Clock {
    clock_rate: u32,
    sample_rate: u32,
    zero: AxisNs,
}

struct Held {
    timestamp: i64,
    ticks: i64,
    codec: Codec,
    payload: Vec<u8>,
}

impl<'a> Renderer<'a> {
    /// Of the samples of `part`. Feed it the records from the returned position on.
    pub fn new(
        plan: &'a Plan,
        survey: &Survey,
        opener: &'a Opener,
        part: Range<u64>,
    ) -> (model::Position, Self) {
        let begin = axis_of(plan, part.start).saturating_sub(PRE_ROLL_NS);
        let (position, router) =
            survey.before(begin).unwrap_or_else(|| (model::Position(0), survey.router.clone()));
        let lane_of =
            plan.lanes.iter().enumerate().map(|(lane, held)| (held.stream, lane)).collect();
        let furthest = FURTHEST_SECONDS * u64::from(plan.sample_rate);
        let lane = || LaneState {
            samples: Buffer { samples: VecDeque::new(), at: part.start, end: part.end, furthest },
            runs: BTreeMap::new(),
        };
        let lanes = plan.lanes.iter().map(|_| lane()).collect();
        let now = AxisNs::MIN;
        (position, Self { plan, opener, router, lane_of, lanes, now, end: part.end })
    }

    pub fn take(&mut self, record: &SessionRecord) -> Result<(), SealError> {
        let Self { plan, lane_of, lanes, now, opener, router, .. } = self;
        router.take(record, opener, &mut |event| {
            if let Event::Rtp(routed) = event {
                *now = (*now).max(routed.arrival);
                let Some(index) = lane_of.get(&routed.stream) else { return };
                let lane = &plan.lanes[*index];
                if let Some(Some(run)) = lane.runs.get(routed.run) {
                    lanes[*index].take(plan, &run.place, &routed);
                }
            }
        })?;
        for lane in &mut self.lanes {
            lane.advance(self.now);
        }
        Ok(())
    }

    /// How many samples from where reading stands will not change any more.
    pub fn ready(&self) -> usize {
        let certain = sample_of(self.plan, self.now.saturating_sub(LATEST_NS));
        let certain = u64::try_from(certain).unwrap_or(0).min(self.end);
        let at = self.lanes.first().map_or(self.end, |lane| lane.samples.at);
        usize::try_from(certain.saturating_sub(at)).unwrap_or(0)
    }

    /// Nothing more comes: decodes what waits.
    pub fn finish(&mut self) {
        for lane in &mut self.lanes {
            lane.finish();
        }
        self.now = AxisNs::MAX;
    }

    /// Takes the next `out.len()` samples of a lane.
    pub fn read(&mut self, lane: usize, out: &mut [i16]) {
        self.lanes[lane].samples.read(out);
    }
}

/// Where a sample of the call lies on the axis.
pub(crate) fn axis_of(plan: &Plan, sample: u64) -> AxisNs {
    let ns = i128::from(sample) * 1_000_000_000 / i128::from(plan.sample_rate);
    i64::try_from(ns).unwrap_or(i64::MAX).saturating_add(plan.zero)
}

fn sample_of(plan: &Plan, axis: AxisNs) -> i64 {
    to_samples(axis.saturating_sub(plan.zero), plan.sample_rate)
}

fn to_samples(ns: i64, sample_rate: u32) -> i64 {
    let samples =
        (i128::from(ns) * i128::from(sample_rate) + 500_000_000).div_euclid(1_000_000_000);
    i64::try_from(samples).unwrap_or(i64::MAX)
}

impl<'a> LaneState<'a> {
    fn take(&mut self, plan: &Plan, place: &'a Placement, routed: &Routed<'_>) {
        let run = self.runs.entry(routed.run).or_insert_with(|| RunState {
            place,
            clock: Clock {
                clock_rate: routed.clock_rate,
                sample_rate: plan.sample_rate,
                zero: plan.zero,
            },
            waiting: Sequencer::default(),
            decoder: Decoder::new(plan.sample_rate),
            newest_sequence: None,
            end: None,
            tail: Vec::new(),
            noise: None,
        });
        let held = Held {
            timestamp: routed.place.timestamp,
            ticks: routed.ticks,
            codec: routed.codec,
            payload: routed.payload.to_vec(),
        };
        run.waiting.push(routed.place.sequence, routed.arrival, held);
    }

    fn advance(&mut self, now: AxisNs) {
        for run in self.runs.values_mut() {
            run.waiting.advance(now);
            while let Some((sequence, held)) = run.waiting.pop() {
                run.play(sequence, &held, &mut self.samples);
            }
            let certain = now.saturating_sub(CERTAIN_NS).saturating_sub(run.clock.zero);
            run.fill_noise(to_samples(certain, run.clock.sample_rate), &mut self.samples);
        }
        // A run that a later one took over from will not come again.
        let newest = self.runs.keys().next_back().copied();
        self.runs.retain(|run, state| {
            Some(*run) == newest || state.noise.is_some() || !state.is_over(now)
        });
    }

    fn finish(&mut self) {
        for run in self.runs.values_mut() {
            while let Some((sequence, held)) = run.waiting.take() {
                run.play(sequence, &held, &mut self.samples);
            }
            run.fill_noise(i64::MAX, &mut self.samples);
        }
    }
}

impl RunState<'_> {
    fn sample(&self, timestamp: i64) -> i64 {
        let axis = self.place.axis(ticks_to_ns(timestamp, self.clock.clock_rate));
        to_samples(axis.saturating_sub(self.clock.zero), self.clock.sample_rate)
    }

    /// Nothing waits and the last packet is long past.
    fn is_over(&self, now: AxisNs) -> bool {
        let end = self.end.unwrap_or(i64::MIN);
        let past = to_samples(
            now.saturating_sub(LATEST_NS).saturating_sub(self.clock.zero),
            self.clock.sample_rate,
        );
        self.waiting.iter().next().is_none() && end < past
    }

    fn play(&mut self, sequence: i64, held: &Held, out: &mut Buffer) {
        let is_lost = self.newest_sequence.is_some_and(|newest| sequence > newest + 1);
        let at = self.sample(held.timestamp);
        let to = self.sample(held.timestamp.saturating_add(held.ticks));
        self.newest_sequence = Some(sequence);
        if held.codec.is_decoded() || held.codec == Codec::ComfortNoise {
            self.fill_noise(at, out);
            self.noise = None;
        }
        let is_silence = Decoder::is_silence(held.codec, &held.payload);
        if is_silence {
            let longest = to_samples(LONGEST_NOISE_NS, self.clock.sample_rate);
            self.noise = Some((self.end.map_or(at, |end| end.max(at)), at.saturating_add(longest)));
        }
        // The rest of the part is not wanted, and decoding is what costs.
        if at > out.past_the_end() {
            return;
        }
        let delay = self.decoder.delay(held.codec);
        if is_lost && held.codec.is_decoded() {
            self.conceal(held, at, delay, out);
        }
        let mut samples = Vec::new();
        self.decoder.decode(held.codec, &held.payload, &mut samples);
        fit(&mut samples, to.saturating_sub(at));
        // A timestamp that overlaps the packet before: what was heard already is not repeated.
        let heard = self.end.map_or(0, |end| usize::try_from(end - at).unwrap_or(0));
        if heard >= samples.len() {
            return;
        }
        let heard_to = at + heard as i64;
        out.add(heard_to - delay, &samples[heard..]);
        self.end = Some(at + samples.len() as i64);
        if let Some((from, _)) = &mut self.noise {
            *from = at + samples.len() as i64;
        }
        let kept = (u64::from(self.clock.sample_rate) * REPEATED_MS / 1_000) as usize;
        self.tail.extend_from_slice(&samples[heard..]);
        self.tail.drain(..self.tail.len().saturating_sub(kept));
    }

    /// Fills a short loss before the packet at `at`.
    fn conceal(&mut self, held: &Held, at: i64, delay: i64, out: &mut Buffer) {
        let Some(end) = self.end else { return };
        let Ok(hole) = usize::try_from(at.saturating_sub(end)) else { return };
        let longest = u64::from(self.clock.sample_rate) * CONCEALED_MS / 1_000;
        if hole == 0 || hole as u64 > longest || self.tail.is_empty() {
            return;
        }
        let mut samples = Vec::new();
        if !self.decoder.conceal(held.codec, hole, &held.payload, &mut samples) {
            let fading =
                self.tail.iter().cycle().take(hole).enumerate().map(|(n, sample)| {
                    (i64::from(*sample) * (hole - n) as i64 / hole as i64) as i16
                });
            samples.extend(fading);
        }
        out.add(end - delay, &samples);
        self.end = Some(at);
    }

    /// Comfort noise up to `to`, if the sender is silent.
    fn fill_noise(&mut self, to: i64, out: &mut Buffer) {
        let Some((from, latest)) = self.noise else { return };
        // Samples before what is read next need not be made.
        let from = from.max(i64::try_from(out.at).unwrap_or(i64::MAX));
        let to = to.min(latest).min(out.past_the_end());
        let Ok(count @ 1..) = usize::try_from(to.saturating_sub(from)) else { return };
        let mut samples = Vec::new();
        self.decoder.comfort_noise(count, &mut samples);
        out.add(from, &samples);
        self.noise = (to < latest).then_some((to, latest));
    }
}

impl Buffer {
    /// No sample is wanted from here on.
    fn past_the_end(&self) -> i64 {
        i64::try_from(self.end).unwrap_or(i64::MAX)
    }

    /// Adds to what is there: two runs overlap when a sender restarts, and when two send to one
    /// port.
    fn add(&mut self, at: i64, samples: &[i16]) {
        let Ok(base) = i64::try_from(self.at) else { return };
        let skipped = usize::try_from(base.saturating_sub(at)).unwrap_or(0);
        let Some(samples) = samples.get(skipped..) else { return };
        let Ok(from) = usize::try_from(at.saturating_sub(base).max(0)) else { return };
        let wanted = (self.end - self.at).min(self.furthest);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let Some(room) = wanted.checked_sub(from) else { return };
        let samples = &samples[..samples.len().min(room)];
        if self.samples.len() < from + samples.len() {
            self.samples.resize(from + samples.len(), 0);
        }
        for (held, sample) in self.samples.range_mut(from..).zip(samples) {
            *held = held.saturating_add(*sample);
        }
    }

    fn read(&mut self, out: &mut [i16]) {
        let known = out.len().min(self.samples.len());
        for (out, sample) in out.iter_mut().zip(self.samples.drain(..known)) {
            *out = sample;
        }
        out[known..].fill(0);
        self.at += out.len() as u64;
    }
}

/// Makes samples as many as the time they take, where clocks drift or rates are odd. What differs
/// more than that is left as it is.
fn fit(samples: &mut Vec<i16>, wanted: i64) {
    let (Ok(wanted), count) = (usize::try_from(wanted), samples.len()) else { return };
    let apart = wanted.abs_diff(count);
    if apart == 0 || count < 2 || wanted < 2 || apart > (count / 40).max(2) {
        return;
    }
    let stretched = (0..wanted).map(|n| {
        let at = n as f64 * (count - 1) as f64 / (wanted - 1) as f64;
        let (before, part) = (at as usize, at.fract());
        let next = samples[(before + 1).min(count - 1)];
        (f64::from(samples[before]) * (1.0 - part) + f64::from(next) * part).round() as i16
    });
    *samples = stretched.collect();
}

#[test]
fn samples_are_stretched_by_a_few_and_not_by_many() {
    let mut samples: Vec<i16> = (0..160).map(|n| n * 10).collect();
    fit(&mut samples, 161);
    assert_eq!((samples.len(), samples[0], samples[160]), (161, 0, 1_590));
    assert!(samples.is_sorted());
    fit(&mut samples, 400);
    assert_eq!(samples.len(), 161);
    fit(&mut samples, -5);
    assert_eq!(samples.len(), 161);
}
