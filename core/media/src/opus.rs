//! Opus packets of a call (RFC 6716), 20 ms each.
//!
//! The encoder runs at the rate of the call, 8 or 16 kHz: it needs no resampling for that, and
//! every decoder may decode to 48 kHz all the same (RFC 7845 §4).

use opus::{Application, Bitrate, Channels, Encoder};

use crate::assemble::Assembled;
use crate::mix::{self, Mix};

/// The clock of Opus in any container (RFC 7845 §4).
pub(crate) const OPUS_HZ: u64 = 48_000;
pub(crate) const PACKET_MS: u64 = 20;
/// An Opus frame is at most 1,275 bytes (RFC 6716 §3.2.1).
const LARGEST_PACKET_BYTES: usize = 1_275 + 7;
/// Speech of which a listener cannot tell that it was coded again.
const BITS_PER_CHANNEL: i32 = 24_000;

#[derive(Debug, thiserror::Error)]
#[error("opus encoder")]
pub struct OpusError(#[from] opus::Error);

/// Encodes a call, packet by packet.
pub(crate) struct Packets<'a> {
    encoder: Encoder,
    mix: Mix<'a>,
    frame: Vec<i16>,
    /// Packets still to come.
    left: u64,
    pub channels: usize,
    pub sample_rate: u32,
    /// How much the decoder throws away at the start, in [`OPUS_HZ`] ticks.
    pub pre_skip: u64,
    /// How much of the last packet lies beyond the end of the call, in [`OPUS_HZ`] ticks.
    pub padding: u64,
}

impl<'a> Packets<'a> {
    pub fn new(call: &'a Assembled) -> Result<Self, OpusError> {
        let channels = mix::channels(call);
        let kind = if channels == 1 { Channels::Mono } else { Channels::Stereo };
        // `Voip` would shape the spectrum to please; a recording stays as close as it can.
        let mut encoder = Encoder::new(call.sample_rate, kind, Application::Audio)?;
        encoder.set_bitrate(Bitrate::Bits(BITS_PER_CHANNEL * channels as i32))?;
        let factor = OPUS_HZ / u64::from(call.sample_rate);
        let pre_skip = u64::try_from(encoder.get_lookahead()?).unwrap_or(0) * factor;
        let ticks = call.samples * factor + pre_skip;
        let packet_ticks = OPUS_HZ * PACKET_MS / 1_000;
        // At least one: a file without a packet is no file.
        let left = ticks.div_ceil(packet_ticks).max(1);
        let frame_samples = (u64::from(call.sample_rate) * PACKET_MS / 1_000) as usize;
        Ok(Self {
            encoder,
            mix: Mix::new(call),
            frame: vec![0; frame_samples * channels],
            left,
            channels,
            sample_rate: call.sample_rate,
            pre_skip,
            padding: left * packet_ticks - ticks,
        })
    }

    /// `None` after the last packet.
    pub fn next_packet(&mut self) -> Result<Option<Vec<u8>>, OpusError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        // Past the end of the call this reads silence, which pushes the rest out of the encoder.
        self.mix.read(&mut self.frame);
        Ok(Some(self.encoder.encode_vec(&self.frame, LARGEST_PACKET_BYTES)?))
    }
}
