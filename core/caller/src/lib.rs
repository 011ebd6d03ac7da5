//! A Session Recording Client (SRC) that places real calls to any recorder (RFC 7866).
//!
//! It stands in for a session border controller: it sends SIPREC INVITEs with an offer and
//! recording metadata, answers what the recorder asks, and sends RTP that sounds like two people.
//! It shares no signaling code with the recorder, so that a mistake there is not met by the same
//! mistake here; only the readers of SDP and RTCP are the same.
//!
//! [`place`] carries out a whole [`CallPlan`] and reports on every call. [`Caller`] and [`Call`]
//! are for those who steer a single call: hold, resume, new metadata. [`send_rtp`] sends audio
//! alone, beside signaling from elsewhere. What was said in a call can be had again from
//! [`SourceId`], to compare with what was recorded.

mod body;
mod call;
mod dialog;
mod encode;
mod endpoint;
mod g711;
mod message;
mod pacer;
mod place;
mod plan;
mod report;
mod rtp;
mod secure;
mod source;
mod speech;
mod tls;

pub use call::{Call, Caller};
pub use place::{RtpTarget, place, place_until, send_rtp};
pub use plan::{CallPlan, Codec, ContactStyle, MetadataStyle, Party, TlsTrust, Transport};
pub use report::{CallError, CallReport, EndedBy, Outcome, Progress, Reports, StreamReport};
pub use siprec::rtp::srtp::Suite;
pub use source::{FRAME_SAMPLES, SAMPLE_RATE, Source, SourceId};
pub use speech::Speech;
