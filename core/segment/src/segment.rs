//! A segment: what one tenant's calls received in one cut of a journal, regrouped by session.
//!
//! ```text
//! header, 128 bytes:
//!   0  magic        "LKSEGMNT"
//!   8  version      u16 LE, 1
//!  10  reserved     u16, 0
//!  12  sessions     u32 LE   entries of the directory
//!  16  journal      u8[16]
//!  32  first        u64 LE   positions of the cut, both inclusive
//!  40  last         u64 LE
//!  48  part         u32 LE
//!  52  directory    u32 LE   CRC32C of the directory
//!  56  tenant       u8 length, u8[64] zero-padded
//! 121  reserved     u8[3], 0
//! 124  header       u32 LE   CRC32C of the 124 bytes before
//!
//! directory, 56 bytes an entry, sorted by session:
//!   0  session      u8[16]
//!  16  offset       u64 LE   of its records, from the start of the object
//!  24  length       u64 LE   of its records
//!  32  first        u64 LE   positions of its records
//!  40  last         u64 LE
//!  48  records      u32 LE
//!  52  checksum     u32 LE   CRC32C of its records
//!
//! records of each session, one after the other, in order of position (see `record.rs`)
//! ```
//!
//! A reader of one call needs two ranged reads: [`FIRST_READ_BYTES`], then its session's records.
//! Fixed-width entries keep the directory searchable without parsing, and the directory's own
//! checksum keeps a reader from trusting an offset that a disk has changed.

use std::collections::BTreeMap;
use std::ops::Range;

use model::{JournalId, Position, SessionId, TenantId};
use uuid::Uuid;

use crate::record::{RECORD_HEADER_BYTES, SessionRecord};
use crate::wire::{Cursor, FormatError, crc32c};

const MAGIC: &[u8; 8] = b"LKSEGMNT";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 128;
const ENTRY_BYTES: usize = 56;
const TENANT_BYTES: usize = 64;
const WHAT: &str = "segment";

/// How much of a segment to read first: header and directory of up to 1,100 sessions.
pub const FIRST_READ_BYTES: u64 = 64 * 1024;

/// Collects records and writes one segment.
#[derive(Debug)]
pub struct SegmentWriter {
    journal: JournalId,
    tenant: TenantId,
    first: Position,
    last: Position,
    part: u32,
    sessions: BTreeMap<SessionId, Vec<SessionRecord>>,
    record_bytes: usize,
}

impl SegmentWriter {
    /// For the cut from `first` to `last`, both inclusive.
    pub fn new(
        journal: JournalId,
        tenant: TenantId,
        first: Position,
        last: Position,
        part: u32,
    ) -> Self {
        Self { journal, tenant, first, last, part, sessions: BTreeMap::new(), record_bytes: 0 }
    }

    /// Adds a record. In any order; the same position twice is one record.
    pub fn push(&mut self, session: SessionId, record: SessionRecord) {
        self.record_bytes += RECORD_HEADER_BYTES + record.bytes.len();
        self.sessions.entry(session).or_default().push(record);
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How large the segment will be.
    pub fn len(&self) -> usize {
        HEADER_BYTES + self.sessions.len() * ENTRY_BYTES + self.record_bytes
    }

    /// The segment. The same records give the same bytes, in whatever order they came.
    pub fn finish(mut self) -> Vec<u8> {
        let directory_bytes = self.sessions.len() * ENTRY_BYTES;
        let mut out = Vec::with_capacity(self.len());
        out.resize(HEADER_BYTES + directory_bytes, 0);
        let mut directory = Vec::with_capacity(directory_bytes);
        for (session, records) in &mut self.sessions {
            records.sort_by_key(|record| record.position);
            records.dedup_by_key(|record| record.position);
            let offset = out.len();
            for record in &*records {
                record.put(&mut out);
            }
            let position = |record: Option<&SessionRecord>| record.map_or(0, |r| r.position.0);
            directory.extend_from_slice(session.0.as_bytes());
            directory.extend_from_slice(&(offset as u64).to_le_bytes());
            directory.extend_from_slice(&((out.len() - offset) as u64).to_le_bytes());
            directory.extend_from_slice(&position(records.first()).to_le_bytes());
            directory.extend_from_slice(&position(records.last()).to_le_bytes());
            directory.extend_from_slice(&(records.len() as u32).to_le_bytes());
            directory.extend_from_slice(&crc32c(&out[offset..]).to_le_bytes());
        }
        let header = self.header(crc32c(&directory));
        out[..HEADER_BYTES].copy_from_slice(&header);
        out[HEADER_BYTES..HEADER_BYTES + directory_bytes].copy_from_slice(&directory);
        out
    }

    fn header(&self, directory_checksum: u32) -> Vec<u8> {
        let tenant = self.tenant.as_str().as_bytes();
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 2]);
        header.extend_from_slice(&(self.sessions.len() as u32).to_le_bytes());
        header.extend_from_slice(self.journal.0.as_bytes());
        header.extend_from_slice(&self.first.0.to_le_bytes());
        header.extend_from_slice(&self.last.0.to_le_bytes());
        header.extend_from_slice(&self.part.to_le_bytes());
        header.extend_from_slice(&directory_checksum.to_le_bytes());
        header.push(tenant.len() as u8);
        // A tenant's name has at most TENANT_BYTES characters, all of them ASCII.
        header.extend_from_slice(tenant);
        header.resize(HEADER_BYTES - 4, 0);
        let checksum = crc32c(&header);
        header.extend_from_slice(&checksum.to_le_bytes());
        header
    }
}

/// The front of a segment: what it is and where each session's records lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReader {
    pub journal: JournalId,
    pub tenant: TenantId,
    pub first: Position,
    pub last: Position,
    pub part: u32,
    sessions: Vec<DirectoryEntry>,
}

/// Where the records of one session lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    pub session: SessionId,
    pub offset: u64,
    pub length: u64,
    pub first: Position,
    pub last: Position,
    pub records: u32,
    checksum: u32,
}

impl SegmentReader {
    /// Reads header and directory from the object's first bytes ([`FIRST_READ_BYTES`] of them, or
    /// all). [`FormatError::Short`] tells how many are needed when the directory is longer.
    pub fn open(front: &[u8]) -> Result<Self, FormatError> {
        let Some((header, rest)) = front.split_at_checked(HEADER_BYTES) else {
            return Err(FormatError::Short { needed: HEADER_BYTES as u64 });
        };
        let (mut reader, count, checksum) = read_header(header)?;
        let directory_bytes = count
            .checked_mul(ENTRY_BYTES)
            .ok_or(FormatError::Malformed { what: "segment directory" })?;
        let needed = HEADER_BYTES as u64 + directory_bytes as u64;
        let directory = rest.get(..directory_bytes).ok_or(FormatError::Short { needed })?;
        if crc32c(directory) != checksum {
            return Err(FormatError::Checksum { what: "segment directory" });
        }
        let mut end = needed;
        for entry in directory.chunks_exact(ENTRY_BYTES) {
            let entry = DirectoryEntry::read(entry)
                .filter(|entry| entry.offset == end)
                .filter(|entry| reader.sessions.last().is_none_or(|l| l.session < entry.session))
                .ok_or(FormatError::Malformed { what: "segment directory" })?;
            end = entry
                .offset
                .checked_add(entry.length)
                .ok_or(FormatError::Malformed { what: "segment directory" })?;
            reader.sessions.push(entry);
        }
        Ok(reader)
    }

    /// Sorted by session.
    pub fn sessions(&self) -> &[DirectoryEntry] {
        &self.sessions
    }

    pub fn find(&self, session: SessionId) -> Option<&DirectoryEntry> {
        let found = self.sessions.binary_search_by_key(&session, |entry| entry.session);
        found.ok().and_then(|index| self.sessions.get(index))
    }

    /// Checks all of a segment: every checksum, every record, nothing between and nothing after.
    pub fn verify(whole: &[u8]) -> Result<Self, FormatError> {
        let reader = Self::open(whole)?;
        let mut end = (HEADER_BYTES + reader.sessions.len() * ENTRY_BYTES) as u64;
        for entry in &reader.sessions {
            let range = entry.range();
            let slice = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            let bytes = slice
                .and_then(|(start, end)| whole.get(start..end))
                .ok_or(FormatError::Short { needed: range.end })?;
            entry.records(bytes)?;
            end = range.end;
        }
        if end != whole.len() as u64 {
            return Err(FormatError::Malformed { what: WHAT });
        }
        Ok(reader)
    }
}

impl DirectoryEntry {
    /// What to read to get this session's records.
    pub fn range(&self) -> Range<u64> {
        // `SegmentReader::open` has checked that the sum does not overflow.
        self.offset..self.offset.saturating_add(self.length)
    }

    /// The session's records from the bytes of [`Self::range`], checked.
    pub fn records(&self, bytes: &[u8]) -> Result<Vec<SessionRecord>, FormatError> {
        if bytes.len() as u64 != self.length {
            return Err(FormatError::Short { needed: self.range().end });
        }
        if crc32c(bytes) != self.checksum {
            return Err(FormatError::Checksum { what: "records of a session" });
        }
        let mut cursor = Cursor::new(bytes);
        let mut records: Vec<SessionRecord> = Vec::new();
        while cursor.remaining() > 0 {
            let after = records.last().map(|record| record.position);
            records.push(SessionRecord::take(&mut cursor, after)?);
        }
        let ends = (records.first().map(|r| r.position), records.last().map(|r| r.position));
        if records.len() as u64 != u64::from(self.records)
            || ends != (Some(self.first), Some(self.last))
        {
            return Err(FormatError::Malformed { what: "records of a session" });
        }
        Ok(records)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        Some(Self {
            session: SessionId(Uuid::from_bytes(cursor.array()?)),
            offset: cursor.u64()?,
            length: cursor.u64()?,
            first: Position(cursor.u64()?),
            last: Position(cursor.u64()?),
            records: cursor.u32()?,
            checksum: cursor.u32()?,
        })
    }
}

/// The header's fields, the number of directory entries and the directory's checksum.
fn read_header(header: &[u8]) -> Result<(SegmentReader, usize, u32), FormatError> {
    let mut cursor = Cursor::new(header);
    if cursor.array().as_ref() != Some(MAGIC) {
        return Err(FormatError::NotOne { what: WHAT });
    }
    // Before the checksum: a later version may keep it elsewhere.
    match cursor.u16() {
        Some(VERSION) => {}
        Some(found) => return Err(FormatError::TooNew { what: WHAT, found }),
        None => return Err(FormatError::NotOne { what: WHAT }),
    }
    let (fields, checksum) = header.split_at(HEADER_BYTES - 4);
    if crc32c(fields).to_le_bytes() != checksum {
        return Err(FormatError::Checksum { what: "segment header" });
    }
    let mut read = || {
        cursor.u16()?;
        let count = usize::try_from(cursor.u32()?).ok()?;
        let journal = JournalId(Uuid::from_bytes(cursor.array()?));
        let first = Position(cursor.u64()?);
        let last = Position(cursor.u64()?);
        let part = cursor.u32()?;
        let directory_checksum = cursor.u32()?;
        let tenant_length = usize::from(cursor.u8()?);
        let tenant = cursor.array::<TENANT_BYTES>()?;
        let tenant = std::str::from_utf8(tenant.get(..tenant_length)?).ok()?;
        let tenant = TenantId::new(tenant).ok()?;
        let reader = SegmentReader { journal, tenant, first, last, part, sessions: Vec::new() };
        Some((reader, count, directory_checksum))
    };
    read().ok_or(FormatError::Malformed { what: "segment header" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    #[test]
    fn each_session_gets_its_own_records_back() {
        let whole = sample::segment();
        let reader = SegmentReader::open(&whole).unwrap();
        assert_eq!(reader.sessions().len(), 3);
        for number in 1..=3 {
            let entry = reader.find(sample::session(number)).unwrap();
            let range = entry.range().start as usize..entry.range().end as usize;
            assert_eq!(entry.records(&whole[range]).unwrap(), sample::records(number));
        }
        assert_eq!(reader.find(sample::session(9)), None);
        assert_eq!(SegmentReader::verify(&whole), Ok(reader));
    }

    #[test]
    fn the_order_of_pushes_does_not_change_a_byte() {
        let mut backwards = sample::segment_writer();
        for number in [3, 2, 1] {
            for record in sample::records(number).into_iter().rev() {
                backwards.push(sample::session(number), record.clone());
                backwards.push(sample::session(number), record);
            }
        }
        assert_eq!(backwards.finish(), sample::segment());
    }

    #[test]
    fn its_length_is_known_before_it_is_written() {
        let mut writer = sample::segment_writer();
        assert!(writer.is_empty());
        for record in sample::records(1) {
            writer.push(sample::session(1), record);
        }
        let length = writer.len();
        assert_eq!(writer.finish().len(), length);
    }

    #[test]
    fn a_short_front_says_how_much_is_needed() {
        let whole = sample::segment();
        let mut front = 0;
        let opened = loop {
            match SegmentReader::open(&whole[..front]) {
                Err(FormatError::Short { needed }) => {
                    assert!(needed as usize > front, "no progress at {front}");
                    front = needed as usize;
                }
                other => break other,
            }
        };
        assert_eq!(opened, SegmentReader::open(&whole));
        assert!(front < whole.len());
    }

    #[test]
    fn no_changed_bit_and_no_cut_is_overlooked() {
        let whole = sample::segment();
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentReader::verify(&changed).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(SegmentReader::verify(&whole[..length]).is_err(), "length {length}");
        }
        assert!(SegmentReader::verify(&[&whole[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_segment_of_a_later_release_says_so() {
        let mut whole = sample::segment();
        whole[8] = 2;
        let expected = FormatError::TooNew { what: "segment", found: 2 };
        assert_eq!(SegmentReader::open(&whole), Err(expected));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            prop_assert!(SegmentReader::verify(&bytes).is_err());
            prop_assert!(SegmentReader::verify(&[&MAGIC[..], &bytes].concat()).is_err());
        }

        /// A directory that lies, with checksums that match: what a hostile store could serve.
        #[test]
        fn a_lying_directory_is_read_without_panic(
            entry: [u8; ENTRY_BYTES],
            records: Vec<u8>,
            keep_checksum: bool,
        ) {
            let writer = SegmentWriter { sessions: [(sample::session(1), vec![])].into(), ..sample::segment_writer() };
            let mut entry = entry;
            if keep_checksum {
                entry[16..24].copy_from_slice(&((HEADER_BYTES + ENTRY_BYTES) as u64).to_le_bytes());
                entry[24..32].copy_from_slice(&(records.len() as u64).to_le_bytes());
                entry[52..].copy_from_slice(&crc32c(&records).to_le_bytes());
            }
            let whole = [writer.header(crc32c(&entry)), entry.to_vec(), records].concat();
            if let Ok(reader) = SegmentReader::verify(&whole) {
                prop_assert_eq!(reader.sessions().len(), 1);
            }
        }
    }
}
