//! Queues: at least once, in any order, with delay, retry and a dead-letter queue.

use std::time::Duration;

use async_trait::async_trait;

use crate::StorageError;

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub body: String,
    /// Not delivered before this has passed. At most 15 minutes (SQS).
    pub delay: Duration,
}

impl Message {
    pub fn now(body: String) -> Self {
        Self { body, delay: Duration::ZERO }
    }
}

/// Names one delivery of one message. A later delivery of the same message has another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Receipt(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub receipt: Receipt,
    pub body: String,
    /// 1 on the first delivery.
    pub attempt: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// In nobody's hands: never delivered or given back, delayed ones included.
    pub waiting: u64,
    /// How long the oldest of them could have been delivered already: the lag of the readers.
    /// Zero while all are delayed. Giving a message back does not make it younger. `None` when
    /// something waits and the engine cannot say for how long (SQS tells that to its alarms only).
    pub oldest: Option<Duration>,
    pub dead_letters: u64,
}

/// One named queue.
///
/// Promises, each a test in [`crate::contract`]:
///
/// - A message whose `send` succeeded is delivered until somebody acknowledges it.
/// - A delivered message is hidden from others for the queue's visibility time, then comes back.
/// - A message delivered as often as the queue allows (1,000 unless told otherwise) moves to the
///   dead-letter queue and is kept there.
/// - Order is not promised, nor that a message comes once only.
#[async_trait]
pub trait EventQueue: Send + Sync {
    /// Sends all of `messages`; on an error any part of them may have been sent.
    async fn send(&self, messages: &[Message]) -> Result<(), StorageError>;

    /// Up to `max` (at most 10) messages; waits up to `wait` (at most 20 s) for the first one.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, StorageError>;

    /// Done with it. Succeeds when the message is already gone.
    async fn acknowledge(&self, receipt: &Receipt) -> Result<(), StorageError>;

    /// Gives it back, to be delivered again after `delay`.
    async fn retry(&self, receipt: &Receipt, delay: Duration) -> Result<(), StorageError>;

    /// Puts it into the dead-letter queue at once, with the reason.
    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), StorageError>;

    async fn depth(&self) -> Result<QueueDepth, StorageError>;
}
