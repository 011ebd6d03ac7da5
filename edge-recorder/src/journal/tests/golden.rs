//! Journals of every version that was ever released open in this one.
//!
//! `tests/golden/journal-1` was written once by `write_the_golden_journal` and is never written
//! again: it stands for the disks of those who upgrade.

use std::path::{Path, PathBuf};

use super::record::{Cut, Kind, SessionBody};
use super::*;

fn golden(version: u16) -> PathBuf {
    let name = format!("tests/golden/journal-{version}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A copy, because opening a journal writes to it.
fn copy_of(version: u16) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden(version)).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn a_journal_of_version_1_opens_with_all_it_held() {
    let copy = copy_of(1);
    let report = verify(copy.path()).unwrap();
    assert!(report.is_good(), "{report:?}");
    assert_eq!(report.files.len(), 2);

    let (journal, recovered) = Journal::open(copy.path(), config()).unwrap();
    assert_eq!(recovered.epoch, 2);
    assert_eq!(recovered.journal_id, report.journal.unwrap());
    assert_eq!(recovered.live.len(), 1);
    let live = &recovered.live[0];
    assert_eq!((live.session, &live.tenant), (tag(1).session, &tag(1).tenant));
    assert_eq!(live.dialog.as_deref(), Some(&b"dialog of session 1"[..]));
    assert_eq!(live.recordings[&tag(1).recording].started_at, at(0).wall());
    assert_eq!(recovered.positions.received.newest_packet, Some(at(900).wall()));
    let head = journal.handle().head();
    assert_eq!(head.open_cut.map(|cut| cut.max_object_bytes), Some(64));
    assert_eq!(head.stored.position, Position(8));
    assert_eq!(head.announced.position, Position(8));

    let records = all(&journal);
    let count = |kind| records.iter().filter(|record| record.kind == kind).count();
    assert_eq!(count(Kind::Packets), 10);
    assert_eq!(count(Kind::Started), 2);
    assert_eq!(count(Kind::Ended), 1);
    let started = records.iter().find(|record| record.kind == Kind::Started).unwrap();
    let body = SessionBody::parse(&started.body).unwrap();
    let event = journal.handle().open_event(started.position, body.event).unwrap();
    assert_eq!(event.body, started_event(&tag(1)));
}

/// With `LINEKEEPER_WRITE_GOLDEN` set it writes the one of a new version.
#[test]
fn there_is_a_golden_journal_of_the_version_that_is_written() {
    let dir = golden(file::VERSION);
    if !dir.exists() && std::env::var_os("LINEKEEPER_WRITE_GOLDEN").is_some() {
        write_the_golden_journal(&dir);
    }
    assert!(dir.join("identity").exists(), "{} is missing", dir.display());
}

/// Once for each version, and never again.
fn write_the_golden_journal(dir: &Path) {
    let (journal, _) = Journal::open(dir, config()).unwrap();
    let handle = journal.handle();
    start(&handle, &tag(1));
    dialog(&handle, &tag(1), b"dialog of session 1");
    start(&handle, &tag(2));
    sync(&journal);
    for number in 0..10 {
        packets(&handle, &tag(1), number * 100, &[number as u8; 3_000]);
        sync(&journal);
    }
    end(&handle, &tag(2));
    let wall = at(500).wall();
    let (first, last) = (Position(1), Position(8));
    let newest_packet = Some(wall);
    handle.append_cut(Cut { first, last, max_object_bytes: 64 }).unwrap();
    handle.append_stored(Stored { through: last, newest_packet, at: wall }).unwrap();
    let told = Announced { events_through: Position(1), stored_through: last, newest_packet };
    handle.append_announced(told).unwrap();
    handle
        .append_cut(Cut { first: Position(9), last: Position(20), max_object_bytes: 64 })
        .unwrap();
    sync(&journal);
    assert!(journal.close(Duration::from_secs(5)));
}
