//! Opus packets of a call (RFC 6716), 20 ms each, a minute at a time.
//!
//! The encoder runs at the rate of the call, 8, 16 or 48 kHz: it needs no resampling for that, and
//! every decoder may decode to 48 kHz all the same (RFC 7845 §4).
//!
//! A minute is encoded by itself: after some audio before it that only settles decoders and
//! encoder, and beginning with a packet that needs none before it. So minutes can be encoded in
//! any order, while the call lasts, and again after a crash, and be joined without a seam.

use opus::{Application, Bitrate, Channels, Encoder};
use serde::{Deserialize, Serialize};

use crate::call::{Call, ReadError};
use crate::mix::{Mix, Selection};
use crate::peaks::{Peaks, PeaksBuilder};

/// The clock of Opus in any container (RFC 7845 §4).
pub(crate) const OPUS_HZ: u64 = 48_000;
pub(crate) const PACKET_MS: u64 = 20;
const PACKET_TICKS: u64 = OPUS_HZ * PACKET_MS / 1_000;
/// An Opus frame is at most 1,275 bytes (RFC 6716 §3.2.1).
const LARGEST_PACKET_BYTES: usize = 1_275 + 7;
/// What settles the encoder before a minute: 400 ms.
const PRE_ROLL_PACKETS: u64 = 20;
/// The length of a minute.
pub const MINUTE_MS: u64 = 60_000;
const MINUTE_PACKETS: u64 = MINUTE_MS / PACKET_MS;

#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("opus encoder")]
    Opus(#[from] opus::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the output cannot be written")]
    Output(#[from] std::io::Error),
}

/// What a player must know of the packets of a call, or of a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub channels: usize,
    pub sample_rate: u32,
    /// Samples that are heard.
    pub samples: u64,
    pub packets: u64,
    /// How much the decoder throws away at the start, in ticks of 48 kHz.
    pub(crate) pre_skip: u64,
    /// How much of the last packet lies beyond the end, in ticks of 48 kHz.
    pub(crate) padding: u64,
}

impl Shape {
    pub fn of(call: &Call, selection: Selection) -> Result<Self, EncodeError> {
        Self::new(selection.channels(call), call.sample_rate, call.samples, 0)
    }

    /// `pre_roll`: samples at the start that only settle the decoder.
    fn new(
        channels: usize,
        sample_rate: u32,
        samples: u64,
        pre_roll: u64,
    ) -> Result<Self, EncodeError> {
        let factor = OPUS_HZ / u64::from(sample_rate);
        let lookahead = encoder(sample_rate, channels)?.get_lookahead()?;
        let pre_skip = (u64::try_from(lookahead).unwrap_or(0) + pre_roll) * factor;
        let ticks = samples * factor + pre_skip;
        // At least one: a file without a packet is no file.
        let packets = ticks.div_ceil(PACKET_TICKS).max(1);
        Ok(Self {
            channels,
            sample_rate,
            samples,
            packets,
            pre_skip,
            padding: packets * PACKET_TICKS - ticks,
        })
    }

    /// How many minutes the call has; the last one may be shorter.
    pub fn minutes(&self) -> u64 {
        (self.samples * 1_000).div_ceil(MINUTE_MS * u64::from(self.sample_rate)).max(1)
    }

    fn frame_samples(&self) -> u64 {
        u64::from(self.sample_rate) * PACKET_MS / 1_000
    }
}

/// A minute of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Minute {
    lengths: Vec<u16>,
    bytes: Vec<u8>,
    pub peaks: Peaks,
}

impl Minute {
    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map_while(move |length| {
            let (packet, after) = rest.split_at_checked(usize::from(*length))?;
            rest = after;
            Some(packet)
        })
    }
}

/// Encodes one minute, the first being 0.
pub fn minute(call: &Call, selection: Selection, number: u64) -> Result<Minute, EncodeError> {
    let shape = Shape::of(call, selection)?;
    let first = number * MINUTE_PACKETS;
    let is_last = number + 1 >= shape.minutes();
    let count = if is_last { shape.packets.saturating_sub(first) } else { MINUTE_PACKETS };
    let mut packets = Packets::new(call, selection, &shape, first, count)?;
    let from = first * shape.frame_samples();
    let to = (from + MINUTE_PACKETS * shape.frame_samples()).min(call.samples);
    let mut peaks = PeaksBuilder::new(call, from..to.max(from));
    let (mut lengths, mut bytes) = (Vec::new(), Vec::new());
    while let Some(packet) = packets.next_packet()? {
        peaks.take(packets.mix.lanes());
        // At most LARGEST_PACKET_BYTES.
        lengths.push(packet.len() as u16);
        bytes.extend_from_slice(&packet);
    }
    Ok(Minute { lengths, bytes, peaks: peaks.finish() })
}

/// Encodes some seconds by themselves, for a listener who has nothing before them: shape and
/// packets. `from` and `samples` are of the call; the part begins with its own pre-roll.
pub fn part(
    call: &Call,
    selection: Selection,
    from: u64,
    samples: u64,
) -> Result<(Shape, Vec<Vec<u8>>), EncodeError> {
    let frame = u64::from(call.sample_rate) * PACKET_MS / 1_000;
    // 80 ms settle a decoder (RFC 7845 §4.6); whole packets, so that the encoder settles too.
    let pre_roll = from.min(4 * frame);
    let shape = Shape::new(selection.channels(call), call.sample_rate, samples, pre_roll)?;
    let mut encoder = encoder(shape.sample_rate, shape.channels)?;
    let begin = from - pre_roll;
    let mut mix = Mix::new(call, selection, begin..begin + shape.packets * frame);
    let mut frames = vec![0; frame as usize * shape.channels];
    let mut packets = Vec::new();
    for _ in 0..shape.packets {
        mix.read(&mut frames)?;
        packets.push(encoder.encode_vec(&frames, LARGEST_PACKET_BYTES)?);
    }
    Ok((shape, packets))
}

/// A name for what a minute is made of, under which it can be kept; `None` while the call lasts and
/// more of it may come.
pub fn minute_content(call: &Call, selection: Selection, number: u64) -> Option<String> {
    let samples = MINUTE_MS * u64::from(call.sample_rate) / 1_000;
    let from = number * samples;
    let is_whole = from + samples < call.samples;
    // The last minute has the end of the encoder in it, and none is longer than a minute.
    if is_whole { call.fingerprint(selection, from..from + samples) } else { None }
}

fn encoder(sample_rate: u32, channels: usize) -> Result<Encoder, opus::Error> {
    let kind = if channels == 1 { Channels::Mono } else { Channels::Stereo };
    // `Voip` would shape the spectrum to please; a recording stays as close as it can.
    let mut encoder = Encoder::new(sample_rate, kind, Application::Audio)?;
    // Speech of which a listener cannot tell that it was coded again.
    let bits_per_channel = match sample_rate {
        0..=8_000 => 24_000,
        8_001..=16_000 => 28_000,
        _ => 40_000,
    };
    encoder.set_bitrate(Bitrate::Bits(bits_per_channel * channels as i32))?;
    Ok(encoder)
}

/// Encodes packets of a call from one of them on.
struct Packets<'a> {
    encoder: Encoder,
    mix: Mix<'a>,
    frames: Vec<i16>,
    left: u64,
    /// The next packet must be understood without the one before.
    is_first: bool,
}

impl<'a> Packets<'a> {
    fn new(
        call: &'a Call,
        selection: Selection,
        shape: &Shape,
        first: u64,
        count: u64,
    ) -> Result<Self, EncodeError> {
        let mut encoder = encoder(shape.sample_rate, shape.channels)?;
        let pre_roll = first.min(PRE_ROLL_PACKETS);
        let frame = shape.frame_samples();
        // Past the end of the call this reads silence, which pushes the rest out of the encoder.
        let part = (first - pre_roll) * frame..(first + count) * frame;
        let mut mix = Mix::new(call, selection, part);
        let mut frames = vec![0; frame as usize * shape.channels];
        for _ in 0..pre_roll {
            mix.read(&mut frames)?;
            encoder.encode_vec(&frames, LARGEST_PACKET_BYTES)?;
        }
        Ok(Self { encoder, mix, frames, left: count, is_first: pre_roll > 0 })
    }

    /// `None` after the last packet.
    fn next_packet(&mut self) -> Result<Option<Vec<u8>>, EncodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.mix.read(&mut self.frames)?;
        self.encoder.set_prediction_disabled(self.is_first)?;
        self.is_first = false;
        Ok(Some(self.encoder.encode_vec(&self.frames, LARGEST_PACKET_BYTES)?))
    }
}
