//! The one place where clients of AWS are made.
//!
//! - Endpoints: `AWS_ENDPOINT_URL`, or `AWS_ENDPOINT_URL_S3`, `_SQS` and `_DYNAMODB`, replace those
//!   of AWS. With [`env::TEST_MODE`] set, clients are made only if all of them name this machine: a
//!   test that forgot its emulator must not reach an account.
//! - Behaviour is pinned to a dated version, so that an update of the SDK changes no default.
//! - Retries: three attempts, exponential back-off from 100 ms up to 2 s, jittered by the SDK. More
//!   would hide an outage from callers that can do better: the edge's delivering half and the
//!   queues retry for as long as it takes, with back-off of their own.
//! - Timeouts: connecting 2 s; one attempt 5 s for small requests, 30 s where objects travel,
//!   25 s where a queue is polled for up to 20 s. All are far above what AWS takes and low enough
//!   that a dead connection costs a function seconds, not its whole run time.

use std::net::IpAddr;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use model::EdgeId;

use crate::names::env;
use crate::{DynamoIndex, S3Store, SqsQueue};

const ATTEMPTS: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(2);
const SMALL_ATTEMPT: Duration = Duration::from_secs(5);
const OBJECT_ATTEMPT: Duration = Duration::from_secs(30);
const POLL_ATTEMPT: Duration = Duration::from_secs(25);

/// What is missing in the environment. For the operator: the template sets all of it.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    #[error("the environment variable {0} is not set")]
    Missing(&'static str),
    #[error("{name}={value:?}: {why}")]
    Invalid { name: &'static str, value: String, why: &'static str },
    #[error(
        "{} is set, and {service} would be asked at {endpoint}: set AWS_ENDPOINT_URL to an \
         emulator on this machine",
        env::TEST_MODE
    )]
    NotAnEmulator { service: &'static str, endpoint: String },
}

/// Clients of all services, of one region and one identity. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AwsClients {
    pub(crate) s3: aws_sdk_s3::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
}

impl AwsClients {
    /// From the environment, as AWS's tools read it: region, credentials (instance role, function
    /// role, profile), endpoints.
    pub async fn from_env() -> Result<Self, EnvError> {
        let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).load().await;
        if std::env::var_os(env::TEST_MODE).is_some() {
            for (service, variable) in [
                ("S3", "AWS_ENDPOINT_URL_S3"),
                ("SQS", "AWS_ENDPOINT_URL_SQS"),
                ("DynamoDB", "AWS_ENDPOINT_URL_DYNAMODB"),
            ] {
                refuse_all_but_emulators(service, endpoint_of(variable))?;
            }
        }
        Ok(Self::new(&config))
    }

    /// With credentials, region and endpoints of `config`; retries and timeouts are ours.
    pub fn new(config: &SdkConfig) -> Self {
        let local = endpoint_of("AWS_ENDPOINT_URL_S3")
            .or_else(|| config.endpoint_url().map(str::to_owned))
            .is_some_and(|url| is_this_machine(&url));
        let s3 = aws_sdk_s3::config::Builder::from(config)
            // The name of a bucket cannot stand before an address.
            .force_path_style(local)
            .retry_config(retries())
            .timeout_config(timeouts(OBJECT_ATTEMPT));
        let sqs = aws_sdk_sqs::config::Builder::from(config)
            .retry_config(retries())
            .timeout_config(timeouts(SMALL_ATTEMPT));
        let dynamodb = aws_sdk_dynamodb::config::Builder::from(config)
            .retry_config(retries())
            .timeout_config(timeouts(SMALL_ATTEMPT));
        Self {
            s3: aws_sdk_s3::Client::from_conf(s3.build()),
            sqs: aws_sdk_sqs::Client::from_conf(sqs.build()),
            dynamodb: aws_sdk_dynamodb::Client::from_conf(dynamodb.build()),
        }
    }

    pub fn s3(&self) -> &aws_sdk_s3::Client {
        &self.s3
    }

    pub fn sqs(&self) -> &aws_sdk_sqs::Client {
        &self.sqs
    }

    pub fn dynamodb(&self) -> &aws_sdk_dynamodb::Client {
        &self.dynamodb
    }

    /// The bucket that [`env::BUCKET`] names.
    pub fn objects(&self) -> Result<S3Store, EnvError> {
        let store = S3Store::new(self.s3.clone(), required(env::BUCKET)?);
        Ok(match optional(env::KMS_KEY_ARN) {
            None => store,
            Some(key) => store.with_kms_key(key),
        })
    }

    /// The table that [`env::TABLE`] names: index and accounts.
    pub fn index(&self) -> Result<DynamoIndex, EnvError> {
        let index = DynamoIndex::new(self.dynamodb.clone(), required(env::TABLE)?);
        let Some(shards) = optional(env::INDEX_SHARDS) else { return Ok(index) };
        match shards.parse() {
            Ok(shards) if shards >= 1 => Ok(index.with_shards(shards)),
            _ => {
                let why = "must be a number from 1 to 255";
                Err(EnvError::Invalid { name: env::INDEX_SHARDS, value: shards, why })
            }
        }
    }

    /// Recording events, from edges to the indexer.
    pub fn events(&self) -> Result<SqsQueue, EnvError> {
        self.queue(env::EVENTS_QUEUE_URL, Some(env::EVENTS_DLQ_URL))
    }

    /// Recordings to build, from the indexer to the finaliser.
    pub fn finalize(&self) -> Result<SqsQueue, EnvError> {
        self.queue(env::FINALIZE_QUEUE_URL, Some(env::FINALIZE_DLQ_URL))
    }

    /// Commands to the edge that this is.
    pub fn own_commands(&self) -> Result<SqsQueue, EnvError> {
        self.queue(env::COMMANDS_QUEUE_URL, None)
    }

    /// Commands to `edge`.
    pub fn commands(&self, edge: &EdgeId) -> Result<SqsQueue, EnvError> {
        let url = format!("{}{edge}", required(env::COMMANDS_QUEUE_URL_PREFIX)?);
        Ok(SqsQueue::new(self.sqs.clone(), url, None))
    }

    fn queue(
        &self,
        url: &'static str,
        dead_letters: Option<&'static str>,
    ) -> Result<SqsQueue, EnvError> {
        // An edge may send events and knows no dead-letter queue.
        let dead_letters = dead_letters.and_then(optional);
        Ok(SqsQueue::new(self.sqs.clone(), required(url)?, dead_letters))
    }
}

fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(ATTEMPTS)
        .with_initial_backoff(FIRST_BACKOFF)
        .with_max_backoff(MAX_BACKOFF)
}

/// Of a long poll, which lasts up to 20 s.
pub(crate) fn poll_timeouts() -> TimeoutConfig {
    timeouts(POLL_ATTEMPT)
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(attempt).build()
}

fn optional(name: &'static str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn required(name: &'static str) -> Result<String, EnvError> {
    optional(name).ok_or(EnvError::Missing(name))
}

fn endpoint_of(variable: &'static str) -> Option<String> {
    optional(variable).or_else(|| optional("AWS_ENDPOINT_URL"))
}

fn refuse_all_but_emulators(
    service: &'static str,
    endpoint: Option<String>,
) -> Result<(), EnvError> {
    match endpoint {
        Some(url) if is_this_machine(&url) => Ok(()),
        other => {
            let endpoint = other.unwrap_or_else(|| "AWS".to_owned());
            Err(EnvError::NotAnEmulator { service, endpoint })
        }
    }
}

/// Whether a URL names a loopback address.
fn is_this_machine(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_mode_speaks_to_this_machine_only() {
        for url in ["http://127.0.0.1:4566", "http://localhost:8000/", "http://[::1]:1/x"] {
            assert!(refuse_all_but_emulators("S3", Some(url.to_owned())).is_ok(), "{url}");
        }
        for url in
            ["https://s3.eu-west-1.amazonaws.com", "http://127.0.0.1.evil.example:1", "localhost"]
        {
            let refused = refuse_all_but_emulators("S3", Some(url.to_owned()));
            assert!(matches!(refused, Err(EnvError::NotAnEmulator { .. })), "{url}");
        }
        let error = refuse_all_but_emulators("SQS", None).unwrap_err();
        assert!(error.to_string().contains("AWS_ENDPOINT_URL"), "{error}");
    }
}
