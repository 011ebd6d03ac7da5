//! The vocabulary of Linekeeper: what edge, functions and browser all mean by the same words.
//!
//! - **Recording session (RS)**: one SIPREC dialog (RFC 7866 §3).
//! - **Communication session (CS)**: one call inside it (RFC 7865 §6.3).
//! - **Recording**: one CS as recorded by one RS. What people search, play, hold and erase.
//! - **Journal**: the append-only file of one edge; the source of truth of what arrived.
//! - **Position**: the number of a record in its journal, rising across files and restarts.
//! - **Segment**: an object in the store that carries the journal's newest slice, by session.
//!
//! Nothing here does IO or reads a clock, and the crate compiles to wasm: the browser reads the
//! very types the API writes.

pub mod access;
pub mod api;
pub mod attribution;
pub mod call;
pub mod command;
pub mod event;
#[cfg(feature = "examples")]
pub mod example;
pub mod id;
pub mod index;
pub mod numbering;
pub mod object_key;
pub mod personal;
pub mod policy;
pub mod recording;
pub mod retention;
pub mod search;
pub mod search_text;
pub mod time;
pub mod trunk;

pub use event::{EventBody, RecordingEvent};
pub use id::{
    EdgeId, GroupId, HoldId, JournalId, RecordingId, SessionId, TenantId, TrunkId, UserId,
};
pub use index::{JournalState, RecordingState};
pub use personal::Personal;
pub use recording::{Participant, Recording, Status, Track};
pub use time::{Position, WallTime};
