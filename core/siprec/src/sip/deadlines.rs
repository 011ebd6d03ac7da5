//! The earliest of many deadlines, each of which can be moved.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Instant;

/// At most one deadline per key.
#[derive(Debug)]
pub struct Deadlines<K> {
    of_key: HashMap<K, Instant>,
    in_order: BTreeSet<(Instant, K)>,
}

impl<K: Clone + Eq + Hash + Ord> Default for Deadlines<K> {
    fn default() -> Self {
        Self { of_key: HashMap::new(), in_order: BTreeSet::new() }
    }
}

impl<K: Clone + Eq + Hash + Ord> Deadlines<K> {
    /// Replaces the deadline of `key`; `None` removes it.
    pub fn set(&mut self, key: &K, at: Option<Instant>) {
        let old = match at {
            Some(at) => self.of_key.insert(key.clone(), at),
            None => self.of_key.remove(key),
        };
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.in_order.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.in_order.insert((at, key.clone()));
        }
    }

    pub fn earliest(&self) -> Option<Instant> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// Removes and returns a key whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let (at, _) = self.in_order.first()?;
        if *at > now {
            return None;
        }
        let (_, key) = self.in_order.pop_first()?;
        self.of_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_moved_deadline_is_due_once_and_at_its_new_time() {
        let start = Instant::now();
        let after = |secs| start + Duration::from_secs(secs);
        let mut deadlines = Deadlines::default();
        deadlines.set(&"a", Some(after(1)));
        deadlines.set(&"b", Some(after(2)));
        deadlines.set(&"a", Some(after(3)));
        assert_eq!(deadlines.earliest(), Some(after(2)));
        assert_eq!(deadlines.pop_due(after(1)), None);
        assert_eq!(deadlines.pop_due(after(9)), Some("b"));
        deadlines.set(&"a", None);
        assert_eq!(deadlines.pop_due(after(9)), None);
        assert_eq!(deadlines.earliest(), None);
    }
}
