//! Builds playable audio from segments: after an orderly end, after a crash, and again when more
//! arrives. There is no other path, so the recovery path is tested by every call.
//!
//! # Promises
//!
//! - A build that is asked for twice, or by two at once, or that died half-way, gives one result.
//!   Outputs of a generation are never replaced by others: who finds other ones there takes the
//!   next generation, and the index takes the newest.
//! - What the index calls stored is stored: the packets object, then the outputs, then the
//!   manifest, then the index.
//! - The packets object only grows: a rebuild adds what came meanwhile and keeps what was there,
//!   so that it is complete when the segments are gone.
//! - A damaged segment costs what it held and is kept for whoever can mend it; the recording is
//!   flagged and built from the rest.
//!
//! A build holds the call's sealed packets, its payloads and its outputs in memory: about 100 MB
//! for an hour of two G.711 streams.

mod gather;
mod outputs;
mod retire;

use std::sync::Arc;
use std::time::Duration;

use media::AssembleError;
use model::index::Finalized;
use model::recording::flag;
use model::{JournalState, RecordingId, RecordingState, SessionId, TenantId};
use segment::TenantKeyPair;
use storage_ports::{Delivery, EventQueue, ObjectStore, RecordingIndex, StorageError};
use tokio::time::Instant;

use crate::worker::{Backoff, BuildRequest, RECEIVE_WAIT, Stop, is_stopped, pause, retry_delay};
use gather::Gathered;
pub use retire::{Retired, retire_segments};

/// Builds at a time. One uses one thread; a burst of calls that end together waits in the queue.
const AT_ONCE: usize = 2;
/// How often segments that nobody needs any more are looked for.
const RETIRE_EVERY: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Built {
        generation: u32,
        complete: bool,
    },
    /// Nothing to do: built already, not ended, purged, or unknown to the index.
    NotNeeded,
    /// Somebody else built it meanwhile, or it is being purged.
    Superseded,
}

/// Why a recording was not built.
#[derive(Debug, thiserror::Error)]
pub enum FinalizeError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// For the operator: the tenant's key is another one, or an older release runs here.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The segments hold nothing of the session, and neither does a packets object.
    #[error("nothing of session {session} is in the object store")]
    NoRecords { session: SessionId },
    #[error("audio could not be encoded")]
    Encode(#[from] media::OpusError),
    #[error("the build was cut off")]
    CutOff(#[source] tokio::task::JoinError),
}

/// Builds what is asked for until told to stop. Outages are waited for.
pub async fn run(
    index: Arc<dyn RecordingIndex>,
    work: Arc<dyn EventQueue>,
    objects: Arc<dyn ObjectStore>,
    keys: Arc<TenantKeyPair>,
    mut stop: Stop,
) {
    let mut backoff = Backoff::default();
    let mut retire_at = Instant::now() + RETIRE_EVERY;
    while !is_stopped(&stop) {
        match work.receive(AT_ONCE, RECEIVE_WAIT).await {
            Ok(batch) => {
                backoff.succeeded();
                let builds = batch
                    .into_iter()
                    .map(|delivery| handle(&*index, &*work, &*objects, &keys, delivery));
                futures_util::future::join_all(builds).await;
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no build requests received"
                );
                let wait = backoff.failed();
                pause(&mut stop, wait).await;
            }
        }
        if Instant::now() >= retire_at {
            if let Err(error) = retire_all(&*index, &*objects).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "segments not retired yet");
            }
            retire_at = Instant::now() + RETIRE_EVERY;
        }
    }
}

/// Handles one request: acknowledged, a dead letter, or given back.
pub async fn handle(
    index: &dyn RecordingIndex,
    work: &dyn EventQueue,
    objects: &dyn ObjectStore,
    keys: &Arc<TenantKeyPair>,
    delivery: Delivery,
) {
    let settled = match serde_json::from_str::<BuildRequest>(&delivery.body) {
        Err(_) => work.dead_letter(&delivery, "not a build request").await,
        Ok(BuildRequest { tenant, recording }) => {
            match build(index, objects, keys, &tenant, recording).await {
                Ok(outcome) => {
                    tracing::info!(%recording, ?outcome, "build request done");
                    work.acknowledge(&delivery.receipt).await
                }
                Err(error) => {
                    let retry_in = retry_delay(delivery.attempt);
                    let attempt = delivery.attempt;
                    tracing::warn!(
                        %recording,
                        attempt,
                        ?retry_in,
                        error = &error as &dyn std::error::Error,
                        "recording not built yet"
                    );
                    work.retry(&delivery.receipt, retry_in).await
                }
            }
        }
    };
    if let Err(error) = settled {
        // The message comes again after its visibility time; a build that is done is not repeated.
        tracing::debug!(error = &error as &dyn std::error::Error, "build request not settled");
    }
}

/// Builds one recording, if there is something to build that is not built yet.
pub async fn build(
    index: &dyn RecordingIndex,
    objects: &dyn ObjectStore,
    keys: &Arc<TenantKeyPair>,
    tenant: &TenantId,
    recording: RecordingId,
) -> Result<Outcome, FinalizeError> {
    let Some((state, journal)) = index.state(tenant, recording).await? else {
        return Ok(Outcome::NotNeeded);
    };
    let Some(started) = state.started.clone() else { return Ok(Outcome::NotNeeded) };
    if !state.needs_build(&journal) {
        return Ok(Outcome::NotNeeded);
    }
    let session = started.value.session;
    // A further communication session needs what was negotiated, and sealed, before it began.
    let first = session.first_recording();
    let began = match index.state(tenant, first).await? {
        _ if first == recording => Some(started.position),
        Some((first, _)) => first.started.map(|started| started.position),
        None => None,
    };
    let mut gathered = Gathered::of(objects, &state, session, began.unwrap_or_default()).await?;
    gathered.add_packets_object(objects, &state).await?;
    // The session's segments may have gone with its first recording, if this one was not known
    // then. Asked after the segments were read: what went meanwhile is in its packets by now.
    if first != recording
        && let Some((first, _)) = index.state(tenant, first).await?
    {
        gathered.add_packets_object(objects, &first).await?;
    }
    if gathered.records.is_empty() {
        return Err(FinalizeError::NoRecords { session });
    }
    // Segments are deleted only once their recordings are built. So if nothing was built since the
    // index was asked, none were deleted while we read them.
    if index.state(tenant, recording).await?.map(|(now, _)| now.finalized)
        != Some(state.finalized.clone())
    {
        return Ok(Outcome::Superseded);
    }
    let built = make(objects, keys, &state, &journal, session, gathered).await?;
    let outcome = Outcome::Built { generation: built.generation, complete: built.complete };
    let taken = index.finalized(tenant, recording, built).await?;
    Ok(if taken { outcome } else { Outcome::Superseded })
}

/// Renders and stores everything; the result is for the index.
async fn make(
    objects: &dyn ObjectStore,
    keys: &Arc<TenantKeyPair>,
    state: &RecordingState,
    journal: &JournalState,
    session: SessionId,
    gathered: Gathered,
) -> Result<Finalized, FinalizeError> {
    let is_damaged = gathered.is_damaged;
    let sealed_keys: Vec<String> = gathered.sealed_keys.iter().map(ToString::to_string).collect();
    let packets = outputs::packets(state, session, &gathered);
    let (keys, facts) = (keys.clone(), state.facts.as_ref().map(|facts| facts.value.clone()));
    let (recording, facts) = (state.id, facts.unwrap_or_default());
    let rendering = tokio::task::spawn_blocking(move || {
        outputs::Rendered::make(gathered, &keys, session, recording, &facts)
    });
    let mut rendered = rendering.await.map_err(FinalizeError::CutOff)??;
    if is_damaged {
        rendered.call.flags.insert(flag::DAMAGED.to_owned());
    }
    let packets = outputs::store_packets(objects, state, packets).await?;

    // By the index, not by the records: a damaged last segment must not be waited for without end.
    let complete =
        state.ended.as_ref().is_some_and(|ended| journal.stored_through >= ended.position);
    let generation = state.finalized.as_ref().map_or(0, |built| built.generation) + 1;
    let whose = outputs::Whose { state, session, through: journal.stored_through, complete };
    let (generation, sha256) = rendered.store(objects, &whose, generation, packets).await?;
    Ok(Finalized {
        generation,
        through: journal.stored_through,
        complete,
        duration_ms: rendered.call.duration_ms(),
        tracks: rendered.call.lanes.iter().map(|lane| lane.track.clone()).collect(),
        packets: Some(rendered.call.packets),
        marks: std::mem::take(&mut rendered.call.marks),
        flags: std::mem::take(&mut rendered.call.flags),
        sha256,
        sealed_keys,
    })
}

/// Retires the segments of every journal, for every tenant that has any.
async fn retire_all(
    index: &dyn RecordingIndex,
    objects: &dyn ObjectStore,
) -> Result<(), StorageError> {
    // One machine has one tenant; in a cloud the function is told which.
    let tenant = TenantId::default();
    for journal in index.journals().await? {
        let retired = retire_segments(index, objects, &tenant, journal.journal).await?;
        if retired.deleted > 0 {
            let Retired { deleted, kept } = retired;
            tracing::info!(journal = %journal.journal, deleted, kept, "segments retired");
        }
    }
    Ok(())
}
