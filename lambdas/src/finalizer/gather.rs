//! Collects the records of one session from the segments of its journal and, once there is one,
//! from the packets object of the recording and of the session's first one.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use model::object_key::{ObjectKey, SegmentName, segments_prefix};
use model::{Position, RecordingState, SessionId};
use segment::{
    FIRST_READ_BYTES, FormatError, PacketsHeader, RecordKind, SealedKey, SegmentReader,
    SessionRecord, StreamError,
};
use storage_ports::{ObjectMeta, ObjectStore, StorageError};
use tempfile::NamedTempFile;

use super::FinalizeError;
use super::spool::{Spool, SpoolWriter};

/// Ranged reads under way: hides the latency of an object store, at most 64 kB each but for the
/// session's own records.
const READS_AT_ONCE: usize = 8;
/// What is read of a packets object at a time.
const DOWNLOAD_BYTES: u64 = 4 * 1024 * 1024;

/// What the object store has of one session.
pub(crate) struct Gathered {
    /// Every record in order, each once: a cut that was made again repeats its records.
    pub spool: Spool,
    pub sealed_keys: BTreeSet<SealedKey>,
    /// Something could not be read because its checksum did not match.
    pub is_damaged: bool,
}

/// Collects records from segments and packets objects at once, all of them in order.
pub(crate) struct Gatherer<'a> {
    objects: &'a dyn ObjectStore,
    session: SessionId,
    spool: SpoolWriter,
    /// Records of packets objects, each with the one that comes next.
    kept: Vec<Kept>,
    sealed_keys: BTreeSet<SealedKey>,
    is_damaged: bool,
}

/// The records of a packets object, and the next of them.
struct Kept {
    next: Option<SessionRecord>,
    rest: Box<dyn Iterator<Item = SessionRecord> + Send>,
}

impl<'a> Gatherer<'a> {
    pub fn new(
        objects: &'a dyn ObjectStore,
        state: &RecordingState,
        session: SessionId,
    ) -> Result<Self, FinalizeError> {
        let header = PacketsHeader { recording: state.id, session, journal: state.journal };
        Ok(Self {
            objects,
            session,
            spool: SpoolWriter::new(&header)?,
            kept: Vec::new(),
            sealed_keys: BTreeSet::new(),
            is_damaged: false,
        })
    }

    /// Adds what an earlier build of `state`, a recording of the session, kept. Its segments may
    /// be gone by now, and the keys then are in the index alone.
    pub async fn add_packets_object(
        &mut self,
        state: &RecordingState,
    ) -> Result<(), FinalizeError> {
        let Some(built) = &state.finalized else { return Ok(()) };
        let keys = built.sealed_keys.iter().filter_map(|text| text.parse().ok());
        self.sealed_keys.extend(keys);
        let key = ObjectKey::packets(&state.tenant, state.id);
        let spool = match download(self.objects, &key).await {
            Ok(file) => Spool::verified(file),
            Err(FinalizeError::Storage(StorageError::NotFound { .. })) => return Ok(()),
            Err(error) => return Err(error),
        };
        match spool {
            Ok(spool) => self.add_records(&spool)?,
            Err(StreamError::Io(error)) => return Err(error.into()),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(recording = %state.id, error, "packets object is damaged");
                self.is_damaged = true;
            }
        }
        Ok(())
    }

    /// Adds the records of a packets object whose checksums are right.
    pub fn add_records(&mut self, spool: &Spool) -> Result<(), FinalizeError> {
        let stream = spool.stream().map_err(FinalizeError::of_stream)?;
        // Every record was read a moment ago.
        let mut rest: Box<dyn Iterator<Item = SessionRecord> + Send> =
            Box::new(stream.map_while(Result::ok));
        let next = rest.next();
        self.kept.push(Kept { next, rest });
        Ok(())
    }

    /// Adds what was gathered before.
    pub fn add_gathered(&mut self, gathered: &Gathered) -> Result<(), FinalizeError> {
        self.sealed_keys.extend(gathered.sealed_keys.iter().cloned());
        self.is_damaged |= gathered.is_damaged;
        self.add_records(&gathered.spool)
    }

    /// Reads the segments that may hold something of the session since `began`.
    pub async fn read_segments(
        &mut self,
        state: &RecordingState,
        began: Position,
    ) -> Result<(), FinalizeError> {
        let listed = self.objects.list(&segments_prefix(&state.tenant, state.journal)).await?;
        let mut wanted: Vec<(SegmentName, ObjectMeta)> = listed
            .into_iter()
            .filter_map(|meta| Some((SegmentName::parse(&meta.key)?, meta)))
            .filter(|(name, _)| name.last >= began)
            .collect();
        wanted.sort_by_key(|(name, _)| *name);
        let (objects, session) = (self.objects, self.session);
        let mut reads = stream::iter(wanted)
            .map(async |(name, meta)| (name, read_session(objects, &meta, session).await, meta.key))
            .buffered(READS_AT_ONCE);
        // Slices follow each other, but for those that were cut again after a crash.
        let mut waiting = BTreeMap::new();
        while let Some((name, read, key)) = reads.next().await {
            let certain = waiting.split_off(&name.first);
            for record in std::mem::replace(&mut waiting, certain).into_values() {
                self.push(record)?;
            }
            match read? {
                Ok(records) => {
                    for record in records {
                        self.take(record, &mut waiting);
                    }
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(%session, %key, error, "segment is damaged, its audio is missing");
                    self.is_damaged = true;
                }
            }
        }
        waiting.into_values().try_for_each(|record| self.push(record))
    }

    fn take(&mut self, record: SessionRecord, waiting: &mut BTreeMap<Position, SessionRecord>) {
        if record.kind != RecordKind::Key {
            waiting.entry(record.position).or_insert(record);
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

    fn push(&mut self, record: SessionRecord) -> Result<(), FinalizeError> {
        self.push_kept_before(Some(record.position))?;
        Ok(self.spool.push(&record)?)
    }

    /// Records of packets objects before a position; all of them without one.
    fn push_kept_before(&mut self, position: Option<Position>) -> Result<(), FinalizeError> {
        loop {
            let earliest = self
                .kept
                .iter_mut()
                .filter(|kept| kept.next.is_some())
                .min_by_key(|kept| kept.next.as_ref().map(|record| record.position));
            let Some(kept) = earliest else { return Ok(()) };
            let is_before = kept
                .next
                .as_ref()
                .is_some_and(|record| position.is_none_or(|position| record.position < position));
            if !is_before {
                return Ok(());
            }
            if let Some(record) = std::mem::replace(&mut kept.next, kept.rest.next()) {
                self.spool.push(&record)?;
            }
        }
    }

    pub fn finish(mut self) -> Result<Gathered, FinalizeError> {
        self.push_kept_before(None)?;
        let spool = self.spool.finish()?;
        Ok(Gathered { spool, sealed_keys: self.sealed_keys, is_damaged: self.is_damaged })
    }
}

/// An object as a file.
pub(crate) async fn download(
    objects: &dyn ObjectStore,
    key: &ObjectKey,
) -> Result<NamedTempFile, FinalizeError> {
    let bytes = objects.size(key).await?;
    let mut file = NamedTempFile::new()?;
    let mut at = 0;
    while at < bytes {
        let end = bytes.min(at + DOWNLOAD_BYTES);
        let piece = objects.get_range(key, at..end).await?;
        if piece.is_empty() {
            // It was replaced by a shorter one just now.
            break;
        }
        file.write_all(&piece)?;
        at += piece.len() as u64;
    }
    Ok(file)
}

/// Header and directory of a segment: usually one read.
pub(crate) async fn read_directory(
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

pub(crate) async fn read_session(
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
