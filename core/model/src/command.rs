//! Commands from the cloud to an edge. Each is answered by a `command_done` event.

use serde::{Deserialize, Serialize};

use crate::id::{CommandId, RecordingId};
use crate::time::WallTime;

/// The version that this code writes.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    pub version: u32,
    pub id: CommandId,
    /// When it was given; an edge that was away does not carry out what is older than a minute.
    pub at: WallTime,
    #[serde(flatten)]
    pub body: CommandBody,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum CommandBody {
    /// Stop journaling this recording's media until `Resume`.
    Pause {
        recording: RecordingId,
    },
    Resume {
        recording: RecordingId,
    },
    /// End the recording; the call itself is not ours to end.
    Stop {
        recording: RecordingId,
    },
    /// Refuse new calls and exit when the last one has ended.
    Drain,
    /// Read the policy snapshot again.
    PolicyChanged,
}
