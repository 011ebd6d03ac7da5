//! Lanes: the streams of a call laid side by side onto call time, read as samples.
//!
//! - Call time begins with the earliest media of any stream and ends with the latest: it is as
//!   long as what was sent, not as the SIP dialog.
//! - A packet is placed by its RTP timestamp, so that a lost one leaves a hole of its own length.
//! - A hole of up to 60 ms that is a loss repeats the 20 ms before it, fading out. Longer ones, and
//!   pauses of the sender, are silence.
//! - Reading decodes as it goes: memory is that of the payloads, not of the samples.

use model::Track;

use crate::clock::AxisNs;
use crate::codec::{Codec, Decoder};
use crate::quality::Quality;
use crate::run::{Entry, Run};

/// The longest loss that is concealed; a longer one is marked.
pub const CONCEALED_MS: u64 = 60;
/// What a concealment repeats.
const REPEATED_MS: u64 = 20;
/// Decoded speech is never this quiet throughout; A-law silence is ±8, comfort noise below 60.
const SILENCE_PEAK: u16 = 64;

/// Where a lane is heard in a stereo file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Left,
    Right,
    /// On both sides: third and further parties.
    Centre,
}

/// One stream on call time.
#[derive(Debug)]
pub struct Lane {
    pub track: Track,
    pub quality: Quality,
    pub channel: Channel,
    pub(crate) runs: Vec<PlacedRun>,
    pub(crate) sample_rate: u32,
    pub(crate) samples: u64,
}

#[derive(Debug)]
pub(crate) struct PlacedRun {
    run: Run,
    /// Sample of call time at which the run's least timestamp lies.
    start: i64,
    first_timestamp: i64,
}

impl PlacedRun {
    /// `None` for a run without a packet.
    pub fn new(run: Run, zero: AxisNs, sample_rate: u32) -> Option<Self> {
        let (from, _) = run.extent()?;
        let first_timestamp = run.entries.iter().map(|entry| entry.timestamp).min()?;
        let ns = i128::from(from.saturating_sub(zero)) * i128::from(sample_rate);
        let start = i64::try_from((ns + 500_000_000).div_euclid(1_000_000_000)).ok()?;
        Some(Self { run, start, first_timestamp })
    }

    pub fn run(&self) -> &Run {
        &self.run
    }

    pub fn start(&self) -> i64 {
        self.start
    }

    /// Whether it begins within a call of so many samples.
    pub fn starts_before(&self, samples: u64) -> bool {
        u64::try_from(self.start).is_ok_and(|start| start <= samples)
    }

    fn position(&self, entry: &Entry, sample_rate: u32) -> i64 {
        let ticks = i128::from(entry.timestamp - self.first_timestamp);
        let samples = ticks * i128::from(sample_rate) / i128::from(self.run.clock_rate());
        self.start.saturating_add(i64::try_from(samples).unwrap_or(i64::MAX))
    }
}

impl Lane {
    /// The samples of the whole call, silence included.
    pub fn pcm(&self) -> Pcm<'_> {
        let runs = self.runs.iter().map(|run| RunPcm::new(run, self.sample_rate)).collect();
        Pcm { runs, at: 0, end: self.samples }
    }

    pub fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    /// Whether something was decoded and nothing was heard.
    pub(crate) fn is_silent(&self) -> bool {
        let entries = self.runs.iter().flat_map(|placed| &placed.run.entries);
        if !entries.into_iter().any(|entry| entry.codec.is_decoded()) {
            return false;
        }
        let mut block = [0; 4_096];
        let mut pcm = self.pcm();
        loop {
            match pcm.read(&mut block) {
                0 => return true,
                read if block[..read].iter().any(|s| s.unsigned_abs() > SILENCE_PEAK) => {
                    return false;
                }
                _ => {}
            }
        }
    }
}

/// Reads a lane from its first sample to its last.
pub struct Pcm<'a> {
    runs: Vec<RunPcm<'a>>,
    at: u64,
    end: u64,
}

impl Pcm<'_> {
    /// Fills `out`, or as much of it as the call lasts; 0 at the end.
    pub fn read(&mut self, out: &mut [i16]) -> usize {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let count = out.len().min(left);
        let out = &mut out[..count];
        out.fill(0);
        for run in &mut self.runs {
            run.mix_into(out, self.at as i64);
        }
        self.at += count as u64;
        count
    }

    /// All that is left, in memory.
    pub fn to_vec(mut self) -> Vec<i16> {
        let mut all = vec![0; usize::try_from(self.end - self.at).unwrap_or(0)];
        self.read(&mut all);
        all
    }
}

/// Decodes one run, piece by piece.
struct RunPcm<'a> {
    placed: &'a PlacedRun,
    sample_rate: u32,
    decoder: Decoder,
    next_entry: usize,
    /// Sequence number of the packet before, whatever it carried.
    newest_sequence: Option<i64>,
    /// Where the audio so far ends.
    end: Option<i64>,
    /// The newest samples, for concealment.
    tail: Vec<i16>,
    piece: Option<Piece>,
}

struct Piece {
    at: i64,
    samples: Vec<i16>,
}

impl<'a> RunPcm<'a> {
    fn new(placed: &'a PlacedRun, sample_rate: u32) -> Self {
        Self {
            placed,
            sample_rate,
            decoder: Decoder::new(sample_rate),
            next_entry: 0,
            newest_sequence: None,
            end: None,
            tail: Vec::new(),
            piece: None,
        }
    }

    /// Adds what this run has from sample `from` on. Two runs overlap when a sender restarts, and
    /// when two send to one port.
    fn mix_into(&mut self, out: &mut [i16], from: i64) {
        let to = from.saturating_add(out.len() as i64);
        while let Some(piece) = self.piece.take().or_else(|| self.next_piece()) {
            let end = piece.at.saturating_add(piece.samples.len() as i64);
            if piece.at < to && end > from {
                let skip = usize::try_from(from - piece.at).unwrap_or(0);
                let into = usize::try_from(piece.at - from).unwrap_or(0);
                for (out, sample) in out[into..].iter_mut().zip(&piece.samples[skip..]) {
                    *out = out.saturating_add(*sample);
                }
            }
            if end > to {
                self.piece = Some(piece);
                return;
            }
        }
    }

    fn next_piece(&mut self) -> Option<Piece> {
        while let Some(entry) = self.placed.run.entries.get(self.next_entry) {
            let lost = self.newest_sequence.is_some_and(|newest| entry.sequence > newest + 1);
            let at = self.placed.position(entry, self.sample_rate);
            if entry.codec.is_decoded()
                && lost
                && let Some(piece) = self.conceal(at)
            {
                // The packet itself comes next.
                self.newest_sequence = Some(entry.sequence - 1);
                return Some(piece);
            }
            self.newest_sequence = Some(entry.sequence);
            self.next_entry += 1;
            if let Some(piece) = self.decode(entry.codec, entry, at) {
                return Some(piece);
            }
        }
        None
    }

    fn decode(&mut self, codec: Codec, entry: &Entry, at: i64) -> Option<Piece> {
        let mut samples = Vec::new();
        self.decoder.decode(codec, self.placed.run.payload(entry), &mut samples);
        // A timestamp that overlaps the packet before: what was heard already is not repeated.
        let heard = self.end.map_or(0, |end| usize::try_from(end - at).unwrap_or(0));
        if samples.is_empty() || heard >= samples.len() {
            return None;
        }
        samples.drain(..heard);
        let at = at + heard as i64;
        self.end = Some(at + samples.len() as i64);
        let kept = (self.sample_rate as u64 * REPEATED_MS / 1_000) as usize;
        self.tail.extend_from_slice(&samples);
        self.tail.drain(..self.tail.len().saturating_sub(kept));
        Some(Piece { at, samples })
    }

    /// Fills a short loss before `at`.
    fn conceal(&self, at: i64) -> Option<Piece> {
        let end = self.end?;
        let hole = usize::try_from(at.checked_sub(end)?).ok()?;
        let longest = self.sample_rate as u64 * CONCEALED_MS / 1_000;
        if hole == 0 || hole as u64 > longest || self.tail.is_empty() {
            return None;
        }
        let samples = self.tail.iter().cycle().take(hole).enumerate().map(|(n, sample)| {
            let left = (hole - n) as i64;
            (i64::from(*sample) * left / hole as i64) as i16
        });
        Some(Piece { at: end, samples: samples.collect() })
    }
}
