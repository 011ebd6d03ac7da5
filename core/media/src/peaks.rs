//! The waveform that a browser draws: BBC audiowaveform, version 2 JSON, 8 bits; and what can be
//! told of a lane once it is heard.
//!
//! One channel per lane, in the order of the tracks; for each pixel the least and the greatest
//! sample of each channel. Two zooms: 20 pixels a second (of very long calls fewer, so that the file
//! stays below some hundred kilobytes), and an overview of at most 1,000 pixels for lists.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

const PIXELS_PER_SECOND: u32 = 20;
const MOST_PIXELS: usize = 20_000;
const MOST_PIXELS_OF_OVERVIEW: usize = 1_000;
/// Decoded speech is never this quiet throughout; A-law silence is ±8, comfort noise below 60.
const SILENT_PEAK: u16 = 64;
/// Quieter than this, nobody speaks: -40 dB of full scale.
const QUIET_PEAK: u16 = 328;

/// The waveform of a part of a call, at 20 pixels a second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peaks {
    lanes: usize,
    /// Least and greatest sample of each lane, pixel by pixel.
    pixels: Vec<i8>,
    heard: Vec<Heard>,
}

/// How loud a lane is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    loudest: u16,
    pixels: u64,
    quiet_pixels: u64,
}

impl Heard {
    /// Nothing but silence.
    pub fn is_silent(&self) -> bool {
        self.loudest <= SILENT_PEAK
    }

    pub fn silence_ratio(&self) -> f64 {
        if self.pixels == 0 { 1.0 } else { self.quiet_pixels as f64 / self.pixels as f64 }
    }
}

impl Peaks {
    /// Of nothing yet.
    pub fn of(plan: &Plan) -> Self {
        let lanes = plan.lanes.len();
        Self { lanes, pixels: Vec::new(), heard: vec![Heard::default(); lanes] }
    }

    /// Adds what follows.
    pub fn append(&mut self, after: &Self) {
        self.pixels.extend_from_slice(&after.pixels);
        for (held, heard) in self.heard.iter_mut().zip(&after.heard) {
            held.loudest = held.loudest.max(heard.loudest);
            held.pixels += heard.pixels;
            held.quiet_pixels += heard.quiet_pixels;
        }
    }

    pub fn heard(&self) -> &[Heard] {
        &self.heard
    }

    /// The waveform for a player.
    pub fn json(&self, plan: &Plan) -> String {
        self.at_most(MOST_PIXELS, plan)
    }

    /// The waveform at a glance.
    pub fn overview_json(&self, plan: &Plan) -> String {
        self.at_most(MOST_PIXELS_OF_OVERVIEW, plan)
    }

    fn at_most(&self, most: usize, plan: &Plan) -> String {
        let row = 2 * self.lanes.max(1);
        let mut joined = 1;
        while self.pixels.len() / row > most * joined {
            joined *= 2;
        }
        let mut data = Vec::new();
        for pixels in self.pixels.chunks(row * joined) {
            let at = data.len();
            data.extend_from_slice(&pixels[..row.min(pixels.len())]);
            for pixel in pixels.chunks_exact(row) {
                for (held, pair) in data[at..].chunks_exact_mut(2).zip(pixel.chunks_exact(2)) {
                    held[0] = held[0].min(pair[0]);
                    held[1] = held[1].max(pair[1]);
                }
            }
        }
        let waveform = Waveform {
            version: 2,
            channels: self.lanes,
            sample_rate: plan.sample_rate,
            samples_per_pixel: plan.sample_rate / PIXELS_PER_SECOND * joined as u32,
            bits: 8,
            length: data.len() / row,
            data,
        };
        serde_json::to_string(&waveform)
            .expect("a waveform has string keys and no failing serialiser")
    }
}

#[derive(Debug, Serialize)]
struct Waveform {
    version: u32,
    channels: usize,
    sample_rate: u32,
    samples_per_pixel: u32,
    bits: u32,
    /// Pixels.
    length: usize,
    data: Vec<i8>,
}

/// Makes the waveform of a part from its samples. The part begins with a whole pixel.
pub(crate) struct PeaksBuilder {
    peaks: Peaks,
    samples_per_pixel: usize,
    /// Samples of the part still to come.
    left: u64,
    /// Least and greatest of the pixel under way.
    pixel: Vec<(i16, i16)>,
    filled: usize,
}

impl PeaksBuilder {
    pub fn new(plan: &Plan, part: Range<u64>) -> Self {
        Self {
            peaks: Peaks::of(plan),
            samples_per_pixel: (plan.sample_rate / PIXELS_PER_SECOND) as usize,
            left: part.end - part.start,
            pixel: vec![(i16::MAX, i16::MIN); plan.lanes.len()],
            filled: 0,
        }
    }

    /// Takes the next samples, as many of each lane.
    pub fn take(&mut self, lanes: &[Vec<i16>]) {
        let count = lanes.first().map_or(0, Vec::len);
        let count = count.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= count as u64;
        let mut at = 0;
        while at < count {
            let taken = (count - at).min(self.samples_per_pixel - self.filled);
            for (pixel, lane) in self.pixel.iter_mut().zip(lanes) {
                for sample in &lane[at..at + taken] {
                    *pixel = (pixel.0.min(*sample), pixel.1.max(*sample));
                }
            }
            at += taken;
            self.filled += taken;
            if self.filled == self.samples_per_pixel {
                self.end_pixel();
            }
        }
    }

    pub fn finish(mut self) -> Peaks {
        if self.filled > 0 {
            self.end_pixel();
        }
        self.peaks
    }

    fn end_pixel(&mut self) {
        self.filled = 0;
        for (pixel, heard) in self.pixel.iter_mut().zip(&mut self.peaks.heard) {
            let (least, greatest) = std::mem::replace(pixel, (i16::MAX, i16::MIN));
            self.peaks.pixels.extend([(least >> 8) as i8, (greatest >> 8) as i8]);
            let loudest = least.unsigned_abs().max(greatest.unsigned_abs());
            heard.loudest = heard.loudest.max(loudest);
            heard.pixels += 1;
            heard.quiet_pixels += u64::from(loudest <= QUIET_PEAK);
        }
    }
}
