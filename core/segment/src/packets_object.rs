//! The packets object: a recording's own packets, still sealed, and the original that everything
//! playable is rebuilt from.
//!
//! ```text
//! header, 80 bytes:
//!   0  magic        "LKPACKTS"
//!   8  version      u16 LE, 1
//!  10  reserved     u16, 0
//!  12  reserved     u32, 0
//!  16  recording    u8[16]
//!  32  session      u8[16]
//!  48  journal      u8[16]
//!  64  reserved     u8[12], 0
//!  76  header       u32 LE   CRC32C of the 76 bytes before
//!
//! records in order of position, each:
//!   checksum        u32 LE   CRC32C of the record
//!   record          as in `record.rs`
//!
//! end, 24 bytes:
//!      end          u8[8], of which the first, 0, is no kind of record: "\0LKPKEND"
//!      records      u64 LE
//!      reserved     u32, 0
//!      checksum     u32 LE   CRC32C of the end's 20 bytes before and of all records' checksums
//! ```
//!
//! It holds no data key: those stay in the index, so that destroying them there erases the call in
//! every copy of this object. It may be locked against change for years; the keys must not be.

use model::{JournalId, Position, RecordingId, SessionId};
use uuid::Uuid;

use crate::record::{RecordKind, SessionRecord};
use crate::wire::{Cursor, FormatError, crc32c};

const MAGIC: &[u8; 8] = b"LKPACKTS";
const END_MAGIC: &[u8; 8] = b"\0LKPKEND";
const VERSION: u16 = 1;
pub(crate) const HEADER_BYTES: usize = 80;
pub(crate) const END_BYTES: usize = 24;
pub(crate) const RECORD_CHECKSUM_BYTES: usize = 4;
pub(crate) const WHAT: &str = "packets object";

/// Whose packets these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketsHeader {
    pub recording: RecordingId,
    pub session: SessionId,
    pub journal: JournalId,
}

/// Writes a packets object.
#[derive(Debug)]
pub struct PacketsWriter {
    out: Vec<u8>,
    checksums: Vec<u8>,
    newest: Option<Position>,
    records: u64,
}

impl PacketsWriter {
    pub fn new(header: &PacketsHeader) -> Self {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(header.recording.0.as_bytes());
        out.extend_from_slice(header.session.0.as_bytes());
        out.extend_from_slice(header.journal.0.as_bytes());
        out.resize(HEADER_BYTES - 4, 0);
        let checksum = crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        Self { out, checksums: Vec::new(), newest: None, records: 0 }
    }

    /// Adds a record. False: it is left out, being a key, or not after the one before.
    pub fn push(&mut self, record: &SessionRecord) -> bool {
        let is_next = self.newest.is_none_or(|newest| newest < record.position);
        if record.kind == RecordKind::Key || !is_next {
            return false;
        }
        let at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        record.put(&mut self.out);
        let checksum = crc32c(&self.out[at + 4..]).to_le_bytes();
        self.out[at..at + 4].copy_from_slice(&checksum);
        self.checksums.extend_from_slice(&checksum);
        self.newest = Some(record.position);
        self.records += 1;
        true
    }

    /// What was written since this was last called; the pieces together are the object.
    pub fn take_written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    pub fn finish(mut self) -> Vec<u8> {
        let end = end_fields(self.records);
        self.out.extend_from_slice(&end);
        self.checksums.extend_from_slice(&end);
        self.out.extend_from_slice(&crc32c(&self.checksums).to_le_bytes());
        self.out
    }
}

pub(crate) fn end_fields(records: u64) -> Vec<u8> {
    [&END_MAGIC[..], &records.to_le_bytes(), &[0; 4]].concat()
}

/// Reads a packets object, record by record. Ends with an error unless the object is whole.
#[derive(Clone, Debug)]
pub struct PacketsReader<'a> {
    pub header: PacketsHeader,
    cursor: Cursor<'a>,
    checksums: Vec<u8>,
    newest: Option<Position>,
    records: u64,
    done: bool,
}

impl<'a> PacketsReader<'a> {
    pub fn open(whole: &'a [u8]) -> Result<Self, FormatError> {
        let header = Self::header_of(whole)?;
        let mut cursor = Cursor::new(whole);
        // It was just read.
        cursor.take(HEADER_BYTES);
        Ok(Self { header, cursor, checksums: Vec::new(), newest: None, records: 0, done: false })
    }

    /// Reads the header, with which `front` begins.
    pub(crate) fn header_of(front: &[u8]) -> Result<PacketsHeader, FormatError> {
        let short = FormatError::Short { needed: (HEADER_BYTES + END_BYTES) as u64 };
        let front = front.get(..HEADER_BYTES).ok_or(short)?;
        let mut header = Cursor::new(front);
        if header.array().as_ref() != Some(MAGIC) {
            return Err(FormatError::NotOne { what: WHAT });
        }
        let found = header.u16().ok_or(short)?;
        if found != VERSION {
            return Err(FormatError::TooNew { what: WHAT, found });
        }
        let (fields, checksum) = front.split_at(HEADER_BYTES - 4);
        if crc32c(fields).to_le_bytes() != checksum {
            return Err(FormatError::Checksum { what: "packets header" });
        }
        let mut read = || {
            header.take(6)?;
            let mut uuid = || header.array().map(Uuid::from_bytes);
            Some(PacketsHeader {
                recording: RecordingId(uuid()?),
                session: SessionId(uuid()?),
                journal: JournalId(uuid()?),
            })
        };
        read().ok_or(FormatError::Malformed { what: "packets header" })
    }

    /// Checks all of a packets object; the number of its records.
    pub fn verify(whole: &[u8]) -> Result<u64, FormatError> {
        let mut reader = PacketsReader::open(whole)?;
        reader.try_for_each(|record| record.map(drop))?;
        Ok(reader.records)
    }

    fn read(&mut self) -> Result<Option<SessionRecord>, FormatError> {
        let malformed = FormatError::Malformed { what: WHAT };
        if self.cursor.remaining() == END_BYTES {
            let end = self.cursor.take(END_BYTES - 4).ok_or(malformed)?;
            self.checksums.extend_from_slice(end);
            let checksum = self.cursor.u32().ok_or(malformed)?;
            if checksum != crc32c(&self.checksums) {
                return Err(FormatError::Checksum { what: WHAT });
            }
            return if end == end_fields(self.records) { Ok(None) } else { Err(malformed) };
        }
        let checksum = self.cursor.u32().ok_or(malformed)?;
        let before = self.cursor;
        let record = SessionRecord::take(&mut self.cursor, self.newest)?;
        let length = before.remaining() - self.cursor.remaining();
        let bytes = before.clone().take(length).ok_or(malformed)?;
        if crc32c(bytes) != checksum {
            return Err(FormatError::Checksum { what: "record" });
        }
        if record.kind == RecordKind::Key {
            return Err(FormatError::Record { position: record.position });
        }
        self.checksums.extend_from_slice(&checksum.to_le_bytes());
        self.newest = Some(record.position);
        self.records += 1;
        Ok(Some(record))
    }
}

impl Iterator for PacketsReader<'_> {
    type Item = Result<SessionRecord, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let read = self.read();
        self.done = !matches!(read, Ok(Some(_)));
        read.transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    #[test]
    fn records_come_back_in_order_and_without_keys() {
        let whole = sample::packets_object();
        let reader = PacketsReader::open(&whole).unwrap();
        assert_eq!(reader.header, sample::packets_header());
        let records: Vec<_> = reader.map(Result::unwrap).collect();
        let mut expected = sample::records(1);
        assert!(expected.iter().any(|record| record.kind == RecordKind::Key));
        expected.retain(|record| record.kind != RecordKind::Key);
        assert_eq!(records, expected);
        assert_eq!(PacketsReader::verify(&whole), Ok(records.len() as u64));
    }

    #[test]
    fn a_repeated_or_late_record_is_left_out() {
        let mut writer = PacketsWriter::new(&sample::packets_header());
        for record in sample::records(1) {
            assert_eq!(writer.push(&record), record.kind != RecordKind::Key);
            assert!(!writer.push(&record));
        }
        assert_eq!(writer.finish(), sample::packets_object());
    }

    #[test]
    fn a_recording_without_a_packet_is_an_object_too() {
        let empty = PacketsWriter::new(&sample::packets_header()).finish();
        assert_eq!(PacketsReader::verify(&empty), Ok(0));
    }

    #[test]
    fn no_changed_bit_and_no_cut_is_overlooked() {
        let whole = sample::packets_object();
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(PacketsReader::verify(&changed).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(PacketsReader::verify(&whole[..length]).is_err(), "length {length}");
        }
        assert!(PacketsReader::verify(&[&whole[..], &[0]].concat()).is_err());
    }

    #[test]
    fn an_object_that_lost_a_record_is_not_whole() {
        let records = sample::records(1);
        let mut all = PacketsWriter::new(&sample::packets_header());
        let mut fewer = PacketsWriter::new(&sample::packets_header());
        for (at, record) in records.iter().enumerate() {
            all.push(record);
            if at + 1 < records.len() {
                fewer.push(record);
            }
        }
        let (all, fewer) = (all.finish(), fewer.finish());
        let joined = [&fewer[..fewer.len() - END_BYTES], &all[all.len() - END_BYTES..]].concat();
        assert!(PacketsReader::verify(&joined).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            prop_assert!(PacketsReader::verify(&bytes).is_err());
            let front = &sample::packets_object()[..HEADER_BYTES];
            prop_assert!(PacketsReader::verify(&[front, &bytes].concat()).is_err());
        }
    }
}
