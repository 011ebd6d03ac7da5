//! What became of each call.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::plan::Codec;
use crate::source::SourceId;

/// How an INVITE was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Answered,
    Refused {
        status: u16,
        reason: String,
    },
    /// No final answer in time.
    Timeout,
    /// The call could not go on: the connection broke, or the answer made no sense.
    Failed {
        problem: String,
    },
}

/// Who ended a call that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// We sent BYE and it was answered with 2xx.
    Us,
    /// We sent BYE and it was refused or not answered.
    UsUnconfirmed,
    Peer,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallReport {
    /// Counted from 0.
    pub index: u32,
    pub call_id: String,
    /// The id of the communication session in the metadata.
    pub session_id: String,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// From INVITE to its final answer.
    pub answered_ms: Option<u64>,
    /// From that answer to the end.
    pub duration_ms: u64,
    pub ended_by: Option<EndedBy>,
    pub streams: Vec<StreamReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    pub label: Option<String>,
    pub ssrc: u32,
    pub codec: Codec,
    /// What was sent; packet `n` of an unheld stream carries frame `n` of it.
    pub source: SourceId,
    /// Where the recorder asked for it, if it did.
    pub remote: Option<SocketAddr>,
    pub packets_sent: u64,
    /// 20 ms frames that passed, sent or on hold.
    pub frames: u64,
    /// When the first packet was sent, in Unix time.
    pub first_sent_unix_ms: Option<u64>,
    /// What the recorder reported of this stream (RFC 3550 §6.4.2).
    #[serde(default)]
    pub reports: Reports,
}

/// Receiver reports that came for a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reports {
    pub received: u64,
    /// RTCP that could not be read, or not decrypted.
    pub unreadable: u64,
    /// Packets of ours that the newest report calls lost.
    pub lost: i64,
    /// The recorder said that it goes.
    pub goodbye: bool,
}

/// Told while calls are in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    Answered { index: u32, answered_ms: u64 },
    NotAnswered { index: u32, outcome: Outcome },
    Ended { index: u32, by: EndedBy },
}

/// Why calls could not be placed at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    #[error("{problem}")]
    Plan { problem: String },
    #[error("codec {name} is not supported; supported: {}", Codec::SUPPORTED)]
    Codec { name: String },
    #[error("{}: {problem}", path.display())]
    Wav { path: PathBuf, problem: String },
    #[error("connect to {target}")]
    Connect { target: SocketAddr, source: io::Error },
    #[error("bind a socket on {address}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error("TLS: {problem}")]
    Tls { problem: String },
    #[error("encode")]
    Encoder(#[from] opus::Error),
    #[error("no random numbers from the system")]
    Random(#[source] getrandom::Error),
    #[error("start the RTP sender")]
    Pacer(#[source] io::Error),
    /// A request within a call, such as a hold, had no success.
    #[error("{method} was not accepted: {outcome:?}")]
    Request { method: &'static str, outcome: Outcome },
    #[error("the call has ended")]
    Ended,
}
