//! SRTP and SRTCP (RFC 3711), with AES-192 and AES-256 (RFC 6188) and AES-GCM (RFC 7714).
//!
//! ```text
//! sdp::Crypto ─► Keying ─┬─► Receiver: ciphertext ─► is it theirs? ─► RTP, RTCP
//!                        └─► Sender:   RTP, RTCP ─► ciphertext
//! ```
//!
//! # Constraints
//!
//! - A packet is authenticated before anything is learned from it. What is not authentic leaves no
//!   trace: neither a source nor a count.
//! - The rollover counter is never signalled (RFC 4568 §6.4: it begins at zero). Whoever was away
//!   finds it again by trying the counters that are near against the authentication tag.
//! - New keys do not end the old ones: packets under both are on their way at the same time.
//! - Replayed packets are let through. A recording has each sequence number once, whoever repeats
//!   it; [`Receiver::authenticate`] tells the index, so that a repetition can be known as one.
//!
//! Not supported, and refused where an offer asks for it: f8 mode, key derivation rates, packets
//! without authentication.

mod keying;
mod receiver;
mod sender;
mod session_keys;
mod suite;

#[cfg(test)]
mod vectors;

pub use keying::{Keying, KeyingError, MasterKey};
pub use receiver::{Receiver, Rejected};
pub use sender::Sender;
pub use suite::Suite;
