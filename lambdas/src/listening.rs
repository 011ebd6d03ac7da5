//! Listening to a call in progress: what the segments have of it so far, a few seconds at a time.
//!
//! The first request of a listener reads the call from its segments; the next ones read what is
//! new. What was read lies sealed in a temporary file, so a listener may go back to the beginning.
//! Nothing here is needed to go on: another process starts over from the segments.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt as _, stream};
use media::{Call, EncodeError, ReadError, Selection, Survey, webm};
use model::object_key::{SegmentName, segments_prefix};
use model::{Position, RecordingId, RecordingState, SessionId};
use segment::{Opener, PacketsHeader, RecordKind, SealedKey, TenantKeyPair};
use storage_ports::{ObjectStore, StorageError};

use crate::finalizer::gather::read_session;
use crate::finalizer::spool::SpoolWriter;

/// The most that one answer has.
pub const PIECE_MS: u64 = 10_000;
/// Less than this is not worth an answer.
const LEAST_MS: u64 = 1_000;
/// Packets of the last moment may still be overtaken.
const UNCERTAIN_MS: u64 = 300;
/// A listener who does not say from where begins this long before the newest audio.
const BEHIND_MS: u64 = 5_000;
/// Calls that are listened to at a time. Another one takes the place of the one asked for longest
/// ago, whose listener then waits a little longer once.
const MOST_CALLS: usize = 16;
const READS_AT_ONCE: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("the temporary file of a listener")]
    Temporary(#[from] std::io::Error),
    #[error("a call is still being read")]
    Shared,
    #[error("rendering was cut off")]
    CutOff(#[source] tokio::task::JoinError),
}

/// Some seconds of a call.
pub struct Piece {
    pub from_ms: u64,
    /// Where the next one begins.
    pub next_from_ms: u64,
    /// Absent when there is nothing new yet.
    pub webm: Option<Vec<u8>>,
}

/// The calls that are listened to.
#[derive(Default)]
pub struct Listeners {
    /// The one asked for last is in front.
    calls: Mutex<Vec<(RecordingId, Slot)>>,
}

type Slot = Arc<tokio::sync::Mutex<Option<Listening>>>;

impl Listeners {
    /// The audio from `from_ms` on, at most [`PIECE_MS`] of it; without it, from a little before
    /// the newest.
    pub async fn piece(
        &self,
        objects: &dyn ObjectStore,
        keys: &Arc<TenantKeyPair>,
        state: &RecordingState,
        session: SessionId,
        from_ms: Option<u64>,
    ) -> Result<Piece, ListenError> {
        let slot = self.slot(state.id);
        let mut held = slot.lock().await;
        // Taken out: a request that is dropped half-way leaves nothing half-read behind.
        let mut listening = match held.take() {
            Some(listening) => listening,
            None => Listening::new(state, session)?,
        };
        listening.update(objects, state, keys).await?;
        let call = listening.call(state)?;
        let made = tokio::task::spawn_blocking(move || render(&call, from_ms));
        let piece = made.await.map_err(ListenError::CutOff)??;
        *held = Some(listening);
        Ok(piece)
    }

    fn slot(&self, recording: RecordingId) -> Slot {
        let mut calls = self.calls.lock().expect("no code panics while it holds this lock");
        let at = calls.iter().position(|(held, _)| *held == recording);
        let (_, slot) = at.map_or_else(|| (recording, Slot::default()), |at| calls.remove(at));
        calls.insert(0, (recording, slot.clone()));
        calls.truncate(MOST_CALLS);
        slot
    }
}

fn render(call: &Call, from_ms: Option<u64>) -> Result<Piece, EncodeError> {
    let certain_ms = call.duration_ms().saturating_sub(UNCERTAIN_MS);
    let from_ms = from_ms.unwrap_or_else(|| certain_ms.saturating_sub(BEHIND_MS));
    let length_ms = certain_ms.saturating_sub(from_ms).min(PIECE_MS);
    if length_ms < LEAST_MS {
        return Ok(Piece { from_ms, next_from_ms: from_ms, webm: None });
    }
    let samples = |ms: u64| ms * u64::from(call.sample_rate) / 1_000;
    let webm = webm::write_part(call, Selection::Sides, samples(from_ms), samples(length_ms))?;
    Ok(Piece { from_ms, next_from_ms: from_ms + length_ms, webm: Some(webm) })
}

/// One call, as far as it was read.
pub(crate) struct Listening {
    session: SessionId,
    survey: Arc<Survey>,
    spool: SpoolWriter,
    sealed_keys: BTreeSet<SealedKey>,
    opener: Arc<Opener>,
    /// The last position of the newest segment that was read.
    through: Position,
}

impl Listening {
    pub fn new(state: &RecordingState, session: SessionId) -> Result<Self, ListenError> {
        let header = PacketsHeader { recording: state.id, session, journal: state.journal };
        // Of a further communication session too, everything since the session began: it needs
        // what was negotiated then.
        Ok(Self {
            session,
            survey: Arc::new(Survey::new(session, state.id)),
            spool: SpoolWriter::new(&header)?,
            sealed_keys: BTreeSet::new(),
            opener: Arc::new(Opener::new(&TenantKeyPair::from_bytes([0; 32]), session, &[])),
            through: Position(0),
        })
    }

    /// The call as far as it was read. While this is there, nothing new can be read.
    pub fn call(&mut self, state: &RecordingState) -> Result<Call, ListenError> {
        let facts = state.facts.as_ref().map(|facts| facts.value.clone()).unwrap_or_default();
        let records = Box::new(self.spool.so_far()?);
        Ok(Call::surveyed(self.survey.clone(), records, self.opener.clone(), &facts))
    }

    /// Reads the segments that are new, one after the other: however many they are, memory holds a
    /// few.
    pub async fn update(
        &mut self,
        objects: &dyn ObjectStore,
        state: &RecordingState,
        keys_of_tenant: &Arc<TenantKeyPair>,
    ) -> Result<(), ListenError> {
        let listed = objects.list(&segments_prefix(&state.tenant, state.journal)).await?;
        let mut wanted: Vec<_> = listed
            .into_iter()
            .filter_map(|meta| Some((SegmentName::parse(&meta.key)?, meta)))
            .filter(|(name, _)| name.last > self.through)
            .collect();
        wanted.sort_by_key(|(name, _)| *name);
        let session = self.session;
        let mut reads = stream::iter(wanted)
            .map(async |(name, meta)| (name, read_session(objects, &meta, session).await))
            .buffered(READS_AT_ONCE);
        while let Some((name, read)) = reads.next().await {
            // A damaged segment is missing here as it will be in the recording.
            if let Ok(mut records) = read? {
                records.sort_by_key(|record| record.position);
                let survey = Arc::get_mut(&mut self.survey).ok_or(ListenError::Shared)?;
                let known = self.sealed_keys.len();
                let keys = records.iter().filter(|record| record.kind == RecordKind::Key);
                self.sealed_keys.extend(keys.filter_map(|record| record.as_key().ok()));
                if self.sealed_keys.len() != known {
                    let sealed: Vec<SealedKey> = self.sealed_keys.iter().cloned().collect();
                    self.opener = Arc::new(Opener::new(keys_of_tenant, session, &sealed));
                }
                for record in &records {
                    survey.take(record, &self.opener).map_err(ReadError::Sealed)?;
                    self.spool.push(record)?;
                }
            }
            self.through = self.through.max(name.last);
        }
        Ok(())
    }
}
