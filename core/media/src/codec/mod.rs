//! Which payloads can be decoded, and decoding them.
//!
//! G.711 µ-law and A-law and G.722 are decoded. A stream of anything else is kept, counted and
//! laid out, but silent, and its recording is flagged `undecoded_track`: a later release that
//! knows the codec builds the audio from the kept packets.

mod upsample;

use audio_codec::Decoder as _;
use audio_codec::g722::G722Decoder;
use audio_codec::pcma::PcmaDecoder;
use audio_codec::pcmu::PcmuDecoder;
use segment::Format;

use upsample::Upsampler;

/// Samples a second of everything narrowband.
pub(crate) const NARROW_HZ: u32 = 8_000;
/// Samples a second of a call in which somebody speaks G.722.
pub(crate) const WIDE_HZ: u32 = 16_000;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codec {
    Pcmu,
    Pcma,
    G722,
    /// Comfort noise (RFC 3389): rendered as silence.
    ComfortNoise,
    /// Named events (RFC 4733): marks, not sound.
    TelephoneEvent,
    Unknown,
}

impl Codec {
    /// By the negotiated format, else by the static payload type (RFC 3551 §6).
    pub fn of(format: Option<&Format>, payload_type: u8) -> Self {
        let Some(format) = format else {
            return match payload_type {
                0 => Self::Pcmu,
                8 => Self::Pcma,
                9 => Self::G722,
                13 => Self::ComfortNoise,
                _ => Self::Unknown,
            };
        };
        let is = |name: &str| format.encoding.eq_ignore_ascii_case(name);
        let plain = format.channels <= 1 && format.clock_rate == NARROW_HZ;
        if is("telephone-event") {
            Self::TelephoneEvent
        } else if is("CN") {
            Self::ComfortNoise
        } else if is("PCMU") && plain {
            Self::Pcmu
        } else if is("PCMA") && plain {
            Self::Pcma
        } else if is("G722") && plain {
            // Sampled at 16 kHz with a clock of 8 kHz, by an old mistake (RFC 3551 §4.5.2).
            Self::G722
        } else {
            Self::Unknown
        }
    }

    /// Whether it can be made audible.
    pub fn is_decoded(self) -> bool {
        matches!(self, Self::Pcmu | Self::Pcma | Self::G722)
    }

    /// The rate that loses nothing of it.
    pub fn sample_rate(self) -> u32 {
        if self == Self::G722 { WIDE_HZ } else { NARROW_HZ }
    }

    /// How long a payload lasts, in ticks of the RTP clock, where its length tells: one octet is
    /// one tick of 8 kHz in all three.
    pub fn ticks(self, payload_bytes: usize) -> Option<i64> {
        self.is_decoded().then_some(payload_bytes as i64)
    }
}

/// Decodes the payloads of one stream in order, to one sample rate.
pub(crate) struct Decoder {
    sample_rate: u32,
    g722: Option<Box<G722Decoder>>,
    upsampler: Upsampler,
    scratch: Vec<i16>,
}

impl Decoder {
    /// `sample_rate`: [`NARROW_HZ`], or [`WIDE_HZ`] when any stream of the call is G.722.
    pub fn new(sample_rate: u32) -> Self {
        Self { sample_rate, g722: None, upsampler: Upsampler::default(), scratch: Vec::new() }
    }

    /// Appends what `payload` sounds like; nothing for what is not decoded.
    pub fn decode(&mut self, codec: Codec, payload: &[u8], out: &mut Vec<i16>) {
        self.scratch.clear();
        self.scratch.resize(payload.len() * 2, 0);
        let decoded = match codec {
            Codec::Pcmu => PcmuDecoder::new().decode_into(payload, &mut self.scratch),
            Codec::Pcma => PcmaDecoder::new().decode_into(payload, &mut self.scratch),
            Codec::G722 => self
                .g722
                .get_or_insert_with(|| Box::new(G722Decoder::new()))
                .decode_into(payload, &mut self.scratch),
            Codec::ComfortNoise | Codec::TelephoneEvent | Codec::Unknown => Ok(0),
        };
        // The only error is a buffer that is too small, and two samples an octet are enough.
        let samples = &self.scratch[..decoded.unwrap_or(0).min(self.scratch.len())];
        if codec.sample_rate() == self.sample_rate {
            out.extend_from_slice(samples);
        } else {
            self.upsampler.double(samples, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use audio_codec::Encoder as _;

    use super::*;

    fn format(encoding: &str, clock_rate: u32) -> Format {
        let encoding = encoding.to_owned();
        Format { payload_type: 96, encoding, clock_rate, channels: 1, fmtp: None }
    }

    #[test]
    fn a_format_decides_before_a_static_payload_type() {
        assert_eq!(Codec::of(None, 0), Codec::Pcmu);
        assert_eq!(Codec::of(None, 18), Codec::Unknown);
        assert_eq!(Codec::of(Some(&format("pcma", 8_000)), 0), Codec::Pcma);
        assert_eq!(Codec::of(Some(&format("telephone-event", 8_000)), 0), Codec::TelephoneEvent);
        assert_eq!(Codec::of(Some(&format("opus", 48_000)), 0), Codec::Unknown);
        // Allowed by RFC 3551 §4.5.14 and never seen: kept, not played at the wrong speed.
        assert_eq!(Codec::of(Some(&format("PCMU", 16_000)), 0), Codec::Unknown);
    }

    #[test]
    fn g711_is_decoded_as_itu_t_tabulates_it() {
        let mut out = Vec::new();
        Decoder::new(NARROW_HZ).decode(Codec::Pcmu, &[0xff, 0x7f, 0x80, 0x00], &mut out);
        assert_eq!(out, [0, 0, 32_124, -32_124]);
        out.clear();
        Decoder::new(NARROW_HZ).decode(Codec::Pcma, &[0xd5, 0x55, 0xaa, 0x2a], &mut out);
        assert_eq!(out, [8, -8, 32_256, -32_256]);
    }

    #[test]
    fn g722_comes_back_at_16_khz() {
        let tone: Vec<i16> =
            (0..16_000).map(|n| ((n as f32 * 0.1).sin() * 8_000.0) as i16).collect();
        let coded = audio_codec::g722::G722Encoder::new().encode(&tone);
        let mut out = Vec::new();
        let mut decoder = Decoder::new(WIDE_HZ);
        for payload in coded.chunks(160) {
            decoder.decode(Codec::G722, payload, &mut out);
        }
        assert_eq!(out.len(), tone.len());
        // The filter banks of both ends delay by 22 samples (ITU-T G.722 §5.2.1 and §6.2.1).
        let best = (0..40).map(|delay| crate::test_tone::correlation(&tone, &out[delay..]));
        assert!(best.fold(0.0, f64::max) > 0.99);
    }

    #[test]
    fn what_is_not_decoded_is_nothing() {
        let mut out = Vec::new();
        for codec in [Codec::Unknown, Codec::TelephoneEvent, Codec::ComfortNoise] {
            Decoder::new(NARROW_HZ).decode(codec, &[1, 2, 3], &mut out);
        }
        assert!(out.is_empty(), "{out:?}");
    }
}
