//! Which payloads can be decoded, and decoding them.
//!
//! A stream of anything else is kept, counted and laid out, but silent, and its recording is
//! flagged `undecoded_track`: a later release that knows the codec builds the audio from the kept
//! packets.
//!
//! Every codec is decoded at the rate that loses nothing of it, and brought to the rate of the
//! call, which is that of its widest stream.

mod frames;
mod g726;
mod noise;

use audio_codec::g722::G722Decoder;
use audio_codec::pcma::PcmaDecoder;
use audio_codec::pcmu::PcmuDecoder;
use audio_codec::resampler::BoxedResampler;
use segment::Format;

use frames::{Frames, G729_FRAME_BYTES, silence_of_g729};
use g726::{G726, Packing};
use noise::ComfortNoise;

/// Samples a second of everything narrowband.
pub(crate) const NARROW_HZ: u32 = 8_000;
/// Samples a second of a call in which somebody speaks G.722.
pub(crate) const WIDE_HZ: u32 = 16_000;
/// Samples a second of a call in which somebody speaks Opus: its whole band.
pub(crate) const FULL_HZ: u32 = 48_000;

/// An Opus packet lasts at most 120 ms (RFC 6716 §3.2).
const LONGEST_OPUS_SAMPLES: usize = FULL_HZ as usize * 120 / 1_000;

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Codec {
    Pcmu,
    Pcma,
    G722,
    G726 {
        bits: u32,
        packing: Packing,
    },
    G729,
    GsmFr,
    /// `frame_bytes`: 38 of 20 ms or 50 of 30 ms (RFC 3952 §3). Kept and not decoded: the one decoder
    /// there is in Rust does not make of ffmpeg's frames what ffmpeg does.
    Ilbc {
        frame_bytes: usize,
    },
    Opus,
    /// Linear samples, big-endian (RFC 3551 §4.5.11).
    L16 {
        clock_rate: u32,
        channels: u8,
    },
    /// Comfort noise (RFC 3389).
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
                3 => Self::GsmFr,
                8 => Self::Pcma,
                9 => Self::G722,
                10 => Self::L16 { clock_rate: 44_100, channels: 2 },
                11 => Self::L16 { clock_rate: 44_100, channels: 1 },
                13 => Self::ComfortNoise,
                18 => Self::G729,
                _ => Self::Unknown,
            };
        };
        let name = format.encoding.to_ascii_uppercase();
        let is_narrow = format.channels <= 1 && format.clock_rate == NARROW_HZ;
        match name.as_str() {
            "TELEPHONE-EVENT" => Self::TelephoneEvent,
            "CN" => Self::ComfortNoise,
            "OPUS" if format.clock_rate == FULL_HZ => Self::Opus,
            "L16" if (1..=8).contains(&format.channels) => {
                Self::L16 { clock_rate: format.clock_rate, channels: format.channels }
            }
            // Allowed by RFC 3551 §4.5.14 and never seen: kept, not played at the wrong speed.
            _ if !is_narrow => Self::Unknown,
            "PCMU" => Self::Pcmu,
            "PCMA" => Self::Pcma,
            // Sampled at 16 kHz with a clock of 8 kHz, by an old mistake (RFC 3551 §4.5.2).
            "G722" => Self::G722,
            "G729" | "G729A" | "G729AB" => Self::G729,
            "GSM" => Self::GsmFr,
            "ILBC" => Self::Ilbc { frame_bytes: ilbc_frame_bytes(format.fmtp.as_deref()) },
            _ => g726(&name).unwrap_or(Self::Unknown),
        }
    }

    /// Whether it can be made audible.
    pub fn is_decoded(self) -> bool {
        match self {
            Self::G729 => cfg!(feature = "g729"),
            Self::Ilbc { .. } | Self::ComfortNoise | Self::TelephoneEvent | Self::Unknown => false,
            _ => true,
        }
    }

    /// The rate of a call that loses nothing of it.
    pub fn call_rate(self) -> u32 {
        match self {
            Self::G722 => WIDE_HZ,
            Self::Opus => FULL_HZ,
            Self::L16 { clock_rate, .. } if clock_rate > WIDE_HZ => FULL_HZ,
            Self::L16 { clock_rate, .. } if clock_rate > NARROW_HZ => WIDE_HZ,
            _ => NARROW_HZ,
        }
    }

    /// How long a payload lasts, in ticks of the RTP clock, where it tells.
    pub fn ticks(self, payload: &[u8]) -> Option<i64> {
        let bytes = payload.len();
        let ticks = match self {
            Self::Pcmu | Self::Pcma | Self::G722 => bytes,
            Self::G726 { bits, .. } => bytes * 8 / bits as usize,
            // A frame of two octets describes silence (RFC 3551 §4.5.6).
            Self::G729 => bytes.div_ceil(G729_FRAME_BYTES) * G729_FRAME_SAMPLES,
            Self::GsmFr => bytes / GSM_FRAME_BYTES * GSM_FRAME_SAMPLES,
            Self::Ilbc { frame_bytes } => {
                let frame = ilbc_frame(frame_bytes, bytes);
                bytes / frame * ilbc_samples(frame)
            }
            Self::Opus => opus::packet::get_nb_samples(payload, FULL_HZ).ok()?,
            Self::L16 { channels, .. } => bytes / 2 / usize::from(channels.max(1)),
            Self::ComfortNoise | Self::TelephoneEvent | Self::Unknown => return None,
        };
        Some(ticks as i64)
    }
}

const G729_FRAME_SAMPLES: usize = 80;
const GSM_FRAME_BYTES: usize = 33;
const GSM_FRAME_SAMPLES: usize = 160;

fn g726(name: &str) -> Option<Codec> {
    let (name, packing) = match name.strip_prefix("AAL2-") {
        Some(name) => (name, Packing::MostFirst),
        None => (name, Packing::LeastFirst),
    };
    let bits = match name.strip_prefix("G726-")? {
        "16" => 2,
        "24" => 3,
        "32" => 4,
        "40" => 5,
        _ => return None,
    };
    Some(Codec::G726 { bits, packing })
}

/// 30 ms is the default (RFC 3952 §5).
fn ilbc_frame_bytes(fmtp: Option<&str>) -> usize {
    let is_20_ms = fmtp.is_some_and(|fmtp| {
        fmtp.split(';').any(|parameter| parameter.trim().eq_ignore_ascii_case("mode=20"))
    });
    if is_20_ms { 38 } else { 50 }
}

/// What was negotiated, unless the payload is made of whole frames of the other length only.
fn ilbc_frame(negotiated: usize, payload_bytes: usize) -> usize {
    let other = if negotiated == 38 { 50 } else { 38 };
    let fits = |frame| payload_bytes > 0 && payload_bytes.is_multiple_of(frame);
    if !fits(negotiated) && fits(other) { other } else { negotiated }
}

fn ilbc_samples(frame_bytes: usize) -> usize {
    if frame_bytes == 38 { 160 } else { 240 }
}

/// Decodes the payloads of one run in order, to one sample rate.
pub(crate) struct Decoder {
    sample_rate: u32,
    g722: Option<Box<G722Decoder>>,
    g726: Option<(Codec, Box<G726>)>,
    opus: Option<opus::Decoder>,
    frames: Frames,
    noise: ComfortNoise,
    resampler: Option<(u32, BoxedResampler)>,
    scratch: Vec<i16>,
}

impl Decoder {
    /// `sample_rate`: the greatest [`Codec::call_rate`] of the call.
    pub fn new(sample_rate: u32) -> Self {
        Self {
            sample_rate,
            g722: None,
            g726: None,
            opus: None,
            frames: Frames::default(),
            noise: ComfortNoise::default(),
            resampler: None,
            scratch: Vec::new(),
        }
    }

    /// Appends what `payload` sounds like; nothing for what is not decoded.
    pub fn decode(&mut self, codec: Codec, payload: &[u8], out: &mut Vec<i16>) {
        let mut samples = std::mem::take(&mut self.scratch);
        samples.clear();
        let rate = match codec {
            Codec::Pcmu => {
                plain(&mut PcmuDecoder::new(), payload, &mut samples);
                NARROW_HZ
            }
            Codec::Pcma => {
                plain(&mut PcmaDecoder::new(), payload, &mut samples);
                NARROW_HZ
            }
            Codec::G722 => {
                let decoder = self.g722.get_or_insert_with(|| Box::new(G722Decoder::new()));
                plain(decoder.as_mut(), payload, &mut samples);
                WIDE_HZ
            }
            Codec::G726 { bits, packing } => {
                let (of, decoder) =
                    self.g726.get_or_insert_with(|| (codec, Box::new(G726::new(bits, packing))));
                if *of != codec {
                    (*of, **decoder) = (codec, G726::new(bits, packing));
                }
                decoder.decode(payload, &mut samples);
                NARROW_HZ
            }
            Codec::G729 | Codec::GsmFr => {
                self.frames.decode(codec, payload, &mut samples);
                if let Some(silence) = silence_of_g729(payload).filter(|_| codec == Codec::G729) {
                    self.noise.describe(&silence);
                }
                NARROW_HZ
            }
            Codec::Opus => {
                self.decode_opus(payload, LONGEST_OPUS_SAMPLES, false, &mut samples);
                self.sample_rate
            }
            Codec::L16 { clock_rate, channels } => {
                linear(payload, channels, &mut samples);
                clock_rate
            }
            Codec::ComfortNoise => {
                self.noise.describe(payload);
                self.sample_rate
            }
            Codec::Ilbc { .. } | Codec::TelephoneEvent | Codec::Unknown => self.sample_rate,
        };
        self.resample(rate, &samples, out);
        self.scratch = samples;
    }

    /// What a lost packet may have sounded like, by what the codec itself knows of it: Opus can
    /// have sent it again inside `next` (in-band FEC, RFC 6716 §2.1.7). False: the codec has no
    /// way of its own.
    pub fn conceal(
        &mut self,
        codec: Codec,
        samples: usize,
        next: &[u8],
        out: &mut Vec<i16>,
    ) -> bool {
        if codec != Codec::Opus || self.opus.is_none() {
            return false;
        }
        // FEC has the packet before `next`, which is as long as that one.
        let known = opus::packet::get_nb_samples(next, self.sample_rate).unwrap_or(0).min(samples);
        let from = out.len();
        if samples > known {
            self.decode_opus(&[], samples - known, false, out);
        }
        if known > 0 {
            self.decode_opus(next, known, true, out);
        }
        out.resize(from + samples, 0);
        true
    }

    /// How many samples of the call later than it should a decoded sample comes: what the filters
    /// of the codec, and of a change of rate, take.
    pub fn delay(&self, codec: Codec) -> i64 {
        let (rate, samples) = match codec {
            // The filter banks of both ends (ITU-T G.722 §5.2.1 and §6.2.1).
            Codec::G722 => (WIDE_HZ, 22),
            // What libopus looks ahead when it is not told to hurry (RFC 6716 §2: 6.5 ms).
            Codec::Opus => (FULL_HZ, 312),
            Codec::L16 { clock_rate, .. } => (clock_rate, 0),
            _ => (NARROW_HZ, 0),
        };
        let (native, rate) = (i64::from(rate.max(1)), i64::from(self.sample_rate));
        let is_resampled = codec != Codec::Opus && native != rate;
        // The filter's middle lies 11.5 samples back.
        let halves = 2 * samples + if is_resampled { 23 } else { 0 };
        halves * rate / native / 2
    }

    /// Whether comfort noise follows a packet until the next one.
    pub fn is_silence(codec: Codec, payload: &[u8]) -> bool {
        match codec {
            Codec::ComfortNoise => true,
            Codec::G729 => silence_of_g729(payload).is_some(),
            _ => false,
        }
    }

    /// Noise as it was last described, as long as is told.
    pub fn comfort_noise(&mut self, samples: usize, out: &mut Vec<i16>) {
        self.noise.generate(samples, out);
    }

    /// A stereo stream comes as the mean of its sides: a lane is one voice.
    fn decode_opus(&mut self, payload: &[u8], samples: usize, fec: bool, out: &mut Vec<i16>) {
        if self.opus.is_none() {
            self.opus = opus::Decoder::new(self.sample_rate, opus::Channels::Mono).ok();
        }
        let Some(decoder) = &mut self.opus else { return };
        // Lengths other than of whole 2.5 ms cannot be concealed.
        let step = self.sample_rate as usize / 400;
        let samples = samples.div_ceil(step) * step;
        let from = out.len();
        out.resize(from + samples, 0);
        let decoded = decoder.decode(payload, &mut out[from..], fec).unwrap_or(0);
        out.truncate(from + decoded.min(samples));
    }

    fn resample(&mut self, rate: u32, samples: &[i16], out: &mut Vec<i16>) {
        if rate == self.sample_rate || samples.is_empty() {
            out.extend_from_slice(samples);
            return;
        }
        if self.resampler.as_ref().is_none_or(|(held, _)| *held != rate) {
            let made = BoxedResampler::new(rate as usize, self.sample_rate as usize);
            self.resampler = made.ok().map(|made| (rate, made));
        }
        // A rate of 0 has no resampler, and nothing to be heard either.
        if let Some((_, resampler)) = &mut self.resampler {
            let from = out.len();
            out.resize(from + resampler.max_output_samples(samples.len()), 0);
            let made = resampler.resample_into(samples, &mut out[from..]).unwrap_or(0);
            out.truncate(from + made);
        }
    }
}

fn plain(decoder: &mut dyn audio_codec::Decoder, payload: &[u8], out: &mut Vec<i16>) {
    out.resize(decoder.max_decode_samples(payload.len()), 0);
    // The only error is a buffer that is too small.
    let decoded = decoder.decode_into(payload, out).unwrap_or(0);
    out.truncate(decoded);
}

/// The mean of all channels.
fn linear(payload: &[u8], channels: u8, out: &mut Vec<i16>) {
    let channels = usize::from(channels.max(1));
    out.extend(payload.chunks_exact(2 * channels).map(|frame| {
        let samples = frame.chunks_exact(2).map(|s| i32::from(i16::from_be_bytes([s[0], s[1]])));
        // A mean of 16-bit values has 16 bits.
        (samples.sum::<i32>() / channels as i32) as i16
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(encoding: &str, clock_rate: u32) -> Format {
        let encoding = encoding.to_owned();
        Format { payload_type: 96, encoding, clock_rate, channels: 1, fmtp: None }
    }

    #[test]
    fn a_format_decides_before_a_static_payload_type() {
        assert_eq!(Codec::of(None, 0), Codec::Pcmu);
        assert_eq!(Codec::of(None, 18), Codec::G729);
        assert_eq!(Codec::of(None, 96), Codec::Unknown);
        assert_eq!(Codec::of(Some(&format("pcma", 8_000)), 0), Codec::Pcma);
        assert_eq!(Codec::of(Some(&format("telephone-event", 8_000)), 0), Codec::TelephoneEvent);
        assert_eq!(Codec::of(Some(&format("opus", 48_000)), 0), Codec::Opus);
        assert_eq!(Codec::of(Some(&format("PCMU", 16_000)), 0), Codec::Unknown);
        let packed = |packing| Codec::G726 { bits: 5, packing };
        assert_eq!(Codec::of(Some(&format("g726-40", 8_000)), 0), packed(Packing::LeastFirst));
        assert_eq!(Codec::of(Some(&format("AAL2-G726-40", 8_000)), 0), packed(Packing::MostFirst));
        assert_eq!(Codec::of(Some(&format("G726-48", 8_000)), 0), Codec::Unknown);
    }

    #[test]
    fn the_mode_of_ilbc_is_told_or_seen() {
        let mut ilbc = format("iLBC", 8_000);
        assert_eq!(Codec::of(Some(&ilbc), 0).ticks(&[0; 50]), Some(240));
        assert_eq!(Codec::of(Some(&ilbc), 0).ticks(&[0; 38]), Some(160));
        ilbc.fmtp = Some("foo=1; mode=20".to_owned());
        assert_eq!(Codec::of(Some(&ilbc), 0), Codec::Ilbc { frame_bytes: 38 });
        assert_eq!(Codec::of(Some(&ilbc), 0).ticks(&[0; 76]), Some(320));
        assert_eq!(Codec::of(Some(&ilbc), 0).ticks(&[]), Some(0));
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
    fn linear_samples_are_big_endian_and_mixed_to_one() {
        let mut out = Vec::new();
        let codec = Codec::L16 { clock_rate: 8_000, channels: 2 };
        Decoder::new(NARROW_HZ).decode(codec, &[0x01, 0x00, 0x03, 0x00, 0x80], &mut out);
        assert_eq!(out, [512]);
        assert_eq!(codec.ticks(&[0; 640]), Some(160));
    }

    #[test]
    fn a_narrow_stream_is_brought_to_the_rate_of_the_call_and_is_not_late() {
        let tone: Vec<i16> =
            (0..8_000).map(|n| ((n as f32 * 0.3).sin() * 8_000.0) as i16).collect();
        let coded: Vec<u8> = tone.iter().flat_map(|sample| sample.to_be_bytes()).collect();
        let codec = Codec::L16 { clock_rate: 8_000, channels: 1 };
        for rate in [WIDE_HZ, FULL_HZ] {
            let mut out = Vec::new();
            let mut decoder = Decoder::new(rate);
            for payload in coded.chunks(320) {
                decoder.decode(codec, payload, &mut out);
            }
            let factor = (rate / NARROW_HZ) as usize;
            assert_eq!(out.len(), tone.len() * factor);
            let delay = decoder.delay(codec) as usize;
            let heard: Vec<i16> = out[delay..].iter().step_by(factor).copied().collect();
            let likeness = crate::test_tone::correlation(&tone[100..7_900], &heard[100..7_900]);
            assert!(likeness > 0.999, "{rate}: {likeness}");
        }
    }

    #[test]
    fn what_is_not_decoded_is_nothing() {
        let mut out = Vec::new();
        let ilbc = Codec::Ilbc { frame_bytes: 38 };
        for codec in [Codec::Unknown, Codec::TelephoneEvent, Codec::ComfortNoise, ilbc] {
            Decoder::new(NARROW_HZ).decode(codec, &[1, 2, 3], &mut out);
        }
        assert!(out.is_empty(), "{out:?}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(24))]

        #[test]
        fn no_payload_panics_any_decoder(
            payloads in proptest::collection::vec(
                proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), 0..8),
        ) {
            let packing = Packing::MostFirst;
            for codec in [
                Codec::Pcmu,
                Codec::Pcma,
                Codec::G722,
                Codec::G726 { bits: 2, packing },
                Codec::G726 { bits: 3, packing: Packing::LeastFirst },
                Codec::G726 { bits: 4, packing },
                Codec::G726 { bits: 5, packing },
                Codec::G729,
                Codec::GsmFr,
                Codec::Ilbc { frame_bytes: 38 },
                Codec::Ilbc { frame_bytes: 50 },
                Codec::Opus,
                Codec::L16 { clock_rate: 44_100, channels: 2 },
                Codec::ComfortNoise,
            ] {
                let mut decoder = Decoder::new(FULL_HZ);
                let mut out = Vec::new();
                for payload in &payloads {
                    decoder.decode(codec, payload, &mut out);
                    decoder.conceal(codec, 960, payload, &mut out);
                    _ = codec.ticks(payload);
                }
                decoder.comfort_noise(100, &mut out);
            }
        }
    }
}
