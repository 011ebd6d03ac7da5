//! The HTTP API under `/v1`: one axum router, served by the one-machine product and by Lambda.
//!
//! What every route can rely on, from the outside in:
//!
//! 1. [`error::describe`]: an id per request, a JSON body for every error.
//! 2. [`headers`]: guards for browsers, and `no-store`; JSON leaves compressed.
//! 3. [`access::decide`]: one permission decision, from one table.
//! 4. The handler, which reads parameters strictly and asks one port.

pub mod access;
mod audio;
mod content;
mod error;
mod groups;
pub mod headers;
pub(crate) mod health;
mod import;
mod live;
mod objects;
mod packets;
pub mod password;
mod query;
mod recordings;
mod related;
mod session;
mod throttle;
mod users;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use bytes::Bytes;
use model::{EdgeId, UserId, WallTime};
use segment::TenantKeyPair;
use storage_ports::{Accounts, EventQueue, ObjectStore, RecordingIndex};
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::Predicate;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use access::Arrival;
pub use error::ApiError;
pub use objects::SignedParts;
pub use packets::Renders;
pub use throttle::Throttle;

/// A body here is a login, a password or a few words.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Below this, compression costs more than it saves.
const COMPRESS_FROM_BYTES: u64 = 1_024;

/// Whether the engine signed this URL, and it has not expired by this time.
pub type VerifySignedUrl = Arc<dyn Fn(&SignedParts, WallTime) -> bool + Send + Sync>;
/// The command queue of an edge.
pub type CommandQueues = Arc<dyn Fn(&EdgeId) -> Option<Arc<dyn EventQueue>> + Send + Sync>;

/// Everything that handlers use. Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    pub index: Arc<dyn RecordingIndex>,
    pub accounts: Arc<dyn Accounts>,
    pub objects: Arc<dyn ObjectStore>,
    pub media_by: MediaBy,
    /// For engines whose signed URLs lead back to this API.
    pub verify_signed_url: Option<VerifySignedUrl>,
    /// Shown by `GET /v1/health`, under these names.
    pub queues: Arc<[(String, Arc<dyn EventQueue>)]>,
    pub commands: CommandQueues,
    /// Opens what was recorded for the tenant of this deployment.
    pub keys: Arc<TenantKeyPair>,
    pub clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
    /// Told after somebody has changed a password.
    pub password_changed: Arc<dyn Fn(&UserId) + Send + Sync>,
    pub throttle: Arc<Throttle>,
    pub renders: Arc<Renders>,
}

/// How audio gets to the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaBy {
    /// Through this API.
    Api,
    /// By redirect to a signed URL of the object store: an answer of a Lambda function is at
    /// most 6 MB.
    SignedUrl,
}

/// The API as a service.
pub fn router(state: ApiState) -> Router {
    let (routes, document) = routes().split_for_parts();
    let compression = CompressionLayer::new().compress_when(JsonOfSomeSize);
    routes
        .route_layer(from_fn_with_state(state.clone(), access::decide))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(Extension(Arc::new(OpenApiText::of(document))))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(compression)
        .layer(from_fn(headers::no_store))
        .layer(from_fn(error::describe))
        .layer(from_fn(headers::secure))
        .with_state(state)
}

/// The routes and the document that describes them: registered together, so that neither can
/// have what the other lacks.
fn routes() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(ApiDocument::openapi())
        .routes(routes!(session::sign_in, session::current, session::sign_out))
        .routes(routes!(session::change_password))
        .routes(routes!(recordings::list))
        .routes(routes!(recordings::one))
        .routes(routes!(recordings::metadata))
        .routes(routes!(related::related))
        .routes(routes!(audio::audio))
        .routes(routes!(audio::peaks))
        .routes(routes!(live::live))
        .routes(routes!(live::pause))
        .routes(routes!(live::resume))
        .routes(routes!(live::stop))
        .routes(routes!(health::health))
        .routes(routes!(users::list, users::add))
        .routes(routes!(import::import))
        .routes(routes!(users::one, users::change))
        .routes(routes!(users::reset_password))
        .routes(routes!(users::why))
        .routes(routes!(users::roles))
        .routes(routes!(groups::list))
        .routes(routes!(groups::set, groups::remove))
        .routes(routes!(objects::object))
        .routes(routes!(openapi))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Linekeeper",
        description = "Recordings of telephone calls: search, play, watch live. Lists page by \
                       cursor. Every error has a code for programs and a message for people."
    ),
    modifiers(&Schemes),
    security(("cookie" = []), ("bearer" = []))
)]
struct ApiDocument;

/// The two ways to show that one is signed in.
struct Schemes;

impl utoipa::Modify for Schemes {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let cookie = ApiKeyValue::with_description(
            "lk_session",
            "Set by POST /v1/session; over HTTPS its name is `__Host-lk_session`.",
        );
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie)));
        components
            .add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "system", security(()), responses(
    (status = 200, description = "OpenAPI 3.1", body = serde_json::Value),
))]
async fn openapi(
    State(_): State<ApiState>,
    Extension(text): Extension<Arc<OpenApiText>>,
) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], text.0.clone()).into_response()
}

struct OpenApiText(Bytes);

impl OpenApiText {
    fn of(mut document: utoipa::openapi::OpenApi) -> Self {
        // `{*key}` is how the router says that a parameter takes slashes; OpenAPI cannot say it.
        document.paths.paths = std::mem::take(&mut document.paths.paths)
            .into_iter()
            .map(|(path, item)| (path.replace("{*", "{"), item))
            .collect();
        Self(Bytes::from(document.to_json().expect("the document is strings, lists and maps")))
    }
}

/// JSON gains from compression; audio is compressed, and ranges of it must stay as they are.
#[derive(Clone, Copy)]
struct JsonOfSomeSize;

impl Predicate for JsonOfSomeSize {
    fn should_compress<B: axum::body::HttpBody>(&self, response: &axum::http::Response<B>) -> bool {
        let is_json = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        let is_small =
            response.body().size_hint().upper().is_some_and(|bytes| bytes < COMPRESS_FROM_BYTES);
        is_json && !is_small && response.status() != StatusCode::PARTIAL_CONTENT
    }
}

/// For routes without parameters: refuses any, because a mistaken one was meant for something.
fn unasked(query: Option<String>) -> Result<(), ApiError> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(()) };
    let name = query.split(['=', '&']).next().unwrap_or("").to_owned();
    query::known_once(&[(name, String::new())], &[])
}
