//! URLs that serve one object to whoever holds them, for a minute: `<audio>` and `<img>` cannot
//! send a bearer token, and a URL must not say who is signed in.
//!
//! `/v1/objects/{key}?expires={unix_secs}&type={content type}&signature={base64url}`, where the
//! signature is HMAC-SHA256 over key, expiry and type, one to a line. Neither a key nor an expiry
//! can contain a line break and the type comes last, so no two URLs sign the same text.

use std::fmt::Write;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use model::WallTime;
use model::object_key::ObjectKey;
use sha2::Sha256;
use storage_ports::SignedUrl;

/// The longest life of a URL.
const MAX_TTL: Duration = Duration::from_secs(60);

/// Signs URLs and checks them. Clones share the key.
#[derive(Clone)]
pub struct UrlSigner {
    key: [u8; 32],
}

/// Why a signed URL is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("this link has expired: ask for a new one")]
    Expired,
    #[error("this link is not one of ours")]
    Wrong,
}

impl UrlSigner {
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// A URL valid from `now` for `ttl`, at most 60 s, rounded up to a whole second.
    pub fn sign(
        &self,
        key: &ObjectKey,
        content_type: &str,
        now: WallTime,
        ttl: Duration,
    ) -> SignedUrl {
        let expires = (now + ttl.min(MAX_TTL)).unix_ms().max(0).unsigned_abs().div_ceil(1_000);
        let tag = self.mac(key, expires, content_type).finalize().into_bytes();
        let signature = URL_SAFE_NO_PAD.encode(tag);
        let content_type = percent_encoded(content_type);
        SignedUrl(format!(
            "/v1/objects/{key}?expires={expires}&type={content_type}&signature={signature}"
        ))
    }

    /// Checks the parts of a URL, percent-decoded by whoever took it apart.
    pub fn verify_signature(
        &self,
        key: &ObjectKey,
        expires: u64,
        content_type: &str,
        signature: &str,
        now: WallTime,
    ) -> Result<(), SignatureError> {
        let tag = URL_SAFE_NO_PAD.decode(signature).map_err(|_| SignatureError::Wrong)?;
        // Compares in constant time, so that a wrong guess does not tell how wrong it was.
        self.mac(key, expires, content_type)
            .verify_slice(&tag)
            .map_err(|_| SignatureError::Wrong)?;
        let expires_ms = i64::try_from(expires).unwrap_or(i64::MAX).saturating_mul(1_000);
        if now.unix_ms() < expires_ms { Ok(()) } else { Err(SignatureError::Expired) }
    }

    fn mac(&self, key: &ObjectKey, expires: u64, content_type: &str) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(format!("{key}\n{expires}\n{content_type}").as_bytes());
        mac
    }
}

/// Encodes all but the unreserved characters (RFC 3986 §2.3).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_334_400_500;

    fn parts(url: &SignedUrl) -> (ObjectKey, u64, String, String) {
        let rest = url.0.strip_prefix("/v1/objects/").unwrap();
        let (key, query) = rest.split_once('?').unwrap();
        let mut values = query.split('&').map(|pair| pair.split_once('=').unwrap());
        let mut next = |name| {
            let (found, value) = values.next().unwrap();
            assert_eq!(found, name);
            value.to_owned()
        };
        (
            ObjectKey::parse(key).unwrap(),
            next("expires").parse().unwrap(),
            next("type").replace("%2F", "/").replace("%3B", ";").replace("%3D", "="),
            next("signature"),
        )
    }

    #[test]
    fn a_signed_url_is_served_until_it_expires_and_nothing_in_it_can_be_changed() {
        let signer = UrlSigner::new([7; 32]);
        let key = ObjectKey::parse("t/default/recordings/x/g1/audio.webm").unwrap();
        let at = |ms| WallTime::from_unix_ms(NOW + ms);
        let url = signer.sign(&key, "audio/webm;codecs=opus", at(0), Duration::from_secs(60));
        let (key, expires, kind, tag) = parts(&url);
        assert_eq!(kind, "audio/webm;codecs=opus");
        let check = |key: &ObjectKey, expires, kind: &str, tag: &str, ms| {
            signer.verify_signature(key, expires, kind, tag, at(ms))
        };
        assert_eq!(check(&key, expires, &kind, &tag, 0), Ok(()));
        assert_eq!(check(&key, expires, &kind, &tag, 60_000), Ok(()));
        assert_eq!(check(&key, expires, &kind, &tag, 61_000), Err(SignatureError::Expired));
        let other = ObjectKey::parse("t/second/recordings/x/g1/audio.webm").unwrap();
        let wrong = Err(SignatureError::Wrong);
        assert_eq!(check(&other, expires, &kind, &tag, 0), wrong);
        assert_eq!(check(&key, expires + 60, &kind, &tag, 0), wrong);
        assert_eq!(check(&key, expires, "text/html", &tag, 0), wrong);
        assert_eq!(check(&key, expires, &kind, &tag[1..], 0), wrong);
        assert_eq!(check(&key, expires, &kind, "ünïcode", 0), wrong);
        assert_eq!(check(&key, u64::MAX, &kind, "", 0), wrong);
        let stranger = UrlSigner::new([8; 32]);
        assert_eq!(stranger.verify_signature(&key, expires, &kind, &tag, at(0)), wrong);
    }

    #[test]
    fn a_url_never_lives_longer_than_a_minute() {
        let signer = UrlSigner::new([7; 32]);
        let key = ObjectKey::policy();
        let now = WallTime::from_unix_ms(NOW);
        let (_, expires, _, _) = parts(&signer.sign(&key, "x", now, Duration::from_secs(86_400)));
        assert_eq!(expires, (NOW as u64 + 60_000).div_ceil(1_000));
    }
}
