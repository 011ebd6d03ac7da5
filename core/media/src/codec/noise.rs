//! Comfort noise (RFC 3389): what a telephone plays while the sender is silent.
//!
//! The payload gives the level in -dBov and, if the sender cares, reflection coefficients of an
//! all-pole filter that give the noise its colour (§3.1, §3.2).

/// ITU-T G.711 Appendix II uses at most this many; more is not worth hearing.
const MOST_COEFFICIENTS: usize = 12;
/// A full-scale square wave is 0 dBov (RFC 3389 §3.1).
const OVERLOAD: f32 = 32_767.0;

#[derive(Clone, Debug)]
pub(super) struct ComfortNoise {
    random: u32,
    reflection: [f32; MOST_COEFFICIENTS],
    order: usize,
    /// Of the white noise that goes into the filter.
    amplitude: f32,
    /// The lattice's delays.
    backward: [f32; MOST_COEFFICIENTS + 1],
}

impl Default for ComfortNoise {
    fn default() -> Self {
        Self {
            random: 0x2545_f491,
            reflection: [0.0; MOST_COEFFICIENTS],
            order: 0,
            amplitude: 0.0,
            backward: [0.0; MOST_COEFFICIENTS + 1],
        }
    }
}

impl ComfortNoise {
    /// Takes the newest description of the noise.
    pub fn describe(&mut self, payload: &[u8]) {
        let [level, coefficients @ ..] = payload else { return };
        let rms = OVERLOAD * 10.0_f32.powf(-f32::from(level & 0x7f) / 20.0);
        self.order = coefficients.len().min(MOST_COEFFICIENTS);
        let mut gain = 1.0;
        for (held, coded) in self.reflection.iter_mut().zip(coefficients) {
            // §3.2: 127 stands for 0, steps of 1/128; a filter with ±1 would ring for ever.
            let value = ((f32::from(*coded) - 127.0) / 128.0).clamp(-0.98, 0.98);
            gain *= 1.0 - value * value;
            *held = value;
        }
        // Uniform noise from -a to a has an rms of a / √3; the filter amplifies by 1 / √gain.
        self.amplitude = rms * 3.0_f32.sqrt() * f32::sqrt(gain);
    }

    pub fn generate(&mut self, samples: usize, out: &mut Vec<i16>) {
        for _ in 0..samples {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 17;
            self.random ^= self.random << 5;
            let mut forward = (self.random as i32 as f32 / i32::MAX as f32) * self.amplitude;
            for stage in (0..self.order).rev() {
                forward -= self.reflection[stage] * self.backward[stage];
                self.backward[stage + 1] = self.backward[stage] + self.reflection[stage] * forward;
            }
            self.backward[0] = forward;
            // A cast from float to integer saturates.
            out.push(forward as i16);
        }
    }
}

#[test]
fn noise_is_as_loud_as_it_is_told_whatever_its_colour() {
    for payload in [&[40][..], &[40, 200, 60], &[40, 10, 127, 250]] {
        let mut noise = ComfortNoise::default();
        noise.describe(payload);
        let mut out = Vec::new();
        noise.generate(80_000, &mut out);
        let power: f64 = out.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / 80_000.0;
        let level = 20.0 * (power.sqrt() / 32_767.0).log10();
        assert!((level + 40.0).abs() < 1.5, "{level} dBov of {payload:?}");
    }
}

#[test]
fn any_description_makes_bounded_noise() {
    let mut noise = ComfortNoise::default();
    noise.describe(&[]);
    noise.describe(&[0; 200]);
    noise.describe(&[255; 40]);
    let mut out = Vec::new();
    noise.generate(1_000, &mut out);
    assert_eq!(out.len(), 1_000);
}
