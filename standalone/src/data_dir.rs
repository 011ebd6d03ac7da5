//! The data directory: what lies where, and what a first start puts there.
//!
//! ```text
//! DATA_DIR/lock                      held by the one `linekeeper run` that may write here
//! DATA_DIR/journal/                  what arrived and is not stored yet
//! DATA_DIR/objects/                  segments, packets, playable audio, the policy
//! DATA_DIR/linekeeper.sqlite         index, queues, accounts
//! DATA_DIR/keys/tenant-default.key   opens what was recorded; mode 0600
//! DATA_DIR/admin-password            the first administrator's, until it is changed; mode 0600
//! ```

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use lambdas::api::password;
use lambdas::tenant_key;
use model::access::Role;
use model::object_key::ObjectKey;
use model::policy::{self, PolicySnapshot, TenantPolicy};
use model::{TenantId, UserId};
use segment::TenantKeyPair;
use storage_embedded::Embedded;
use storage_ports::{Account, Accounts, ObjectStore, PutMode, StorageError};

/// Who a first start lets in.
const FIRST_LOGIN: &str = "admin";

/// A data directory, opened to read or to write.
pub struct DataDir {
    pub path: PathBuf,
    pub engines: Embedded,
    pub keys: TenantKeyPair,
    /// Held while this process may write as `run` does.
    _lock: Option<File>,
}

impl DataDir {
    /// For `run`: makes what is missing, and keeps a second one out.
    pub async fn open_to_run(path: &Path) -> Result<Self> {
        make_private_dir(path)?;
        let lock = lock(path)?;
        let engines = Embedded::open(path)?;
        let keys = open_or_make_keys(path, &engines).await?;
        Ok(Self { path: path.to_owned(), engines, keys, _lock: Some(lock) })
    }

    /// For the other commands, while `run` runs or not. Refuses to make a directory: a mistyped
    /// path would look like an empty recorder.
    pub async fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        if !path.join("linekeeper.sqlite").is_file() {
            bail!("{shown} is not a data directory of linekeeper; name it with --data-dir");
        }
        let engines = Embedded::open(path)?;
        let keys =
            read_keys(path)?.with_context(|| format!("{} is missing", key_path(path).display()))?;
        Ok(Self { path: path.to_owned(), engines, keys, _lock: None })
    }

    /// Where the first administrator's password is, as long as it was not changed.
    pub fn admin_password_file(&self) -> PathBuf {
        self.path.join("admin-password")
    }

    /// Lets somebody in when there are no accounts yet.
    pub async fn make_first_account(&self) -> Result<()> {
        let accounts = self.engines.accounts();
        if !accounts.accounts(&TenantId::default()).await?.is_empty() {
            return Ok(());
        }
        let password = password::generate()?;
        // The file first: an account whose password nobody has would lock everybody out.
        write_private(&self.admin_password_file(), format!("{password}\n").as_bytes())?;
        let account = Account {
            login: UserId::new(FIRST_LOGIN).expect("a constant that follows the rules of names"),
            tenant: TenantId::default(),
            role: Role::Administrator,
            password_hash: password::hash(password).await?,
            must_change_password: true,
            disabled: false,
            addresses: Vec::new(),
        };
        accounts.add_account(&account).await?;
        Ok(())
    }

    /// Forgets the first password once it is no longer one.
    pub fn password_changed(path: &Path, login: &UserId) {
        if login.as_str() != FIRST_LOGIN {
            return;
        }
        match std::fs::remove_file(path.join("admin-password")) {
            Ok(()) => tracing::info!("the first password was changed and its file is deleted"),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "admin-password could not be deleted"),
        }
    }
}

fn make_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("the data directory {} cannot be made", path.display()))
}

fn lock(path: &Path) -> Result<File> {
    let shown = path.display();
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path.join("lock"))
        .with_context(|| format!("the data directory {shown} cannot be written"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "the data directory {shown} is in use by another linekeeper; stop that one, or choose \
             another directory with --data-dir"
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock the data directory {shown}"))
        }
    }
}

fn key_path(path: &Path) -> PathBuf {
    path.join("keys").join(format!("tenant-{}.key", TenantId::default()))
}

/// The tenant's key pair, made by the first start. The policy in the object store names its
/// public half: recorders seal to it, so a key that does not fit is an error here and now, and
/// not when somebody wants to hear a call.
async fn open_or_make_keys(path: &Path, engines: &Embedded) -> Result<TenantKeyPair> {
    let objects = engines.objects();
    let known = match objects.get(&ObjectKey::policy()).await {
        Ok(bytes) => Some(serde_json::from_slice::<PolicySnapshot>(&bytes).with_context(|| {
            format!("objects/{} in {} cannot be read", ObjectKey::policy(), path.display())
        })?),
        Err(StorageError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let file = key_path(path);
    let shown = file.display();
    let keys = match (read_keys(path)?, &known) {
        (Some(keys), _) => keys,
        (None, Some(_)) => bail!(
            "{shown} is missing, and without it nothing that was recorded can be played; put the \
             copy back that was kept of it, or begin with an empty data directory"
        ),
        (None, None) => make_keys(&file)?,
    };
    let tenant = TenantId::default();
    let public_key = keys.public().to_string();
    match known.iter().flat_map(|policy| &policy.tenants).find(|held| held.tenant == tenant) {
        Some(held) if held.public_key == public_key => {}
        Some(_) => {
            bail!("{shown} is not the key to which calls are sealed here; put the right one back")
        }
        None => {
            let tenants = vec![TenantPolicy { tenant, public_key }];
            let snapshot = PolicySnapshot {
                version: policy::VERSION,
                revision: 1,
                tenants,
                trunks: model::trunk::Trunks::default(),
            };
            let bytes = Bytes::from(serde_json::to_vec_pretty(&snapshot)?);
            objects.put(&ObjectKey::policy(), bytes, PutMode::Replace).await?;
        }
    }
    Ok(keys)
}

fn make_keys(file: &Path) -> Result<TenantKeyPair> {
    let keys = TenantKeyPair::generate()?;
    make_private_dir(file.parent().expect("key_path is below a directory"))?;
    write_private(file, tenant_key::to_text(&keys).as_bytes())?;
    Ok(keys)
}

/// `None` when there is no key file.
fn read_keys(path: &Path) -> Result<Option<TenantKeyPair>> {
    let file = key_path(path);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
    };
    let Some(keys) = tenant_key::parse(&text) else {
        bail!("{} is not a tenant's key file", file.display())
    };
    Ok(Some(keys))
}

/// Writes a file of mode 0600, whole or not at all, and durable when this returns.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        // A left-over may have another mode.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        let dir = path.parent().expect("these files lie in the data directory");
        File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_first_start_makes_everything_and_a_second_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/data");
        let data = DataDir::open_to_run(&path).await.unwrap();
        data.make_first_account().await.unwrap();
        let made = std::fs::read_to_string(data.admin_password_file()).unwrap();
        assert_eq!(mode(&data.admin_password_file()), 0o600);
        assert_eq!(mode(&key_path(&path)), 0o600);
        assert_eq!(mode(&path), 0o700);
        let public = data.keys.public();
        drop(data);

        let again = DataDir::open_to_run(&path).await.unwrap();
        again.make_first_account().await.unwrap();
        assert_eq!(again.keys.public(), public);
        assert_eq!(std::fs::read_to_string(again.admin_password_file()).unwrap(), made);
        let account =
            again.engines.accounts().accounts(&TenantId::default()).await.unwrap().remove(0);
        let matches =
            password::verify(made.trim().to_owned(), Some(account.password_hash)).await.unwrap();
        assert!(matches && account.must_change_password);

        DataDir::password_changed(&path, &UserId::new("ana").unwrap());
        assert!(again.admin_password_file().exists());
        DataDir::password_changed(&path, &account.login);
        DataDir::password_changed(&path, &account.login);
        assert!(!again.admin_password_file().exists());
    }

    #[tokio::test]
    async fn a_second_process_is_kept_out_and_readers_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open_to_run(dir.path()).await.unwrap();
        let refused = DataDir::open_to_run(dir.path()).await.map(drop).unwrap_err().to_string();
        assert!(refused.contains("in use"), "{refused}");
        assert!(refused.contains(dir.path().to_str().unwrap()), "{refused}");
        assert!(DataDir::open(dir.path()).await.is_ok());
        drop(data);
        assert!(DataDir::open_to_run(dir.path()).await.is_ok());
    }

    #[tokio::test]
    async fn a_lost_or_foreign_key_is_noticed_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open_to_run(dir.path()).await.unwrap());
        let key = key_path(dir.path());
        let kept = std::fs::read(&key).unwrap();
        for (content, named) in [
            (None, "is missing"),
            (Some(tenant_key::to_text(&TenantKeyPair::from_bytes([7; 32]))), "is not the key"),
            (Some("-----BEGIN PRIVATE KEY-----".to_owned()), "is not a tenant's key file"),
        ] {
            match content {
                None => std::fs::remove_file(&key).unwrap(),
                Some(content) => std::fs::write(&key, content).unwrap(),
            }
            let error = DataDir::open_to_run(dir.path()).await.map(drop).unwrap_err();
            assert!(format!("{error:#}").contains(named), "{error:#}");
        }
        std::fs::write(&key, kept).unwrap();
        assert!(DataDir::open_to_run(dir.path()).await.is_ok());
    }

    #[tokio::test]
    async fn a_mistyped_path_is_not_an_empty_recorder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tpyo");
        let error = DataDir::open(&path).await.map(drop).unwrap_err().to_string();
        assert!(error.contains("--data-dir") && !path.exists(), "{error}");
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = DataDir::open_to_run(&file.join("data")).await.map(drop).unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}
