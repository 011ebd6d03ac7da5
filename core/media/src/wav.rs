//! WAV, 16 bits, as it is rendered on demand: all lanes as channels, or one of them.

use crate::assemble::Assembled;
use crate::lanes::Pcm;

const HEADER_BYTES: u64 = 44;

/// A WAV file counts its bytes in 32 bits: 74 hours of one lane, 37 of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WavError {
    #[error("the call is too long for a WAV file: {bytes} bytes")]
    TooLong { bytes: u64 },
    #[error("the call has no track {track}")]
    NoTrack { track: usize },
}

/// Renders a call, every lane one channel, or only lane `track`. A call without a lane is one
/// silent channel.
pub fn write(call: &Assembled, track: Option<usize>) -> Result<Vec<u8>, WavError> {
    let mut lanes: Vec<Pcm<'_>> = match track {
        Some(track) => vec![call.lanes.get(track).ok_or(WavError::NoTrack { track })?.pcm()],
        None => call.lanes.iter().map(|lane| lane.pcm()).collect(),
    };
    let channels = lanes.len().max(1);
    let data_bytes = call.samples * channels as u64 * 2;
    let too_long = WavError::TooLong { bytes: data_bytes };
    let riff_bytes = u32::try_from(data_bytes + HEADER_BYTES - 8).map_err(|_| too_long)?;
    let frame_bytes = u16::try_from(channels * 2).map_err(|_| too_long)?;

    let mut out = Vec::with_capacity((HEADER_BYTES + data_bytes) as usize);
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&riff_bytes.to_le_bytes());
    out.extend_from_slice(b"WAVEfmt ");
    out.extend_from_slice(&16_u32.to_le_bytes());
    // Format 1, linear PCM.
    out.extend_from_slice(&1_u16.to_le_bytes());
    out.extend_from_slice(&(frame_bytes / 2).to_le_bytes());
    out.extend_from_slice(&call.sample_rate.to_le_bytes());
    out.extend_from_slice(&(call.sample_rate * u32::from(frame_bytes)).to_le_bytes());
    out.extend_from_slice(&frame_bytes.to_le_bytes());
    out.extend_from_slice(&16_u16.to_le_bytes());
    out.extend_from_slice(b"data");
    out.extend_from_slice(&(riff_bytes - (HEADER_BYTES as u32 - 8)).to_le_bytes());
    interleave(&mut lanes, call.samples, |sample| out.extend_from_slice(&sample.to_le_bytes()));
    Ok(out)
}

/// Calls `push` with every sample of every frame; with silence where there is no lane.
pub(crate) fn interleave(lanes: &mut [Pcm<'_>], samples: u64, mut push: impl FnMut(i16)) {
    const BLOCK: usize = 4_096;
    let mut blocks = vec![[0_i16; BLOCK]; lanes.len().max(1)];
    let mut left = samples;
    while left > 0 {
        let count = left.min(BLOCK as u64) as usize;
        for (lane, block) in lanes.iter_mut().zip(&mut blocks) {
            lane.read(&mut block[..count]);
        }
        for at in 0..count {
            for block in &blocks {
                push(block[at]);
            }
        }
        left -= count as u64;
    }
}
