//! How the system is, one sentence first.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{RawQuery, State};
use model::api::{EdgeHealth, ErrorBody, Health, QueueHealth};
use model::recording::flag;
use model::{EdgeId, JournalState, Recording, WallTime};

use super::access::Caller;
use super::error::ApiError;
use super::{ApiState, unasked};

/// Beats come every 5 s; three missed ones are no accident.
const SILENT_AFTER_MS: u64 = 20_000;
/// An event older than this should have been indexed.
const SLOW_QUEUE_MS: u64 = 30_000;
/// A recorder that was taken away is shown this long, so that its loss is noticed.
const SHOWN_FOR_MS: u64 = 7 * 24 * 3_600_000;

/// Recorders, queues, and the lag between them.
#[utoipa::path(get, path = "/v1/health", tag = "system", responses(
    (status = 200, description = "How the system is; `ok` says whether somebody must act",
        body = Health),
    (status = 401, description = "Not signed in", body = ErrorBody),
    (status = 403, description = "Not permitted", body = ErrorBody),
))]
pub async fn health(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Json<Health>, ApiError> {
    unasked(query)?;
    let now = (state.clock)();
    let edges = edges(state.index.journals().await?, now);
    let mut queues = Vec::new();
    for (name, queue) in state.queues.iter() {
        let depth = queue.depth().await?;
        queues.push(QueueHealth {
            queue: name.clone(),
            waiting: depth.waiting,
            oldest_ms: depth
                .oldest
                .map(|oldest| u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX)),
            dead_letters: depth.dead_letters,
        });
    }
    let live = state.index.live(caller.tenant()).await?;
    let odd = odd(&live);
    let (ok, mut summary) = summary(&edges, &queues);
    if ok && odd.calls > 0 {
        let calls = count(odd.calls, "call");
        summary.push_str(&format!(" {calls} may not sound as it should."));
    }
    Ok(Json(Health { summary, ok, now, edges, queues, odd_calls: odd.by_flag }))
}

#[derive(Default)]
struct Odd {
    calls: usize,
    by_flag: BTreeMap<String, usize>,
}

/// Of the calls in progress, those that may not sound as they should. Somebody may want to listen;
/// it is no reason to call the recorder ill.
fn odd(live: &[Recording]) -> Odd {
    let mut odd = Odd::default();
    for recording in live {
        let of_sound = |flag: &&String| flag::OF_SOUND.contains(&flag.as_str());
        let flags: Vec<&String> = recording.flags.iter().filter(of_sound).collect();
        odd.calls += usize::from(!flags.is_empty());
        for flag in flags {
            *odd.by_flag.entry(flag.clone()).or_default() += 1;
        }
    }
    odd
}

/// The newest journal of each edge: a replaced disk begins another one.
pub(crate) fn edges(journals: Vec<JournalState>, now: WallTime) -> Vec<EdgeHealth> {
    let mut newest = BTreeMap::<EdgeId, JournalState>::new();
    for journal in journals {
        let held = newest.get(&journal.edge).map(|held| held.last_seen);
        if held.is_none_or(|held| held < journal.last_seen) {
            newest.insert(journal.edge.clone(), journal);
        }
    }
    newest
        .into_values()
        .map(|journal| {
            let silent_ms = now.ms_since(journal.last_seen);
            EdgeHealth {
                alive: !journal.is_dead() && silent_ms < SILENT_AFTER_MS,
                last_seen: journal.last_seen,
                calls: journal.live.len(),
                index_lag_ms: silent_ms,
                edge: journal.edge,
            }
        })
        .filter(|edge| edge.index_lag_ms < SHOWN_FOR_MS)
        .collect()
}

/// What an operator should read first. The worst thing wins.
fn summary(edges: &[EdgeHealth], queues: &[QueueHealth]) -> (bool, String) {
    let alive: Vec<_> = edges.iter().filter(|edge| edge.alive).collect();
    let silent = edges.iter().find(|edge| !edge.alive);
    let calls: usize = alive.iter().map(|edge| edge.calls).sum();
    if edges.is_empty() {
        return (false, "No recorder has reported yet.".to_owned());
    }
    if let Some(edge) = silent {
        let (name, seen) = (&edge.edge, edge.last_seen);
        let rest = match alive.len() {
            0 => "No calls are being recorded, as far as is known here.".to_owned(),
            others => {
                format!("Still recording: {}, {}.", count(others, "recorder"), count(calls, "call"))
            }
        };
        return (false, format!("Recorder {name} has been silent since {seen}. {rest}"));
    }
    if let Some(queue) = queues.iter().find(|queue| queue.dead_letters > 0) {
        let dead = count(usize::try_from(queue.dead_letters).unwrap_or(usize::MAX), "message");
        let name = &queue.queue;
        return (false, format!("Calls are being recorded. {dead} of {name} could not be used."));
    }
    let behind = |queue: &&QueueHealth| queue.oldest_ms.is_some_and(|ms| ms > SLOW_QUEUE_MS);
    if let Some(queue) = queues.iter().find(behind) {
        let (name, secs) = (&queue.queue, queue.oldest_ms.unwrap_or_default() / 1_000);
        return (false, format!("Calls are being recorded. {name} is {secs} s behind."));
    }
    let (recorders, calls) = (count(alive.len(), "recorder"), count(calls, "call"));
    (true, format!("All calls are recorded. {recorders}, {calls} in progress."))
}

/// `1 call`, `2 calls`.
fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::JournalId;

    fn journal(edge: &str, n: u8, last_seen_ms: i64) -> JournalState {
        let mut journal = JournalState::new(JournalId::at(1, [n; 10]), EdgeId::new(edge).unwrap());
        journal.last_seen = WallTime::from_unix_ms(last_seen_ms);
        journal
    }

    const NOW_MS: i64 = 1_700_000_000_000;

    fn queue(dead_letters: u64, oldest_ms: u64) -> QueueHealth {
        let oldest_ms = Some(oldest_ms);
        QueueHealth { queue: "events".to_owned(), waiting: 0, oldest_ms, dead_letters }
    }

    #[test]
    fn a_replaced_disk_does_not_leave_a_dead_recorder_behind() {
        let now = WallTime::from_unix_ms(NOW_MS);
        let shown = edges(
            vec![journal("a", 1, NOW_MS - 60_000), journal("a", 2, NOW_MS), journal("b", 3, 0)],
            now,
        );
        assert_eq!(shown.len(), 1);
        assert!(shown[0].alive);
    }

    #[test]
    fn the_worst_thing_is_said_first() {
        let now = WallTime::from_unix_ms(NOW_MS);
        let good = edges(vec![journal("a", 1, NOW_MS)], now);
        let mixed = edges(vec![journal("a", 1, NOW_MS), journal("b", 2, NOW_MS - 30_000)], now);
        assert_eq!(summary(&[], &[]).1, "No recorder has reported yet.");
        let (ok, sentence) = summary(&good, &[queue(0, 1_000)]);
        assert!(ok && sentence.ends_with("1 recorder, 0 calls in progress."), "{sentence}");
        let (ok, sentence) = summary(&mixed, &[queue(1, 0)]);
        assert!(!ok && sentence.starts_with("Recorder b has been silent since 2023"), "{sentence}");
        let (ok, sentence) = summary(&good, &[queue(1, 0)]);
        assert!(!ok && sentence.contains("1 message of events"), "{sentence}");
        let (ok, sentence) = summary(&good, &[queue(0, 45_000)]);
        assert!(!ok && sentence.contains("45 s behind"), "{sentence}");
    }
}
