//! The waveform that a browser draws: BBC audiowaveform, version 2 JSON, 8 bits.
//!
//! One channel per lane, in the order of the tracks; for each pixel the least and the greatest
//! sample of each channel. 20 pixels a second; of very long calls fewer, so that the file stays
//! below some hundred kilobytes.

use serde::Serialize;

use crate::assemble::Assembled;
use crate::lanes::Pcm;

const PIXELS_PER_SECOND: u32 = 20;
const MOST_PIXELS: u64 = 20_000;

#[derive(Debug, Serialize)]
struct Waveform {
    version: u32,
    channels: usize,
    sample_rate: u32,
    samples_per_pixel: u32,
    bits: u32,
    /// Pixels.
    length: u64,
    data: Vec<i8>,
}

pub fn json(call: &Assembled) -> String {
    let mut samples_per_pixel = call.sample_rate / PIXELS_PER_SECOND;
    while call.samples / u64::from(samples_per_pixel) > MOST_PIXELS {
        samples_per_pixel *= 2;
    }
    let mut lanes: Vec<Pcm<'_>> = call.lanes.iter().map(|lane| lane.pcm()).collect();
    let mut block = vec![0_i16; samples_per_pixel as usize];
    let length = call.samples.div_ceil(u64::from(samples_per_pixel));
    let mut data = Vec::new();
    for _ in 0..length {
        for lane in &mut lanes {
            let read = lane.read(&mut block);
            let samples = block.iter().take(read);
            let least = samples.clone().min().copied().unwrap_or(0);
            let greatest = samples.max().copied().unwrap_or(0);
            data.extend([(least >> 8) as i8, (greatest >> 8) as i8]);
        }
    }
    let waveform = Waveform {
        version: 2,
        channels: lanes.len(),
        sample_rate: call.sample_rate,
        samples_per_pixel,
        bits: 8,
        length,
        data,
    };
    serde_json::to_string(&waveform).expect("a waveform has string keys and no failing serialiser")
}
