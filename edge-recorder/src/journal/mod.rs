//! Keeps calls on disk until the object store and the queue have them.
//!
//! The journal is the source of truth of an edge: media, metadata, dialogs, starts and ends go
//! through it, in the order in which they came, before anything else sees them. The recording
//! half appends and never waits; the delivering half reads back what is synced.
//!
//! # Promises
//!
//! - What a sync was reported for survives a crash of the process or the machine.
//! - A torn write at the end of a file costs the records after the tear, never those before.
//! - A damaged record costs that record: those after it in the file are found again.
//! - A file whose header cannot be read is reported and never written over.
//! - What an earlier use left in a recycled file never validates.
//! - A file is recycled only when all of it is announced and a newer file begins with a synced
//!   snapshot of every live session.
//! - A failed write or sync loses nothing that is still in the buffer: the file is left as it is
//!   and everything since its last good sync is written again, to another file.
//! - A position is never given out twice, whatever a crash or a lying disk takes back.
//! - A full disk refuses new calls and keeps recording the ones in progress.
//! - One process at a time: the directory is locked.
//!
//! # Numbers
//!
//! A commit begins every 100 ms while there is anything to write. A killed process loses what
//! arrived since the last one: at most 100 ms and the commit under way. The buffer holds what the
//! disk has not taken; its size is configured and must be at least 2 s of traffic (64 MiB is 3 s
//! of 1,000 calls).
//!
//! # Positions
//!
//! Every record has a number that rises by one within a start and jumps ahead at each start.
//! Four positions, and `received ≥ synced ≥ stored ≥ announced` always:
//!
//! - `received`: in the buffer. Losing the process loses `received - synced`.
//! - `synced`: on this disk. Losing the machine loses `synced - stored`.
//! - `stored`: in the object store.
//! - `announced`: the queue knows that it is stored. Files up to here may be recycled.
//!
//! # A directory
//!
//! ```text
//! lock         locked while a process writes
//! identity     magic, version, journal id, epoch, checksum; replaced whole at each start
//! local.key    seals what a restart has to read back (local_key.rs), mode 0600
//! 00000000.journal …
//! ```
//!
//! # A file
//!
//! Of fixed size, its room set aside when it is made, used again and again. Each use has a
//! *generation*, which rises by one over the whole journal and gives the files their order.
//!
//! ```text
//! header (file.rs): magic, version, journal id, generation, epoch, first position, checksum
//! snapshot:  one head, then one record per live session
//! records:   first position, first position + 1, …   (record.rs)
//! the rest:  whatever an earlier use left there
//! ```
//!
//! A file ends where the next one says: file *n + 1* names the position before its first, and what
//! lies behind that in file *n* does not count. That is how a torn tail, and what was written
//! around a failed sync, stay out of the story without being overwritten. A file is begun only
//! when the one before is synced up to there.
//!
//! # Damage or tear?
//!
//! Every clock record says how far the journal was synced when it was written. A hole below the
//! newest such position in a file is damage: it is reported and the records after it count. A
//! hole above it is the tear of a crash: nothing after it was promised to anybody, and it ends
//! the file.
//!
//! # Start
//!
//! Lock; read the identity; read the headers; find the newest file whose snapshot is whole; fold
//! it and what follows ([`state`]); raise the epoch and sync it; begin a new file with a snapshot
//! and sync it. Only then is the journal open. Files before that one are read by those who need
//! them: `upload` from its last cut, `announce` from its last event.

mod clock;
mod disk;
mod file;
mod handle;
mod local_key;
mod reader;
pub(crate) mod record;
mod recovery;
pub(crate) mod state;
mod unstored;
mod verify;
mod writer;

#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
pub(crate) mod torn_disk;

use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use model::{EdgeId, JournalId, Position, RecordingId, SessionId, TenantId, WallTime};

pub use clock::{Moment, boot_id};
pub use disk::{Disk, DiskFile, RealDisk};
pub use handle::{
    AppendError, AppendRecord, CannotAccept, JournalHandle, Room, SealedKind, SessionTag,
};
pub use reader::Reader;
pub use record::ClockBody;
pub use state::{LiveRecording, Reached};
pub use verify::{FileReport, Report, verify, verify_on};

/// Told how long each sync took, and whether it worked.
pub type SyncObserver = Arc<dyn Fn(Duration, bool) + Send + Sync>;

#[derive(Clone)]
pub struct JournalConfig {
    /// Written into every event.
    pub edge: EdgeId,
    /// Time between commits.
    pub commit: Duration,
    /// What may wait for the disk before packets are refused.
    pub buffer_bytes: usize,
    /// Size of a new file. Larger when the live sessions need it.
    pub file_bytes: u64,
    /// Below this, new calls are refused so that calls in progress can finish.
    pub min_free_bytes: u64,
    /// Files kept for use again; what an outage needed beyond them is given back to the disk.
    pub spare_files: usize,
    pub on_sync: Option<SyncObserver>,
}

impl JournalConfig {
    pub fn new(edge: EdgeId) -> Self {
        Self {
            edge,
            commit: Duration::from_millis(100),
            buffer_bytes: 64 * 1024 * 1024,
            file_bytes: 64 * 1024 * 1024,
            min_free_bytes: 1024 * 1024 * 1024,
            spare_files: 4,
            on_sync: None,
        }
    }
}

/// Why a journal cannot be opened or read. Each names what the operator can do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("{place} is in use by another process: stop it, or choose another data directory")]
    InUse { place: String },
    #[error("{what}")]
    Disk {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{name} in {place} has journal version {found}, this release reads up to {known}: upgrade"
    )]
    TooNew { place: String, name: String, found: u16, known: u16 },
    /// Neither the identity nor any file can be read.
    #[error(
        "{place} has journal files but none with a readable header: keep it for repair and start with an empty directory"
    )]
    Unreadable { place: String },
    #[error(
        "local.key in {place} {what}: restore it from a backup, or keep the directory for repair and start with an empty one"
    )]
    LocalKey { place: String, what: &'static str },
    #[error("start the journal's writer")]
    Thread(#[source] std::io::Error),
}

/// How far everything is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    pub received: Reached,
    pub synced: Reached,
    pub stored: Reached,
    pub announced: Reached,
    /// When the oldest packet arrived, to a second, that is not stored; `None` when all are.
    pub oldest_unstored: Option<WallTime>,
}

impl Positions {
    /// When the newest packet at `reached` arrived; `now` when no packet is waiting beyond it.
    pub fn newest_packet_or_now(&self, reached: Reached, now: WallTime) -> WallTime {
        if reached.newest_packet >= self.received.newest_packet {
            now
        } else {
            reached.newest_packet.unwrap_or_default()
        }
    }
}

/// What the journal of the last start says.
#[derive(Debug)]
pub struct Recovered {
    pub journal_id: JournalId,
    /// Count of starts, this one included; synced.
    pub epoch: u64,
    /// The directory was empty.
    pub is_new: bool,
    /// Sessions that were being recorded.
    pub live: Vec<LiveSession>,
    /// The clocks at the last commit: the recorder was alive then.
    pub last_clock: Option<ClockBody>,
    /// The newest record of the last start that counts.
    pub last: Position,
    pub positions: Positions,
    /// Holes in what had been synced. Not the tear of a crash, which is no damage.
    pub damage: Vec<Damage>,
}

/// A session to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSession {
    pub session: SessionId,
    pub tenant: TenantId,
    /// Recordings that began and did not end.
    pub recordings: BTreeMap<RecordingId, LiveRecording>,
    /// As given to [`AppendRecord::Dialog`]; `None` when none was, or when it cannot be opened.
    pub dialog: Option<Vec<u8>>,
    pub last_position: Position,
    /// When the session's newest record happened: the gap begins here.
    pub last_wall: WallTime,
}

/// Bytes of a file that should be a record and are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub file: String,
    pub from: u64,
    pub to: u64,
    /// The last good record before it.
    pub after: Position,
}

/// An open journal: its lock and its writer thread. Dropping it commits what is in the buffer.
pub struct Journal {
    handle: JournalHandle,
    writer: Option<JoinHandle<()>>,
    /// Released last.
    _lock: Arc<Box<dyn Any + Send + Sync>>,
}

impl Journal {
    /// Opens or makes the journal in `dir`. Blocks; the files are read and synced.
    pub fn open(dir: &Path, config: JournalConfig) -> Result<(Self, Recovered), JournalError> {
        let disk = RealDisk::create(dir)
            .map_err(|source| JournalError::Disk { what: "open the journal directory", source })?;
        Self::open_on(Arc::new(disk), config)
    }

    /// Opens or makes the journal on any disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        config: JournalConfig,
    ) -> Result<(Self, Recovered), JournalError> {
        recovery::open(disk, config)
    }

    pub fn handle(&self) -> JournalHandle {
        self.handle.clone()
    }

    /// Commits what is in the buffer and ends the writer. Appends fail from now on. Gives up
    /// after `patience` when the disk does not take it; true when everything is synced.
    pub fn close(mut self, patience: Duration) -> bool {
        self.finish(patience)
    }

    fn finish(&mut self, patience: Duration) -> bool {
        let Some(writer) = self.writer.take() else { return true };
        writer::close(&self.handle.shared, writer, patience)
    }
}

/// How long dropping a journal waits for a disk that fails.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

impl Drop for Journal {
    fn drop(&mut self) {
        self.finish(DROP_PATIENCE);
    }
}

/// What the delivering half is told to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deliver {
    #[default]
    GoOn,
    /// Deliver what is there and return: the last call has ended.
    Finish,
    /// Return at once: the next start goes on.
    Stop,
}
