//! What goes into an [`crate::Srs`] and what comes out of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::metadata::{MetadataError, Snapshot};
use crate::stream::{NegotiatedStream, OfferedStream};
use crate::trunk::Proof;

/// How SIP messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
}

/// A TCP or TLS connection. The shell allocates the number and never reuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A recording session within one [`crate::Srs`] value. Never reused; not valid in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// Something that happened on the network.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A whole UDP datagram. `local` is the concrete address it was sent to.
    Datagram { local: SocketAddr, peer: SocketAddr, bytes: &'a [u8] },
    /// A peer connected. `transport` is TCP or TLS.
    Connected { conn: ConnId, transport: Transport, local: SocketAddr, peer: SocketAddr },
    /// Bytes of a connection, in order and in chunks of any size.
    Stream { conn: ConnId, bytes: &'a [u8] },
    /// What the client certificate of a TLS connection is called: DNS names and URIs of its SAN
    /// (RFC 5922 §7.1) and its CN. Comes before any bytes, and not at all without a certificate.
    Certificate { conn: ConnId, names: &'a [String] },
    /// The connection is gone. Its dialogs live on and continue over another one.
    Disconnected { conn: ConnId },
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    Datagram {
        local: SocketAddr,
        peer: SocketAddr,
        bytes: Vec<u8>,
    },
    Stream {
        conn: ConnId,
        bytes: Vec<u8>,
    },
    /// Close the connection after what was sent before. No `Disconnected` is needed.
    Close {
        conn: ConnId,
    },
}

/// Something the shell must know, in the order in which it happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A new call. The shell answers at once with [`crate::Srs::accept`] or
    /// [`crate::Srs::refuse`].
    ///
    /// An INVITE without SDP leaves the offer to us (RFC 3261 §13.2.1); then `offer` is the
    /// single audio stream that we propose, and the SRC's answer comes in its ACK.
    Offered { key: SessionKey, invite: InviteInfo, offer: Vec<OfferedStream> },
    /// The SRC changes the streams. The shell answers at once with [`crate::Srs::accept`]:
    /// the address a stream already has, a new one for a new stream.
    Reoffered { key: SessionKey, offer: Vec<OfferedStream> },
    /// The streams as negotiated, one entry per m-line: what to record from now on.
    Media { key: SessionKey, streams: Vec<NegotiatedStream> },
    /// A metadata document arrived (in any request that can carry one).
    Metadata {
        key: SessionKey,
        /// Byte for byte as received.
        document: Vec<u8>,
        content_type: String,
        /// All documents so far folded into one view, or why this one could not be read.
        view: Result<Snapshot, MetadataError>,
    },
    /// [`crate::Srs::dialog_state`] has a new value. Write it down before sending what
    /// [`crate::Srs::poll_transmit`] has next.
    Changed { key: SessionKey },
    /// The SRC acknowledged our answer.
    Established { key: SessionKey },
    /// An INFO or MESSAGE with a body that is not metadata, or an INFO package without one.
    Info { key: SessionKey, content_type: String, body: Vec<u8> },
    /// Nobody answered a [`crate::Srs::probe`]. The session goes on; the shell, which knows
    /// whether audio still comes, ends it with [`crate::Srs::give_up`] if not.
    ProbeUnanswered { key: SessionKey },
    /// The session is over and its key is no longer valid.
    Ended { key: SessionKey, reason: EndReason },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The SRC said BYE.
    Bye,
    /// The SRC cancelled its INVITE before we answered.
    Cancelled,
    /// Our answer was repeated for 32 s and never acknowledged.
    NoAck,
    /// The shell called [`crate::Srs::hang_up`].
    HungUp,
    /// The session timer ran out (RFC 4028 §10).
    Timeout,
    /// The SRC answered one of our requests with 481: it does not know the dialog any more. Or
    /// the shell called [`crate::Srs::give_up`].
    Gone,
    /// We refused the INVITE.
    Refused,
}

/// Why the shell refuses a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 503: the SRC tries another recorder (RFC 3263 §4.3).
    Busy { retry_after_secs: u32 },
    /// 488: nothing in the offer can be recorded.
    NotAcceptable,
    /// 403: this peer may not record here.
    Forbidden,
}

/// Things that are counted and not told one by one, because strangers cause them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages from strangers that got no answer.
    pub silenced: u64,
    /// Requests from strangers that got 403.
    pub forbidden: u64,
    /// Requests in a dialog that did not come from the dialog's trunk.
    pub foreign: u64,
    /// Requests that got 401.
    pub challenged: u64,
    /// Credentials with a password or user that was wrong.
    pub wrong_passwords: u64,
    /// New calls that got 503 because their trunk, or all of them, have as many as they may.
    pub over_limit: u64,
    /// What could not be read as SIP, or not be answered.
    pub unreadable: u64,
}

/// Whether new calls are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepting {
    Yes,
    /// OPTIONS and new INVITEs are answered 503; calls in progress go on.
    No {
        retry_after_secs: u32,
    },
}

/// What the INVITE of a new call says about it.
#[derive(Clone, PartialEq, Eq)]
pub struct InviteInfo {
    pub peer: SocketAddr,
    pub transport: Transport,
    pub call_id: String,
    pub from_uri: String,
    pub to_uri: String,
    pub user_agent: Option<String>,
    /// The trunk it comes from; `None` while none are configured.
    pub trunk: Option<String>,
    /// By what it showed that.
    pub proof: Proof,
    /// What a strict recorder would have refused the call for.
    pub oddities: BTreeSet<Oddity>,
    /// Headers by which the call can be found in other systems, in order of appearance:
    /// `X-*`, `P-*`, `Session-ID`, `User-to-User`, `Cisco-Guid`, `Remote-Party-ID`, ….
    pub headers: Vec<(String, String)>,
}

/// Prints nothing that identifies a person.
impl std::fmt::Debug for InviteInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InviteInfo")
            .field("peer", &self.peer)
            .field("transport", &self.transport)
            .field("call_id", &self.call_id)
            .field("user_agent", &self.user_agent)
            .field("trunk", &self.trunk)
            .field("oddities", &self.oddities)
            .finish_non_exhaustive()
    }
}

/// Something in an INVITE that RFC 7866 forbids and that real SRCs do.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum Oddity {
    /// No `siprec` option tag, or no `+sip.src` in the Contact (RFC 7866 §6.1.1).
    NoSiprecTag,
    /// An audio m-line without `a=label` (RFC 7866 §7.1.1).
    NoLabel,
    /// No metadata in the INVITE.
    NoMetadata,
    /// Metadata that could not be read.
    MetadataError,
    /// No offer; we made one (Cisco built-in bridge).
    NoOffer,
}

impl Oddity {
    /// The flag that a recording of this call carries.
    pub fn flag(&self) -> &'static str {
        match self {
            Self::NoSiprecTag => "no_siprec_tag",
            Self::NoLabel => "no_label",
            Self::NoMetadata => "no_metadata",
            Self::MetadataError => "metadata_error",
            Self::NoOffer => "no_offer",
        }
    }
}
