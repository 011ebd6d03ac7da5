//! The waveform as the server made it: audiowaveform JSON, version 2.
//!
//! Decoding an hour of audio in the browser takes seconds; these are a few kilobytes.

use serde::Deserialize;

/// `GET /v1/recordings/{id}/peaks`. `data` is min, max for each channel of each point in turn.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Peaks {
    pub channels: usize,
    pub bits: u32,
    pub length: usize,
    pub data: Vec<i32>,
}

/// What one column of pixels spans, from -1 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    pub low: f64,
    pub high: f64,
}

impl Peaks {
    /// Whether the numbers agree with each other, so that drawing need not ask.
    pub fn is_sound(&self) -> bool {
        matches!(self.bits, 8 | 16)
            && self.channels.checked_mul(self.length).and_then(|points| points.checked_mul(2))
                == Some(self.data.len())
    }

    /// One channel squeezed or stretched to `width` columns; empty for a channel that is not
    /// there.
    pub fn columns(&self, channel: usize, width: usize) -> Vec<Column> {
        if channel >= self.channels || self.length == 0 {
            return Vec::new();
        }
        let full_scale = f64::from(1_i32 << (self.bits - 1));
        (0..width)
            .map(|x| {
                let first = x * self.length / width;
                // At least one point, also when there are more columns than points.
                let end = ((x + 1) * self.length / width).clamp(first + 1, self.length);
                let (mut low, mut high) = (0, 0);
                for point in first..end {
                    let at = (point * self.channels + channel) * 2;
                    low = low.min(self.data[at]);
                    high = high.max(self.data[at + 1]);
                }
                Column { low: f64::from(low) / full_scale, high: f64::from(high) / full_scale }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stereo() -> Peaks {
        Peaks {
            channels: 2,
            bits: 8,
            length: 3,
            data: vec![-64, 64, 0, 0, -1, 32, -128, 127, 0, 16, -2, 1],
        }
    }

    #[test]
    fn a_column_spans_the_extremes_of_its_points() {
        let columns = stereo().columns(0, 1);
        assert_eq!(columns, [Column { low: -0.5, high: 0.5 }]);
        assert_eq!(stereo().columns(1, 3)[1].low, -1.0);
    }

    #[test]
    fn a_wide_lane_repeats_points_and_a_missing_channel_is_empty() {
        assert_eq!(stereo().columns(0, 1_000).len(), 1_000);
        assert!(stereo().columns(2, 10).is_empty());
        assert!(stereo().columns(0, 0).is_empty());
    }

    #[test]
    fn numbers_that_disagree_are_refused() {
        assert!(stereo().is_sound());
        assert!(!Peaks { length: 4, ..stereo() }.is_sound());
        assert!(!Peaks { length: usize::MAX, ..stereo() }.is_sound());
        assert!(!Peaks { bits: 0, ..stereo() }.is_sound());
    }
}
