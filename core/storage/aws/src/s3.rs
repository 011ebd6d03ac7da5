//! [`ObjectStore`] in a bucket.
//!
//! - An object is one PUT with a CRC32C that S3 checks: whole or not at all. No multipart upload,
//!   because with SSE-KMS that needs `kms:Decrypt`, and an edge must not be able to read back what
//!   it recorded.
//! - Encryption is the bucket's default (SSE-KMS with a bucket key), unless a key is named.
//! - `delete` removes every version, so that what is erased is erased. Where a version is locked
//!   (Object Lock), S3 refuses, and so does `delete`.
//! - S3 hides from whoever may not list a bucket whether an object exists: an identity without
//!   `s3:ListBucket` is refused where another one is told that there is no such object.

use std::ops::Range;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, Delete, ObjectIdentifier, ObjectLockLegalHold, ObjectLockLegalHoldStatus,
    ObjectLockRetention, ObjectLockRetentionMode, ServerSideEncryption,
};
use bytes::Bytes;
use model::WallTime;
use model::object_key::ObjectKey;
use storage_ports::{ObjectMeta, ObjectStore, PutMode, PutOutcome, SignedUrl, StorageError};

use crate::error::{code, status, storage_error};

const WHAT: &str = "object store";

/// The longest life of a signed URL.
const MAX_TTL: Duration = Duration::from_secs(60);
/// S3 has no longer object, and a range beyond what an `i64` holds is refused by some.
const MAX_OBJECT_BYTES: u64 = 50 << 40;
/// The most versions that one request deletes.
const DELETE_BATCH: usize = 1_000;

/// Whether a lock can be taken off again by those who may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Identities with `s3:BypassGovernanceRetention` can.
    Governance,
    /// Nobody can, the account's owner included.
    Compliance,
}

#[derive(Clone, Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    kms_key: Option<String>,
}

impl S3Store {
    pub fn new(client: Client, bucket: impl Into<String>) -> Self {
        Self { client, bucket: bucket.into(), kms_key: None }
    }

    /// Encrypts with this key instead of the bucket's default one.
    pub fn with_kms_key(self, arn: String) -> Self {
        Self { kms_key: Some(arn), ..self }
    }

    /// Forbids deleting the object's present version until `until`. It can be made longer, and
    /// with [`LockMode::Compliance`] never shorter. The bucket must have Object Lock on.
    pub async fn lock_until(
        &self,
        key: &ObjectKey,
        until: WallTime,
        mode: LockMode,
    ) -> Result<(), StorageError> {
        let mode = match mode {
            LockMode::Governance => ObjectLockRetentionMode::Governance,
            LockMode::Compliance => ObjectLockRetentionMode::Compliance,
        };
        let retention = ObjectLockRetention::builder()
            .mode(mode)
            .retain_until_date(DateTime::from_millis(until.unix_ms()))
            .build();
        self.client
            .put_object_retention()
            .bucket(&self.bucket)
            .key(key.as_str())
            .retention(retention)
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .send()
            .await
            .map_err(|error| object_error(key, error))?;
        Ok(())
    }

    /// Forbids, or no longer forbids, deleting the object's present version, for as long as the
    /// hold is there.
    pub async fn set_legal_hold(&self, key: &ObjectKey, held: bool) -> Result<(), StorageError> {
        let status =
            if held { ObjectLockLegalHoldStatus::On } else { ObjectLockLegalHoldStatus::Off };
        self.client
            .put_object_legal_hold()
            .bucket(&self.bucket)
            .key(key.as_str())
            .legal_hold(ObjectLockLegalHold::builder().status(status).build())
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .send()
            .await
            .map_err(|error| object_error(key, error))?;
        Ok(())
    }

    /// Every version of the object and every mark of an earlier deletion.
    async fn versions(&self, key: &ObjectKey) -> Result<Vec<ObjectIdentifier>, StorageError> {
        let mut found = Vec::new();
        let mut next: Option<(String, Option<String>)> = None;
        loop {
            let mut request =
                self.client.list_object_versions().bucket(&self.bucket).prefix(key.as_str());
            if let Some((key_marker, version_marker)) = next.take() {
                request = request.key_marker(key_marker).set_version_id_marker(version_marker);
            }
            let page = request.send().await.map_err(|error| storage_error(WHAT, error))?;
            let names =
                page.versions().iter().map(|version| (version.key(), version.version_id())).chain(
                    page.delete_markers().iter().map(|mark| (mark.key(), mark.version_id())),
                );
            for (name, version) in names {
                if name == Some(key.as_str()) {
                    let identifier = ObjectIdentifier::builder()
                        .key(key.as_str())
                        .set_version_id(version.map(str::to_owned));
                    found.push(identifier.build().map_err(|e| StorageError::refused(WHAT, e))?);
                }
            }
            // Keys come in order, and the longer ones after this one are not ours.
            match (page.is_truncated(), page.next_key_marker()) {
                (Some(true), Some(marker)) if marker <= key.as_str() => {
                    let version = page.next_version_id_marker().map(str::to_owned);
                    next = Some((marker.to_owned(), version));
                }
                _ => return Ok(found),
            }
        }
    }

    /// Size and version of an object.
    async fn head(&self, key: &ObjectKey) -> Result<(u64, Option<String>), StorageError> {
        let head = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .send()
            .await
            .map_err(|error| object_error(key, error))?;
        let bytes = head.content_length().and_then(|length| u64::try_from(length).ok());
        let bytes =
            bytes.ok_or_else(|| StorageError::unavailable(WHAT, "an answer without a length"))?;
        Ok((bytes, head.version_id().filter(|id| *id != "null").map(str::to_owned)))
    }

    async fn read(
        &self,
        key: &ObjectKey,
        range: Option<String>,
    ) -> Result<Option<Bytes>, StorageError> {
        let answer = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_range(range)
            .send()
            .await;
        let object = match answer {
            Ok(object) => object,
            // The range starts at or past the end.
            Err(error) if status(&error) == Some(416) => return Ok(None),
            Err(error) => return Err(object_error(key, error)),
        };
        let body = object.body.collect().await;
        Ok(Some(body.map_err(|cause| StorageError::unavailable(WHAT, cause))?.into_bytes()))
    }
}

/// Sorts an error about one object. A missing bucket is not a missing object.
fn object_error<E>(key: &ObjectKey, error: SdkError<E, HttpResponse>) -> StorageError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    match (status(&error), code(&error).as_deref()) {
        // A HEAD has no body to name its error in.
        (Some(404), None | Some("NoSuchKey" | "NotFound" | "NoSuchVersion")) => {
            StorageError::NotFound { what: format!("object {key}") }
        }
        _ => storage_error(WHAT, error),
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
    ) -> Result<PutOutcome, StorageError> {
        let mut request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .body(ByteStream::from(body));
        if let Some(kms_key) = &self.kms_key {
            request = request
                .server_side_encryption(ServerSideEncryption::AwsKms)
                .ssekms_key_id(kms_key)
                .bucket_key_enabled(true);
        }
        if mode == PutMode::IfAbsent {
            request = request.if_none_match("*");
        }
        match request.send().await {
            Ok(_) => Ok(PutOutcome::Stored),
            Err(error) if status(&error) == Some(412) => Ok(PutOutcome::AlreadyThere),
            Err(error) => Err(storage_error(WHAT, error)),
        }
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, StorageError> {
        Ok(self.read(key, None).await?.unwrap_or_default())
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StorageError> {
        if range.is_empty() {
            // A range of HTTP has at least one byte (RFC 9110 §14.1.1).
            return self.size(key).await.map(|_| Bytes::new());
        }
        let last = range.end.min(MAX_OBJECT_BYTES).max(range.start.saturating_add(1)) - 1;
        let range = format!("bytes={}-{last}", range.start);
        Ok(self.read(key, Some(range)).await?.unwrap_or_default())
    }

    async fn size(&self, key: &ObjectKey) -> Result<u64, StorageError> {
        Ok(self.head(key).await?.0)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError> {
        let mut pages = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(prefix)
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| storage_error(WHAT, error))?;
            for object in page.contents() {
                // What somebody put there by hand under a name that is none of ours is not ours.
                let Some(key) = object.key().and_then(|key| ObjectKey::parse(key).ok()) else {
                    continue;
                };
                let bytes = object.size().and_then(|size| u64::try_from(size).ok());
                found.push(ObjectMeta { key, bytes: bytes.unwrap_or_default() });
            }
        }
        Ok(found)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        for batch in self.versions(key).await?.chunks(DELETE_BATCH) {
            let delete = Delete::builder()
                .set_objects(Some(batch.to_vec()))
                .quiet(true)
                .build()
                .map_err(|cause| StorageError::refused(WHAT, cause))?;
            let answer = self
                .client
                .delete_objects()
                .bucket(&self.bucket)
                .delete(delete)
                .checksum_algorithm(ChecksumAlgorithm::Crc32C)
                .send()
                .await
                .map_err(|error| storage_error(WHAT, error))?;
            if let Some(failed) = answer.errors().first() {
                let code = failed.code().unwrap_or("no code");
                let cause = format!("version of {key} not deleted: {code}");
                return Err(match code {
                    "InternalError" | "SlowDown" | "ServiceUnavailable" => {
                        StorageError::unavailable(WHAT, cause)
                    }
                    _ => StorageError::refused(WHAT, cause),
                });
            }
        }
        Ok(())
    }

    async fn signed_url(
        &self,
        key: &ObjectKey,
        content_type: &str,
        ttl: Duration,
    ) -> Result<SignedUrl, StorageError> {
        let (_, version) = self.head(key).await?;
        let terms = PresigningConfig::expires_in(ttl.min(MAX_TTL))
            .map_err(|cause| StorageError::refused(WHAT, cause))?;
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key.as_str())
            .set_version_id(version)
            .response_content_type(content_type)
            .response_cache_control("private, no-store")
            .presigned(terms)
            .await
            .map_err(|error| storage_error(WHAT, error))?;
        Ok(SignedUrl(request.uri().to_owned()))
    }
}
