//! Encodes the minutes of long calls while they last, so that at their end only the last ones are
//! missing.
//!
//! What was read of a call stays, sealed, in a temporary file: the next look reads what is new. It
//! is a help and no more: a build does the same work without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::recording::Status;
use model::{RecordingId, TenantId, WallTime};
use segment::TenantKeyPair;
use storage_ports::{ObjectStore, RecordingIndex};

use super::FinalizeError;
use super::minutes::{Minutes, WORTH_KEEPING};
use crate::listening::Listening;
use crate::worker::{Stop, is_stopped, pause, wall_time};

/// A minute of audio takes a fraction of a second, and nobody waits for it yet.
const LOOK_EVERY: Duration = Duration::from_secs(20);

/// What of the calls in progress was read and encoded.
#[derive(Default)]
pub struct Ahead {
    calls: BTreeMap<RecordingId, Reading>,
}

struct Reading {
    listening: Listening,
    /// Minutes that are encoded, under the names of what they are made of.
    made: BTreeSet<String>,
}

/// Looks after the calls in progress until told to stop.
pub(super) async fn run(
    index: &dyn RecordingIndex,
    objects: &dyn ObjectStore,
    keys: &Arc<TenantKeyPair>,
    mut stop: Stop,
) {
    // One machine has one tenant; in a cloud the function is told which.
    let tenant = TenantId::default();
    let mut ahead = Ahead::default();
    pause(&mut stop, LOOK_EVERY).await;
    while !is_stopped(&stop) {
        let until = Instant::now() + LOOK_EVERY;
        match ahead.advance(index, objects, keys, &tenant, wall_time(), Some(until)).await {
            Ok(_) | Err(FinalizeError::OutOfTime) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "calls in progress are not encoded ahead");
            }
        }
        pause(&mut stop, LOOK_EVERY).await;
    }
}

impl Ahead {
    /// Encodes those minutes of every long call in progress that will not change any more. Returns
    /// how many were new. A call that cannot be read holds up no other.
    pub async fn advance(
        &mut self,
        index: &dyn RecordingIndex,
        objects: &dyn ObjectStore,
        keys: &Arc<TenantKeyPair>,
        tenant: &TenantId,
        now: WallTime,
        until: Option<Instant>,
    ) -> Result<u64, FinalizeError> {
        let mut live = index.live(tenant).await?;
        live.retain(|call| now.ms_since(call.started_at) >= WORTH_KEEPING * media::opus::MINUTE_MS);
        self.calls.retain(|id, _| live.iter().any(|call| call.id == *id));
        let mut made = 0;
        for call in live {
            match self.advance_call(index, objects, keys, tenant, call.id, until).await {
                Ok(more) => made += more,
                Err(FinalizeError::OutOfTime) => return Err(FinalizeError::OutOfTime),
                // Its build will say so again. The others must not wait for it.
                Err(error) => {
                    let (recording, error) = (call.id, &error as &dyn std::error::Error);
                    tracing::warn!(%recording, error, "a call in progress is not encoded ahead");
                }
            }
        }
        Ok(made)
    }

    async fn advance_call(
        &mut self,
        index: &dyn RecordingIndex,
        objects: &dyn ObjectStore,
        keys: &Arc<TenantKeyPair>,
        tenant: &TenantId,
        recording: RecordingId,
        until: Option<Instant>,
    ) -> Result<u64, FinalizeError> {
        let Some((state, journal)) = index.state(tenant, recording).await? else { return Ok(0) };
        let Some(started) = state.started.as_ref() else { return Ok(0) };
        if state.status(&journal) != Status::Recording {
            return Ok(0);
        }
        // Taken out: what was cut off half-way is read anew.
        let mut reading = match self.calls.remove(&recording) {
            Some(reading) => reading,
            None => {
                let listening = Listening::new(&state, started.value.session)?;
                Reading { listening, made: BTreeSet::new() }
            }
        };
        reading.listening.update(objects, &state, keys).await?;
        let call = Arc::new(reading.listening.call(&state)?);
        let minutes = Minutes { objects, tenant, recording, keep: true, until };
        let made = minutes.prepare(&call, &mut reading.made).await;
        // The survey grows only while nobody else has it.
        drop(call);
        self.calls.insert(recording, reading);
        made
    }
}
