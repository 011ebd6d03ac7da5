//! The bytes of a record, and the bodies that the journal itself has to understand.
//!
//! Constraints, each a test:
//!
//! - A record validates at the offset, in the file generation and in the journal that it was
//!   written for, and nowhere else: those three seed its checksum.
//! - Flipping any bit of a record other than its padding makes it invalid.
//! - Reading never panics, whatever the bytes.
//!
//! ```text
//! checksum:  u32 LE   CRC32C of journal id, generation, offset, then of all that follows
//! length:    u32 LE   bytes of body
//! position:  u64 LE
//! kind:      u8
//! zero:      u8[7]
//! body:      u8[length]
//! padding:   to a multiple of 8, so that a search for the next record has few places to look
//! ```
//!
//! Kinds that travel in segments have the numbers they have there; the journal's own start at 32.

use crc_fast::{CrcAlgorithm, Digest};
use model::{JournalId, Position, RecordingId, SessionId, TenantId, WallTime};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Bytes before a record's body.
pub const HEADER_BYTES: usize = 24;

/// Records start at multiples of this.
pub const ALIGNMENT: usize = 8;

/// The longest body. A batch of 100 ms is some kB; a metadata document is at most what SIP over
/// TCP let in. Bounds what a flipped length can make a reader allocate.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A session's data key, sealed to its tenant.
    Key = 1,
    /// What came off the wire for one session since the last commit, sealed.
    Packets = 2,
    /// A metadata document as received, sealed.
    Metadata = 3,
    /// The negotiated streams, sealed.
    Streams = 4,
    /// A pause, a hold, a gap: sealed.
    Mark = 5,
    Started = 6,
    Ended = 7,
    /// The clocks together; opens every commit.
    Clock = 8,
    /// What a restart needs to go on with a dialog, under the local key.
    Dialog = 32,
    /// An event of no session, such as the outcome of a command.
    Event = 33,
    Cut = 34,
    Stored = 35,
    Announced = 36,
    SnapshotHead = 48,
    SnapshotSession = 49,
}

impl Kind {
    pub fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Key,
            2 => Self::Packets,
            3 => Self::Metadata,
            4 => Self::Streams,
            5 => Self::Mark,
            6 => Self::Started,
            7 => Self::Ended,
            8 => Self::Clock,
            32 => Self::Dialog,
            33 => Self::Event,
            34 => Self::Cut,
            35 => Self::Stored,
            36 => Self::Announced,
            48 => Self::SnapshotHead,
            49 => Self::SnapshotSession,
            _ => return None,
        })
    }

    /// Snapshot records open a file. They take no position of their own but bear that of the
    /// record before the file: they tell how things stood there.
    pub fn is_snapshot(self) -> bool {
        matches!(self, Self::SnapshotHead | Self::SnapshotSession)
    }

    /// Whether a segment carries it for one session.
    pub fn is_of_session(self) -> bool {
        matches!(
            self,
            Self::Key
                | Self::Packets
                | Self::Metadata
                | Self::Streams
                | Self::Mark
                | Self::Started
                | Self::Ended
        )
    }
}

/// Computes checksums of records of one generation of one file.
#[derive(Clone, Copy)]
pub struct Checksum {
    seeded: Digest,
}

impl Checksum {
    pub fn new(journal: JournalId, generation: u64) -> Self {
        let mut seeded = Digest::new(CrcAlgorithm::Crc32Iscsi);
        seeded.update(journal.0.as_bytes());
        seeded.update(&generation.to_le_bytes());
        Self { seeded }
    }

    fn of(&self, offset: u64, covered: &[u8]) -> u32 {
        let mut digest = self.seeded;
        digest.update(&offset.to_le_bytes());
        digest.update(covered);
        // A 32-bit CRC comes in the low half.
        digest.finalize() as u32
    }
}

/// CRC32C of `bytes` alone, for file headers.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Bytes that a record with a body of `body_bytes` takes in a file.
pub fn stored_bytes(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(ALIGNMENT)
}

/// Appends a record to `out`, all but its checksum, which depends on where it will lie.
pub fn encode(out: &mut Vec<u8>, kind: Kind, position: Position, body: &[u8]) {
    let start = out.len();
    begin(out, kind, position);
    out.extend_from_slice(body);
    finish(out, start);
}

/// Begins a record whose body is appended next, as far as [`finish`].
pub fn begin(out: &mut Vec<u8>, kind: Kind, position: Position) {
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&position.0.to_le_bytes());
    out.extend_from_slice(&[kind as u8, 0, 0, 0, 0, 0, 0, 0]);
}

/// Ends the record that began at `start`: fills in its length, and pads it.
pub fn finish(out: &mut Vec<u8>, start: usize) {
    let body_bytes = out.len() - start - HEADER_BYTES;
    let length = u32::try_from(body_bytes).expect("callers refuse bodies over MAX_BODY_BYTES");
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    out.resize(start + stored_bytes(body_bytes), 0);
}

/// Fills in the checksum of the encoded record that `bytes` starts with, for its place `offset`.
pub fn place(bytes: &mut [u8], checksum: &Checksum, offset: u64) {
    let length = u32_at(bytes, 4).expect("encode wrote a whole header") as usize;
    let crc = checksum.of(offset, &bytes[4..HEADER_BYTES + length]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
}

/// What a record's header says before its checksum is known to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub kind: Kind,
    pub position: Position,
    pub body_bytes: usize,
}

impl Head {
    /// `None` when these cannot be the first bytes of a record.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let kind = Kind::from_u8(*bytes.get(16)?)?;
        let body_bytes = u32_at(bytes, 4)? as usize;
        if body_bytes > MAX_BODY_BYTES || bytes.get(17..HEADER_BYTES)? != [0; 7] {
            return None;
        }
        Some(Self { kind, position: Position(u64_at(bytes, 8)?), body_bytes })
    }

    pub fn stored_bytes(&self) -> usize {
        stored_bytes(self.body_bytes)
    }
}

/// The body of the record that `bytes`, found at `offset`, starts with; `None` when its checksum
/// is wrong or it is cut short.
pub fn body<'a>(
    bytes: &'a [u8],
    head: &Head,
    checksum: &Checksum,
    offset: u64,
) -> Option<&'a [u8]> {
    let covered = bytes.get(4..HEADER_BYTES + head.body_bytes)?;
    (u32_at(bytes, 0)? == checksum.of(offset, covered)).then(|| &covered[HEADER_BYTES - 4..])
}

/// A record read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub kind: Kind,
    pub position: Position,
    pub body: Vec<u8>,
}

/// Body of every kind that belongs to a session.
///
/// ```text
/// session: u8[16]  recording: u8[16]  boot_ns: u64  wall_ms: i64  flags: u8
/// tenant: u8 length, then text   event: u32 length, then sealed JSON   payload: the rest
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionBody<'a> {
    pub session: SessionId,
    pub recording: RecordingId,
    pub tenant: TenantId,
    /// CLOCK_BOOTTIME.
    pub boot_ns: u64,
    /// When it happened; for packets, when the newest of them arrived.
    pub wall: WallTime,
    /// Only on `Ended`: nothing more follows for the whole session.
    pub session_over: bool,
    /// The event to announce, sealed under the local key; empty: none.
    pub event: &'a [u8],
    pub payload: &'a [u8],
}

const SESSION_OVER: u8 = 1;

impl<'a> SessionBody<'a> {
    pub fn put(&self, out: &mut Vec<u8>) {
        let tenant = self.tenant.as_str().as_bytes();
        out.reserve(64 + tenant.len() + self.event.len() + self.payload.len());
        out.extend_from_slice(self.session.0.as_bytes());
        out.extend_from_slice(self.recording.0.as_bytes());
        out.extend_from_slice(&self.boot_ns.to_le_bytes());
        out.extend_from_slice(&self.wall.unix_ms().to_le_bytes());
        out.push(if self.session_over { SESSION_OVER } else { 0 });
        out.push(tenant.len() as u8); // A tenant's name has at most 64 bytes.
        out.extend_from_slice(tenant);
        out.extend_from_slice(&(self.event.len() as u32).to_le_bytes());
        out.extend_from_slice(self.event);
        out.extend_from_slice(self.payload);
    }

    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let mut rest = body;
        let session = SessionId(Uuid::from_bytes(take_array(&mut rest)?));
        let recording = RecordingId(Uuid::from_bytes(take_array(&mut rest)?));
        let boot_ns = u64::from_le_bytes(take_array(&mut rest)?);
        let wall = WallTime::from_unix_ms(i64::from_le_bytes(take_array(&mut rest)?));
        let [flags, tenant_bytes] = take_array(&mut rest)?;
        let tenant = take(&mut rest, usize::from(tenant_bytes))?;
        let tenant = TenantId::new(std::str::from_utf8(tenant).ok()?).ok()?;
        let event_bytes = u32::from_le_bytes(take_array(&mut rest)?);
        let event = take(&mut rest, event_bytes as usize)?;
        let session_over = flags & SESSION_OVER != 0;
        Some(Self { session, recording, tenant, boot_ns, wall, session_over, event, payload: rest })
    }
}

/// Body of `Clock`: both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockBody {
    /// CLOCK_REALTIME, for people; steps when NTP corrects it.
    pub wall_ns: u64,
    /// CLOCK_BOOTTIME, by which timelines are laid; starts again with the machine.
    pub boot_ns: u64,
    pub epoch: u64,
    /// Tells one start of the machine from another.
    pub boot_id: [u8; 16],
    /// Everything up to here was synced when this was written: what is missing below is damage,
    /// what is missing above is a tear.
    pub synced: Position,
}

impl ClockBody {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        out.extend_from_slice(&self.wall_ns.to_le_bytes());
        out.extend_from_slice(&self.boot_ns.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.boot_id);
        out.extend_from_slice(&self.synced.0.to_le_bytes());
        out
    }

    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut rest = body;
        Some(Self {
            wall_ns: u64::from_le_bytes(take_array(&mut rest)?),
            boot_ns: u64::from_le_bytes(take_array(&mut rest)?),
            epoch: u64::from_le_bytes(take_array(&mut rest)?),
            boot_id: take_array(&mut rest)?,
            synced: Position(u64::from_le_bytes(take_array(&mut rest)?)),
        })
    }

    pub fn wall(&self) -> WallTime {
        WallTime::from_unix_ms(i64::try_from(self.wall_ns / 1_000_000).unwrap_or(i64::MAX))
    }
}

/// Body of `Cut`: a slice that is about to be uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    pub first: Position,
    pub last: Position,
    /// Objects of this slice are split above this size. Kept here so that a slice that is made
    /// again after an upgrade is split as before.
    pub max_object_bytes: u64,
}

/// Body of `Stored`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub through: Position,
    pub newest_packet: Option<WallTime>,
    pub at: WallTime,
}

/// Body of `Announced`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// Every event of a record up to here was accepted by the queue.
    pub events_through: Position,
    /// The newest `stored` event that was accepted told of this position.
    pub stored_through: Position,
    pub newest_packet: Option<WallTime>,
}

/// Encodes a body that is not on the path of every packet.
pub fn to_body<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain structs of numbers and bytes always serialise")
}

pub fn from_body<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Option<T> {
    postcard::from_bytes(body).ok()
}

pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    take(rest, N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn journal(number: u8) -> JournalId {
        JournalId::at(1, [number; 10])
    }

    fn placed(body: &[u8], checksum: &Checksum, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, Kind::Packets, Position(7), body);
        place(&mut bytes, checksum, offset);
        bytes
    }

    fn is_valid(bytes: &[u8], checksum: &Checksum, offset: u64) -> bool {
        Head::parse(bytes).is_some_and(|head| body(bytes, &head, checksum, offset).is_some())
    }

    #[test]
    fn a_record_is_valid_in_its_own_place_only() {
        let checksum = Checksum::new(journal(1), 3);
        let bytes = placed(b"audio", &checksum, 4096);
        assert!(is_valid(&bytes, &checksum, 4096));
        assert!(!is_valid(&bytes, &checksum, 4104), "another offset");
        assert!(!is_valid(&bytes, &Checksum::new(journal(1), 4), 4096), "a later use of the file");
        assert!(!is_valid(&bytes, &Checksum::new(journal(2), 3), 4096), "another journal");
    }

    #[test]
    fn any_flipped_bit_makes_a_record_invalid() {
        let checksum = Checksum::new(journal(1), 3);
        let good = placed(b"audio of a call", &checksum, 4096);
        for bit in 0..(HEADER_BYTES + 15) * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_valid(&bytes, &checksum, 4096), "bit {bit}");
        }
    }

    #[test]
    fn a_record_cut_short_is_invalid() {
        let checksum = Checksum::new(journal(1), 3);
        let bytes = placed(b"audio of a call", &checksum, 4096);
        for length in 0..HEADER_BYTES + 15 {
            assert!(!is_valid(&bytes[..length], &checksum, 4096), "{length} bytes");
        }
    }

    #[test]
    fn kinds_of_segments_have_the_numbers_they_have_there() {
        for kind in segment::RecordKind::ALL {
            let here = Kind::from_u8(kind as u8).unwrap();
            assert_eq!(here as u8, kind as u8);
            assert_eq!(format!("{here:?}"), format!("{kind:?}"));
        }
    }

    #[test]
    fn a_session_body_survives_its_bytes() {
        let body = SessionBody {
            session: SessionId::at(1, [2; 10]),
            recording: RecordingId::at(1, [3; 10]),
            tenant: TenantId::new("bank").unwrap(),
            boot_ns: u64::MAX,
            wall: WallTime::from_unix_ms(-5),
            session_over: true,
            event: b"sealed",
            payload: b"payload",
        };
        let mut coded = Vec::new();
        body.put(&mut coded);
        assert_eq!(SessionBody::parse(&coded), Some(body));
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>, offset: u64) {
            let checksum = Checksum::new(journal(1), 3);
            let _ = is_valid(&bytes, &checksum, offset);
            let _ = SessionBody::parse(&bytes);
            let _ = ClockBody::parse(&bytes);
            let _ = from_body::<Cut>(&bytes);
            let _ = from_body::<Stored>(&bytes);
            let _ = from_body::<Announced>(&bytes);
        }
    }
}
