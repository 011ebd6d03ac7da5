//! Session descriptions (RFC 8866) as session border controllers write them, and our answers.
//!
//! What we answer decides whether audio comes at all, so both directions are here: [`offer`]
//! reads whatever an SRC sends, [`answer`] mirrors it (RFC 3264 §6, RFC 7866 §7.2). [`crypto`]
//! reads the SRTP keys of an offer (RFC 4568).

pub mod answer;
pub mod crypto;
pub mod format;
pub mod offer;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use crypto::{Crypto, Unusable};
pub use format::PayloadFormat;

/// Which way media flows, from the side of whoever wrote the description (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// Also what the absence of an attribute means.
    #[default]
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// The attribute's name, e.g. `sendonly`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// The direction that an attribute of this name states.
    pub fn parse(attribute: &str) -> Option<Self> {
        [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive]
            .into_iter()
            .find(|direction| direction.as_str().eq_ignore_ascii_case(attribute))
    }

    /// Whether the writer of the description may send media.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// What somebody who only ever receives answers to this offer (RFC 3264 §6.1).
    ///
    /// Answering `inactive` to `sendonly` would be legal and makes Cisco CUBE stop sending.
    pub fn answered_by_a_receiver(self) -> Self {
        if self.sends() { Self::RecvOnly } else { Self::Inactive }
    }
}

/// Our own `o=` line. The version grows with every description that differs (RFC 3264 §8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub session_id: u64,
    pub version: u64,
    pub address: IpAddr,
}

/// A description as it was received, with everything session-level already inherited by the
/// m-lines that do not override it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDescription {
    /// The text of the `o=` line. Its version is no sign of a change: OpenSIPS keeps it when it
    /// puts a stream on hold.
    pub origin: Option<String>,
    /// Every m-line in order, also those that could not be understood: an answer needs them all.
    pub media: Vec<MediaDescription>,
}

/// One m-line and what belongs to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaDescription {
    /// `audio`, `video`, …, in lower case.
    pub media: String,
    pub port: u16,
    /// `RTP/AVP`, …, as written.
    pub protocol: String,
    /// The formats of the m-line as written, for the answer of a refused stream.
    pub raw_formats: Vec<String>,
    /// The RTP payload types of the m-line, in order of preference.
    pub formats: Vec<PayloadFormat>,
    /// `a=label` (RFC 4574), to be echoed verbatim.
    pub label: Option<String>,
    /// The direction attribute, own or inherited. What an answer mirrors.
    pub signalled_direction: Direction,
    /// The direction that media really takes: `Inactive` also when the stream is on hold by a
    /// null address, as BroadWorks, Webex and Metaswitch do it (RFC 3264 §8.4).
    pub direction: Direction,
    /// The address was `0.0.0.0` or `::`.
    pub held: bool,
    /// Where its writer sends from and receives. `None` when there is none to know: port 0, a
    /// null address or a host name.
    pub address: Option<SocketAddr>,
    /// `a=rtcp` (RFC 3605): a port and perhaps another address.
    pub rtcp: Option<RtcpAttribute>,
    /// `a=rtcp-mux` (RFC 5761).
    pub rtcp_mux: bool,
    /// `a=crypto`, own or inherited. A line that cannot be read is left out.
    pub crypto: Vec<Crypto>,
    /// `a=ptime`: milliseconds of media in a packet.
    pub ptime_ms: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtcpAttribute {
    pub port: u16,
    pub address: Option<IpAddr>,
}

impl MediaDescription {
    /// Whether the writer refused or removed this stream (RFC 3264 §6, §8.2).
    pub fn port_zero(&self) -> bool {
        self.port == 0
    }

    /// Audio or video over RTP with at least one payload type: what can be recorded.
    ///
    /// Encrypted streams only with a key that we can use: packets that nobody will ever read are
    /// no recording.
    pub fn is_recordable(&self) -> bool {
        self.is_audio_or_video()
            && !self.port_zero()
            && (self.is_plain_rtp() || self.usable_crypto().is_some())
            && !self.formats.is_empty()
    }

    pub fn is_audio_or_video(&self) -> bool {
        matches!(self.media.as_str(), "audio" | "video")
    }

    /// `RTP/AVP` (RFC 3551) or `RTP/AVPF` (RFC 4585).
    pub fn is_plain_rtp(&self) -> bool {
        ["RTP/AVP", "RTP/AVPF"].iter().any(|plain| self.protocol.eq_ignore_ascii_case(plain))
    }

    /// `RTP/SAVP` (RFC 3711) or `RTP/SAVPF` (RFC 5124), whose keys come in `a=crypto`. Over DTLS
    /// (RFC 5764) they do not, and we have no DTLS.
    pub fn is_secure_rtp(&self) -> bool {
        ["RTP/SAVP", "RTP/SAVPF"].iter().any(|secure| self.protocol.eq_ignore_ascii_case(secure))
    }

    /// The first line of a secure stream that we can use: they come in order of preference
    /// (RFC 4568 §7.1.2). A key offered for plain RTP is not used, and the answer has none.
    pub fn usable_crypto(&self) -> Option<&Crypto> {
        self.crypto.iter().find(|line| self.is_secure_rtp() && line.keying().is_ok())
    }

    /// Where its writer receives RTCP: as it says, on the RTP port when multiplexed, else one
    /// above it (RFC 3550 §11).
    pub fn rtcp_address(&self) -> Option<SocketAddr> {
        let rtp = self.address?;
        if self.rtcp_mux {
            return Some(rtp);
        }
        match self.rtcp {
            Some(rtcp) => Some(SocketAddr::new(rtcp.address.unwrap_or(rtp.ip()), rtcp.port)),
            None => Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?)),
        }
    }
}

/// Why a body is no session description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    #[error("no line of a session description in {bytes} bytes")]
    NotSdp { bytes: usize },
    #[error("session description of {bytes} bytes, at most {limit_bytes} are read")]
    TooLong { bytes: usize, limit_bytes: usize },
    #[error("session description with more than {limit} m-lines")]
    TooManyMedia { limit: usize },
}
