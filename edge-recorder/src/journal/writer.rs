//! The writer thread: group commit, file after file.
//!
//! - One sequential stream, one sync per commit, whatever the number of calls.
//! - A record is folded into the state, and `synced` moves, only after its sync returned.
//! - After a failed write or sync the file is not touched again. What it lacks is still in the
//!   batch and goes to another file: a second sync of the same file could succeed without having
//!   written anything.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use model::Position;

use super::disk::DiskFile;
use super::file::{self, Entry, FileHeader, Free, RECORDS_AT};
use super::handle::{Batch, Shared, Tail, lock};
use super::record::{self, Checksum};

/// How often free space is looked at while nothing happens.
const FREE_SPACE_EVERY: Duration = Duration::from_secs(1);
/// First and longest wait after the disk failed.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);
/// Files with nothing in them that failed and are kept. A file that is deleted may hand its bad
/// blocks to the next one made; a few that stay hold them.
const FAILED_FILES: usize = 4;

/// The file that is being written.
struct Current {
    generation: u64,
    file: Arc<dyn DiskFile>,
    checksum: Checksum,
    bytes: u64,
    /// Where the next record goes.
    offset: u64,
    /// Its header and snapshot are synced.
    synced: bool,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    current: Option<Current>,
    /// Newest generation whose snapshot is synced.
    snapshot: u64,
    /// Newest generation that was begun. Never begun again, even when it failed: what of it is on
    /// the disk must not be taken for the file that came in its place.
    generation: u64,
    free_space_at: Option<Instant>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>) -> Self {
        let generation = lock(&shared.catalog).newest_generation();
        Self { shared, current: None, snapshot: 0, generation, free_space_at: None }
    }

    /// Begins the first file of this start and syncs it.
    pub fn begin(&mut self, before: Position, first: Position) -> io::Result<()> {
        self.begin_file(before, first, 0)?;
        self.sync()?;
        self.look_at_free_space();
        Ok(())
    }

    /// Commits until the journal is closed and its buffer is empty.
    pub fn run(mut self) {
        let mut empty = Batch::default();
        while let Some(mut batch) = self.wait(std::mem::take(&mut empty)) {
            if !self.commit(&mut batch) {
                break;
            }
            self.look_at_free_space();
            batch.bytes.clear();
            batch.records.clear();
            batch.newest_packet = None;
            empty = batch;
        }
    }

    /// Waits for the end of the commit interval, or for somebody in a hurry.
    fn wait(&mut self, empty: Batch) -> Option<Batch> {
        let commit = self.shared.config.commit;
        let shared = Arc::clone(&self.shared);
        let mut buffer = lock(&shared.buffer);
        let mut begun: Option<Instant> = None;
        loop {
            let waiting = !buffer.batch.records.is_empty();
            if waiting {
                let crowded = buffer.batch.bytes.len() > shared.config.buffer_bytes / 4;
                let begun = *begun.get_or_insert_with(Instant::now);
                if buffer.hurry || buffer.closed || crowded || begun.elapsed() >= commit {
                    return Some(buffer.take(empty));
                }
            } else if buffer.closed {
                return None;
            }
            buffer.hurry &= waiting;
            let patience = match begun {
                Some(begun) => commit.saturating_sub(begun.elapsed()),
                None => FREE_SPACE_EVERY,
            };
            let (held, timeout) = shared
                .wake
                .wait_timeout(buffer, patience)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            buffer = held;
            if timeout.timed_out() && begun.is_none() {
                drop(buffer);
                self.look_at_free_space();
                buffer = lock(&shared.buffer);
            }
        }
    }

    /// Writes and syncs a batch, again and again until the disk takes it. False: given up,
    /// because the journal is closed and nobody waits any more.
    fn commit(&mut self, batch: &mut Batch) -> bool {
        let mut done = 0;
        let mut wait = RETRY_FIRST;
        loop {
            match self.try_commit(batch, &mut done) {
                Ok(()) => {
                    let bytes = batch.bytes.len() as u64;
                    self.shared.written_bytes.fetch_add(bytes, Ordering::Relaxed);
                    if self.shared.failing.swap(false, Ordering::Relaxed) {
                        tracing::info!("journal disk works again");
                    }
                    return true;
                }
                Err(error) => {
                    self.shared.failing.store(true, Ordering::Relaxed);
                    let retry_in_ms = wait.as_millis() as u64;
                    tracing::error!(%error, retry_in_ms, "journal not written, will retry");
                    self.leave_file();
                }
            }
            if self.shared.give_up.load(Ordering::Relaxed) {
                return false;
            }
            std::thread::sleep(wait);
            wait = (wait * 2).min(RETRY_LONGEST);
        }
    }

    /// Writes the records from `done` on. `done` moves with every sync, so that a retry neither
    /// loses nor repeats a record.
    fn try_commit(&mut self, batch: &mut Batch, done: &mut usize) -> io::Result<()> {
        let mut run = *done;
        for index in *done..batch.records.len() {
            let placed = batch.records[index];
            let bytes = record::stored_bytes(placed.body_bytes) as u64;
            let fits = self.current.as_ref().is_some_and(|now| now.offset + bytes <= now.bytes);
            if !fits {
                if self.current.is_some() {
                    self.write(batch, run, index)?;
                    self.sync()?;
                    self.fold(batch, *done, index);
                    *done = index;
                }
                self.begin_file(Position(placed.position.0 - 1), placed.position, bytes)?;
                run = index;
            }
            let Some(now) = &mut self.current else {
                return Err(io::Error::other("no journal file"));
            };
            record::place(&mut batch.bytes[placed.start..], &now.checksum, now.offset);
            now.offset += bytes;
        }
        self.write(batch, run, batch.records.len())?;
        self.sync()?;
        self.fold(batch, *done, batch.records.len());
        *done = batch.records.len();
        Ok(())
    }

    /// Writes the records `from..to`, which lie one after another in batch and file alike.
    fn write(&mut self, batch: &Batch, from: usize, to: usize) -> io::Result<()> {
        let (Some(now), Some(first)) = (&self.current, batch.records.get(from)) else {
            return Ok(());
        };
        let end = batch.records.get(to).map_or(batch.bytes.len(), |record| record.start);
        let bytes = &batch.bytes[first.start..end];
        now.file.write_at(bytes, now.offset - bytes.len() as u64)
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(now) = &mut self.current else { return Ok(()) };
        let begun = Instant::now();
        let result = now.file.sync();
        if let Some(on_sync) = &self.shared.config.on_sync {
            on_sync(begun.elapsed(), result.is_ok());
        }
        result?;
        now.synced = true;
        self.snapshot = now.generation;
        Ok(())
    }

    /// Takes synced records over into the state and tells who waits.
    fn fold(&mut self, batch: &Batch, from: usize, to: usize) {
        let Some(last) = batch.records[from..to].last() else { return };
        let newest_packet = {
            let mut state = lock(&self.shared.state);
            for placed in &batch.records[from..to] {
                let body = placed.start + record::HEADER_BYTES;
                let body = &batch.bytes[body..body + placed.body_bytes];
                state.fold_parts(placed.kind, placed.position, body);
            }
            state.head.newest_packet
        };
        if let Some(now) = &self.current {
            let (generation, offset) = (now.generation, now.offset);
            *lock(&self.shared.tail) = Some(Tail { generation, offset, position: last.position });
        }
        let end = batch.records.get(to).map_or(batch.bytes.len(), |record| record.start);
        lock(&self.shared.buffer).in_flight = batch.bytes.len() - end;
        self.shared.synced.send_modify(|synced| {
            synced.position = last.position;
            synced.newest_packet = newest_packet;
        });
    }

    /// Begins a file whose first record has position `first` and needs `bytes`. Not synced; all
    /// up to `before` is, in the files before.
    fn begin_file(&mut self, before: Position, first: Position, bytes: u64) -> io::Result<()> {
        let (mut snapshot, announced_through) = {
            let state = lock(&self.shared.state);
            (file::encode_snapshot(&state, first), state.announced_through())
        };
        // Room for the record and as much again as the snapshot, or files would be all snapshot.
        let needed = RECORDS_AT + 2 * snapshot.len() as u64 + bytes;
        let Free { name, file, bytes } = self.free_file(announced_through, needed)?;
        let mut catalog = lock(&self.shared.catalog);
        self.generation += 1;
        let generation = self.generation;
        let (journal, epoch) = (self.shared.id, self.shared.epoch);
        let header = FileHeader { journal, generation, epoch, first, before };
        let entry = Entry { name, file: Arc::clone(&file), bytes, first, before };
        catalog.used.insert(generation, entry);
        drop(catalog);
        let checksum = Checksum::new(self.shared.id, generation);
        file::place_all(&mut snapshot, &checksum, RECORDS_AT);
        let offset = RECORDS_AT + snapshot.len() as u64;
        let now = Current { generation, file, checksum, bytes, offset, synced: false };
        let file = &self.current.insert(now).file;
        file.write_at(&header.encode(), 0)?;
        file.write_at(&snapshot, RECORDS_AT)?;
        tracing::debug!(generation, first = %first, "journal file begun");
        Ok(())
    }

    /// A file to write over, or a new one, with room for `needed` bytes. One that failed is the
    /// last resort: a full disk has no room for a new one, and its fault may have passed.
    fn free_file(&mut self, announced_through: Position, needed: u64) -> io::Result<Free> {
        let fits = |free: &Free| free.bytes >= needed;
        {
            let mut catalog = lock(&self.shared.catalog);
            catalog.release(self.snapshot, announced_through);
            if let Some(found) = catalog.free.iter().position(fits) {
                let chosen = catalog.free.swap_remove(found);
                drop(catalog);
                self.give_back();
                return Ok(chosen);
            }
        }
        match self.new_file(needed) {
            Ok(made) => Ok(made),
            Err(error) => {
                let mut catalog = lock(&self.shared.catalog);
                let found = catalog.failed.iter().position(fits);
                found.and_then(|found| catalog.failed.remove(found)).ok_or(error)
            }
        }
    }

    fn new_file(&self, needed: u64) -> io::Result<Free> {
        let names = self.shared.disk.list()?;
        let newest = names.iter().filter_map(|name| file::number(name)).max();
        let name = file::name(newest.map_or(0, |newest| newest + 1));
        let bytes = self.shared.config.file_bytes.max(needed.next_multiple_of(RECORDS_AT));
        let file = self.shared.disk.create(&name, bytes)?;
        Ok(Free { name, file, bytes })
    }

    /// Leaves a file that failed. One that holds nothing synced is kept apart; of those, what is
    /// over the bound is given back to the disk, oldest failure first.
    fn leave_file(&mut self) {
        let Some(now) = self.current.take() else { return };
        if now.synced {
            return;
        }
        let surplus = {
            let mut catalog = lock(&self.shared.catalog);
            if let Some(Entry { name, file, bytes, .. }) = catalog.used.remove(&now.generation) {
                catalog.failed.push_back(Free { name, file, bytes });
            }
            if catalog.failed.len() > FAILED_FILES { catalog.failed.pop_front() } else { None }
        };
        if let Some(Free { name, .. }) = surplus {
            self.remove(&name);
        }
    }

    /// Keeps a few of the files that may be written over: an outage needs many, and every start
    /// leaves one behind.
    fn give_back(&self) {
        let surplus = {
            let mut catalog = lock(&self.shared.catalog);
            let kept = self.shared.config.spare_files.min(catalog.free.len());
            catalog.free.split_off(kept)
        };
        for Free { name, .. } in surplus {
            self.remove(&name);
        }
    }

    fn remove(&self, name: &str) {
        if let Err(error) = self.shared.disk.remove(name) {
            tracing::warn!(%error, name, "journal file not given back to the disk");
        }
    }

    /// Free space is what the disk has left and what lies in files that may be written over.
    fn look_at_free_space(&mut self) {
        if self.free_space_at.is_some_and(|at| at.elapsed() < FREE_SPACE_EVERY) {
            return;
        }
        self.free_space_at = Some(Instant::now());
        let announced_through = lock(&self.shared.state).announced_through();
        lock(&self.shared.catalog).release(self.snapshot, announced_through);
        self.give_back();
        let spare: u64 = lock(&self.shared.catalog).free.iter().map(|free| free.bytes).sum();
        match self.shared.disk.free_bytes() {
            Ok(free) => self.shared.free_bytes.store(free + spare, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "free space of the journal's disk not known"),
        }
    }
}

/// However the writer ends, nobody must wait for it any more.
impl Drop for Writer {
    fn drop(&mut self) {
        lock(&self.shared.buffer).closed = true;
        self.shared.ended.send_replace(true);
    }
}

/// Ends the writer; true when everything is synced.
pub(super) fn close(shared: &Shared, writer: JoinHandle<()>, patience: Duration) -> bool {
    lock(&shared.buffer).closed = true;
    shared.wake.notify_one();
    let begun = Instant::now();
    while !writer.is_finished() && begun.elapsed() < patience {
        std::thread::sleep(Duration::from_millis(1));
    }
    shared.give_up.store(true, Ordering::Relaxed);
    let received = lock(&shared.buffer).received.position;
    let all_synced = shared.synced.borrow().position >= received;
    if all_synced {
        // Nothing is left to do, so it ends at once.
        let _ = writer.join();
    } else {
        tracing::error!(received = %received, "journal closed with records that are not synced");
    }
    all_synced
}
