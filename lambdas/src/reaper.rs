//! The backstop: finds edges that fell silent and builds that nobody makes.
//!
//! Normally neither happens. A dead edge is told of by its own last beat, which comes back as a
//! dead-man's message; a build is asked for by the event that made it possible. The reaper covers
//! what is left: an edge that died before its first beat, a queue that lost its messages, a
//! finaliser that died at work. So it must be slow to judge and must not add load to an outage:
//!
//! - Silence proves nothing while events wait in the queue unread. Then no edge is judged.
//! - A build is asked for again only every [`REPEAT_AFTER`], and not while the finaliser's queue
//!   holds as many requests as there are recordings to build.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use model::WallTime;
use storage_ports::{EventQueue, Message, RecordingIndex, StorageError};
use tokio::time::Instant;

use crate::worker::{BuildRequest, Stop, is_stopped, pause, wall_time};

/// With [`INTERVAL`] less than a minute, after which no call may seem to be in progress that is
/// not; more than the 25 s after which a dead-man's message says the same.
const SILENCE: Duration = Duration::from_secs(40);
const INTERVAL: Duration = Duration::from_secs(15);

/// Events that wait longer than this say that the indexer is behind, not that edges are silent.
const BEHIND: Duration = Duration::from_secs(10);

/// Longer than all but the longest builds take.
const REPEAT_AFTER: Duration = Duration::from_secs(10 * 60);

/// Sweeps until told to stop.
pub async fn run(
    index: Arc<dyn RecordingIndex>,
    work: Arc<dyn EventQueue>,
    events: Arc<dyn EventQueue>,
    mut stop: Stop,
) {
    let mut reaper = Reaper::default();
    // The events of the time in which we were not running come first.
    pause(&mut stop, INTERVAL).await;
    while !is_stopped(&stop) {
        if let Err(error) = reaper.sweep(&*index, &*work, &*events, wall_time()).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "sweep put off");
        }
        pause(&mut stop, INTERVAL).await;
    }
}

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Whether silent edges were taken for dead; not while events wait unread.
    pub judged: bool,
    /// Recordings that have to be built.
    pub to_build: usize,
    /// Of them, those that the finaliser was asked for by this sweep.
    pub asked: usize,
}

/// Remembers since when each build is asked for. A new one asks for all that are missing:
/// whoever was at work before it started may have died.
#[derive(Debug, Default)]
pub struct Reaper {
    /// `None` until a sweep has succeeded.
    asked: Option<HashMap<BuildRequest, Instant>>,
}

impl Reaper {
    pub async fn sweep(
        &mut self,
        index: &dyn RecordingIndex,
        work: &dyn EventQueue,
        events: &dyn EventQueue,
        now: WallTime,
    ) -> Result<Swept, StorageError> {
        // Kept for the next sweep only if this one reaches its end.
        let asked = self.asked.take();
        let judged = events.depth().await?.oldest.is_some_and(|oldest| oldest <= BEHIND);
        // No journal was last heard of before the year 0: what waits without any verdict of ours.
        let waiting = builds(index, WallTime::from_unix_ms(i64::MIN)).await?;
        let all = if judged {
            let silent_since = now.unix_ms().saturating_sub(SILENCE.as_millis() as i64);
            builds(index, WallTime::from_unix_ms(silent_since)).await?
        } else {
            waiting.clone()
        };
        let is_queued = work.depth().await?.waiting >= all.len() as u64;
        let clock = Instant::now();
        let is_due = |build: &BuildRequest| match &asked {
            // This sweep's verdict made it one: nobody has asked for it.
            _ if !waiting.contains(build) => true,
            _ if is_queued => false,
            None => true,
            // Those it does not know were asked for by the events that completed them.
            Some(asked) => {
                asked.get(build).is_some_and(|at| clock.duration_since(*at) >= REPEAT_AFTER)
            }
        };
        let (due, not_due): (Vec<_>, Vec<_>) = all.iter().partition(|build| is_due(build));
        if !due.is_empty() {
            tracing::info!(builds = due.len(), "asking for builds that are missing");
            let messages: Vec<Message> =
                due.iter().map(|build| Message::now(build.to_json())).collect();
            work.send(&messages).await?;
        }
        let swept = Swept { judged, to_build: all.len(), asked: due.len() };
        let known = asked.unwrap_or_default();
        let not_due =
            not_due.into_iter().map(|build| (build, known.get(build).copied().unwrap_or(clock)));
        let due = due.into_iter().map(|build| (build, clock));
        self.asked = Some(not_due.chain(due).map(|(build, at)| (build.clone(), at)).collect());
        Ok(swept)
    }
}

async fn builds(
    index: &dyn RecordingIndex,
    silent_since: WallTime,
) -> Result<HashSet<BuildRequest>, StorageError> {
    let builds = index.sweep(silent_since).await?;
    Ok(builds.into_iter().map(BuildRequest::from).collect())
}
