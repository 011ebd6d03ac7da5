//! The engines of AWS: S3 for objects, SQS for queues, DynamoDB for the index and the accounts.
//!
//! [`AwsClients::from_env`] makes all of them from the environment that the templates in `infra/`
//! set; [`names`] has every name that code and templates share.

mod clients;
mod clock;
mod dynamodb;
mod error;
pub mod names;
mod s3;
mod sqs;

pub use clients::{AwsClients, EnvError};
pub use dynamodb::{DynamoIndex, Used, create_table};
pub use s3::{LockMode, S3Store};
pub use sqs::{REASON, SqsQueue};
