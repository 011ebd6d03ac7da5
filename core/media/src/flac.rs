//! FLAC, lossless at about half of WAV: all lanes as channels, or one of them.

use flacenc::bitsink::ByteSink;
use flacenc::component::BitRepr as _;
use flacenc::error::Verify as _;
use flacenc::source::MemSource;

use crate::assemble::Assembled;
use crate::lanes::Pcm;
use crate::wav::interleave;

/// The most channels a FLAC stream can have (RFC 9639 §9.1.3).
const MOST_CHANNELS: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum FlacError {
    #[error("the call has no track {track}")]
    NoTrack { track: usize },
    #[error("{lanes} tracks are more than a FLAC file can hold: export them one by one")]
    TooManyTracks { lanes: usize },
    #[error("flac encoder: {0}")]
    Encoder(String),
}

/// Renders a call. Holds all of its samples in memory, four bytes each.
pub fn write(call: &Assembled, track: Option<usize>) -> Result<Vec<u8>, FlacError> {
    let mut lanes: Vec<Pcm<'_>> = match track {
        Some(track) => vec![call.lanes.get(track).ok_or(FlacError::NoTrack { track })?.pcm()],
        None => call.lanes.iter().map(|lane| lane.pcm()).collect(),
    };
    let channels = lanes.len().max(1);
    if channels > MOST_CHANNELS {
        return Err(FlacError::TooManyTracks { lanes: channels });
    }
    let mut samples = Vec::new();
    interleave(&mut lanes, call.samples, |sample| samples.push(i32::from(sample)));
    let config = flacenc::config::Encoder::default()
        .into_verified()
        .map_err(|(_, error)| FlacError::Encoder(error.to_string()))?;
    let source = MemSource::from_samples(&samples, channels, 16, call.sample_rate as usize);
    let stream = flacenc::encode_with_fixed_block_size(&config, source, config.block_size)
        .map_err(|error| FlacError::Encoder(error.to_string()))?;
    let mut sink = ByteSink::new();
    stream.write(&mut sink).map_err(|error| FlacError::Encoder(error.to_string()))?;
    Ok(sink.as_slice().to_vec())
}
