//! What is made of a recording's packets object when it is asked for: WAV, and metadata that was
//! too large for the index.
//!
//! Rendering takes a whole call through its decoders, so only one is done at a time, and the
//! latest results are kept: a player that seeks in a WAV asks for range after range of it.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::http::HeaderValue;
use bytes::Bytes;
use model::api::MetadataDocument;
use model::index::Finalized;
use model::object_key::ObjectKey;
use model::{RecordingState, WallTime};
use segment::{Body, Opener, PacketsReader, RecordKind, SealedKey, TenantKeyPair};
use storage_ports::StorageError;

use super::ApiState;
use super::content::{Content, Source};
use super::error::ApiError;
use super::recordings::shown;

/// What is kept of finished renderings. An hour of two parties at 8 kHz is 115 MB.
const KEPT_BYTES: usize = 256 * 1024 * 1024;

/// The latest renderings, by their tag, and the one under way.
#[derive(Default)]
pub struct Renders {
    kept: Mutex<VecDeque<(String, Bytes)>>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

impl Renders {
    fn find(&self, tag: &str) -> Option<Bytes> {
        let kept = self.kept.lock().expect("no code panics while it holds this lock");
        kept.iter().find(|(held, _)| held == tag).map(|(_, bytes)| bytes.clone())
    }

    fn keep(&self, tag: String, bytes: Bytes) {
        let mut kept = self.kept.lock().expect("no code panics while it holds this lock");
        kept.push_front((tag, bytes));
        let mut total = 0;
        kept.retain(|(_, bytes)| {
            total += bytes.len();
            total <= KEPT_BYTES
        });
    }
}

/// The documents of a call as they were received, read from its packets object.
pub async fn documents(
    state: &ApiState,
    held: &RecordingState,
    built: &Finalized,
) -> Result<Vec<MetadataDocument>, ApiError> {
    let packets = packets(state, held).await?;
    let (keys, sealed) = (state.keys.clone(), built.sealed_keys.clone());
    on_a_thread(move || read_documents(&packets, &keys, &sealed)).await
}

fn read_documents(
    packets: &[u8],
    keys: &TenantKeyPair,
    sealed: &[String],
) -> Result<Vec<MetadataDocument>, ApiError> {
    let reader = PacketsReader::open(packets).map_err(ApiError::internal)?;
    let opener = Opener::new(keys, reader.header.session, &parse_keys(sealed)?);
    let mut documents = Vec::new();
    for record in reader {
        let record = record.map_err(ApiError::internal)?;
        if record.kind != RecordKind::Metadata {
            continue;
        }
        let body = opener.open_record(&record).map_err(ApiError::internal)?;
        if let Some(Body::Metadata(document)) = body {
            let received_at = WallTime::from_unix_ms(document.received_wall_ms);
            documents.push(shown(received_at, document.content_type, &document.bytes));
        }
    }
    Ok(documents)
}

fn parse_keys(sealed: &[String]) -> Result<Vec<SealedKey>, ApiError> {
    sealed.iter().map(|text| text.parse().map_err(ApiError::internal)).collect()
}

async fn packets(state: &ApiState, held: &RecordingState) -> Result<Bytes, ApiError> {
    let key = ObjectKey::packets(&held.tenant, held.id);
    state.objects.get(&key).await.map_err(|error| match error {
        // A build is only told to the index once this object is stored.
        StorageError::NotFound { .. } => ApiError::internal(error),
        error => error.into(),
    })
}

async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(ApiError::internal)?
}

/// The call as WAV, whole or one track.
pub async fn wav(
    state: &ApiState,
    held: &RecordingState,
    built: &Finalized,
    track: Option<usize>,
    tag: String,
) -> Result<Content, ApiError> {
    let bytes = match state.renders.find(&tag) {
        Some(bytes) => bytes,
        None => {
            let _turn = state.renders.one_at_a_time.lock().await;
            // Whoever had the turn before may have made the same one.
            match state.renders.find(&tag) {
                Some(bytes) => bytes,
                None => {
                    let bytes = render_wav(state, held, built, track).await?;
                    state.renders.keep(tag.clone(), bytes.clone());
                    bytes
                }
            }
        }
    };
    Ok(Content {
        bytes: bytes.len() as u64,
        source: Source::Memory(bytes),
        etag: tag,
        content_type: HeaderValue::from_static("audio/wav"),
        file_name: None,
    })
}
async fn render_wav(
    _state: &ApiState,
    _held: &RecordingState,
    _built: &Finalized,
    _track: Option<usize>,
) -> Result<Bytes, ApiError> {
    Err(ApiError::not_found("PLACEHOLDER until media lands"))
}
