//! G.726 at 16, 24, 32 and 40 kbit/s (ITU-T G.726, 12/1990), in the packings of RFC 3551 §4.5.4 and
//! of AAL2 (ITU-T I.366.2 Annex E).
//!
//! Names in capitals in the comments are the blocks and signals of the Recommendation's §4.

/// How samples lie in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Packing {
    /// The first sample in the least significant bits: `G726-xx`.
    LeastFirst,
    /// The first sample in the most significant bits: `AAL2-G726-xx`.
    MostFirst,
}

/// What differs between the four rates: for each code word the logarithm of the difference
/// (DQLN), the multiplier of the scale factor (WI) and the speed of adaption (FI).
struct Tables {
    dqln: &'static [i32],
    wi: &'static [i32],
    fi: &'static [i32],
}

/// Positive code words only; the other half mirrors them.
const RATES: [Tables; 4] = [
    Tables { dqln: &[116, 365], wi: &[-22, 439], fi: &[0, 7] },
    Tables { dqln: &[-2048, 135, 273, 373], wi: &[-4, 30, 137, 582], fi: &[0, 1, 2, 7] },
    Tables {
        dqln: &[-2048, 4, 135, 213, 273, 323, 373, 425],
        wi: &[-12, 18, 41, 64, 112, 198, 355, 1122],
        fi: &[0, 0, 0, 1, 1, 1, 3, 7],
    },
    Tables {
        dqln: &[-2048, -66, 28, 104, 169, 224, 274, 318, 358, 395, 429, 459, 488, 514, 539, 566],
        wi: &[14, 14, 24, 39, 40, 41, 58, 100, 141, 179, 219, 280, 358, 440, 529, 696],
        fi: &[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 6],
    },
];

/// A number as the predictor keeps it: sign, exponent, six bits of mantissa.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Float {
    negative: bool,
    exponent: u32,
    mantissa: i32,
}

impl Float {
    const ZERO: Self = Self { negative: false, exponent: 0, mantissa: 32 };

    /// FLOATA and FLOATB.
    fn of(negative: bool, magnitude: i32) -> Self {
        let exponent = 32 - magnitude.leading_zeros();
        let mantissa = if magnitude == 0 { 32 } else { (magnitude << 6) >> exponent };
        Self { negative, exponent, mantissa }
    }
}

/// Decodes one stream.
#[derive(Clone, Debug)]
pub(crate) struct G726 {
    /// Bits of a code word, 2 to 5.
    bits: u32,
    packing: Packing,
    /// YU, the fast scale factor, and YL, the slow one.
    fast: i32,
    slow: i32,
    /// DMS and DML: short and long mean of FI.
    short_mean: i32,
    long_mean: i32,
    /// AP
    speed: i32,
    /// A1, A2 and the last two reconstructed signals.
    poles: [i32; 2],
    signals: [Float; 2],
    /// B1 to B6 and the last six differences.
    zeros: [i32; 6],
    differences: [Float; 6],
    /// Signs of the last two partial signals (PK1, PK2).
    signs: [bool; 2],
    /// TD
    tone: bool,
}

impl G726 {
    /// `bits`: of a code word, 2 to 5.
    pub fn new(bits: u32, packing: Packing) -> Self {
        Self {
            bits: bits.clamp(2, 5),
            packing,
            fast: 544,
            slow: 34_816,
            short_mean: 0,
            long_mean: 0,
            speed: 0,
            poles: [0; 2],
            signals: [Float::ZERO; 2],
            zeros: [0; 6],
            differences: [Float::ZERO; 6],
            signs: [false; 2],
            tone: false,
        }
    }

    /// Whole samples only: bits that are left over at the end are padding.
    pub fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) {
        self.signals(payload, |signal| {
            out.push(i16::try_from(signal << 2).unwrap_or(match signal {
                ..0 => i16::MIN,
                _ => i16::MAX,
            }));
        });
    }

    /// Reconstructed signals as the Recommendation has them: 14 bits, and more where it overflows.
    fn signals(&mut self, payload: &[u8], mut take: impl FnMut(i32)) {
        let mut held: u32 = 0;
        let mut held_bits = 0;
        let mask = (1 << self.bits) - 1;
        for octet in payload {
            match self.packing {
                Packing::LeastFirst => held |= u32::from(*octet) << held_bits,
                Packing::MostFirst => held = held << 8 | u32::from(*octet),
            }
            held_bits += 8;
            while held_bits >= self.bits {
                held_bits -= self.bits;
                let code = match self.packing {
                    Packing::LeastFirst => {
                        let code = held & mask;
                        held >>= self.bits;
                        code
                    }
                    Packing::MostFirst => held >> held_bits & mask,
                };
                take(self.signal(code));
            }
        }
    }

    fn signal(&mut self, code: u32) -> i32 {
        let negative = code >> (self.bits - 1) == 1;
        let mask = (1 << self.bits) - 1;
        let step = if negative { !code & mask } else { code } as usize;
        let tables = &RATES[self.bits as usize - 2];

        // Predictor: SEZ of the zeros alone, SE of all.
        let of_zeros: i32 = (0..6).map(|n| multiply(self.zeros[n] >> 2, self.differences[n])).sum();
        let of_zeros = wrap16(of_zeros);
        let of_poles: i32 = (0..2).map(|n| multiply(self.poles[n] >> 2, self.signals[n])).sum();
        let predicted = wrap16(of_zeros + of_poles) >> 1;
        let of_zeros = of_zeros >> 1;

        let scale = self.scale();
        let difference = magnitude(tables.dqln[step] + (scale >> 2));
        let signed = if negative { -difference } else { difference };
        let is_transition = self.is_transition(difference);
        let signal = wrap16(predicted + signed);
        let partial = wrap16(of_zeros + signed);

        self.adapt_predictor(negative, difference, signal, partial, is_transition);
        self.adapt_scale(scale, tables.wi[step], tables.fi[step], is_transition);
        signal
    }

    /// LIMA and MIX: Y.
    fn scale(&self) -> i32 {
        let mix = if self.speed >= 256 { 64 } else { self.speed >> 2 };
        let slow = self.slow >> 6;
        let apart = self.fast - slow;
        let part = (apart.abs() * mix) >> 6;
        if apart < 0 { slow - part } else { slow + part }
    }

    /// TRANS: a modem has changed its tone.
    fn is_transition(&self, difference: i32) -> bool {
        let whole = self.slow >> 15;
        let fraction = self.slow >> 10 & 31;
        let threshold = if whole > 9 { 31 << 10 } else { (32 + fraction) << whole };
        self.tone && difference > (threshold + (threshold >> 1)) >> 1
    }

    fn adapt_predictor(
        &mut self,
        negative: bool,
        difference: i32,
        signal: i32,
        partial: i32,
        is_transition: bool,
    ) {
        let sign = partial < 0;
        if is_transition {
            self.poles = [0; 2];
            self.zeros = [0; 6];
        } else {
            self.adapt_poles(sign, partial == 0);
            // UPB: five bits adapt half as fast.
            let leak = if self.bits == 5 { 9 } else { 8 };
            for (zero, before) in self.zeros.iter_mut().zip(&self.differences) {
                let step = match (difference, before.negative == negative) {
                    (0, _) => 0,
                    (_, true) => 128,
                    (_, false) => -128,
                };
                *zero = wrap16(*zero - (*zero >> leak) + step);
            }
        }
        // TONE, of the new A2.
        self.tone = !is_transition && self.poles[1] < -11_776;
        self.signs = [sign, self.signs[0]];
        self.differences.rotate_right(1);
        self.differences[0] = Float::of(negative, difference);
        self.signals = [Float::of(signal < 0, signal.abs() & 0x7fff), self.signals[0]];
    }

    /// UPA2, LIMC, UPA1, LIMD.
    fn adapt_poles(&mut self, sign: bool, is_zero: bool) {
        let [first, second] = self.poles;
        let changed = sign != self.signs[0];
        let mut step = 0;
        if !is_zero {
            let limited = first.clamp(-8_191, 8_191) << 2;
            let towards = if changed { limited } else { -limited };
            let gain = if sign != self.signs[1] { -16_384 } else { 16_384 };
            step = (gain + towards) >> 7;
        }
        let second = (second - (second >> 7) + step).clamp(-12_288, 12_288);
        let step = match (is_zero, changed) {
            (true, _) => 0,
            (false, true) => -192,
            (false, false) => 192,
        };
        let most = 15_360 - second;
        let first = (first - (first >> 8) + step).clamp(-most, most);
        self.poles = [first, second];
    }

    fn adapt_scale(&mut self, scale: i32, wi: i32, fi: i32, is_transition: bool) {
        // FILTD, LIMB, FILTE.
        self.fast = (scale + (((wi << 5) - scale) >> 5)).clamp(544, 5_120);
        self.slow += self.fast + (-self.slow >> 6);
        // FILTA, FILTB, SUBTC, FILTC, TRIGA.
        self.short_mean += ((fi << 9) - self.short_mean) >> 5;
        self.long_mean += ((fi << 11) - self.long_mean) >> 7;
        let is_changing = scale < 1_536
            || self.tone
            || ((self.short_mean << 2) - self.long_mean).abs() >= self.long_mean >> 3;
        let target = if is_changing { 512 } else { 0 };
        self.speed += (target - self.speed) >> 4;
        if is_transition {
            self.speed = 256;
        }
    }
}

/// FMULT. `coefficient` is without its two lowest bits.
fn multiply(coefficient: i32, float: Float) -> i32 {
    let magnitude = coefficient.abs() & 0x1fff;
    let factor = Float::of(coefficient < 0, magnitude);
    let exponent = float.exponent + factor.exponent;
    let mantissa = (float.mantissa * factor.mantissa + 48) >> 4;
    let product = if exponent <= 26 {
        (mantissa << 7) >> (26 - exponent)
    } else {
        (mantissa << 7) << (exponent - 26) & 0x7fff
    };
    if float.negative == factor.negative { product } else { -product }
}

/// ANTILOG.
fn magnitude(log: i32) -> i32 {
    if log < 0 {
        return 0;
    }
    let exponent = log >> 7 & 15;
    let mantissa = (log & 127) + 128;
    if exponent > 14 { mantissa << 8 } else { (mantissa << 7) >> (14 - exponent) }
}

fn wrap16(value: i32) -> i32 {
    i32::from(value as i16)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// Code words that lead through every state, and what SpanDSP 0.0.6 makes of them. (ffmpeg rounds
    /// the scale factor, MIX, otherwise than the Recommendation.)
    #[test]
    fn every_rate_and_packing_is_decoded_to_the_bit() {
        let mut state = 0x1234_5678_u32;
        let coded: Vec<u8> = (0..60_000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                (state >> 24) as u8
            })
            .collect();
        for (bits, packing, expected) in [
            (2, Packing::LeastFirst, "658a21df7e952bd3dd081f762e885333"),
            (2, Packing::MostFirst, "871f43568b3d422990009b7f7ac4647c"),
            (3, Packing::LeastFirst, "1925393cd59b03c26c776f51ae4bb7e5"),
            (3, Packing::MostFirst, "c814852b552cb8b4e3665991651a134e"),
            (4, Packing::LeastFirst, "0cbbc16c0d806dee794ff8c6086cb804"),
            (4, Packing::MostFirst, "bebcb2fd1cd206eab1f77f86467f9d83"),
            (5, Packing::LeastFirst, "0c66f90be9ce12ad711267380e45c1e6"),
            (5, Packing::MostFirst, "7b192f995559d6d4568136f6c75c34ae"),
        ] {
            let mut bytes = Vec::new();
            // SpanDSP lets what is too loud wrap around.
            let wrapped = |signal: i32| bytes.extend(((signal << 2) as i16).to_le_bytes());
            G726::new(bits, packing).signals(&coded, wrapped);
            assert_eq!(bytes.len() as u32, 960_000 / bits);
            let digest = Sha256::digest(&bytes);
            let digest: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(digest, expected, "{bits} bits, {packing:?}");
        }
    }
}
