//! What leaves an edge: sealed batches of a call, the segments that carry them by the slice of a
//! journal, and the packets object that keeps them by recording. Bytes only, no IO.
//!
//! ```text
//! Body ──Sealer──► sealed bytes ──► SessionRecord ──► SegmentWriter ──► t/…/segments/…
//!                                        │
//!                                        └────────► PacketsWriter ──► t/…/recordings/{id}/packets
//! ```
//!
//! Constraints that tests hold:
//!
//! - A body opens only with its tenant's key, in its own session, at its own position, and only
//!   as the kind that it was sealed as.
//! - No reader panics or allocates more than it was given, whatever the bytes.
//! - One changed bit anywhere in a segment or a packets object is an error.
//! - The same records give the same bytes: a cut that is made again after a crash is the same object.
//! - A packets object never holds a data key.
//! - Every format starts with magic and version, and the golden files of each version open in
//!   every later release.

mod batch;
mod body;
mod key;
mod packets_object;
mod packets_stream;
mod record;
mod seal;
mod segment;
mod wire;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod sample;

pub use batch::{PacketBatch, PacketRef};
pub use body::{Body, BodyError, Direction, Document, Format, Packet, SealedMark, StreamInfo};
pub use key::{KeyError, SealedKey, TenantKeyPair, TenantPublicKey};
pub use packets_object::{PacketsHeader, PacketsReader, PacketsWriter};
pub use packets_stream::{PacketsStream, StreamError};
pub use record::{
    BootId, ClockBody, EndedBody, RecordBodyError, RecordKind, SessionRecord, StartedBody,
};
pub use seal::{Opener, SealError, Sealer};
pub use segment::{DirectoryEntry, FIRST_READ_BYTES, SegmentReader, SegmentWriter};
pub use wire::FormatError;

/// Decodes a body as if it had been opened, kind first: for the fuzz target, which cannot forge
/// the seal.
#[doc(hidden)]
pub fn fuzz_body(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    if let Some(kind) = RecordKind::from_u8(*kind) {
        _ = Body::decode(kind, body);
    }
}
