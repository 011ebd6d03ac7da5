//! Events commute: a queue that repeats and reorders them leads to the same index.

use std::collections::BTreeMap;

use model::example::{history, redelivered};
use model::index::{JournalState, RecordingState};
use model::recording::Recording;
use model::{JournalId, RecordingEvent, RecordingId};
use proptest::prelude::*;

#[derive(Debug, Default, PartialEq)]
struct Folded {
    recordings: BTreeMap<RecordingId, RecordingState>,
    journals: BTreeMap<JournalId, JournalState>,
}

impl Folded {
    fn of(events: &[RecordingEvent]) -> Self {
        let mut folded = Self::default();
        for event in events {
            let journal = folded
                .journals
                .remove(&event.journal)
                .unwrap_or_else(|| JournalState::new(event.journal, event.edge.clone()));
            folded.journals.insert(event.journal, journal.fold(event));
            if let Some((_, id)) = event.recording() {
                let held = folded.recordings.remove(&id);
                let state = RecordingState::fold(held, event).expect("the event has a recording");
                folded.recordings.insert(id, state);
            }
        }
        folded
    }

    fn views(&self) -> Vec<Option<Recording>> {
        self.recordings.values().map(|state| state.view(&self.journals[&state.journal])).collect()
    }
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_gives_one_index(
        seed in any::<u64>(),
        delivery in any::<u64>(),
        calls in 1_usize..30,
    ) {
        let sent = history(seed, calls);
        let in_order = Folded::of(&sent);
        let as_delivered = Folded::of(&redelivered(delivery, &sent));
        prop_assert_eq!(&as_delivered, &in_order);
        prop_assert_eq!(as_delivered.views(), in_order.views());
    }

    /// Two records never share a position; a damaged edge that reuses one must still not make
    /// the index depend on chance.
    #[test]
    fn even_events_that_share_a_position_commute(seed in any::<u64>(), delivery in any::<u64>()) {
        let mut sent = history(seed, 6);
        for event in &mut sent {
            event.position.0 /= 64;
            event.edge = sent_by();
        }
        let in_order = Folded::of(&sent);
        let as_delivered = Folded::of(&redelivered(delivery, &sent));
        prop_assert_eq!(as_delivered, in_order);
    }
}

fn sent_by() -> model::EdgeId {
    model::EdgeId::new("edge-1").expect("a plain word is a name")
}

#[test]
fn a_message_that_comes_back_kills_and_the_next_beat_revives() {
    use model::event::{EventBody, VERSION};
    let journal = JournalId::at(1, [1; 10]);
    let beat = |epoch, seq, dead_man| RecordingEvent {
        version: VERSION,
        edge: sent_by(),
        journal,
        epoch,
        position: model::Position(1),
        at: model::WallTime::from_unix_ms(1_000),
        body: EventBody::Beat {
            seq,
            stored_through: model::Position(0),
            live: Vec::new(),
            dead_man,
        },
    };
    let state = JournalState::new(journal, sent_by()).fold(&beat(1, 9, false));
    assert!(!state.is_dead());
    let state = state.fold(&beat(1, 8, true));
    assert!(!state.is_dead(), "beat 9 is newer than the message of beat 8");
    let state = state.fold(&beat(1, 9, true));
    assert!(state.is_dead());
    let mut state = state.fold(&beat(2, 1, false));
    assert!(!state.is_dead(), "a restart counts its beats anew and is newer all the same");
    state.declare_dead();
    assert!(state.is_dead());
    assert!(!state.fold(&beat(2, 2, false)).is_dead());
}

#[test]
fn an_edge_that_died_before_its_first_beat_can_be_declared_dead() {
    let mut state = JournalState::new(JournalId::at(1, [1; 10]), sent_by());
    assert!(!state.is_dead());
    state.declare_dead();
    assert!(state.is_dead());
}
