//! [`ObjectStore`] over a directory: one file per object, its path is its key.
//!
//! Constraints that tests hold:
//!
//! - An object is whole or absent: it is written and synced under a temporary name on the same
//!   file system, then renamed ([`PutMode::Replace`]) or hard-linked ([`PutMode::IfAbsent`]:
//!   `link(2)` fails when the name exists, which no check before a rename can promise).
//! - When `put` returns, the bytes *and the name* are on the disk: the directory is synced too,
//!   and so is the parent of every directory that was made on the way.
//! - Only the owner may read: playable audio lies here in the clear.
//!
//! A file and a directory cannot share a name, so a key that continues another key (`a` and
//! `a/b`) is refused. No two keys of [`model::object_key`] do that.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use model::WallTime;
use model::object_key::ObjectKey;
use storage_ports::{ObjectMeta, ObjectStore, PutMode, PutOutcome, SignedUrl, StorageError};

use crate::clock::now_ms;
use crate::signing::UrlSigner;
use crate::{OpenError, make_private_dir};

const WHAT: &str = "object store";

/// Where objects are written before they get their name. No key starts with a dot.
const TEMPORARY: &str = ".tmp";

/// What a crash left under a temporary name is removed once no writer can be at work on it.
const ABANDONED: Duration = Duration::from_secs(3_600);

#[derive(Clone)]
pub struct DirectoryStore {
    root: PathBuf,
    signer: UrlSigner,
}

/// How often a put tries again after a delete took its directory away.
const MAX_TRIES: u32 = 1_000;

impl DirectoryStore {
    pub fn open(root: &Path, signer: UrlSigner) -> Result<Self, OpenError> {
        let temporary = root.join(TEMPORARY);
        make_private_dir(&temporary)?;
        let not_writable = |source| OpenError::NotWritable { path: root.to_owned(), source };
        remove_abandoned(&temporary).map_err(not_writable)?;
        // Finds out now, not at the first call: the directory can be read-only or full.
        tempfile::Builder::new().tempfile_in(&temporary).map_err(not_writable)?;
        sync_dir(root).map_err(not_writable)?;
        Ok(Self { root: root.to_owned(), signer })
    }

    /// Checks the URLs of [`ObjectStore::signed_url`]; the API serves what it lets through.
    pub fn signer(&self) -> &UrlSigner {
        &self.signer
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        // `ObjectKey::parse` lets no part through that is empty, absolute or starts with a dot;
        // deserialising one does not parse it, so it is asked again.
        self.root.join(key.as_str())
    }

    async fn blocking<T, W>(&self, key: &ObjectKey, work: W) -> Result<T, StorageError>
    where
        T: Send + 'static,
        W: FnOnce(&Self, &Path) -> io::Result<T> + Send + 'static,
    {
        ObjectKey::parse(key.as_str()).map_err(|error| StorageError::refused(WHAT, error))?;
        let store = self.clone();
        let path = self.path(key);
        let done = tokio::task::spawn_blocking(move || work(&store, &path)).await;
        let done = done.map_err(|error| StorageError::unavailable(WHAT, error))?;
        done.map_err(|error| storage_error(error, key.as_str()))
    }

    fn write(&self, path: &Path, mut body: impl Read, mode: PutMode) -> io::Result<PutOutcome> {
        let mut file = tempfile::Builder::new().tempfile_in(self.root.join(TEMPORARY))?;
        io::copy(&mut body, &mut file)?;
        file.as_file().sync_all()?;
        let parent = path.parent().unwrap_or(&self.root);
        let mut tries = MAX_TRIES;
        let outcome = loop {
            tries -= 1;
            let named = self.make_dirs(parent).and_then(|()| self.name(file.path(), path, mode));
            match named {
                // A delete has just removed a directory because it was empty. Bounded, because
                // a store whose root is gone answers the same.
                Err(error) if error.kind() == ErrorKind::NotFound && tries > 0 => {
                    std::thread::yield_now();
                }
                named => break named?,
            }
        };
        // Also for what was there: whoever named it may have died before this.
        sync_dir(parent)?;
        Ok(outcome)
    }

    fn name(&self, file: &Path, path: &Path, mode: PutMode) -> io::Result<PutOutcome> {
        match mode {
            PutMode::Replace => fs::rename(file, path).map(|()| PutOutcome::Stored),
            PutMode::IfAbsent => match fs::hard_link(file, path) {
                Ok(()) => Ok(PutOutcome::Stored),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    Ok(PutOutcome::AlreadyThere)
                }
                Err(error) => Err(error),
            },
        }
    }

    /// Makes `dir` and what is missing above it, durably.
    fn make_dirs(&self, dir: &Path) -> io::Result<()> {
        if dir == self.root || dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().unwrap_or(&self.root);
        self.make_dirs(parent)?;
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists && dir.is_dir() => {}
            // It was there and has just been removed as empty.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && !dir.exists() => {
                return Err(ErrorKind::NotFound.into());
            }
            // NotFound: it or its parent was removed in between; `write` tries again.
            Err(error) => return Err(error),
        }
        sync_dir(parent)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if is_absence(&error) || path.is_dir() => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut dir = path.parent();
        // A directory that stays would tell that there was a recording. The first one that is
        // not empty, or that somebody else has removed, ends the walk.
        while let Some(parent) = dir.filter(|dir| *dir != self.root) {
            if fs::remove_dir(parent).is_err() {
                break;
            }
            dir = parent.parent();
        }
        match sync_dir(dir.unwrap_or(&self.root)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// A directory that is gone is a lost mount: it may come back.
fn gone_is_unavailable(
    written: Result<PutOutcome, StorageError>,
) -> Result<PutOutcome, StorageError> {
    match written {
        Err(StorageError::NotFound { .. }) => {
            Err(StorageError::unavailable(WHAT, "its directory is gone"))
        }
        done => done,
    }
}

#[async_trait]
impl ObjectStore for DirectoryStore {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
    ) -> Result<PutOutcome, StorageError> {
        let written = self.blocking(key, move |store, path| store.write(path, &body[..], mode));
        gone_is_unavailable(written.await)
    }

    async fn put_file(
        &self,
        key: &ObjectKey,
        file: &Path,
        mode: PutMode,
    ) -> Result<PutOutcome, StorageError> {
        let file = file.to_owned();
        let written =
            self.blocking(key, move |store, path| store.write(path, File::open(file)?, mode));
        gone_is_unavailable(written.await)
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, StorageError> {
        self.blocking(key, |_, path| {
            let (mut file, bytes) = open_object(path)?;
            let mut body = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
            file.read_to_end(&mut body)?;
            Ok(Bytes::from(body))
        })
        .await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.blocking(key, move |_, path| {
            let (mut file, bytes) = open_object(path)?;
            let length = range.end.min(bytes).saturating_sub(range.start);
            let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
            if length > 0 {
                file.seek(SeekFrom::Start(range.start))?;
                file.take(length).read_to_end(&mut body)?;
            }
            Ok(Bytes::from(body))
        })
        .await
    }

    async fn size(&self, key: &ObjectKey) -> Result<u64, StorageError> {
        self.blocking(key, |_, path| open_object(path).map(|(_, bytes)| bytes)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError> {
        let root = self.root.clone();
        let wanted = prefix.to_owned();
        let listed = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            // The deepest directory that all matches lie in.
            let dir = wanted.rsplit_once('/').map_or("", |(dir, _)| dir);
            if dir.is_empty() || ObjectKey::parse(dir).is_ok() {
                walk(&root.join(dir), dir, &wanted, &mut found)?;
            }
            found.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(found)
        })
        .await
        .map_err(|error| StorageError::unavailable(WHAT, error))?;
        listed.map_err(|error: io::Error| storage_error(error, prefix))
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        self.blocking(key, |store, path| store.remove(path)).await
    }

    async fn signed_url(
        &self,
        key: &ObjectKey,
        content_type: &str,
        ttl: Duration,
    ) -> Result<SignedUrl, StorageError> {
        let now = WallTime::from_unix_ms(now_ms());
        Ok(self.signer.sign(key, content_type, now, ttl))
    }
}

/// Collects the objects under `dir`, whose keys start with `key_so_far`, that match `prefix`.
fn walk(dir: &Path, key_so_far: &str, prefix: &str, found: &mut Vec<ObjectMeta>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        // Deleted while we looked, or never there: either way nothing lies in it.
        Err(error) if is_absence(&error) => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        // What is not a key is not ours: `.tmp`, `lost+found`.
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let text = if key_so_far.is_empty() { name } else { format!("{key_so_far}/{name}") };
        let Ok(key) = ObjectKey::parse(&text) else { continue };
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) if is_absence(&error) => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_dir() {
            if text.starts_with(prefix) || prefix.starts_with(&text) {
                walk(&entry.path(), &text, prefix, found)?;
            }
        } else if metadata.is_file() && text.starts_with(prefix) {
            found.push(ObjectMeta { key, bytes: metadata.len() });
        }
    }
    Ok(())
}

fn open_object(path: &Path) -> io::Result<(File, u64)> {
    let file = match File::open(path) {
        Err(error) if is_absence(&error) => return Err(ErrorKind::NotFound.into()),
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file, metadata.len()))
    } else {
        Err(io::Error::from(ErrorKind::NotFound))
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn remove_abandoned(temporary: &Path) -> io::Result<()> {
    for entry in fs::read_dir(temporary)? {
        let entry = entry?;
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        let age = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > ABANDONED) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether nothing is there; a file in the place of a directory means that, too.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn storage_error(error: io::Error, what: &str) -> StorageError {
    match error.kind() {
        ErrorKind::NotFound => StorageError::NotFound { what: what.to_owned() },
        ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::InvalidFilename
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::AlreadyExists => StorageError::refused(WHAT, error),
        // A full disk, a lost mount, too many open files: the same call may succeed later.
        _ => StorageError::unavailable(WHAT, error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store() -> (tempfile::TempDir, DirectoryStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(dir.path(), UrlSigner::new([1; 32])).unwrap();
        (dir, store)
    }

    fn key(text: &str) -> ObjectKey {
        ObjectKey::parse(text).unwrap()
    }

    #[tokio::test]
    async fn nothing_is_left_beside_the_objects() {
        let (dir, store) = store();
        let body = Bytes::from_static(b"x");
        for mode in [PutMode::IfAbsent, PutMode::IfAbsent, PutMode::Replace] {
            store.put(&key("t/a/b"), body.clone(), mode).await.unwrap();
        }
        assert_eq!(fs::read_dir(dir.path().join(TEMPORARY)).unwrap().count(), 0);
        store.delete(&key("t/a/b")).await.unwrap();
        assert!(!dir.path().join("t").exists(), "an empty directory tells of what was there");
    }

    #[tokio::test]
    async fn only_the_owner_can_read_an_object() {
        let (dir, store) = store();
        store.put(&key("t/a"), Bytes::from_static(b"x"), PutMode::IfAbsent).await.unwrap();
        for path in ["t", "t/a"] {
            let mode = fs::metadata(dir.path().join(path)).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{path} has mode {mode:o}");
        }
    }

    #[tokio::test]
    async fn what_a_crash_left_half_written_is_no_object_and_is_removed_in_time() {
        let (dir, store) = store();
        let left = dir.path().join(TEMPORARY).join("left");
        let file = File::create(&left).unwrap();
        assert_eq!(store.list("").await.unwrap(), []);
        DirectoryStore::open(dir.path(), UrlSigner::new([1; 32])).unwrap();
        assert!(left.exists(), "another process may be writing it");
        file.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
        DirectoryStore::open(dir.path(), UrlSigner::new([1; 32])).unwrap();
        assert!(!left.exists());
    }

    #[tokio::test]
    async fn a_prefix_cannot_list_outside_of_the_store() {
        let (_dir, store) = store();
        for prefix in ["../", "/", "/etc/", "a/../../", ".tmp/"] {
            assert_eq!(store.list(prefix).await.unwrap(), [], "{prefix}");
        }
    }

    #[tokio::test]
    async fn a_key_that_was_deserialised_cannot_leave_the_store() {
        let (_dir, store) = store();
        let evil: ObjectKey = serde_json::from_str("\"../evil\"").unwrap();
        let put = store.put(&evil, Bytes::new(), PutMode::IfAbsent).await;
        assert!(matches!(put, Err(StorageError::Refused { .. })), "{put:?}");
    }

    #[tokio::test]
    async fn a_key_below_another_object_is_refused_and_not_retried() {
        let (_dir, store) = store();
        store.put(&key("a"), Bytes::new(), PutMode::IfAbsent).await.unwrap();
        let put = store.put(&key("a/b"), Bytes::new(), PutMode::IfAbsent).await;
        assert!(matches!(put, Err(StorageError::Refused { .. })), "{put:?}");
    }

    #[tokio::test]
    async fn putting_and_deleting_at_once_never_fails() {
        let (_dir, store) = store();
        let tasks = (0..4).map(|number| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    let key = key(&format!("d/e/{number}"));
                    store.put(&key, Bytes::new(), PutMode::IfAbsent).await.unwrap();
                    store.delete(&key).await.unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(store.list("").await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_put_into_a_store_that_is_gone_ends() {
        let (dir, store) = store();
        dir.close().unwrap();
        let put = store.put(&key("d/e/f"), Bytes::new(), PutMode::IfAbsent).await;
        assert!(matches!(put, Err(StorageError::Unavailable { .. })), "{put:?}");
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DirectoryStore::open(&file, UrlSigner::new([1; 32])).err().unwrap();
        assert!(error.to_string().contains("file"), "{error}");
    }
}
