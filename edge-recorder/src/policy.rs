//! The policy snapshot of this edge: read from the object store, kept on the disk for when the
//! store is away.
//!
//! Promises, each a test:
//!
//! - A recorder that has once seen its policy records on with it, however long the store is away.
//! - A snapshot that cannot be used (damaged, of a newer release, without a key for our tenant)
//!   never replaces one that can.
//! - A higher revision replaces a lower one, never the other way round.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::TenantId;
use model::object_key::ObjectKey;
use model::policy::{PolicySnapshot, VERSION};
use model::trunk::Trunks;
use segment::{KeyError, TenantPublicKey};
use storage_ports::{ObjectStore, StorageError};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// The last snapshot, beside the journal.
const CACHE: &str = "policy.json";

/// Besides being told of changes, the snapshot is read this often: a lost message must not keep
/// an old policy for ever.
const REFRESH: Duration = Duration::from_secs(60);

/// While there is no policy at all, no call can be recorded.
const RETRY: Duration = Duration::from_secs(1);

const READ_LIMIT: Duration = Duration::from_secs(5);

/// What the recorder needs of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub revision: u64,
    /// Of every tenant whose calls may arrive here.
    pub tenant_keys: BTreeMap<TenantId, TenantPublicKey>,
    pub trunks: Trunks,
}

impl Policy {
    pub fn key(&self, tenant: &TenantId) -> Option<TenantPublicKey> {
        self.tenant_keys.get(tenant).copied()
    }
}

#[derive(Debug, thiserror::Error)]
enum PolicyError {
    #[error("read the policy snapshot")]
    Store(#[from] StorageError),
    #[error("the object store did not answer within {READ_LIMIT:?}")]
    TooSlow,
    #[error("the policy snapshot is damaged")]
    Malformed(#[from] serde_json::Error),
    #[error("policy version {found} is newer than {VERSION}: upgrade this recorder")]
    TooNew { found: u32 },
    #[error("the policy snapshot does not name tenant {tenant}")]
    NoTenant { tenant: TenantId },
    #[error("the policy snapshot has an unusable key for tenant {tenant}")]
    Key {
        tenant: TenantId,
        #[source]
        source: KeyError,
    },
    #[error("the policy snapshot has unusable trunks: {problem}")]
    Trunks { problem: String },
}

/// Reads, keeps and tells the policy.
pub struct PolicyReader {
    store: Arc<dyn ObjectStore>,
    tenant: TenantId,
    cache: PathBuf,
    policy: watch::Sender<Option<Policy>>,
    changed: Arc<Notify>,
}

impl PolicyReader {
    /// Takes what is on the disk. Only without it the object store is asked, because calls in
    /// progress wait to be resumed.
    pub async fn open(store: Arc<dyn ObjectStore>, tenant: TenantId, journal_dir: &Path) -> Self {
        let reader = Self {
            store,
            tenant,
            cache: journal_dir.join(CACHE),
            policy: watch::Sender::new(None),
            changed: Arc::default(),
        };
        if let Ok(bytes) = std::fs::read(&reader.cache) {
            match parse(&bytes, &reader.tenant) {
                Ok(policy) => {
                    reader.take(policy);
                }
                Err(error) => tracing::warn!(error = report(&error), "policy on disk not used"),
            }
        }
        if reader.policy.borrow().is_none() {
            reader.refresh(&mut None).await;
        }
        reader
    }

    pub fn watch(&self) -> watch::Receiver<Option<Policy>> {
        self.policy.subscribe()
    }

    /// Notify it to have the snapshot read again now.
    pub fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Keeps the policy fresh for as long as it is polled.
    pub async fn run(self) {
        let mut told = None;
        loop {
            self.refresh(&mut told).await;
            let wait = if self.policy.borrow().is_some() { REFRESH } else { RETRY };
            let _ = timeout(wait, self.changed.notified()).await;
        }
    }

    /// `told` is the problem that was logged last: the same one is not logged every second.
    async fn refresh(&self, told: &mut Option<String>) {
        match self.read().await {
            Ok((policy, bytes)) => {
                if self.take(policy)
                    && let Err(error) = replace_file(&self.cache, &bytes)
                {
                    tracing::warn!(%error, "policy not kept on disk");
                }
                *told = None;
            }
            Err(error) => {
                let error = Some(report(&error));
                if *told != error {
                    let have_one = self.policy.borrow().is_some();
                    tracing::warn!(error, have_one, "policy not read");
                    *told = error;
                }
            }
        }
    }

    async fn read(&self) -> Result<(Policy, Vec<u8>), PolicyError> {
        let key = ObjectKey::policy();
        let bytes =
            timeout(READ_LIMIT, self.store.get(&key)).await.map_err(|_| PolicyError::TooSlow)??;
        Ok((parse(&bytes, &self.tenant)?, bytes.to_vec()))
    }

    /// Whether it was taken.
    fn take(&self, policy: Policy) -> bool {
        self.policy.send_if_modified(|held| {
            let newer = held.as_ref().is_none_or(|held| held.revision < policy.revision);
            if newer {
                tracing::info!(revision = policy.revision, "policy in force");
                *held = Some(policy);
            }
            newer
        })
    }
}

fn parse(bytes: &[u8], tenant: &TenantId) -> Result<Policy, PolicyError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let Versioned { version } = serde_json::from_slice(bytes)?;
    if version > VERSION {
        return Err(PolicyError::TooNew { found: version });
    }
    let snapshot: PolicySnapshot = serde_json::from_slice(bytes)?;
    let mut tenant_keys = BTreeMap::new();
    for policy in snapshot.tenants {
        let tenant = policy.tenant;
        let key = policy
            .public_key
            .parse()
            .map_err(|source| PolicyError::Key { tenant: tenant.clone(), source })?;
        tenant_keys.insert(tenant, key);
    }
    let trunks = snapshot.trunks;
    if let Some(problem) = trunks.problem() {
        return Err(PolicyError::Trunks { problem });
    }
    let served = trunks.0.iter().filter_map(|trunk| trunk.tenant.as_ref()).chain([tenant]);
    for tenant in served {
        if !tenant_keys.contains_key(tenant) {
            return Err(PolicyError::NoTenant { tenant: tenant.clone() });
        }
    }
    Ok(Policy { revision: snapshot.revision, tenant_keys, trunks })
}

/// The error and its causes in one line.
fn report(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Whole or not at all, and after a crash the old or the new one.
fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use segment::TenantKeyPair;

    use super::*;

    fn snapshot(revision: u64, tenant: &str, key: &str) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({
            "version": 1,
            "revision": revision,
            "tenants": [{"tenant": tenant, "public_key": key}],
        }))
        .unwrap()
    }

    fn with_trunks(trunks: &str) -> Vec<u8> {
        let mut value: serde_json::Value =
            serde_json::from_slice(&snapshot(5, "default", &key().to_string())).unwrap();
        value["trunks"] = serde_json::from_str(trunks).unwrap();
        serde_json::to_vec(&value).unwrap()
    }

    fn key() -> TenantPublicKey {
        TenantKeyPair::from_bytes([3; 32]).public()
    }

    fn reader(dir: &Path) -> PolicyReader {
        PolicyReader {
            store: storage_embedded::Embedded::open(dir).unwrap().objects(),
            tenant: TenantId::default(),
            cache: dir.join(CACHE),
            policy: watch::Sender::new(None),
            changed: Arc::default(),
        }
    }

    async fn put(reader: &PolicyReader, body: Vec<u8>) {
        let mode = storage_ports::PutMode::Replace;
        reader.store.put(&ObjectKey::policy(), body.into(), mode).await.unwrap();
    }

    #[tokio::test]
    async fn the_last_policy_serves_while_the_store_is_away() {
        let dir = tempfile::tempdir().unwrap();
        let first = reader(dir.path());
        put(&first, snapshot(4, "default", &key().to_string())).await;
        first.refresh(&mut None).await;
        first.store.delete(&ObjectKey::policy()).await.unwrap();
        let second = PolicyReader::open(first.store, TenantId::default(), dir.path()).await;
        let expected = Policy {
            revision: 4,
            tenant_keys: BTreeMap::from([(TenantId::default(), key())]),
            trunks: Trunks::default(),
        };
        assert_eq!(*second.watch().borrow(), Some(expected));
    }

    #[tokio::test]
    async fn what_cannot_be_used_does_not_replace_what_can() {
        let dir = tempfile::tempdir().unwrap();
        let reader = reader(dir.path());
        put(&reader, snapshot(4, "default", &key().to_string())).await;
        reader.refresh(&mut None).await;
        let good = reader.watch().borrow().clone();
        assert!(good.is_some());
        let too_new = br#"{"version":2,"something":"else"}"#.to_vec();
        for bad in [
            b"{".to_vec(),
            too_new,
            snapshot(5, "somebody-else", &key().to_string()),
            snapshot(5, "default", "not a key"),
            with_trunks(r#"[{"name": "sbc"}]"#),
            with_trunks(r#"[{"name": "sbc", "sources": ["192.0.2.7"], "tenant": "unknown"}]"#),
            snapshot(3, "default", &TenantKeyPair::from_bytes([4; 32]).public().to_string()),
        ] {
            put(&reader, bad).await;
            reader.refresh(&mut None).await;
            assert_eq!(*reader.watch().borrow(), good);
        }
        put(&reader, snapshot(5, "default", &key().to_string())).await;
        reader.refresh(&mut None).await;
        assert_eq!(reader.watch().borrow().as_ref().unwrap().revision, 5);
    }
}
