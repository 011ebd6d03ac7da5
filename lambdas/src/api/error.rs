//! What a client is told when something is wrong: always a status, a code, a sentence.
//!
//! A handler returns [`ApiError`]; [`describe`] turns it, and every error that the framework
//! answers by itself (405, 413, …), into an [`ErrorBody`] that carries the request's id.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use model::api::{ErrorBody, ErrorDetail};
use serde::de::DeserializeOwned;
use std::sync::Arc;
use storage_ports::StorageError;

/// An answer of 400 or above.
#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    /// For programs; part of the API.
    pub code: &'static str,
    /// For people: what was wrong and what to do.
    pub message: String,
    /// Seconds after which trying again may help.
    pub retry_after_secs: Option<u64>,
    /// For the log only: says nothing to the client.
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_secs: None, cause: None }
    }

    pub fn bad_parameter(name: &str, what_is_right: impl std::fmt::Display) -> Self {
        let message = format!("parameter `{name}`: {what_is_right}");
        Self::new(StatusCode::BAD_REQUEST, "bad_parameter", message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// Our own fault, or a broken object: nothing that the client can change.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let message = "something is wrong on our side; the server's log has this request's id";
        Self {
            cause: Some(Arc::from(cause.into())),
            ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
        }
    }

    pub fn retry_after(self, secs: u64) -> Self {
        Self { retry_after_secs: Some(secs), ..self }
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        if error.is_retryable() {
            let message = "the storage does not answer at the moment; try again in a few seconds";
            let unavailable =
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", message);
            Self { cause: Some(Arc::new(error)), ..unavailable.retry_after(2) }
        } else {
            Self::internal(error)
        }
    }
}

/// The part of an [`ApiError`] that [`describe`] reads from the response.
#[derive(Clone)]
struct Fault {
    code: &'static str,
    message: String,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        if let Some(secs) = self.retry_after_secs {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let fault = Fault { code: self.code, message: self.message, cause: self.cause };
        response.extensions_mut().insert(fault);
        response
    }
}

/// Gives the request an id, told in `x-request-id` and in the log, and its answer a body when it
/// is an error.
pub async fn describe(request: Request, next: Next) -> Response {
    let id = request_id();
    let method = request.method().clone();
    // The path alone: a query may hold names and numbers of callers.
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;

    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let fault = response.extensions_mut().remove::<Fault>().unwrap_or_else(|| general(status));
        if status.is_server_error() {
            tracing::error!(
                request_id = id,
                %method,
                path,
                status = status.as_u16(),
                error = fault.cause.as_deref().map(|cause| cause as &dyn std::error::Error),
                "request could not be answered"
            );
        } else {
            tracing::debug!(request_id = id, %method, path, status = status.as_u16(), fault.code);
        }
        response = with_error_body(response, fault, &id);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

fn with_error_body(response: Response, fault: Fault, id: &str) -> Response {
    let detail = ErrorDetail {
        code: fault.code.to_owned(),
        message: fault.message,
        request_id: id.to_owned(),
    };
    let body =
        serde_json::to_vec(&ErrorBody { error: detail }).expect("three strings always make JSON");
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::from(body))
}

/// Words for errors that the framework answers by itself.
fn general(status: StatusCode) -> Fault {
    let (code, message) = match status {
        StatusCode::METHOD_NOT_ALLOWED => {
            ("method_not_allowed", "this path does not take this method; see /v1/openapi.json")
        }
        StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "the body is larger than 64 KiB"),
        StatusCode::NOT_FOUND => ("not_found", "there is nothing here; see /v1/openapi.json"),
        status if status.is_server_error() => ("internal", "something is wrong on our side"),
        _ => ("bad_request", "the request could not be understood; see /v1/openapi.json"),
    };
    Fault { code, message: message.to_owned(), cause: None }
}

fn request_id() -> String {
    let mut random = [0; 8];
    // Without randomness there is still a usable answer; an id is not a secret.
    let _ = getrandom::fill(&mut random);
    format!("{:016x}", u64::from_be_bytes(random))
}

/// A JSON body of type `T`. Its content type must say so, which also keeps plain HTML forms of
/// other sites out.
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "send the body as JSON with `content-type: application/json`",
            ));
        }
        let bytes = bytes::Bytes::from_request(request, state).await.map_err(|rejection| {
            let fault = general(rejection.status());
            ApiError::new(rejection.status(), fault.code, fault.message)
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            let message = format!("the body is not what this path takes: {error}");
            ApiError::new(StatusCode::BAD_REQUEST, "bad_body", message)
        })
    }
}
