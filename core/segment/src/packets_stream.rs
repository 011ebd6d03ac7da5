//! A packets object read and written piece by piece, where it is too large to be held: ten hours
//! of two parties are half a gigabyte. The format is that of [`crate::packets_object`].

use std::io::Read;

use model::Position;

use crate::packets_object::{
    END_BYTES, HEADER_BYTES, PacketsHeader, PacketsReader, RECORD_CHECKSUM_BYTES, WHAT, end_fields,
};
use crate::record::{RECORD_HEADER_BYTES, RecordKind, SessionRecord};
use crate::wire::{Cursor, FormatError, crc32c};

/// Why the next record cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error("the packets object cannot be read")]
    Io(#[from] std::io::Error),
}

/// Reads the records of a packets object of known length in order.
#[derive(Debug)]
pub struct PacketsStream<R> {
    input: R,
    /// Bytes that are not read yet.
    left: u64,
    /// Checksums so far; `None` when reading began in the middle, where only records are checked.
    checksums: Option<Vec<u8>>,
    newest: Option<Position>,
    records: u64,
    done: bool,
    buffer: Vec<u8>,
}

impl<R: Read> PacketsStream<R> {
    /// `bytes`: the length of the object.
    pub fn open(mut input: R, bytes: u64) -> Result<(PacketsHeader, Self), StreamError> {
        let mut front = Vec::new();
        (&mut input).take(HEADER_BYTES as u64).read_to_end(&mut front)?;
        let header = PacketsReader::header_of(&front)?;
        let left = bytes.saturating_sub(HEADER_BYTES as u64);
        Ok((header, Self::new(input, left, Some(Vec::new()))))
    }

    /// Goes on at a record, `left` bytes before the end of the object, or of what is written of it.
    pub fn resume(input: R, left: u64) -> Self {
        Self::new(input, left, None)
    }

    fn new(input: R, left: u64, checksums: Option<Vec<u8>>) -> Self {
        Self { input, left, checksums, newest: None, records: 0, done: false, buffer: Vec::new() }
    }

    /// How far before the end of the object the next record begins.
    pub fn left(&self) -> u64 {
        self.left
    }

    fn fill(&mut self, bytes: usize) -> Result<(), StreamError> {
        let from = self.buffer.len();
        if self.left < bytes as u64 {
            return Err(FormatError::Malformed { what: WHAT }.into());
        }
        self.buffer.resize(from + bytes, 0);
        self.input.read_exact(&mut self.buffer[from..])?;
        self.left -= bytes as u64;
        Ok(())
    }

    fn read(&mut self) -> Result<Option<SessionRecord>, StreamError> {
        let malformed = FormatError::Malformed { what: WHAT };
        self.buffer.clear();
        if self.left == 0 && self.checksums.is_none() {
            return Ok(None);
        }
        if self.left == END_BYTES as u64 {
            self.fill(END_BYTES)?;
            return self.check_end().map(|()| None);
        }
        self.fill(RECORD_CHECKSUM_BYTES + RECORD_HEADER_BYTES)?;
        let length = self.buffer.last_chunk().map(|length| u32::from_le_bytes(*length));
        self.fill(length.unwrap_or(0) as usize)?;
        let mut cursor = Cursor::new(&self.buffer);
        let checksum = cursor.u32().ok_or(malformed)?;
        if crc32c(&self.buffer[RECORD_CHECKSUM_BYTES..]) != checksum {
            return Err(FormatError::Checksum { what: "record" }.into());
        }
        let record = SessionRecord::take(&mut cursor, self.newest)?;
        if record.kind == RecordKind::Key {
            return Err(FormatError::Record { position: record.position }.into());
        }
        if let Some(checksums) = &mut self.checksums {
            checksums.extend_from_slice(&checksum.to_le_bytes());
        }
        self.newest = Some(record.position);
        self.records += 1;
        Ok(Some(record))
    }

    fn check_end(&mut self) -> Result<(), StreamError> {
        let Some(checksums) = &mut self.checksums else { return Ok(()) };
        let (end, checksum) = self.buffer.split_at(END_BYTES - 4);
        checksums.extend_from_slice(end);
        if crc32c(checksums).to_le_bytes() != checksum {
            return Err(FormatError::Checksum { what: WHAT }.into());
        }
        if end != end_fields(self.records) {
            return Err(FormatError::Malformed { what: WHAT }.into());
        }
        Ok(())
    }
}

impl<R: Read> Iterator for PacketsStream<R> {
    type Item = Result<SessionRecord, StreamError>;

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
    use super::*;
    use crate::{PacketsWriter, sample};

    fn read(whole: &[u8]) -> Result<Vec<SessionRecord>, StreamError> {
        PacketsStream::open(whole, whole.len() as u64)?.1.collect()
    }

    #[test]
    fn a_stream_reads_what_the_reader_reads() {
        let whole = sample::packets_object();
        let expected: Vec<_> = PacketsReader::open(&whole).unwrap().map(Result::unwrap).collect();
        assert_eq!(read(&whole).unwrap(), expected);
        let (header, mut stream) = PacketsStream::open(&whole[..], whole.len() as u64).unwrap();
        assert_eq!(header, sample::packets_header());
        stream.next();
        let left = stream.left();
        let rest = PacketsStream::resume(&whole[whole.len() - left as usize..], left);
        assert_eq!(rest.map(Result::unwrap).collect::<Vec<_>>(), expected[1..]);
    }

    #[test]
    fn one_changed_or_missing_byte_is_an_error() {
        let whole = sample::packets_object();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "byte {at}");
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn pieces_that_are_taken_as_they_are_written_are_the_object() {
        let mut writer = PacketsWriter::new(&sample::packets_header());
        let mut pieces = Vec::new();
        for record in sample::records(1) {
            writer.push(&record);
            pieces.extend(writer.take_written());
        }
        pieces.extend(writer.finish());
        assert_eq!(pieces, sample::packets_object());
    }
}
