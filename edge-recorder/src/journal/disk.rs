//! What the journal needs of a disk, and the disk itself.
//!
//! A trait, because there are two: [`RealDisk`], and one in memory that tears and drops what was
//! not synced, fails and stalls when told to (`torn_disk`, in tests). The promises:
//!
//! - What was written to a file survives a crash once `sync` has returned without an error.
//! - Before that, any part of any write may be missing after a crash, in any order.
//! - After a failed `sync` nothing written since the last good one can be relied on, and a second
//!   `sync` that succeeds proves nothing: Linux drops the dirty pages it could not write.
//! - `create` and `replace` are durable when they return, the name in the directory included.

use std::any::Any;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One directory.
pub trait Disk: Send + Sync {
    /// Holds the directory for this process until the value is dropped.
    /// [`ErrorKind::WouldBlock`] when another process holds it.
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>>;

    fn list(&self) -> io::Result<Vec<String>>;

    /// All of a small file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Writes a small file that only its owner may read, whole or not at all.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// A new file of `bytes` zeros, with the room for them set aside.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    fn remove(&self, name: &str) -> io::Result<()>;

    /// Bytes that could still be set aside.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Where this is, for messages.
    fn place(&self) -> String;
}

/// One file, of fixed size.
pub trait DiskFile: Send + Sync {
    /// Reads up to the length of `buffer`; less only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    fn sync(&self) -> io::Result<()>;

    fn bytes(&self) -> io::Result<u64>;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    dir: PathBuf,
}

impl RealDisk {
    /// Makes the directory if it is missing. Only its owner may enter: it holds keys and calls.
    pub fn create(dir: &Path) -> io::Result<Self> {
        if !dir.is_dir() {
            std::fs::create_dir_all(dir)?;
            std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// An existing directory, which is only read.
    pub fn existing(dir: &Path) -> io::Result<Self> {
        std::fs::read_dir(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

/// Name of the file that is locked. It stays when the process ends; the lock does not.
const LOCK_NAME: &str = "lock";

impl Disk for RealDisk {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.dir.join(LOCK_NAME))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.dir.join(name))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.dir.join(format!("{name}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, self.dir.join(name))?;
        self.sync_names()
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.dir.join(name);
        let file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&path)?;
        if let Err(error) = set_aside(&file, bytes) {
            // Half a file would be taken for a damaged one at the next start.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        file.sync_all()?;
        self.sync_names()?;
        Ok(Arc::new(file))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.dir.join(name);
        // `verify` may run as a user who can only read.
        let file = OpenOptions::new().read(true).write(true).open(&path).or_else(|error| {
            match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => File::open(&path),
                _ => Err(error),
            }
        })?;
        Ok(Arc::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))?;
        self.sync_names()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let file = File::open(&self.dir)?;
        // SAFETY: statvfs is plain data, for which zeros are valid.
        let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open and `stat` is valid for the length of the call.
        if unsafe { libc::fstatvfs(file.as_raw_fd(), &mut stat) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn place(&self) -> String {
        self.dir.display().to_string()
    }
}

/// Sets the room aside, so that a write in the middle of a call cannot find the disk full.
fn set_aside(file: &File, bytes: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(|_| ErrorKind::FileTooLarge)?;
    loop {
        // SAFETY: the descriptor is open for the length of the call.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // Some network and overlay file systems cannot: the length alone must do.
            Some(libc::EOPNOTSUPP) => return file.set_len(bytes),
            _ => return Err(error),
        }
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_of_the_directory_would_block() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::create(dir.path()).unwrap();
        let held = disk.lock().unwrap();
        let refused = RealDisk::create(dir.path()).unwrap().lock().map(|_| ());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(held);
        assert!(disk.lock().is_ok());
    }

    #[test]
    fn a_new_file_has_its_room_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::create(&dir.path().join("journal")).unwrap();
        let file = disk.create("a", 100_000).unwrap();
        assert_eq!(file.bytes().unwrap(), 100_000);
        let stat = std::fs::metadata(dir.path().join("journal/a")).unwrap();
        assert_eq!(stat.permissions().mode() & 0o777, 0o600);
        let mut buffer = [1; 16];
        assert_eq!(file.read_at(&mut buffer, 99_990).unwrap(), 10);
        assert_eq!(buffer[..10], [0; 10]);
    }

    #[test]
    fn a_file_without_room_is_refused_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::create(dir.path()).unwrap();
        assert!(disk.create("huge", u64::MAX / 4).is_err());
        assert!(disk.list().unwrap().is_empty());
    }
}
