//! [`RecordingIndex`] and [`storage_ports::Accounts`] in one DynamoDB table.
//!
//! The folds of `model` decide everything, as in every engine; an item is a fold and the keys
//! computed from it. `docs/design/index.md` has the access patterns, what each costs, and the
//! limits; [`key`] has the keys.

mod accounts;
mod item;
mod journal;
mod key;
mod lookup;
mod purge;
mod recording;
mod schema;
mod search;
mod table;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use futures_util::{StreamExt, TryStreamExt, stream};
use model::index::{Finalized, JournalState, RecordingState};
use model::recording::Recording;
use model::search::{Page, SearchQuery};
use model::{HoldId, JournalId, RecordingEvent, RecordingId, TenantId, WallTime};
use storage_ports::{Applied, RecordingIndex, StorageError};

use item::RecordingItem;
use lookup::Dictionary;
use table::Table;

pub use schema::create_table;
pub use table::Used;

/// Journals that are read side by side.
const AT_ONCE: usize = 8;

/// The index, and the accounts. Keep one per process: it remembers what need not be asked twice.
#[derive(Debug)]
pub struct DynamoIndex {
    table: Table,
    /// Over how many partitions a day is spread that has not begun yet.
    new_shards: u8,
    days: Mutex<HashMap<(TenantId, String), u8>>,
    dictionary: Dictionary,
}

impl DynamoIndex {
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self {
            table: Table::new(client, table.into()),
            new_shards: 1,
            days: Mutex::default(),
            dictionary: Dictionary::default(),
        }
    }

    /// Spreads each day that has not begun over this many partitions. One takes about 140 new
    /// calls a second.
    pub fn with_shards(self, shards: u8) -> Self {
        Self { new_shards: shards.max(1), ..self }
    }

    /// What this process has read and written so far, as DynamoDB counts it.
    pub fn used(&self) -> Used {
        self.table.used()
    }

    fn days(&self) -> MutexGuard<'_, HashMap<(TenantId, String), u8>> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RecordingIndex for DynamoIndex {
    async fn apply(&self, event: &RecordingEvent) -> Result<Applied, StorageError> {
        let journal = journal::hear(&self.table, event).await?;
        let to_build = match event.recording() {
            None => self.apply_to_journal(event, &journal).await?,
            Some((tenant, id)) => {
                let tell = self.apply_to_recording(event, &journal).await?;
                if tell { vec![(tenant.clone(), id)] } else { Vec::new() }
            }
        };
        Ok(Applied { to_build })
    }

    async fn state(
        &self,
        tenant: &TenantId,
        id: RecordingId,
    ) -> Result<Option<(RecordingState, JournalState)>, StorageError> {
        let Some(RecordingItem { mut state, .. }) = self.item(tenant, id).await? else {
            return Ok(None);
        };
        state.documents = self.documents(tenant, id).await?;
        let journal = journal::whole(&self.table, state.journal).await?;
        let journal =
            journal.unwrap_or_else(|| JournalState::new(state.journal, state.edge.clone()));
        Ok(Some((state, journal)))
    }

    async fn search(
        &self,
        tenant: &TenantId,
        query: &SearchQuery,
    ) -> Result<Page<Recording>, StorageError> {
        self.search_page(tenant, query).await
    }

    async fn live(&self, tenant: &TenantId) -> Result<Vec<Recording>, StorageError> {
        self.calls_in_progress(tenant).await
    }

    async fn journals(&self) -> Result<Vec<JournalState>, StorageError> {
        let journals = journal::all(&self.table).await?;
        let states: Vec<Option<JournalState>> = stream::iter(journals)
            .map(|id| journal::whole(&self.table, id))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(states.into_iter().flatten().collect())
    }

    async fn journal(&self, journal: JournalId) -> Result<Option<JournalState>, StorageError> {
        journal::whole(&self.table, journal).await
    }

    async fn finalized(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        built: Finalized,
    ) -> Result<bool, StorageError> {
        let held = self.item(tenant, id).await?.ok_or_else(|| recording::not_found(id))?;
        let journal = self.journal_of(&held.state).await?;
        let mut taken = false;
        let take_over = |held: Option<&RecordingItem>| {
            let mut new = held?.clone();
            taken = new.state.finalized(built.clone());
            if taken {
                // What more there is to build, somebody has to be asked for again.
                new.told = None;
            }
            Some(new)
        };
        let changed = self.change(tenant, id, &journal, None, take_over).await?;
        changed.ok_or_else(|| recording::not_found(id))?;
        Ok(taken)
    }

    async fn sweep(
        &self,
        silent_since: WallTime,
    ) -> Result<Vec<(TenantId, RecordingId)>, StorageError> {
        let journals = journal::all(&self.table).await?;
        let heard = journal::briefs(&self.table, journals).await?;
        let needed: Vec<Vec<_>> = stream::iter(heard.into_values())
            .map(async |heard| {
                let mut journal = heard.journal;
                if heard.heard_ms < silent_since.unix_ms() && !journal.is_dead() {
                    journal = journal::declare_dead(&self.table, &journal).await?;
                }
                self.to_build(&journal).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(needed.into_iter().flatten().collect())
    }

    async fn place_hold(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        hold: &HoldId,
    ) -> Result<bool, StorageError> {
        self.hold(tenant, id, hold).await
    }

    async fn release_hold(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        hold: &HoldId,
    ) -> Result<(), StorageError> {
        self.release(tenant, id, hold).await
    }

    async fn due(
        &self,
        tenant: &TenantId,
        before: WallTime,
        limit: usize,
    ) -> Result<Vec<RecordingId>, StorageError> {
        self.due_before(tenant, before, limit).await
    }

    async fn begin_purge(&self, tenant: &TenantId, id: RecordingId) -> Result<bool, StorageError> {
        self.claim(tenant, id).await
    }

    async fn end_purge(&self, tenant: &TenantId, id: RecordingId) -> Result<(), StorageError> {
        self.erase(tenant, id).await
    }
}
