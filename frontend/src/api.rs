//! The HTTP API as functions. Every failure is a sentence that says what to do.

use std::fmt;

use gloo_net::http::{Request, RequestBuilder, Response};
use model::api::{ChangePassword, ErrorBody, Health, Live, Metadata, Recordings, SignIn, SignedIn};
use model::{Recording, RecordingId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::peaks::Peaks;
use crate::search::Request as SearchRequest;

/// Why the API gave no answer; split by what the person can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// No answer at all: wait, or look after the server or the network.
    Unreachable,
    /// Sign in, again.
    SignedOut,
    /// Ask an administrator.
    Forbidden,
    /// The thing is not there, or not any more.
    NotFound,
    /// The server says what is wrong.
    Refused { message: String, request_id: String },
    /// Server and page are of different versions: reload.
    Unreadable,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str(
                "The server cannot be reached. Recording may well go on; this page tries again.",
            ),
            Self::SignedOut => f.write_str("Your session has ended. Sign in again."),
            Self::Forbidden => {
                f.write_str("Your role does not permit this. An administrator can change that.")
            }
            Self::NotFound => f.write_str("There is nothing at this address, or not any more."),
            Self::Refused { message, request_id } if request_id.is_empty() => f.write_str(message),
            Self::Refused { message, request_id } => {
                write!(f, "{message} (Request {request_id})")
            }
            Self::Unreadable => f.write_str(
                "The server's answer could not be read. It may have been updated: reload the page.",
            ),
        }
    }
}

pub async fn current_session() -> Result<SignedIn, ApiError> {
    ask(Request::get("/v1/session")).await
}

pub async fn sign_in(login: String, password: String) -> Result<SignedIn, ApiError> {
    send(Request::post("/v1/session"), &SignIn { login, password, token: false })
        .await?
        .read()
        .await
}

pub async fn sign_out() -> Result<(), ApiError> {
    check(Request::delete("/v1/session").send().await).await.map(|_| ())
}

pub async fn change_password(current: String, new: String) -> Result<(), ApiError> {
    let body = ChangePassword { current, new };
    send(Request::post("/v1/session/password"), &body).await.map(|_| ())
}

pub async fn recordings(
    search: &SearchRequest,
    cursor: Option<&str>,
) -> Result<Recordings, ApiError> {
    ask(Request::get(&format!("/v1/recordings?{}", search.query_string(cursor)))).await
}

/// Whether anything was ever recorded that this person may see.
pub async fn has_any_recording() -> Result<bool, ApiError> {
    let found: Recordings = ask(Request::get("/v1/recordings?limit=1")).await?;
    Ok(!found.recordings.is_empty())
}

pub async fn recording(id: RecordingId) -> Result<Recording, ApiError> {
    ask(Request::get(&format!("/v1/recordings/{id}"))).await
}

pub async fn peaks(id: RecordingId) -> Result<Peaks, ApiError> {
    let peaks: Peaks = ask(Request::get(&format!("/v1/recordings/{id}/peaks"))).await?;
    if peaks.is_sound() { Ok(peaks) } else { Err(ApiError::Unreadable) }
}

pub async fn metadata(id: RecordingId) -> Result<Metadata, ApiError> {
    ask(Request::get(&format!("/v1/recordings/{id}/metadata"))).await
}

pub async fn live() -> Result<Live, ApiError> {
    ask(Request::get("/v1/live")).await
}

/// Some seconds of a call in progress.
pub struct LivePiece {
    pub from_ms: u64,
    pub next_from_ms: u64,
    pub is_going_on: bool,
    /// WebM; absent when there is nothing new.
    pub audio: Option<Vec<u8>>,
}

pub async fn live_piece(id: RecordingId, from_ms: Option<u64>) -> Result<LivePiece, ApiError> {
    let from = from_ms.map(|from_ms| format!("&from_ms={from_ms}")).unwrap_or_default();
    let asked = Request::get(&format!("/v1/recordings/{id}/audio?live=1{from}"));
    let Answer(response) = check(asked.send().await).await?;
    let header = |name: &str| response.headers().get(name);
    let number = |name: &str| header(name).and_then(|text| text.parse().ok());
    let from_ms = number("linekeeper-from-ms").ok_or(ApiError::Unreadable)?;
    let next_from_ms = number("linekeeper-next-from-ms").ok_or(ApiError::Unreadable)?;
    let is_going_on = header("linekeeper-in-progress").as_deref() == Some("1");
    let audio = match response.status() {
        204 => None,
        _ => Some(response.binary().await.map_err(|_| ApiError::Unreachable)?),
    };
    Ok(LivePiece { from_ms, next_from_ms, is_going_on, audio })
}

pub async fn health() -> Result<Health, ApiError> {
    ask(Request::get("/v1/health")).await
}

/// Where the browser's audio element fetches the call.
pub fn audio_url(id: RecordingId) -> String {
    format!("/v1/recordings/{id}/audio?format=webm")
}

/// Where the call can be downloaded, uncompressed.
pub fn wav_url(id: RecordingId) -> String {
    format!("/v1/recordings/{id}/audio?format=wav")
}

struct Answer(Response);

impl Answer {
    async fn read<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        let text = self.0.text().await.map_err(|_| ApiError::Unreachable)?;
        serde_json::from_str(&text).map_err(|_| ApiError::Unreadable)
    }
}

async fn ask<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ApiError> {
    check(request.header("accept", "application/json").send().await).await?.read().await
}

async fn send(request: RequestBuilder, body: &impl Serialize) -> Result<Answer, ApiError> {
    let request = request.json(body).map_err(|_| ApiError::Unreadable)?;
    check(request.send().await).await
}

async fn check(sent: Result<Response, gloo_net::Error>) -> Result<Answer, ApiError> {
    let response = sent.map_err(|_| ApiError::Unreachable)?;
    if response.ok() {
        return Ok(Answer(response));
    }
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    Err(explain(status, &body))
}

/// What a failed answer means. A body that is not ours comes from a proxy in between.
fn explain(status: u16, body: &str) -> ApiError {
    match (status, serde_json::from_str::<ErrorBody>(body)) {
        (401, _) => ApiError::SignedOut,
        (403, _) => ApiError::Forbidden,
        (404, _) => ApiError::NotFound,
        (_, Ok(body)) => ApiError::Refused {
            message: sentence(&body.error.message),
            request_id: body.error.request_id,
        },
        (502..=504, Err(_)) => ApiError::Unreachable,
        (_, Err(_)) => ApiError::Refused {
            message: format!("The server answered with status {status}. Try again."),
            request_id: String::new(),
        },
    }
}

/// The server writes messages as logs do; here they stand alone.
fn sentence(message: &str) -> String {
    let mut chars = message.trim_end_matches('.').chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_without_a_server_behind_it_counts_as_unreachable() {
        assert_eq!(explain(502, "<html>Bad Gateway</html>"), ApiError::Unreachable);
        assert_eq!(explain(401, ""), ApiError::SignedOut);
    }

    #[test]
    fn what_the_server_says_is_shown_with_the_request_to_quote() {
        let body = r#"{"error":{
            "code": "bad_range", "message": "the end is before the start", "request_id": "r-7"
        }}"#;
        assert_eq!(explain(400, body).to_string(), "The end is before the start. (Request r-7)");
        assert!(explain(500, "oh").to_string().contains("500"));
    }
}
