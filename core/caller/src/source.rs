//! Where the audio of a stream comes from, so that it can be had again for comparison.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::plan::CallPlan;
use crate::report::CallError;
use crate::speech::Speech;

/// Of everything that is sent.
pub const SAMPLE_RATE: u32 = 8000;

/// 20 ms, as every PBX sends them.
pub const FRAME_SAMPLES: usize = 160;

/// Names the audio of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceId {
    Speech { seed: u64 },
    Wav { path: PathBuf, channel: u16 },
}

impl SourceId {
    /// What stream `stream` of call `call` says by this plan.
    pub fn of(plan: &CallPlan, call: u32, stream: u8) -> Self {
        match &plan.wav {
            Some(path) => Self::Wav { path: path.clone(), channel: u16::from(stream) },
            // Consecutive seeds are unrelated voices.
            None => Self::Speech {
                seed: plan
                    .seed
                    .wrapping_mul(1_000_003)
                    .wrapping_add(u64::from(call) * 2 + u64::from(stream)),
            },
        }
    }

    pub fn open(&self) -> Result<Source, CallError> {
        match self {
            Self::Speech { seed } => Ok(Source::Speech(Speech::new(*seed))),
            Self::Wav { path, channel } => {
                let samples = read_wav(path, *channel)
                    .map_err(|problem| CallError::Wav { path: path.clone(), problem })?;
                Ok(Source::Samples { samples, next: 0 })
            }
        }
    }

    /// The first `count` samples, as they were before encoding.
    pub fn samples(&self, count: usize) -> Result<Vec<i16>, CallError> {
        let mut samples = vec![0; count];
        self.open()?.read(&mut samples);
        Ok(samples)
    }
}

/// Audio without end.
#[derive(Clone, Debug)]
pub enum Source {
    Speech(Speech),
    /// Repeated. Never empty.
    Samples {
        samples: Vec<i16>,
        next: usize,
    },
}

impl Source {
    pub fn read(&mut self, frame: &mut [i16]) {
        match self {
            Self::Speech(speech) => speech.read(frame),
            Self::Samples { samples, next } => {
                for sample in frame {
                    *sample = samples[*next];
                    *next = (*next + 1) % samples.len();
                }
            }
        }
    }
}

/// One channel of a WAV file. A file with one channel is what everybody says.
fn read_wav(path: &Path, channel: u16) -> Result<Vec<i16>, String> {
    let mut reader = hound::WavReader::open(path).map_err(|error| error.to_string())?;
    let spec = reader.spec();
    let format = (spec.sample_rate, spec.bits_per_sample, spec.sample_format);
    if format != (SAMPLE_RATE, 16, hound::SampleFormat::Int) || !matches!(spec.channels, 1 | 2) {
        return Err(format!(
            "{} Hz, {} bit, {} channels; needed: 8000 Hz, 16 bit, 1 or 2 channels, e.g. by \
             `sox in.wav -r 8000 -b 16 out.wav`",
            spec.sample_rate, spec.bits_per_sample, spec.channels
        ));
    }
    let all = reader.samples::<i16>().collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    let step = usize::from(spec.channels);
    let first = usize::from(channel.min(spec.channels - 1));
    let samples: Vec<i16> = all.into_iter().skip(first).step_by(step).collect();
    if samples.is_empty() { Err("no samples".to_owned()) } else { Ok(samples) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(channels: u16, sample_rate: u32, samples: &[i16]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let spec = hound::WavSpec {
            channels,
            sample_rate,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let mut writer = hound::WavWriter::create(file.path(), spec).unwrap();
        samples.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
        writer.finalize().unwrap();
        file
    }

    fn channel(file: &tempfile::NamedTempFile, channel: u16) -> Result<Vec<i16>, CallError> {
        SourceId::Wav { path: file.path().to_owned(), channel }.samples(5)
    }

    #[test]
    fn each_stream_speaks_its_channel_of_the_file_and_repeats_it() {
        let stereo = wav(2, 8000, &[1, -1, 2, -2, 3, -3]);
        assert_eq!(channel(&stereo, 0).unwrap(), [1, 2, 3, 1, 2]);
        assert_eq!(channel(&stereo, 1).unwrap(), [-1, -2, -3, -1, -2]);
        let mono = wav(1, 8000, &[7, 8]);
        assert_eq!(channel(&mono, 1).unwrap(), [7, 8, 7, 8, 7]);
    }

    #[test]
    fn a_file_of_another_rate_or_without_samples_is_refused_with_advice() {
        let error = channel(&wav(1, 44_100, &[1]), 0).unwrap_err().to_string();
        assert!(error.contains("44100 Hz") && error.contains("needed: 8000 Hz"), "{error}");
        assert!(channel(&wav(1, 8000, &[]), 0).is_err());
    }

    #[test]
    fn every_stream_of_every_call_has_its_own_voice() {
        let plan = CallPlan::to("192.0.2.1:5060".parse().unwrap());
        let mut seeds: Vec<_> = (0..100)
            .flat_map(|call| [SourceId::of(&plan, call, 0), SourceId::of(&plan, call, 1)])
            .map(|id| format!("{id:?}"))
            .collect();
        seeds.sort();
        seeds.dedup();
        assert_eq!(seeds.len(), 200);
    }
}
