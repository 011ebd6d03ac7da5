//! Holds and purges. Each is one transaction, and SQLite runs one at a time: who comes second sees
//! what the first has done.

use model::index::RecordingState;
use model::recording::Status;
use model::{HoldId, RecordingId, TenantId, WallTime};
use rusqlite::{Transaction, params};
use storage_ports::StorageError;

use super::row::{self, journal_or_new, recording, save_recording};
use crate::database::WorkError;

pub fn place_hold(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    id: RecordingId,
    hold: &HoldId,
) -> Result<bool, WorkError> {
    let mut state = known(transaction, tenant, id)?;
    if state.purge.is_some() {
        return Ok(false);
    }
    let added = transaction
        .prepare_cached(
            "INSERT OR IGNORE INTO holds (tenant, recording, hold) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![tenant.as_str(), id.0.as_bytes(), hold.as_str()])?;
    if added == 1 && state.place_hold() {
        save(transaction, &state)?;
    }
    Ok(true)
}

pub fn release_hold(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    id: RecordingId,
    hold: &HoldId,
) -> Result<(), WorkError> {
    let removed = transaction
        .prepare_cached("DELETE FROM holds WHERE tenant = ?1 AND recording = ?2 AND hold = ?3")?
        .execute(params![tenant.as_str(), id.0.as_bytes(), hold.as_str()])?;
    if removed == 1 {
        let mut state = known(transaction, tenant, id)?;
        state.holds = state.holds.saturating_sub(1);
        save(transaction, &state)?;
    }
    Ok(())
}

pub fn due(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    before: WallTime,
    limit: usize,
) -> Result<Vec<RecordingId>, WorkError> {
    let mut statement = transaction.prepare_cached(
        "SELECT r.id FROM recordings r
         WHERE r.tenant = ?1 AND (r.status = ?2 OR r.started_ms < ?3 AND r.status IN (?4, ?5)
           AND NOT EXISTS (SELECT 1 FROM holds h WHERE h.tenant = r.tenant AND h.recording = r.id))
         ORDER BY r.started_ms, r.id LIMIT ?6",
    )?;
    let ids = statement.query_map(
        params![
            tenant.as_str(),
            Status::Purging.as_str(),
            before.unix_ms(),
            Status::Stored.as_str(),
            Status::Partial.as_str(),
            i64::try_from(limit).unwrap_or(i64::MAX)
        ],
        |row| row.get::<_, [u8; 16]>(0),
    )?;
    ids.map(|id| Ok(row::id(id?))).collect()
}

pub fn begin(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    id: RecordingId,
) -> Result<bool, WorkError> {
    let mut state = known(transaction, tenant, id)?;
    let was = state.purge;
    let claimed = state.begin_purge();
    if state.purge != was {
        save(transaction, &state)?;
    }
    Ok(claimed)
}

pub fn end(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    id: RecordingId,
) -> Result<(), WorkError> {
    let mut state = known(transaction, tenant, id)?;
    if state.purge.is_some() {
        state.end_purge();
        save(transaction, &state)?;
    }
    Ok(())
}

fn known(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    id: RecordingId,
) -> Result<RecordingState, WorkError> {
    let unknown = || StorageError::NotFound { what: format!("recording {id}") };
    recording(transaction, tenant, id)?.ok_or_else(|| unknown().into())
}

fn save(transaction: &Transaction<'_>, state: &RecordingState) -> Result<(), WorkError> {
    let journal = journal_or_new(transaction, state)?;
    save_recording(transaction, state, &journal, None)
}
