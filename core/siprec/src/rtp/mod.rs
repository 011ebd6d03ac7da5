//! RTP and RTCP packets as they arrive: read, put in order, laid on a timeline (RFC 3550).

pub mod packet;
pub mod reception;
pub mod rtcp;
pub mod sequence;
pub mod srtp;
pub mod timeline;

pub use packet::{Packet, RtpHeader};
pub use reception::Reception;
pub use sequence::{ExtendedSeq, SequenceUnwrapper};
pub use timeline::{ExtendedTimestamp, TimestampUnwrapper};
