//! The audio streams of a recording session as the shell sees them: one per m-line.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::sdp::{Direction, PayloadFormat};

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
}
