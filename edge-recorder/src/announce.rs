//! Tells the queue what the journal holds: the calls as they begin and end, and how much of the
//! journal is in the object store.
//!
//! Constraints, each a test:
//!
//! - An event leaves as soon as its record is synced, never before.
//! - Events leave in order of position, at most ten at a time, and are tried until the queue takes
//!   them. After a crash those of which this is not journaled leave again; the index takes an
//!   event twice without harm.
//! - A beat leaves every 5 s, idle too: at once, and again as a dead-man's message that the queue
//!   holds back for 25 s. A beat that cannot be sent is dropped, because the next one says more.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use model::{EventBody, Position, RecordingEvent, WallTime};
use storage_ports::{EventQueue, Message};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::backoff::Backoff;
use crate::journal::record::{self, Announced, Kind, Record, SessionBody, Stored};
use crate::journal::{Deliver, JournalHandle, Moment, Reader};

#[derive(Clone, Debug)]
pub struct AnnounceConfig {
    /// Time between beats.
    pub beat: Duration,
    /// How long the queue holds a dead-man's message back: five beats may be lost before an edge
    /// is taken for dead.
    pub dead_man: Duration,
}

impl Default for AnnounceConfig {
    fn default() -> Self {
        Self { beat: Duration::from_secs(5), dead_man: Duration::from_secs(25) }
    }
}

/// As many messages as SQS takes at once.
const MAX_BATCH: usize = 10;
/// And as many bytes, with room for its own: SQS takes 256 KiB.
const MAX_BATCH_BYTES: usize = 200 * 1024;
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(5);
const READ_ATTEMPTS: u32 = 5;

/// Announces until told to stop, or to finish and everything is announced.
pub async fn run(
    journal: JournalHandle,
    queue: Arc<dyn EventQueue>,
    config: AnnounceConfig,
    deliver: watch::Receiver<Deliver>,
) {
    let mut stop = deliver.clone();
    tokio::select! {
        // The sender is gone: so is the recorder.
        _ = stop.wait_for(|told| *told == Deliver::Stop) => {}
        () = events(&journal, &*queue, deliver) => {}
        () = beats(&journal, &*queue, &config) => {}
    }
}

async fn events(
    journal: &JournalHandle,
    queue: &dyn EventQueue,
    mut deliver: watch::Receiver<Deliver>,
) {
    let mut synced = journal.watch_synced();
    let head = journal.head();
    let mut reader = journal.reader(head.events_through);
    let mut told = Announced {
        events_through: head.events_through,
        stored_through: head.announced.position,
        newest_packet: head.announced.newest_packet,
    };
    loop {
        let through = synced.borrow_and_update().position;
        if !reader.skip_to_newest() {
            let batch;
            (reader, batch) = next_batch(journal, reader, told.events_through, through).await;
            // An event that cannot be opened is passed too, or its file would be kept for ever.
            let passed = journal.head().newest_event <= batch.last;
            if !batch.messages.is_empty() || passed {
                send(queue, &batch.messages).await;
                told = batch.then(told);
                if let Err(error) = journal.append_announced(told) {
                    // It will be announced again after a restart, which harms nobody.
                    tracing::warn!(%error, "announcement not journaled");
                }
                continue;
            }
        }
        if *deliver.borrow() == Deliver::Finish && is_finished(journal) {
            return;
        }
        tokio::select! {
            changed = synced.changed() => if changed.is_err() { return },
            changed = deliver.changed() => if changed.is_err() { return },
        }
    }
}

/// Everything that happened is stored and announced.
fn is_finished(journal: &JournalHandle) -> bool {
    let head = journal.head();
    head.newest_of_session <= head.stored.position && head.newest_event <= head.events_through
}

/// Events to send together, and what will have been told once they are accepted.
#[derive(Default)]
struct Batch {
    messages: Vec<Message>,
    bytes: usize,
    /// Every event up to here is among them, or was told before.
    last: Position,
    stored: Option<Stored>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.messages.len() >= MAX_BATCH || self.bytes >= MAX_BATCH_BYTES
    }

    fn push(&mut self, event: &RecordingEvent) {
        let body = event.to_json();
        self.bytes += body.len();
        self.messages.push(Message::now(body));
    }

    fn then(&self, told: Announced) -> Announced {
        let stored_through = self.stored.map_or(Position(0), |stored| stored.through);
        let newest_packet = self.stored.and_then(|stored| stored.newest_packet);
        Announced {
            events_through: told.events_through.max(self.last),
            stored_through: told.stored_through.max(stored_through),
            newest_packet: told.newest_packet.max(newest_packet),
        }
    }
}

/// Reads on to the next events. After an error it begins again behind those that are told.
async fn next_batch(
    journal: &JournalHandle,
    mut reader: Reader,
    told: Position,
    through: Position,
) -> (Reader, Batch) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let journal_here = journal.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let batch = read_batch(&journal_here, &mut reader, through);
            batch.map(|batch| (reader, batch))
        });
        let error = match reading.await {
            Ok(Ok(read)) => return read,
            Ok(Err(error)) => error,
            Err(error) => io::Error::other(error),
        };
        let wait = backoff.wait();
        let retry_in_ms = wait.as_millis() as u64;
        tracing::error!(after = %told, retry_in_ms, %error, "journal not read, will retry");
        tokio::time::sleep(wait).await;
        reader = journal.reader(told);
        if attempts >= READ_ATTEMPTS {
            reader.tolerate_read_errors();
        }
    }
}

fn read_batch(
    journal: &JournalHandle,
    reader: &mut Reader,
    through: Position,
) -> io::Result<Batch> {
    let mut batch = Batch::default();
    while !batch.is_full() {
        let Some(record) = reader.next(through)? else { break };
        if record.kind == Kind::Stored {
            let Some(stored) = record::from_body::<Stored>(&record.body) else { continue };
            let body = EventBody::Stored { through: stored.through };
            batch.push(&journal.event(record.position, stored.at, body));
            batch.stored = Some(stored);
        } else if let Some(event) = event_of(journal, &record) {
            batch.push(&event);
        }
    }
    batch.last = reader.after();
    Ok(batch)
}

/// The event that a record carries.
fn event_of(journal: &JournalHandle, record: &Record) -> Option<RecordingEvent> {
    let sealed = match record.kind {
        Kind::Event => record.body.as_slice(),
        kind if kind.is_of_session() => SessionBody::parse(&record.body)?.event,
        _ => return None,
    };
    if sealed.is_empty() {
        return None;
    }
    let event = journal.open_event(record.position, sealed);
    if event.is_none() {
        // Only with another local.key than the one it was written under.
        tracing::error!(position = %record.position, "event cannot be opened and is not announced");
    }
    event
}

/// Sends, for as long as it takes.
async fn send(queue: &dyn EventQueue, messages: &[Message]) {
    if messages.is_empty() {
        return;
    }
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_LONGEST);
    while let Err(error) = queue.send(messages).await {
        let wait = backoff.wait();
        let retry_in_ms = wait.as_millis() as u64;
        if error.is_retryable() {
            tracing::warn!(retry_in_ms, %error, "events not announced, will retry");
        } else {
            tracing::error!(retry_in_ms, %error, "events refused, will retry");
        }
        tokio::time::sleep(wait).await;
    }
}

async fn beats(journal: &JournalHandle, queue: &dyn EventQueue, config: &AnnounceConfig) {
    let mut interval = tokio::time::interval(config.beat);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seq = 0;
    loop {
        interval.tick().await;
        seq += 1;
        let messages = beat(journal, config, seq, Moment::now().wall());
        // A beat that takes longer than a beat is stale.
        match tokio::time::timeout(config.beat, queue.send(&messages)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(seq, %error, "beat not sent"),
            Err(_) => tracing::warn!(seq, "beat not sent in time"),
        }
    }
}

/// One beat: the one that is delivered at once and its delayed copy.
fn beat(journal: &JournalHandle, config: &AnnounceConfig, seq: u64, at: WallTime) -> [Message; 2] {
    let positions = journal.positions();
    let live: Vec<_> = journal.live_recordings().into_iter().collect();
    let stored_through = positions.stored.position;
    let event = |dead_man| {
        let body = EventBody::Beat { seq, stored_through, live: live.clone(), dead_man };
        journal.event(positions.synced.position, at, body).to_json()
    };
    [Message::now(event(false)), Message { body: event(true), delay: config.dead_man }]
}

#[cfg(test)]
mod tests;
