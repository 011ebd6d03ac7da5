//! A tenant's key pair as text: in the key file of one machine, and in the object that functions
//! open recordings with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use segment::TenantKeyPair;

/// The first word: what it is, and which version of it.
const MAGIC: &str = "linekeeper-tenant-key-1";

/// One line. It opens every recording of the tenant: never logged.
pub fn to_text(keys: &TenantKeyPair) -> String {
    format!("{MAGIC} {}\n", STANDARD.encode(keys.to_bytes()))
}

/// Reads [`to_text`] back; `None` when it is something else.
pub fn parse(text: &str) -> Option<TenantKeyPair> {
    let encoded = text.trim_end().strip_prefix(MAGIC)?;
    let bytes = STANDARD.decode(encoded.trim()).ok()?;
    Some(TenantKeyPair::from_bytes(<[u8; 32]>::try_from(bytes).ok()?))
}

#[test]
fn a_key_is_read_back_and_what_is_none_is_refused() {
    let keys = TenantKeyPair::from_bytes([7; 32]);
    let text = to_text(&keys);
    assert_eq!(parse(&text).unwrap().public(), keys.public());
    assert_eq!(text.lines().count(), 1);
    for other in ["", "linekeeper-tenant-key-1", &text.replace("key-1", "key-2"), &text[..40]] {
        assert!(parse(other).is_none(), "{other}");
    }
}
