//! [`EventQueue`] in SQS.
//!
//! - Visibility, retention and the number of deliveries before a message is dead are the queue's
//!   own, set by the template; this file sets none of them.
//! - A batch is accepted or refused entry by entry, so what failed is sent again, and only that.
//! - SQS counts in whole seconds: delays are rounded up, waits are rounded down.
//! - SQS tells the age of its oldest message to CloudWatch only, minutes late; here it is known
//!   only while nothing waits.

use std::fmt::Write;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use storage_ports::{Delivery, EventQueue, Message, QueueDepth, Receipt, StorageError};

use crate::clients::poll_timeouts;
use crate::error::{code, storage_error};

const WHAT: &str = "queue";

/// Messages of one request.
const MAX_ENTRIES: usize = 10;
/// Bytes of one batch. SQS takes 1 MiB since 2025 and charges by 64 KiB; a function that is given
/// ten messages at once must hold them all.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// The longest delay that SQS knows.
const MAX_DELAY: Duration = Duration::from_secs(15 * 60);
/// The longest long poll that SQS knows.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// The longest time for which SQS hides a message.
const MAX_HIDDEN: Duration = Duration::from_secs(12 * 60 * 60);
/// How often entries that failed are sent again before the caller hears of it.
const ATTEMPTS: u32 = 4;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// How long a message stays hidden while it moves to the dead-letter queue.
const MOVING: Duration = Duration::from_secs(30);
/// Attribute of a dead letter: why it is one.
pub const REASON: &str = "reason";
/// A reason longer than this is cut.
const MAX_REASON_CHARS: usize = 1_000;

#[derive(Clone, Debug)]
pub struct SqsQueue {
    client: Client,
    url: String,
    dead_letters: Option<String>,
}

impl SqsQueue {
    /// The queue at `url`, and the queue at `dead_letters` where its dead letters go. Whoever only
    /// sends needs none.
    pub fn new(client: Client, url: impl Into<String>, dead_letters: Option<String>) -> Self {
        Self { client, url: url.into(), dead_letters }
    }

    /// Sends up to ten messages; returns those that SQS failed to take and might take later.
    async fn send_batch<'a>(
        &self,
        batch: &[&'a Message],
    ) -> Result<Vec<&'a Message>, StorageError> {
        let mut request = self.client.send_message_batch().queue_url(&self.url);
        for (number, message) in batch.iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder()
                .id(number.to_string())
                .message_body(sendable(&message.body))
                .delay_seconds(whole_secs(message.delay.min(MAX_DELAY)))
                .build()
                .map_err(|cause| StorageError::refused(WHAT, cause))?;
            request = request.entries(entry);
        }
        let answer = request.send().await.map_err(|error| storage_error(WHAT, error))?;
        let mut failed = Vec::new();
        for entry in answer.failed() {
            if entry.sender_fault() {
                let cause = format!("message refused: {}", entry.code());
                return Err(StorageError::refused(WHAT, cause));
            }
            let number = entry.id().parse::<usize>().ok();
            failed.extend(number.and_then(|number| batch.get(number)));
        }
        Ok(failed)
    }

    /// Hides a delivered message for `time` from now. False when it is no longer in these hands.
    async fn hide(&self, receipt: &Receipt, time: Duration) -> Result<bool, StorageError> {
        let answer = self
            .client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(&receipt.0)
            .visibility_timeout(whole_secs(time.min(MAX_HIDDEN)))
            .send()
            .await;
        match answer {
            Ok(_) => Ok(true),
            Err(error) if is_gone(code(&error).as_deref()) => Ok(false),
            Err(error) => Err(storage_error(WHAT, error)),
        }
    }

    async fn attributes(
        &self,
        url: &str,
        names: &[QueueAttributeName],
    ) -> Result<Vec<u64>, StorageError> {
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(url)
            .set_attribute_names(Some(names.to_vec()))
            .send()
            .await
            .map_err(|error| storage_error(WHAT, error))?;
        let value = |name| answer.attributes().and_then(|all| all.get(name)?.parse().ok());
        let values: Option<Vec<u64>> = names.iter().map(value).collect();
        values.ok_or_else(|| StorageError::unavailable(WHAT, "an answer without a count"))
    }
}

/// What SQS calls a receipt whose message was acknowledged or given to somebody else.
fn is_gone(code: Option<&str>) -> bool {
    matches!(
        code,
        Some(
            "MessageNotInflight"
                | "AWS.SimpleQueueService.MessageNotInflight"
                | "InvalidParameterValue"
                | "ReceiptHandleIsInvalid"
        )
    )
}

/// A receipt is base64, or a UUID where an emulator made it. Told apart here, because a receipt that
/// is out of date and one that never was are one error at some of them.
fn may_be_a_receipt(receipt: &Receipt) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+/=-_".contains(c);
    !receipt.0.is_empty() && receipt.0.chars().all(is_part)
}

/// Rounded up, so that nothing comes earlier than it was asked for.
fn whole_secs(time: Duration) -> i32 {
    let up = u64::from(time.subsec_nanos() > 0);
    i32::try_from(time.as_secs() + up).unwrap_or(i32::MAX)
}

/// `body` as SQS takes it: it refuses characters that XML 1.0 does not have. Bodies are JSON, and
/// there such a character can only stand inside a string, where it may be written as an escape.
fn sendable(body: &str) -> String {
    let is_refused = |c: char| matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    if !body.contains(is_refused) {
        return body.to_owned();
    }
    let mut sendable = String::with_capacity(body.len() + 16);
    for c in body.chars() {
        if is_refused(c) {
            write!(sendable, "\\u{:04x}", u32::from(c)).expect("a String takes every write");
        } else {
            sendable.push(c);
        }
    }
    sendable
}

/// Splits `messages` into batches that one request may carry.
fn batches(messages: &[Message]) -> Vec<Vec<&Message>> {
    let mut batches: Vec<Vec<&Message>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let size = message.body.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_ENTRIES && bytes + size <= MAX_BATCH_BYTES => {
                batch.push(message);
                bytes += size;
            }
            _ => {
                batches.push(vec![message]);
                bytes = size;
            }
        }
    }
    batches
}

#[async_trait]
impl EventQueue for SqsQueue {
    async fn send(&self, messages: &[Message]) -> Result<(), StorageError> {
        for mut batch in batches(messages) {
            let mut backoff = FIRST_BACKOFF;
            for attempt in 1.. {
                batch = self.send_batch(&batch).await?;
                if batch.is_empty() {
                    break;
                }
                if attempt >= ATTEMPTS {
                    let cause = format!("{} messages of a batch not taken", batch.len());
                    return Err(StorageError::unavailable(WHAT, cause));
                }
                tokio::time::sleep(backoff).await;
                backoff *= 2;
            }
        }
        Ok(())
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, StorageError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let wait_secs = wait.min(MAX_WAIT).as_secs();
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(max.min(MAX_ENTRIES) as i32)
            .wait_time_seconds(wait_secs as i32)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .customize()
            .config_override(aws_sdk_sqs::config::Builder::new().timeout_config(poll_timeouts()))
            .send()
            .await
            .map_err(|error| storage_error(WHAT, error))?;
        let deliveries = answer.messages().iter().filter_map(|message| {
            let attempt = message
                .attributes()
                .and_then(|all| all.get(&MessageSystemAttributeName::ApproximateReceiveCount))
                .and_then(|count| count.parse().ok());
            Some(Delivery {
                receipt: Receipt(message.receipt_handle()?.to_owned()),
                body: message.body()?.to_owned(),
                attempt: attempt.unwrap_or(1),
            })
        });
        Ok(deliveries.collect())
    }

    async fn acknowledge(&self, receipt: &Receipt) -> Result<(), StorageError> {
        if !may_be_a_receipt(receipt) {
            return Err(StorageError::refused(WHAT, "not a receipt"));
        }
        let answer = self
            .client
            .delete_message()
            .queue_url(&self.url)
            .receipt_handle(&receipt.0)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(error) if is_gone(code(&error).as_deref()) => Ok(()),
            Err(error) => Err(storage_error(WHAT, error)),
        }
    }

    async fn retry(&self, receipt: &Receipt, delay: Duration) -> Result<(), StorageError> {
        // Not in these hands any more: it comes again without being given back.
        self.hide(receipt, delay).await?;
        Ok(())
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), StorageError> {
        let Some(dead_letters) = &self.dead_letters else {
            return Err(StorageError::refused(WHAT, "no dead-letter queue is configured"));
        };
        if !self.hide(&delivery.receipt, MOVING).await? {
            return Ok(());
        }
        let reason: String = reason.chars().take(MAX_REASON_CHARS).collect();
        let reason = if reason.is_empty() { "no reason".to_owned() } else { sendable(&reason) };
        let reason = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(reason)
            .build()
            .map_err(|cause| StorageError::refused(WHAT, cause))?;
        self.client
            .send_message()
            .queue_url(dead_letters)
            .message_body(sendable(&delivery.body))
            .message_attributes(REASON, reason)
            .send()
            .await
            .map_err(|error| storage_error(WHAT, error))?;
        self.acknowledge(&delivery.receipt).await
    }

    async fn depth(&self) -> Result<QueueDepth, StorageError> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        let counts = self.attributes(&self.url, &names).await?;
        let dead_letters = match &self.dead_letters {
            None => 0,
            Some(url) => self.attributes(url, &names).await?.iter().sum(),
        };
        Ok(QueueDepth {
            waiting: counts.iter().sum(),
            oldest: (counts[0] == 0).then_some(Duration::ZERO),
            dead_letters,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Message {
        Message::now("x".repeat(bytes))
    }

    #[test]
    fn a_batch_has_at_most_ten_messages_and_256_kib() {
        let sizes = |messages: &[Message]| -> Vec<usize> {
            batches(messages).iter().map(Vec::len).collect()
        };
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&vec![message(1); 25]), [10, 10, 5]);
        assert_eq!(sizes(&vec![message(100 * 1024); 5]), [2, 2, 1]);
        assert_eq!(sizes(&[message(10), message(600 * 1024), message(10)]), [1, 1, 1]);
    }

    #[test]
    fn a_character_that_sqs_refuses_is_escaped() {
        let body = serde_json::to_string("a\u{ffff}b\u{1}\n\u{fffe}ž").unwrap();
        let sent = sendable(&body);
        assert!(!sent.contains(['\u{ffff}', '\u{fffe}']), "{sent}");
        let read: String = serde_json::from_str(&sent).unwrap();
        assert_eq!(read, "a\u{ffff}b\u{1}\n\u{fffe}ž");
    }

    #[test]
    fn a_delay_is_never_cut_short() {
        assert_eq!(whole_secs(Duration::ZERO), 0);
        assert_eq!(whole_secs(Duration::from_millis(1)), 1);
        assert_eq!(whole_secs(Duration::from_millis(2_000)), 2);
    }
}
