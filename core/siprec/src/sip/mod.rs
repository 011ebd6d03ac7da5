//! SIP messages, transactions and dialogs (RFC 3261), as far as a recorder needs them.
//!
//! From bytes up: [`framing`] cuts a stream into messages, [`message`] reads one, [`request`]
//! decides whether it can be processed, [`transaction`] recognises retransmissions,
//! [`dialog`] and [`timer`] keep what a call needs, [`answer`] repeats our 200 until it is
//! acknowledged and [`client`] sends the few requests of our own.

pub mod address;
pub mod answer;
pub mod client;
pub mod deadlines;
pub mod dialog;
pub mod digest;
pub mod framing;
pub mod message;
pub mod rate;
pub mod request;
pub mod response;
pub mod timer;
pub mod transaction;
pub mod via;

use std::time::Duration;

/// Round-trip estimate, the unit of all retransmissions (RFC 3261 §17.1.1.1).
pub const T1: Duration = Duration::from_millis(500);

/// The longest interval between retransmissions (RFC 3261 §17.1.2.2).
pub const T2: Duration = Duration::from_secs(4);

/// How long a message may live in the network (RFC 3261 §17.1.2.2).
pub const T4: Duration = Duration::from_secs(5);

/// How long a transaction is remembered: 64·T1.
pub const TRANSACTION_LIFETIME: Duration = Duration::from_secs(32);
