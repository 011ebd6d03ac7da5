//! Protects what one side of a stream sends, under its first key.

use super::session_keys::{RTCP_HEADER_BYTES, SessionKeys, index_of};
use super::{Keying, Rejected};
use crate::rtp::packet::RtpHeader;

/// SRTCP counts in 31 bits (RFC 3711 §3.4).
const SRTCP_INDEXES: u32 = 1 << 31;

/// The sending side of one stream.
pub struct Sender {
    session: SessionKeys,
    /// SSRC and index of the newest packet.
    newest: Option<(u32, u64)>,
    next_rtcp: u32,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("next_rtcp", &self.next_rtcp).finish_non_exhaustive()
    }
}

impl Sender {
    pub fn new(keying: &Keying) -> Self {
        let session = SessionKeys::derive(keying, &keying.keys[0]);
        Self { session, newest: None, next_rtcp: 0 }
    }

    /// Goes on under other keys, without beginning to count anew.
    pub fn with_keys(&self, keying: &Keying) -> Self {
        let session = SessionKeys::derive(keying, &keying.keys[0]);
        Self { session, newest: self.newest, next_rtcp: self.next_rtcp }
    }

    /// A sender that does not know what one before it sent under this key must begin where that
    /// one cannot have been: an index that comes twice gives away both packets.
    pub fn starting_rtcp_at(mut self, index: u32) -> Self {
        self.next_rtcp = index % SRTCP_INDEXES;
        self
    }

    /// Protects an RTP packet in place. Packets come in order, or nearly so.
    pub fn seal_rtp(&mut self, packet: &mut Vec<u8>) -> Result<(), Rejected> {
        let header = RtpHeader::parse_sealed(packet).map_err(Rejected::NotRtp)?;
        let header_bytes = packet.len() - header.payload.len();
        let (ssrc, sequence) = (header.ssrc, header.sequence);
        let index = match self.newest {
            Some((known, newest)) if known == ssrc => {
                let distance = i64::from(sequence.wrapping_sub(newest as u16) as i16);
                newest.saturating_add_signed(distance)
            }
            _ => index_of(0, sequence),
        };
        self.newest = match self.newest {
            Some((known, newest)) if known == ssrc => Some((ssrc, newest.max(index))),
            _ => Some((ssrc, index)),
        };
        self.session.seal_rtp(packet, header_bytes, index);
        Ok(())
    }

    /// Protects an RTCP compound in place.
    pub fn seal_rtcp(&mut self, compound: &mut Vec<u8>) -> Result<(), Rejected> {
        if compound.len() < RTCP_HEADER_BYTES {
            return Err(Rejected::TooShort);
        }
        let index = self.next_rtcp;
        self.next_rtcp = (index + 1) % SRTCP_INDEXES;
        self.session.seal_rtcp(compound, index);
        Ok(())
    }
}
