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
//! - Memory does not grow with the call: its sealed packets and its audio lie in files of the
//!   temporary directory while it is built, and it is encoded minute by minute.
//! - A long call is encoded while it lasts ([`Ahead`]), so that it too can be played seconds
//!   after its end; a build that has no time left goes on in the next one.

mod ahead;
pub(crate) mod gather;
mod minutes;
mod outputs;
mod retire;
pub(crate) mod spool;

use std::sync::Arc;
use std::time::Duration;

use media::{Call, ReadError, Selection};
use model::index::Finalized;
use model::recording::flag;
use model::{JournalState, Position, RecordingId, RecordingState, SessionId, TenantId};
use segment::{Opener, SealedKey, StreamError, TenantKeyPair};
use storage_ports::{Delivery, EventQueue, ObjectStore, RecordingIndex, StorageError};
use tokio::time::Instant;

use crate::listening::ListenError;
use crate::retention;
use crate::worker::{Backoff, BuildRequest, RECEIVE_WAIT, Stop, is_stopped, pause, retry_delay};
pub use ahead::Ahead;
use gather::{Gathered, Gatherer};
use minutes::{Minutes, WORTH_KEEPING};
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
    Read(#[from] ReadError),
    /// The segments hold nothing of the session, and neither does a packets object.
    #[error("nothing of session {session} is in the object store")]
    NoRecords { session: SessionId },
    #[error("audio could not be encoded")]
    Encode(#[from] media::EncodeError),
    /// The temporary directory is full or gone.
    #[error("the temporary files of a build")]
    Temporary(#[from] std::io::Error),
    #[error("a temporary packets object cannot be read")]
    Spool(#[source] segment::FormatError),
    /// What was done is kept; the next build goes on with it.
    #[error("no time is left, the next build goes on")]
    OutOfTime,
    #[error("a call is still being read")]
    Shared,
    #[error("the build was cut off")]
    CutOff(#[source] tokio::task::JoinError),
}

impl From<ListenError> for FinalizeError {
    fn from(error: ListenError) -> Self {
        match error {
            ListenError::Storage(error) => Self::Storage(error),
            ListenError::Read(error) => Self::Read(error),
            ListenError::Encode(error) => Self::Encode(error),
            ListenError::Temporary(error) => Self::Temporary(error),
            ListenError::Shared => Self::Shared,
            ListenError::CutOff(error) => Self::CutOff(error),
        }
    }
}

impl FinalizeError {
    fn of_stream(error: StreamError) -> Self {
        match error {
            StreamError::Io(error) => Self::Temporary(error),
            StreamError::Format(error) => Self::Spool(error),
        }
    }
}

/// Builds what is asked for, and encodes long calls ahead, until told to stop. Outages are waited
/// for.
pub async fn run(
    index: Arc<dyn RecordingIndex>,
    work: Arc<dyn EventQueue>,
    objects: Arc<dyn ObjectStore>,
    keys: Arc<TenantKeyPair>,
    stop: Stop,
) {
    tokio::join!(
        run_builds(&*index, &*work, &*objects, &keys, stop.clone()),
        ahead::run(&*index, &*objects, &keys, stop),
    );
}

async fn run_builds(
    index: &dyn RecordingIndex,
    work: &dyn EventQueue,
    objects: &dyn ObjectStore,
    keys: &Arc<TenantKeyPair>,
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
                    .map(|delivery| handle(index, work, objects, keys, delivery, None));
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
            // One machine has one tenant; in a cloud the function is told which.
            if let Err(error) = retire_all(index, objects, &TenantId::default()).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "segments not retired yet");
            }
            retire_at = Instant::now() + RETIRE_EVERY;
        }
    }
}

/// Handles one request: acknowledged, a dead letter, or given back. A build that is not done by
/// `until` is given back at once, and goes on from where it was.
pub async fn handle(
    index: &dyn RecordingIndex,
    work: &dyn EventQueue,
    objects: &dyn ObjectStore,
    keys: &Arc<TenantKeyPair>,
    delivery: Delivery,
    until: Option<std::time::Instant>,
) {
    let settled = match serde_json::from_str::<BuildRequest>(&delivery.body) {
        Err(_) => work.dead_letter(&delivery, "not a build request").await,
        Ok(BuildRequest { tenant, recording }) => {
            match build_until(index, objects, keys, &tenant, recording, until).await {
                Ok(outcome) => {
                    tracing::info!(%recording, ?outcome, "build request done");
                    work.acknowledge(&delivery.receipt).await
                }
                Err(FinalizeError::OutOfTime) => {
                    tracing::info!(%recording, "the next build goes on with this one");
                    work.retry(&delivery.receipt, Duration::ZERO).await
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
    build_until(index, objects, keys, tenant, recording, None).await
}

/// As [`build`], giving up at a time with [`FinalizeError::OutOfTime`]: what is encoded by then is
/// kept, and the next build goes on with it.
pub async fn build_until(
    index: &dyn RecordingIndex,
    objects: &dyn ObjectStore,
    keys: &Arc<TenantKeyPair>,
    tenant: &TenantId,
    recording: RecordingId,
    until: Option<std::time::Instant>,
) -> Result<Outcome, FinalizeError> {
    let Some((state, journal)) = index.state(tenant, recording).await? else {
        return Ok(Outcome::NotNeeded);
    };
    let Some(started) = state.started.clone() else { return Ok(Outcome::NotNeeded) };
    if !state.needs_build(&journal) {
        return Ok(Outcome::NotNeeded);
    }
    let session = started.value.session;
    let Some(gathered) = gather(index, objects, &state, session, started.position).await? else {
        return Err(FinalizeError::NoRecords { session });
    };
    // Segments are deleted only once their recordings are built. So if nothing was built since the
    // index was asked, none were deleted while we read them.
    if index.state(tenant, recording).await?.map(|(now, _)| now.finalized)
        != Some(state.finalized.clone())
    {
        return Ok(Outcome::Superseded);
    }
    let mut minutes = Minutes { objects, tenant, recording, keep: false, until };
    let built = make(&mut minutes, keys, &state, &journal, session, gathered).await?;
    let outcome = Outcome::Built { generation: built.generation, complete: built.complete };
    let flags = built.flags.clone();
    let taken = index.finalized(tenant, recording, built).await?;
    if taken && minutes.keep {
        minutes.discard().await?;
    }
    if !taken
        && let Some((now, _)) = index.state(tenant, recording).await?
        && now.purge.is_some()
    {
        // What was stored after retention had looked must not outlive the recording.
        retention::delete_objects(objects, tenant, recording).await?;
    }
    if taken {
        for flag in flags {
            metrics::counter!("linekeeper_recordings_flagged_total", "flag" => flag).increment(1);
        }
    }
    Ok(if taken { outcome } else { Outcome::Superseded })
}

/// Everything that the object store has of a recording; `None`: nothing.
async fn gather(
    index: &dyn RecordingIndex,
    objects: &dyn ObjectStore,
    state: &RecordingState,
    session: SessionId,
    started: Position,
) -> Result<Option<Gathered>, FinalizeError> {
    // A further communication session needs what was negotiated, and sealed, before it began.
    let first = session.first_recording();
    let began = match index.state(&state.tenant, first).await? {
        _ if first == state.id => Some(started),
        Some((first, _)) => first.started.map(|started| started.position),
        None => None,
    };
    let mut gatherer = Gatherer::new(objects, state, session)?;
    gatherer.add_packets_object(state).await?;
    // The session's segments may have gone with its first recording, if this one was not known
    // then. That one's packets have what they had: asked before the segments are read, and again
    // where they went meanwhile.
    let first = if first == state.id { None } else { index.state(&state.tenant, first).await? };
    if let Some((first, _)) = &first {
        gatherer.add_packets_object(first).await?;
    }
    gatherer.read_segments(state, began.unwrap_or_default()).await?;
    let gathered = gatherer.finish()?;
    if let Some((before, _)) = first
        && let Some((now, _)) = index.state(&state.tenant, before.id).await?
        && now.finalized != before.finalized
    {
        let mut again = Gatherer::new(objects, state, session)?;
        again.add_gathered(&gathered)?;
        again.add_packets_object(&now).await?;
        return Ok(Some(again.finish()?));
    }
    Ok((gathered.spool.records > 0).then_some(gathered))
}

/// What was gathered, surveyed: on a thread that may block.
async fn survey(
    gathered: Gathered,
    keys: &Arc<TenantKeyPair>,
    state: &RecordingState,
    session: SessionId,
) -> Result<(Arc<Call>, Arc<spool::Spool>), FinalizeError> {
    let sealed: Vec<SealedKey> = gathered.sealed_keys.into_iter().collect();
    let opener = Arc::new(Opener::new(keys, session, &sealed));
    let facts = state.facts.as_ref().map(|facts| facts.value.clone()).unwrap_or_default();
    let (recording, spool) = (state.id, Arc::new(gathered.spool));
    let records = Box::new(spool::Shared(spool.clone()));
    let read = tokio::task::spawn_blocking(move || {
        Call::read(records, opener, session, recording, &facts)
    });
    Ok((Arc::new(read.await.map_err(FinalizeError::CutOff)??), spool))
}

/// Renders and stores everything; the result is for the index.
async fn make(
    minutes: &mut Minutes<'_>,
    keys: &Arc<TenantKeyPair>,
    state: &RecordingState,
    journal: &JournalState,
    session: SessionId,
    gathered: Gathered,
) -> Result<Finalized, FinalizeError> {
    let objects = minutes.objects;
    let is_damaged = gathered.is_damaged;
    let sealed_keys: Vec<String> = gathered.sealed_keys.iter().map(ToString::to_string).collect();
    let (call, packets) = survey(gathered, keys, state, session).await?;
    minutes.keep = media::opus::Shape::of(&call, Selection::Sides)?.minutes() >= WORTH_KEEPING;
    let mut rendered = outputs::Rendered::make(minutes, call).await?;
    if is_damaged {
        rendered.call.plan.flags.insert(flag::DAMAGED.to_owned());
    }
    let packets = outputs::store_packets(objects, state, &packets).await?;

    // By the index, not by the records: a damaged last segment must not be waited for without end.
    let complete =
        state.ended.as_ref().is_some_and(|ended| journal.stored_through >= ended.position);
    let generation = state.finalized.as_ref().map_or(0, |built| built.generation) + 1;
    let whose = outputs::Whose { state, session, through: journal.stored_through, complete };
    let (generation, sha256) = rendered.store(objects, &whose, generation, packets).await?;
    let plan = &mut rendered.call.plan;
    Ok(Finalized {
        generation,
        through: journal.stored_through,
        complete,
        duration_ms: plan.duration_ms(),
        tracks: plan.lanes.iter().map(|lane| lane.track.clone()).collect(),
        packets: Some(plan.packets),
        marks: std::mem::take(&mut plan.marks),
        flags: std::mem::take(&mut plan.flags),
        sha256,
        sealed_keys,
    })
}

/// Retires what `tenant` needs no more of every journal's segments.
pub async fn retire_all(
    index: &dyn RecordingIndex,
    objects: &dyn ObjectStore,
    tenant: &TenantId,
) -> Result<(), StorageError> {
    for journal in index.journals().await? {
        let retired = retire_segments(index, objects, tenant, journal.journal).await?;
        if retired.deleted > 0 {
            let Retired { deleted, kept } = retired;
            tracing::info!(journal = %journal.journal, deleted, kept, "segments retired");
        }
    }
    Ok(())
}
