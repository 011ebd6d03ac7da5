//! Records of one session as they travel: sealed bodies, and the few plain ones without which
//! nobody could tell which keys open the rest, when the call began and when it ended.
//!
//! ```text
//! kind:      u8
//! position:  u64 LE   number of the record in its journal
//! boot:      u64 LE   CLOCK_BOOTTIME in ns
//! length:    u32 LE   of what follows
//! bytes:     u8[length]
//! ```
//!
//! The bytes of `Started`, `Ended` and `Clock` are a version (u8, 1) and `postcard`. They hold no
//! personal data.

use std::fmt;

use model::{Position, RecordingId, SessionId, TenantId};
use serde::{Deserialize, Serialize};

use crate::key::{KeyError, SealedKey};
use crate::wire::{Cursor, FormatError};

const BODY_VERSION: u8 = 1;
pub(crate) const RECORD_HEADER_BYTES: usize = 1 + 8 + 8 + 4;

/// What a record tells. The numbers are on disk: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// A [`SealedKey`], plain. In segments only.
    Key = 1,
    Packets = 2,
    Metadata = 3,
    Streams = 4,
    Mark = 5,
    /// [`StartedBody`], plain.
    Started = 6,
    /// [`EndedBody`], plain.
    Ended = 7,
    /// [`ClockBody`], plain.
    Clock = 8,
}

impl RecordKind {
    pub const ALL: [Self; 8] = [
        Self::Key,
        Self::Packets,
        Self::Metadata,
        Self::Streams,
        Self::Mark,
        Self::Started,
        Self::Ended,
        Self::Clock,
    ];

    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }

    /// Whether the record's bytes are a sealed [`crate::Body`].
    pub fn is_sealed(self) -> bool {
        match self {
            Self::Packets | Self::Metadata | Self::Streams | Self::Mark => true,
            Self::Key | Self::Started | Self::Ended | Self::Clock => false,
        }
    }
}

/// One record of one session.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionRecord {
    pub kind: RecordKind,
    pub position: Position,
    /// CLOCK_BOOTTIME when it was journaled.
    pub boot_ns: u64,
    /// A sealed body, or the plain one of [`RecordKind::Key`] and the like.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for SessionRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRecord")
            .field("kind", &self.kind)
            .field("position", &self.position.0)
            .field("boot_ns", &self.boot_ns)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// One boot of a machine: boot clocks of different boots cannot be compared.
/// Linux: `/proc/sys/kernel/random/boot_id`.
pub type BootId = [u8; 16];

/// A session began on this process: for the first time, or resumed after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartedBody {
    pub recording: RecordingId,
    pub session: SessionId,
    pub tenant: TenantId,
    pub wall_ms: i64,
    pub boot_ns: u64,
    pub boot_id: BootId,
    /// Count of starts of the recorder.
    pub epoch: u64,
    /// Whether the recorder restarted during the call.
    pub resumed: bool,
}

/// The session is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedBody {
    pub recording: RecordingId,
    pub wall_ms: i64,
    pub boot_ns: u64,
    /// `bye`, `timeout`, `stopped`, …
    pub reason: String,
}

/// Both clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockBody {
    pub wall_ns: i64,
    pub boot_ns: u64,
    pub boot_id: BootId,
    pub epoch: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum RecordBodyError {
    #[error("record is not of this kind")]
    Kind,
    #[error("record body of version {found}: written by a newer release")]
    TooNew { found: u8 },
    #[error("record body is empty")]
    Empty,
    #[error("malformed record body")]
    Malformed(#[source] postcard::Error),
    #[error("malformed key record")]
    Key(#[source] KeyError),
}

impl SessionRecord {
    pub fn key(position: Position, boot_ns: u64, key: &SealedKey) -> Self {
        Self { kind: RecordKind::Key, position, boot_ns, bytes: key.to_bytes() }
    }

    pub fn started(position: Position, body: &StartedBody) -> Self {
        Self::plain(RecordKind::Started, position, body.boot_ns, body)
    }

    pub fn ended(position: Position, body: &EndedBody) -> Self {
        Self::plain(RecordKind::Ended, position, body.boot_ns, body)
    }

    pub fn clock(position: Position, body: &ClockBody) -> Self {
        Self::plain(RecordKind::Clock, position, body.boot_ns, body)
    }

    fn plain(kind: RecordKind, position: Position, boot_ns: u64, body: &impl Serialize) -> Self {
        let coded = postcard::to_stdvec(body)
            .expect("these types have no failing serialiser and a vector grows");
        let bytes = [&[BODY_VERSION][..], &coded].concat();
        Self { kind, position, boot_ns, bytes }
    }

    pub fn as_key(&self) -> Result<SealedKey, RecordBodyError> {
        self.expect_kind(RecordKind::Key)?;
        SealedKey::from_bytes(&self.bytes).map_err(RecordBodyError::Key)
    }

    pub fn as_started(&self) -> Result<StartedBody, RecordBodyError> {
        self.plain_body(RecordKind::Started)
    }

    pub fn as_ended(&self) -> Result<EndedBody, RecordBodyError> {
        self.plain_body(RecordKind::Ended)
    }

    pub fn as_clock(&self) -> Result<ClockBody, RecordBodyError> {
        self.plain_body(RecordKind::Clock)
    }

    fn expect_kind(&self, kind: RecordKind) -> Result<(), RecordBodyError> {
        if self.kind == kind { Ok(()) } else { Err(RecordBodyError::Kind) }
    }

    fn plain_body<'a, T: Deserialize<'a>>(
        &'a self,
        kind: RecordKind,
    ) -> Result<T, RecordBodyError> {
        self.expect_kind(kind)?;
        match self.bytes.split_first() {
            None => Err(RecordBodyError::Empty),
            Some((&BODY_VERSION, coded)) => {
                postcard::from_bytes(coded).map_err(RecordBodyError::Malformed)
            }
            Some((&found, _)) => Err(RecordBodyError::TooNew { found }),
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.bytes.len()).expect("a record is far below 4 GiB");
        out.push(self.kind as u8);
        out.extend_from_slice(&self.position.0.to_le_bytes());
        out.extend_from_slice(&self.boot_ns.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.bytes);
    }

    /// `after`: the position before, which a record's must exceed.
    pub(crate) fn take(
        cursor: &mut Cursor<'_>,
        after: Option<Position>,
    ) -> Result<Self, FormatError> {
        let malformed = FormatError::Record { position: after.unwrap_or_default() };
        let mut fields = || {
            let kind = RecordKind::from_u8(cursor.u8()?)?;
            let position = Position(cursor.u64()?);
            let boot_ns = cursor.u64()?;
            let length = usize::try_from(cursor.u32()?).ok()?;
            let bytes = cursor.take(length)?.to_vec();
            Some(Self { kind, position, boot_ns, bytes })
        };
        fields().filter(|record| after.is_none_or(|after| after < record.position)).ok_or(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn plain_bodies_survive_their_bytes() {
        let started = sample::started();
        assert_eq!(SessionRecord::started(Position(1), &started).as_started().unwrap(), started);
        let ended = sample::ended();
        assert_eq!(SessionRecord::ended(Position(1), &ended).as_ended().unwrap(), ended);
        let clock = ClockBody { wall_ns: -1, boot_ns: 2, boot_id: [3; 16], epoch: 4 };
        assert_eq!(SessionRecord::clock(Position(1), &clock).as_clock().unwrap(), clock);
    }

    #[test]
    fn a_body_of_a_later_version_or_another_kind_is_an_error() {
        let mut record = SessionRecord::started(Position(1), &sample::started());
        assert!(matches!(record.as_ended(), Err(RecordBodyError::Kind)));
        record.bytes[0] = 2;
        assert!(matches!(record.as_started(), Err(RecordBodyError::TooNew { found: 2 })));
        record.bytes.clear();
        assert!(matches!(record.as_started(), Err(RecordBodyError::Empty)));
    }

    #[test]
    fn numbers_of_kinds_are_on_disk() {
        let numbers = RecordKind::ALL.map(|kind| kind as u8);
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(RecordKind::ALL.iter().all(|k| RecordKind::from_u8(*k as u8) == Some(*k)));
        assert_eq!(RecordKind::from_u8(0), None);
    }

    proptest::proptest! {
        #[test]
        fn any_plain_body_is_read_without_panic(bytes: Vec<u8>) {
            for kind in RecordKind::ALL {
                let bytes = bytes.clone();
                let record = SessionRecord { kind, position: Position(1), boot_ns: 0, bytes };
                let read = [
                    record.as_key().is_ok(),
                    record.as_started().is_ok(),
                    record.as_ended().is_ok(),
                    record.as_clock().is_ok(),
                ];
                proptest::prop_assert!(read.iter().filter(|ok| **ok).count() <= 1);
            }
        }
    }
}
