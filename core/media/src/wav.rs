//! WAV, 16 bits, as it is rendered on demand: all lanes as channels, or one of them.

use std::io::Write;

use crate::call::{Call, ReadError};

const HEADER_BYTES: u64 = 44;
/// Samples of each lane read at a time.
pub(crate) const BLOCK: usize = 4_096;

#[derive(Debug, thiserror::Error)]
pub enum WavError {
    /// A WAV file counts its bytes in 32 bits: 74 hours of one lane, 37 of two, at 8 kHz.
    #[error("the call is too long for a WAV file: {bytes} bytes")]
    TooLong { bytes: u64 },
    #[error("the call has no track {track}")]
    NoTrack { track: usize },
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the output cannot be written")]
    Output(#[from] std::io::Error),
}

/// Renders a call, every lane one channel, or only lane `track`. A call without a lane is one
/// silent channel.
pub fn write(call: &Call, track: Option<usize>, out: &mut impl Write) -> Result<(), WavError> {
    if let Some(track) = track.filter(|track| *track >= call.lanes.len()) {
        return Err(WavError::NoTrack { track });
    }
    out.write_all(&header(call, track)?)?;
    let mut bytes = Vec::new();
    interleave(call, track, |block| {
        bytes.clear();
        bytes.extend(block.iter().flat_map(|sample| sample.to_le_bytes()));
        out.write_all(&bytes)
    })
}

/// How large the file will be.
pub fn bytes(call: &Call, track: Option<usize>) -> u64 {
    HEADER_BYTES + call.samples * channels(call, track) as u64 * 2
}

pub(crate) fn channels(call: &Call, track: Option<usize>) -> usize {
    if track.is_some() { 1 } else { call.lanes.len().max(1) }
}

fn header(call: &Call, track: Option<usize>) -> Result<Vec<u8>, WavError> {
    let channels = channels(call, track);
    let data_bytes = bytes(call, track) - HEADER_BYTES;
    let too_long = || WavError::TooLong { bytes: data_bytes };
    let riff_bytes = u32::try_from(data_bytes + HEADER_BYTES - 8).map_err(|_| too_long())?;
    let frame_bytes = u16::try_from(channels * 2).map_err(|_| too_long())?;
    let mut out = Vec::with_capacity(HEADER_BYTES as usize);
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
    Ok(out)
}

/// Calls `push` with block after block of interleaved samples; silence where there is no lane.
pub(crate) fn interleave<E>(
    call: &Call,
    track: Option<usize>,
    mut push: impl FnMut(&[i16]) -> std::io::Result<()>,
) -> Result<(), E>
where
    E: From<ReadError> + From<std::io::Error>,
{
    let channels = channels(call, track);
    let mut blocks = vec![Vec::new(); call.lanes.len()];
    let mut samples = call.samples();
    let mut frames = Vec::new();
    loop {
        let count = samples.read(BLOCK, &mut blocks)?;
        if count == 0 {
            return Ok(());
        }
        frames.clear();
        frames.resize(count * channels, 0);
        let heard = blocks.iter().enumerate();
        let heard = heard.filter(|(lane, _)| track.is_none_or(|track| track == *lane));
        for (channel, (_, block)) in heard.enumerate() {
            for (frame, sample) in frames.chunks_exact_mut(channels).zip(block) {
                frame[channel] = *sample;
            }
        }
        push(&frames)?;
    }
}
