//! Segments in, playable audio out: opens the sealed packets of a call, lays every stream onto one
//! time axis, and renders what people and browsers play.
//!
//! ```text
//! records ─► intake ─► runs ─► lanes ─┬─► opus ─► webm
//!            (opened,  (one    (call  ├─► wav, flac
//!             sorted)  SSRC)   time)  ├─► peaks
//!                                     └─► marks, quality ─► manifest
//! ```
//!
//! Constraints that tests hold:
//!
//! - A call comes back as it was sent: every sample in its place, the whole as long as what was
//!   sent, each party on its side by the metadata and not by the order of the offer.
//! - Loss, reordering, repetition, wraps, restarts of a sender and of the recorder cost what was
//!   lost and shift nothing else.
//! - A codec that cannot be decoded loses nothing: its packets are kept and counted.
//! - No packet, whatever its content, panics.

mod assemble;
mod clock;
mod codec;
mod decrypt;
pub mod flac;
mod intake;
mod lanes;
pub mod manifest;
mod marks;
mod mix;
mod opus;
pub mod pcap;
pub mod peaks;
mod quality;
mod run;
pub mod wav;
pub mod webm;

#[cfg(test)]
mod test_tone;

pub use assemble::{AssembleError, Assembled, assemble};
pub use lanes::{CONCEALED_MS, Channel, Lane, Pcm};
pub use manifest::{Manifest, ManifestTrack, Part};
pub use opus::OpusError;
pub use quality::Quality;
