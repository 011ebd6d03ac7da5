//! SIP, SIPREC, SDP and RTP as state machines: the Session Recording Server (RFC 7866).
//!
//! Nothing here opens a socket, reads a clock or sleeps. The shell that owns the sockets
//! feeds one [`Input`] and the time, then drains everything that follows from it:
//!
//! ```text
//! srs.handle_input(now, input)            or srs.handle_timeout(now)
//! loop {
//!     while let Some(event) = srs.poll_event() { …accept() or refresh the journal… }
//!     while let Some(transmit) = srs.poll_transmit() { …send… }
//!     until neither has anything left
//! }
//! sleep until srs.poll_timeout() or the next input
//! ```
//!
//! # Promises
//!
//! - Events are reported before the messages that follow from them, so that a shell that
//!   writes down [`Event::Changed`] before it sends can be restarted at any point and
//!   [`Srs::restore`] the dialog the peer believes in.
//! - No input panics, and memory per peer is bounded by [`SrsConfig`].
//! - A message that cannot be read disturbs no other dialog, not even one on the same
//!   connection.
//! - A call is never refused with a 6xx: that would forbid the SRC to try another recorder
//!   (RFC 3261 §21.6).

pub mod metadata;
pub mod rtp;
pub mod sdp;
pub mod sip;

mod event;
mod server;
mod session;
mod stream;
pub mod trunk;

pub use event::{
    Accepting, ConnId, Counts, EndReason, Event, Input, InviteInfo, Oddity, Refusal, SessionKey,
    Transmit, Transport,
};
pub use metadata::Snapshot;
pub use sdp::{Direction, PayloadFormat};
pub use server::{Recognition, Srs, SrsConfig};
pub use session::DialogState;
pub use stream::{MediaAddress, NegotiatedStream, OfferedStream, SrtpKeys};
