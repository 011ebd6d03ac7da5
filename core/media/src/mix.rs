//! What a stereo or mono file carries: the lanes of a call as one or two channels.
//!
//! One lane is mono. Two or more are stereo: lanes of the first party left, of the second right,
//! of all others on both sides at half their level. Sums saturate.

use crate::assemble::Assembled;
use crate::lanes::{Channel, Pcm};

/// Channels of the mixed-down call: 1 or 2.
pub fn channels(call: &Assembled) -> usize {
    if call.lanes.len() > 1 { 2 } else { 1 }
}

/// Reads a call as interleaved samples.
pub struct Mix<'a> {
    lanes: Vec<(Channel, Pcm<'a>)>,
    channels: usize,
    left: u64,
    scratch: Vec<i16>,
}

impl<'a> Mix<'a> {
    pub fn new(call: &'a Assembled) -> Self {
        let lanes = call.lanes.iter().map(|lane| (lane.channel, lane.pcm())).collect();
        Self { lanes, channels: channels(call), left: call.samples, scratch: Vec::new() }
    }

    /// Fills `frames`, a whole number of frames; the number of frames read, 0 at the end.
    pub fn read(&mut self, frames: &mut [i16]) -> usize {
        let wanted = (frames.len() / self.channels) as u64;
        let count = wanted.min(self.left) as usize;
        self.left -= count as u64;
        frames.fill(0);
        self.scratch.resize(count, 0);
        for (channel, pcm) in &mut self.lanes {
            let read = pcm.read(&mut self.scratch);
            let samples = self.scratch.iter().take(read);
            for (frame, sample) in frames.chunks_exact_mut(self.channels).zip(samples) {
                match (frame, *channel) {
                    ([mono], _) => *mono = mono.saturating_add(*sample),
                    ([left, _], Channel::Left) => *left = left.saturating_add(*sample),
                    ([_, right], Channel::Right) => *right = right.saturating_add(*sample),
                    (both, _) => {
                        for side in both {
                            *side = side.saturating_add(*sample / 2);
                        }
                    }
                }
            }
        }
        count
    }
}
