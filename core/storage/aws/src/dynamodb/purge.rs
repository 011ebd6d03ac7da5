//! Holds and purges.
//!
//! Both are one conditional write of the recording's item: its number of holds and its purge lie
//! side by side there, so of two that come at once the second sees what the first has done. What
//! else lies in the recording's partition (documents, and whatever leads to it) is erased after
//! the item says that it is deleted; who writes there afterwards reads that and erases again.
//!
//! What is due is found without looking at what is not: recordings that are over stand in
//! [`key::EXPIRY_SHARDS`] runs in order of time, and leave them while they are held and when they
//! are erased.

use std::collections::BTreeSet;

use model::index::{Purge, RecordingState};
use model::recording::Status;
use model::{HoldId, RecordingId, TenantId, WallTime};
use storage_ports::StorageError;

use super::item::RecordingItem;
use super::recording::not_found;
use super::search::{Journals, Merged, Span};
use super::table::{Index, Run, text};
use super::{DynamoIndex, key, lookup};
use crate::names::table;

/// Candidates of one request.
const MIN_CHUNK: usize = 10;

impl DynamoIndex {
    pub(super) async fn hold(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        hold: &HoldId,
    ) -> Result<bool, StorageError> {
        self.decide(tenant, id, |item| {
            let is_new = !item.holds.iter().any(|held| held == hold.as_str());
            if is_new && item.state.place_hold() {
                item.holds.push(hold.to_string());
            }
            item.state.purge.is_none()
        })
        .await
    }

    pub(super) async fn release(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        hold: &HoldId,
    ) -> Result<(), StorageError> {
        let released = self.decide(tenant, id, |item| {
            let before = item.holds.len();
            item.holds.retain(|held| held != hold.as_str());
            let removed = u32::try_from(before - item.holds.len()).unwrap_or(u32::MAX);
            item.state.holds = item.state.holds.saturating_sub(removed);
            true
        });
        match released.await {
            Ok(_) | Err(StorageError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn claim(
        &self,
        tenant: &TenantId,
        id: RecordingId,
    ) -> Result<bool, StorageError> {
        self.decide(tenant, id, |item| item.state.begin_purge()).await
    }

    pub(super) async fn erase(
        &self,
        tenant: &TenantId,
        id: RecordingId,
    ) -> Result<(), StorageError> {
        self.decide(tenant, id, |item| {
            if item.state.purge.is_some() {
                item.state.end_purge();
            }
            true
        })
        .await?;
        Ok(())
    }

    /// Lets `decide` change a recording; returns what it says of the one that was written.
    async fn decide(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        mut decide: impl FnMut(&mut RecordingItem) -> bool,
    ) -> Result<bool, StorageError> {
        let held = self.item(tenant, id).await?.ok_or_else(|| not_found(id))?;
        let journal = self.journal_of(&held.state).await?;
        let mut decision = false;
        let change = |held: Option<&RecordingItem>| {
            let mut new = held?.clone();
            decision = decide(&mut new);
            Some(new)
        };
        let changed = self.change(tenant, id, &journal, None, change).await?;
        changed.ok_or_else(|| not_found(id))?;
        Ok(decision)
    }

    /// Erases all of a deleted recording but its tombstone and what leads to that.
    pub(super) async fn erase_rest(&self, state: &RecordingState) -> Result<(), StorageError> {
        let pk = key::recording(&state.tenant, state.id);
        let stays: BTreeSet<String> =
            lookup::keys(state).into_iter().chain([key::SELF.to_owned()]).collect();
        let found = self.table.query_all(&Run::whole(Index::Table, pk.clone())).await?;
        let goes = found
            .iter()
            .filter_map(|item| text(item, table::SK))
            .filter(|sk| !stays.contains(*sk))
            .map(|sk| (pk.clone(), sk.to_owned()));
        self.table.delete_many(goes.collect()).await
    }

    pub(super) async fn due_before(
        &self,
        tenant: &TenantId,
        before: WallTime,
        limit: usize,
    ) -> Result<Vec<RecordingId>, StorageError> {
        let mut candidates = due_runs(tenant, before, limit);
        let mut journals = Journals::default();
        let mut due = Vec::new();
        while due.len() < limit {
            let mut batch = Vec::new();
            while batch.len() < limit - due.len() {
                let Some(candidate) = candidates.next(self).await? else { break };
                batch.extend(candidate.state.map(|state| *state));
            }
            if batch.is_empty() {
                break;
            }
            journals.know(self, &batch).await?;
            for state in batch {
                let is_over = match state.status(&journals.of(&state)) {
                    Status::Purging => true,
                    Status::Stored | Status::Partial => state.holds == 0,
                    Status::Recording | Status::Finalizing | Status::Deleted => false,
                };
                if is_over {
                    due.push(state.id);
                }
            }
        }
        Ok(due)
    }
}

/// Everything that may be due, oldest first: what is over and old enough, what a dead edge left
/// behind before anything of it was built, and purges that were begun.
fn due_runs(tenant: &TenantId, before: WallTime, limit: usize) -> Merged {
    let old = |pk: String| Span::before(before).run(Index::Work, pk, "");
    let mut runs: Vec<Run> =
        (0..key::EXPIRY_SHARDS).map(|shard| old(key::expiry(tenant, shard))).collect();
    runs.push(old(key::live(tenant)));
    runs.push(Run::whole(Index::Work, key::purging(tenant)));
    for run in &mut runs {
        run.descending = false;
    }
    let chunk = limit.div_ceil(usize::from(key::EXPIRY_SHARDS)).max(MIN_CHUNK);
    Merged::of(runs, chunk)
}

/// Whether nothing of a recording is kept any more.
pub fn is_erased(state: &RecordingState) -> bool {
    state.purge == Some(Purge::Deleted)
}
