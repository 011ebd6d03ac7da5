//! The lanes of a call as the one or two channels of a file.
//!
//! Stereo: lanes of the first party left, of the second right, of all others on both sides at half
//! their level. A call of one lane is mono. Sums saturate.

use std::ops::Range;

use crate::call::{Call, ReadError, Samples};
use crate::plan::Channel;

/// What of a call is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Selection {
    /// Every lane on its side.
    Sides,
    /// Every lane in the middle.
    Mono,
    /// One lane alone.
    Track(usize),
}

impl Selection {
    /// Channels of the file: 1 or 2.
    pub fn channels(self, call: &Call) -> usize {
        if self == Self::Sides && call.lanes.len() > 1 { 2 } else { 1 }
    }
}

/// Reads a call as interleaved frames.
pub struct Mix<'a> {
    samples: Samples<'a>,
    /// `None` for a lane that is not heard.
    sides: Vec<Option<Channel>>,
    channels: usize,
    blocks: Vec<Vec<i16>>,
}

impl<'a> Mix<'a> {
    pub fn new(call: &'a Call, selection: Selection, part: Range<u64>) -> Self {
        let side = |(index, lane): (usize, &crate::plan::Lane)| match selection {
            Selection::Sides => Some(lane.channel),
            Selection::Mono => Some(Channel::Centre),
            Selection::Track(track) => (index == track).then_some(Channel::Centre),
        };
        Self {
            samples: call.part(part),
            sides: call.lanes.iter().enumerate().map(side).collect(),
            channels: selection.channels(call),
            blocks: vec![Vec::new(); call.lanes.len()],
        }
    }

    /// Fills `frames`, a whole number of them, with silence after the end; the number of frames
    /// read, 0 at the end.
    pub fn read(&mut self, frames: &mut [i16]) -> Result<usize, ReadError> {
        let count = self.samples.read(frames.len() / self.channels, &mut self.blocks)?;
        mix(&self.sides, &self.blocks, count, self.channels, frames);
        Ok(count)
    }

    /// What the last read had of each lane.
    pub fn lanes(&self) -> &[Vec<i16>] {
        &self.blocks
    }
}

fn mix(
    sides: &[Option<Channel>],
    blocks: &[Vec<i16>],
    count: usize,
    channels: usize,
    frames: &mut [i16],
) {
    frames.fill(0);
    for (side, block) in sides.iter().zip(blocks) {
        let Some(side) = *side else { continue };
        for (frame, sample) in frames.chunks_exact_mut(channels).zip(block.iter().take(count)) {
            match (frame, side) {
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
}
