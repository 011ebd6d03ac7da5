//! Opens a journal: finds out what the last start left, and begins the next.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex};

use model::{JournalId, Position};
use tokio::sync::watch;
use uuid::Uuid;

use super::disk::Disk;
use super::file::{self, Catalog, Entry, FileReader, Next};
use super::handle::{self, Buffer, JournalHandle, Shared};
use super::local_key::{self, LocalKey, Purpose};
use super::reader::Reader;
use super::record::{self, ClockBody, Kind, SessionBody, u64_at};
use super::state::{LiveEntry, Reached, State};
use super::writer::Writer;
use super::{Damage, Journal, JournalConfig, JournalError, LiveSession, Moment, Recovered};

/// Positions given to records that a crash took back may have been seen: by a disk that lied
/// about a sync, by a copy of the directory. A start leaves so many unused that none comes twice.
const JUMP: u64 = 1 << 20;

const IDENTITY: &str = "identity";
const IDENTITY_MAGIC: &[u8; 8] = b"LKIDENT1";
const IDENTITY_BYTES: usize = 40;

pub(super) fn open(
    disk: Arc<dyn Disk>,
    config: JournalConfig,
) -> Result<(Journal, Recovered), JournalError> {
    let lock = disk.lock().map_err(|source| match source.kind() {
        ErrorKind::WouldBlock => JournalError::InUse { place: disk.place() },
        _ => JournalError::Disk { what: "lock the journal directory", source },
    })?;
    let read = |source| JournalError::Disk { what: "read the journal", source };
    let Directory { id, epoch, is_new, catalog, mut damage } = directory(&*disk)?;
    let key = LocalKey::load(&*disk, id, is_new)?;
    let Past { mut state, seen, damage: found } = past(id, &catalog).map_err(read)?;
    damage.extend(found);
    for Damage { file, from, to, after } in &damage {
        tracing::error!(file, from, to, after = %after, "journal records damaged");
    }
    let epoch = epoch + 1;
    disk.replace(IDENTITY, &encode_identity(id, epoch))
        .map_err(|source| JournalError::Disk { what: "write the journal's identity", source })?;

    let first = if is_new { Position(1) } else { Position(seen.0 + JUMP) };
    let recovered_last = state.head.last;
    state.head.last = Position(first.0 - 1);
    let received = Reached { position: state.head.last, newest_packet: state.head.newest_packet };
    let shared = Arc::new(Shared {
        id,
        epoch,
        edge: config.edge.clone(),
        config,
        disk,
        key,
        buffer: Mutex::new(Buffer::new(first, received)),
        wake: Condvar::new(),
        catalog: Mutex::new(catalog),
        synced: watch::Sender::new(received),
        tail: Mutex::new(None),
        ended: watch::Sender::new(false),
        failing: AtomicBool::new(false),
        give_up: AtomicBool::new(false),
        free_bytes: AtomicU64::new(0),
        written_bytes: AtomicU64::new(0),
        state: Mutex::new(state.clone()),
    });
    note_unstored(&shared, recovered_last);
    let mut writer = Writer::new(Arc::clone(&shared));
    writer
        .begin(recovered_last, first)
        .map_err(|source| JournalError::Disk { what: "begin a journal file", source })?;
    let lock = Arc::new(lock);
    let held = Arc::clone(&lock);
    let thread = std::thread::Builder::new()
        .name("journal".to_owned())
        .spawn(move || {
            // Held by the writer too: a writer that hangs in the disk still owns the directory.
            let _held = held;
            writer.run();
        })
        .map_err(JournalError::Thread)?;
    let handle = JournalHandle { shared };
    let recovered = Recovered {
        journal_id: id,
        epoch,
        is_new,
        live: live_sessions(&handle, &state),
        last_clock: state.head.clock,
        last: recovered_last,
        positions: handle.positions(),
        damage,
    };
    tracing::info!(
        journal = %id,
        epoch,
        live = recovered.live.len(),
        damaged = recovered.damage.len(),
        "journal open"
    );
    Ok((Journal { handle, writer: Some(thread), _lock: lock }, recovered))
}

/// Finds when the oldest packet arrived that the last start did not store. Reads up to that packet
/// only, so what lies behind it counts as that old until the last start's records are stored.
fn note_unstored(shared: &Arc<Shared>, last: Position) {
    let stored = handle::lock(&shared.state).head.stored.position;
    let mut reader = Reader::new(Arc::clone(shared), stored);
    reader.tolerate_read_errors();
    loop {
        match reader.next(last) {
            Ok(Some(record)) if record.kind == Kind::Packets => {
                if let Some(body) = SessionBody::parse(&record.body) {
                    handle::lock(&shared.buffer).unstored.received(last, body.wall);
                    return;
                }
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "age of what is not stored yet is not known");
                return;
            }
        }
    }
}

fn live_sessions(handle: &JournalHandle, state: &State) -> Vec<LiveSession> {
    let to_live = |(session, entry): (&_, &LiveEntry)| {
        let dialog = (!entry.dialog.is_empty())
            .then(|| handle.shared.key.open(Purpose::Dialog, &entry.dialog))
            .flatten();
        if dialog.is_none() {
            tracing::error!(session = %session, "session has no dialog to go on with");
        }
        LiveSession {
            session: *session,
            tenant: entry.tenant.clone(),
            recordings: entry.recordings.clone(),
            dialog,
            last_position: entry.last_position,
            last_wall: entry.last_wall,
        }
    };
    state.live.iter().map(to_live).collect()
}

pub(super) struct Directory {
    pub id: JournalId,
    pub epoch: u64,
    pub is_new: bool,
    pub catalog: Catalog,
    /// Files whose header cannot be read.
    pub damage: Vec<Damage>,
}

/// Whose journal lies here, and its files.
pub(super) fn directory(disk: &dyn Disk) -> Result<Directory, JournalError> {
    let read = |source| JournalError::Disk { what: "read the journal directory", source };
    let found = Catalog::read(disk).map_err(read)?;
    if let Some((name, version)) = found.too_new {
        let place = disk.place();
        return Err(JournalError::TooNew { place, name, found: version, known: file::VERSION });
    }
    let identity = match disk.read(IDENTITY) {
        Ok(bytes) => parse_identity(&bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(source) => return Err(read(source)),
    };
    // Every file says whose it is, so a damaged identity costs nothing.
    let newest = found.good.iter().max_by_key(|(header, _)| header.generation);
    let id = identity.map(|(id, _)| id).or(newest.map(|(header, _)| header.journal));
    let Some(id) = id else {
        if !found.damaged.is_empty() {
            return Err(JournalError::Unreadable { place: disk.place() });
        }
        let catalog = Catalog { free: found.blank, ..Catalog::default() };
        return Ok(Directory {
            id: new_id()?,
            epoch: 0,
            is_new: true,
            catalog,
            damage: Vec::new(),
        });
    };
    let mut catalog = Catalog { free: found.blank, ..Catalog::default() };
    let mut epoch = identity.map_or(0, |(_, epoch)| epoch);
    for (header, free) in found.good {
        if header.journal == id {
            epoch = epoch.max(header.epoch);
            let file::Free { name, file, bytes } = free;
            let (first, before) = (header.first, header.before);
            let entry = Entry { name, file, bytes, first, before };
            catalog.used.insert(header.generation, entry);
        } else {
            // Not ours to write over: somebody put it here by hand.
            tracing::warn!(name = free.name, journal = %header.journal, "file of another journal");
        }
    }
    // A crash before the first file was synced leaves an identity alone: nothing is lost.
    let is_new = catalog.used.is_empty() && epoch == 0;
    let damaged = |file| Damage { file, from: 0, to: file::RECORDS_AT, after: Position(0) };
    let damage = found.damaged.into_iter().map(damaged).collect();
    Ok(Directory { id, epoch, is_new, catalog, damage })
}

fn new_id() -> Result<JournalId, JournalError> {
    let unix_ms = Moment::now().wall_ns / 1_000_000;
    Ok(JournalId::at(unix_ms, local_key::random()?))
}

fn encode_identity(id: JournalId, epoch: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(IDENTITY_BYTES);
    out.extend_from_slice(IDENTITY_MAGIC);
    out.extend_from_slice(id.0.as_bytes());
    out.extend_from_slice(&epoch.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let checksum = record::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn parse_identity(bytes: &[u8]) -> Option<(JournalId, u64)> {
    if bytes.len() != IDENTITY_BYTES || bytes[..8] != *IDENTITY_MAGIC {
        return None;
    }
    let checksum = record::u32_at(bytes, IDENTITY_BYTES - 4)?;
    if checksum != record::crc32c(&bytes[..IDENTITY_BYTES - 4]) {
        return None;
    }
    let id = Uuid::from_slice(bytes.get(8..24)?).ok()?;
    Some((JournalId(id), u64_at(bytes, 24)?))
}

struct Past {
    state: State,
    /// The greatest position that any record bore, counted or not.
    seen: Position,
    damage: Vec<Damage>,
}

/// Folds the newest whole snapshot and everything after it.
fn past(id: JournalId, catalog: &Catalog) -> io::Result<Past> {
    let mut past = Past { state: State::default(), seen: Position(0), damage: Vec::new() };
    let mut begin = catalog.used.first_key_value().map(|(generation, _)| *generation);
    for (generation, entry) in catalog.used.iter().rev() {
        past.seen = past.seen.max(entry.first);
        if let Some(state) = reader(id, *generation, entry).snapshot()? {
            past.state = state;
            begin = Some(*generation);
            break;
        }
    }
    let Some(begin) = begin else { return Ok(past) };
    for (generation, entry) in catalog.used.range(begin..) {
        let Survey { end, seen, holes, .. } = survey(id, catalog, *generation)?;
        past.seen = past.seen.max(seen);
        past.damage.extend(holes);
        let mut reader = reader(id, *generation, entry);
        loop {
            match reader.next(end)? {
                Next::Record(record) => past.state.fold(&record),
                Next::Hole { .. } => {}
                Next::End => break,
            }
        }
    }
    past.seen = past.seen.max(past.state.head.last);
    Ok(past)
}

fn reader(id: JournalId, generation: u64, entry: &Entry) -> FileReader {
    let file = Arc::clone(&entry.file);
    let mut reader = FileReader::new(file, entry.bytes, id, generation, entry.first);
    reader.tolerate_read_errors();
    reader
}

/// What a file holds.
pub(super) struct Survey {
    /// The last record that counts.
    pub end: Position,
    pub seen: Position,
    pub records: u64,
    /// Damage; a tear is none.
    pub holes: Vec<Damage>,
}

/// Records that lie one after another, the first run of a file at its start, others behind a hole.
struct Run {
    hole: Option<(u64, u64)>,
    records: u64,
    last: Position,
}

/// Reads all of a file and tells damage from tear; see the module above.
pub(super) fn survey(id: JournalId, catalog: &Catalog, generation: u64) -> io::Result<Survey> {
    let entry = &catalog.used[&generation];
    let end = catalog.end(generation);
    let mut reader = reader(id, generation, entry);
    reader.snapshot()?;
    let through = end.unwrap_or(Position(u64::MAX));
    // What the next file counts on was synced before that file was begun. The file that is next
    // here may be a later one, when those between were written over.
    let is_next = catalog.used.contains_key(&(generation + 1));
    let mut synced = end.filter(|_| is_next).unwrap_or_default();
    let mut survey =
        Survey { end: reader.last(), seen: reader.last(), records: 0, holes: Vec::new() };
    let mut runs = vec![Run { hole: None, records: 0, last: reader.last() }];
    loop {
        match reader.next(through)? {
            Next::Record(record) => {
                if record.kind == Kind::Clock {
                    let clock = ClockBody::parse(&record.body);
                    synced = synced.max(clock.map_or(Position(0), |clock| clock.synced));
                }
                if let Some(run) = runs.last_mut() {
                    run.records += 1;
                    run.last = record.position;
                }
                survey.seen = survey.seen.max(record.position);
            }
            Next::Hole { from, to } => {
                runs.push(Run { hole: Some((from, to)), records: 0, last: reader.last() });
            }
            Next::End => break,
        }
    }
    let damage = |from, to, after| Damage { file: entry.name.clone(), from, to, after };
    for Run { hole, records, last } in runs {
        if let Some((from, to)) = hole {
            if synced <= survey.end {
                break; // A tear: what follows was never promised.
            }
            survey.holes.push(damage(from, to, survey.end));
        }
        survey.end = last;
        survey.records += records;
    }
    if survey.end < synced {
        survey.holes.push(damage(reader.offset(), entry.bytes, survey.end));
    }
    Ok(survey)
}
