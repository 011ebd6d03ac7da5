//! What a service manager is told (sd_notify(3)): ready, stopping, and that we are not stuck. Without one,
//! nothing.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::health::Health;

/// A recording half that has not looked after itself for this long is stuck. A commit that waits
/// for a disk does not stop it.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Calls can come.
pub fn ready() {
    tell(NotifyState::Ready);
}

/// No calls come any more; the manager waits for what is delivered yet.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells that we live, for as long as the recording half does; for as long as it is polled. A process that is
/// stuck is restarted, and the next one goes on with the live calls.
pub async fn feed_watchdog(health: Health) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut every = tokio::time::interval(limit / 3);
    loop {
        every.tick().await;
        if is_alive(&health) {
            tell(NotifyState::Watchdog);
        } else {
            let silent_secs = health.silent_for().as_secs();
            tracing::error!(silent_secs, "the recording half is stuck; waiting to be restarted");
        }
    }
}

/// While it starts it may read a large journal, and has not looked after anything yet.
fn is_alive(health: &Health) -> bool {
    matches!(health.unable(), Some(crate::health::Unable::Starting))
        || health.silent_for() < STUCK_AFTER
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

#[test]
fn a_recorder_that_starts_or_looks_after_itself_is_alive() {
    let health = Health::default();
    assert!(is_alive(&health));
    health.set(None);
    assert!(is_alive(&health));
    health.backdate(STUCK_AFTER);
    assert!(!is_alive(&health));
    health.set(None);
    assert!(is_alive(&health));
}
