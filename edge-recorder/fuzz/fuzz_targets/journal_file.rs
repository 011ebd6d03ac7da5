//! A journal file as a crash, a bad disk or an attacker left it: reading and opening it must
//! neither panic nor hang, whatever lies behind a good header.
//!
//! Checksums would stop a fuzzer at the first byte, so the input is a list of records that this
//! target frames as the format says, followed by what is left of the input as it is.

#![no_main]

use std::any::Any;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crc_fast::{CrcAlgorithm, Digest, checksum};
use edge_recorder::journal::{Disk, DiskFile, Journal, JournalConfig, verify_on};
use libfuzzer_sys::fuzz_target;
use model::EdgeId;

const JOURNAL: [u8; 16] = [0x55; 16];
const FILE_BYTES: usize = 64 * 1024;
const RECORDS_AT: usize = 4096;

fuzz_target!(|input: &[u8]| {
    let disk = Arc::new(Memory::default());
    disk.put("00000000.journal", file(input));
    disk.put("local.key", vec![1; 32]);
    let _ = verify_on(&*disk);
    let config = JournalConfig {
        file_bytes: FILE_BYTES as u64,
        ..JournalConfig::new(EdgeId::new("fuzz").expect("a valid name"))
    };
    if let Ok((journal, _)) = Journal::open_on(disk, config) {
        journal.close(Duration::from_secs(1));
    }
});

/// A good header, the records of `input`, then its rest.
fn file(mut input: &[u8]) -> Vec<u8> {
    let mut out = vec![0; RECORDS_AT];
    out[..8].copy_from_slice(b"LKJOURNL");
    out[8] = 1;
    out[16..32].copy_from_slice(&JOURNAL);
    out[32] = 1; // Generation 1, epoch 1, first position 1.
    out[40] = 1;
    out[48] = 1;
    let crc = checksum(CrcAlgorithm::Crc32Iscsi, &out[..124]) as u32;
    out[124..128].copy_from_slice(&crc.to_le_bytes());
    let mut position = 0u64;
    while let [kind, length, rest @ ..] = input {
        let (body, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        input = rest;
        // Snapshots take no position.
        position += u64::from(*kind < 48);
        record(&mut out, *kind, position, body);
        if out.len() > FILE_BYTES / 2 {
            break;
        }
    }
    out.extend_from_slice(input);
    out.resize(FILE_BYTES, 0);
    out
}

fn record(out: &mut Vec<u8>, kind: u8, position: u64, body: &[u8]) {
    let offset = out.len() as u64;
    let mut covered = Vec::new();
    covered.extend_from_slice(&(body.len() as u32).to_le_bytes());
    covered.extend_from_slice(&position.to_le_bytes());
    covered.push(kind);
    covered.extend_from_slice(&[0; 7]);
    covered.extend_from_slice(body);
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&JOURNAL);
    digest.update(&1u64.to_le_bytes());
    digest.update(&offset.to_le_bytes());
    digest.update(&covered);
    out.extend_from_slice(&(digest.finalize() as u32).to_le_bytes());
    out.extend_from_slice(&covered);
    out.resize(out.len().next_multiple_of(8), 0);
}

/// A disk in memory that always works.
#[derive(Default)]
struct Memory {
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
}

struct MemoryFile(Mutex<Vec<u8>>);

impl Memory {
    fn put(&self, name: &str, bytes: Vec<u8>) -> Arc<MemoryFile> {
        let file = Arc::new(MemoryFile(Mutex::new(bytes)));
        self.files.lock().expect("no holder panics").insert(name.to_owned(), Arc::clone(&file));
        file
    }

    fn find(&self, name: &str) -> io::Result<Arc<MemoryFile>> {
        let files = self.files.lock().expect("no holder panics");
        files.get(name).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for Memory {
    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.lock().expect("no holder panics").keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        Ok(self.find(name)?.0.lock().expect("no holder panics").clone())
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put(name, bytes.to_vec());
        Ok(())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.put(name, vec![0; bytes as usize]))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.find(name)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files.lock().expect("no holder panics").remove(name);
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }

    fn place(&self) -> String {
        "memory".to_owned()
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.lock().expect("no holder panics");
        let from = (offset as usize).min(bytes.len());
        let length = buffer.len().min(bytes.len() - from);
        buffer[..length].copy_from_slice(&bytes[from..from + length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let from = offset as usize;
        let mut held = self.0.lock().expect("no holder panics");
        let place = held.get_mut(from..from + bytes.len()).ok_or(ErrorKind::StorageFull)?;
        place.copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.lock().expect("no holder panics").len() as u64)
    }
}
