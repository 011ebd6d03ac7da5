//! Tenants' key pairs, and data keys sealed to them (HPKE, RFC 9180).
//!
//! An edge knows only public keys, so it cannot read back what it recorded. The suite is
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM (RFC 9180 §7), in base mode (§5.1.1).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _};
use model::SessionId;
use rand::{CryptoRng, SeedableRng as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

type Kem = X25519HkdfSha256;

/// Bytes of an encapsulated X25519 key, a data key and an AEAD tag.
const SEALED_BYTES: usize = 32 + 32 + 16;
/// First byte of a sealed key in its text and byte form.
const VERSION: u8 = 1;

pub(crate) type KeyId = [u8; 8];
pub(crate) type DataKey = [u8; 32];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("not a public key: expected 32 bytes as base64")]
    PublicKey,
    #[error("not a sealed data key")]
    SealedKey,
    #[error("the operating system gave no random bytes")]
    Random,
}

/// Generator for one key, seeded by the operating system.
pub(crate) fn system_rng() -> Result<rand::rngs::StdRng, KeyError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|_| KeyError::Random)?;
    Ok(rand::rngs::StdRng::from_seed(seed))
}

/// Both halves of a tenant's key: opens everything that was recorded for the tenant.
#[derive(Clone)]
pub struct TenantKeyPair {
    private: <Kem as hpke::Kem>::PrivateKey,
}

impl TenantKeyPair {
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|_| KeyError::Random)?;
        Ok(Self::from_bytes(bytes))
    }

    /// Any 32 bytes are an X25519 private key (RFC 7748 §5).
    pub fn from_bytes(private: [u8; 32]) -> Self {
        let private = <Kem as hpke::Kem>::PrivateKey::from_bytes(&private)
            .expect("32 bytes are an X25519 private key");
        Self { private }
    }

    /// The private half. Whoever holds it can hear every call of the tenant.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.private.to_bytes().into()
    }

    pub fn public(&self) -> TenantPublicKey {
        TenantPublicKey(Kem::sk_to_pk(&self.private).to_bytes().into())
    }

    /// `None` when `sealed` is for another tenant or session, or is not what was sealed.
    pub(crate) fn open_data_key(&self, session: SessionId, sealed: &SealedKey) -> Option<DataKey> {
        let (encapsulated, ciphertext) = sealed.bytes.split_at_checked(32)?;
        let encapsulated = <Kem as hpke::Kem>::EncappedKey::from_bytes(encapsulated).ok()?;
        let opened = hpke::single_shot_open::<AesGcm256, HkdfSha256, Kem>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            &info(session),
            ciphertext,
            &sealed.key_id,
        );
        opened.ok()?.try_into().ok()
    }
}

impl fmt::Debug for TenantKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantKeyPair({})", self.public())
    }
}

/// The half that edges have. Prints and parses as base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TenantPublicKey([u8; 32]);

impl TenantPublicKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn to_bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for TenantPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for TenantPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantPublicKey({self})")
    }
}

impl FromStr for TenantPublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = BASE64.decode(text.trim()).map_err(|_| KeyError::PublicKey)?;
        bytes.try_into().map(Self).map_err(|_| KeyError::PublicKey)
    }
}

/// A data key that only its tenant can open. Prints, parses and serialises as base64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealedKey {
    /// Names the key in every body sealed under it.
    pub key_id: [u8; 8],
    /// Encapsulated key, then the sealed data key.
    pub bytes: Vec<u8>,
}

impl SealedKey {
    pub fn to_bytes(&self) -> Vec<u8> {
        [&[VERSION][..], &self.key_id, &self.bytes].concat()
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let Some(([VERSION], rest)) = bytes.split_first_chunk::<1>() else {
            return Err(KeyError::SealedKey);
        };
        let (key_id, sealed) = rest.split_first_chunk().ok_or(KeyError::SealedKey)?;
        if sealed.len() != SEALED_BYTES {
            return Err(KeyError::SealedKey);
        }
        Ok(Self { key_id: *key_id, bytes: sealed.to_vec() })
    }
}

impl fmt::Display for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.to_bytes()))
    }
}

impl FromStr for SealedKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&BASE64.decode(text).map_err(|_| KeyError::SealedKey)?)
    }
}

impl Serialize for SealedKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SealedKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Makes a data key and seals it to `tenant`, for `session` alone.
pub(crate) fn new_data_key(
    session: SessionId,
    tenant: &TenantPublicKey,
    rng: &mut impl CryptoRng,
) -> Result<(KeyId, DataKey, SealedKey), KeyError> {
    let recipient =
        <Kem as hpke::Kem>::PublicKey::from_bytes(&tenant.0).map_err(|_| KeyError::PublicKey)?;
    let mut key_id = KeyId::default();
    rng.fill_bytes(&mut key_id);
    let mut data_key = DataKey::default();
    rng.fill_bytes(&mut data_key);
    // Fails for the few points of low order, with which there would be no secret (RFC 7748 §6.1).
    let (encapsulated, ciphertext) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, Kem>(
        &OpModeS::Base,
        &recipient,
        &info(session),
        &data_key,
        &key_id,
        rng,
    )
    .map_err(|_| KeyError::PublicKey)?;
    let bytes = [&encapsulated.to_bytes()[..], &ciphertext].concat();
    Ok((key_id, data_key, SealedKey { key_id, bytes }))
}

/// Binds a sealed key to its session (RFC 9180 §8.1: the `info` parameter).
fn info(session: SessionId) -> Vec<u8> {
    [b"linekeeper data key v1", &session.0.as_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(seed: u8) -> SessionId {
        SessionId::at(1_700_000_000_000, [seed; 10])
    }

    #[test]
    fn a_sealed_key_opens_for_its_tenant_and_session_only() {
        let pair = TenantKeyPair::from_bytes([5; 32]);
        let mut rng = system_rng().unwrap();
        let (_, data_key, sealed) = new_data_key(session(1), &pair.public(), &mut rng).unwrap();
        assert_eq!(pair.open_data_key(session(1), &sealed), Some(data_key));
        assert_eq!(pair.open_data_key(session(2), &sealed), None);
        assert_eq!(TenantKeyPair::from_bytes([6; 32]).open_data_key(session(1), &sealed), None);
        let renamed = SealedKey { key_id: [0; 8], ..sealed };
        assert_eq!(pair.open_data_key(session(1), &renamed), None);
    }

    #[test]
    fn keys_survive_their_text() {
        let pair = TenantKeyPair::generate().unwrap();
        assert_eq!(TenantKeyPair::from_bytes(pair.to_bytes()).public(), pair.public());
        assert_eq!(pair.public().to_string().parse(), Ok(pair.public()));
        let mut rng = system_rng().unwrap();
        let (_, _, sealed) = new_data_key(session(1), &pair.public(), &mut rng).unwrap();
        assert_eq!(sealed.to_string().parse(), Ok(sealed.clone()));
        for bad in ["", "x", "AAAA", &sealed.to_string()[4..], &"A".repeat(120)] {
            assert_eq!(bad.parse::<SealedKey>(), Err(KeyError::SealedKey), "{bad:?}");
            assert_eq!(bad.parse::<TenantPublicKey>(), Err(KeyError::PublicKey), "{bad:?}");
        }
    }

    #[test]
    fn a_private_key_does_not_print() {
        let pair = TenantKeyPair::from_bytes([7; 32]);
        assert_eq!(format!("{pair:?}"), format!("TenantKeyPair({})", pair.public()));
    }

    #[test]
    fn a_public_key_without_a_secret_is_refused() {
        let low_order = TenantPublicKey::from_bytes([0; 32]);
        let mut rng = system_rng().unwrap();
        let made = new_data_key(session(1), &low_order, &mut rng);
        assert_eq!(made.unwrap_err(), KeyError::PublicKey);
    }
}
