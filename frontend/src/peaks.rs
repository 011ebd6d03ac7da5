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
        // In 64 bits: a column times the points of a day is more than the browser's 32 hold.
        let first = |x: usize| (x as u64 * self.length as u64 / width as u64) as usize;
        (0..width)
            .map(|x| {
                let Column { low, high } = if width <= self.length {
                    self.extremes(channel, first(x), first(x + 1))
                } else {
                    self.between(channel, (x as f64 + 0.5) * self.length as f64 / width as f64)
                };
                Column { low: low / full_scale, high: high / full_scale }
            })
            .collect()
    }

    fn point(&self, channel: usize, point: usize) -> Column {
        let at = (point * self.channels + channel) * 2;
        Column { low: f64::from(self.data[at]), high: f64::from(self.data[at + 1]) }
    }

    /// What the points from `first` to before `end` span; the middle line at least.
    fn extremes(&self, channel: usize, first: usize, end: usize) -> Column {
        (first..end).map(|point| self.point(channel, point)).fold(
            Column { low: 0.0, high: 0.0 },
            |all, it| Column { low: all.low.min(it.low), high: all.high.max(it.high) },
        )
    }

    /// A short call has fewer points than pixels: what lies on the line between two points, so
    /// that it does not look like stairs. A point stands in the middle of the time it covers.
    fn between(&self, channel: usize, at: f64) -> Column {
        let at = (at - 0.5).clamp(0.0, (self.length - 1) as f64);
        let (left, right) = (at.floor() as usize, at.ceil() as usize);
        let (left, right) = (self.point(channel, left), self.point(channel, right));
        let share = at.fract();
        Column {
            low: left.low + (right.low - left.low) * share,
            high: left.high + (right.high - left.high) * share,
        }
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
    fn a_short_call_is_drawn_without_stairs() {
        let columns = stereo().columns(0, 300);
        assert_eq!(columns.len(), 300);
        assert_eq!(columns[0].high, 0.5);
        assert_eq!(columns[299], Column { low: 0.0, high: 0.125 });
        let steepest = columns.windows(2).map(|pair| (pair[1].high - pair[0].high).abs());
        assert!(steepest.fold(0.0, f64::max) < 0.02);
    }

    #[test]
    fn a_missing_channel_is_empty() {
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
