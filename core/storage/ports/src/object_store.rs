//! Objects: written once, listed by prefix, read in ranges.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::object_key::ObjectKey;

use crate::StorageError;

/// Whether a put may replace what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Keep what is there (S3: `If-None-Match: *`).
    IfAbsent,
    Replace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    Stored,
    /// Only with [`PutMode::IfAbsent`]: an object was there and is unchanged.
    AlreadyThere,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    pub key: ObjectKey,
    pub bytes: u64,
}

/// A URL that serves one object to whoever holds it, until it expires. Never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedUrl(pub String);

impl std::fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignedUrl(…)")
    }
}

/// Promises, each a test in [`crate::contract`]:
///
/// - `put` has made the object durable when it returns, whole or not at all.
/// - `get`, `list` and `size` see every put that returned before they began.
/// - `list` is in order of key and complete, however many objects there are.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
    ) -> Result<PutOutcome, StorageError>;

    /// As `put`, from a file, which may be larger than memory. An engine that can stream does.
    async fn put_file(
        &self,
        key: &ObjectKey,
        file: &Path,
        mode: PutMode,
    ) -> Result<PutOutcome, StorageError> {
        let body = std::fs::read(file).map_err(|error| StorageError::unavailable("file", error))?;
        self.put(key, body.into(), mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, StorageError>;

    /// The bytes of `range`, cut at the object's end. Empty when it starts at or past the end.
    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StorageError>;

    async fn size(&self, key: &ObjectKey) -> Result<u64, StorageError>;

    /// All objects whose key starts with `prefix`.
    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError>;

    /// Succeeds when the object is already gone, so that a repeated delete is harmless.
    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError>;

    /// A URL for one object. `ttl` is at most 60 s; the content type is what the holder is told.
    async fn signed_url(
        &self,
        key: &ObjectKey,
        content_type: &str,
        ttl: Duration,
    ) -> Result<SignedUrl, StorageError>;
}
