//! [`RecordingEvent`]: the only message from an edge to the cloud.
//!
//! Constraints that tests hold:
//!
//! - Events are idempotent and commute: any multiset of them, in any order, gives one index
//!   (see [`crate::index`]).
//! - Every event carries its format version; an unknown version or body is an error of the
//!   reader, which puts the message aside and never drops it.
//! - A field may be added with a default. Nothing is renamed or removed: golden files of every
//!   body are kept in `tests/golden`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::call::CallFacts;
use crate::id::{CommandId, EdgeId, JournalId, RecordingId, SessionId, TenantId};
use crate::recording::MarkKind;
use crate::time::{Position, WallTime};

/// The version that this code writes.
pub const VERSION: u32 = 1;

/// Metadata documents up to this many bytes travel in the event; larger ones only in segments.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;

/// What happened, where and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingEvent {
    pub version: u32,
    pub edge: EdgeId,
    pub journal: JournalId,
    /// Count of starts of this journal's recorder.
    pub epoch: u64,
    /// Position of the journal record that this event tells of. For `stored`, `beat` and
    /// `command_done`, which are not about one record: the newest position at that time.
    pub position: Position,
    pub at: WallTime,
    #[serde(flatten)]
    pub body: EventBody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum EventBody {
    /// A recording began. Sent as soon as its record is synced.
    Started {
        tenant: TenantId,
        recording: RecordingId,
        session: SessionId,
        /// SIP Call-ID first, then whatever other ids the INVITE carried.
        call_ids: Vec<String>,
        flags: BTreeSet<String>,
    },
    /// The SRC told who is on the call.
    Metadata {
        tenant: TenantId,
        recording: RecordingId,
        facts: CallFacts,
        flags: BTreeSet<String>,
        /// The document as received, if it is UTF-8 and at most [`MAX_DOCUMENT_BYTES`].
        document: Option<String>,
    },
    /// Something to show on the time line while the call lasts.
    Mark {
        tenant: TenantId,
        recording: RecordingId,
        mark: MarkKind,
        /// SDP label of the stream; absent: all.
        label: Option<String>,
        /// Whether it begins or ends here; a `dtmf` or `join` does both.
        begins: bool,
        detail: Option<String>,
    },
    /// What is odd about the sound of a call in progress, as it is now: it takes the place of what was
    /// told before. Once the call is built, what the finaliser heard does.
    Heard { tenant: TenantId, recording: RecordingId, flags: BTreeSet<String> },
    /// The recording is over. Its last record has this event's position.
    Ended {
        tenant: TenantId,
        recording: RecordingId,
        reason: String,
        /// Length on the boot clock.
        duration_ms: u64,
        flags: BTreeSet<String>,
    },
    /// Everything up to `through` is in the object store. Only rises.
    Stored { through: Position },
    /// The edge lives. Sent twice: at once, and delayed as a dead-man's message.
    Beat {
        /// Rises by one with each beat of an epoch.
        seq: u64,
        stored_through: Position,
        live: Vec<RecordingId>,
        /// True on the delayed copy: if no newer beat was indexed when it arrives, the edge is
        /// taken for dead.
        dead_man: bool,
    },
    /// A command was carried out or could not be.
    CommandDone { command: CommandId, ok: bool, detail: String },
}

/// Why a message from the queue is not an event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    #[error("not a recording event")]
    Malformed(#[source] serde_json::Error),
    #[error("event version {found} is newer than {VERSION}: upgrade the indexer first")]
    TooNew { found: u32 },
}

impl RecordingEvent {
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an event has string keys and no failing serialiser")
    }

    pub fn from_json(text: &str) -> Result<Self, EventError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_str(text).map_err(EventError::Malformed)?;
        if version > VERSION {
            return Err(EventError::TooNew { found: version });
        }
        serde_json::from_str(text).map_err(EventError::Malformed)
    }

    /// The recording this event is about; none for events about a whole journal.
    pub fn recording(&self) -> Option<(&TenantId, RecordingId)> {
        match &self.body {
            EventBody::Started { tenant, recording, .. }
            | EventBody::Metadata { tenant, recording, .. }
            | EventBody::Mark { tenant, recording, .. }
            | EventBody::Heard { tenant, recording, .. }
            | EventBody::Ended { tenant, recording, .. } => Some((tenant, *recording)),
            EventBody::Stored { .. } | EventBody::Beat { .. } | EventBody::CommandDone { .. } => {
                None
            }
        }
    }
}
