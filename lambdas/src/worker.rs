//! What the workers share: the request that goes from indexer and reaper to the finaliser, how
//! long to wait after a failure, and how a loop is told to stop.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::{RecordingId, TenantId, WallTime};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How long one receive of a worker's loop waits. Short, because a receive is never cut off: it
/// may already hold messages, which nobody else would get before their visibility time is over.
pub const RECEIVE_WAIT: Duration = Duration::from_secs(1);

/// The body of a message in the queue `finalize`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BuildRequest {
    pub tenant: TenantId,
    pub recording: RecordingId,
}

impl BuildRequest {
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("two strings always serialise")
    }
}

impl From<(TenantId, RecordingId)> for BuildRequest {
    fn from((tenant, recording): (TenantId, RecordingId)) -> Self {
        Self { tenant, recording }
    }
}

/// True once it is time to stop: the sender says so, or is gone.
pub type Stop = watch::Receiver<bool>;

pub fn is_stopped(stop: &Stop) -> bool {
    *stop.borrow() || stop.has_changed().is_err()
}

/// Sleeps, unless told to stop.
pub async fn pause(stop: &mut Stop, duration: Duration) {
    tokio::select! {
        // An error means that the sender is gone, which also says to stop.
        _ = stop.wait_for(|stopped| *stopped) => {}
        () = tokio::time::sleep(duration) => {}
    }
}

/// Now. A clock before 1970 counts as 1970.
pub fn wall_time() -> WallTime {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_ms(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
}

/// Doubles the pause with every failure in a row.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(30);

    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How long to pause after one more failure.
    pub fn failed(&mut self) -> Duration {
        let pause = Self::FIRST * 2_u32.pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        pause.min(Self::LONGEST)
    }
}

/// How long a message that could not be handled stays away, by how often it was delivered.
///
/// A queue gives a message up after 1,000 deliveries. An outage is not the message's fault, so
/// the first hundred fill an hour and a half, and the rest more than nine days.
pub fn retry_delay(attempt: u32) -> Duration {
    match attempt {
        0..=100 => Duration::from_secs(1 << attempt.saturating_sub(1).min(6)).min(MINUTE),
        _ => 15 * MINUTE,
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_outlives_an_outage_of_nine_days() {
        let total: Duration = (1..1_000).map(retry_delay).sum();
        assert!(total > Duration::from_secs(9 * 24 * 3_600), "{total:?}");
        assert_eq!(retry_delay(1), Duration::from_secs(1));
        assert_eq!(retry_delay(u32::MAX), Duration::from_secs(900));
        assert!((1..999).all(|attempt| retry_delay(attempt) <= retry_delay(attempt + 1)));
    }

    #[test]
    fn a_pause_grows_to_half_a_minute_and_starts_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..100).map(|_| backoff.failed()).collect();
        assert!(pauses.is_sorted());
        assert_eq!(pauses[99], Duration::from_secs(30));
        backoff.succeeded();
        assert_eq!(backoff.failed(), Duration::from_millis(200));
    }

    #[test]
    fn a_build_request_keeps_its_form() {
        let recording = RecordingId::at(1_795_334_400_000, [7; 10]);
        let request = BuildRequest { tenant: TenantId::default(), recording };
        let json = format!("{{\"tenant\":\"default\",\"recording\":\"{recording}\"}}");
        assert_eq!(request.to_json(), json);
        assert_eq!(serde_json::from_str::<BuildRequest>(&json).unwrap(), request);
    }
}
