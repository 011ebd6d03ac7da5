//! States to rows and back.

use std::collections::BTreeSet;

use model::attribution::addresses_of_state;
use model::index::{JournalState, RecordingState};
use model::search_text::SearchText;
use model::{JournalId, RecordingId, TenantId};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::de::DeserializeOwned;

use crate::clock::now_ms;
use crate::database::WorkError;

pub fn journal(
    transaction: &Transaction<'_>,
    id: JournalId,
) -> Result<Option<JournalState>, WorkError> {
    let state: Option<String> = transaction
        .prepare_cached("SELECT state FROM journals WHERE journal = ?1")?
        .query_row([id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    state.as_deref().map(parse_state).transpose()
}

/// The journal of `recording`; nothing is known of it yet only when the database was damaged.
pub fn journal_or_new(
    transaction: &Transaction<'_>,
    recording: &RecordingState,
) -> Result<JournalState, WorkError> {
    let known = journal(transaction, recording.journal)?;
    Ok(known.unwrap_or_else(|| JournalState::new(recording.journal, recording.edge.clone())))
}

pub fn recording(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    id: RecordingId,
) -> Result<Option<RecordingState>, WorkError> {
    let state: Option<String> = transaction
        .prepare_cached("SELECT state FROM recordings WHERE tenant = ?1 AND id = ?2")?
        .query_row(params![tenant.as_str(), id.0.as_bytes()], |row| row.get(0))
        .optional()?;
    state.as_deref().map(parse_state).transpose()
}

pub fn parse_state<T: DeserializeOwned>(json: &str) -> Result<T, WorkError> {
    serde_json::from_str(json).map_err(WorkError::corrupt)
}

fn to_json<T: serde::Serialize>(state: &T) -> Result<String, WorkError> {
    serde_json::to_string(state).map_err(WorkError::corrupt)
}

/// A row of `SELECT tenant, id`.
pub fn name(row: &Row<'_>) -> rusqlite::Result<(String, [u8; 16])> {
    Ok((row.get(0)?, row.get(1)?))
}

pub fn parse_name((tenant, id): (String, [u8; 16])) -> Result<(TenantId, RecordingId), WorkError> {
    let tenant = TenantId::new(tenant).map_err(WorkError::corrupt)?;
    Ok((tenant, self::id(id)))
}

pub fn id(bytes: [u8; 16]) -> RecordingId {
    RecordingId(uuid::Uuid::from_bytes(bytes))
}

/// Writes a journal's row. `heard` says that it changes by something new from its edge.
pub fn save_journal(
    transaction: &Transaction<'_>,
    state: &JournalState,
    heard: bool,
) -> Result<(), WorkError> {
    transaction
        .prepare_cached(
            "INSERT INTO journals (journal, heard_ms, state) VALUES (?1, ?2, ?3)
             ON CONFLICT (journal) DO UPDATE SET
             heard_ms = iif(?4, excluded.heard_ms, heard_ms), state = excluded.state",
        )?
        .execute(params![state.journal.0.as_bytes(), now_ms(), to_json(state)?, heard])?;
    Ok(())
}

/// What of the row that is there decides about the one that replaces it.
struct Held {
    key: i64,
    needs_build: bool,
    told_by: Option<[u8; 16]>,
    text: String,
}

/// Writes a recording's row. `mark` names the event that it changes by; when that event makes it
/// need a build, the row remembers.
pub fn save_recording(
    transaction: &Transaction<'_>,
    state: &RecordingState,
    journal: &JournalState,
    mark: Option<&[u8; 16]>,
) -> Result<(), WorkError> {
    let held = transaction
        .prepare_cached(
            "SELECT key, needs_build, told_by, text FROM recordings
             WHERE tenant = ?1 AND id = ?2",
        )?
        .query_row(params![state.tenant.as_str(), state.id.0.as_bytes()], |row| {
            Ok(Held {
                key: row.get(0)?,
                needs_build: row.get(1)?,
                told_by: row.get(2)?,
                text: row.get(3)?,
            })
        })
        .optional()?;
    let needs_build = state.needs_build(journal);
    let told_by = match &held {
        _ if !needs_build => None,
        Some(held) if held.needs_build => held.told_by,
        _ => mark.copied(),
    };
    let view = state.view(journal);
    let duration_ms = view.as_ref().and_then(|view| view.duration_ms);
    let text = SearchText::of(state);
    let key: i64 = transaction
        .prepare_cached(
            "INSERT INTO recordings (tenant, id, journal, started_ms, duration_ms, status,
             needs_build, told_by, text, parties, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
             ON CONFLICT (tenant, id) DO UPDATE SET
             journal = excluded.journal, started_ms = excluded.started_ms,
             duration_ms = excluded.duration_ms, status = excluded.status,
             needs_build = excluded.needs_build, told_by = excluded.told_by,
             text = excluded.text, parties = excluded.parties, state = excluded.state
             RETURNING key",
        )?
        .query_row(
            params![
                state.tenant.as_str(),
                state.id.0.as_bytes(),
                state.journal.0.as_bytes(),
                view.map(|view| view.started_at.unix_ms()),
                // Longer than 292 million years was not meant.
                duration_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX)),
                state.status(journal).as_str(),
                needs_build,
                told_by,
                text.all,
                text.parties,
                to_json(state)?
            ],
            |row| row.get(0),
        )?;
    debug_assert!(held.as_ref().is_none_or(|held| held.key == key));
    save_addresses(transaction, key, state)?;
    if held.is_none_or(|held| held.text != text.all) {
        transaction
            .prepare_cached("DELETE FROM recording_text WHERE rowid = ?1")?
            .execute([key])?;
        transaction
            .prepare_cached("INSERT INTO recording_text (rowid, text) VALUES (?1, ?2)")?
            .execute(params![key, text.all])?;
    }
    Ok(())
}

/// Writes the addresses by which the recording in row `key` is somebody's, where they changed.
pub fn save_addresses(
    transaction: &Transaction<'_>,
    key: i64,
    state: &RecordingState,
) -> Result<(), WorkError> {
    let started_ms = state.started.as_ref().map(|started| started.value.at.unix_ms());
    let addresses = addresses_of_state(state);
    let new: BTreeSet<(String, i64)> = addresses
        .into_iter()
        .filter_map(|address| Some((String::from(address), started_ms?)))
        .collect();
    let held: BTreeSet<(String, i64)> = {
        let mut statement = transaction.prepare_cached(
            "SELECT address, started_ms FROM recording_addresses WHERE recording = ?1",
        )?;
        let rows = statement.query_map([key], |row| Ok((row.get(0)?, row.get(1)?)))?;
        rows.collect::<Result<_, _>>()?
    };
    if new == held {
        return Ok(());
    }
    transaction
        .prepare_cached("DELETE FROM recording_addresses WHERE recording = ?1")?
        .execute([key])?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO recording_addresses (tenant, address, started_ms, recording)
         VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (address, started_ms) in new {
        insert.execute(params![state.tenant.as_str(), address, started_ms, key])?;
    }
    Ok(())
}
