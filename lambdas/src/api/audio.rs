//! What can be heard and seen of a call once it is built: audio and its waveform.

use axum::extract::{Path, Query, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use model::access::Permission;
use model::api::ErrorBody;
use model::index::Finalized;
use model::object_key::{ObjectKey, Output};
use model::recording::Status;
use model::{JournalState, RecordingId, RecordingState};
use std::time::Duration;
use storage_ports::StorageError;

use super::access::Caller;
use super::content::Content;
use super::error::ApiError;
use super::query::known_once;
use super::{ApiState, MediaBy, packets, recordings, unasked};
use crate::listening::ListenError;
use crate::original::Made;

/// Opus in WebM, as browsers play it.
const WEBM: &str = "audio/webm";
/// Long enough to be followed, short enough to be useless when it leaks.
const SIGNED_FOR: Duration = Duration::from_secs(60);

/// The audio of a call: WebM with the parties left and right, or WAV or FLAC with a channel for each
/// track; one track alone; or everybody in one channel.
///
/// Ranges work for all. May redirect to a signed URL, which needs no sign-in and expires.
///
/// With `live=1`, what is known so far of a call in progress: at most 10 s from `from_ms` on, as
/// WebM that can be played by itself. `Linekeeper-Next-From-Ms` says from where to ask next; 204
/// that there is nothing new yet.
#[utoipa::path(get, path = "/v1/recordings/{id}/audio", tag = "recordings",
    params(
        ("id" = RecordingId, Path),
        ("format" = Option<String>, Query, description = "`webm` (else), `wav` or `flac`"),
        ("track" = Option<usize>, Query,
            description = "This track alone, counted from 0"),
        ("mono" = Option<String>, Query, description = "`1`: everybody in one channel, as WebM"),
        ("live" = Option<String>, Query, description = "`1`: of a call in progress"),
        ("from_ms" = Option<u64>, Query,
            description = "With `live`: milliseconds from the start of the call; else the newest"),
        ("Range" = Option<String>, Header, description = "One byte range"),
    ),
    responses(
        (status = 204, description = "Live: nothing new yet; ask again in a second"),
        (status = 200, description = "The audio", content(
            (Vec<u8> = "audio/webm"), (Vec<u8> = "audio/wav"), (Vec<u8> = "audio/flac"))),
        (status = 206, description = "The part that was asked for",
            content((Vec<u8> = "audio/webm"), (Vec<u8> = "audio/wav"), (Vec<u8> = "audio/flac"))),
        (status = 304, description = "Nothing has changed"),
        (status = 307, description = "It is at the signed URL in `Location`"),
        (status = 400, description = "A parameter is wrong", body = ErrorBody),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such recording or track", body = ErrorBody),
        (status = 409, description = "It cannot be played yet; the message says why", body = ErrorBody),
        (status = 410, description = "The recording was erased", body = ErrorBody),
        (status = 416, description = "The range begins past the end", body = ErrorBody),
    ))]
pub async fn audio(
    State(state): State<ApiState>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let wanted = wanted(&pairs)?;
    let id = recordings::id(&id)?;
    let (held, journal) = recordings::held(&state, &caller, id).await?;
    if let Wanted::Live { from_ms } = wanted {
        return live(&state, &caller, &held, &journal, from_ms).await;
    }
    let built = playable(&held, &journal)?;
    let tag = format!("{}-g{}", id.0.simple(), built.generation);
    match wanted {
        Wanted::Webm | Wanted::Live { .. } => {
            let key = ObjectKey::output(caller.tenant(), id, built.generation, Output::Webm);
            if state.media_by == MediaBy::SignedUrl {
                let url = state.objects.signed_url(&key, WEBM, SIGNED_FOR).await?;
                return redirect(&url.0);
            }
            let content = object(&state, key, WEBM, format!("{tag}-webm")).await?;
            Ok(content.named(format!("{id}.webm")).respond(&method, &headers))
        }
        Wanted::Made(made) => {
            if let Some(track) = made.track().filter(|track| *track >= built.tracks.len()) {
                let tracks = built.tracks.len();
                let message = format!("there is no track {track}: the call has {tracks}, from 0");
                return Err(ApiError::not_found(message));
            }
            let suffix = made.suffix();
            let content = packets::made(&state, &held, built, made, format!("{tag}{suffix}"));
            Ok(content.await?.named(format!("{id}{suffix}")).respond(&method, &headers))
        }
    }
}

/// The waveform, one channel per track (audiowaveform version 2 JSON).
#[utoipa::path(get, path = "/v1/recordings/{id}/peaks", tag = "recordings",
    params(("id" = RecordingId, Path)),
    responses(
        (status = 200, description = "The waveform", body = serde_json::Value),
        (status = 304, description = "Nothing has changed"),
        (status = 401, description = "Not signed in", body = ErrorBody),
        (status = 403, description = "Not permitted", body = ErrorBody),
        (status = 404, description = "There is no such recording", body = ErrorBody),
        (status = 409, description = "It cannot be played yet; the message says why", body = ErrorBody),
        (status = 410, description = "The recording was erased", body = ErrorBody),
    ))]
pub async fn peaks(
    State(state): State<ApiState>,
    caller: Caller,
    method: Method,
    mut headers: HeaderMap,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    unasked(query)?;
    let id = recordings::id(&id)?;
    let (held, journal) = recordings::held(&state, &caller, id).await?;
    let built = playable(&held, &journal)?;
    let key = ObjectKey::output(caller.tenant(), id, built.generation, Output::Peaks);
    let tag = format!("{}-g{}-peaks", id.0.simple(), built.generation);
    // JSON leaves compressed: a range of it would be a range of something else.
    headers.remove(header::RANGE);
    let content = object(&state, key, "application/json", tag).await?;
    Ok(content.respond(&method, &headers))
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Webm,
    Made(Made),
    Live { from_ms: Option<u64> },
}

fn wanted(pairs: &[(String, String)]) -> Result<Wanted, ApiError> {
    known_once(pairs, &["format", "track", "mono", "live", "from_ms"])?;
    let value =
        |wanted| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let track = value("track").map(|text| {
        let right = "write the number of a track, counted from 0";
        text.parse().map_err(|_| ApiError::bad_parameter("track", right))
    });
    let from_ms = value("from_ms").map(|text| {
        let right = "write milliseconds from the start of the call";
        text.parse().map_err(|_| ApiError::bad_parameter("from_ms", right))
    });
    match (value("live"), from_ms.transpose()?) {
        (None | Some("0"), None) => {}
        (None | Some("0"), Some(_)) => {
            return Err(ApiError::bad_parameter("from_ms", "it goes with `live=1`"));
        }
        (Some("1"), from_ms) if value("format").is_none_or(|format| format == "webm") => {
            if track.is_some() {
                return Err(ApiError::bad_parameter("track", "live audio has all tracks"));
            }
            return Ok(Wanted::Live { from_ms });
        }
        (Some("1"), _) => {
            return Err(ApiError::bad_parameter("format", "live audio comes as webm"));
        }
        (Some(_), _) => return Err(ApiError::bad_parameter("live", "there are 0, 1")),
    }
    let is_mono = match value("mono") {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return Err(ApiError::bad_parameter("mono", "there are 0, 1")),
    };
    let track = track.transpose()?;
    if is_mono && (track.is_some() || value("format").is_some_and(|format| format != "webm")) {
        return Err(ApiError::bad_parameter("mono", "it is all tracks, as webm"));
    }
    match (value("format"), track) {
        (None | Some("webm"), None) if is_mono => Ok(Wanted::Made(Made::Mono)),
        (None | Some("webm"), None) => Ok(Wanted::Webm),
        (None | Some("webm"), Some(track)) => Ok(Wanted::Made(Made::Track(track))),
        (Some("wav"), track) => Ok(Wanted::Made(Made::Wav { track })),
        (Some("flac"), track) => Ok(Wanted::Made(Made::Flac { track })),
        (Some(_), _) => Err(ApiError::bad_parameter("format", "there are webm, wav, flac")),
    }
}

/// Where a piece of a live call begins, where the next one does, and whether the call goes on.
const FROM_MS: HeaderName = HeaderName::from_static("linekeeper-from-ms");
const NEXT_FROM_MS: HeaderName = HeaderName::from_static("linekeeper-next-from-ms");
const IN_PROGRESS: HeaderName = HeaderName::from_static("linekeeper-in-progress");

async fn live(
    state: &ApiState,
    caller: &Caller,
    held: &RecordingState,
    journal: &JournalState,
    from_ms: Option<u64>,
) -> Result<Response, ApiError> {
    let role = caller.account.role;
    if !role.permits(Permission::Live) {
        let message = format!("the role {} may not listen to calls in progress", role.as_str());
        return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message));
    }
    let status = held.status(journal);
    recordings::not_erased(status)?;
    let Some(started) = held.started.as_ref().filter(|_| status != Status::Stored) else {
        let message = "this call is no longer in progress: ask for its audio without `live`";
        return Err(ApiError::conflict("not_in_progress", message));
    };
    let session = started.value.session;
    let piece = state
        .renders
        .listeners
        .piece(state.objects.as_ref(), &state.keys, held, session, from_ms)
        .await
        .map_err(|error| match error {
            ListenError::Storage(error) => error.into(),
            error => ApiError::internal(error),
        })?;
    let login = caller.login();
    let (from_ms, next_from_ms) = (piece.from_ms, piece.next_from_ms);
    tracing::info!(target: "audit", %login, recording = %held.id, from_ms, next_from_ms, "listened live");
    let is_going_on = HeaderValue::from_static(match status {
        Status::Recording => "1",
        _ => "0",
    });
    let headers = [
        (FROM_MS, HeaderValue::from(from_ms)),
        (NEXT_FROM_MS, HeaderValue::from(next_from_ms)),
        (IN_PROGRESS, is_going_on),
    ];
    Ok(match piece.webm {
        Some(webm) => {
            let webm_type = [(header::CONTENT_TYPE, HeaderValue::from_static(WEBM))];
            (headers, webm_type, webm).into_response()
        }
        None => (StatusCode::NO_CONTENT, headers).into_response(),
    })
}

/// The newest build, or why there is none.
fn playable<'a>(
    held: &'a RecordingState,
    journal: &JournalState,
) -> Result<&'a Finalized, ApiError> {
    let status = held.status(journal);
    recordings::not_erased(status)?;
    held.finalized.as_ref().ok_or_else(|| {
        let why = match status {
            Status::Recording => {
                "the call is in progress; it can be played a few seconds after its end"
            }
            Status::Partial => {
                "its recorder fell silent during the call; what has arrived is being prepared"
            }
            _ => "the call has just ended and is being prepared; try again in a few seconds",
        };
        ApiError::conflict("not_playable_yet", why).retry_after(2)
    })
}

async fn object(
    state: &ApiState,
    key: ObjectKey,
    content_type: &'static str,
    etag: String,
) -> Result<Content, ApiError> {
    let content_type = HeaderValue::from_static(content_type);
    Content::object(&state.objects, key, content_type, etag).await.map_err(|error| match error {
        // The index says that it is there: a promise is broken, not a URL.
        StorageError::NotFound { .. } => ApiError::internal(error),
        error => error.into(),
    })
}

fn redirect(url: &str) -> Result<Response, ApiError> {
    let location = HeaderValue::from_str(url).map_err(ApiError::internal)?;
    Ok((StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(pairs: &[(&str, &str)]) -> Result<Wanted, ApiError> {
        let pairs: Vec<_> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        wanted(&pairs)
    }

    #[test]
    fn a_format_or_track_that_does_not_exist_is_named() {
        assert_eq!(ask(&[]).unwrap(), Wanted::Webm);
        let made = |pairs: &[(&str, &str)]| match ask(pairs).unwrap() {
            Wanted::Made(made) => made,
            other => panic!("{other:?}"),
        };
        assert_eq!(made(&[("format", "wav")]), Made::Wav { track: None });
        assert_eq!(made(&[("format", "flac")]), Made::Flac { track: None });
        assert_eq!(made(&[("track", "2")]), Made::Track(2));
        assert_eq!(made(&[("mono", "1")]), Made::Mono);
        let live = ask(&[("live", "1"), ("from_ms", "4000")]).unwrap();
        assert_eq!(live, Wanted::Live { from_ms: Some(4_000) });
        let one = ask(&[("track", "1"), ("format", "wav")]).unwrap();
        assert_eq!(one, Wanted::Made(Made::Wav { track: Some(1) }));
        for (pairs, named) in [
            (&[("format", "mp3")][..], "webm, wav, flac"),
            (&[("mono", "1"), ("track", "1")], "all tracks"),
            (&[("format", "wav"), ("track", "left")], "counted from 0"),
            (&[("formta", "wav")], "format, track, mono"),
            (&[("live", "yes")], "0, 1"),
            (&[("live", "1"), ("format", "wav")], "webm"),
            (&[("live", "1"), ("from_ms", "-1")], "milliseconds"),
            (&[("from_ms", "5")], "live=1"),
        ] {
            let error = ask(pairs).unwrap_err();
            assert!(error.status == 400 && error.message.contains(named), "{}", error.message);
        }
    }
}
