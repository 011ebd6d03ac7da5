//! Ports: what Linekeeper needs of the outside, in its own verbs, with the promises it relies on.
//!
//! A port exists only where two real engines exist: one process on one machine (SQLite and a
//! directory) and AWS (S3, SQS, DynamoDB). Both pass one suite, [`contract`]. There are no mocks:
//! tests use the embedded engines, and [`faulty`] makes them fail on purpose.

mod accounts;
mod error;
mod index;
mod object_store;
mod queue;

#[cfg(feature = "contract")]
pub mod contract;
#[cfg(feature = "contract")]
pub mod faulty;
#[cfg(feature = "contract")]
pub mod survived;

pub use accounts::{Account, Accounts, StoredSession};
pub use error::StorageError;
pub use index::{Applied, RecordingIndex};
pub use object_store::{ObjectMeta, ObjectStore, PutMode, PutOutcome, SignedUrl};
pub use queue::{Delivery, EventQueue, Message, QueueDepth, Receipt};
