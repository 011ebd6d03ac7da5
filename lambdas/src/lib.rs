//! What runs behind the queue and the browser: the workers and the HTTP API.
//!
//! Each worker is a function over the ports, so that the one-machine product, the functions in
//! AWS and the tests run the same code.

pub mod api;
pub mod finalizer;
#[cfg(feature = "aws")]
pub mod functions;
pub mod indexer;
pub mod listening;
pub mod original;
pub mod reaper;
pub mod retention;
pub mod telemetry;
pub mod tenant_key;
pub mod worker;
