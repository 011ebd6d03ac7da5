//! [`EventQueue`] in SQLite: named queues in one table.
//!
//! Due times are wall-clock, because they must survive a restart. When somebody sets the clock
//! back, messages seem due in the far future; nothing may lie longer than [`HORIZON`], so what
//! claims to is delivered now. Delivering early is allowed, being forgotten is not.

use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Transaction, params};
use storage_ports::{Delivery, EventQueue, Message, QueueDepth, Receipt, StorageError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::{in_ms, now_ms};
use crate::database::{Database, WorkError};

const WHAT: &str = "queue";

/// The longest delay of a message, as in SQS.
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);
/// The most messages of one delivery, as in SQS.
const MAX_BATCH: usize = 10;
/// The longest wait of one receive, as in SQS.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Later than any due time that this file writes.
const HORIZON: Duration = Duration::from_secs(60 * 60);
/// A receiver looks this often for messages of other processes; those of its own wake it.
const POLL: Duration = Duration::from_secs(1);

/// What a queue allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// How long a delivered message stays hidden from others. At most an hour.
    pub visibility: Duration,
    /// Delivered more often than this, a message is dead.
    pub max_receives: u32,
}

impl Default for QueueOptions {
    /// 30 s: handling an event takes milliseconds, so whoever still has it then has died.
    fn default() -> Self {
        Self { visibility: Duration::from_secs(30), max_receives: 1_000 }
    }
}

impl QueueOptions {
    /// 15 min: the finaliser may encode a long call for minutes.
    pub fn long_work() -> Self {
        Self { visibility: Duration::from_secs(15 * 60), ..Self::default() }
    }
}

/// A message that was given up, and why.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub body: String,
    pub attempts: u32,
    pub reason: String,
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body names callers.
        f.debug_struct("DeadLetter")
            .field("attempts", &self.attempts)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

pub struct SqliteQueue {
    database: Arc<Database>,
    name: Arc<str>,
    options: QueueOptions,
    /// Tells this process's receivers that something may have become due.
    changed: Arc<Notify>,
}

impl SqliteQueue {
    pub(crate) fn new(
        database: Arc<Database>,
        name: &str,
        options: QueueOptions,
        changed: Arc<Notify>,
    ) -> Self {
        let visibility = options.visibility.min(HORIZON);
        Self {
            database,
            name: name.into(),
            options: QueueOptions { visibility, ..options },
            changed,
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The newest dead letters of this queue, for people to look at.
    pub async fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, StorageError> {
        let name = Arc::clone(&self.name);
        self.database
            .read(WHAT, move |transaction| {
                let mut statement = transaction.prepare_cached(
                    "SELECT body, attempts, reason FROM dead_letters WHERE queue = ?1
                     ORDER BY id DESC LIMIT ?2",
                )?;
                let letters = statement.query_map(params![&*name, limit], |row| {
                    Ok(DeadLetter { body: row.get(0)?, attempts: row.get(1)?, reason: row.get(2)? })
                })?;
                Ok(letters.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// When the next message is due; `None` when there is none at all.
    async fn next_due_ms(&self) -> Result<Option<i64>, StorageError> {
        let name = Arc::clone(&self.name);
        self.database
            .read(WHAT, move |transaction| {
                let mut statement = transaction.prepare_cached(
                    "SELECT min(due_ms), max(due_ms) FROM queue_messages WHERE queue = ?1",
                )?;
                let (first, last): (Option<i64>, Option<i64>) =
                    statement.query_row([&*name], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let now = now_ms();
                let beyond = last.filter(|last| *last > now.saturating_add(in_ms(HORIZON)));
                Ok(if beyond.is_some() { Some(now) } else { first })
            })
            .await
    }

    async fn claim(&self, max: usize) -> Result<Vec<Delivery>, StorageError> {
        let name = Arc::clone(&self.name);
        let options = self.options;
        self.database
            .write(WHAT, move |transaction| {
                let now = now_ms();
                let mut due = due(transaction, &name, i64::MIN, now, max)?;
                if due.is_empty() {
                    let horizon = now.saturating_add(in_ms(HORIZON));
                    due = self::due(transaction, &name, horizon, i64::MAX, max)?;
                }
                let mut deliveries = Vec::with_capacity(due.len());
                for (id, body, attempts) in due {
                    if attempts >= options.max_receives {
                        let reason = format!("delivered {attempts} times and never acknowledged");
                        bury(transaction, id, &reason)?;
                        continue;
                    }
                    let attempt = attempts + 1;
                    transaction
                        .prepare_cached(
                            "UPDATE queue_messages SET due_ms = ?2, attempts = ?3, in_hand = 1
                             WHERE id = ?1",
                        )?
                        .execute(params![id, now + in_ms(options.visibility), attempt])?;
                    let receipt = Receipt(format!("{id}.{attempt}"));
                    deliveries.push(Delivery { receipt, body, attempt });
                }
                Ok(deliveries)
            })
            .await
    }
}

/// Messages due after `after` up to `until`, the longest due first.
fn due(
    transaction: &Transaction<'_>,
    queue: &str,
    after: i64,
    until: i64,
    max: usize,
) -> Result<Vec<(i64, String, u32)>, WorkError> {
    let mut statement = transaction.prepare_cached(
        "SELECT id, body, attempts FROM queue_messages
         WHERE queue = ?1 AND due_ms > ?2 AND due_ms <= ?3 ORDER BY due_ms, id LIMIT ?4",
    )?;
    let rows = statement.query_map(params![queue, after, until, max as i64], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Moves a message to the dead letters; nothing happens when it is gone.
fn bury(transaction: &Transaction<'_>, id: i64, reason: &str) -> Result<(), WorkError> {
    transaction
        .prepare_cached(
            "INSERT INTO dead_letters (queue, body, first_due_ms, died_ms, attempts, reason)
             SELECT queue, body, first_due_ms, ?2, attempts, ?3 FROM queue_messages WHERE id = ?1",
        )?
        .execute(params![id, now_ms(), reason])?;
    transaction.prepare_cached("DELETE FROM queue_messages WHERE id = ?1")?.execute([id])?;
    Ok(())
}

/// Reads a receipt back; somebody else's receipt names nothing here.
fn parse(receipt: &Receipt) -> Result<(i64, u32), StorageError> {
    let parsed = receipt
        .0
        .split_once('.')
        .and_then(|(id, attempt)| Some((id.parse().ok()?, attempt.parse().ok()?)));
    parsed.ok_or_else(|| StorageError::refused(WHAT, "this is not a receipt of this queue"))
}

#[async_trait]
impl EventQueue for SqliteQueue {
    async fn send(&self, messages: &[Message]) -> Result<(), StorageError> {
        let name = Arc::clone(&self.name);
        let messages = messages.to_vec();
        self.database
            .write(WHAT, move |transaction| {
                let now = now_ms();
                let mut insert = transaction.prepare_cached(
                    "INSERT INTO queue_messages
                     (queue, body, first_due_ms, due_ms, attempts, in_hand)
                     VALUES (?1, ?2, ?3, ?3, 0, 0)",
                )?;
                for message in messages {
                    let due = now + in_ms(message.delay.min(MAX_DELAY));
                    insert.execute(params![&*name, message.body, due])?;
                }
                Ok(())
            })
            .await?;
        self.changed.notify_waiters();
        Ok(())
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, StorageError> {
        let deadline = Instant::now() + wait.min(MAX_WAIT);
        if max == 0 {
            return Ok(Vec::new());
        }
        loop {
            // Enlisted before looking, or a message sent in between would wake nobody.
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let next_due = self.next_due_ms().await?;
            let now = now_ms();
            if next_due.is_some_and(|due| due <= now) {
                let deliveries = self.claim(max.min(MAX_BATCH)).await?;
                if !deliveries.is_empty() {
                    return Ok(deliveries);
                }
                // Another receiver was faster, or what was due is a dead letter now.
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            let until_due = next_due
                .map_or(POLL, |due| Duration::from_millis(due.saturating_sub(now).unsigned_abs()));
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(left.min(until_due).min(POLL)) => {}
            }
        }
    }

    async fn acknowledge(&self, receipt: &Receipt) -> Result<(), StorageError> {
        let (id, _) = parse(receipt)?;
        let name = Arc::clone(&self.name);
        self.database
            .write(WHAT, move |transaction| {
                // Whichever delivery it was: the work is done.
                transaction
                    .prepare_cached("DELETE FROM queue_messages WHERE id = ?1 AND queue = ?2")?
                    .execute(params![id, &*name])?;
                Ok(())
            })
            .await
    }

    async fn retry(&self, receipt: &Receipt, delay: Duration) -> Result<(), StorageError> {
        let (id, attempt) = parse(receipt)?;
        let name = Arc::clone(&self.name);
        self.database
            .write(WHAT, move |transaction| {
                // Only while it is this delivery that has it: another one may be at work by now.
                transaction
                    .prepare_cached(
                        "UPDATE queue_messages SET due_ms = ?3, in_hand = 0
                         WHERE id = ?1 AND attempts = ?2 AND queue = ?4",
                    )?
                    .execute(params![
                        id,
                        attempt,
                        now_ms() + in_ms(delay.min(MAX_DELAY)),
                        &*name
                    ])?;
                Ok(())
            })
            .await?;
        self.changed.notify_waiters();
        Ok(())
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), StorageError> {
        let (id, _) = parse(&delivery.receipt)?;
        let name = Arc::clone(&self.name);
        let reason = reason.to_owned();
        self.database
            .write(WHAT, move |transaction| {
                let ours: Option<i64> = transaction
                    .prepare_cached("SELECT id FROM queue_messages WHERE id = ?1 AND queue = ?2")?
                    .query_row(params![id, &*name], |row| row.get(0))
                    .optional()?;
                ours.map_or(Ok(()), |id| bury(transaction, id, &reason))
            })
            .await
    }

    async fn depth(&self) -> Result<QueueDepth, StorageError> {
        let name = Arc::clone(&self.name);
        self.database
            .read(WHAT, move |transaction| {
                let now = now_ms();
                let (waiting, oldest): (i64, Option<i64>) = transaction
                    .prepare_cached(
                        "SELECT count(*), min(first_due_ms) FROM queue_messages
                         WHERE queue = ?1 AND (in_hand = 0 OR due_ms <= ?2)",
                    )?
                    .query_row(params![&*name, now], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let dead_letters: i64 = transaction
                    .prepare_cached("SELECT count(*) FROM dead_letters WHERE queue = ?1")?
                    .query_row([&*name], |row| row.get(0))?;
                let oldest_ms = oldest.map_or(0, |due| u64::try_from(now - due).unwrap_or(0));
                Ok(QueueDepth {
                    waiting: waiting.unsigned_abs(),
                    oldest: Some(Duration::from_millis(oldest_ms)),
                    dead_letters: dead_letters.unsigned_abs(),
                })
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Embedded;

    #[tokio::test]
    async fn a_clock_that_was_set_back_does_not_bury_messages() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Embedded::open(dir.path()).unwrap().events();
        queue.send(&[Message::now("x".to_owned())]).await.unwrap();
        let later = now_ms() + 10 * in_ms(HORIZON);
        queue
            .database
            .write(WHAT, move |transaction| {
                Ok(transaction.execute("UPDATE queue_messages SET due_ms = ?1", [later])?)
            })
            .await
            .unwrap();
        let got = queue.receive(1, Duration::ZERO).await.unwrap();
        assert_eq!(got.len(), 1);
        assert_eq!(queue.receive(1, Duration::ZERO).await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_waiting_receiver_wakes_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let engines = Embedded::open(dir.path()).unwrap();
        let (sender, receiver) = (engines.events(), engines.events());
        let waiting = tokio::spawn(async move { receiver.receive(1, MAX_WAIT).await });
        tokio::time::sleep(Duration::from_millis(200)).await;
        let sent = Instant::now();
        sender.send(&[Message::now("x".to_owned())]).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().len(), 1);
        assert!(sent.elapsed() < POLL / 2, "{:?}", sent.elapsed());
    }

    #[tokio::test]
    async fn queues_of_one_file_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        let engines = Embedded::open(dir.path()).unwrap();
        engines.events().send(&[Message::now("x".to_owned())]).await.unwrap();
        assert_eq!(engines.finalize().receive(1, Duration::ZERO).await.unwrap(), []);
        let got = engines.events().receive(1, Duration::ZERO).await.unwrap();
        engines.finalize().acknowledge(&got[0].receipt).await.unwrap();
        engines.finalize().dead_letter(&got[0], "not yours").await.unwrap();
        engines.events().retry(&got[0].receipt, Duration::ZERO).await.unwrap();
        assert_eq!(engines.events().depth().await.unwrap().waiting, 1);
    }

    #[tokio::test]
    async fn a_message_survives_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let first = Embedded::open(dir.path()).unwrap();
        first.events().send(&[Message::now("x".to_owned())]).await.unwrap();
        drop(first);
        let second = Embedded::open(dir.path()).unwrap();
        assert_eq!(second.events().receive(1, Duration::ZERO).await.unwrap()[0].body, "x");
    }
}
