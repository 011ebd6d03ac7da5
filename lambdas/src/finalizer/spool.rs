//! A packets object on the local disk while a call is built from it: it may be larger than memory.
//!
//! What lies there is sealed like the object itself. The file is removed when it is no longer
//! needed, and is readable by its owner only.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use media::{ReadError, RecordIter, Records};
use model::Position;
use segment::{PacketsHeader, PacketsStream, PacketsWriter, SessionRecord, StreamError};
use tempfile::NamedTempFile;

/// Reading may begin at one record of so many, which is every few seconds of a call.
const INDEX_EVERY: u64 = 64;
const READ_BYTES: usize = 256 * 1024;

/// Writes records, which come in order of position.
pub(crate) struct SpoolWriter {
    file: BufWriter<NamedTempFile>,
    writer: PacketsWriter,
    written: u64,
    records: u64,
    index: Vec<(Position, u64)>,
}

impl SpoolWriter {
    pub fn new(header: &PacketsHeader) -> std::io::Result<Self> {
        Ok(Self {
            file: BufWriter::new(NamedTempFile::new()?),
            writer: PacketsWriter::new(header),
            written: 0,
            records: 0,
            index: Vec::new(),
        })
    }

    /// Adds a record; one that is not after the one before, and a key, are left out.
    pub fn push(&mut self, record: &SessionRecord) -> std::io::Result<()> {
        self.flush()?;
        if self.writer.push(record) {
            if self.records.is_multiple_of(INDEX_EVERY) {
                self.index.push((record.position, self.written));
            }
            self.records += 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let bytes = self.writer.take_written();
        self.written += bytes.len() as u64;
        self.file.write_all(&bytes)
    }

    /// What is written so far, to be read while more is added.
    pub fn so_far(&mut self) -> std::io::Result<SoFar> {
        self.flush()?;
        self.file.flush()?;
        let file = File::open(self.file.get_ref().path())?;
        Ok(SoFar { file, bytes: self.written, index: self.index.clone() })
    }

    pub fn finish(mut self) -> std::io::Result<Spool> {
        self.flush()?;
        let end = self.writer.finish();
        self.written += end.len() as u64;
        self.file.write_all(&end)?;
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        Ok(Spool { file, bytes: self.written, records: self.records, index: self.index })
    }
}

/// A whole packets object.
pub(crate) struct Spool {
    file: NamedTempFile,
    pub bytes: u64,
    pub records: u64,
    index: Vec<(Position, u64)>,
}

impl Spool {
    /// Takes over a file that holds a packets object; an error unless every checksum in it is
    /// right.
    pub fn verified(file: NamedTempFile) -> Result<Self, StreamError> {
        let bytes = file.as_file().metadata()?.len();
        let mut spool = Self { file, bytes, records: 0, index: Vec::new() };
        let (_, mut stream) = PacketsStream::open(spool.open()?, bytes)?;
        let mut at = bytes - stream.left();
        while let Some(record) = stream.next() {
            let record = record?;
            if spool.records.is_multiple_of(INDEX_EVERY) {
                spool.index.push((record.position, at));
            }
            spool.records += 1;
            at = bytes - stream.left();
        }
        Ok(spool)
    }

    pub fn path(&self) -> &Path {
        self.file.path()
    }

    fn open(&self) -> std::io::Result<BufReader<File>> {
        Ok(BufReader::with_capacity(READ_BYTES, File::open(self.path())?))
    }

    pub fn header(&self) -> Result<PacketsHeader, StreamError> {
        Ok(PacketsStream::open(self.open()?, self.bytes)?.0)
    }

    /// All records.
    pub fn stream(&self) -> Result<PacketsStream<impl Read + Send + use<>>, StreamError> {
        self.stream_from(Position(0))
    }

    fn stream_from(
        &self,
        position: Position,
    ) -> Result<PacketsStream<BufReader<File>>, StreamError> {
        let index = self.index.partition_point(|(first, _)| *first <= position);
        let Some((_, at)) = self.index.get(index.saturating_sub(1)) else {
            return Ok(PacketsStream::open(self.open()?, self.bytes)?.1);
        };
        let mut file = self.open()?;
        file.seek(SeekFrom::Start(*at))?;
        Ok(PacketsStream::resume(file, self.bytes - at))
    }
}

/// A packets object that several read.
pub(crate) struct Shared(pub Arc<Spool>);

impl Records for Shared {
    fn from(&self, position: Position) -> RecordIter<'_> {
        match self.0.stream_from(position) {
            Ok(stream) => records_from(stream, position),
            Err(error) => Box::new(std::iter::once(Err(ReadError::Records(Box::new(error))))),
        }
    }
}

/// The beginning of a packets object that is still being written.
pub(crate) struct SoFar {
    file: File,
    bytes: u64,
    index: Vec<(Position, u64)>,
}

impl Records for SoFar {
    fn from(&self, position: Position) -> RecordIter<'_> {
        let failed = |error: std::io::Error| ReadError::Records(Box::new(error));
        let index = self.index.partition_point(|(first, _)| *first <= position);
        let Some((_, at)) = self.index.get(index.saturating_sub(1)) else {
            return Box::new(std::iter::empty());
        };
        let opened = self.file.try_clone().and_then(|mut file| {
            file.seek(SeekFrom::Start(*at))?;
            Ok(BufReader::with_capacity(READ_BYTES, file))
        });
        match opened {
            Ok(file) => records_from(PacketsStream::resume(file, self.bytes - at), position),
            Err(error) => Box::new(std::iter::once(Err(failed(error)))),
        }
    }
}

fn records_from<'a>(
    stream: PacketsStream<impl Read + Send + 'a>,
    position: Position,
) -> RecordIter<'a> {
    let is_before = move |record: &Result<SessionRecord, StreamError>| {
        record.as_ref().is_ok_and(|record| record.position < position)
    };
    Box::new(
        stream
            .skip_while(is_before)
            .map(|record| record.map_err(|error| ReadError::Records(Box::new(error)))),
    )
}
