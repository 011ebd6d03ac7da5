//! What is made of a recording's packets object when it is asked for: WAV, FLAC, one track or one channel alone, and metadata that was
//! too large for the index.
//!
//! Rendering takes a whole call through its decoders, so only one is done at a time, and the
//! latest results are kept: a player that seeks in a WAV asks for range after range of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::http::HeaderValue;
use bytes::Bytes;
use model::RecordingState;
use model::api::MetadataDocument;
use model::index::Finalized;

use super::ApiState;
use super::content::{Content, Source};
use super::error::ApiError;
use crate::listening::Listeners;
use crate::original::{Made, Original, OriginalError};

/// What is kept of finished renderings. An hour of two parties at 8 kHz is 115 MB.
const KEPT_BYTES: usize = 256 * 1024 * 1024;

/// The latest renderings, by their tag, and the turn to make another.
#[derive(Default)]
pub struct Renders {
    kept: Mutex<VecDeque<(String, Bytes)>>,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Calls in progress that somebody listens to.
    pub listeners: Listeners,
}

/// Held while a packets object is in memory.
type Turn = tokio::sync::OwnedMutexGuard<()>;

impl Renders {
    async fn turn(&self) -> Turn {
        self.turn.clone().lock_owned().await
    }

    fn find(&self, tag: &str) -> Option<Bytes> {
        let kept = self.kept.lock().expect("no code panics while it holds this lock");
        kept.iter().find(|(held, _)| held == tag).map(|(_, bytes)| bytes.clone())
    }

    fn keep(&self, tag: String, bytes: Bytes) {
        let mut kept = self.kept.lock().expect("no code panics while it holds this lock");
        kept.push_front((tag, bytes));
        let mut total = 0_usize;
        kept.retain(|(_, bytes)| {
            total = total.saturating_add(bytes.len());
            total <= KEPT_BYTES
        });
    }
}

/// The documents of a call as they were received.
pub async fn documents(
    state: &ApiState,
    held: &RecordingState,
    built: &Finalized,
) -> Result<Vec<MetadataDocument>, ApiError> {
    let turn = state.renders.turn().await;
    let (documents, _turn) =
        open(state, held, built, turn, |original| original.documents()).await?;
    Ok(documents)
}

/// A file that is made of the packets.
pub async fn made(
    state: &ApiState,
    held: &RecordingState,
    built: &Finalized,
    wanted: Made,
    tag: String,
) -> Result<Content, ApiError> {
    let bytes = match state.renders.find(&tag) {
        Some(bytes) => bytes,
        None => render(state, held, built, wanted, &tag).await?,
    };
    Ok(Content {
        bytes: bytes.len() as u64,
        source: Source::Memory(bytes),
        etag: tag,
        content_type: HeaderValue::from_static(wanted.content_type()),
        file_name: None,
    })
}

async fn render(
    state: &ApiState,
    held: &RecordingState,
    built: &Finalized,
    wanted: Made,
    tag: &str,
) -> Result<Bytes, ApiError> {
    let turn = state.renders.turn().await;
    // Whoever had the turn before may have made the same one.
    if let Some(bytes) = state.renders.find(tag) {
        return Ok(bytes);
    }
    let made = open(state, held, built, turn, move |original| original.made(wanted));
    let (made, _turn) = made.await?;
    let bytes = Bytes::from(made);
    state.renders.keep(tag.to_owned(), bytes.clone());
    Ok(bytes)
}

/// Takes the turn along, and gives it back: a client that goes away stops no thread.
async fn open<T: Send + 'static>(
    state: &ApiState,
    held: &RecordingState,
    built: &Finalized,
    turn: Turn,
    work: impl FnOnce(Original) -> Result<T, OriginalError> + Send + 'static,
) -> Result<(T, Turn), ApiError> {
    // A build is told to the index only when its packets are stored: their absence is no 404.
    let bytes = Original::bytes(state.objects.as_ref(), held).await.map_err(|error| {
        if error.is_retryable() { ApiError::from(error) } else { ApiError::internal(error) }
    })?;
    let (keys, held, built) = (state.keys.clone(), held.clone(), built.clone());
    let made = tokio::task::spawn_blocking(move || {
        let made = Original::open(&bytes, &keys, &held, &built).and_then(work);
        made.map(|made| (made, turn))
    });
    made.await.map_err(ApiError::internal)?.map_err(ApiError::internal)
}

#[test]
fn only_as_much_is_kept_as_there_is_room_for() {
    let renders = Renders::default();
    let half = Bytes::from(vec![0; KEPT_BYTES / 2]);
    for tag in ["first", "second", "third"] {
        renders.keep(tag.to_owned(), half.clone());
    }
    assert!(renders.find("first").is_none());
    assert!(renders.find("second").is_some() && renders.find("third").is_some());
    renders.keep("huge".to_owned(), Bytes::from(vec![0; KEPT_BYTES + 1]));
    assert!(renders.find("huge").is_none());
}
