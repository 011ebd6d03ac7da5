//! The way into the journal: positions are given out here, and nothing here waits for the disk.
//!
//! - [`JournalHandle::append`] copies the record into a bounded buffer and returns. When the
//!   writer has fallen so far behind that the buffer is full, packets are refused first; starts,
//!   ends and dialogs have as much room again, because losing one loses a call.
//! - Positions are given in the order in which records lie in the buffer, without a gap.
//! - The first record of every commit is a clock record.

use std::collections::BTreeSet;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use model::event::VERSION;
use model::{
    EdgeId, EventBody, JournalId, Position, RecordingEvent, RecordingId, SessionId, TenantId,
    WallTime,
};
use tokio::sync::watch;

use super::clock::{self, Moment};
use super::disk::Disk;
use super::file::Catalog;
use super::local_key::{LocalKey, Purpose};
use super::reader::Reader;
use super::record::{
    self, Announced, ClockBody, Cut, HEADER_BYTES, Kind, MAX_BODY_BYTES, SessionBody, Stored,
};
use super::state::{Reached, State};
use super::unstored::Unstored;
use super::{JournalConfig, Positions};

/// Whose record it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionTag {
    pub session: SessionId,
    /// The recording it belongs to; for what belongs to all of a session, its first one.
    pub recording: RecordingId,
    pub tenant: TenantId,
}

/// A record with a body that is already as it will lie on the disk, but for what is said below.
#[derive(Clone, Debug)]
pub enum AppendRecord {
    /// A recording began, or goes on after a restart. The first record of its session.
    /// `body` is plain and names nobody.
    Started { body: Vec<u8>, event: Option<EventBody> },
    /// The session's data key, sealed to its tenant.
    Key { body: Vec<u8> },
    /// What a restart needs to go on; replaces the one before. Sealed here, under the local key.
    Dialog { plain: Vec<u8> },
    /// A recording ended. `session_over`: and so did its session; nothing of it follows.
    Ended { body: Vec<u8>, event: Option<EventBody>, session_over: bool },
}

/// Kinds whose body is sealed under the session's data key, which needs the position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SealedKind {
    Packets,
    Metadata,
    Streams,
    Mark,
}

impl From<SealedKind> for Kind {
    fn from(kind: SealedKind) -> Self {
        match kind {
            SealedKind::Packets => Self::Packets,
            SealedKind::Metadata => Self::Metadata,
            SealedKind::Streams => Self::Streams,
            SealedKind::Mark => Self::Mark,
        }
    }
}

/// Why a record was not taken. The caller counts what is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk has not kept up for as long as the buffer lasts.
    #[error("the journal's buffer is full")]
    Full,
    #[error("a record of {bytes} bytes is larger than {MAX_BODY_BYTES}")]
    TooLarge { bytes: usize },
    /// The journal is being closed.
    #[error("the journal is closed")]
    Closed,
}

/// Why a new call must not be taken now. Calls in progress go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotAccept {
    /// The operator must free or add disk, or mend the way to the object store.
    #[error("the journal's disk has {free_bytes} bytes free, less than {min_free_bytes}")]
    DiskFull { free_bytes: u64, min_free_bytes: u64 },
    /// Writes or syncs fail.
    #[error("the journal's disk fails")]
    DiskFailing,
    /// Half the buffer is waiting for the disk.
    #[error("the journal's disk is too slow")]
    DiskSlow,
    #[error("the journal is closed")]
    Closed,
}

/// Records that wait for the writer, encoded one after another.
#[derive(Default)]
pub(super) struct Batch {
    pub bytes: Vec<u8>,
    pub records: Vec<Placed>,
    pub newest_packet: Option<WallTime>,
}

/// Where in a batch a record lies.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub start: usize,
    pub kind: Kind,
    pub position: Position,
    pub body_bytes: usize,
}

pub(super) struct Buffer {
    pub batch: Batch,
    /// Bytes that the writer has taken and not yet synced.
    pub in_flight: usize,
    pub next: Position,
    pub received: Reached,
    pub unstored: Unstored,
    /// Somebody waits: commit now.
    pub hurry: bool,
    pub closed: bool,
}

/// Where the newest synced record ends.
#[derive(Clone, Copy)]
pub(super) struct Tail {
    pub generation: u64,
    pub offset: u64,
    pub position: Position,
}

pub(super) struct Shared {
    pub id: JournalId,
    pub epoch: u64,
    pub edge: EdgeId,
    pub config: JournalConfig,
    pub disk: Arc<dyn Disk>,
    pub key: LocalKey,
    pub buffer: Mutex<Buffer>,
    pub wake: Condvar,
    pub catalog: Mutex<Catalog>,
    pub state: Mutex<State>,
    pub tail: Mutex<Option<Tail>>,
    pub synced: watch::Sender<Reached>,
    /// The writer has ended; `synced` moves no more.
    pub ended: watch::Sender<bool>,
    pub failing: AtomicBool,
    /// Nobody waits for a disk that fails.
    pub give_up: AtomicBool,
    pub free_bytes: AtomicU64,
    /// Written since the start.
    pub written_bytes: AtomicU64,
}

/// How much the disk still takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Before new calls are refused.
    pub above_floor_bytes: u64,
    pub written_bytes: u64,
}

/// A lock whose holder panicked guards data that is still whole: every change below is made after
/// what could panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Appends to the journal and tells how far it is. Clones share one journal.
#[derive(Clone)]
pub struct JournalHandle {
    pub(super) shared: Arc<Shared>,
}

impl JournalHandle {
    pub fn id(&self) -> JournalId {
        self.shared.id
    }

    /// Count of starts of this journal, this one included.
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    pub fn edge(&self) -> &EdgeId {
        &self.shared.edge
    }

    /// Appends a record of a session. Never waits for the disk.
    pub fn append(
        &self,
        tag: &SessionTag,
        at: Moment,
        record: AppendRecord,
    ) -> Result<Position, AppendError> {
        let (kind, payload, event, session_over) = match record {
            AppendRecord::Started { body, event } => (Kind::Started, body, event, false),
            AppendRecord::Key { body } => (Kind::Key, body, None, false),
            AppendRecord::Dialog { plain } => {
                (Kind::Dialog, self.shared.key.seal(Purpose::Dialog, &plain), None, false)
            }
            AppendRecord::Ended { body, event, session_over } => {
                (Kind::Ended, body, event, session_over)
            }
        };
        let event = self.seal_event(at.wall(), event);
        self.push(kind, None, |_, out| {
            session_body(tag, at, session_over, &event, out);
            out.extend_from_slice(&payload);
        })
    }

    /// Appends what one session received; `at` is when the newest of it arrived. `seal` puts the
    /// sealed packets behind what is there already. It runs under the journal's lock and must only
    /// seal.
    pub fn append_packets(
        &self,
        tag: &SessionTag,
        at: Moment,
        seal: impl FnOnce(Position, &mut Vec<u8>),
    ) -> Result<Position, AppendError> {
        self.push(Kind::Packets, Some(at.wall()), |position, out| {
            session_body(tag, at, false, &[], out);
            seal(position, out);
        })
    }

    /// Appends a record that is sealed for its position. `seal` runs under the journal's lock and
    /// must only seal. For packets, `at` is when the newest of them arrived.
    pub fn append_sealed(
        &self,
        tag: &SessionTag,
        at: Moment,
        kind: SealedKind,
        event: Option<EventBody>,
        seal: impl FnOnce(Position) -> Vec<u8>,
    ) -> Result<Position, AppendError> {
        let event = self.seal_event(at.wall(), event);
        let newest_packet = (kind == SealedKind::Packets).then(|| at.wall());
        self.push(kind.into(), newest_packet, |position, out| {
            session_body(tag, at, false, &event, out);
            out.extend_from_slice(&seal(position));
        })
    }

    /// Appends an event of no session: the outcome of a command.
    pub fn append_event(&self, at: WallTime, event: EventBody) -> Result<Position, AppendError> {
        let sealed = self.seal_event(at, Some(event));
        self.push(Kind::Event, None, |_, out| out.extend_from_slice(&sealed))
    }

    /// How far everything is.
    pub fn positions(&self) -> Positions {
        let (received, oldest_unstored) = {
            let stored = lock(&self.shared.state).head.stored.position;
            let mut buffer = lock(&self.shared.buffer);
            buffer.unstored.stored(stored);
            (buffer.received, buffer.unstored.oldest())
        };
        let synced = *self.shared.synced.borrow();
        let state = lock(&self.shared.state);
        Positions {
            received,
            synced,
            stored: Reached { position: state.stored_through(), ..state.head.stored },
            announced: Reached { position: state.announced_through(), ..state.head.announced },
            oldest_unstored,
        }
    }

    /// Changes with every commit.
    pub fn watch_synced(&self) -> watch::Receiver<Reached> {
        self.shared.synced.subscribe()
    }

    /// Returns once everything up to `position` is synced, and commits now rather than at the end
    /// of the commit interval. Waits for as long as the disk fails.
    pub async fn sync(&self, position: Position) -> Result<(), AppendError> {
        lock(&self.shared.buffer).hurry = true;
        self.shared.wake.notify_one();
        self.wait_synced(position).await
    }

    /// Returns once everything up to `position` is synced, in the course of things.
    pub async fn wait_synced(&self, position: Position) -> Result<(), AppendError> {
        let mut synced = self.watch_synced();
        let mut ended = self.shared.ended.subscribe();
        tokio::select! {
            biased;
            // Neither sender goes before `self` does.
            _ = synced.wait_for(|reached| reached.position >= position) => Ok(()),
            _ = ended.wait_for(|ended| *ended) => Err(AppendError::Closed),
        }
    }

    pub fn room(&self) -> Room {
        let free_bytes = self.shared.free_bytes.load(Ordering::Relaxed);
        Room {
            above_floor_bytes: free_bytes.saturating_sub(self.shared.config.min_free_bytes),
            written_bytes: self.shared.written_bytes.load(Ordering::Relaxed),
        }
    }

    /// Whether a record of packets would be taken now.
    pub fn has_room(&self) -> bool {
        let buffer = lock(&self.shared.buffer);
        buffer.batch.bytes.len() + buffer.in_flight < self.shared.config.buffer_bytes
    }

    /// Whether a new call may be taken: the disk has room, works and keeps up.
    pub fn can_accept(&self) -> Result<(), CannotAccept> {
        let config = &self.shared.config;
        {
            let buffer = lock(&self.shared.buffer);
            if buffer.closed {
                return Err(CannotAccept::Closed);
            }
            if buffer.batch.bytes.len() + buffer.in_flight > config.buffer_bytes / 2 {
                return Err(CannotAccept::DiskSlow);
            }
        }
        if self.shared.failing.load(Ordering::Relaxed) {
            return Err(CannotAccept::DiskFailing);
        }
        let free_bytes = self.shared.free_bytes.load(Ordering::Relaxed);
        if free_bytes < config.min_free_bytes {
            let min_free_bytes = config.min_free_bytes;
            return Err(CannotAccept::DiskFull { free_bytes, min_free_bytes });
        }
        Ok(())
    }

    /// Recordings whose start is synced and whose end is not.
    pub fn live_recordings(&self) -> BTreeSet<RecordingId> {
        let state = lock(&self.shared.state);
        state.live.values().flat_map(|entry| entry.recordings.keys().copied()).collect()
    }

    fn seal_event(&self, at: WallTime, body: Option<EventBody>) -> Vec<u8> {
        let Some(body) = body else { return Vec::new() };
        // The position is not known yet; whoever sends the event puts in that of its record.
        let event = self.event(Position(0), at, body);
        self.shared.key.seal(Purpose::Event, event.to_json().as_bytes())
    }

    fn push(
        &self,
        kind: Kind,
        newest_packet: Option<WallTime>,
        put_body: impl FnOnce(Position, &mut Vec<u8>),
    ) -> Result<Position, AppendError> {
        let limit = match kind {
            Kind::Packets => self.shared.config.buffer_bytes,
            _ => self.shared.config.buffer_bytes.saturating_mul(2),
        };
        let mut buffer = lock(&self.shared.buffer);
        if buffer.closed {
            return Err(AppendError::Closed);
        }
        let held = buffer.batch.bytes.len() + buffer.in_flight;
        if held >= limit {
            return Err(AppendError::Full);
        }
        let first = buffer.batch.records.is_empty();
        if first {
            let clock = self.clock_now().encode();
            buffer.push(Kind::Clock, |_, out| out.extend_from_slice(&clock))?;
        }
        // A record that is too large leaves at most its clock, which is true all the same.
        let position = buffer.push(kind, put_body)?;
        buffer.batch.newest_packet = buffer.batch.newest_packet.max(newest_packet);
        buffer.received.newest_packet = buffer.received.newest_packet.max(newest_packet);
        if let Some(arrived) = newest_packet {
            buffer.unstored.received(position, arrived);
        }
        // The writer sleeps without a deadline while the buffer is empty. At a quarter full it
        // need not wait for the end of the commit interval.
        if first || held > self.shared.config.buffer_bytes / 4 {
            self.shared.wake.notify_one();
        }
        Ok(position)
    }

    fn clock_now(&self) -> ClockBody {
        let Moment { wall_ns, boot_ns } = Moment::now();
        ClockBody {
            wall_ns,
            boot_ns,
            epoch: self.shared.epoch,
            boot_id: clock::boot_id(),
            synced: self.shared.synced.borrow().position,
        }
    }
}

/// For the delivering half.
impl JournalHandle {
    /// An event of this journal.
    pub(crate) fn event(
        &self,
        position: Position,
        at: WallTime,
        body: EventBody,
    ) -> RecordingEvent {
        RecordingEvent {
            version: VERSION,
            edge: self.shared.edge.clone(),
            journal: self.shared.id,
            epoch: self.shared.epoch,
            position,
            at,
            body,
        }
    }

    /// Opens an event that [`Self::append`] sealed. `None`: the key was changed since.
    pub(crate) fn open_event(&self, position: Position, sealed: &[u8]) -> Option<RecordingEvent> {
        let json = self.shared.key.open(Purpose::Event, sealed)?;
        let mut event = RecordingEvent::from_json(std::str::from_utf8(&json).ok()?).ok()?;
        event.position = position;
        Some(event)
    }

    /// A reader of synced records after `after`.
    pub(crate) fn reader(&self, after: Position) -> Reader {
        Reader::new(Arc::clone(&self.shared), after)
    }

    pub(crate) fn head(&self) -> super::state::Head {
        lock(&self.shared.state).head.clone()
    }

    pub(crate) fn append_cut(&self, cut: Cut) -> Result<Position, AppendError> {
        self.push(Kind::Cut, None, |_, out| out.extend_from_slice(&record::to_body(&cut)))
    }

    pub(crate) fn append_stored(&self, stored: Stored) -> Result<Position, AppendError> {
        self.push(Kind::Stored, None, |_, out| out.extend_from_slice(&record::to_body(&stored)))
    }

    pub(crate) fn append_announced(&self, announced: Announced) -> Result<Position, AppendError> {
        self.push(Kind::Announced, None, |_, out| {
            out.extend_from_slice(&record::to_body(&announced))
        })
    }
}

/// Puts everything of a session's record but its payload.
fn session_body(tag: &SessionTag, at: Moment, session_over: bool, event: &[u8], out: &mut Vec<u8>) {
    SessionBody {
        session: tag.session,
        recording: tag.recording,
        tenant: tag.tenant.clone(),
        boot_ns: at.boot_ns,
        wall: at.wall(),
        session_over,
        event,
        payload: &[],
    }
    .put(out);
}

impl Buffer {
    pub fn new(next: Position, received: Reached) -> Self {
        Self {
            batch: Batch::default(),
            in_flight: 0,
            next,
            received,
            unstored: Unstored::default(),
            hurry: false,
            closed: false,
        }
    }

    /// Adds a record whose body is put where it will lie.
    fn push(
        &mut self,
        kind: Kind,
        put_body: impl FnOnce(Position, &mut Vec<u8>),
    ) -> Result<Position, AppendError> {
        let position = self.next;
        let Batch { bytes, records, .. } = &mut self.batch;
        let start = bytes.len();
        record::begin(bytes, kind, position);
        put_body(position, bytes);
        let body_bytes = bytes.len() - start - HEADER_BYTES;
        if body_bytes > MAX_BODY_BYTES {
            bytes.truncate(start);
            return Err(AppendError::TooLarge { bytes: body_bytes });
        }
        record::finish(bytes, start);
        records.push(Placed { start, kind, position, body_bytes });
        self.received.position = position;
        self.next = position.next();
        Ok(position)
    }

    /// Hands the waiting records to the writer.
    pub fn take(&mut self, empty: Batch) -> Batch {
        self.hurry = false;
        let batch = mem::replace(&mut self.batch, empty);
        self.in_flight = batch.bytes.len();
        batch
    }
}
