//! The list, one recording, and the metadata its SRC sent.

use axum::Json;
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::StatusCode;
use model::api::{ErrorBody, Metadata, MetadataDocument, Recordings};
use model::recording::{Recording, Status};
use model::search::Cursor;
use model::{JournalState, RecordingId, RecordingState};

use super::access::Caller;
use super::error::ApiError;
use super::query::search_query;
use super::{ApiState, groups, packets, unasked};

/// SIPREC metadata (RFC 7865 §5). Index entries do not carry the type that was sent.
const METADATA_TYPE: &str = "application/rs-metadata+xml";

/// Recordings, newest first.
#[utoipa::path(get, path = "/v1/recordings", tag = "recordings",
    params(
        ("from" = Option<String>, Query, description = "Started at or after (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Started before (RFC 3339)"),
        ("q" = Option<String>, Query,
            description = "Words, all of which are in names, numbers, ids or flags; accents and \
                           case do not matter"),
        ("status" = Option<Status>, Query),
        ("party" = Option<String>, Query, description = "Part of a participant's name or address"),
        ("user" = Option<String>, Query, description = "Calls of this user"),
        ("group" = Option<String>, Query,
            description = "Calls of this group's members and addresses, as far as in scope"),
        ("min_seconds" = Option<u32>, Query, description = "At least this long"),
        ("limit" = Option<usize>, Query, description = "Rows per page, 1 to 1000; else 100"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before, unchanged"),
    ),
    responses(
        (status = 200, description = "One page", body = Recordings),
        (status = 400, description = "A parameter is wrong; the message says which and what is right",
            body = ErrorBody),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
    ))]
pub async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Recordings>, ApiError> {
    let mut query = search_query(&pairs)?;
    if let Some(name) = query.group.take() {
        // A group that does not exist has no calls, and nobody learns that it does not.
        let owned = groups::assignments(&state, caller.tenant(), &name).await?;
        query.scope = Some(owned.unwrap_or_default());
    }
    let query = caller.within_reach(query);
    let page = state.index.search(caller.tenant(), &query).await?;
    let next = page.next.as_ref().map(Cursor::encode);
    let recordings = page.items.into_iter().map(|item| caller.shown(item)).collect();
    Ok(Json(Recordings { recordings, next }))
}

/// One recording.
#[utoipa::path(get, path = "/v1/recordings/{id}", tag = "recordings",
    params(("id" = RecordingId, Path)),
    responses(
        (status = 200, description = "The recording", body = Recording),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such recording", body = ErrorBody),
    ))]
pub async fn one(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Recording>, ApiError> {
    unasked(query)?;
    let id = self::id(&id)?;
    let (held, journal) = self::held(&state, &caller, id).await?;
    let view = held.view(&journal).ok_or_else(|| unknown(id))?;
    Ok(Json(caller.shown(view)))
}

/// Every SIPREC document of the call, as received and when, in the order in which they came.
#[utoipa::path(get, path = "/v1/recordings/{id}/metadata", tag = "recordings",
    params(("id" = RecordingId, Path)),
    responses(
        (status = 200, description = "The documents; none when the SRC sent none", body = Metadata),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such recording", body = ErrorBody),
        (status = 410, description = "The recording was erased", body = ErrorBody),
    ))]
pub async fn metadata(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Metadata>, ApiError> {
    unasked(query)?;
    let id = self::id(&id)?;
    let (held, journal) = self::held(&state, &caller, id).await?;
    not_erased(held.status(&journal))?;
    let all_in_index = held.documents.values().all(|document| document.text.is_some());
    let documents = match &held.finalized {
        // Too large for an event, or not text: only the packets object has it.
        Some(built) if !all_in_index => packets::documents(&state, &held, built).await?,
        _ => indexed_documents(&held),
    };
    Ok(Json(Metadata { id, documents }))
}

/// While the call is not built yet, a large document shows as received, without its text.
fn indexed_documents(held: &RecordingState) -> Vec<MetadataDocument> {
    let documents = held.documents.values();
    documents
        .map(|document| MetadataDocument {
            received_at: document.at,
            content_type: METADATA_TYPE.to_owned(),
            text: document.text.clone(),
            base64: None,
        })
        .collect()
}

/// The id in a path. What is not an id names no recording either.
pub fn id(text: &str) -> Result<RecordingId, ApiError> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        ApiError::not_found(format!("{shown:?} is not the id of a recording"))
    })
}

/// What the index has of a recording that the caller can see: every route about one asks here.
pub async fn held(
    state: &ApiState,
    caller: &Caller,
    id: RecordingId,
) -> Result<(RecordingState, JournalState), ApiError> {
    let held = state.index.state(caller.tenant(), id).await?.ok_or_else(|| unknown(id))?;
    // Before its `started` has come, a recording is not shown anywhere; outside of the caller's
    // scope it is not there either.
    let view = held.0.view(&held.1).filter(|view| caller.reaches(view));
    view.map(|_| held).ok_or_else(|| unknown(id))
}

pub fn not_erased(status: Status) -> Result<(), ApiError> {
    if matches!(status, Status::Purging | Status::Deleted) {
        let message = "this recording was erased, by request or by the retention policy";
        return Err(ApiError::new(StatusCode::GONE, "erased", message));
    }
    Ok(())
}

fn unknown(id: RecordingId) -> ApiError {
    ApiError::not_found(format!("there is no recording {id}"))
}
