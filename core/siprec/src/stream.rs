//! The media streams of a recording session as the shell sees them: one per m-line.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::rtp::srtp::Keying;
use crate::sdp::{Crypto, Direction, PayloadFormat};

/// Where we receive one stream. RTCP is expected on the next port, or on the same port where
/// the SRC offered `a=rtcp-mux`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaAddress {
    pub rtp: SocketAddr,
}

/// An m-line of an offer that waits for [`crate::Srs::accept`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedStream {
    /// Position of the m-line in the SDP; the same for the whole life of the session.
    pub index: usize,
    /// `audio`, `video`, …
    pub media: String,
    /// The value of `a=label` (RFC 4574), opaque.
    pub label: Option<String>,
    pub formats: Vec<PayloadFormat>,
    /// Where the SRC says its RTP comes from; `None` for hold by `c=0.0.0.0` and port 0.
    pub address: Option<SocketAddr>,
    /// What the SRC wants to do with the stream.
    pub direction: Direction,
    /// The SRC withdraws the stream (RFC 3264 §8.2).
    pub port_zero: bool,
    /// The transport of the m-line, for example `RTP/AVP`.
    pub protocol: String,
    /// Whether this stream can be recorded. An address for a stream that cannot is ignored.
    pub usable: bool,
}

/// A stream as agreed by offer and answer: what must be recorded from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegotiatedStream {
    /// Position of the m-line in the SDP.
    pub index: usize,
    pub label: Option<String>,
    pub formats: Vec<PayloadFormat>,
    /// Where the SRC says its RTP comes from.
    pub remote: Option<SocketAddr>,
    /// Where we listen; `None` when the stream is refused or removed.
    pub local: Option<SocketAddr>,
    /// What the SRC does: [`Direction::SendOnly`] or [`Direction::Inactive`].
    pub direction: Direction,
    /// Refused by us or withdrawn by the SRC: port 0 in the answer.
    pub removed: bool,
    pub protocol: String,
    /// RTCP arrives on the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// `audio` or `video`.
    #[serde(default)]
    pub media: String,
    /// Where the SRC receives RTCP (RFC 3605).
    #[serde(default)]
    pub remote_rtcp: Option<SocketAddr>,
    /// The keys of an encrypted stream.
    #[serde(default)]
    pub srtp: Option<SrtpKeys>,
}

/// The keys of both sides, as they stand in the two descriptions (RFC 4568).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpKeys {
    /// What the SRC protects its packets with.
    pub theirs: Crypto,
    /// What we protect our RTCP with.
    pub ours: Crypto,
}

impl SrtpKeys {
    /// Theirs and ours. `None` for keys that were written down by a version that could more.
    pub fn keying(&self) -> Option<(Keying, Keying)> {
        Some((self.theirs.keying().ok()?, self.ours.keying().ok()?))
    }
}
