//! FLAC, lossless at about half of WAV: all lanes as channels, or one of them.

use flacenc::bitsink::ByteSink;
use flacenc::component::BitRepr as _;
use flacenc::error::Verify as _;
use flacenc::source::MemSource;

use crate::call::{Call, ReadError};
use crate::wav::{channels, interleave};

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
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the output cannot be written")]
    Output(#[from] std::io::Error),
}

/// Renders a call. Holds all of its samples in memory, four bytes each.
pub fn write(call: &Call, track: Option<usize>) -> Result<Vec<u8>, FlacError> {
    if let Some(track) = track.filter(|track| *track >= call.lanes.len()) {
        return Err(FlacError::NoTrack { track });
    }
    let channels = channels(call, track);
    if channels > MOST_CHANNELS {
        return Err(FlacError::TooManyTracks { lanes: channels });
    }
    let mut samples = Vec::new();
    interleave::<FlacError>(call, track, |block| {
        samples.extend(block.iter().map(|sample| i32::from(*sample)));
        Ok(())
    })?;
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
