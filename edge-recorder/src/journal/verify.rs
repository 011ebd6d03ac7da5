//! Reads a journal again from its first to its last byte, also while it is being written.
//!
//! - Takes no lock and writes nothing.
//! - The tail of the newest file grows while it is read: what is not complete there is no fault.
//! - A file that is recycled while it is read is left out.

use std::path::Path;

use model::{JournalId, Position};

use super::disk::{Disk, RealDisk};
use super::file::{FileHeader, FoundHeader};
use super::recovery::{Directory, directory, survey};
use super::{Damage, JournalError};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Absent: there is no journal here.
    pub journal: Option<JournalId>,
    /// In order of generation.
    pub files: Vec<FileReport>,
    /// Every hole in what had been synced.
    pub damage: Vec<Damage>,
}

impl Report {
    pub fn is_good(&self) -> bool {
        self.damage.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    pub name: String,
    pub generation: u64,
    pub first: Position,
    /// The last record that counts; before `first`: none.
    pub last: Position,
    pub records: u64,
}

/// Reads the journal in `dir`.
pub fn verify(dir: &Path) -> Result<Report, JournalError> {
    let disk = RealDisk::existing(dir)
        .map_err(|source| JournalError::Disk { what: "read the journal directory", source })?;
    verify_on(&disk)
}

/// Reads of a growing file that may come out differently the next time.
const ATTEMPTS: usize = 3;

/// Reads the journal on any disk.
pub fn verify_on(disk: &dyn Disk) -> Result<Report, JournalError> {
    let mut found = directory(disk)?;
    // A header may have been half written when it was read.
    for _ in 1..ATTEMPTS {
        if found.damage.is_empty() {
            break;
        }
        found = directory(disk)?;
    }
    let Directory { id, catalog, is_new, damage, .. } = found;
    if is_new {
        return Ok(Report { journal: None, files: Vec::new(), damage: Vec::new() });
    }
    let read = |source| JournalError::Disk { what: "read the journal", source };
    let mut report = Report { journal: Some(id), files: Vec::new(), damage };
    for (generation, entry) in &catalog.used {
        let mut found = survey(id, &catalog, *generation).map_err(read)?;
        // A record may have been half written when its block was read.
        for _ in 1..ATTEMPTS {
            if found.holes.is_empty() {
                break;
            }
            found = survey(id, &catalog, *generation).map_err(read)?;
        }
        let still = FileHeader::read(&*entry.file).unwrap_or(FoundHeader::None);
        let is_same = matches!(still, FoundHeader::Good(now) if now.generation == *generation);
        if !is_same {
            continue;
        }
        report.files.push(FileReport {
            name: entry.name.clone(),
            generation: *generation,
            first: entry.first,
            last: found.end,
            records: found.records,
        });
        report.damage.extend(found.holes);
    }
    Ok(report)
}
