//! The crypto suites: names, lengths (RFC 4568 §6.2, RFC 6188 §4, RFC 7714 §12 and §14.1).

/// Cipher, authentication and tag length of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    AesCm128Sha1Tag80,
    AesCm128Sha1Tag32,
    AesCm192Sha1Tag80,
    AesCm192Sha1Tag32,
    AesCm256Sha1Tag80,
    AesCm256Sha1Tag32,
    AeadAes128Gcm,
    AeadAes256Gcm,
}

impl Suite {
    pub const ALL: [Self; 8] = [
        Self::AesCm128Sha1Tag80,
        Self::AesCm128Sha1Tag32,
        Self::AesCm192Sha1Tag80,
        Self::AesCm192Sha1Tag32,
        Self::AesCm256Sha1Tag80,
        Self::AesCm256Sha1Tag32,
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
    ];

    /// As IANA registered it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AesCm128Sha1Tag80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128Sha1Tag32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AesCm192Sha1Tag80 => "AES_192_CM_HMAC_SHA1_80",
            Self::AesCm192Sha1Tag32 => "AES_192_CM_HMAC_SHA1_32",
            Self::AesCm256Sha1Tag80 => "AES_256_CM_HMAC_SHA1_80",
            Self::AesCm256Sha1Tag32 => "AES_256_CM_HMAC_SHA1_32",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// The suite of this name; `None` for those that we do not have.
    ///
    /// Drafts of RFC 6188 wrote the key length behind the mode, and some SBCs still do.
    pub fn parse(name: &str) -> Option<Self> {
        let is = |written: &str| name.eq_ignore_ascii_case(written);
        let by_draft = match () {
            () if is("AES_CM_192_HMAC_SHA1_80") => Some(Self::AesCm192Sha1Tag80),
            () if is("AES_CM_192_HMAC_SHA1_32") => Some(Self::AesCm192Sha1Tag32),
            () if is("AES_CM_256_HMAC_SHA1_80") => Some(Self::AesCm256Sha1Tag80),
            () if is("AES_CM_256_HMAC_SHA1_32") => Some(Self::AesCm256Sha1Tag32),
            () => None,
        };
        Self::ALL.into_iter().find(|suite| is(suite.name())).or(by_draft)
    }

    /// Of the master key and of the session's keys alike.
    pub fn key_bytes(self) -> usize {
        match self {
            Self::AesCm128Sha1Tag80 | Self::AesCm128Sha1Tag32 | Self::AeadAes128Gcm => 16,
            Self::AesCm192Sha1Tag80 | Self::AesCm192Sha1Tag32 => 24,
            Self::AesCm256Sha1Tag80 | Self::AesCm256Sha1Tag32 | Self::AeadAes256Gcm => 32,
        }
    }

    pub fn salt_bytes(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// What `inline:` holds (RFC 4568 §6.1).
    pub fn key_and_salt_bytes(self) -> usize {
        self.key_bytes() + self.salt_bytes()
    }

    pub(super) fn is_aead(self) -> bool {
        matches!(self, Self::AeadAes128Gcm | Self::AeadAes256Gcm)
    }

    pub(super) fn srtp_tag_bytes(self) -> usize {
        match self {
            Self::AesCm128Sha1Tag80 | Self::AesCm192Sha1Tag80 | Self::AesCm256Sha1Tag80 => 10,
            Self::AesCm128Sha1Tag32 | Self::AesCm192Sha1Tag32 | Self::AesCm256Sha1Tag32 => 4,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// The short tag is for media only (RFC 4568 §6.2.2).
    pub(super) fn srtcp_tag_bytes(self) -> usize {
        if self.is_aead() { 16 } else { 10 }
    }
}

#[test]
fn every_suite_is_known_by_its_name_in_any_case_and_some_by_their_draft_name() {
    for suite in Suite::ALL {
        assert_eq!(Suite::parse(suite.name()), Some(suite));
        assert_eq!(Suite::parse(&suite.name().to_lowercase()), Some(suite));
    }
    assert_eq!(Suite::parse("AES_CM_256_HMAC_SHA1_80"), Some(Suite::AesCm256Sha1Tag80));
    for unknown in ["F8_128_HMAC_SHA1_80", "NULL_HMAC_SHA1_80", ""] {
        assert_eq!(Suite::parse(unknown), None);
    }
}
