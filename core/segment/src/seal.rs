//! Seals the bodies of one session, one by one, and opens them again.
//!
//! ```text
//! version:  u8       1
//! kind:     u8       as RecordKind
//! key id:   u8[8]    which data key
//! counter:  u64 LE   rises with every body under this key; zero-extended it is the GCM nonce
//! body:     u8[..]   AES-256-GCM ciphertext
//! tag:      u8[16]
//! ```
//!
//! Associated data: version, kind, key id, session, position. So a body that was moved to another
//! call, or to another place in its own, does not open. A data key is used by one process only (a
//! resumed session takes a new one), so the counter never repeats under a key.

use std::collections::BTreeMap;
use std::ops::Range;

use aes_gcm::aead::Payload;
use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _, aead::Aead as _};
use model::{Position, SessionId};
use rand::CryptoRng;

use crate::batch::PacketBatch;
use crate::body::{Body, BodyError};
use crate::key::{
    KeyError, KeyId, SealedKey, TenantKeyPair, TenantPublicKey, new_data_key, system_rng,
};
use crate::record::{RecordKind, SessionRecord};
use crate::wire::Cursor;

const VERSION: u8 = 1;

/// Why a body does not open.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("not a sealed body")]
    NotOne,
    #[error("sealed body of version {found}: written by a newer release")]
    TooNew { found: u8 },
    /// Erased, or of another tenant or session.
    #[error("no key here opens this body")]
    NoKey,
    #[error("the body at position {} was changed or moved", .position.0)]
    Changed { position: Position },
    #[error("the body at position {} cannot be read", .position.0)]
    Body {
        position: Position,
        #[source]
        source: BodyError,
    },
}

/// Seals the bodies of one session under one data key. New on start and on every resume.
pub struct Sealer {
    session: SessionId,
    key_id: KeyId,
    cipher: Aes256Gcm,
    counter: u64,
}

impl Sealer {
    /// Also returns the data key, sealed: journal it before the first body.
    pub fn new(
        session: SessionId,
        tenant_key: &TenantPublicKey,
    ) -> Result<(Self, SealedKey), KeyError> {
        Self::with_rng(session, tenant_key, &mut system_rng()?)
    }

    pub(crate) fn with_rng(
        session: SessionId,
        tenant_key: &TenantPublicKey,
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, SealedKey), KeyError> {
        let (key_id, data_key, sealed) = new_data_key(session, tenant_key, rng)?;
        let cipher = Aes256Gcm::new(&data_key.into());
        Ok((Self { session, key_id, cipher, counter: 0 }, sealed))
    }

    /// Seals `body` for the record at `position`.
    pub fn seal(&mut self, position: Position, body: &Body) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.seal_into(position, body.kind(), &mut sealed, |out| {
            out.extend_from_slice(&body.encode());
        });
        sealed
    }

    /// Appends these packets of a batch, sealed, to `out`. They are coded and encrypted where they
    /// lie: of what the recorder does with a packet, moving it is most.
    pub fn seal_packets(
        &mut self,
        position: Position,
        batch: &PacketBatch,
        range: Range<usize>,
        out: &mut Vec<u8>,
    ) {
        self.seal_into(position, RecordKind::Packets, out, |out| batch.put(out, range));
    }

    fn seal_into(
        &mut self,
        position: Position,
        kind: RecordKind,
        out: &mut Vec<u8>,
        put_plain: impl FnOnce(&mut Vec<u8>),
    ) {
        let header = Header { kind, key_id: self.key_id, counter: self.counter };
        self.counter += 1;
        out.push(VERSION);
        out.push(header.kind as u8);
        out.extend_from_slice(&header.key_id);
        out.extend_from_slice(&header.counter.to_le_bytes());
        let plain_at = out.len();
        put_plain(out);
        let aad = header.associated_data(self.session, position);
        let tag = self
            .cipher
            .encrypt_inout_detached(&header.nonce().into(), &aad, (&mut out[plain_at..]).into())
            .expect("a body is far below the 64 GiB that GCM can seal");
        out.extend_from_slice(&tag);
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Opens the bodies of one session.
pub struct Opener {
    session: SessionId,
    ciphers: BTreeMap<KeyId, Aes256Gcm>,
}

impl Opener {
    /// Keys that `keys` cannot open are left out; their bodies answer [`SealError::NoKey`].
    pub fn new(keys: &TenantKeyPair, session: SessionId, sealed: &[SealedKey]) -> Self {
        let ciphers = sealed.iter().filter_map(|sealed| {
            let data_key = keys.open_data_key(session, sealed)?;
            Some((sealed.key_id, Aes256Gcm::new(&data_key.into())))
        });
        Self { session, ciphers: ciphers.collect() }
    }

    /// How many of the keys it was given it can use.
    pub fn usable_keys(&self) -> usize {
        self.ciphers.len()
    }

    pub fn open(&self, position: Position, sealed: &[u8]) -> Result<Body, SealError> {
        let (header, ciphertext) = Header::read(sealed)?;
        let cipher = self.ciphers.get(&header.key_id).ok_or(SealError::NoKey)?;
        let aad = header.associated_data(self.session, position);
        let plain = cipher
            .decrypt(&header.nonce().into(), Payload { msg: ciphertext, aad: &aad })
            .map_err(|_| SealError::Changed { position })?;
        Body::decode(header.kind, &plain).map_err(|source| SealError::Body { position, source })
    }

    /// Opens the body of a record; `None` for the kinds that are not sealed.
    pub fn open_record(&self, record: &SessionRecord) -> Result<Option<Body>, SealError> {
        if !record.kind.is_sealed() {
            return Ok(None);
        }
        let body = self.open(record.position, &record.bytes)?;
        // The kind beside the sealed bytes is not authenticated; the one within is.
        if body.kind() != record.kind {
            return Err(SealError::Changed { position: record.position });
        }
        Ok(Some(body))
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener")
            .field("session", &self.session)
            .field("usable_keys", &self.usable_keys())
            .finish_non_exhaustive()
    }
}

struct Header {
    kind: RecordKind,
    key_id: KeyId,
    counter: u64,
}

impl Header {
    fn read(sealed: &[u8]) -> Result<(Self, &[u8]), SealError> {
        let mut cursor = Cursor::new(sealed);
        match cursor.u8() {
            Some(VERSION) => {}
            None | Some(0) => return Err(SealError::NotOne),
            Some(found) => return Err(SealError::TooNew { found }),
        }
        let mut fields = || {
            let kind = RecordKind::from_u8(cursor.u8()?).filter(|kind| kind.is_sealed())?;
            let header = Self { kind, key_id: cursor.array()?, counter: cursor.u64()? };
            let ciphertext = cursor.take(cursor.remaining())?;
            Some((header, ciphertext))
        };
        fields().ok_or(SealError::NotOne)
    }

    fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.counter.to_le_bytes());
        nonce
    }

    fn associated_data(&self, session: SessionId, position: Position) -> Vec<u8> {
        [
            &[VERSION, self.kind as u8][..],
            &self.key_id,
            session.0.as_bytes(),
            &position.0.to_le_bytes(),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    const HERE: Position = Position(7);

    fn sealed() -> (Opener, Vec<u8>, SealedKey) {
        let pair = sample::tenant();
        let (mut sealer, key) = Sealer::new(sample::session(1), &pair.public()).unwrap();
        let opener = Opener::new(&pair, sample::session(1), std::slice::from_ref(&key));
        (opener, sealer.seal(HERE, &sample::packets()), key)
    }

    #[test]
    fn every_body_opens_to_what_it_was() {
        let pair = sample::tenant();
        let (mut sealer, key) = Sealer::new(sample::session(1), &pair.public()).unwrap();
        let opener = Opener::new(&pair, sample::session(1), &[key]);
        for (at, body) in (0..).zip(sample::bodies()) {
            let sealed = sealer.seal(Position(at), &body);
            assert_eq!(opener.open(Position(at), &sealed).unwrap(), body);
        }
    }

    #[test]
    fn a_body_opens_at_its_own_position_only() {
        let (opener, sealed, _) = sealed();
        assert!(opener.open(HERE, &sealed).is_ok());
        let elsewhere = opener.open(HERE.next(), &sealed);
        assert!(
            matches!(elsewhere, Err(SealError::Changed { position }) if position == HERE.next())
        );
    }

    #[test]
    fn a_body_opens_in_its_own_session_only() {
        let (_, sealed, key) = sealed();
        let other = Opener::new(&sample::tenant(), sample::session(2), &[key]);
        assert_eq!(other.usable_keys(), 0);
        assert!(matches!(other.open(HERE, &sealed), Err(SealError::NoKey)));
    }

    #[test]
    fn a_body_opens_for_its_own_tenant_only() {
        let (_, sealed, key) = sealed();
        let stranger = TenantKeyPair::from_bytes([99; 32]);
        let other = Opener::new(&stranger, sample::session(1), &[key]);
        assert!(matches!(other.open(HERE, &sealed), Err(SealError::NoKey)));
    }

    #[test]
    fn no_changed_bit_is_overlooked() {
        let (opener, sealed, _) = sealed();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(opener.open(HERE, &changed).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_that_claims_another_kind_does_not_open() {
        let (opener, bytes, _) = sealed();
        let mut record =
            SessionRecord { kind: RecordKind::Packets, position: HERE, boot_ns: 0, bytes };
        assert!(opener.open_record(&record).unwrap().is_some());
        record.kind = RecordKind::Metadata;
        assert!(matches!(opener.open_record(&record), Err(SealError::Changed { .. })));
    }

    #[test]
    fn two_bodies_never_share_a_nonce() {
        let (mut sealer, _) = Sealer::new(sample::session(1), &sample::tenant().public()).unwrap();
        let first = sealer.seal(HERE, &sample::packets());
        let second = sealer.seal(HERE, &sample::packets());
        assert_ne!(first[10..18], second[10..18]);
    }

    #[test]
    fn a_resumed_session_opens_with_both_of_its_keys() {
        let pair = sample::tenant();
        let (mut before, first) = Sealer::new(sample::session(1), &pair.public()).unwrap();
        let (mut after, second) = Sealer::new(sample::session(1), &pair.public()).unwrap();
        assert_ne!(first.key_id, second.key_id);
        let opener = Opener::new(&pair, sample::session(1), &[first, second]);
        for sealer in [&mut before, &mut after] {
            assert!(opener.open(HERE, &sealer.seal(HERE, &sample::packets())).is_ok());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
            let (opener, _, _) = sealed();
            proptest::prop_assert!(opener.open(HERE, &bytes).is_err());
        }
    }
}
