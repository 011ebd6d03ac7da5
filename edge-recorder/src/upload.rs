//! Carries the journal to the object store while the calls last.
//!
//! Constraints, each a test:
//!
//! - Every 5 s a *cut* names a slice of the journal and is synced; only then is anything stored.
//!   After a crash the same cut gives the same objects, byte for byte.
//! - One object per tenant in the slice. Above 64 MB it is split by session into parts, so that
//!   the records of one session in one slice are always in one object.
//! - Slices are stored in order: when one is stored, so are all before it.
//! - No more leaves in a second than the operator allows.
//! - A store that is away for an hour delays and loses nothing: slices are tried for ever, and
//!   what has piled up meanwhile is cut into slices that fit in memory.
//!
//! Nothing here knows a call: records are read back from the files, sealed as they are.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use metrics::counter;
use model::object_key::{ObjectKey, SegmentName};
use model::{JournalId, Position, SessionId, TenantId, WallTime};
use segment::{RecordKind, SegmentWriter, SessionRecord};
use storage_ports::{ObjectStore, PutMode, PutOutcome, StorageError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::journal::record::{ClockBody, Cut, Kind, Record, SessionBody, Stored, crc32c};
use crate::journal::{Deliver, JournalHandle, Moment, Reader};

#[derive(Clone, Debug)]
pub struct UploadConfig {
    /// Time between cuts: what a lost machine costs, against the price of a PUT.
    pub segment: Duration,
    /// A tenant's part of a slice is split above this size: one PUT must not take minutes.
    pub max_object_bytes: u64,
    /// A slice ends early at this size. Bounds memory when a backlog is carried away.
    pub max_slice_bytes: u64,
    /// The most that leaves in a second. `None`: as fast as the store takes it.
    pub bytes_per_sec: Option<NonZeroU64>,
}

impl Default for UploadConfig {
    fn default() -> Self {
        Self {
            segment: Duration::from_secs(5),
            max_object_bytes: 64 * 1024 * 1024,
            max_slice_bytes: 128 * 1024 * 1024,
            bytes_per_sec: None,
        }
    }
}

const RETRY_FIRST: Duration = Duration::from_millis(200);
/// Short, because everything recorded meanwhile waits behind this slice.
const RETRY_LONGEST: Duration = Duration::from_secs(15);
/// A journal that cannot be read this often in a row has a bad block: what lies in it is lost,
/// and what lies behind it must not be.
const READ_ATTEMPTS: u32 = 5;

/// Uploads until told to stop, or to finish and everything is stored.
pub async fn run(
    journal: JournalHandle,
    store: Arc<dyn ObjectStore>,
    config: UploadConfig,
    deliver: watch::Receiver<Deliver>,
) {
    let upload = Upload { journal, store, config };
    let mut stop = deliver.clone();
    tokio::select! {
        // The sender is gone: so is the recorder.
        _ = stop.wait_for(|told| *told == Deliver::Stop) => {}
        () = upload.run(deliver) => {}
    }
}

struct Upload {
    journal: JournalHandle,
    store: Arc<dyn ObjectStore>,
    config: UploadConfig,
}

impl Upload {
    async fn run(&self, mut deliver: watch::Receiver<Deliver>) {
        if let Some(cut) = self.journal.head().open_cut {
            tracing::info!(first = %cut.first, last = %cut.last, "slice of the last start made again");
            let slice = self.read(Position(cut.first.0 - 1), cut.last, u64::MAX).await;
            self.store(cut, slice).await;
        }
        let mut next_cut = Instant::now();
        loop {
            let finishing = *deliver.borrow() == Deliver::Finish;
            if finishing {
                let received = self.journal.positions().received.position;
                if self.journal.sync(received).await.is_err() {
                    return;
                }
            } else {
                tokio::select! {
                    () = tokio::time::sleep_until(next_cut) => {}
                    changed = deliver.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        continue;
                    }
                }
            }
            next_cut = Instant::now() + self.config.segment;
            let behind = self.cut().await;
            if behind {
                next_cut = Instant::now();
            } else if finishing {
                return;
            }
        }
    }

    /// Cuts and stores the newest slice, if it holds anything. True: more is waiting already.
    async fn cut(&self) -> bool {
        let head = self.journal.head();
        let after = head.cut_through.max(head.stored.position);
        if head.newest_of_session <= after {
            return false;
        }
        let slice = self.read(after, head.last, self.config.max_slice_bytes).await;
        let cut = Cut {
            first: after.next(),
            last: slice.last,
            max_object_bytes: self.config.max_object_bytes,
        };
        // The cut is on the disk before its first object is in the store: whoever starts after a
        // crash makes the same objects and no others.
        let Some(position) = self.journal_it(|journal| journal.append_cut(cut)).await else {
            return false;
        };
        if self.journal.sync(position).await.is_err() {
            return false;
        }
        self.store(cut, slice).await;
        cut.last < head.newest_of_session
    }

    /// Stores a slice and journals that it is stored.
    async fn store(&self, cut: Cut, slice: Slice) {
        let newest_packet = slice.newest_packet;
        for (key, body) in slice.into_objects(self.journal.id(), cut) {
            let (begun, bytes) = (Instant::now(), body.len());
            self.put(&key, body).await;
            self.keep_to_rate(begun, bytes).await;
        }
        let at = Moment::now().wall();
        let stored = Stored { through: cut.last, newest_packet, at };
        if let Some(position) = self.journal_it(|journal| journal.append_stored(stored)).await {
            // Until it is synced the next slice would begin where this one did.
            let _ = self.journal.sync(position).await;
        }
        tracing::debug!(first = %cut.first, last = %cut.last, "slice stored");
    }

    /// Waits until what has left since `begun` is not more than may leave.
    async fn keep_to_rate(&self, begun: Instant, bytes: usize) {
        counter!("linekeeper_uploaded_bytes_total").increment(bytes as u64);
        let Some(rate) = self.config.bytes_per_sec else { return };
        let least = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
        tokio::time::sleep_until(begun + least).await;
    }

    /// Puts one object, for as long as it takes.
    async fn put(&self, key: &ObjectKey, body: Bytes) {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        loop {
            let error = match self.store.put(key, body.clone(), PutMode::IfAbsent).await {
                Ok(PutOutcome::Stored) => return,
                Ok(PutOutcome::AlreadyThere) => {
                    // By an attempt whose answer was lost, or before a crash.
                    tracing::info!(%key, "segment was there already");
                    return;
                }
                Err(error) => error,
            };
            let wait = backoff.wait();
            let retry_in_ms = wait.as_millis() as u64;
            match error {
                // Somebody may mend the credentials or the bucket; calls are safe here until then.
                StorageError::Refused { .. } => {
                    tracing::error!(%key, retry_in_ms, %error, "segment refused, will retry");
                }
                _ => tracing::warn!(%key, retry_in_ms, %error, "segment not stored, will retry"),
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Reads the records after `after` up to `through`, or until `max_bytes` are read.
    async fn read(&self, after: Position, through: Position, max_bytes: u64) -> Slice {
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut reader = self.journal.reader(after);
            if attempts > READ_ATTEMPTS {
                reader.tolerate_read_errors();
            }
            // Megabytes from a disk: not on a thread that others wait for.
            let reading =
                tokio::task::spawn_blocking(move || Slice::read(reader, through, max_bytes));
            let error = match reading.await {
                Ok(Ok(slice)) => return slice,
                Ok(Err(error)) => error,
                Err(error) => io::Error::other(error),
            };
            let wait = backoff.wait();
            let retry_in_ms = wait.as_millis() as u64;
            tracing::error!(after = %after, retry_in_ms, %error, "journal not read, will retry");
            tokio::time::sleep(wait).await;
        }
    }

    /// Appends one of our own records; waits while the buffer is full. `None`: closed.
    async fn journal_it(
        &self,
        append: impl Fn(&JournalHandle) -> Result<Position, crate::journal::AppendError>,
    ) -> Option<Position> {
        loop {
            match append(&self.journal) {
                Ok(position) => return Some(position),
                Err(crate::journal::AppendError::Full) => {
                    tokio::time::sleep(RETRY_FIRST).await;
                }
                Err(_) => return None,
            }
        }
    }
}

/// The records of a slice, by tenant and session.
struct Slice {
    last: Position,
    newest_packet: Option<WallTime>,
    tenants: BTreeMap<TenantId, BTreeMap<SessionId, Vec<SessionRecord>>>,
}

impl Slice {
    fn read(mut reader: Reader, through: Position, max_bytes: u64) -> io::Result<Self> {
        let mut slice = Self { last: through, newest_packet: None, tenants: BTreeMap::new() };
        let mut clocks = Clocks::default();
        let mut bytes = 0;
        while let Some(record) = reader.next(through)? {
            bytes += record.body.len() as u64;
            slice.take(&record, &mut clocks);
            if bytes >= max_bytes {
                slice.last = record.position;
                break;
            }
        }
        Ok(slice)
    }

    fn take(&mut self, record: &Record, clocks: &mut Clocks) {
        if record.kind == Kind::Clock {
            clocks.take(record);
            return;
        }
        if !record.kind.is_of_session() {
            return;
        }
        let (Some(body), Some(kind)) =
            (SessionBody::parse(&record.body), RecordKind::from_u8(record.kind as u8))
        else {
            // Its checksum was right, so it is ours and not damage.
            tracing::error!(position = %record.position, "journal record not understood");
            return;
        };
        if kind == RecordKind::Packets {
            self.newest_packet = self.newest_packet.max(Some(body.wall));
        }
        let records = self.tenants.entry(body.tenant).or_default().entry(body.session).or_default();
        records.extend(clocks.news_for(body.session));
        records.push(SessionRecord {
            kind,
            position: record.position,
            boot_ns: body.boot_ns,
            bytes: body.payload.to_vec(),
        });
    }

    /// The objects to store, in order of key. The same slice gives the same bytes.
    fn into_objects(self, journal: JournalId, cut: Cut) -> Vec<(ObjectKey, Bytes)> {
        let mut objects = Vec::new();
        for (tenant, sessions) in self.tenants {
            let bytes: u64 =
                sessions.values().flatten().map(|record| record.bytes.len() as u64).sum();
            let parts = bytes.div_ceil(cut.max_object_bytes.max(1)).max(1);
            let parts = u32::try_from(parts).unwrap_or(u32::MAX);
            let mut writers: BTreeMap<u32, SegmentWriter> = BTreeMap::new();
            for (session, records) in sessions {
                let part = part_of(session, parts);
                let writer = writers.entry(part).or_insert_with(|| {
                    SegmentWriter::new(journal, tenant.clone(), cut.first, cut.last, part)
                });
                for record in records {
                    writer.push(session, record);
                }
            }
            for (part, writer) in writers {
                let name = SegmentName { journal, first: cut.first, last: cut.last, part };
                let key = ObjectKey::segment(&tenant, name);
                objects.push((key, Bytes::from(writer.finish())));
            }
        }
        objects
    }
}

/// Which part a session is in. Part of what a cut must repeat: never change it.
fn part_of(session: SessionId, parts: u32) -> u32 {
    crc32c(session.0.as_bytes()) % parts
}

/// Clock records belong to no session; each session gets those without which its boot times could
/// not be told apart or laid onto the day: the first of the slice and every one after a restart.
#[derive(Default)]
struct Clocks {
    newest: Option<(u64, [u8; 16])>,
    kept: Vec<SessionRecord>,
    /// How many of `kept` a session has.
    given: HashMap<SessionId, usize>,
}

impl Clocks {
    fn take(&mut self, record: &Record) {
        let Some(ClockBody { wall_ns, boot_ns, epoch, boot_id, .. }) =
            ClockBody::parse(&record.body)
        else {
            return;
        };
        if self.newest.replace((epoch, boot_id)) != Some((epoch, boot_id)) {
            let wall_ns = i64::try_from(wall_ns).unwrap_or(i64::MAX);
            let body = segment::ClockBody { wall_ns, boot_ns, boot_id, epoch };
            self.kept.push(SessionRecord::clock(record.position, &body));
        }
    }

    fn news_for(&mut self, session: SessionId) -> Vec<SessionRecord> {
        let given = self.given.entry(session).or_default();
        let news = self.kept[*given..].to_vec();
        *given = self.kept.len();
        news
    }
}

#[cfg(test)]
mod tests;
