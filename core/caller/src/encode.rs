//! 20 ms of speech at 8 kHz to one payload, in every codec that [`Codec`] has.

use audio_codec::Encoder as _;
use audio_codec::g722::G722Encoder;
use opus::{Application, Bitrate, Channels};

use crate::g711;
use crate::plan::Codec;
use crate::report::CallError;
use crate::source::SAMPLE_RATE;

/// Enough that the waveform of narrowband speech comes through, which is what tests compare.
const OPUS_BITS_PER_SEC: i32 = 128_000;

/// At 8 kHz, G.722 is not there and Opus leaves out what lies just below 4.
const WIDE_RATE: u32 = 2 * SAMPLE_RATE;

/// RFC 6716 §3.2.1, with a byte of code.
const LARGEST_OPUS_BYTES: usize = 1_276;

/// The encoder of one stream.
pub(crate) enum Encoder {
    Pcmu,
    Pcma,
    G722(Box<G722Encoder>, Doubler),
    Opus(opus::Encoder, Doubler),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pcmu => "Pcmu",
            Self::Pcma => "Pcma",
            Self::G722(..) => "G722",
            Self::Opus(..) => "Opus",
        })
    }
}

impl Encoder {
    pub fn new(codec: Codec) -> Result<Self, CallError> {
        Ok(match codec {
            Codec::Pcmu => Self::Pcmu,
            Codec::Pcma => Self::Pcma,
            Codec::G722 => Self::G722(Box::default(), Doubler::default()),
            Codec::Opus => {
                let mut opus = opus::Encoder::new(WIDE_RATE, Channels::Mono, Application::Audio)?;
                opus.set_bitrate(Bitrate::Bits(OPUS_BITS_PER_SEC))?;
                Self::Opus(opus, Doubler::default())
            }
        })
    }

    pub fn encode(&mut self, samples: &[i16]) -> Vec<u8> {
        match self {
            Self::Pcmu => samples.iter().map(|sample| g711::mu_law(*sample)).collect(),
            Self::Pcma => samples.iter().map(|sample| g711::a_law(*sample)).collect(),
            Self::G722(g722, doubler) => g722.encode(&doubler.double(samples)),
            // An empty payload is what a recorder takes for silence. It does not come to that:
            // frames of 20 ms and room for the largest packet leave no error.
            Self::Opus(opus, doubler) => {
                opus.encode_vec(&doubler.double(samples), LARGEST_OPUS_BYTES).unwrap_or_default()
            }
        }
    }
}

/// Coefficients on one side of an interpolated sample.
const SIDE: usize = 16;

/// Twice as many samples a second: between any two, what a sinc under a Hann window makes of the
/// sixteen on either side. Delays by those.
#[derive(Default)]
pub(crate) struct Doubler {
    /// The newest last.
    before: [i16; 2 * SIDE],
}

impl Doubler {
    fn double(&mut self, samples: &[i16]) -> Vec<i16> {
        let mut doubled = Vec::with_capacity(samples.len() * 2);
        for sample in samples {
            self.before.rotate_left(1);
            self.before[2 * SIDE - 1] = *sample;
            doubled.push(self.before[SIDE - 1]);
            let between: f64 = (0..SIDE)
                .map(|n| {
                    let distance = std::f64::consts::PI * (n as f64 + 0.5);
                    let hann = 0.5 + 0.5 * (distance / (SIDE as f64 + 0.5)).cos();
                    let pair =
                        f64::from(self.before[SIDE - 1 - n]) + f64::from(self.before[SIDE + n]);
                    distance.sin() / distance * hann * pair
                })
                .sum();
            doubled.push(between.clamp(i16::MIN.into(), i16::MAX.into()) as i16);
        }
        doubled
    }
}

#[cfg(test)]
mod tests {
    use audio_codec::Decoder as _;
    use audio_codec::g722::G722Decoder;

    use super::*;
    use crate::source::{FRAME_SAMPLES, SourceId};

    fn correlation(sent: &[i16], got: &[i16], most_shift: usize) -> f64 {
        let at = |shift: usize| {
            let pairs = sent.iter().zip(&got[shift..]);
            let sums = pairs.fold((0.0, 0.0, 0.0), |(ab, aa, bb), (a, b)| {
                let (a, b) = (f64::from(*a), f64::from(*b));
                (ab + a * b, aa + a * a, bb + b * b)
            });
            sums.0 / (sums.1 * sums.2).sqrt()
        };
        (0..=most_shift).map(at).fold(0.0, f64::max)
    }

    fn encoded(codec: Codec) -> (Vec<i16>, Vec<Vec<u8>>) {
        let said = SourceId::Speech { seed: 5 }.samples(FRAME_SAMPLES * 100).unwrap();
        let mut encoder = Encoder::new(codec).unwrap();
        let payloads = said.chunks(FRAME_SAMPLES).map(|frame| encoder.encode(frame)).collect();
        (said, payloads)
    }

    /// The best of all delays, in samples of 16 kHz.
    fn likeness(said: &[i16], heard: &[i16]) -> f64 {
        let narrow = |phase| heard.iter().skip(phase).step_by(2).copied().collect::<Vec<_>>();
        let said = &said[..said.len() - 200];
        [0, 1].map(|phase| correlation(said, &narrow(phase), 100)).into_iter().fold(0.0, f64::max)
    }

    #[test]
    fn g722_is_64_kbit_and_carries_what_was_said() {
        let (said, payloads) = encoded(Codec::G722);
        assert!(payloads.iter().all(|payload| payload.len() == 160));
        let mut decoder = G722Decoder::new();
        let heard: Vec<i16> = payloads.iter().flat_map(|p| decoder.decode(p)).collect();
        assert_eq!(heard.len(), said.len() * 2);
        let found = likeness(&said, &heard);
        assert!(found > 0.99, "{found}");
    }

    #[test]
    fn opus_carries_what_was_said() {
        let (said, payloads) = encoded(Codec::Opus);
        let mut decoder = opus::Decoder::new(WIDE_RATE, Channels::Mono).unwrap();
        let mut heard = Vec::new();
        for payload in &payloads {
            let mut frame = [0; 2 * FRAME_SAMPLES];
            assert_eq!(decoder.decode(payload, &mut frame, false).unwrap(), frame.len());
            heard.extend(frame);
        }
        let found = likeness(&said, &heard);
        assert!(found > 0.99, "{found}");
    }
}
