//! The recordings that are parts of one call.
//!
//! A transfer, a conference, a second recorder, or a device that forks each side by itself makes
//! several recordings of one call. What joins them is an id that they share: of a communication
//! session or group (RFC 7865 §6.2 and §6.3), or a vendor's (`x-refci`, UCID, `Cisco-Guid`, …).
//! Each stays a recording of its own; nothing is merged that might be two calls.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use model::api::{ErrorBody, Recordings};
use model::recording::Recording;
use model::search::SearchQuery;
use model::{RecordingId, WallTime};

use super::access::Caller;
use super::error::ApiError;
use super::{ApiState, recordings, unasked};

/// How far apart the parts of one call may start: ids that count up begin anew some day.
const NEAR_MS: i64 = 24 * 60 * 60 * 1_000;

/// Ids of one recording that are looked for, and recordings that are told.
const MAX_IDS: usize = 16;
const MAX_RELATED: usize = 100;

/// Other recordings of the same call, oldest first.
#[utoipa::path(get, path = "/v1/recordings/{id}/related", tag = "recordings",
    params(("id" = RecordingId, Path)),
    responses(
        (status = 200, description = "Recordings within a day that share an id of the call; at \
            most 100, and never a next page", body = Recordings),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such recording", body = ErrorBody),
    ))]
pub async fn related(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Recordings>, ApiError> {
    unasked(query)?;
    let id = recordings::id(&id)?;
    let (held, journal) = recordings::held(&state, &caller, id).await?;
    let mut found: BTreeMap<(WallTime, RecordingId), Recording> = BTreeMap::new();
    if let Some(recording) = held.view(&journal) {
        let ids: Vec<_> = recording.call_ids.iter().filter(|id| names_one_call(id)).collect();
        for shared in ids.into_iter().take(MAX_IDS) {
            let near = caller.within_reach(near(recording.started_at, shared));
            for other in state.index.search(caller.tenant(), &near).await?.items {
                // The search looks at words, in names too.
                if other.id != id && other.call_ids.contains(shared) {
                    found.insert((other.started_at, other.id), other);
                }
            }
        }
    }
    let found = found.into_values().take(MAX_RELATED);
    let recordings = found.map(|recording| caller.shown(recording)).collect();
    Ok(Json(Recordings { recordings, next: None }))
}

fn near(started_at: WallTime, id: &str) -> SearchQuery {
    let at = |ms: i64| Some(WallTime::from_unix_ms(started_at.unix_ms().saturating_add(ms)));
    SearchQuery {
        from: at(-NEAR_MS),
        to: at(NEAR_MS),
        q: Some(id.to_owned()),
        limit: MAX_RELATED,
        ..SearchQuery::default()
    }
}

/// Some SRCs write the name of a queue where the id of a group belongs.
fn names_one_call(id: &str) -> bool {
    id.len() >= 6 && id.bytes().any(|byte| byte.is_ascii_digit())
}
