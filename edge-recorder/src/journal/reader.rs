//! Reads synced records back, in order, across files, while the writer goes on.
//!
//! - Never returns a record that is not synced, nor one twice.
//! - Holes (damage) are logged and passed over: what follows must still be delivered.
//! - Files behind the reader may be recycled at any time; it only ever moves forward.

use std::io;
use std::sync::Arc;

use model::Position;

use super::file::{Entry, FileReader, Next};
use super::handle::{Shared, Tail, lock};
use super::record::Record;

/// A place in the journal that moves forward.
pub struct Reader {
    shared: Arc<Shared>,
    after: Position,
    current: Option<(u64, FileReader)>,
    tolerant: bool,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, after: Position) -> Self {
        Self { shared, after, current: None, tolerant: false }
    }

    /// Everything up to here was returned, or is not there.
    pub fn after(&self) -> Position {
        self.after
    }

    /// Passes over what the disk cannot read, from now on.
    pub fn tolerate_read_errors(&mut self) {
        self.tolerant = true;
        self.current = None;
    }

    /// Goes to the newest synced record when no record between has an event; true when it did,
    /// or is there already. What calls bring in is mostly packets, and this spares reading them
    /// twice.
    pub fn skip_to_newest(&mut self) -> bool {
        // In this order: the state may be newer than the tail, but never older.
        let tail = *lock(&self.shared.tail);
        let newest_event = lock(&self.shared.state).head.newest_event;
        if newest_event > self.after {
            return false;
        }
        let Some(Tail { generation, offset, position }) = tail else { return true };
        if position > self.after {
            let entry = lock(&self.shared.catalog).used.get(&generation).cloned();
            self.current = entry.map(|entry| {
                let mut reader = self.file_reader(generation, entry);
                reader.go_on_at(offset, position);
                (generation, reader)
            });
            self.after = position;
        }
        true
    }

    /// The next record with a position up to `through`, which must be synced. `None`: no more.
    pub fn next(&mut self, through: Position) -> io::Result<Option<Record>> {
        while self.after < through {
            let after = self.after;
            let Some((end, reader)) = self.file_of_next()? else {
                return Ok(None);
            };
            let end = end.map_or(through, |end| through.min(end));
            match reader.next(end)? {
                // Before where we began: the file is read from its start.
                Next::Record(record) if record.position <= after => {}
                Next::Record(record) => {
                    self.after = record.position;
                    return Ok(Some(record));
                }
                Next::Hole { from, to } => {
                    if reader.last() >= after {
                        tracing::error!(from, to, after = %after, "journal records damaged");
                    }
                }
                Next::End => self.after = after.max(end),
            }
        }
        Ok(None)
    }

    /// The file with the record after `self.after`, or the first one beyond, and where it ends.
    fn file_of_next(&mut self) -> io::Result<Option<(Option<Position>, &mut FileReader)>> {
        let wanted = self.after.next();
        let found = {
            let catalog = lock(&self.shared.catalog);
            catalog.used.iter().find_map(|(generation, entry)| {
                let end = catalog.end(*generation);
                let holds = end.is_none_or(|end| end >= wanted && end >= entry.first);
                holds.then(|| (*generation, end, entry.clone()))
            })
        };
        let Some((generation, end, entry)) = found else { return Ok(None) };
        if self.current.as_ref().is_none_or(|(held, _)| *held != generation) {
            self.current = Some((generation, self.file_reader(generation, entry)));
        }
        Ok(self.current.as_mut().map(|(_, reader)| (end, reader)))
    }

    fn file_reader(&self, generation: u64, entry: Entry) -> FileReader {
        let journal = self.shared.id;
        let mut reader = FileReader::new(entry.file, entry.bytes, journal, generation, entry.first);
        if self.tolerant {
            reader.tolerate_read_errors();
        }
        reader
    }
}
