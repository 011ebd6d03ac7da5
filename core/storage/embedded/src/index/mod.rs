//! [`RecordingIndex`] in SQLite.
//!
//! The folds of `model` decide everything; a row is a fold's JSON plus columns computed from it,
//! so that SQL can filter and sort. Applying an event is one transaction: read the states, fold,
//! write the states. SQLite runs one such transaction at a time, which makes concurrent readers
//! of the queue safe without any condition of ours.
//!
//! A recording's status also depends on its journal (what is stored, is the edge alive), so a
//! change of those two re-computes the journal's open recordings. Most beats change neither.

mod purge;
mod row;
mod search;

use std::sync::Arc;

use async_trait::async_trait;
use model::index::{Finalized, JournalState, RecordingState};
use model::recording::{Recording, Status};
use model::search::{Page, SearchQuery};
use model::{HoldId, JournalId, RecordingEvent, RecordingId, TenantId, WallTime};
use rusqlite::{Transaction, params};
use sha2::{Digest, Sha256};
use storage_ports::{Applied, RecordingIndex, StorageError};

use crate::database::{Database, WorkError};
use row::{journal, journal_or_new, recording, save_journal, save_recording};

const WHAT: &str = "index";

pub struct SqliteIndex {
    database: Arc<Database>,
}

impl SqliteIndex {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database }
    }
}

fn apply(transaction: &Transaction<'_>, event: &RecordingEvent) -> Result<Applied, WorkError> {
    let mark = mark_of(event);
    let before = journal(transaction, event.journal)?;
    let seen = before.as_ref().map(what_matters);
    let after = before
        .clone()
        .unwrap_or_else(|| JournalState::new(event.journal, event.edge.clone()))
        .fold(event);
    if before.as_ref() != Some(&after) {
        let newest = |journal: &JournalState| (journal.newest, journal.newest_beat);
        let heard = before.as_ref().map(newest) != Some(newest(&after));
        save_journal(transaction, &after, heard)?;
    }
    if seen != Some(what_matters(&after)) {
        recompute_open(transaction, &after, Some(&mark))?;
    }
    if let Some((tenant, id)) = event.recording() {
        let held = recording(transaction, tenant, id)?;
        let new = RecordingState::fold(held.clone(), event).expect("the event is about one");
        if held.as_ref() != Some(&new) {
            // The journal that the recording belongs to: an event of another one about the same
            // recording would be a damaged edge's, and must not decide about its status.
            let journal = journal_or_new(transaction, &new)?;
            save_recording(transaction, &new, &journal, Some(&mark))?;
        }
    }
    Ok(Applied { to_build: told_by(transaction, &mark)? })
}

/// Writes the addresses of all recordings, into a database that had none.
pub(crate) fn add_addresses(transaction: &Transaction<'_>) -> Result<(), WorkError> {
    let mut statement = transaction.prepare("SELECT key, state FROM recordings")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let state = row::parse_state(row.get_ref(1)?.as_str().map_err(WorkError::corrupt)?)?;
        row::save_addresses(transaction, row.get(0)?, &state)?;
    }
    Ok(())
}

/// All that a recording's status takes from its journal.
fn what_matters(journal: &JournalState) -> (bool, model::Position) {
    (journal.is_dead(), journal.stored_through)
}

/// Names an event, so that the same one can be recognised when it comes again.
fn mark_of(event: &RecordingEvent) -> [u8; 16] {
    let digest = Sha256::digest(event.to_json());
    let mut mark = [0; 16];
    mark.copy_from_slice(&digest[..16]);
    mark
}

/// Recordings that still need the build which this event made them need.
fn told_by(
    transaction: &Transaction<'_>,
    mark: &[u8; 16],
) -> Result<Vec<(TenantId, RecordingId)>, WorkError> {
    let mut statement = transaction
        .prepare_cached("SELECT tenant, id FROM recordings WHERE told_by = ?1 ORDER BY key")?;
    let rows = statement.query_map([mark], row::name)?;
    rows.map(|name| row::parse_name(name?)).collect()
}

/// Writes anew what depends on `journal`, of its recordings whose status can still change.
fn recompute_open(
    transaction: &Transaction<'_>,
    journal: &JournalState,
    mark: Option<&[u8; 16]>,
) -> Result<(), WorkError> {
    let open: Vec<String> = {
        let mut statement = transaction.prepare_cached(
            "SELECT state FROM recordings WHERE journal = ?1 AND status IN (?2, ?3, ?4)",
        )?;
        let states = statement.query_map(
            params![
                journal.journal.0.as_bytes(),
                Status::Recording.as_str(),
                Status::Finalizing.as_str(),
                Status::Partial.as_str()
            ],
            |row| row.get(0),
        )?;
        states.collect::<Result<_, _>>()?
    };
    for state in open {
        let state = row::parse_state(&state)?;
        save_recording(transaction, &state, journal, mark)?;
    }
    Ok(())
}

fn sweep(
    transaction: &Transaction<'_>,
    silent_since: WallTime,
) -> Result<Vec<(TenantId, RecordingId)>, WorkError> {
    let silent: Vec<String> = {
        let mut statement =
            transaction.prepare_cached("SELECT state FROM journals WHERE heard_ms < ?1")?;
        let states = statement.query_map([silent_since.unix_ms()], |row| row.get(0))?;
        states.collect::<Result<_, _>>()?
    };
    for state in silent {
        let mut journal: JournalState = row::parse_state(&state)?;
        if !journal.is_dead() {
            journal.declare_dead();
            save_journal(transaction, &journal, false)?;
            recompute_open(transaction, &journal, None)?;
        }
    }
    let mut statement = transaction
        .prepare_cached("SELECT tenant, id FROM recordings WHERE needs_build ORDER BY key")?;
    let rows = statement.query_map((), row::name)?;
    rows.map(|name| row::parse_name(name?)).collect()
}

#[async_trait]
impl RecordingIndex for SqliteIndex {
    async fn apply(&self, event: &RecordingEvent) -> Result<Applied, StorageError> {
        let event = event.clone();
        self.database.write(WHAT, move |transaction| apply(transaction, &event)).await
    }

    async fn state(
        &self,
        tenant: &TenantId,
        id: RecordingId,
    ) -> Result<Option<(RecordingState, JournalState)>, StorageError> {
        let tenant = tenant.clone();
        self.database
            .read(WHAT, move |transaction| {
                let Some(state) = recording(transaction, &tenant, id)? else { return Ok(None) };
                let journal = journal_or_new(transaction, &state)?;
                Ok(Some((state, journal)))
            })
            .await
    }

    async fn search(
        &self,
        tenant: &TenantId,
        query: &SearchQuery,
    ) -> Result<Page<Recording>, StorageError> {
        let (tenant, query) = (tenant.clone(), query.clone());
        self.database
            .read(WHAT, move |transaction| search::search(transaction, &tenant, &query))
            .await
    }

    async fn live(&self, tenant: &TenantId) -> Result<Vec<Recording>, StorageError> {
        let tenant = tenant.clone();
        self.database.read(WHAT, move |transaction| search::live(transaction, &tenant)).await
    }

    async fn journals(&self) -> Result<Vec<JournalState>, StorageError> {
        self.database
            .read(WHAT, |transaction| {
                let mut statement =
                    transaction.prepare_cached("SELECT state FROM journals ORDER BY journal")?;
                let states = statement.query_map((), |row| row.get::<_, String>(0))?;
                states.map(|state| row::parse_state(&state?)).collect()
            })
            .await
    }

    async fn journal(&self, id: JournalId) -> Result<Option<JournalState>, StorageError> {
        self.database.read(WHAT, move |transaction| journal(transaction, id)).await
    }

    async fn finalized(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        built: Finalized,
    ) -> Result<bool, StorageError> {
        let tenant = tenant.clone();
        self.database
            .write(WHAT, move |transaction| {
                let Some(mut state) = recording(transaction, &tenant, id)? else {
                    let what = format!("recording {id}");
                    return Err(StorageError::NotFound { what }.into());
                };
                let taken = state.finalized(built);
                if taken {
                    let journal = journal_or_new(transaction, &state)?;
                    save_recording(transaction, &state, &journal, None)?;
                }
                Ok(taken)
            })
            .await
    }

    async fn sweep(
        &self,
        silent_since: WallTime,
    ) -> Result<Vec<(TenantId, RecordingId)>, StorageError> {
        self.database.write(WHAT, move |transaction| sweep(transaction, silent_since)).await
    }

    async fn place_hold(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        hold: &HoldId,
    ) -> Result<bool, StorageError> {
        let (tenant, hold) = (tenant.clone(), hold.clone());
        self.database
            .write(WHAT, move |transaction| purge::place_hold(transaction, &tenant, id, &hold))
            .await
    }

    async fn release_hold(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        hold: &HoldId,
    ) -> Result<(), StorageError> {
        let (tenant, hold) = (tenant.clone(), hold.clone());
        self.database
            .write(WHAT, move |transaction| purge::release_hold(transaction, &tenant, id, &hold))
            .await
    }

    async fn due(
        &self,
        tenant: &TenantId,
        before: WallTime,
        limit: usize,
    ) -> Result<Vec<RecordingId>, StorageError> {
        let tenant = tenant.clone();
        self.database
            .read(WHAT, move |transaction| purge::due(transaction, &tenant, before, limit))
            .await
    }

    async fn begin_purge(&self, tenant: &TenantId, id: RecordingId) -> Result<bool, StorageError> {
        let tenant = tenant.clone();
        self.database.write(WHAT, move |transaction| purge::begin(transaction, &tenant, id)).await
    }

    async fn end_purge(&self, tenant: &TenantId, id: RecordingId) -> Result<(), StorageError> {
        let tenant = tenant.clone();
        self.database.write(WHAT, move |transaction| purge::end(transaction, &tenant, id)).await
    }
}
