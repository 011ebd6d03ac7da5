//! Puts the packets of a run into the order in which they were sent, each of them once, and holds
//! no more of them than a network can mix up.
//!
//! A hole is waited for as long as a packet of the run can be late; then it is a loss, and what
//! comes of it after all is late.

use std::collections::BTreeMap;

use crate::clock::AxisNs;
use crate::run::MAX_LATE_NS;

/// A packet of a run comes within [`MAX_LATE_NS`], give or take the drift that is allowed for.
const WAIT_NS: i64 = MAX_LATE_NS + 100_000_000;
/// In WAIT_NS nobody sends more of one stream than this, except to harm.
const MOST_WAITING: usize = 4_096;
/// Numbers before the newest one that are remembered, to tell a repetition from a late packet.
const REMEMBERED: usize = 4_096;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Kept,
    Duplicate,
    /// Its place was taken for lost already.
    Late,
}

#[derive(Debug)]
pub(crate) struct Sequencer<T> {
    waiting: BTreeMap<i64, (AxisNs, T)>,
    /// The number after the last one given out.
    next: Option<i64>,
    newest_arrival: AxisNs,
    given: Given,
}

impl<T> Default for Sequencer<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            next: None,
            newest_arrival: AxisNs::MIN,
            given: Given::default(),
        }
    }
}

impl<T> Sequencer<T> {
    pub fn push(&mut self, sequence: i64, arrival: AxisNs, item: T) -> Came {
        self.newest_arrival = self.newest_arrival.max(arrival);
        if self.next.is_some_and(|next| sequence < next) {
            return if self.given.has(sequence) { Came::Duplicate } else { Came::Late };
        }
        if self.waiting.contains_key(&sequence) {
            return Came::Duplicate;
        }
        self.waiting.insert(sequence, (arrival, item));
        Came::Kept
    }

    /// The clock has come this far, though no packet did.
    pub fn advance(&mut self, now: AxisNs) {
        self.newest_arrival = self.newest_arrival.max(now);
    }

    /// The next packet, if it is known to be the next.
    pub fn pop(&mut self) -> Option<(i64, T)> {
        let (sequence, (arrival, _)) = self.waiting.first_key_value()?;
        let waited = self.newest_arrival.saturating_sub(*arrival);
        let is_next =
            self.next == Some(*sequence) || waited > WAIT_NS || self.waiting.len() > MOST_WAITING;
        if is_next { self.take() } else { None }
    }

    /// What waits, in order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &T)> {
        self.waiting.iter().map(|(sequence, (_, item))| (*sequence, item))
    }

    /// The next packet when no more will come.
    pub fn take(&mut self) -> Option<(i64, T)> {
        let (sequence, (_, item)) = self.waiting.pop_first()?;
        self.next = Some(sequence + 1);
        self.given.insert(sequence);
        Some((sequence, item))
    }
}

/// Which of the newest [`REMEMBERED`] numbers were given out: one bit each, in a ring.
#[derive(Debug)]
struct Given {
    bits: [u64; REMEMBERED / 64],
    newest: Option<i64>,
}

impl Default for Given {
    fn default() -> Self {
        Self { bits: [0; REMEMBERED / 64], newest: None }
    }
}

impl Given {
    /// Numbers only rise.
    fn insert(&mut self, number: i64) {
        let from = self
            .newest
            .map_or(number, |newest| newest.max(number.saturating_sub(REMEMBERED as i64)) + 1);
        for passed in from..=number {
            let (word, bit) = Self::place(passed);
            self.bits[word] &= !bit;
        }
        let (word, bit) = Self::place(number);
        self.bits[word] |= bit;
        self.newest = Some(number);
    }

    fn has(&self, number: i64) -> bool {
        let (word, bit) = Self::place(number);
        let is_remembered = self.newest.is_some_and(|newest| {
            (newest.saturating_sub(REMEMBERED as i64) + 1..=newest).contains(&number)
        });
        is_remembered && self.bits[word] & bit != 0
    }

    fn place(number: i64) -> (usize, u64) {
        let at = number.rem_euclid(REMEMBERED as i64) as usize;
        (at / 64, 1 << (at % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn all(sequencer: &mut Sequencer<()>) -> Vec<i64> {
        std::iter::from_fn(|| sequencer.pop()).map(|(sequence, ())| sequence).collect()
    }

    #[test]
    fn packets_come_out_in_order_and_once() {
        let mut sequencer = Sequencer::default();
        for (at, sequence) in [7, 6, 8, 8, 10, 9].into_iter().enumerate() {
            sequencer.push(sequence, at as i64 * 20 * MS, ());
        }
        assert!(all(&mut sequencer).is_empty(), "before them others may come");
        sequencer.advance(1_200 * MS);
        assert_eq!(all(&mut sequencer), [6, 7, 8, 9, 10]);
        assert_eq!(sequencer.push(8, 1_200 * MS, ()), Came::Duplicate);
    }

    #[test]
    fn a_hole_is_waited_for_and_then_lost() {
        let mut sequencer = Sequencer::default();
        sequencer.push(1, 0, ());
        sequencer.advance(1_200 * MS);
        assert_eq!(all(&mut sequencer), [1]);
        sequencer.push(3, 1_220 * MS, ());
        assert!(all(&mut sequencer).is_empty());
        assert_eq!(sequencer.push(2, 2_000 * MS, ()), Came::Kept);
        assert_eq!(all(&mut sequencer), [2, 3]);
        sequencer.push(5, 2_020 * MS, ());
        sequencer.push(6, 3_200 * MS, ());
        assert_eq!(all(&mut sequencer), [5, 6]);
        assert_eq!(sequencer.push(4, 3_210 * MS, ()), Came::Late);
        assert_eq!(sequencer.push(5, 3_210 * MS, ()), Came::Duplicate);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut sequencer = Sequencer::default();
        for number in 0..20_000_i64 {
            sequencer.push(number * 2, 0, ());
            while sequencer.pop().is_some() {}
            assert!(sequencer.waiting.len() <= MOST_WAITING);
        }
    }

    #[test]
    fn memory_of_what_was_given_out_ends_and_is_not_mistaken() {
        let mut given = Given::default();
        given.insert(5);
        given.insert(5 + REMEMBERED as i64 - 1);
        assert!(given.has(5) && !given.has(6));
        given.insert(5 + 10 * REMEMBERED as i64);
        assert!(!given.has(5) && !given.has(5 + REMEMBERED as i64 - 1));
        assert!(given.has(5 + 10 * REMEMBERED as i64));
    }
}
