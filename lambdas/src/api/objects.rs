//! Objects by signed URL, for the engine that has no server of its own: whoever holds the URL
//! may read that one object until it expires.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::Response;
use model::api::ErrorBody;
use model::object_key::ObjectKey;
use storage_ports::StorageError;

use super::ApiState;
use super::content::Content;
use super::error::ApiError;

/// The parts of a signed URL, decoded.
#[derive(Clone, Debug)]
pub struct SignedParts {
    pub key: ObjectKey,
    /// Unix time in seconds.
    pub expires: u64,
    pub content_type: String,
    pub signature: String,
}

impl SignedParts {
    fn read(key: &str, query: &[(String, String)]) -> Option<Self> {
        let value = |wanted| query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        Some(Self {
            key: ObjectKey::parse(key).ok()?,
            expires: value("expires")?.parse().ok()?,
            content_type: value("type")?.clone(),
            signature: value("signature")?.clone(),
        })
    }
}

/// One object, to whoever holds its signed URL.
#[utoipa::path(get, path = "/v1/objects/{*key}", tag = "objects", security(()),
    params(
        ("key" = String, Path, description = "The object's key, slashes and all"),
        ("expires" = u64, Query, description = "Unix time in seconds"),
        ("type" = String, Query, description = "Content type of the answer"),
        ("signature" = String, Query),
        ("Range" = Option<String>, Header, description = "One byte range"),
    ),
    responses(
        (status = 200, description = "The object", content_type = "application/octet-stream",
            body = Vec<u8>),
        (status = 206, description = "The part that was asked for",
            content_type = "application/octet-stream", body = Vec<u8>),
        (status = 404, description = "The URL has expired, was changed, or never was",
            body = ErrorBody),
        (status = 416, description = "The range begins past the end", body = ErrorBody),
    ))]
pub async fn object(
    State(state): State<ApiState>,
    method: Method,
    headers: HeaderMap,
    Path(key): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    // One answer for every cause: it tells nobody which objects there are.
    let refused = || ApiError::not_found("this URL has expired or is not one of ours");
    let parts = SignedParts::read(&key, &query).ok_or_else(refused)?;
    let verify = state.verify_signed_url.as_ref().ok_or_else(refused)?;
    if !verify(&parts, (state.clock)()) {
        return Err(refused());
    }
    let content_type = HeaderValue::from_str(&parts.content_type).map_err(|_| refused())?;
    // A URL names one generation of one output, which never changes.
    let etag = parts.key.as_str().replace('/', "-");
    match Content::object(&state.objects, parts.key, content_type, etag).await {
        Ok(content) => Ok(content.respond(&method, &headers)),
        Err(StorageError::NotFound { .. }) => Err(refused()),
        Err(error) => Err(error.into()),
    }
}
