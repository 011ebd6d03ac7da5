//! Messages that Lambda took from a queue, as the workers know them.
//!
//! Lambda deletes every message of a batch but those that the answer names. So acknowledging
//! needs no request, and a message that is given back is hidden for its delay and named. A function
//! that fails or is stopped names none, and Lambda deletes none.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent};
use storage_ports::{Delivery, EventQueue, Message, QueueDepth, Receipt, StorageError};

/// The queue during one invocation.
pub struct Batch<'a> {
    queue: &'a dyn EventQueue,
    /// Of the messages at hand: receipt to id.
    ids: HashMap<String, String>,
    /// Ids of those that have to come again.
    again: Mutex<BTreeSet<String>>,
}

impl<'a> Batch<'a> {
    /// The queue that they came from, and the messages.
    pub fn of(event: SqsEvent, queue: &'a dyn EventQueue) -> (Self, Vec<Delivery>) {
        let mut ids = HashMap::new();
        let mut deliveries = Vec::new();
        for message in event.records {
            let receipt = message.receipt_handle.unwrap_or_default();
            ids.insert(receipt.clone(), message.message_id.unwrap_or_default());
            let count = message.attributes.get("ApproximateReceiveCount");
            deliveries.push(Delivery {
                receipt: Receipt(receipt),
                body: message.body.unwrap_or_default(),
                attempt: count.and_then(|count| count.parse().ok()).unwrap_or(1),
            });
        }
        (Self { queue, ids, again: Mutex::default() }, deliveries)
    }

    /// The answer to Lambda.
    pub fn answer(self) -> SqsBatchResponse {
        let again = self.again.into_inner().expect("no code panics while it holds this lock");
        let mut answer = SqsBatchResponse::default();
        answer.batch_item_failures = again
            .into_iter()
            .map(|id| {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = id;
                failure
            })
            .collect();
        answer
    }

    fn comes_again(&self, receipt: &Receipt) {
        if let Some(id) = self.ids.get(&receipt.0) {
            let mut again = self.again.lock().expect("no code panics while it holds this lock");
            again.insert(id.clone());
        }
    }
}

#[async_trait]
impl EventQueue for Batch<'_> {
    async fn send(&self, messages: &[Message]) -> Result<(), StorageError> {
        self.queue.send(messages).await
    }

    async fn receive(&self, _: usize, _: Duration) -> Result<Vec<Delivery>, StorageError> {
        Err(StorageError::refused("queue", "Lambda receives, the function is given"))
    }

    async fn acknowledge(&self, _: &Receipt) -> Result<(), StorageError> {
        Ok(())
    }

    async fn retry(&self, receipt: &Receipt, delay: Duration) -> Result<(), StorageError> {
        // First of all: without its delay it comes when its visibility time is over.
        self.comes_again(receipt);
        self.queue.retry(receipt, delay).await
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), StorageError> {
        let moved = self.queue.dead_letter(delivery, reason).await;
        if moved.is_err() {
            self.comes_again(&delivery.receipt);
        }
        moved
    }

    async fn depth(&self) -> Result<QueueDepth, StorageError> {
        self.queue.depth().await
    }
}

#[cfg(test)]
mod tests {
    use storage_embedded::Embedded;

    use super::*;

    #[tokio::test]
    async fn lambda_is_told_of_the_messages_that_have_to_come_again_and_of_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let queue = Embedded::open(dir.path()).unwrap().events();
        let bodies = ["done", "later", "useless"].map(|body| Message::now(body.to_owned()));
        queue.send(&bodies).await.unwrap();
        let held = queue.receive(10, Duration::ZERO).await.unwrap();
        let records: Vec<_> = held
            .iter()
            .map(|held| {
                serde_json::json!({
                    "messageId": format!("id of {}", held.body),
                    "receiptHandle": held.receipt.0,
                    "body": held.body,
                    "attributes": { "ApproximateReceiveCount": "7" },
                })
            })
            .collect();
        let event = serde_json::from_value(serde_json::json!({ "Records": records })).unwrap();

        let (batch, deliveries) = Batch::of(event, &*queue);
        assert_eq!(deliveries.len(), 3);
        for delivery in &deliveries {
            assert_eq!(delivery.attempt, 7);
            match delivery.body.as_str() {
                "done" => batch.acknowledge(&delivery.receipt).await.unwrap(),
                "later" => batch.retry(&delivery.receipt, Duration::from_secs(9)).await.unwrap(),
                _ => batch.dead_letter(delivery, "useless").await.unwrap(),
            }
        }
        let answer = serde_json::to_value(batch.answer()).unwrap();
        let expected = serde_json::json!({
            "batchItemFailures": [{ "itemIdentifier": "id of later" }]
        });
        assert_eq!(answer, expected);
        assert_eq!(queue.depth().await.unwrap().dead_letters, 1);
    }

    #[tokio::test]
    async fn a_dead_letter_that_is_not_taken_comes_again() {
        struct Away;
        #[async_trait]
        impl EventQueue for Away {
            async fn send(&self, _: &[Message]) -> Result<(), StorageError> {
                Err(StorageError::unavailable("queue", "away"))
            }
            async fn receive(&self, _: usize, _: Duration) -> Result<Vec<Delivery>, StorageError> {
                Err(StorageError::unavailable("queue", "away"))
            }
            async fn acknowledge(&self, _: &Receipt) -> Result<(), StorageError> {
                Err(StorageError::unavailable("queue", "away"))
            }
            async fn retry(&self, _: &Receipt, _: Duration) -> Result<(), StorageError> {
                Err(StorageError::unavailable("queue", "away"))
            }
            async fn dead_letter(&self, _: &Delivery, _: &str) -> Result<(), StorageError> {
                Err(StorageError::unavailable("queue", "away"))
            }
            async fn depth(&self) -> Result<QueueDepth, StorageError> {
                Err(StorageError::unavailable("queue", "away"))
            }
        }
        let record = |id: &str| serde_json::json!({ "messageId": id, "receiptHandle": id });
        let event = serde_json::json!({ "Records": [record("a"), record("b"), record("c")] });
        let (batch, held) = Batch::of(serde_json::from_value(event).unwrap(), &Away);
        batch.dead_letter(&held[0], "no event").await.unwrap_err();
        batch.retry(&held[1].receipt, Duration::ZERO).await.unwrap_err();
        batch.acknowledge(&held[2].receipt).await.unwrap();
        let again: Vec<_> =
            batch.answer().batch_item_failures.into_iter().map(|f| f.item_identifier).collect();
        assert_eq!(again, ["a", "b"]);
    }
}
