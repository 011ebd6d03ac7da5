//! One master key at work: derives the session's keys (RFC 3711 §4.3) and transforms single
//! packets whose index is given (§3.3, §3.4, RFC 7714 §8 and §9).
//!
//! ```text
//! SRTP, counter mode    header ‖ encrypted payload ‖ MKI ‖ tag       tag over all but itself and MKI, ‖ ROC
//! SRTP, GCM             header ‖ encrypted payload ‖ tag ‖ MKI       header is associated data
//! SRTCP, counter mode   8 bytes ‖ encrypted rest ‖ E, index ‖ MKI ‖ tag
//! SRTCP, GCM            8 bytes ‖ encrypted rest ‖ tag ‖ E, index ‖ MKI
//! ```

use aes::cipher::{BlockCipherEncrypt, InnerIvInit, StreamCipher};
use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, Aes256Gcm, KeyInit};
use hmac::{Hmac, Mac};
use sha1::Sha1;

use super::{Keying, MasterKey, Suite};

const AUTH_KEY_BYTES: usize = 20;
const GCM_TAG_BYTES: usize = 16;
/// The part of an RTCP compound that stays readable: its first header with the sender's SSRC.
pub(super) const RTCP_HEADER_BYTES: usize = 8;
/// E flag and index.
const ESRTCP_BYTES: usize = 4;
const E_FLAG: u32 = 1 << 31;

/// Labels of RFC 3711 §4.3.1 and §4.3.2.
#[derive(Clone, Copy)]
enum Use {
    Rtp = 0,
    Rtcp = 3,
}

/// The session's keys under one master key.
pub(super) struct SessionKeys {
    suite: Suite,
    pub mki: Vec<u8>,
    rtp: Keys,
    rtcp: Keys,
    plain_rtp: bool,
    plain_rtcp: bool,
}

struct Keys {
    cipher: Cipher,
    salt: [u8; 14],
    /// Keyed and empty; GCM authenticates by itself.
    mac: Hmac<Sha1>,
}

enum Cipher {
    Cm128(Aes128),
    Cm192(Aes192),
    Cm256(Aes256),
    Gcm128(Box<Aes128Gcm>),
    Gcm256(Box<Aes256Gcm>),
}

impl SessionKeys {
    pub fn derive(keying: &Keying, master: &MasterKey) -> Self {
        let suite = keying.suite;
        Self {
            suite,
            mki: master.mki.clone(),
            rtp: Keys::derive(suite, master, Use::Rtp),
            rtcp: Keys::derive(suite, master, Use::Rtcp),
            plain_rtp: keying.plain_rtp,
            plain_rtcp: keying.plain_rtcp,
        }
    }

    /// Protects `packet`, whose header has `header_bytes`, in place.
    pub fn seal_rtp(&self, packet: &mut Vec<u8>, header_bytes: usize, index: u64) {
        let Place { ssrc, .. } = Place::of_rtp(packet);
        let from = if self.plain_rtp { packet.len() } else { header_bytes };
        if self.suite.is_aead() {
            let nonce = self.rtp.gcm_nonce(ssrc, index);
            let (header, payload) = packet.split_at_mut(from);
            let tag = self.rtp.cipher.gcm_seal(&nonce, header, payload);
            packet.extend_from_slice(&tag);
            packet.extend_from_slice(&self.mki);
            return;
        }
        self.rtp.cipher.apply_keystream(&self.rtp.cm_iv(ssrc, index), &mut packet[from..]);
        let mac = self.rtp.mac.clone().chain_update(&*packet).chain_update(roc_bytes(index));
        let tag = mac.finalize().into_bytes();
        packet.extend_from_slice(&self.mki);
        packet.extend_from_slice(&tag[..self.suite.srtp_tag_bytes()]);
    }

    /// Reads `packet`, whose header has `header_bytes`, under the first of these rollover counters
    /// under which it is authentic. `mki_bytes` of it name the key.
    pub fn open_rtp(
        &self,
        packet: &[u8],
        header_bytes: usize,
        mki_bytes: usize,
        rocs: impl IntoIterator<Item = u32>,
    ) -> Option<Opened> {
        let tag_bytes = self.suite.srtp_tag_bytes();
        let content_bytes = packet.len().checked_sub(tag_bytes + mki_bytes)?;
        let (content, trailer) = packet.split_at(content_bytes);
        if content_bytes < header_bytes {
            return None;
        }
        let Place { ssrc, sequence } = Place::of_rtp(packet);
        let from = if self.plain_rtp { content_bytes } else { header_bytes };
        if self.suite.is_aead() {
            let tag = &trailer[..tag_bytes];
            let (header, payload) = content.split_at(from);
            return rocs.into_iter().find_map(|roc| {
                let nonce = self.rtp.gcm_nonce(ssrc, index_of(roc, sequence));
                let payload = self.rtp.cipher.gcm_open(&nonce, &[header], payload, tag)?;
                Some(Opened { roc, packet: Plain::Ready([header, &payload].concat()) })
            });
        }
        let tag = &trailer[mki_bytes..];
        // What costs is reading the packet; trying another counter adds four bytes.
        let read = self.rtp.mac.clone().chain_update(content);
        let is_authentic = |roc: &u32| {
            read.clone().chain_update(roc.to_be_bytes()).verify_truncated_left(tag).is_ok()
        };
        let roc = rocs.into_iter().find(is_authentic)?;
        let iv = self.rtp.cm_iv(ssrc, index_of(roc, sequence));
        Some(Opened { roc, packet: Plain::Counter { iv, from, content_bytes } })
    }

    /// The plain packet of what [`Self::open_rtp`] found authentic.
    pub fn plain_rtp(&self, packet: &[u8], opened: Opened) -> Vec<u8> {
        match opened.packet {
            Plain::Ready(plain) => plain,
            Plain::Counter { iv, from, content_bytes } => {
                let mut plain = packet[..content_bytes].to_vec();
                self.rtp.cipher.apply_keystream(&iv, &mut plain[from..]);
                plain
            }
        }
    }

    /// Protects a compound of at least [`RTCP_HEADER_BYTES`] in place. `index` has 31 bits.
    pub fn seal_rtcp(&self, compound: &mut Vec<u8>, index: u32) {
        let ssrc = rtcp_ssrc(compound);
        let flag = if self.plain_rtcp { 0 } else { E_FLAG };
        let from = if self.plain_rtcp { compound.len() } else { RTCP_HEADER_BYTES };
        let esrtcp = (index | flag).to_be_bytes();
        if self.suite.is_aead() {
            let nonce = self.rtcp.gcm_nonce(ssrc, u64::from(index));
            let (header, rest) = compound.split_at_mut(from);
            let associated = [&*header, &esrtcp].concat();
            let tag = self.rtcp.cipher.gcm_seal(&nonce, &associated, rest);
            compound.extend_from_slice(&tag);
            compound.extend_from_slice(&esrtcp);
            compound.extend_from_slice(&self.mki);
            return;
        }
        let iv = self.rtcp.cm_iv(ssrc, u64::from(index));
        self.rtcp.cipher.apply_keystream(&iv, &mut compound[from..]);
        compound.extend_from_slice(&esrtcp);
        let tag = self.rtcp.mac.clone().chain_update(&*compound).finalize().into_bytes();
        compound.extend_from_slice(&self.mki);
        compound.extend_from_slice(&tag[..self.suite.srtcp_tag_bytes()]);
    }

    /// The plain compound, if `packet` is authentic.
    pub fn open_rtcp(&self, packet: &[u8], mki_bytes: usize) -> Option<Vec<u8>> {
        let tag_bytes = self.suite.srtcp_tag_bytes();
        let trailer_bytes = tag_bytes + mki_bytes + ESRTCP_BYTES;
        let content_bytes = packet.len().checked_sub(trailer_bytes)?;
        if content_bytes < RTCP_HEADER_BYTES {
            return None;
        }
        let content = &packet[..content_bytes];
        let (tag, esrtcp) = if self.suite.is_aead() {
            let (tag, rest) = packet[content_bytes..].split_at(tag_bytes);
            (tag, &rest[..ESRTCP_BYTES])
        } else {
            let (esrtcp, rest) = packet[content_bytes..].split_at(ESRTCP_BYTES);
            (&rest[mki_bytes..], esrtcp)
        };
        let word = u32::from_be_bytes([esrtcp[0], esrtcp[1], esrtcp[2], esrtcp[3]]);
        // The packet says itself whether it is encrypted.
        let from = if word & E_FLAG == 0 { content_bytes } else { RTCP_HEADER_BYTES };
        let (ssrc, index) = (rtcp_ssrc(packet), u64::from(word & !E_FLAG));
        if self.suite.is_aead() {
            let nonce = self.rtcp.gcm_nonce(ssrc, index);
            let (header, rest) = content.split_at(from);
            let rest = self.rtcp.cipher.gcm_open(&nonce, &[header, esrtcp], rest, tag)?;
            return Some([header, &rest].concat());
        }
        let mac = self.rtcp.mac.clone().chain_update(content).chain_update(esrtcp);
        mac.verify_truncated_left(tag).ok()?;
        let mut plain = content.to_vec();
        self.rtcp.cipher.apply_keystream(&self.rtcp.cm_iv(ssrc, index), &mut plain[from..]);
        Some(plain)
    }
}

/// What is authentic, and under which counter.
pub(super) struct Opened {
    pub roc: u32,
    packet: Plain,
}

enum Plain {
    /// GCM cannot authenticate without decrypting.
    Ready(Vec<u8>),
    Counter {
        iv: [u8; 16],
        from: usize,
        content_bytes: usize,
    },
}

/// Where in the key stream an RTP packet lies. Its fixed header is there.
struct Place {
    ssrc: u32,
    sequence: u16,
}

impl Place {
    fn of_rtp(packet: &[u8]) -> Self {
        Self {
            ssrc: u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]),
            sequence: u16::from_be_bytes([packet[2], packet[3]]),
        }
    }
}

fn rtcp_ssrc(compound: &[u8]) -> u32 {
    u32::from_be_bytes([compound[4], compound[5], compound[6], compound[7]])
}

pub(super) fn index_of(roc: u32, sequence: u16) -> u64 {
    u64::from(roc) << 16 | u64::from(sequence)
}

fn roc_bytes(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

impl Keys {
    fn derive(suite: Suite, master: &MasterKey, used_for: Use) -> Self {
        let label = used_for as u8;
        let mut key = vec![0; suite.key_bytes()];
        prf(master, label, &mut key);
        let mut auth_key = [0; AUTH_KEY_BYTES];
        prf(master, label + 1, &mut auth_key);
        let mut salt = [0; 14];
        prf(master, label + 2, &mut salt[..suite.salt_bytes()]);
        Self {
            cipher: Cipher::new(suite, &key),
            salt,
            mac: Hmac::new_from_slice(&auth_key).expect("HMAC takes keys of any length"),
        }
    }

    /// RFC 3711 §4.1.1: the salt, SSRC and index, each in its place of 128 bits.
    fn cm_iv(&self, ssrc: u32, index: u64) -> [u8; 16] {
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(&self.salt);
        xor(&mut iv[4..8], &ssrc.to_be_bytes());
        xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
        iv
    }

    /// RFC 7714 §8.1 and §9.1: SSRC and 48 bits of index; an SRTCP index has 31 of them.
    fn gcm_nonce(&self, ssrc: u32, index: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.salt[..12]);
        xor(&mut nonce[2..6], &ssrc.to_be_bytes());
        xor(&mut nonce[6..12], &index.to_be_bytes()[2..]);
        nonce
    }
}

/// Derives a key (RFC 3711 §4.3.1, with a key derivation rate of zero): the key stream of the
/// master key at a place that the label chooses. A salt of GCM is filled up with zeros.
fn prf(master: &MasterKey, label: u8, out: &mut [u8]) {
    let mut iv = [0; 16];
    iv[..master.salt.len()].copy_from_slice(&master.salt);
    iv[7] ^= label;
    match master.key.len() {
        16 => Cipher::Cm128(keyed(&master.key)),
        24 => Cipher::Cm192(keyed(&master.key)),
        _ => Cipher::Cm256(keyed(&master.key)),
    }
    .apply_keystream(&iv, out);
}

fn keyed<C: KeyInit>(key: &[u8]) -> C {
    C::new_from_slice(key).expect("MasterKey has checked its length against the suite")
}

fn xor(into: &mut [u8], with: &[u8]) {
    into.iter_mut().zip(with).for_each(|(into, with)| *into ^= with);
}

impl Cipher {
    fn new(suite: Suite, key: &[u8]) -> Self {
        match suite {
            Suite::AesCm128Sha1Tag80 | Suite::AesCm128Sha1Tag32 => Self::Cm128(keyed(key)),
            Suite::AesCm192Sha1Tag80 | Suite::AesCm192Sha1Tag32 => Self::Cm192(keyed(key)),
            Suite::AesCm256Sha1Tag80 | Suite::AesCm256Sha1Tag32 => Self::Cm256(keyed(key)),
            Suite::AeadAes128Gcm => Self::Gcm128(Box::new(keyed(key))),
            Suite::AeadAes256Gcm => Self::Gcm256(Box::new(keyed(key))),
        }
    }

    /// Counter mode. Nothing for GCM, which never comes here: see [`Suite::is_aead`].
    fn apply_keystream(&self, iv: &[u8; 16], data: &mut [u8]) {
        fn run<C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>>(
            cipher: &C,
            iv: &[u8; 16],
            data: &mut [u8],
        ) {
            let core = ctr::CtrCore::<&C, ctr::flavors::Ctr128BE>::inner_iv_init(cipher, iv.into());
            ctr::Ctr128BE::<&C>::from_core(core).apply_keystream(data);
        }
        match self {
            Self::Cm128(cipher) => run(cipher, iv, data),
            Self::Cm192(cipher) => run(cipher, iv, data),
            Self::Cm256(cipher) => run(cipher, iv, data),
            Self::Gcm128(_) | Self::Gcm256(_) => {}
        }
    }

    fn gcm_seal(&self, nonce: &[u8; 12], associated: &[u8], data: &mut [u8]) -> [u8; 16] {
        let tag = match self {
            Self::Gcm128(gcm) => gcm.encrypt_inout_detached(nonce.into(), associated, data.into()),
            Self::Gcm256(gcm) => gcm.encrypt_inout_detached(nonce.into(), associated, data.into()),
            Self::Cm128(_) | Self::Cm192(_) | Self::Cm256(_) => return [0; GCM_TAG_BYTES],
        };
        tag.expect("a datagram is far below the 64 GiB that GCM can seal").into()
    }

    fn gcm_open(
        &self,
        nonce: &[u8; 12],
        associated: &[&[u8]],
        data: &[u8],
        tag: &[u8],
    ) -> Option<Vec<u8>> {
        let associated = associated.concat();
        let tag: &[u8; GCM_TAG_BYTES] = tag.try_into().ok()?;
        let mut plain = data.to_vec();
        let buffer = plain.as_mut_slice().into();
        match self {
            Self::Gcm128(gcm) => {
                gcm.decrypt_inout_detached(nonce.into(), &associated, buffer, tag.into()).ok()?;
            }
            Self::Gcm256(gcm) => {
                gcm.decrypt_inout_detached(nonce.into(), &associated, buffer, tag.into()).ok()?;
            }
            Self::Cm128(_) | Self::Cm192(_) | Self::Cm256(_) => return None,
        }
        Some(plain)
    }
}

#[cfg(test)]
impl SessionKeys {
    /// With session keys as the RFCs' examples give them, instead of derived ones.
    pub fn given(suite: Suite, key: &[u8], salt: &[u8]) -> Self {
        let keys = || {
            let mut padded = [0; 14];
            padded[..salt.len()].copy_from_slice(salt);
            let mac = Hmac::new_from_slice(&[0; AUTH_KEY_BYTES]).unwrap();
            Keys { cipher: Cipher::new(suite, key), salt: padded, mac }
        };
        let (plain_rtp, plain_rtcp) = (false, false);
        Self { suite, mki: Vec::new(), rtp: keys(), rtcp: keys(), plain_rtp, plain_rtcp }
    }

    pub fn without_encryption(self) -> Self {
        Self { plain_rtp: true, plain_rtcp: true, ..self }
    }

    pub fn keystream(&self, ssrc: u32, index: u64, blocks: usize) -> Vec<u8> {
        let mut stream = vec![0; blocks * 16];
        self.rtp.cipher.apply_keystream(&self.rtp.cm_iv(ssrc, index), &mut stream);
        stream
    }

    pub fn derived(master: &MasterKey, label: u8, bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        prf(master, label, &mut out);
        out
    }
}
