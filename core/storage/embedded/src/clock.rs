//! The wall clock, in the one unit that the tables use.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Unix milliseconds. A clock before 1970 counts as 1970.
pub fn now_ms() -> i64 {
    in_ms(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub fn in_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
