//! The keys of one direction of a stream, as agreed.

use std::fmt;

use super::Suite;

/// The most keys that one line may name: each costs an attempt per packet that is not ours.
const MAX_KEYS: usize = 8;

/// Everything that decides how the packets of one side are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keying {
    pub suite: Suite,
    /// At least one. With several, each packet names its key.
    pub keys: Vec<MasterKey>,
    /// `UNENCRYPTED_SRTP`: authenticated only (RFC 4568 §6.3.2).
    pub plain_rtp: bool,
    /// `UNENCRYPTED_SRTCP`
    pub plain_rtcp: bool,
}

/// A master key, its salt, and what packets call it.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    pub(super) key: Vec<u8>,
    pub(super) salt: Vec<u8>,
    /// The master key identifier as it stands in packets; empty when there is none.
    pub(super) mki: Vec<u8>,
}

/// Keys do not print.
impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("mki_bytes", &self.mki.len()).finish_non_exhaustive()
    }
}

/// Why keys cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyingError {
    #[error("key and salt of {found} bytes where the suite has {expected}")]
    Length { found: usize, expected: usize },
    #[error("no key, or more than {MAX_KEYS}")]
    Count,
    /// RFC 4568 §6.1: with several keys each has an identifier, all of one length.
    #[error("several keys that packets cannot tell apart")]
    Identifiers,
}

impl MasterKey {
    /// `key_and_salt` as `inline:` has it.
    pub fn new(suite: Suite, key_and_salt: &[u8], mki: &[u8]) -> Result<Self, KeyingError> {
        let expected = suite.key_and_salt_bytes();
        let found = key_and_salt.len();
        if found != expected {
            return Err(KeyingError::Length { found, expected });
        }
        let (key, salt) = key_and_salt.split_at(suite.key_bytes());
        Ok(Self { key: key.to_vec(), salt: salt.to_vec(), mki: mki.to_vec() })
    }
}

impl Keying {
    pub fn new(suite: Suite, keys: Vec<MasterKey>) -> Result<Self, KeyingError> {
        if !(1..=MAX_KEYS).contains(&keys.len()) {
            return Err(KeyingError::Count);
        }
        let distinct = |(at, key): (usize, &MasterKey)| {
            !key.mki.is_empty()
                && key.mki.len() == keys[0].mki.len()
                && keys[..at].iter().all(|other| other.mki != key.mki)
        };
        if keys.len() > 1 && !keys.iter().enumerate().all(distinct) {
            return Err(KeyingError::Identifiers);
        }
        Ok(Self { suite, keys, plain_rtp: false, plain_rtcp: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: Suite = Suite::AesCm128Sha1Tag80;

    fn key(mki: &[u8]) -> MasterKey {
        MasterKey::new(SUITE, &[7; 30], mki).unwrap()
    }

    #[test]
    fn a_key_has_the_length_that_its_suite_says() {
        for suite in Suite::ALL {
            let bytes = vec![1; suite.key_and_salt_bytes()];
            assert!(MasterKey::new(suite, &bytes, &[]).is_ok());
            assert!(MasterKey::new(suite, &bytes[1..], &[]).is_err());
        }
    }

    #[test]
    fn several_keys_need_names_of_one_length_that_differ() {
        let keying = |keys: &[&[u8]]| Keying::new(SUITE, keys.iter().map(|mki| key(mki)).collect());
        assert!(keying(&[b""]).is_ok());
        assert!(keying(&[b"a", b"b"]).is_ok());
        for bad in [&[&b"a"[..], b""][..], &[b"a", b"a"], &[b"a", b"bb"]] {
            assert_eq!(keying(bad), Err(KeyingError::Identifiers));
        }
        assert_eq!(keying(&[]), Err(KeyingError::Count));
        assert_eq!(keying(&[&b"a"[..]; 9]), Err(KeyingError::Count));
    }

    #[test]
    fn keys_do_not_print() {
        let printed = format!("{:?}", Keying::new(SUITE, vec![key(b"\x07")]).unwrap());
        assert!(!printed.contains('7'), "{printed}");
    }
}
