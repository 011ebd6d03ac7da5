//! What turns the workers and the API into functions of AWS Lambda: `src/bin` has one program for
//! each function, and here is what they share.
//!
//! - A batch of messages goes through the same code as on one machine; [`Batch`] tells Lambda which
//!   messages to deliver again.
//! - Log lines are JSON and bear the request's id, by the span of the runtime. Metrics are log lines
//!   too ([`emf`]).
//! - A function that lacks something at its start says what, and ends: Lambda starts another one
//!   when the next message comes, so mending it needs no restart.

mod batch;
pub mod emf;
pub mod http;
pub mod setup;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lambda_events::sqs::SqsEvent;
use emf::Unit;
use lambda_runtime::{Context, Error};
use model::object_key::ObjectKey;
use model::retention::RetentionPolicy;
use model::{EventBody, RecordingEvent, TenantId};
use segment::TenantKeyPair;
use serde::Deserialize;
use serde::de::IgnoredAny;
use storage_aws::names::env;
use storage_aws::{AwsClients, S3Store};
use storage_ports::{Delivery, EventQueue, ObjectStore, RecordingIndex, StorageError};
use tokio::time::sleep;

use crate::api::{ApiState, MediaBy, health};
use crate::finalizer::{self, Ahead, FinalizeError};
use crate::reaper::Reaper;
use crate::telemetry::{self, Format};
use crate::tenant_key;
use crate::worker::wall_time;
pub use batch::Batch;

/// A build that is not done this long before its function is stopped is put off: enough for the
/// minute at hand and for giving the message back.
const BEFORE_THE_END: Duration = Duration::from_secs(45);

/// Starts logging and makes the clients. Every function begins with it.
pub async fn start() -> Result<AwsClients, Error> {
    telemetry::init(Format::Json, "info")?;
    Ok(AwsClients::from_env().await?)
}

/// The tenant of this deployment.
pub fn tenant() -> Result<TenantId, Error> {
    let text = std::env::var(env::TENANT)
        .map_err(|_| format!("the environment variable {} is not set", env::TENANT))?;
    TenantId::new(&text).map_err(|error| format!("{}={text:?}: {error}", env::TENANT).into())
}

/// The key pair that opens what was recorded for `tenant`.
pub async fn tenant_keys(
    objects: &dyn ObjectStore,
    tenant: &TenantId,
) -> Result<Arc<TenantKeyPair>, Error> {
    let key = ObjectKey::tenant_key(tenant);
    let text = match objects.get(&key).await {
        Ok(text) => text,
        Err(StorageError::NotFound { .. }) => {
            return Err(format!("{key} is missing: invoke the function `setup` once").into());
        }
        Err(error) => return Err(error.into()),
    };
    let keys = std::str::from_utf8(&text).ok().and_then(tenant_key::parse);
    Ok(Arc::new(keys.ok_or_else(|| format!("{key} is not a tenant's key"))?))
}

/// When work on this invocation has to stop, so that what is done so far can be kept.
pub fn stop_at(context: &Context) -> Instant {
    let now_ms = u64::try_from(wall_time().unix_ms()).unwrap_or(0);
    let left = Duration::from_millis(context.deadline.saturating_sub(now_ms));
    Instant::now() + left.saturating_sub(BEFORE_THE_END)
}

/// What the finaliser is invoked with.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Work {
    /// By the queue.
    Batch(SqsEvent),
    /// By its schedule, whatever that says.
    Scheduled(IgnoredAny),
}

/// The longest time from an edge's event until now. A dead-man's message is late on purpose and
/// does not count.
pub fn lag(deliveries: &[Delivery]) -> Duration {
    let now = wall_time();
    let lag_ms = |delivery: &Delivery| match RecordingEvent::from_json(&delivery.body).ok()? {
        RecordingEvent { body: EventBody::Beat { dead_man: true, .. }, .. } => None,
        event => Some(now.ms_since(event.at)),
    };
    Duration::from_millis(deliveries.iter().filter_map(lag_ms).max().unwrap_or(0))
}

/// What no message asks for: encodes long calls while they last, and deletes segments that nobody
/// needs any more.
pub async fn look_after(
    index: &dyn RecordingIndex,
    objects: &dyn ObjectStore,
    keys: &Arc<TenantKeyPair>,
    tenant: &TenantId,
    ahead: &mut Ahead,
    until: Instant,
) -> Result<(), Error> {
    // The next minute's invocation goes on; it must not find this one still at work.
    let until = until.min(Instant::now() + SCHEDULE.mul_f32(0.9));
    match ahead.advance(index, objects, keys, tenant, wall_time(), Some(until)).await {
        Ok(_) | Err(FinalizeError::OutOfTime) => {}
        Err(error) => return Err(error.into()),
    }
    finalizer::retire_all(index, objects, tenant).await?;
    Ok(())
}

/// How often reaper and finaliser are scheduled.
const SCHEDULE: Duration = Duration::from_secs(60);

/// How often a sweep is repeated because events waited unread: SQS does not say for how long they
/// do, and where calls come all the time some always do for a moment.
const LOOKS: usize = 10;
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// A call whose edge was not heard of for this long should have been closed.
const GHOST_AFTER_MS: u64 = 60_000;

/// One sweep of the backstop, and what it found as metrics.
pub async fn reap(
    reaper: &mut Reaper,
    index: &dyn RecordingIndex,
    work: &dyn EventQueue,
    events: &dyn EventQueue,
    tenant: &TenantId,
) -> Result<(), Error> {
    let mut asked = 0;
    for look in 0..LOOKS {
        if look > 0 {
            sleep(BETWEEN_LOOKS).await;
        }
        let swept = reaper.sweep(index, work, events, wall_time()).await?;
        asked += swept.asked;
        if swept.judged {
            break;
        }
    }
    let edges = health::edges(index.journals().await?, wall_time());
    let is_silent = |name: &model::EdgeId| {
        edges.iter().any(|edge| edge.edge == *name && edge.index_lag_ms > GHOST_AFTER_MS)
    };
    let ghosts = index.live(tenant).await?.iter().filter(|call| is_silent(&call.edge)).count();
    let alive = edges.iter().filter(|edge| edge.alive).count();
    emf::emit(
        "reaper",
        &[
            ("EdgesAlive", Unit::Count, alive as f64),
            ("EdgesSilent", Unit::Count, (edges.len() - alive) as f64),
            ("CallsGhost", Unit::Count, ghosts as f64),
            ("BuildsAskedAgain", Unit::Count, asked as f64),
        ],
    );
    Ok(())
}

/// How long this deployment keeps recordings.
pub fn retention_policy() -> Result<RetentionPolicy, Error> {
    let text = std::env::var(env::KEEP_DAYS).unwrap_or_default();
    RetentionPolicy::parse(&text).map_err(|error| format!("{}: {error}", env::KEEP_DAYS).into())
}

/// Where the tenant's key lies: in the bucket, encrypted by a key of its own.
pub fn key_store(aws: &AwsClients) -> Result<S3Store, Error> {
    let objects = aws.objects()?;
    Ok(match std::env::var(env::TENANT_KEY_ARN) {
        Ok(arn) if !arn.is_empty() => objects.with_kms_key(arn),
        _ => objects,
    })
}

/// Where people open the site, if it has another name than the API.
pub fn site_url() -> Option<String> {
    std::env::var(env::SITE_URL).ok().filter(|url| !url.is_empty())
}

/// What the API serves from.
pub async fn api_state(aws: AwsClients) -> Result<ApiState, Error> {
    let objects = Arc::new(aws.objects()?);
    let index = Arc::new(aws.index()?);
    let keys = tenant_keys(&*objects, &tenant()?).await?;
    let queues: [(String, Arc<dyn EventQueue>); 2] = [
        ("events".to_owned(), Arc::new(aws.events()?)),
        ("finalize".to_owned(), Arc::new(aws.finalize()?)),
    ];
    Ok(ApiState {
        index: index.clone(),
        accounts: index,
        objects,
        media_by: MediaBy::SignedUrl,
        // The bucket itself looks at the signature.
        verify_signed_url: None,
        queues: Arc::from(queues),
        commands: Arc::new(move |edge| {
            let queue = aws.commands(edge).ok()?;
            Some(Arc::new(queue) as Arc<dyn EventQueue>)
        }),
        keys,
        clock: Arc::new(wall_time),
        password_changed: Arc::new(|_| {}),
        throttle: Arc::default(),
        renders: Arc::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_finaliser_tells_messages_from_its_schedule() {
        let batch = r#"{"Records":[{"messageId":"a","receiptHandle":"b","body":"{}"}]}"#;
        let Work::Batch(event) = serde_json::from_str(batch).unwrap() else { panic!("no batch") };
        assert_eq!(event.records.len(), 1);
        for scheduled in [r#"{"detail-type":"Scheduled Event"}"#, "{}", r#""text""#] {
            assert!(matches!(serde_json::from_str(scheduled).unwrap(), Work::Scheduled(_)));
        }
    }

    #[test]
    fn work_stops_while_there_is_time_to_give_the_message_back() {
        let mut context = Context::default();
        context.deadline = u64::try_from(wall_time().unix_ms()).unwrap() + 900_000;
        let left = stop_at(&context) - Instant::now();
        assert!((850..=855).contains(&left.as_secs()), "{left:?}");
        context.deadline = 0;
        assert!(stop_at(&context) <= Instant::now() + Duration::from_millis(1));
    }

    #[test]
    fn a_dead_mans_message_is_no_lag() {
        let delivery = |body: String| Delivery {
            receipt: storage_ports::Receipt("r".to_owned()),
            body,
            attempt: 1,
        };
        let beat = |dead_man: bool| {
            let event = RecordingEvent {
                version: model::event::VERSION,
                edge: model::EdgeId::new("e").unwrap(),
                journal: model::JournalId::at(1, [1; 10]),
                epoch: 1,
                position: model::Position(1),
                at: model::WallTime::from_unix_ms(wall_time().unix_ms() - 3_000),
                body: EventBody::Beat {
                    seq: 1,
                    stored_through: model::Position(0),
                    live: Vec::new(),
                    dead_man,
                },
            };
            delivery(event.to_json())
        };
        assert_eq!(lag(&[beat(true), delivery("{".to_owned())]), Duration::ZERO);
        assert!(lag(&[beat(true), beat(false)]) >= Duration::from_secs(3));
    }
}
