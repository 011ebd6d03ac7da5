//! Whatever order events come in, the index is the folds of all of them.

use std::collections::{BTreeMap, BTreeSet};

use model::index::{JournalState, RecordingState};
use model::recording::{Recording, Status};
use model::search::SearchQuery;
use model::{JournalId, RecordingEvent, RecordingId, TenantId, WallTime};

use super::scene::{all, query};
use crate::RecordingIndex;

/// Applies `events` in the order given and compares the index with the folds of the same events
/// in another order. The events must be of journals that the index does not know yet.
pub async fn any_order_gives_one_index(
    index: &dyn RecordingIndex,
    delivered: &[RecordingEvent],
    in_order: &[RecordingEvent],
) {
    for event in delivered {
        index.apply(event).await.unwrap();
    }
    let mut journals: BTreeMap<JournalId, JournalState> = BTreeMap::new();
    let mut recordings: BTreeMap<(TenantId, RecordingId), RecordingState> = BTreeMap::new();
    for event in in_order {
        let journal = journals
            .remove(&event.journal)
            .unwrap_or_else(|| JournalState::new(event.journal, event.edge.clone()));
        journals.insert(event.journal, journal.fold(event));
        if let Some((tenant, id)) = event.recording() {
            let name = (tenant.clone(), id);
            let state = RecordingState::fold(recordings.remove(&name), event);
            recordings.insert(name, state.expect("the event is about a recording"));
        }
    }
    for (id, journal) in &journals {
        assert_eq!(index.journal(*id).await.unwrap().as_ref(), Some(journal));
    }
    let mut views: BTreeMap<&TenantId, BTreeMap<RecordingId, Recording>> = BTreeMap::new();
    for ((tenant, id), state) in &recordings {
        let journal = &journals[&state.journal];
        let held = index.state(tenant, *id).await.unwrap();
        assert_eq!(held.as_ref(), Some(&(state.clone(), journal.clone())));
        if let Some(view) = state.view(journal) {
            views.entry(tenant).or_default().insert(*id, view);
        }
    }
    for (tenant, views) in views {
        for status in Status::ALL {
            let shown = all(index, tenant, SearchQuery { status: Some(status), ..query() }).await;
            let shown: BTreeMap<_, _> = shown.into_iter().map(|view| (view.id, view)).collect();
            let expected: BTreeMap<_, _> = views
                .iter()
                .filter(|(_, view)| view.status == status)
                .map(|(id, view)| (*id, view.clone()))
                .collect();
            let ours: BTreeMap<_, _> =
                shown.into_iter().filter(|(id, _)| views.contains_key(id)).collect();
            assert_eq!(ours, expected, "{status:?}");
        }
    }
    let to_build: BTreeSet<_> =
        index.sweep(WallTime::from_unix_ms(0)).await.unwrap().into_iter().collect();
    for (name, state) in &recordings {
        let needed = state.needs_build(&journals[&state.journal]);
        assert_eq!(to_build.contains(name), needed, "{state:?}");
    }
}
