//! Which source a stream is heard from.
//!
//! SIPREC demands symmetric RTP (RFC 7866 §8.1.8), and the address in an SDP offer is wrong
//! whenever an address translator stands between. So the source named in the offer is believed
//! when it sends, and until then the first one that sends RTP. Everybody else is refused:
//! whoever finds an open port must not be able to speak into a recording. A host that goes on with
//! the same SSRC from another port is the same sender, behind a translator that forgot it.

use std::net::{IpAddr, SocketAddr};

/// A source that has been silent this long may be replaced by another: an SRC that moved its
/// media without telling us. Longer than comfort noise and packet loss leave a sending source.
const SILENCE_NS: u64 = 5_000_000_000;

/// The source of one stream.
#[derive(Clone, Debug, Default)]
pub struct Latch {
    /// From the offer. Absent while the stream is on hold at 0.0.0.0.
    offered: Option<SocketAddr>,
    latched: Option<Heard>,
    /// The source before a re-offer, or before it moved to another port. Its packets are still under way and are still the call's.
    before: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    source: SocketAddr,
    /// Of the newest packet whose header could be read.
    ssrc: Option<u32>,
    last_boot_ns: u64,
}

impl Latch {
    pub fn new(offered: Option<SocketAddr>) -> Self {
        Self { offered, latched: None, before: None }
    }

    /// A re-offer named `offered`. The same address changes nothing.
    pub fn offer(&mut self, offered: Option<SocketAddr>) {
        if offered.is_some() && offered != self.offered {
            self.offered = offered;
            self.before = self.latched.take().map(|heard| heard.source);
        }
    }

    /// Whether an RTP packet from `source` belongs to the stream.
    pub fn accepts_rtp(
        &mut self,
        source: SocketAddr,
        ssrc: Option<u32>,
        arrival_boot_ns: u64,
    ) -> bool {
        let heard = Heard { source, ssrc, last_boot_ns: arrival_boot_ns };
        match &mut self.latched {
            Some(latched) if latched.source == source => {
                latched.last_boot_ns = latched.last_boot_ns.max(arrival_boot_ns);
                latched.ssrc = ssrc.or(latched.ssrc);
                true
            }
            _ if self.offered == Some(source) => {
                self.latched = Some(heard);
                true
            }
            _ if self.before == Some(source) => true,
            Some(latched)
                if latched.source.ip() == source.ip() && ssrc.is_some() && latched.ssrc == ssrc =>
            {
                self.before = Some(latched.source);
                self.latched = Some(heard);
                true
            }
            Some(latched) if arrival_boot_ns.saturating_sub(latched.last_boot_ns) < SILENCE_NS => {
                false
            }
            _ => {
                self.latched = Some(heard);
                true
            }
        }
    }

    /// Whether an RTCP packet from this host belongs to the stream. Its port is the SRC's to
    /// choose (`a=rtcp`, RFC 3605) and address translators choose others, so only the host counts.
    pub fn accepts_rtcp(&self, host: IpAddr) -> bool {
        match (&self.latched, self.offered) {
            (Some(latched), _) if latched.source.ip() == host => true,
            (_, Some(offered)) => offered.ip() == host,
            (Some(_), None) => false,
            (None, None) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn source(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn the_source_in_the_offer_is_believed() {
        let mut latch = Latch::new(Some(source(4000)));
        assert!(latch.accepts_rtp(source(4000), Some(4000), 0));
        assert!(!latch.accepts_rtp(source(5000), Some(5000), 1));
    }

    #[test]
    fn behind_a_translator_the_first_source_is_taken() {
        let mut latch = Latch::new(Some(source(4000)));
        assert!(latch.accepts_rtp(source(7777), Some(7777), 0));
        assert!(!latch.accepts_rtp(source(5000), Some(5000), 1));
        assert!(latch.accepts_rtp(source(7777), Some(7777), 2));
    }

    #[test]
    fn the_source_in_the_offer_displaces_one_that_was_first() {
        let mut latch = Latch::new(Some(source(4000)));
        assert!(latch.accepts_rtp(source(7777), Some(7777), 0));
        assert!(latch.accepts_rtp(source(4000), Some(4000), 1));
        assert!(!latch.accepts_rtp(source(7777), Some(7777), 2));
    }

    #[test]
    fn a_source_that_moved_after_silence_is_heard_again() {
        let mut latch = Latch::new(None);
        assert!(latch.accepts_rtp(source(1), Some(1), 0));
        assert!(!latch.accepts_rtp(source(2), Some(2), 4 * SECOND));
        assert!(latch.accepts_rtp(source(2), Some(2), 5 * SECOND));
        assert!(!latch.accepts_rtp(source(1), Some(1), 5 * SECOND + 1));
    }

    #[test]
    fn a_host_that_goes_on_from_another_port_loses_no_packet() {
        let mut latch = Latch::new(Some(source(4000)));
        assert!(latch.accepts_rtp(source(4000), Some(7), 0));
        assert!(latch.accepts_rtp(source(4002), Some(7), 1));
        assert!(latch.accepts_rtp(source(4000), Some(7), 2), "overtaken on its way");
        assert!(latch.accepts_rtp(source(4002), Some(7), 3));
        let elsewhere = "198.51.100.1:4002".parse().unwrap();
        assert!(!latch.accepts_rtp(elsewhere, Some(7), 4), "another host");
        assert!(!latch.accepts_rtp(source(4004), Some(8), 5), "another sender");
        assert!(!latch.accepts_rtp(source(4004), None, 6), "nobody can tell");
    }

    #[test]
    fn a_reoffer_loses_no_packet_of_the_old_source_and_takes_the_new_one() {
        let mut latch = Latch::new(Some(source(1)));
        assert!(latch.accepts_rtp(source(1), Some(1), 0));
        latch.offer(Some(source(2)));
        assert!(latch.accepts_rtp(source(1), Some(1), 1), "still under way");
        assert!(latch.accepts_rtp(source(3), Some(3), 2), "the new source, translated");
        assert!(!latch.accepts_rtp(source(4), Some(4), 3));
    }

    #[test]
    fn hold_at_no_address_keeps_the_source() {
        let mut latch = Latch::new(Some(source(1)));
        assert!(latch.accepts_rtp(source(1), Some(1), 0));
        latch.offer(None);
        assert!(latch.accepts_rtp(source(1), Some(1), 1));
        assert!(!latch.accepts_rtp(source(2), Some(2), 2));
    }

    #[test]
    fn rtcp_may_come_from_another_port_of_the_same_host() {
        let mut latch = Latch::new(Some(source(4000)));
        assert!(latch.accepts_rtcp(source(9).ip()));
        assert!(!latch.accepts_rtcp("198.51.100.1".parse().unwrap()));
        latch.accepts_rtp("198.51.100.1:6".parse().unwrap(), Some(6), 0);
        assert!(latch.accepts_rtcp("198.51.100.1".parse().unwrap()));
    }
}
