//! Doubles a sample rate: for a G.711 stream of a call in which another one is G.722.

/// Half of the interpolation filter: a sinc under a Hamming window, eight taps on each side,
/// scaled so that a constant stays one.
const TAPS: usize = 8;

/// Puts a sample between every two. Delays by [`TAPS`] input samples, that is by 1 ms.
pub(super) struct Upsampler {
    weights: [f32; TAPS],
    /// The newest `2 * TAPS` samples, oldest first.
    history: [f32; 2 * TAPS],
}

impl Default for Upsampler {
    fn default() -> Self {
        let mut weights = [0.0; TAPS];
        for (tap, weight) in weights.iter_mut().enumerate() {
            let distance = (tap as f32 + 0.5) * std::f32::consts::PI;
            let window = 0.54 + 0.46 * (distance / (TAPS as f32)).cos();
            *weight = distance.sin() / distance * window;
        }
        let sum: f32 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= 2.0 * sum;
        }
        Self { weights, history: [0.0; 2 * TAPS] }
    }
}

impl Upsampler {
    pub fn double(&mut self, samples: &[i16], out: &mut Vec<i16>) {
        for &sample in samples {
            self.history.rotate_left(1);
            self.history[2 * TAPS - 1] = f32::from(sample);
            out.push(self.history[TAPS - 1] as i16);
            let between: f32 = (0..TAPS)
                .map(|tap| {
                    let pair = self.history[TAPS - 1 - tap] + self.history[TAPS + tap];
                    self.weights[tap] * pair
                })
                .sum();
            // A cast from float to integer saturates.
            out.push(between.round() as i16);
        }
    }
}

#[test]
fn a_tone_is_the_same_tone_at_twice_the_rate() {
    let tone = |rate: f32, count: usize| -> Vec<i16> {
        let step = 2.0 * std::f32::consts::PI * 1_000.0 / rate;
        (0..count).map(|n| ((n as f32 * step).sin() * 10_000.0) as i16).collect()
    };
    let mut doubled = Vec::new();
    Upsampler::default().double(&tone(8_000.0, 4_000), &mut doubled);
    assert_eq!(doubled.len(), 8_000);
    let expected = tone(16_000.0, 7_000);
    let got = &doubled[2 * TAPS..][..7_000];
    assert!(crate::test_tone::correlation(&expected, got) > 0.9999);
}
