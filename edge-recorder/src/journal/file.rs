//! One journal file: its header, its snapshot, and reading it record by record.
//!
//! Constraints, each a test:
//!
//! - A header is read back whole or not at all; one of a newer version says so.
//! - A reader returns records in order of position, each once, and tells of every hole.
//! - A record is looked for after a hole, so that damage costs only what it hit.
//! - A block that the disk cannot read is a hole when the reader is told to tolerate it.
//!
//! ```text
//! magic: "LKJOURNL"   version: u16 LE   zero: u8[6]
//! journal id: u8[16]  generation: u64 LE   epoch: u64 LE   first position: u64 LE
//! position before: u64 LE, the last record of the file before that counts
//! zero: to 124   checksum: u32 LE, CRC32C of the first 124 bytes
//! zero: to 4096, where records begin
//! ```
//!
//! The first 128 bytes stay as they are in every later version, so that any release can tell
//! which version a file has.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use model::{JournalId, Position, SessionId};
use uuid::Uuid;

use super::disk::{Disk, DiskFile};
use super::record::{self, Checksum, HEADER_BYTES, Kind, Record, u32_at, u64_at};
use super::state::{Head, LiveEntry, State};

/// The version that this release writes, and the newest that it reads.
pub const VERSION: u16 = 1;

/// Where records begin: a header and a record never share a block, so a torn record cannot take
/// the header with it.
pub const RECORDS_AT: u64 = 4096;

const MAGIC: &[u8; 8] = b"LKJOURNL";
const CHECKED_BYTES: usize = 124;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    pub journal: JournalId,
    pub generation: u64,
    pub epoch: u64,
    pub first: Position,
    /// The record before `first`. Not always `first - 1`: a start leaves positions unused.
    pub before: Position,
}

/// What the first bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundHeader {
    Good(FileHeader),
    TooNew(u16),
    /// New and never written, torn, or damaged.
    None,
}

impl FileHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; RECORDS_AT as usize];
        out[..8].copy_from_slice(MAGIC);
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(self.journal.0.as_bytes());
        out[32..40].copy_from_slice(&self.generation.to_le_bytes());
        out[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        out[48..56].copy_from_slice(&self.first.0.to_le_bytes());
        out[56..64].copy_from_slice(&self.before.0.to_le_bytes());
        let checksum = record::crc32c(&out[..CHECKED_BYTES]);
        out[CHECKED_BYTES..CHECKED_BYTES + 4].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    pub fn parse(bytes: &[u8]) -> FoundHeader {
        let Some(checked) = bytes.get(..CHECKED_BYTES) else { return FoundHeader::None };
        let checksum = u32_at(bytes, CHECKED_BYTES);
        if checked[..8] != *MAGIC || checksum != Some(record::crc32c(checked)) {
            return FoundHeader::None;
        }
        let version = u16::from_le_bytes([checked[8], checked[9]]);
        if version > VERSION {
            return FoundHeader::TooNew(version);
        }
        let mut journal = [0; 16];
        journal.copy_from_slice(&checked[16..32]);
        let number = |at| u64_at(checked, at).unwrap_or(0);
        let header = Self {
            journal: JournalId(Uuid::from_bytes(journal)),
            generation: number(32),
            epoch: number(40),
            first: Position(number(48)),
            before: Position(number(56)),
        };
        // Else nobody wrote it: positions and versions begin at 1.
        let is_sound = version > 0 && header.first > header.before;
        if is_sound { FoundHeader::Good(header) } else { FoundHeader::None }
    }

    pub fn read(file: &dyn DiskFile) -> io::Result<FoundHeader> {
        let mut bytes = [0; CHECKED_BYTES + 4];
        let read = file.read_at(&mut bytes, 0)?;
        Ok(Self::parse(&bytes[..read]))
    }
}

/// `00000007.journal`
pub fn name(number: u32) -> String {
    format!("{number:08}.journal")
}

/// The number in a file's name; `None` for what is no journal file.
pub fn number(name: &str) -> Option<u32> {
    name.strip_suffix(".journal").filter(|digits| digits.len() == 8)?.parse().ok()
}

/// A file in use.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub file: Arc<dyn DiskFile>,
    pub bytes: u64,
    pub first: Position,
    /// As in [`FileHeader`].
    pub before: Position,
}

/// A file that may be written over.
#[derive(Clone)]
pub struct Free {
    pub name: String,
    pub file: Arc<dyn DiskFile>,
    pub bytes: u64,
}

/// Every file of the journal.
#[derive(Default)]
pub struct Catalog {
    /// By generation.
    pub used: BTreeMap<u64, Entry>,
    pub free: Vec<Free>,
    /// Free files that failed when they were last written, oldest failure first. Tried again only
    /// when there is no other, or a bad block under the only spare file would stop the journal.
    pub failed: VecDeque<Free>,
}

impl Catalog {
    /// Reads the headers of a directory.
    pub fn read(disk: &dyn Disk) -> io::Result<Found> {
        let mut found = Found::default();
        for name in disk.list()? {
            if number(&name).is_none() {
                continue;
            }
            let file = match disk.open(&name) {
                // Given back by the process that writes here while this one verifies.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let bytes = file.bytes()?;
            // A header in a block that the disk cannot read is as good as none.
            match FileHeader::read(&*file).unwrap_or(FoundHeader::None) {
                FoundHeader::Good(header) => {
                    found.good.push((header, Free { name, file, bytes }));
                }
                FoundHeader::TooNew(version) => found.too_new = Some((name, version)),
                FoundHeader::None if is_blank(&*file) => {
                    found.blank.push(Free { name, file, bytes });
                }
                FoundHeader::None => found.damaged.push(name),
            }
        }
        Ok(found)
    }

    /// The last record of this generation that counts, as the next file says; `None` while there
    /// is no next one.
    pub fn end(&self, generation: u64) -> Option<Position> {
        self.used.range(generation + 1..).next().map(|(_, next)| next.before)
    }

    pub fn newest_generation(&self) -> u64 {
        self.used.last_key_value().map_or(0, |(generation, _)| *generation)
    }

    /// Frees the files of which nothing is needed any more: older than `snapshot`, the newest
    /// file with a synced snapshot, and announced to their end, or empty.
    pub fn release(&mut self, snapshot: u64, announced_through: Position) {
        let generations: Vec<u64> =
            self.used.range(..snapshot).map(|(number, _)| *number).collect();
        for generation in generations {
            let Some(end) = self.end(generation) else { break };
            let done = |entry: &Entry| end < entry.first || end <= announced_through;
            if self.used.get(&generation).is_some_and(done) {
                let Entry { name, file, bytes, .. } =
                    self.used.remove(&generation).expect("it was there in the line above");
                self.free.push(Free { name, file, bytes });
            }
        }
    }
}

/// What a directory holds.
#[derive(Default)]
pub struct Found {
    pub good: Vec<(FileHeader, Free)>,
    pub blank: Vec<Free>,
    /// Something was written here and its header is gone. Never written over: what lies in it may
    /// be nowhere else.
    pub damaged: Vec<String>,
    pub too_new: Option<(String, u16)>,
}

/// Made and never written.
fn is_blank(file: &dyn DiskFile) -> bool {
    let mut bytes = [0; RECORDS_AT as usize];
    file.read_at(&mut bytes, 0).is_ok() && bytes.iter().all(|byte| *byte == 0)
}

/// Encodes what a file begins with after its header.
pub fn encode_snapshot(state: &State, first: Position) -> Vec<u8> {
    let before = Position(first.0 - 1);
    let mut out = Vec::new();
    let head = record::to_body(&(&state.head, state.live.len() as u64));
    record::encode(&mut out, Kind::SnapshotHead, before, &head);
    for (session, entry) in &state.live {
        let body = record::to_body(&(session, entry));
        record::encode(&mut out, Kind::SnapshotSession, before, &body);
    }
    out
}

/// Fills in the checksums of records that lie one after another from `offset` on.
pub fn place_all(bytes: &mut [u8], checksum: &Checksum, mut offset: u64) {
    let mut rest = bytes;
    while let Some(head) = record::Head::parse(rest) {
        record::place(rest, checksum, offset);
        offset += head.stored_bytes() as u64;
        rest = &mut rest[head.stored_bytes()..];
    }
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Record(Record),
    /// Bytes that are no record; the next call returns the record after them.
    Hole {
        from: u64,
        to: u64,
    },
    End,
}

/// Reads the records of one file in order.
pub struct FileReader {
    file: Arc<dyn DiskFile>,
    checksum: Checksum,
    bytes: u64,
    offset: u64,
    /// The newest record returned.
    last: Position,
    window: Vec<u8>,
    window_at: u64,
    tolerant: bool,
}

/// Read at once: large enough that a file is some hundred reads, small enough to keep many.
const WINDOW_BYTES: usize = 256 * 1024;
const BLOCK_BYTES: usize = 4096;

impl FileReader {
    pub fn new(
        file: Arc<dyn DiskFile>,
        bytes: u64,
        journal: JournalId,
        generation: u64,
        first: Position,
    ) -> Self {
        Self {
            file,
            checksum: Checksum::new(journal, generation),
            bytes,
            offset: RECORDS_AT,
            last: Position(first.0.saturating_sub(1)),
            window: Vec::new(),
            window_at: 0,
            tolerant: false,
        }
    }

    /// Takes blocks that the disk cannot read for holes, rather than return the error.
    pub fn tolerate_read_errors(&mut self) {
        self.tolerant = true;
    }

    /// Goes to `offset`, where the record with position `last` ends.
    pub fn go_on_at(&mut self, offset: u64, last: Position) {
        self.offset = offset;
        self.last = last;
    }

    /// The snapshot that the file begins with; `None` unless all of it is there.
    pub fn snapshot(&mut self) -> io::Result<Option<State>> {
        let Some(record) = self.record_here()?.filter(|record| record.kind == Kind::SnapshotHead)
        else {
            return Ok(None);
        };
        let Some((head, sessions)) = record::from_body::<(Head, u64)>(&record.body) else {
            return Ok(None);
        };
        self.pass(&record);
        let mut state = State { head, live: BTreeMap::new() };
        for _ in 0..sessions {
            let Some(record) = self.record_here()? else { return Ok(None) };
            if record.kind != Kind::SnapshotSession {
                return Ok(None);
            }
            match record::from_body::<(SessionId, LiveEntry)>(&record.body) {
                Some((session, entry)) => state.live.insert(session, entry),
                None => return Ok(None),
            };
            self.pass(&record);
        }
        Ok(Some(state))
    }

    /// The next record up to and including position `through`.
    pub fn next(&mut self, through: Position) -> io::Result<Next> {
        loop {
            if self.last >= through {
                return Ok(Next::End);
            }
            match self.record_here()? {
                Some(record) if record.kind.is_snapshot() => self.pass(&record),
                Some(record) if record.position == self.last.next() => {
                    if record.position > through {
                        return Ok(Next::End);
                    }
                    self.pass(&record);
                    self.last = record.position;
                    return Ok(Next::Record(record));
                }
                _ => {
                    let from = self.offset;
                    return Ok(match self.find(through)? {
                        None => Next::End,
                        Some((to, position)) => {
                            self.offset = to;
                            self.last = Position(position.0 - 1);
                            Next::Hole { from, to }
                        }
                    });
                }
            }
        }
    }

    /// The newest record returned, or the position before the file.
    pub fn last(&self) -> Position {
        self.last
    }

    pub fn offset(&self) -> u64 {
        self.offset
    }

    fn pass(&mut self, record: &Record) {
        self.offset += record::stored_bytes(record.body.len()) as u64;
    }

    /// The record at the current offset, if there is one.
    fn record_here(&mut self) -> io::Result<Option<Record>> {
        if let Some(record) = self.record_at(self.offset)? {
            return Ok(Some(record));
        }
        // The window may have been read before the writer came by.
        self.window.clear();
        self.record_at(self.offset)
    }

    fn record_at(&mut self, offset: u64) -> io::Result<Option<Record>> {
        let Some(head) = record::Head::parse(self.at(offset, HEADER_BYTES)?) else {
            return Ok(None);
        };
        let checksum = self.checksum;
        let bytes = self.at(offset, HEADER_BYTES + head.body_bytes)?;
        Ok(record::body(bytes, &head, &checksum, offset).map(|body| Record {
            kind: head.kind,
            position: head.position,
            body: body.to_vec(),
        }))
    }

    /// Looks for the next record after the current offset, with a position that can follow.
    fn find(&mut self, through: Position) -> io::Result<Option<(u64, Position)>> {
        let mut offset = self.offset + record::ALIGNMENT as u64;
        while offset + HEADER_BYTES as u64 <= self.bytes {
            if let Some(head) = record::Head::parse(self.at(offset, HEADER_BYTES)?) {
                // No more records than would fit can be missing.
                let missing = (offset - self.offset) / HEADER_BYTES as u64 + 1;
                let follows = head.position > self.last
                    && head.position <= through
                    && head.position.0 - self.last.0 <= missing
                    && !head.kind.is_snapshot();
                if follows && self.record_at(offset)?.is_some() {
                    return Ok(Some((offset, head.position)));
                }
            }
            offset += record::ALIGNMENT as u64;
        }
        Ok(None)
    }

    /// The bytes at `offset`: as many as asked for, or less at the end of the file.
    fn at(&mut self, offset: u64, bytes: usize) -> io::Result<&[u8]> {
        let end = (offset + bytes as u64).min(self.bytes);
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || end > window_end {
            self.fill(offset, bytes.max(WINDOW_BYTES))?;
        }
        let from = (offset - self.window_at) as usize;
        let to = (from + bytes).min(self.window.len());
        Ok(self.window.get(from..to).unwrap_or_default())
    }

    fn fill(&mut self, offset: u64, bytes: usize) -> io::Result<()> {
        let bytes = (self.bytes.saturating_sub(offset)).min(bytes as u64) as usize;
        self.window.clear();
        self.window.resize(bytes, 0);
        self.window_at = offset;
        let read = match self.file.read_at(&mut self.window, offset) {
            Ok(read) => read,
            Err(_) if self.tolerant => self.fill_by_blocks(offset),
            Err(error) => {
                self.window.clear();
                return Err(error);
            }
        };
        self.window.truncate(read);
        Ok(())
    }

    /// Reads block by block and leaves zeros where a block cannot be read.
    fn fill_by_blocks(&mut self, offset: u64) -> usize {
        let mut at = offset;
        for block in self.window.chunks_mut(BLOCK_BYTES) {
            if self.file.read_at(block, at).is_err() {
                block.fill(0);
            }
            at += block.len() as u64;
        }
        self.window.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::torn_disk::TornDisk;

    const BYTES: u64 = 16 * 1024;

    fn header() -> FileHeader {
        FileHeader {
            journal: JournalId::at(1, [1; 10]),
            generation: 9,
            epoch: 2,
            first: Position(100),
            before: Position(40),
        }
    }

    /// A file with `count` records of 50 bytes.
    fn file(count: u64) -> Vec<u8> {
        let header = header();
        let mut bytes = header.encode();
        let mut records = encode_snapshot(&State::default(), header.first);
        for number in 0..count {
            let position = Position(header.first.0 + number);
            record::encode(&mut records, Kind::Packets, position, &[number as u8; 50]);
        }
        place_all(&mut records, &Checksum::new(header.journal, header.generation), RECORDS_AT);
        bytes.extend(records);
        bytes.resize(BYTES as usize, 0);
        bytes
    }

    fn reader(bytes: &[u8]) -> FileReader {
        let disk = TornDisk::default();
        let file = disk.create("file", bytes.len() as u64).unwrap();
        file.write_at(bytes, 0).unwrap();
        let FileHeader { journal, generation, first, .. } = header();
        FileReader::new(file, bytes.len() as u64, journal, generation, first)
    }

    fn read(bytes: &[u8]) -> Vec<Next> {
        let mut reader = reader(bytes);
        std::iter::from_fn(|| match reader.next(Position(u64::MAX)).unwrap() {
            Next::End => None,
            next => Some(next),
        })
        .collect()
    }

    fn positions(found: &[Next]) -> Vec<u64> {
        let position = |next: &Next| match next {
            Next::Record(record) => Some(record.position.0),
            _ => None,
        };
        found.iter().filter_map(position).collect()
    }

    #[test]
    fn a_header_is_read_whole_or_not_at_all() {
        let bytes = header().encode();
        assert_eq!(FileHeader::parse(&bytes), FoundHeader::Good(header()));
        for bit in 0..128 * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::parse(&changed), FoundHeader::None, "bit {bit}");
        }
        assert_eq!(FileHeader::parse(&bytes[..127]), FoundHeader::None);
        assert_eq!(FileHeader::parse(&[0; 128]), FoundHeader::None);
    }

    #[test]
    fn records_come_in_order_and_up_to_where_asked() {
        let bytes = file(10);
        assert_eq!(positions(&read(&bytes)), (100..110).collect::<Vec<_>>());
        let mut reader = reader(&bytes);
        assert!(reader.snapshot().unwrap().is_some());
        for _ in 0..3 {
            assert!(matches!(reader.next(Position(102)).unwrap(), Next::Record(_)));
        }
        assert_eq!(reader.next(Position(102)).unwrap(), Next::End);
        let Next::Record(record) = reader.next(Position(103)).unwrap() else { panic!() };
        assert_eq!(record.position, Position(103));
    }

    #[test]
    fn damage_costs_what_it_hit_and_leaves_a_hole() {
        let mut bytes = file(10);
        let third = RECORDS_AT as usize
            + encode_snapshot(&State::default(), Position(100)).len()
            + 2 * record::stored_bytes(50);
        bytes[third + 30] ^= 1;
        let found = read(&bytes);
        assert_eq!(positions(&found), [100, 101, 103, 104, 105, 106, 107, 108, 109]);
        let to = third + record::stored_bytes(50);
        assert_eq!(found[2], Next::Hole { from: third as u64, to: to as u64 });
    }

    #[test]
    fn a_damaged_snapshot_does_not_hide_the_records_behind_it() {
        let mut bytes = file(3);
        bytes[RECORDS_AT as usize + 20] ^= 1;
        assert!(reader(&bytes).snapshot().unwrap().is_none());
        assert_eq!(positions(&read(&bytes)), [100, 101, 102]);
    }

    #[test]
    fn a_reader_sees_what_the_writer_adds_after_it_reached_the_end() {
        let short = file(3);
        let disk = TornDisk::default();
        let on_disk = disk.create("file", BYTES).unwrap();
        on_disk.write_at(&short, 0).unwrap();
        let FileHeader { journal, generation, first, .. } = header();
        let mut reader = FileReader::new(Arc::clone(&on_disk), BYTES, journal, generation, first);
        for _ in 0..3 {
            assert!(matches!(reader.next(Position(102)).unwrap(), Next::Record(_)));
        }
        on_disk.write_at(&file(4), 0).unwrap();
        assert!(matches!(reader.next(Position(103)).unwrap(), Next::Record(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic_and_in_order(
            noise in prop::collection::vec((0..BYTES as usize, any::<u8>()), 0..40),
            count in 0..20u64,
        ) {
            let mut bytes = file(count);
            for (at, byte) in noise {
                bytes[at] = byte;
            }
            let _ = FileHeader::parse(&bytes);
            let _ = reader(&bytes).snapshot();
            let found = positions(&read(&bytes));
            prop_assert!(found.is_sorted_by(|earlier, later| earlier < later), "{found:?}");
        }
    }
}
