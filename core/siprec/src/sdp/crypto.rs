//! SRTP keys in a session description: `a=crypto` (RFC 4568 §4, §6, §7.1).
//!
//! Whoever reads these can decrypt the call, so `Debug` shows everything but the key.

use std::fmt;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::rtp::srtp::{Keying, KeyingError, MasterKey as SrtpKey, Suite};

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

/// Why a line cannot be used, though it can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("crypto suite {suite}")]
    Suite { suite: String },
    /// RFC 4568 §6.3.7: one that is unknown and not marked as optional makes the line invalid.
    #[error("session parameter {parameter}")]
    Parameter { parameter: String },
    #[error("keys")]
    Keys(#[from] KeyingError),
}

impl Crypto {
    /// A line with one key, of the suite's length.
    pub fn new(tag: u32, suite: Suite, key_and_salt: Vec<u8>) -> Self {
        let keys = vec![MasterKey { key_and_salt, lifetime_packets: None, mki: None }];
        Self { tag, suite: suite.name().to_owned(), keys, session_parameters: Vec::new() }
    }

    /// A line of our own with a new key, answering `offered` (RFC 4568 §7.1.2: same tag, same
    /// suite, and of the parameters those that are negotiated). `key_and_salt` has the suite's
    /// length; an offer that [`Self::keying`] takes has a suite.
    pub fn answering(offered: &Self, key_and_salt: Vec<u8>) -> Self {
        let negotiated = offered
            .session_parameters
            .iter()
            .filter(|parameter| parameter.to_ascii_uppercase().starts_with("UNENCRYPTED_"));
        Self {
            tag: offered.tag,
            suite: offered.suite.clone(),
            keys: vec![MasterKey { key_and_salt, lifetime_packets: None, mki: None }],
            session_parameters: negotiated.cloned().collect(),
        }
    }

    /// What the line means to whoever protects packets by it or reads them.
    pub fn keying(&self) -> Result<Keying, Unusable> {
        let suite = Suite::parse(&self.suite);
        let suite = suite.ok_or_else(|| Unusable::Suite { suite: self.suite.clone() })?;
        let keys = self.keys.iter().map(|key| {
            let mki = key.mki.map(Mki::bytes).unwrap_or_default();
            SrtpKey::new(suite, &key.key_and_salt, &mki)
        });
        let mut keying = Keying::new(suite, keys.collect::<Result<_, _>>()?)?;
        for parameter in &self.session_parameters {
            let upper = parameter.to_ascii_uppercase();
            let name = upper.split('=').next().unwrap_or_default();
            match (name, upper.as_str()) {
                ("UNENCRYPTED_SRTP", _) => keying.plain_rtp = true,
                ("UNENCRYPTED_SRTCP", _) => keying.plain_rtcp = true,
                // A hint for a window that we do not have, and rates that change nothing.
                ("WSH" | "FEC_ORDER", _) | (_, "KDR=0") => {}
                (name, _) if name.starts_with('-') => {}
                _ => return Err(Unusable::Parameter { parameter: parameter.clone() }),
            }
        }
        Ok(keying)
    }

    /// The value of an `a=crypto` attribute. With it goes the key, so it is for SDP and for what
    /// is sealed.
    pub fn to_line(&self) -> String {
        let mut line = format!("{} {} ", self.tag, self.suite);
        for (at, key) in self.keys.iter().enumerate() {
            let separator = if at == 0 { "" } else { ";" };
            let encoded = STANDARD.encode(&key.key_and_salt);
            write!(line, "{separator}inline:{encoded}").expect("writing to a String cannot fail");
            if let Some(packets) = key.lifetime_packets {
                write!(line, "|{packets}").expect("writing to a String cannot fail");
            }
            if let Some(Mki { value, length_bytes }) = key.mki {
                write!(line, "|{value}:{length_bytes}").expect("writing to a String cannot fail");
            }
        }
        for parameter in &self.session_parameters {
            line.push(' ');
            line.push_str(parameter);
        }
        line
    }

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

impl Mki {
    /// As it stands in packets: an integer in network order.
    fn bytes(self) -> Vec<u8> {
        let length = usize::from(self.length_bytes);
        let value = self.value.to_be_bytes();
        let mut bytes = vec![0; length.saturating_sub(value.len())];
        bytes.extend_from_slice(&value[value.len().saturating_sub(length)..]);
        bytes
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
    fn a_line_is_written_as_it_was_read() {
        for line in [
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
            format!("7 AES_CM_128_HMAC_SHA1_32 inline:{KEY}|1048576|1:4;inline:{KEY}|1048576|2:4"),
            format!("2 F8_128_HMAC_SHA1_80 inline:{KEY}|66:4 KDR=0 -X=y"),
        ] {
            assert_eq!(Crypto::parse(&line).unwrap().to_line(), line);
        }
    }

    #[test]
    fn an_answer_has_tag_and_suite_of_the_offer_and_a_key_of_its_own() {
        let line = format!(
            "9 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4 UNENCRYPTED_SRTCP WSH=128 KDR=0"
        );
        let answer = Crypto::answering(&Crypto::parse(&line).unwrap(), vec![7; 30]);
        let key = STANDARD.encode([7; 30]);
        let expected = format!("9 AES_CM_128_HMAC_SHA1_80 inline:{key} UNENCRYPTED_SRTCP");
        assert_eq!(answer.to_line(), expected);
    }

    #[test]
    fn what_we_have_is_used_and_what_we_lack_is_told() {
        let keying = |line: &str| Crypto::parse(line).unwrap().keying();
        let cm = "1 AES_CM_128_HMAC_SHA1_80 inline:";
        let plain = keying(&format!("{cm}{KEY} UNENCRYPTED_SRTP -NEW=1 FEC_ORDER=SRTP_FEC"));
        assert!(plain.is_ok_and(|keying| keying.plain_rtp && !keying.plain_rtcp));
        for parameter in ["UNAUTHENTICATED_SRTP", "KDR=1", "FEC_KEY=inline:x", "NEW"] {
            let refused = keying(&format!("{cm}{KEY} {parameter}"));
            assert_eq!(refused, Err(Unusable::Parameter { parameter: parameter.to_owned() }));
        }
        assert!(matches!(keying(&format!("{cm}AAAA")), Err(Unusable::Keys(_))));
        let f8 = keying(&format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"));
        assert!(matches!(f8, Err(Unusable::Suite { .. })));
        let anonymous = keying(&format!("{cm}{KEY};inline:{KEY}"));
        assert_eq!(anonymous, Err(Unusable::Keys(KeyingError::Identifiers)));
    }

    #[test]
    fn a_key_identifier_fills_its_length_from_the_right() {
        let bytes = |value, length_bytes| Mki { value, length_bytes }.bytes();
        assert_eq!(bytes(0x1234, 1), [0x34]);
        assert_eq!(bytes(0x1234, 4), [0, 0, 0x12, 0x34]);
        assert_eq!(bytes(1, 10), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
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
