//! Collects the records of one session from the segments of its journal and, once there is one,
//! from the packets object of the recording and of the session's first one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use model::object_key::{ObjectKey, SegmentName, segments_prefix};
use model::{Position, RecordingState, SessionId};
use segment::{
    FIRST_READ_BYTES, FormatError, PacketsReader, RecordKind, SealedKey, SegmentReader,
    SessionRecord,
};
use storage_ports::{ObjectMeta, ObjectStore, StorageError};

/// Ranged reads under way: hides the latency of an object store, at most 64 kB each but for the
/// session's own records.
const READS_AT_ONCE: usize = 8;

/// What the object store has of one session.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// In order, each once: a cut that was made again repeats its records.
    pub records: BTreeMap<Position, SessionRecord>,
    pub sealed_keys: BTreeSet<SealedKey>,
    /// Something could not be read because its checksum did not match.
    pub is_damaged: bool,
}

impl Gathered {
    /// Reads the segments that may hold something of the session since `began`.
    pub async fn of(
        objects: &dyn ObjectStore,
        state: &RecordingState,
        session: SessionId,
        began: Position,
    ) -> Result<Self, StorageError> {
        let listed = objects.list(&segments_prefix(&state.tenant, state.journal)).await?;
        let wanted = listed
            .into_iter()
            .filter(|meta| SegmentName::parse(&meta.key).is_some_and(|name| name.last >= began));
        let mut gathered = Self::default();
        let mut reads = stream::iter(wanted)
            .map(async |meta| (read_session(objects, &meta, session).await, meta.key))
            .buffered(READS_AT_ONCE);
        while let Some((read, key)) = reads.next().await {
            match read? {
                Ok(records) => records.into_iter().for_each(|record| gathered.add(record)),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(%session, %key, error, "segment is damaged, its audio is missing");
                    gathered.is_damaged = true;
                }
            }
        }
        Ok(gathered)
    }

    /// Adds what an earlier build of `state`, a recording of the session, kept. Its segments may be gone by now, and the keys then are in
    /// the index alone.
    pub async fn add_packets_object(
        &mut self,
        objects: &dyn ObjectStore,
        state: &RecordingState,
    ) -> Result<(), StorageError> {
        let Some(built) = &state.finalized else { return Ok(()) };
        let keys = built.sealed_keys.iter().filter_map(|text| text.parse().ok());
        self.sealed_keys.extend(keys);
        let kept = match objects.get(&ObjectKey::packets(&state.tenant, state.id)).await {
            Ok(kept) => kept,
            Err(StorageError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        match records_of(&kept) {
            Ok(records) => records.into_iter().for_each(|record| self.add(record)),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(recording = %state.id, error, "packets object is damaged");
                self.is_damaged = true;
            }
        }
        Ok(())
    }

    pub fn add(&mut self, record: SessionRecord) {
        if record.kind != RecordKind::Key {
            self.records.entry(record.position).or_insert(record);
            return;
        }
        match record.as_key() {
            Ok(key) => {
                self.sealed_keys.insert(key);
            }
            // Its packets will not open, and that is where it is told.
            Err(_) => self.is_damaged = true,
        }
    }
}

/// All records of a packets object.
pub(super) fn records_of(whole: &[u8]) -> Result<Vec<SessionRecord>, FormatError> {
    PacketsReader::open(whole)?.collect()
}

/// Header and directory of a segment: usually one read.
pub(super) async fn read_directory(
    objects: &dyn ObjectStore,
    key: &ObjectKey,
) -> Result<(Bytes, Result<SegmentReader, FormatError>), StorageError> {
    let mut front = objects.get_range(key, 0..FIRST_READ_BYTES).await?;
    let mut read = SegmentReader::open(&front);
    if let Err(FormatError::Short { needed }) = read
        && needed > front.len() as u64
        && needed <= objects.size(key).await?
    {
        front = objects.get_range(key, 0..needed).await?;
        read = SegmentReader::open(&front);
    }
    Ok((front, read))
}

async fn read_session(
    objects: &dyn ObjectStore,
    meta: &ObjectMeta,
    session: SessionId,
) -> Result<Result<Vec<SessionRecord>, FormatError>, StorageError> {
    let (front, read) = read_directory(objects, &meta.key).await?;
    let reader = match read {
        Ok(reader) => reader,
        Err(error) => return Ok(Err(error)),
    };
    let Some(entry) = reader.find(session) else { return Ok(Ok(Vec::new())) };
    let range = entry.range();
    let bytes = match within(&front, &range) {
        Some(bytes) => bytes,
        None if range.end <= meta.bytes => objects.get_range(&meta.key, range).await?,
        None => return Ok(Err(FormatError::Short { needed: range.end })),
    };
    Ok(entry.records(&bytes))
}

/// The bytes of `range`, if they were read with the front already.
fn within(front: &Bytes, range: &Range<u64>) -> Option<Bytes> {
    let start = usize::try_from(range.start).ok()?;
    let end = usize::try_from(range.end).ok()?;
    (start <= end && end <= front.len()).then(|| front.slice(start..end))
}
