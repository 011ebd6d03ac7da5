//! Erases what is due: recordings that are kept long enough, and are not held.
//!
//! # Promises
//!
//! - A recording is claimed first. From then on it cannot be held, and none that is held is
//!   claimed, whoever asks at once: the index decides in one step.
//! - Then every version of every object goes, then what the index knows. What stops in between is
//!   finished by a later sweep: a claim that was not ended is due whatever its age.
//! - What cannot be erased (an object that is locked) is left, counted and logged, and
//!   holds up nothing else.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::object_key::recording_prefix;
use model::retention::RetentionPolicy;
use model::{RecordingId, TenantId, WallTime};
use storage_ports::{ObjectStore, RecordingIndex, StorageError};

use crate::worker::{Stop, is_stopped, pause, wall_time};

/// A day more or less is nobody's concern; an hour is soon enough.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);
/// After a start, what was recorded and is not indexed yet comes first.
const FIRST_SWEEP: Duration = Duration::from_secs(60);
/// Recordings asked for at a time.
const BATCH: usize = 100;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    pub erased: usize,
    /// Due, and refused by the object store. They are tried again by the next sweep.
    pub not_erased: usize,
}

/// Sweeps until told to stop.
pub async fn run(
    index: Arc<dyn RecordingIndex>,
    objects: Arc<dyn ObjectStore>,
    tenant: TenantId,
    policy: RetentionPolicy,
    mut stop: Stop,
) {
    pause(&mut stop, FIRST_SWEEP).await;
    while !is_stopped(&stop) {
        match sweep(&*index, &*objects, &tenant, policy, wall_time(), None).await {
            Ok(_) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "retention is put off for an hour");
            }
        }
        pause(&mut stop, SWEEP_EVERY).await;
    }
}

/// Erases everything that is due at `now`, oldest first, until the time is up.
pub async fn sweep(
    index: &dyn RecordingIndex,
    objects: &dyn ObjectStore,
    tenant: &TenantId,
    policy: RetentionPolicy,
    now: WallTime,
    until: Option<Instant>,
) -> Result<Swept, StorageError> {
    let before = policy.due_before(now);
    let mut swept = Swept::default();
    let mut left = HashSet::new();
    loop {
        // Those that were left are due still, and stand in front.
        let due = index.due(tenant, before, BATCH + left.len()).await?;
        let due: Vec<_> = due.into_iter().filter(|id| !left.contains(id)).collect();
        if due.is_empty() {
            break;
        }
        for id in due {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(swept);
            }
            match erase(index, objects, tenant, id).await {
                Ok(true) => {
                    tracing::info!(recording = %id, "erased");
                    metrics::counter!("linekeeper_recordings_erased_total").increment(1);
                    swept.erased += 1;
                }
                // Held since it was listed, or not listed anew yet.
                Ok(false) => {
                    left.insert(id);
                }
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(recording = %id, error, "not erased");
                    swept.not_erased += 1;
                    left.insert(id);
                }
            }
        }
    }
    metrics::gauge!("linekeeper_recordings_not_erased").set(swept.not_erased as f64);
    Ok(swept)
}

/// Erases one recording for ever; false while it is held. Repeating it finishes what was begun.
pub async fn erase(
    index: &dyn RecordingIndex,
    objects: &dyn ObjectStore,
    tenant: &TenantId,
    id: RecordingId,
) -> Result<bool, StorageError> {
    if !index.begin_purge(tenant, id).await? {
        return Ok(false);
    }
    delete_objects(objects, tenant, id).await?;
    index.end_purge(tenant, id).await?;
    Ok(true)
}

/// Deletes all that lies under the recording's prefix, every version of it.
pub(crate) async fn delete_objects(
    objects: &dyn ObjectStore,
    tenant: &TenantId,
    id: RecordingId,
) -> Result<(), StorageError> {
    for object in objects.list(&recording_prefix(tenant, id)).await? {
        objects.delete(&object.key).await?;
    }
    Ok(())
}
