//! Calls in progress, and what can be told to their recorder.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::api::{CommandOutcome, ErrorBody, Live};
use model::command::{self, Command, CommandBody};
use model::id::CommandId;
use model::recording::Status;
use model::{Recording, RecordingId};
use sha2::{Digest, Sha256};
use storage_ports::Message;

use super::ApiState;
use super::access::Caller;
use super::content::matches_any;
use super::error::ApiError;
use super::{recordings, unasked};

/// How long a recorder may take to say that it did as told. It should take less than one.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Calls in progress, oldest first.
///
/// The ETag changes with the calls, not with the clock: poll with `If-None-Match`.
#[utoipa::path(get, path = "/v1/live", tag = "live",
    params(("If-None-Match" = Option<String>, Header, description = "ETag of an earlier answer")),
    responses(
        (status = 200, description = "Calls in progress", body = Live),
        (status = 304, description = "Nothing has changed"),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
    ))]
pub async fn live(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    unasked(query)?;
    let recordings = state.index.live(caller.tenant()).await?;
    let recordings: Vec<Recording> =
        // The whole list is here, and its ETag is of what is shown: nothing tells of the others.
        recordings
            .into_iter()
            .filter(|recording| caller.reaches(recording))
            .map(|recording| caller.shown(recording))
            .collect();
    let shown = serde_json::to_vec(&recordings).map_err(ApiError::internal)?;
    let etag = format!("\"{}\"", hex(&Sha256::digest(&shown)[..16]));
    let tag = HeaderValue::try_from(&etag).map_err(ApiError::internal)?;
    if matches_any(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let live = Live { now: (state.clock)(), recordings };
    Ok(([(header::ETAG, tag)], Json(live)).into_response())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Stops keeping this call's audio until it is resumed. What is said meanwhile is never stored.
#[utoipa::path(post, path = "/v1/recordings/{id}/pause", tag = "live",
    params(("id" = RecordingId, Path)),
    responses(
        (status = 200, description = "The recorder did it", body = CommandOutcome),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such recording", body = ErrorBody),
        (status = 409, description = "It is over, or the recorder could not", body = ErrorBody),
        (status = 504, description = "The recorder did not answer", body = ErrorBody),
    ))]
pub async fn pause(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<CommandOutcome>, ApiError> {
    let recording = recordings::id(&id)?;
    command(&state, &caller, recording, CommandBody::Pause { recording }).await
}

/// Keeps this call's audio again.
#[utoipa::path(post, path = "/v1/recordings/{id}/resume", tag = "live",
    params(("id" = RecordingId, Path)),
    responses(
        (status = 200, description = "The recorder did it", body = CommandOutcome),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such recording", body = ErrorBody),
        (status = 409, description = "It is over, or the recorder could not", body = ErrorBody),
        (status = 504, description = "The recorder did not answer", body = ErrorBody),
    ))]
pub async fn resume(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<CommandOutcome>, ApiError> {
    let recording = recordings::id(&id)?;
    command(&state, &caller, recording, CommandBody::Resume { recording }).await
}

/// Ends the recording. The call itself goes on.
#[utoipa::path(post, path = "/v1/recordings/{id}/stop", tag = "live",
    params(("id" = RecordingId, Path)),
    responses(
        (status = 200, description = "The recorder did it", body = CommandOutcome),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such recording", body = ErrorBody),
        (status = 409, description = "It is over, or the recorder could not", body = ErrorBody),
        (status = 504, description = "The recorder did not answer", body = ErrorBody),
    ))]
pub async fn stop(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<CommandOutcome>, ApiError> {
    let recording = recordings::id(&id)?;
    command(&state, &caller, recording, CommandBody::Stop { recording }).await
}

/// Sends a command to the recorder of this call and waits for its `command_done`.
async fn command(
    state: &ApiState,
    caller: &Caller,
    recording: RecordingId,
    body: CommandBody,
) -> Result<Json<CommandOutcome>, ApiError> {
    let (held, journal) = recordings::held(state, caller, recording).await?;
    if held.status(&journal) != Status::Recording {
        return Err(ApiError::conflict("not_in_progress", "this call is no longer in progress"));
    }
    let Some(queue) = (state.commands)(&held.edge) else {
        let message =
            format!("no way to reach recorder {}; is its name configured here?", held.edge);
        return Err(ApiError::conflict("unknown_edge", message));
    };
    let now = (state.clock)();
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(ApiError::internal)?;
    let id = CommandId::at(u64::try_from(now.unix_ms()).unwrap_or(0), random);
    let command = Command { version: command::VERSION, id, at: now, body };
    let text = serde_json::to_string(&command).map_err(ApiError::internal)?;
    queue.send(&[Message::now(text)]).await?;
    tracing::info!(login = %caller.login(), %recording, command = ?command.body, "command sent");

    let outcome = tokio::time::timeout(ANSWER_WITHIN, async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let journal = state.index.journal(held.journal).await?;
            if let Some(outcome) = journal.and_then(|journal| journal.commands.get(&id).cloned()) {
                return Ok::<_, ApiError>(outcome);
            }
        }
    })
    .await;
    match outcome {
        Ok(Ok((true, detail))) => Ok(Json(CommandOutcome { command: id, detail })),
        Ok(Ok((false, detail))) => Err(ApiError::conflict("command_refused", detail)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ApiError::new(
            StatusCode::GATEWAY_TIMEOUT,
            "recorder_silent",
            "the recorder has not answered; look at the call before trying again, because it \
             may still do it within a minute",
        )),
    }
}
