//! Tests of the promises in the head of the journal.

mod crash;
mod files;
mod golden;
mod model;
mod recover;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ::model::{EdgeId, EventBody, Position, SessionId, TenantId, WallTime};

use super::record::{Announced, Record, Stored};
use super::torn_disk::TornDisk;
use super::*;

pub const FILE_BYTES: u64 = 32 * 1024;

/// Small files, so that a few records fill them, and an interval so long that only a test that
/// asks for a commit gets one.
pub fn config() -> JournalConfig {
    JournalConfig {
        commit: Duration::from_secs(3600),
        buffer_bytes: 1024 * 1024,
        file_bytes: FILE_BYTES,
        min_free_bytes: 1,
        ..JournalConfig::new(EdgeId::new("edge-1").unwrap())
    }
}

pub fn open(disk: &TornDisk) -> (Journal, Recovered) {
    Journal::open_on(Arc::new(disk.clone()), config()).unwrap()
}

pub fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// Commits what was appended.
pub fn sync(journal: &Journal) {
    let handle = journal.handle();
    wait(handle.sync(handle.positions().received.position)).unwrap();
}

/// Abandons a journal whose disk has crashed.
pub fn abandon(journal: Journal) {
    journal.close(Duration::ZERO);
}

pub fn tag(number: u8) -> SessionTag {
    let session = SessionId::at(1_700_000_000_000, [number; 10]);
    SessionTag { session, recording: session.first_recording(), tenant: TenantId::default() }
}

pub fn at(ms: u64) -> Moment {
    Moment { wall_ns: (1_700_000_000_000 + ms) * 1_000_000, boot_ns: ms * 1_000_000 }
}

pub fn started_event(tag: &SessionTag) -> EventBody {
    EventBody::Started {
        tenant: tag.tenant.clone(),
        recording: tag.recording,
        session: tag.session,
        call_ids: vec!["call-1@sbc".to_owned()],
        flags: Default::default(),
    }
}

pub fn start(handle: &JournalHandle, tag: &SessionTag) -> Position {
    let event = Some(started_event(tag));
    let record = AppendRecord::Started { body: b"started".to_vec(), event };
    handle.append(tag, at(0), record).unwrap()
}

pub fn dialog(handle: &JournalHandle, tag: &SessionTag, plain: &[u8]) -> Position {
    handle.append(tag, at(1), AppendRecord::Dialog { plain: plain.to_vec() }).unwrap()
}

pub fn end(handle: &JournalHandle, tag: &SessionTag) -> Position {
    let record = AppendRecord::Ended { body: b"ended".to_vec(), event: None, session_over: true };
    handle.append(tag, at(9_000), record).unwrap()
}

pub fn packets(handle: &JournalHandle, tag: &SessionTag, ms: u64, bytes: &[u8]) -> Position {
    handle.append_sealed(tag, at(ms), SealedKind::Packets, None, |_| bytes.to_vec()).unwrap()
}

/// Every record that counts, from the oldest file on.
pub fn all(journal: &Journal) -> Vec<Record> {
    let handle = journal.handle();
    let mut reader = handle.reader(Position(0));
    let through = handle.positions().synced.position;
    std::iter::from_fn(|| reader.next(through).unwrap()).collect()
}

/// Says that everything synced is delivered, as `upload` and `announce` do.
pub fn deliver(journal: &Journal) {
    let handle = journal.handle();
    let through = handle.positions().synced.position;
    let at = WallTime::from_unix_ms(1_700_000_000_000);
    handle.append_stored(Stored { through, newest_packet: Some(at), at }).unwrap();
    sync(journal);
    let events_through = handle.positions().synced.position;
    let told = Announced { events_through, stored_through: through, newest_packet: Some(at) };
    handle.append_announced(told).unwrap();
    sync(journal);
}
