//! Serves bytes in ranges: players seek, and a broken download goes on where it broke
//! (RFC 9110 §14).
//!
//! - One range per answer. A request for several is answered whole, which §14.2 permits.
//! - Whatever is not a byte range that we understand is ignored, not refused (§14.2).
//! - `If-None-Match` goes before `Range` (§14.2), `If-Range` decides whether `Range` counts
//!   (§13.1.5).

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use model::object_key::ObjectKey;
use storage_ports::{ObjectStore, StorageError};

use super::error::ApiError;

/// Bytes read from the store at a time: what one slow listener holds in memory.
const CHUNK_BYTES: u64 = 256 * 1024;

/// Something to serve.
pub struct Content {
    pub source: Source,
    pub bytes: u64,
    /// Strong: the same tag means the same bytes. Without the quotes.
    pub etag: String,
    pub content_type: HeaderValue,
    /// What a browser calls it when it is saved.
    pub file_name: Option<String>,
}

pub enum Source {
    Object { store: Arc<dyn ObjectStore>, key: ObjectKey },
    Memory(Bytes),
}

impl Content {
    /// The object at `key`; its size is read, the rest when the client takes it.
    pub async fn object(
        store: &Arc<dyn ObjectStore>,
        key: ObjectKey,
        content_type: HeaderValue,
        etag: String,
    ) -> Result<Self, StorageError> {
        let bytes = store.size(&key).await?;
        let source = Source::Object { store: store.clone(), key };
        Ok(Self { source, bytes, etag, content_type, file_name: None })
    }

    pub fn named(self, file_name: String) -> Self {
        Self { file_name: Some(file_name), ..self }
    }

    /// The answer to `method` with `asked` headers.
    pub fn respond(self, method: &Method, asked: &HeaderMap) -> Response {
        let etag = format!("\"{}\"", self.etag);
        if matches_any(asked, &etag) {
            return (StatusCode::NOT_MODIFIED, self.validators(&etag)).into_response();
        }
        let range = if *method == Method::GET && may_use_range(asked, &etag) {
            read_range(asked, self.bytes)
        } else {
            Asked::Whole
        };
        let mut headers = self.validators(&etag);
        headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        if let Some(disposition) = self.disposition() {
            headers.insert(header::CONTENT_DISPOSITION, disposition);
        }
        let (status, range) = match range {
            Asked::Whole => (StatusCode::OK, 0..self.bytes),
            Asked::Part(range) => {
                let shown = format!("bytes {}-{}/{}", range.start, range.end - 1, self.bytes);
                headers.insert(header::CONTENT_RANGE, ascii(shown));
                (StatusCode::PARTIAL_CONTENT, range)
            }
            Asked::Outside => return self.outside(),
        };
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        let body = if *method == Method::HEAD { Body::empty() } else { self.body(range) };
        (status, headers, body).into_response()
    }

    fn validators(&self, etag: &str) -> HeaderMap {
        HeaderMap::from_iter([
            (header::ETAG, ascii(etag.to_owned())),
            (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        ])
    }

    fn outside(&self) -> Response {
        let message = format!("the range begins past the end: there are {} bytes", self.bytes);
        let mut response =
            ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "bad_range", message).into_response();
        let shown = ascii(format!("bytes */{}", self.bytes));
        response.headers_mut().insert(header::CONTENT_RANGE, shown);
        response
    }

    /// `inline`, so that players play it; the name is for whoever saves it.
    fn disposition(&self) -> Option<HeaderValue> {
        let name = self.file_name.as_deref()?;
        HeaderValue::from_str(&format!("inline; filename=\"{name}\"")).ok()
    }

    fn body(self, range: Range<u64>) -> Body {
        match self.source {
            Source::Memory(bytes) => {
                // A part of what is in memory fits usize.
                Body::from(bytes.slice(range.start as usize..range.end as usize))
            }
            Source::Object { store, key } => {
                let chunks =
                    stream::unfold((store, key, range), |(store, key, range)| async move {
                        if range.is_empty() {
                            return None;
                        }
                        let end = range.end.min(range.start + CHUNK_BYTES);
                        let read = read_chunk(store.as_ref(), &key, range.start..end).await;
                        // After an error nothing more is read: the client sees a broken transfer.
                        let rest = if read.is_ok() { end..range.end } else { range.end..range.end };
                        Some((read, (store, key, rest)))
                    });
                // The compression layer asks once more after the end.
                Body::from_stream(chunks.fuse())
            }
        }
    }
}

/// Exactly `range`: a shorter answer would leave the client waiting for bytes that we announced.
async fn read_chunk(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    range: Range<u64>,
) -> Result<Bytes, StorageError> {
    let wanted = range.end - range.start;
    let bytes = store.get_range(key, range).await?;
    if bytes.len() as u64 == wanted {
        return Ok(bytes);
    }
    tracing::error!(%key, wanted, read = bytes.len(), "object is shorter than its size");
    Err(StorageError::NotFound { what: format!("the rest of {key}") })
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    Part(Range<u64>),
    /// 416: no byte of it exists.
    Outside,
}

fn read_range(asked: &HeaderMap, length: u64) -> Asked {
    let text = asked.get(header::RANGE).and_then(|value| value.to_str().ok());
    text.map_or(Asked::Whole, |text| byte_range(text, length).unwrap_or(Asked::Whole))
}

/// One byte range (RFC 9110 §14.1.2); `None` when it is not one.
fn byte_range(text: &str, length: u64) -> Option<Asked> {
    let (unit, ranges) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return None;
    }
    let (first, last) = ranges.trim().split_once('-')?;
    if first.is_empty() {
        let suffix = decimal(last)?;
        return Some(match suffix.min(length) {
            0 => Asked::Outside,
            taken => Asked::Part(length - taken..length),
        });
    }
    let first = decimal(first)?;
    let end = match last {
        "" => length,
        last => {
            let last = decimal(last)?;
            if last < first {
                return None;
            }
            last.saturating_add(1).min(length)
        }
    };
    Some(if first < length { Asked::Part(first..end) } else { Asked::Outside })
}

/// Digits only (`u64::from_str` takes a plus sign); more than fits counts as the largest, as
/// §14.1.2 asks for protection against overflow.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn may_use_range(asked: &HeaderMap, etag: &str) -> bool {
    // A date never matches, because we send no Last-Modified.
    asked.get(header::IF_RANGE).is_none_or(|held| held.as_bytes() == etag.as_bytes())
}

/// Whether the client says in `If-None-Match` that it has this already (RFC 9110 §13.1.2: weak
/// comparison, so a `W/` in front does not matter).
pub fn matches_any(asked: &HeaderMap, etag: &str) -> bool {
    asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|held| held == "*" || held.strip_prefix("W/").unwrap_or(held) == etag)
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("made of digits, hex and letters of ours")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_9110_mean_what_it_says() {
        for (text, range) in [
            ("bytes=0-499", 0..500),
            ("bytes=500-999", 500..1000),
            ("bytes=-500", 9500..10000),
            ("bytes=9500-", 9500..10000),
            ("Bytes=0-0", 0..1),
            ("bytes=9999-99999999999999999999999", 9999..10000),
            ("bytes=-20000", 0..10000),
        ] {
            assert_eq!(byte_range(text, 10_000), Some(Asked::Part(range)), "{text}");
        }
        for text in ["bytes=10000-", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(byte_range(text, 10_000), Some(Asked::Outside), "{text}");
        }
        assert_eq!(byte_range("bytes=0-", 0), Some(Asked::Outside));
        for text in ["bytes=0-0,-1", "bytes=5-4", "lines=1-2", "bytes=", "bytes=a-b", "bytes=+1-2"]
        {
            assert_eq!(byte_range(text, 10_000), None, "{text}");
        }
    }

    #[test]
    fn a_changed_file_is_sent_whole() {
        let content = || Content {
            source: Source::Memory(Bytes::from_static(b"0123456789")),
            bytes: 10,
            etag: "new".to_owned(),
            content_type: HeaderValue::from_static("audio/webm"),
            file_name: None,
        };
        let asked = |if_range: &'static str| {
            HeaderMap::from_iter([
                (header::RANGE, HeaderValue::from_static("bytes=2-3")),
                (header::IF_RANGE, HeaderValue::from_static(if_range)),
            ])
        };
        assert_eq!(content().respond(&Method::GET, &asked("\"new\"")).status(), 206);
        assert_eq!(content().respond(&Method::GET, &asked("\"old\"")).status(), 200);
        assert_eq!(content().respond(&Method::HEAD, &asked("\"new\"")).status(), 200);
        let has_it = HeaderMap::from_iter([(
            header::IF_NONE_MATCH,
            HeaderValue::from_static("\"old\", W/\"new\""),
        )]);
        assert_eq!(content().respond(&Method::GET, &has_it).status(), 304);
    }
}
