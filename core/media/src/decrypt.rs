//! Takes the encryption off SRTP and SRTCP, by the keys that were sealed beside the packets (RFC
//! 3711, RFC 4568).
//!
//! The packets of a recording are kept as they came. Here they are read from the first to the last,
//! so that the rollover counter, which nobody ever signals, is counted along; after a time in which
//! the recorder was down it is found again by trying those that are near.

use std::borrow::Cow;
use std::collections::BTreeMap;

use segment::{Packet, StreamInfo};
use siprec::rtp::srtp::{Receiver, Rejected};
use siprec::sdp::Crypto;

/// The encrypted streams of one session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decryptor {
    /// By m-line.
    receivers: BTreeMap<u16, Receiver>,
}

impl Decryptor {
    /// Takes the keys of what was negotiated. Old ones stay, for packets that are still under way;
    /// a stream that is no longer encrypted is plain at once.
    pub fn negotiated(&mut self, streams: &[StreamInfo]) {
        for info in streams.iter().filter(|info| !info.removed) {
            if info.crypto.is_empty() {
                self.receivers.remove(&info.index);
                continue;
            }
            let receiver = self.receivers.entry(info.index).or_default();
            let lines = info.crypto.iter().filter_map(|line| Crypto::parse(line.reveal()));
            for keying in lines.filter_map(|line| line.keying().ok()) {
                receiver.add_keys(&keying);
            }
        }
    }

    /// The RTP or RTCP packet in `packet`.
    pub fn open<'a>(&mut self, packet: &'a Packet) -> Result<Cow<'a, [u8]>, Rejected> {
        let Some(receiver) = self.receivers.get_mut(&packet.stream) else {
            return Ok(Cow::Borrowed(&packet.datagram));
        };
        let plain = match packet.rtcp {
            true => receiver.open_rtcp(&packet.datagram),
            false => receiver.open_rtp(&packet.datagram),
        };
        plain.map(Cow::Owned)
    }
}
