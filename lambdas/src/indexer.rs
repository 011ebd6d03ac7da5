//! Writes recording events from the queue to the index, and asks for what can be built.
//!
//! The queue delivers at least once and in any order; the folds behind the index make both
//! harmless. What is left to decide here is what becomes of a message that fails:
//!
//! - not an event, or of a version that this code does not know: to the dead-letter queue at
//!   once, because a thousand deliveries would not make it readable;
//! - the index or the finaliser's queue is away: back into the queue, later and later. The queue
//!   puts a message aside as a dead letter only after 1000 deliveries: days, with these waits. An
//!   operator sends it again from there. The rest of the batch goes back too, untried, so that nothing waits for ten timeouts;
//! - the index refuses: also back. That is a wrong permission or a damaged row; an operator can
//!   mend either, and until then no event is lost.
//!
//! An event is acknowledged only after the builds that it asks for are in the finaliser's queue;
//! applied again, it asks for the same ones again.

use std::sync::Arc;
use std::time::Duration;

use model::RecordingEvent;
use model::event::EventError;
use storage_ports::{Delivery, EventQueue, Message, RecordingIndex, StorageError};

use crate::worker::{Backoff, BuildRequest, RECEIVE_WAIT, Stop, is_stopped, pause, retry_delay};

/// The most messages of one receive (SQS).
const BATCH: usize = 10;

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    pub applied: usize,
    pub dead_letters: usize,
    /// Given back, because an engine was away or refused.
    pub given_back: usize,
}

/// Indexes until told to stop. Outages are waited for.
pub async fn run(
    index: Arc<dyn RecordingIndex>,
    work: Arc<dyn EventQueue>,
    events: Arc<dyn EventQueue>,
    mut stop: Stop,
) {
    let mut backoff = Backoff::default();
    while !is_stopped(&stop) {
        match events.receive(BATCH, RECEIVE_WAIT).await {
            Ok(batch) => {
                let handled = handle(&*index, &*work, &*events, batch).await;
                if handled.given_back == 0 {
                    backoff.succeeded();
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no events received");
            }
        }
        // Taking more messages while the index is away would only age them.
        let wait = backoff.failed();
        pause(&mut stop, wait).await;
    }
}

/// Handles one batch. Every message is acknowledged, a dead letter, or given back.
pub async fn handle(
    index: &dyn RecordingIndex,
    work: &dyn EventQueue,
    events: &dyn EventQueue,
    batch: Vec<Delivery>,
) -> Handled {
    let mut handled = Handled::default();
    let mut is_away = false;
    for delivery in batch {
        let event = match RecordingEvent::from_json(&delivery.body) {
            Ok(event) => event,
            Err(error) => {
                put_aside(events, &delivery, &error).await;
                handled.dead_letters += 1;
                continue;
            }
        };
        if is_away {
            give_back(events, &delivery, Duration::from_secs(1)).await;
            handled.given_back += 1;
            continue;
        }
        match apply(index, work, &event).await {
            Ok(()) => {
                if let Err(error) = events.acknowledge(&delivery.receipt).await {
                    // It comes again, and changes nothing then.
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "event not acknowledged");
                }
                handled.applied += 1;
            }
            Err(error) => {
                is_away = error.is_retryable();
                let attempt = delivery.attempt;
                tracing::warn!(
                    journal = %event.journal,
                    position = %event.position,
                    attempt,
                    error = &error as &dyn std::error::Error,
                    "event not indexed yet"
                );
                give_back(events, &delivery, retry_delay(attempt)).await;
                handled.given_back += 1;
            }
        }
    }
    handled
}

async fn apply(
    index: &dyn RecordingIndex,
    work: &dyn EventQueue,
    event: &RecordingEvent,
) -> Result<(), StorageError> {
    let applied = index.apply(event).await?;
    let builds: Vec<Message> = applied
        .to_build
        .into_iter()
        .map(|build| Message::now(BuildRequest::from(build).to_json()))
        .collect();
    if builds.is_empty() { Ok(()) } else { work.send(&builds).await }
}

async fn put_aside(events: &dyn EventQueue, delivery: &Delivery, error: &EventError) {
    let reason = reason_of(error);
    tracing::warn!(reason, attempt = delivery.attempt, "message put aside as a dead letter");
    if let Err(error) = events.dead_letter(delivery, &reason).await {
        // It comes again after its visibility time, and is put aside then.
        tracing::warn!(error = &error as &dyn std::error::Error, "dead letter not accepted");
    }
}

/// Says where a message is wrong without quoting it: serde's own text may contain a name.
fn reason_of(error: &EventError) -> String {
    match error {
        EventError::TooNew { .. } => error.to_string(),
        EventError::Malformed(source) => format!(
            "{error}: {:?} error at line {}, column {}",
            source.classify(),
            source.line(),
            source.column()
        ),
    }
}

async fn give_back(events: &dyn EventQueue, delivery: &Delivery, delay: Duration) {
    if let Err(error) = events.retry(&delivery.receipt, delay).await {
        // It comes again by itself after its visibility time.
        let error = &error as &dyn std::error::Error;
        tracing::debug!(error, "event not given back");
    }
}
