//! SRTP keys in a session description: `a=crypto` (RFC 4568 §4, §6).
//!
//! Whoever reads these can decrypt the call, so `Debug` shows everything but the key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};

/// One `a=crypto` line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crypto {
    /// Unique among the lines of an m-line; an answer repeats the one it chose.
    pub tag: u32,
    /// `AES_CM_128_HMAC_SHA1_80`, …, as written. Unknown suites are kept.
    pub suite: String,
    /// At least one. Several differ in their master key identifier.
    pub keys: Vec<MasterKey>,
    /// `UNENCRYPTED_SRTP`, `KDR=…`, …, as written (RFC 4568 §6.3).
    pub session_parameters: Vec<String>,
}

/// One `inline:` parameter (RFC 4568 §6.1).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterKey {
    /// Master key and master salt, concatenated.
    pub key_and_salt: Vec<u8>,
    /// Packets that may be protected with this key.
    pub lifetime_packets: Option<u64>,
    pub mki: Option<Mki>,
}

/// The master key identifier in each packet of a stream with several keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mki {
    pub value: u64,
    /// Bytes that it takes in a packet, 1 to 128.
    pub length_bytes: u8,
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey")
            .field("key_and_salt", &"(secret)")
            .field("lifetime_packets", &self.lifetime_packets)
            .field("mki", &self.mki)
            .finish()
    }
}

impl Crypto {
    /// Reads the value of an `a=crypto` attribute; `None` when no key can be had from it.
    pub fn parse(value: &str) -> Option<Self> {
        let mut fields = value.split_whitespace();
        let tag = fields.next()?.parse().ok()?;
        let suite = fields.next()?.to_owned();
        let keys: Vec<_> =
            fields.next()?.split(';').map(MasterKey::parse).collect::<Option<_>>()?;
        Some(Self { tag, suite, keys, session_parameters: fields.map(str::to_owned).collect() })
    }
}

impl MasterKey {
    /// `inline:<key||salt>["|"<lifetime>]["|"<mki>:<length>]`
    fn parse(parameter: &str) -> Option<Self> {
        let (method, info) = parameter.split_once(':')?;
        if !method.trim().eq_ignore_ascii_case("inline") {
            return None;
        }
        let mut fields = info.split('|').map(str::trim);
        let encoded = fields.next()?;
        // RFC 4568 §6.1 wants the padding; some leave it out.
        let key_and_salt =
            STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded)).ok()?;
        if key_and_salt.is_empty() {
            return None;
        }
        let mut key = Self { key_and_salt, lifetime_packets: None, mki: None };
        for field in fields {
            // Only the master key identifier has a colon, so either may be absent.
            match field.split_once(':') {
                Some((value, length)) => key.mki = Some(mki(value, length)?),
                None => key.lifetime_packets = Some(lifetime(field)?),
            }
        }
        Some(key)
    }
}

fn mki(value: &str, length: &str) -> Option<Mki> {
    let length_bytes = length.parse().ok().filter(|length| (1..=128).contains(length))?;
    Some(Mki { value: value.parse().ok()?, length_bytes })
}

/// `2^<exponent>` or a plain number.
fn lifetime(text: &str) -> Option<u64> {
    match text.strip_prefix("2^") {
        Some(exponent) => 1_u64.checked_shl(exponent.parse().ok()?),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

    #[test]
    fn tag_suite_key_lifetime_and_mki_are_read() {
        let line =
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:32 KDR=0 FEC_ORDER=SRTP_FEC");
        let crypto = Crypto::parse(&line).unwrap();
        assert_eq!((crypto.tag, crypto.suite.as_str()), (1, "AES_CM_128_HMAC_SHA1_80"));
        assert_eq!(crypto.keys[0].key_and_salt.len(), 30);
        assert_eq!(crypto.keys[0].lifetime_packets, Some(1 << 20));
        assert_eq!(crypto.keys[0].mki, Some(Mki { value: 1, length_bytes: 32 }));
        assert_eq!(crypto.session_parameters, ["KDR=0", "FEC_ORDER=SRTP_FEC"]);
    }

    #[test]
    fn lifetime_and_mki_are_each_optional() {
        let only =
            |rest: &str| Crypto::parse(&format!("2 X inline:{KEY}{rest}")).unwrap().keys.remove(0);
        assert_eq!((only("").lifetime_packets, only("").mki), (None, None));
        assert_eq!(only("|1000").lifetime_packets, Some(1000));
        assert_eq!(only("|66:4").mki, Some(Mki { value: 66, length_bytes: 4 }));
    }

    #[test]
    fn several_keys_on_one_line_are_all_kept() {
        let line = format!("1 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|1:4;inline:{KEY}|2:4");
        assert_eq!(Crypto::parse(&line).unwrap().keys.len(), 2);
    }

    #[test]
    fn a_key_does_not_print() {
        let printed = format!("{:?}", Crypto::parse(&format!("1 S inline:{KEY}")).unwrap());
        assert!(printed.contains("(secret)") && !printed.contains("WVNf"), "{printed}");
        // The bytes of the key must not be there as numbers either: it starts with 89, 83.
        assert!(!printed.contains("89, 83"), "{printed}");
    }

    #[test]
    fn a_line_from_which_no_key_can_be_had_is_none() {
        let broken = [
            "",
            "1",
            "1 S",
            "x S inline:AAAA",
            "1 S inline:",
            "1 S inline:***",
            "1 S outline:AAAA",
            "1 S inline:AAAA|2^99",
            "1 S inline:AAAA|1:0",
            "1 S inline:AAAA|1:129",
        ];
        for line in broken {
            assert_eq!(Crypto::parse(line), None, "{line}");
        }
    }
}
