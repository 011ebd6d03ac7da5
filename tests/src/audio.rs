//! Compares what was recorded with what was sent.

use caller::{FRAME_SAMPLES, SourceId};

/// A WAV file as one vector of samples per channel.
pub struct Wav {
    pub sample_rate: u32,
    pub channels: Vec<Vec<i16>>,
}

impl Wav {
    pub fn read(file: &[u8]) -> Self {
        let mut reader = hound::WavReader::new(file).expect("a WAV file");
        let spec = reader.spec();
        let samples: Vec<i16> =
            reader.samples::<i16>().collect::<Result<_, _>>().expect("whole samples");
        let count = usize::from(spec.channels);
        let channel = |index| samples.iter().skip(index).step_by(count).copied().collect();
        Self { sample_rate: spec.sample_rate, channels: (0..count).map(channel).collect() }
    }

    pub fn duration_ms(&self) -> f64 {
        self.channels[0].len() as f64 * 1000.0 / f64::from(self.sample_rate)
    }
}

/// Pearson's correlation of two signals, the better one of all shifts up to `max_shift` samples.
/// Returns the correlation and the shift of `recorded` behind `sent`.
pub fn correlation(sent: &[i16], recorded: &[i16], max_shift: usize) -> (f64, isize) {
    let max_shift = isize::try_from(max_shift).expect("a shift of a few samples");
    (-max_shift..=max_shift)
        .map(|shift| (correlation_at(sent, recorded, shift), shift))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .expect("shift 0 is always tried")
}

fn correlation_at(sent: &[i16], recorded: &[i16], shift: isize) -> f64 {
    let (sent, recorded) = if shift >= 0 {
        (sent, recorded.get(shift.unsigned_abs()..).unwrap_or_default())
    } else {
        (sent.get(shift.unsigned_abs()..).unwrap_or_default(), recorded)
    };
    let pairs = || sent.iter().zip(recorded).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    let count = pairs().count() as f64;
    if count == 0.0 {
        return 0.0;
    }
    let (sum_a, sum_b) = pairs().fold((0.0, 0.0), |sum, (a, b)| (sum.0 + a, sum.1 + b));
    let (mean_a, mean_b) = (sum_a / count, sum_b / count);
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in pairs() {
        ab += (a - mean_a) * (b - mean_b);
        aa += (a - mean_a).powi(2);
        bb += (b - mean_b).powi(2);
    }
    if aa == 0.0 || bb == 0.0 { 0.0 } else { ab / (aa * bb).sqrt() }
}

/// Asserts that `recorded` is what `source` said: the same from the first sample to the last, but
/// for what G.711 does to it.
pub fn assert_is(what: &str, source: &SourceId, frames: u64, recorded: &[i16]) {
    let count = usize::try_from(frames).expect("a test call is short") * FRAME_SAMPLES;
    let sent = source.samples(count).expect("made-up speech cannot fail");
    // Two frames of freedom: 20 ms in length, and where the first packet was laid.
    let (found, shift) = correlation(&sent, recorded, 2 * FRAME_SAMPLES);
    assert!(found > 0.99, "{what}: correlation {found:.4} at shift {shift}");
}

/// G.711 µ-law, by the definition with a bias of 132: independent of the code under test.
pub fn mu_law(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs() + 132).min(32_767);
    let exponent = (7..=14).rev().find(|bit| magnitude >> bit != 0).unwrap_or(7) - 7;
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | (exponent << 4) | mantissa) as u8
}

#[test]
fn a_shifted_copy_correlates_and_noise_does_not() {
    let noise = |seed: u32| {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as i16
        })
        .take(8_000)
        .collect::<Vec<i16>>()
    };
    let sent = noise(1);
    let mut late = vec![0; 40];
    late.extend(&sent);
    let (found, shift) = correlation(&sent, &late, 100);
    assert!(found > 0.999 && shift == 40, "{found} {shift}");
    assert!(correlation(&sent, &noise(2), 10).0 < 0.1);
}
