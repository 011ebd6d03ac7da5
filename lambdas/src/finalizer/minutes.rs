//! Minutes of calls, encoded before they are needed and kept until the call is built.
//!
//! A long call is encoded while its segments arrive, so that at its end only the last minutes are
//! missing; and a build that is cut off goes on where it was. A minute is kept under the name of
//! what it is made of: when more is known later, as of a packet that came late, its name is another
//! one and the old one is not found.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use media::opus::{Minute, minute, minute_content};
use media::{Call, Selection};
use model::object_key::{ObjectKey, minutes_prefix};
use model::{RecordingId, TenantId};
use sha2::{Digest as _, Sha256};
use storage_ports::{ObjectStore, PutMode, StorageError};

use super::FinalizeError;

/// Calls of fewer minutes are encoded faster than their minutes could be stored and read.
pub(super) const WORTH_KEEPING: u64 = 10;

pub(super) struct Minutes<'a> {
    pub objects: &'a dyn ObjectStore,
    pub tenant: &'a TenantId,
    pub recording: RecordingId,
    /// Whether the minutes are worth keeping.
    pub keep: bool,
    /// When this build must be over, for another one to go on with it.
    pub until: Option<Instant>,
}

impl Minutes<'_> {
    /// A minute of the call: the one that is kept, else made now.
    pub async fn get(&self, call: &Arc<Call>, number: u64) -> Result<Minute, FinalizeError> {
        let key = self.key(call, number);
        if let Some(key) = &key
            && let Some(minute) = self.kept(key).await?
        {
            return Ok(minute);
        }
        self.make(call, number, key).await
    }

    /// Makes those minutes of a call in progress that will not change any more and are not kept
    /// yet; `known` are some that are. Returns how many.
    pub async fn prepare(
        &self,
        call: &Arc<Call>,
        known: &mut BTreeSet<String>,
    ) -> Result<u64, FinalizeError> {
        let mut made = 0;
        for number in 0..media::opus::Shape::of(call, Selection::Sides)?.minutes() {
            let Some(key) = self.key(call, number) else { continue };
            let name = key.as_str().to_owned();
            if known.contains(&name) {
                continue;
            }
            if !self.is_kept(&key).await? {
                self.make(call, number, Some(key)).await?;
                made += 1;
            }
            known.insert(name);
        }
        Ok(made)
    }

    /// Removes what is kept of a call that is built.
    pub async fn discard(&self) -> Result<(), StorageError> {
        let prefix = minutes_prefix(self.tenant, self.recording);
        for meta in self.objects.list(&prefix).await? {
            self.objects.delete(&meta.key).await?;
        }
        Ok(())
    }

    fn key(&self, call: &Call, number: u64) -> Option<ObjectKey> {
        let content = minute_content(call, Selection::Sides, number).filter(|_| self.keep)?;
        Some(ObjectKey::minute(self.tenant, self.recording, number, &content))
    }

    async fn is_kept(&self, key: &ObjectKey) -> Result<bool, StorageError> {
        match self.objects.size(key).await {
            Ok(_) => Ok(true),
            Err(StorageError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn kept(&self, key: &ObjectKey) -> Result<Option<Minute>, StorageError> {
        match self.objects.get(key).await {
            // One that is not what was kept is made again.
            Ok(bytes) => Ok(opened(&bytes)),
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn make(
        &self,
        call: &Arc<Call>,
        number: u64,
        key: Option<ObjectKey>,
    ) -> Result<Minute, FinalizeError> {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            return Err(FinalizeError::OutOfTime);
        }
        let of = call.clone();
        let made = tokio::task::spawn_blocking(move || minute(&of, Selection::Sides, number));
        let made = made.await.map_err(FinalizeError::CutOff)??;
        if let Some(key) = key {
            self.objects.put(&key, kept(&made).into(), PutMode::Replace).await?;
        }
        Ok(made)
    }
}

const DIGEST_BYTES: usize = 32;

/// A minute as it is kept: after the SHA-256 of the rest, because it becomes audio without a look.
fn kept(minute: &Minute) -> Vec<u8> {
    let body = postcard::to_stdvec(minute).expect("vectors have no failing serialiser");
    let mut bytes = Sha256::digest(&body).to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

fn opened(bytes: &[u8]) -> Option<Minute> {
    let (digest, body) = bytes.split_at_checked(DIGEST_BYTES)?;
    (digest == Sha256::digest(body).as_slice()).then(|| postcard::from_bytes(body).ok()).flatten()
}
