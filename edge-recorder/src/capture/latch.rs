//! Which source a stream is heard from.
//!
//! SIPREC demands symmetric RTP (RFC 7866 §8.1.8), and the address in an SDP offer is wrong
//! whenever an address translator stands between. So the source named in the offer is believed
//! when it sends, and until then the first one that sends. Everybody else is refused: whoever
//! finds an open port must not be able to speak into a recording.
//!
//! Promises, each a test:
//!
//! - Once somebody was heard, a stranger is not: not during silence, not on hold. Another host is
//!   believed when the offer names it, when it is the one that signals, or when it goes on with the
//!   numbers of the stream, which a stranger cannot know.
//! - A host that goes on with the same SSRC from another port is the same sender, behind a
//!   translator that forgot it; after some silence it may do so with another SSRC, too.
//! - An encrypted stream latches to who has its key, and to nobody else. What the source in the
//!   offer sends is kept even when it is not authentic, so that a key misread by one of us loses
//!   nothing, but it latches nothing either.

use std::net::{IpAddr, SocketAddr};

/// A source that has been silent this long may be replaced by another one of its host: an SRC that
/// moved its media without telling us. Longer than comfort noise and packet loss leave a sending
/// source.
const SILENCE_NS: u64 = 5_000_000_000;

/// The source of one stream.
#[derive(Clone, Debug, Default)]
pub struct Latch {
    /// From the offer. Absent while the stream is on hold at 0.0.0.0.
    offered: Option<SocketAddr>,
    /// Who signals.
    signaling: Option<IpAddr>,
    latched: Option<Heard>,
    /// The source before a re-offer, or before it moved. Its packets are still under way and are
    /// still the call's.
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
    pub fn new(offered: Option<SocketAddr>, signaling: Option<IpAddr>) -> Self {
        Self { offered, signaling, latched: None, before: None }
    }

    /// A re-offer named `offered`. The same address changes nothing.
    pub fn offer(&mut self, offered: Option<SocketAddr>) {
        if offered.is_some() && offered != self.offered {
            self.offered = offered;
            self.before = self.latched.take().map(|heard| heard.source);
        }
    }

    /// Who is heard.
    pub fn source(&self) -> Option<SocketAddr> {
        self.latched.map(|heard| heard.source)
    }

    /// Whether an RTP packet from `source` belongs to the stream.
    pub fn accepts_rtp(
        &mut self,
        source: SocketAddr,
        ssrc: Option<u32>,
        arrival_boot_ns: u64,
    ) -> bool {
        if self.is_expected(source) {
            self.hear(source, ssrc, arrival_boot_ns);
            return true;
        }
        let moves = match &self.latched {
            // A re-offer named another source and it is behind a translator, or nobody was heard.
            None => true,
            Some(latched) => {
                let goes_on = ssrc.is_some() && latched.ssrc == ssrc;
                let is_known = latched.source.ip() == source.ip()
                    || self.offered.is_some_and(|offered| offered.ip() == source.ip())
                    || self.signaling == Some(source.ip());
                let silent = arrival_boot_ns.saturating_sub(latched.last_boot_ns) >= SILENCE_NS;
                (is_known && (goes_on || silent)) || (goes_on && silent)
            }
        };
        if moves {
            self.hear(source, ssrc, arrival_boot_ns);
        }
        moves
    }

    /// Whether an encrypted packet from `source` belongs to the stream. `is_authentic` is asked only
    /// where that decides.
    pub fn accepts_srtp(
        &mut self,
        source: SocketAddr,
        arrival_boot_ns: u64,
        is_authentic: impl FnOnce() -> bool,
    ) -> bool {
        let heard_before = self.before == Some(source);
        if let Some(latched) = self.latched.as_mut().filter(|latched| latched.source == source) {
            latched.last_boot_ns = latched.last_boot_ns.max(arrival_boot_ns);
            return true;
        }
        if is_authentic() {
            self.before = self.source().or(self.before);
            let last_boot_ns = arrival_boot_ns;
            self.latched = Some(Heard { source, ssrc: None, last_boot_ns });
            return true;
        }
        heard_before || self.offered == Some(source)
    }

    /// The one who is heard may be somebody else who pretends to send from there: it has to be
    /// authentic again before it is believed again.
    pub fn doubt(&mut self) {
        self.latched = None;
        self.before = None;
    }

    /// The source in the offer, one that was latched, or one that was so just before.
    pub fn is_expected(&self, source: SocketAddr) -> bool {
        self.source() == Some(source) || self.offered == Some(source) || self.before == Some(source)
    }

    fn hear(&mut self, source: SocketAddr, ssrc: Option<u32>, arrival_boot_ns: u64) {
        if let Some(latched) = self.latched.as_mut().filter(|latched| latched.source == source) {
            latched.last_boot_ns = latched.last_boot_ns.max(arrival_boot_ns);
            latched.ssrc = ssrc.or(latched.ssrc);
        } else if self.offered == Some(source) {
            // One that was heard because this one had not sent yet was no sender of this call.
            self.latched = Some(Heard { source, ssrc, last_boot_ns: arrival_boot_ns });
        } else if self.before != Some(source) {
            self.before = self.source().or(self.before);
            self.latched = Some(Heard { source, ssrc, last_boot_ns: arrival_boot_ns });
        }
        // Late packets of one that has moved do not move it back.
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

    fn stranger() -> SocketAddr {
        "198.51.100.1:4002".parse().unwrap()
    }

    #[test]
    fn the_source_in_the_offer_is_believed() {
        let mut latch = Latch::new(Some(source(4000)), None);
        assert!(latch.accepts_rtp(source(4000), Some(4000), 0));
        assert!(!latch.accepts_rtp(source(5000), Some(5000), 1));
    }

    #[test]
    fn behind_a_translator_the_first_source_is_taken() {
        let mut latch = Latch::new(Some(source(4000)), None);
        assert!(latch.accepts_rtp(source(7777), Some(7777), 0));
        assert!(!latch.accepts_rtp(source(5000), Some(5000), 1));
        assert!(latch.accepts_rtp(source(7777), Some(7777), 2));
    }

    #[test]
    fn the_source_in_the_offer_displaces_one_that_was_first() {
        let mut latch = Latch::new(Some(source(4000)), None);
        assert!(latch.accepts_rtp(stranger(), Some(7777), 0));
        assert!(latch.accepts_rtp(source(4000), Some(4000), 1));
        assert!(!latch.accepts_rtp(stranger(), Some(7777), 2));
    }

    #[test]
    fn a_source_that_moved_after_silence_is_heard_again() {
        let mut latch = Latch::new(None, None);
        assert!(latch.accepts_rtp(source(1), Some(1), 0));
        assert!(!latch.accepts_rtp(source(2), Some(2), 4 * SECOND));
        assert!(latch.accepts_rtp(source(2), Some(2), 5 * SECOND));
        assert!(latch.accepts_rtp(source(1), Some(1), 5 * SECOND + 1), "still under way");
        assert!(!latch.accepts_rtp(source(3), Some(3), 5 * SECOND + 2));
    }

    #[test]
    fn no_silence_is_long_enough_for_a_stranger() {
        let day = 86_400 * SECOND;
        for offered in [None, Some(source(4000))] {
            let mut latch = Latch::new(offered, Some(source(0).ip()));
            assert!(latch.accepts_rtp(source(4000), Some(7), 0));
            assert!(!latch.accepts_rtp(stranger(), Some(8), day));
            assert!(!latch.accepts_rtp(stranger(), None, day));
            // Not even with the numbers of the stream, as long as somebody sends it.
            assert!(!latch.accepts_rtp(stranger(), Some(7), SECOND));
        }
    }

    #[test]
    fn a_standby_that_goes_on_with_the_stream_is_heard_and_so_is_who_signals() {
        let mut latch = Latch::new(Some(source(4000)), Some("203.0.113.5".parse().unwrap()));
        assert!(latch.accepts_rtp(source(4000), Some(7), 0));
        assert!(latch.accepts_rtp(stranger(), Some(7), 6 * SECOND));
        assert!(!latch.accepts_rtp("203.0.113.5:9".parse().unwrap(), Some(9), 7 * SECOND));
        assert!(latch.accepts_rtp("203.0.113.5:9".parse().unwrap(), Some(9), 12 * SECOND));
    }

    #[test]
    fn a_host_that_goes_on_from_another_port_loses_no_packet() {
        let mut latch = Latch::new(Some(source(4000)), None);
        assert!(latch.accepts_rtp(source(4000), Some(7), 0));
        assert!(latch.accepts_rtp(source(4002), Some(7), 1));
        assert!(latch.accepts_rtp(source(4000), Some(7), 2), "overtaken on its way");
        assert!(latch.accepts_rtp(source(4002), Some(7), 3));
        assert!(!latch.accepts_rtp(stranger(), Some(7), 4), "another host");
        assert!(!latch.accepts_rtp(source(4004), Some(8), 5), "another sender");
        assert!(!latch.accepts_rtp(source(4004), None, 6), "nobody can tell");
    }

    #[test]
    fn a_reoffer_loses_no_packet_of_the_old_source_and_takes_the_new_one() {
        let mut latch = Latch::new(Some(source(1)), None);
        assert!(latch.accepts_rtp(source(1), Some(1), 0));
        latch.offer(Some(source(2)));
        assert!(latch.accepts_rtp(source(1), Some(1), 1), "still under way");
        assert!(latch.accepts_rtp(source(3), Some(3), 2), "the new source, translated");
        assert!(latch.accepts_rtp(source(1), Some(1), 3), "even now");
        assert!(!latch.accepts_rtp(source(4), Some(4), 4));
        assert_eq!(latch.source(), Some(source(3)));
    }

    #[test]
    fn hold_at_no_address_keeps_the_source() {
        let mut latch = Latch::new(Some(source(1)), None);
        assert!(latch.accepts_rtp(source(1), Some(1), 0));
        latch.offer(None);
        assert!(latch.accepts_rtp(source(1), Some(1), 1));
        assert!(!latch.accepts_rtp(source(2), Some(2), 2));
    }

    #[test]
    fn an_encrypted_stream_is_heard_from_who_has_its_key_wherever_that_is() {
        let mut latch = Latch::new(Some(source(4000)), None);
        assert!(!latch.accepts_srtp(stranger(), 0, || false));
        assert_eq!(latch.source(), None);
        assert!(latch.accepts_srtp(source(7), 1, || true));
        assert!(latch.accepts_srtp(source(7), 2, || panic!("not asked again")));
        assert!(!latch.accepts_srtp(stranger(), 86_400 * SECOND, || false), "silence or not");
        // It moved. Its late packets are asked for, and taken either way.
        assert!(latch.accepts_srtp(stranger(), 3, || true));
        assert!(latch.accepts_srtp(source(7), 4, || false));
        assert_eq!(latch.source(), Some(stranger()));
        latch.doubt();
        assert!(!latch.accepts_srtp(stranger(), 5, || false));
        assert!(latch.accepts_srtp(stranger(), 6, || true));
    }

    #[test]
    fn what_the_source_in_the_offer_sends_is_kept_and_latches_only_when_it_is_authentic() {
        let mut latch = Latch::new(Some(source(4000)), None);
        assert!(latch.accepts_srtp(source(4000), 0, || false));
        assert_eq!(latch.source(), None);
        assert!(latch.accepts_srtp(source(4000), 1, || true));
        assert_eq!(latch.source(), Some(source(4000)));
    }

    #[test]
    fn rtcp_may_come_from_another_port_of_the_same_host() {
        let mut latch = Latch::new(Some(source(4000)), None);
        assert!(latch.accepts_rtcp(source(9).ip()));
        assert!(!latch.accepts_rtcp(stranger().ip()));
        latch.accepts_rtp(stranger(), Some(6), 0);
        assert!(latch.accepts_rtcp(stranger().ip()));
    }
}
