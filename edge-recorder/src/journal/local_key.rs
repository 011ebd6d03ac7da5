//! Seals what this machine itself has to read back after a restart: dialogs, and events that are
//! not announced yet. Everything else in the journal is sealed to the tenant and cannot be opened
//! here.
//!
//! - The key lies beside the journal in `local.key`, 32 random bytes, mode 0600.
//! - Each start derives a key of its own from it and 16 random bytes, and counts nonces under
//!   that: no nonce repeats, even when the directory is restored from a copy.
//! - Bytes sealed for one purpose or journal do not open for another.
//!
//! ```text
//! salt: u8[16]   counter: u64 LE   ciphertext and tag (AES-256-GCM)
//! ```

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
use model::JournalId;
use sha2::Sha256;

use super::JournalError;
use super::disk::Disk;

const NAME: &str = "local.key";
const SALT_BYTES: usize = 16;
const PREFIX_BYTES: usize = SALT_BYTES + 8;

/// What a sealed value is for; part of what is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Dialog = 1,
    Event = 2,
}

pub struct LocalKey {
    root: [u8; 32],
    journal: JournalId,
    salt: [u8; SALT_BYTES],
    cipher: Aes256Gcm,
    counter: AtomicU64,
    /// Ciphers of earlier starts, for reading what they sealed.
    earlier: Mutex<HashMap<[u8; SALT_BYTES], Aes256Gcm>>,
}

impl LocalKey {
    /// Reads the key, or makes one for a directory that is `new`.
    pub fn load(disk: &dyn Disk, journal: JournalId, new: bool) -> Result<Self, JournalError> {
        let root = match disk.read(NAME) {
            Ok(bytes) => bytes.try_into().map_err(|_| JournalError::LocalKey {
                place: disk.place(),
                what: "is not 32 bytes long",
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound && new => {
                let root = random::<32>()?;
                disk.replace(NAME, &root)
                    .map_err(|source| JournalError::Disk { what: "write local.key", source })?;
                root
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(JournalError::LocalKey { place: disk.place(), what: "is missing" });
            }
            Err(source) => return Err(JournalError::Disk { what: "read local.key", source }),
        };
        let salt = random::<SALT_BYTES>()?;
        Ok(Self {
            cipher: derive(&root, &salt),
            root,
            journal,
            salt,
            counter: AtomicU64::new(0),
            earlier: Mutex::default(),
        })
    }

    pub fn seal(&self, purpose: Purpose, plain: &[u8]) -> Vec<u8> {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        let aad = self.aad(purpose);
        let sealed = self
            .cipher
            .encrypt(&nonce(counter), Payload { msg: plain, aad: &aad })
            .expect("AES-GCM seals anything under 64 GiB");
        let mut out = Vec::with_capacity(PREFIX_BYTES + sealed.len());
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&counter.to_le_bytes());
        out.extend_from_slice(&sealed);
        out
    }

    /// `None` when it was not sealed here for this purpose, or was changed since.
    pub fn open(&self, purpose: Purpose, sealed: &[u8]) -> Option<Vec<u8>> {
        let (prefix, sealed) = sealed.split_at_checked(PREFIX_BYTES)?;
        let salt: [u8; SALT_BYTES] = prefix[..SALT_BYTES].try_into().ok()?;
        let counter = u64::from_le_bytes(prefix[SALT_BYTES..].try_into().ok()?);
        let aad = self.aad(purpose);
        let payload = Payload { msg: sealed, aad: &aad };
        if salt == self.salt {
            return self.cipher.decrypt(&nonce(counter), payload).ok();
        }
        let mut earlier = self.earlier.lock().unwrap_or_else(|held| held.into_inner());
        let cipher = earlier.entry(salt).or_insert_with(|| derive(&self.root, &salt));
        cipher.decrypt(&nonce(counter), payload).ok()
    }

    fn aad(&self, purpose: Purpose) -> [u8; 17] {
        let mut aad = [purpose as u8; 17];
        aad[1..].copy_from_slice(self.journal.0.as_bytes());
        aad
    }
}

fn derive(root: &[u8; 32], salt: &[u8; SALT_BYTES]) -> Aes256Gcm {
    let mut mac =
        <Hmac<Sha256> as KeyInit>::new_from_slice(root).expect("HMAC takes a key of any length");
    mac.update(b"linekeeper local key v1");
    mac.update(salt);
    let key: [u8; 32] = mac.finalize().into_bytes().into();
    Aes256Gcm::new(&key.into())
}

fn nonce(counter: u64) -> Nonce<<Aes256Gcm as aes_gcm::aead::AeadCore>::NonceSize> {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&counter.to_le_bytes());
    bytes.into()
}

pub fn random<const N: usize>() -> Result<[u8; N], JournalError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| JournalError::Disk { what: "read random bytes", source: error.into() })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::torn_disk::TornDisk;

    fn journal(number: u8) -> JournalId {
        JournalId::at(1, [number; 10])
    }

    #[test]
    fn what_one_start_sealed_the_next_one_opens() {
        let disk = TornDisk::default();
        let sealed =
            LocalKey::load(&disk, journal(1), true).unwrap().seal(Purpose::Dialog, b"dialog");
        let next = LocalKey::load(&disk, journal(1), false).unwrap();
        assert_eq!(next.open(Purpose::Dialog, &sealed).as_deref(), Some(&b"dialog"[..]));
        assert_ne!(next.seal(Purpose::Dialog, b"dialog"), sealed);
    }

    #[test]
    fn nothing_opens_for_another_purpose_or_journal_or_after_a_change() {
        let disk = TornDisk::default();
        let key = LocalKey::load(&disk, journal(1), true).unwrap();
        let sealed = key.seal(Purpose::Dialog, b"dialog");
        assert_eq!(key.open(Purpose::Event, &sealed), None);
        let other = LocalKey::load(&disk, journal(2), false).unwrap();
        assert_eq!(other.open(Purpose::Dialog, &sealed), None);
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert_eq!(key.open(Purpose::Dialog, &changed), None, "byte {index}");
            assert_eq!(key.open(Purpose::Dialog, &sealed[..index]), None, "{index} bytes");
        }
    }

    #[test]
    fn a_key_of_the_wrong_length_is_an_error_and_is_kept() {
        let disk = TornDisk::default();
        disk.replace(NAME, b"short").unwrap();
        let loaded = LocalKey::load(&disk, journal(1), true).map(|_| ());
        assert!(matches!(loaded, Err(JournalError::LocalKey { .. })));
        assert_eq!(disk.read(NAME).unwrap(), b"short");
    }
}
