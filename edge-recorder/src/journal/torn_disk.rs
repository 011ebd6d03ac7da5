//! A disk in memory that does what disks are allowed to do: forget, tear, fail, stall.
//!
//! - A crash keeps any part of what was written and not synced, sector by sector.
//! - A failed sync forgets what was dirty, as Linux does: the next sync succeeds and has written
//!   nothing of it.
//! - Nothing from before a crash works any more: a thread that lives on can do no harm.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::disk::{Disk, DiskFile};

/// The disk as one life of the machine sees it; after a crash it is dead, and what lies on the
/// platter is seen through the disk that the crash returned.
#[derive(Clone, Default)]
pub struct TornDisk {
    shared: Arc<(Mutex<Inner>, Condvar)>,
    life: u32,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, Data>,
    /// The life that is now.
    life: u32,
    locked: bool,
    faults: Faults,
    /// Files over a bad block: what is written to them fails, whatever else works.
    broken: BTreeSet<String>,
    syncs: u64,
}

/// What goes wrong from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub writes_fail: bool,
    pub syncs_fail: bool,
    /// A sync does not return.
    pub syncs_stall: bool,
    pub reads_fail: bool,
    /// No room for another file.
    pub full: bool,
}

#[derive(Default)]
struct Data {
    durable: Vec<u8>,
    cached: Vec<u8>,
    dirty: Vec<(usize, usize)>,
}

/// A sector: what a disk writes whole or not at all.
const PIECE_BYTES: usize = 512;
pub const FREE_BYTES: u64 = 1 << 40;

impl TornDisk {
    pub fn set(&self, faults: Faults) {
        self.shared.0.lock().unwrap().faults = faults;
        self.shared.1.notify_all();
    }

    /// Puts a bad block under this file, or takes it away.
    pub fn set_broken(&self, name: &str, broken: bool) {
        let mut inner = self.shared.0.lock().unwrap();
        if broken {
            inner.broken.insert(name.to_owned());
        } else {
            inner.broken.remove(name);
        }
    }

    pub fn syncs(&self) -> u64 {
        self.shared.0.lock().unwrap().syncs
    }

    /// The machine stops: of what was not synced, each piece is there or not.
    pub fn crash(&self, mut seed: u64) -> Self {
        let mut inner = self.shared.0.lock().unwrap();
        for data in inner.files.values_mut() {
            for (from, to) in std::mem::take(&mut data.dirty) {
                let mut at = from;
                while at < to {
                    let end = ((at / PIECE_BYTES + 1) * PIECE_BYTES).min(to);
                    // xorshift64: any bit of it will do.
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    if !seed.is_multiple_of(3) {
                        data.durable[at..end].copy_from_slice(&data.cached[at..end]);
                    }
                    at = end;
                }
            }
            data.cached.clone_from(&data.durable);
        }
        self.next_life(inner)
    }

    /// The process is killed: what it wrote is in the page cache and stays.
    pub fn kill(&self) -> Self {
        self.next_life(self.shared.0.lock().unwrap())
    }

    fn next_life(&self, mut inner: MutexGuard<'_, Inner>) -> Self {
        inner.life += 1;
        inner.locked = false;
        inner.faults = Faults::default();
        self.shared.1.notify_all();
        Self { shared: Arc::clone(&self.shared), life: inner.life }
    }

    fn inner(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.shared.0.lock().unwrap();
        if inner.life != self.life {
            return Err(io::Error::other("from before a crash"));
        }
        Ok(inner)
    }

    pub fn names(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().files.keys().cloned().collect()
    }

    pub fn contents(&self, name: &str) -> Vec<u8> {
        self.shared.0.lock().unwrap().files[name].cached.clone()
    }

    /// Changes what lies on the disk.
    pub fn corrupt(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut inner = self.shared.0.lock().unwrap();
        let data = inner.files.get_mut(name).unwrap();
        change(&mut data.durable);
        data.cached.clone_from(&data.durable);
    }

    fn handle(&self, name: &str) -> Arc<dyn DiskFile> {
        Arc::new(TornFile { disk: self.clone(), name: name.to_owned() })
    }
}

struct TornLock(TornDisk);

impl Drop for TornLock {
    fn drop(&mut self) {
        if let Ok(mut inner) = self.0.inner() {
            inner.locked = false;
        }
    }
}

impl Disk for TornDisk {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut inner = self.inner()?;
        if inner.locked {
            return Err(ErrorKind::WouldBlock.into());
        }
        inner.locked = true;
        Ok(Box::new(TornLock(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.inner()?.files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let inner = self.inner()?;
        inner.files.get(name).map(|data| data.cached.clone()).ok_or(ErrorKind::NotFound.into())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let data = Data { durable: bytes.to_vec(), cached: bytes.to_vec(), dirty: Vec::new() };
        self.inner()?.files.insert(name.to_owned(), data);
        Ok(())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner()?;
        if inner.faults.full {
            return Err(ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; bytes as usize];
        let data = Data { durable: zeros.clone(), cached: zeros, dirty: Vec::new() };
        inner.files.insert(name.to_owned(), data);
        drop(inner);
        Ok(self.handle(name))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.handle(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner()?.files.remove(name);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(if self.inner()?.faults.full { 0 } else { FREE_BYTES })
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

struct TornFile {
    disk: TornDisk,
    name: String,
}

impl TornFile {
    fn with<T>(&self, work: impl FnOnce(&mut Data, Faults) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.disk.inner()?;
        let mut faults = inner.faults;
        faults.writes_fail |= inner.broken.contains(&self.name);
        let data = inner.files.get_mut(&self.name).ok_or(ErrorKind::NotFound)?;
        work(data, faults)
    }
}

impl DiskFile for TornFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|data, faults| {
            if faults.reads_fail {
                return Err(io::Error::other("read fails on purpose"));
            }
            let from = (offset as usize).min(data.cached.len());
            let bytes = buffer.len().min(data.cached.len() - from);
            buffer[..bytes].copy_from_slice(&data.cached[from..from + bytes]);
            Ok(bytes)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with(|data, faults| {
            if faults.writes_fail {
                return Err(io::Error::other("write fails on purpose"));
            }
            let range = offset as usize..offset as usize + bytes.len();
            data.cached
                .get_mut(range.clone())
                .ok_or(ErrorKind::StorageFull)?
                .copy_from_slice(bytes);
            data.dirty.push((range.start, range.end));
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let (mutex, changed) = &*self.disk.shared;
        let mut inner = mutex.lock().unwrap();
        while inner.faults.syncs_stall && inner.life == self.disk.life {
            inner = changed.wait(inner).unwrap();
        }
        inner.syncs += 1;
        drop(inner);
        self.with(|data, faults| {
            let dirty = std::mem::take(&mut data.dirty);
            if faults.syncs_fail {
                return Err(io::Error::other("sync fails on purpose"));
            }
            for (from, to) in dirty {
                data.durable[from..to].copy_from_slice(&data.cached[from..to]);
            }
            Ok(())
        })
    }

    fn bytes(&self) -> io::Result<u64> {
        self.with(|data, _| Ok(data.cached.len() as u64))
    }
}
