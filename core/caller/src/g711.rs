//! G.711: 16-bit samples to 8-bit μ-law and A-law (ITU-T G.711).

pub(crate) fn mu_law(sample: i16) -> u8 {
    // The bias makes the start of each segment a power of two; the clip keeps the sum in range.
    const BIAS: i32 = 0x84;
    const CLIP: i32 = 32_635;
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(CLIP) + BIAS;
    // Between 7 and 14, so the segment is between 0 and 7.
    let segment = magnitude.ilog2() - 7;
    let mantissa = (magnitude >> (segment + 3)) & 0x0f;
    !(sign | (segment as u8) << 4 | mantissa as u8)
}

pub(crate) fn a_law(sample: i16) -> u8 {
    // Even bits are inverted on the line; the sign bit is set for positive values.
    const EVEN_BITS: u8 = 0x55;
    let (sign, magnitude) = match sample >> 3 {
        negative if negative < 0 => (0, !negative),
        positive => (0x80, positive),
    };
    let magnitude = magnitude as u16;
    let code = match magnitude >> 5 {
        0 => (magnitude >> 1) as u8,
        high => {
            let segment = high.ilog2() as u16 + 1;
            (segment << 4) as u8 | ((magnitude >> segment) & 0x0f) as u8
        }
    };
    (code | sign) ^ EVEN_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference decoders, after the tables in G.711.
    fn mu_law_decoded(code: u8) -> i32 {
        let code = !code;
        let magnitude = (((i32::from(code) & 0x0f) << 3) + 0x84) << ((code >> 4) & 7);
        if code & 0x80 != 0 { 0x84 - magnitude } else { magnitude - 0x84 }
    }

    fn a_law_decoded(code: u8) -> i32 {
        let code = code ^ 0x55;
        let mantissa = i32::from(code & 0x0f) << 4;
        let magnitude = match (code >> 4) & 7 {
            0 => mantissa + 8,
            segment => (mantissa + 0x108) << (segment - 1),
        };
        if code & 0x80 != 0 { magnitude } else { -magnitude }
    }

    #[test]
    fn silence_is_the_code_for_silence() {
        assert_eq!(mu_law(0), 0xff);
        assert_eq!(a_law(0), 0xd5);
    }

    #[test]
    fn every_sample_comes_back_within_its_step() {
        for sample in i16::MIN..=i16::MAX {
            let value = i32::from(sample);
            let step = (value.abs() / 16).max(16);
            let mu = mu_law_decoded(mu_law(sample));
            let a = a_law_decoded(a_law(sample));
            assert!((mu - value).abs() <= step, "mu-law {sample} {mu}");
            assert!((a - value).abs() <= step, "a-law {sample} {a}");
        }
    }

    #[test]
    fn every_code_is_its_own_encoding() {
        for code in 0..=255_u8 {
            assert_eq!(a_law(a_law_decoded(code) as i16), code);
            // μ-law has two zeros; the negative one is never written.
            if code != 0x7f {
                assert_eq!(mu_law(mu_law_decoded(code) as i16), code);
            }
        }
    }
}
