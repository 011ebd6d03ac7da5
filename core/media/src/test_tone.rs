//! How alike two pieces of audio are.

/// Pearson's correlation over the length of the shorter one.
pub fn correlation(a: &[i16], b: &[i16]) -> f64 {
    let count = a.len().min(b.len());
    let mean = |samples: &[i16]| {
        samples[..count].iter().map(|s| f64::from(*s)).sum::<f64>() / count as f64
    };
    let (mean_a, mean_b) = (mean(a), mean(b));
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a) - mean_a, f64::from(*b) - mean_b);
        ab += a * b;
        aa += a * a;
        bb += b * b;
    }
    if aa == 0.0 || bb == 0.0 { 0.0 } else { ab / (aa * bb).sqrt() }
}
