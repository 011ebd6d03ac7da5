//! When the audio arrived that only this machine has.
//!
//! Constraints, each a test:
//!
//! - Idle time does not count: the age is that of a packet, never of the silence before it.
//! - What is stored counts no more; what arrived while it was being stored still does.
//! - An outage of days costs little memory: arrivals within one second share an entry.

use std::collections::VecDeque;

use model::{Position, WallTime};

/// Arrivals this close together are told as one, by the first of them.
const SHARED_MS: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct Unstored {
    spans: VecDeque<Span>,
}

#[derive(Debug)]
struct Span {
    since: WallTime,
    /// The newest record that the span speaks for.
    last: Position,
}

impl Unstored {
    /// A record of packets, which arrived about `at`.
    pub fn received(&mut self, position: Position, at: WallTime) {
        match self.spans.back_mut() {
            // Either way, because the wall clock may be set back.
            Some(span) if at.ms_since(span.since).max(span.since.ms_since(at)) < SHARED_MS => {
                span.last = position;
            }
            _ => self.spans.push_back(Span { since: at, last: position }),
        }
    }

    pub fn stored(&mut self, through: Position) {
        while self.spans.front().is_some_and(|span| span.last <= through) {
            self.spans.pop_front();
        }
    }

    /// When the oldest of it arrived, to a second; `None` when all is stored.
    pub fn oldest(&self) -> Option<WallTime> {
        self.spans.front().map(|span| span.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> WallTime {
        WallTime::from_unix_ms(ms)
    }

    #[test]
    fn what_arrived_while_the_older_was_being_stored_still_counts() {
        let mut unstored = Unstored::default();
        for (position, ms) in [(10, 0), (11, 100), (12, 2_000), (13, 9_000)] {
            unstored.received(Position(position), at(ms));
        }
        assert_eq!(unstored.oldest(), Some(at(0)));
        unstored.stored(Position(10));
        assert_eq!(unstored.oldest(), Some(at(0)), "its span is stored in part only");
        unstored.stored(Position(11));
        assert_eq!(unstored.oldest(), Some(at(2_000)));
        unstored.stored(Position(20));
        assert_eq!(unstored.oldest(), None);
    }

    #[test]
    fn a_day_without_a_store_is_one_entry_a_second() {
        let mut unstored = Unstored::default();
        for second in 0..86_400_i64 {
            for part in 0..10 {
                unstored.received(Position((second * 10 + part) as u64), at(second * 1_000));
            }
        }
        assert_eq!(unstored.spans.len(), 86_400);
    }

    #[test]
    fn a_clock_that_is_set_back_neither_hides_audio_nor_makes_it_older() {
        let mut unstored = Unstored::default();
        unstored.received(Position(1), at(3_600_000));
        unstored.received(Position(2), at(0));
        unstored.stored(Position(1));
        assert_eq!(unstored.oldest(), Some(at(0)));
        unstored.stored(Position(2));
        assert_eq!(unstored.oldest(), None);
    }
}
