//! Segments in, playable audio out: opens the sealed packets of a call, lays every stream onto one
//! time axis, and renders what people and browsers play.
//!
//! ```text
//! records ─► router ─┬─► survey ─► plan (where everything lies; marks, quality, flags)
//!   (opened,         │               │
//!    split in runs)  └─► render ◄────┘
//!                          │ samples of every lane, from any place on
//!                          ├─► opus ─► webm, peaks
//!                          └─► wav, flac
//! ```
//!
//! A call is read twice, and never held whole: memory does not grow with its length.
//!
//! Constraints that tests hold:
//!
//! - A call comes back as it was sent: every sample in its place, the whole as long as what was
//!   sent, each party on its side by the metadata and not by the order of the offer.
//! - Loss, reordering, repetition, wraps, drift, restarts of a sender and of the recorder cost what
//!   was lost and shift nothing else.
//! - A codec that cannot be decoded loses nothing: its packets are kept and counted.
//! - No packet, whatever its content, panics.

mod align;
mod call;
mod clock;
mod codec;
mod decrypt;
pub mod flac;
pub mod manifest;
mod marks;
mod mix;
pub mod opus;
pub mod pcap;
pub mod peaks;
mod plan;
mod quality;
mod render;
mod router;
mod run;
mod sequencer;
mod survey;
pub mod wav;
pub mod webm;

#[cfg(test)]
mod test_tone;

pub use call::{Call, ReadError, RecordIter, Records, Samples};
pub use manifest::{Manifest, ManifestTrack, Part};
pub use mix::Selection;
pub use opus::EncodeError;
pub use plan::{Channel, Lane, Plan};
pub use quality::Quality;
pub use render::CONCEALED_MS;
pub use survey::Survey;
