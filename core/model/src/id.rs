//! Ids as types of their own, so that a session cannot be passed where a recording is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Declares a newtype over [`Uuid`]. A macro, because a trait cannot add inherent methods.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub struct $name(pub Uuid);

        impl $name {
            /// A time-ordered id (UUIDv7, RFC 9562 §5.7) from a Unix time in milliseconds and 10
            /// random bytes. Randomness is an input because this crate does no IO.
            pub fn at(unix_ms: u64, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

uuid_id! {
    /// One recording: one communication session as recorded by one recording session.
    RecordingId
}
uuid_id! {
    /// One recording session, that is one SIPREC dialog. Equal to the id of its first recording.
    SessionId
}
uuid_id! {
    /// One journal: made when a data directory is initialised. A replaced disk is a new journal.
    JournalId
}
uuid_id! {
    /// A command from the cloud to an edge.
    CommandId
}

impl SessionId {
    /// The recording of this session's first communication session.
    pub fn first_recording(self) -> RecordingId {
        RecordingId(self.0)
    }

    /// The recording of a further communication session, named by the SRC as `cs_id`.
    ///
    /// Derived (UUIDv5) and not allocated, so that every edge, restart and replay agrees on it.
    pub fn further_recording(self, cs_id: &str) -> RecordingId {
        RecordingId(Uuid::new_v5(&self.0, cs_id.as_bytes()))
    }
}

/// Declares a newtype over `String` with the characters that are safe in an object key.
macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub struct $name(String);

        impl $name {
            /// 1 to 64 characters of `a-z A-Z 0-9 . _ -`, the first one a letter or digit.
            pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
                let name = name.into();
                if is_safe_name(&name) { Ok(Self(name)) } else { Err(InvalidName(name)) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

/// A name that could not be an id, because object keys and URLs are built from ids.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid name: use 1 to 64 of a-z, A-Z, 0-9, '.', '_', '-'")]
pub struct InvalidName(pub String);

fn is_safe_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

name_id! {
    /// An edge recorder, as its operator named it.
    EdgeId
}
name_id! {
    /// Whose calls these are. One machine has one tenant, `default`.
    TenantId
}
name_id! {
    /// A legal hold, by the reference that whoever placed it gave: a case, an inquiry.
    HoldId
}
name_id! {
    /// A trunk, as its operator named it.
    TrunkId
}
name_id! {
    /// A person who signs in.
    UserId
}
name_id! {
    /// A group of people.
    GroupId
}

impl Default for TenantId {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_recording_has_the_same_id_everywhere() {
        let session = SessionId::at(1_700_000_000_000, [7; 10]);
        assert_eq!(session.further_recording("cs-2"), session.further_recording("cs-2"));
        assert_ne!(session.further_recording("cs-2"), session.further_recording("cs-3"));
        assert_ne!(session.further_recording("cs-2"), session.first_recording());
    }

    #[test]
    fn ids_sort_by_time() {
        assert!(RecordingId::at(1_000, [255; 10]) < RecordingId::at(1_001, [0; 10]));
    }

    #[test]
    fn a_name_that_could_leave_its_prefix_is_refused() {
        for bad in ["", "..", "a/b", ".hidden", "a b", "ä", &"x".repeat(65)] {
            assert!(TenantId::new(bad).is_err(), "{bad:?}");
        }
        assert!(TenantId::new("bank-1.eu_west").is_ok());
    }
}
