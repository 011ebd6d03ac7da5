//! Made-up speech: voices that say nothing, for hours, the same way each time.
//!
//! A sine would do to see that there is sound. To measure that a recording is what was sent, at
//! the time it was sent, on the channel it was sent on, takes a signal that resembles itself at no
//! other time and no other voice at all: broadband, with a changing spectrum and pauses. A pulse
//! train at the pitch of a voice through three resonances (formants) that move with each syllable
//! is that, and is pleasant enough to listen to.

use std::f32::consts::PI;

use crate::source::SAMPLE_RATE;

/// Infinite; sample `n` depends on the seed alone.
#[derive(Clone, Debug)]
pub struct Speech {
    random: Random,
    pitch_hz: f32,
    /// Samples left of what is being said, and how many it had.
    left: u32,
    length: u32,
    saying: Saying,
    syllables_left: u32,
    formants: [Resonator; 3],
    pulse_phase: f32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Saying {
    Pause,
    /// A vowel, with the slope of its pitch.
    Voiced {
        bend: f32,
    },
    /// A consonant.
    Hiss,
}

/// First three formants in Hz of the vowels in heed, hid, head, had, hod, hawed, hood, who'd, as
/// averages of many speakers.
const VOWELS: [[f32; 3]; 8] = [
    [270.0, 2290.0, 3010.0],
    [390.0, 1990.0, 2550.0],
    [530.0, 1840.0, 2480.0],
    [660.0, 1720.0, 2410.0],
    [730.0, 1090.0, 2440.0],
    [570.0, 840.0, 2410.0],
    [440.0, 1020.0, 2240.0],
    [300.0, 870.0, 2240.0],
];

impl Speech {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        // From a deep voice to a high one.
        let pitch_hz = 95.0 + 130.0 * random.unit();
        Self {
            random,
            pitch_hz,
            left: 0,
            length: 1,
            saying: Saying::Pause,
            syllables_left: 0,
            formants: [Resonator::default(); 3],
            pulse_phase: 0.0,
        }
    }

    /// Fills `samples` with what comes next.
    pub fn read(&mut self, samples: &mut [i16]) {
        for sample in samples {
            *sample = self.next_sample();
        }
    }

    fn next_sample(&mut self) -> i16 {
        if self.left == 0 {
            self.say_next();
        }
        self.left -= 1;
        let progress = 1.0 - self.left as f32 / self.length as f32;
        // Swells and fades within each sound, so that sounds are told apart and nothing clicks.
        let loudness = (PI * progress).sin().max(0.0);
        let excitation = match self.saying {
            Saying::Pause => 0.0,
            Saying::Voiced { bend } => {
                let pitch_hz = self.pitch_hz * (1.0 + bend * (progress - 0.5));
                self.pulse(pitch_hz) + 0.02 * self.random.signed()
            }
            Saying::Hiss => 0.25 * self.random.signed(),
        };
        let sound: f32 = self.formants.iter_mut().map(|formant| formant.filter(excitation)).sum();
        // The gain was set by ear and meter: peaks near -6 dBFS, none that clip often.
        (sound * loudness * 9000.0).clamp(-30_000.0, 30_000.0) as i16
    }

    fn say_next(&mut self) {
        let millis;
        (self.saying, millis) = match self.saying {
            Saying::Hiss => self.syllable(),
            _ if self.syllables_left > 0 => {
                self.syllables_left -= 1;
                if self.random.unit() < 0.3 { (Saying::Hiss, 50.0) } else { self.syllable() }
            }
            Saying::Voiced { .. } => (Saying::Pause, 150.0 + 450.0 * self.random.unit()),
            Saying::Pause => {
                self.syllables_left = 3 + (self.random.unit() * 9.0) as u32;
                self.syllable()
            }
        };
        if self.saying == Saying::Hiss {
            self.formants = [
                Resonator::at(1800.0, 900.0),
                Resonator::at(2700.0, 700.0),
                Resonator::at(3400.0, 500.0),
            ];
        }
        self.length = ((millis * SAMPLE_RATE as f32 / 1000.0) as u32).max(1);
        self.left = self.length;
    }

    fn syllable(&mut self) -> (Saying, f32) {
        let vowel = VOWELS[(self.random.next() % VOWELS.len() as u64) as usize];
        let accent = 0.92 + 0.16 * self.random.unit();
        self.formants = [
            Resonator::at(vowel[0] * accent, 70.0),
            Resonator::at(vowel[1] * accent, 110.0),
            Resonator::at(vowel[2] * accent, 170.0),
        ];
        (Saying::Voiced { bend: 0.6 * self.random.signed() }, 90.0 + 180.0 * self.random.unit())
    }

    /// One short pulse per period of the pitch.
    fn pulse(&mut self, pitch_hz: f32) -> f32 {
        self.pulse_phase += pitch_hz / SAMPLE_RATE as f32;
        if self.pulse_phase < 1.0 {
            return 0.0;
        }
        self.pulse_phase -= 1.0;
        1.0
    }
}

/// A resonance: two poles.
#[derive(Clone, Copy, Debug, Default)]
struct Resonator {
    feedback: [f32; 2],
    gain: f32,
    last: [f32; 2],
}

impl Resonator {
    fn at(frequency_hz: f32, bandwidth_hz: f32) -> Self {
        let rate = SAMPLE_RATE as f32;
        let radius = (-PI * bandwidth_hz / rate).exp();
        let angle = 2.0 * PI * frequency_hz.min(rate * 0.45) / rate;
        Self {
            feedback: [2.0 * radius * angle.cos(), -radius * radius],
            gain: 1.0 - radius,
            last: [0.0; 2],
        }
    }

    fn filter(&mut self, input: f32) -> f32 {
        let output = 6.0 * self.gain * input
            + self.feedback[0] * self.last[0]
            + self.feedback[1] * self.last[1];
        self.last = [output, self.last[0]];
        output
    }
}

/// SplitMix64. Our own, since what a seed says must never change with a library.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }

    /// From -1 to 1.
    fn signed(&mut self) -> f32 {
        2.0 * self.unit() - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(seed: u64, seconds: usize) -> Vec<i16> {
        let mut samples = vec![0; seconds * SAMPLE_RATE as usize];
        Speech::new(seed).read(&mut samples);
        samples
    }

    /// Pearson correlation of two signals.
    fn correlation(a: &[i16], b: &[i16]) -> f64 {
        let dot = |x: &[i16], y: &[i16]| -> f64 {
            x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn a_seed_says_the_same_again_in_frames_of_any_size() {
        let whole = said(7, 4);
        let mut speech = Speech::new(7);
        let mut pieces = vec![0; whole.len()];
        pieces.chunks_mut(160).for_each(|frame| speech.read(frame));
        assert_eq!(pieces, whole);
    }

    #[test]
    fn two_voices_do_not_resemble_each_other_nor_one_itself_at_another_time() {
        let (one, two) = (said(1, 20), said(2, 20));
        assert!(correlation(&one, &two).abs() < 0.1);
        for shift in [80, 160, 400, 1600, 8000, 40_000] {
            let found = correlation(&one[shift..], &one[..one.len() - shift]);
            assert!(found.abs() < 0.5, "shifted by {shift}: {found}");
        }
    }

    #[test]
    fn it_is_loud_enough_hardly_clips_and_pauses_between_phrases() {
        for seed in 0..20 {
            let samples = said(seed, 20);
            let peak = samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
            let clipped = samples.iter().filter(|sample| sample.unsigned_abs() >= 30_000).count();
            let quiet = samples
                .chunks(160)
                .filter(|frame| frame.iter().all(|sample| sample.unsigned_abs() < 50))
                .count();
            assert!(peak > 5000, "seed {seed}: peak {peak}");
            assert!(clipped * 100 < samples.len(), "seed {seed}: {clipped} clipped");
            assert!((50..700).contains(&quiet), "seed {seed}: {quiet} of 1000 frames quiet");
        }
    }
}
