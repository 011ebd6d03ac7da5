//! A recording as people and API clients see it.

use serde::{Deserialize, Serialize};

use crate::id::{EdgeId, RecordingId};
use crate::personal::Personal;
use crate::time::WallTime;

/// Where a recording is in its life.
///
/// ```text
/// recording ─► finalizing ─► stored ─► purging ─► deleted
///     └─ (edge dead) ► partial ─► finalizing, when its edge returns with more
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Status {
    /// In progress.
    Recording,
    /// Ended and completely in the object store; playable audio is being built.
    Finalizing,
    /// Playable and complete.
    Stored,
    /// The end was never seen. Playable as far as it was received, once built.
    Partial,
    /// Claimed by retention; no hold can be placed any more.
    Purging,
    /// Erased. What remains says so.
    Deleted,
}

impl Status {
    pub const ALL: [Self; 6] = [
        Self::Recording,
        Self::Finalizing,
        Self::Stored,
        Self::Partial,
        Self::Purging,
        Self::Deleted,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Finalizing => "finalizing",
            Self::Stored => "stored",
            Self::Partial => "partial",
            Self::Purging => "purging",
            Self::Deleted => "deleted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// One recording, as `GET /v1/recordings/{id}` returns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Recording {
    pub id: RecordingId,
    pub status: Status,
    pub started_at: WallTime,
    pub ended_at: Option<WallTime>,
    /// Length on the boot clock, not the difference of the two wall times.
    pub duration_ms: Option<u64>,
    pub edge: EdgeId,
    /// Every SIP, SIPREC and vendor id of the call.
    pub call_ids: Vec<String>,
    pub participants: Vec<Participant>,
    pub tracks: Vec<Track>,
    /// What was odd; see [`flag`].
    pub flags: Vec<String>,
    pub marks: Vec<Mark>,
    /// SHA-256 of the manifest, in hex; the manifest names every part with its own.
    pub sha256: Option<String>,
    /// Whether audio can be fetched now.
    pub playable: bool,
    /// Why it ended: `bye`, `timeout`, `stopped`, `edge_lost`, …
    pub end_reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Participant {
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub name: Option<Personal<String>>,
    /// Address of record: a SIP or tel URI, or what the SRC sent in its place.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub aor: Option<Personal<String>>,
    /// The E.164 number that `aor` is, where it is certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub number: Option<Personal<String>>,
    pub role: Option<String>,
}

/// One recorded stream, laid onto call time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Track {
    /// SDP label; empty when the SRC gave none.
    pub label: String,
    /// The participant's address of record, else its name. Absent: nobody is known to be heard.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub participant: Option<Personal<String>>,
    /// Indexes into the recording's `participants`; several on a mixed stream.
    pub speakers: Vec<usize>,
    /// `PCMU`, `PCMA`, …: the encoding name of the payload type most packets had.
    pub codec: String,
    pub packets_expected: u64,
    pub packets_received: u64,
    pub packets_lost: u64,
    pub duration_ms: u64,
    /// How it was laid beside the others; absent without a packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment: Option<Alignment>,
}

/// How a track was laid onto call time, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Alignment {
    pub method: AlignmentMethod,
    /// As far as the packets tell. By arrival, differences of the least delay come on top.
    pub within_ms: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AlignmentMethod {
    /// By the sender's own clock, as its RTCP sender reports tell it.
    SenderReports,
    /// By when its fastest packets came.
    Arrival,
}

/// Something that happened at a time of the call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Mark {
    pub kind: MarkKind,
    /// From the start of the recording.
    pub from_ms: u64,
    pub to_ms: u64,
    /// Index into `tracks`; absent: the whole recording.
    pub track: Option<usize>,
    /// Why, in a few words for people: `recorder restarted`, `loss`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum MarkKind {
    Hold,
    Pause,
    Gap,
    Dtmf,
    Join,
    Leave,
}

impl Mark {
    /// Forgets which key was pressed, as it may be one of a PIN. That one was pressed remains.
    pub fn hide_digit(&mut self) {
        if self.kind == MarkKind::Dtmf {
            self.detail = None;
        }
    }
}

/// The flags a recording can carry. Open-ended: a reader must accept others.
pub mod flag {
    /// No SIPREC metadata came at all.
    pub const NO_METADATA: &str = "no_metadata";
    /// Metadata came that could not be read; the raw document is kept.
    pub const METADATA_ERROR: &str = "metadata_error";
    /// An m-line had no `a=label`.
    pub const NO_LABEL: &str = "no_label";
    /// The INVITE had no sign of SIPREC but an offer.
    pub const NO_SIPREC_TAG: &str = "no_siprec_tag";
    /// The source is not a configured trunk.
    pub const UNTRUSTED_SOURCE: &str = "untrusted_source";
    /// A track on which nothing but silence was heard.
    pub const SILENT_TRACK: &str = "silent_track";
    /// A stream was negotiated on which no packet ever came.
    pub const NO_PACKETS: &str = "no_packets";
    /// The recorder died or restarted during the call and went on.
    pub const INTERRUPTED: &str = "interrupted";
    /// A stream whose codec cannot be decoded; its packets are kept.
    pub const UNDECODED_TRACK: &str = "undecoded_track";
    /// One stream carries several participants.
    pub const MIXED: &str = "mixed";
    /// Sealed records of it were changed after they were written; they are left out of the audio.
    pub const DAMAGED: &str = "damaged";
    /// Packets of an encrypted stream are not of who has its key: a stranger's, or the key is wrong.
    /// They are kept and left out of the audio.
    pub const NOT_AUTHENTIC: &str = "not_authentic";
    /// Audio came after the BYE; it is part of the recording.
    pub const MEDIA_AFTER_BYE: &str = "media_after_bye";
    /// One party is heard, and of the other nothing but silence or no packet at all.
    pub const ONE_WAY_AUDIO: &str = "one_way_audio";
    /// Most packets of a stream were of a payload type that was never negotiated.
    pub const WRONG_CODEC: &str = "wrong_codec";
    /// A sender's clock was set during the call, or its reports contradict each other.
    pub const CLOCK_TROUBLE: &str = "clock_trouble";
    /// Those that say that a call may not sound as it should.
    pub const OF_SOUND: [&str; 5] =
        [NO_PACKETS, SILENT_TRACK, ONE_WAY_AUDIO, WRONG_CODEC, CLOCK_TROUBLE];
    /// Our answer was never acknowledged.
    pub const NO_ACK: &str = "no_ack";
}
