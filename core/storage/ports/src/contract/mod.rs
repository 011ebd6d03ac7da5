//! What every engine must do, as tests: each engine's own tests call these suites.
//!
//! A suite panics where an engine breaks a promise of its port. It may run against an engine that
//! is already in use: what it writes lies under names that nobody else has.

mod accounts;
mod index;
mod object_store;
mod queue;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use model::WallTime;

pub use accounts::accounts;
pub use index::{any_order_gives_one_index, index};
pub use object_store::object_store;
pub use queue::{QueueTerms, queue};

/// Ten bytes that no run of a suite has used before.
fn unused() -> [u8; 10] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&(now.as_nanos() as u64).to_be_bytes());
    bytes[8..].copy_from_slice(&(NEXT.fetch_add(1, Ordering::Relaxed) as u16).to_be_bytes());
    bytes
}

/// A name that no run of a suite has used before.
fn unused_name(prefix: &str) -> String {
    unused().iter().fold(prefix.to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn now() -> WallTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_ms(now.as_millis() as i64)
}
