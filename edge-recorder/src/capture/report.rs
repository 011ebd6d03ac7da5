//! The RTCP that a recorder sends: receiver reports with its name, and a goodbye (RFC 3550 §6,
//! RFC 7866 §8.1.1).
//!
//! By them an SRC knows that somebody listens and how much arrives; some take a silent receiver for
//! a dead one. They leave from the ports of the stream, as symmetric RTCP wants (RFC 7866 §8.1.8),
//! encrypted where the stream is.
//!
//! Nothing is sent to a place that neither the offer nor a recorded packet names.

use std::net::SocketAddr;

use siprec::rtp::rtcp::{self, ReportBlock};
use siprec::rtp::srtp::{Keying, Sender};

use super::gate::Expected;

/// RFC 3550 §6.2: at least five seconds, of which §6.3.1 takes half to one and a half, and divides
/// by e − 3/2. The first report comes in half the time.
const INTERVAL_NS: u64 = 5_000_000_000;

/// An RTCP compound and the port of ours from which it leaves.
#[derive(Debug, PartialEq, Eq)]
pub struct ToSend {
    pub bytes: Vec<u8>,
    pub to: SocketAddr,
    /// From the RTP port (RFC 5761) instead of the one above it.
    pub from_rtp_port: bool,
}

pub struct Reporter {
    cname: String,
    /// Our own, though we send no RTP (RFC 3550 §6.4.2).
    ssrc: u32,
    next_boot_ns: u64,
    sender: Option<(Keying, Sender)>,
    /// Where the SRC's RTCP came from last.
    heard: Option<SocketAddr>,
    has_reported: bool,
    /// An SSRC that we gave up because somebody else has it (RFC 3550 §8.2).
    given_up: Option<u32>,
}

impl Reporter {
    /// `cname` is the same on all streams of a call (RFC 7022 §4).
    pub fn new(cname: String, now_boot_ns: u64) -> Self {
        let next_boot_ns = now_boot_ns + random_interval_ns() / 2;
        Self {
            cname,
            ssrc: random_u32(),
            next_boot_ns,
            sender: None,
            heard: None,
            has_reported: false,
            given_up: None,
        }
    }

    /// With which keys, and from which index on. The same keys go on counting.
    pub fn encrypt(&mut self, keys: Option<(&Keying, u32)>) {
        self.sender = keys.map(|(keying, first)| match self.sender.take() {
            Some((known, sender)) if known == *keying => (known, sender),
            _ => (keying.clone(), Sender::new(keying).starting_rtcp_at(first)),
        });
    }

    /// RTCP came from there that is of this stream.
    pub fn heard_from(&mut self, source: SocketAddr) {
        self.heard = Some(source);
    }

    /// Somebody else has this SSRC.
    pub fn heard_ssrc(&mut self, ssrc: u32) {
        if ssrc == self.ssrc {
            self.given_up = Some(self.ssrc);
            self.ssrc = random_u32();
        }
    }

    pub fn is_due(&self, now_boot_ns: u64) -> bool {
        now_boot_ns >= self.next_boot_ns
    }

    /// The report that is due. `None` when nobody can be told.
    pub fn report(
        &mut self,
        now_boot_ns: u64,
        expected: &Expected,
        rtp_source: Option<SocketAddr>,
        blocks: &[ReportBlock],
    ) -> Option<ToSend> {
        self.next_boot_ns = now_boot_ns + random_interval_ns();
        let to = self.target(expected, rtp_source)?;
        let mut compound = rtcp::receiver_report(self.ssrc, blocks, &self.cname);
        if let Some(given_up) = self.given_up.take() {
            rtcp::append_bye(&mut compound, &[given_up]);
        }
        self.has_reported = true;
        self.sealed(compound, to, expected)
    }

    /// Goodbye, to whoever had a report from us (RFC 3550 §6.3.7).
    pub fn farewell(
        &mut self,
        expected: &Expected,
        rtp_source: Option<SocketAddr>,
    ) -> Option<ToSend> {
        let to = self.target(expected, rtp_source).filter(|_| self.has_reported)?;
        let mut compound = rtcp::receiver_report(self.ssrc, &[], &self.cname);
        rtcp::append_bye(&mut compound, &[self.ssrc]);
        self.sealed(compound, to, expected)
    }

    fn sealed(
        &mut self,
        mut bytes: Vec<u8>,
        to: SocketAddr,
        expected: &Expected,
    ) -> Option<ToSend> {
        if let Some((_, sender)) = &mut self.sender {
            sender.seal_rtcp(&mut bytes).ok()?;
        }
        Some(ToSend { bytes, to, from_rtp_port: expected.rtcp_mux })
    }

    /// To where RTCP came from; before any came, to where the offer says, or beside the source of
    /// the stream when that is behind a translator.
    fn target(&self, expected: &Expected, rtp_source: Option<SocketAddr>) -> Option<SocketAddr> {
        if expected.rtcp_mux {
            return rtp_source.or(expected.rtp);
        }
        let beside = |rtp: SocketAddr| Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?));
        match (self.heard, rtp_source) {
            (Some(heard), _) => Some(heard),
            (None, Some(source)) if expected.rtp.is_none_or(|rtp| rtp.ip() != source.ip()) => {
                beside(source)
            }
            (None, _) => expected.rtcp.or_else(|| expected.rtp.and_then(beside)),
        }
    }
}

/// RFC 3550 §6.3.1, for a session of two.
fn random_interval_ns() -> u64 {
    // From 0.5 to 1.5, divided by e − 3/2 = 1.21828.
    let factor = 0.5 + f64::from(random_u32()) / f64::from(u32::MAX);
    (INTERVAL_NS as f64 * factor / 1.218_28) as u64
}

/// Neither SSRCs nor intervals are secrets, but they must differ from those of others.
fn random_u32() -> u32 {
    getrandom::u32().unwrap_or_else(|_| crate::journal::Moment::now().boot_ns as u32)
}

#[cfg(test)]
mod tests {
    use siprec::rtp::rtcp::Rtcp;
    use siprec::rtp::srtp::{MasterKey, Receiver, Suite};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn expected() -> Expected {
        let (rtp, rtcp) = (Some(at("192.0.2.1:4000")), Some(at("192.0.2.1:4001")));
        Expected { rtp, rtcp, ..Expected::anything() }
    }

    fn report(reporter: &mut Reporter, expected: &Expected, source: Option<&str>) -> ToSend {
        reporter.report(0, expected, source.map(at), &[]).expect("a report")
    }

    fn sources(bytes: &[u8]) -> Vec<Rtcp> {
        rtcp::parse(bytes)
    }

    #[test]
    fn reports_go_where_the_src_hears_them() {
        let (expected, fresh) = (expected(), || Reporter::new("x".to_owned(), 0));
        assert_eq!(report(&mut fresh(), &expected, None).to, at("192.0.2.1:4001"));
        assert_eq!(
            report(&mut fresh(), &expected, Some("192.0.2.1:4000")).to,
            at("192.0.2.1:4001")
        );
        // Behind a translator, and then where its reports come from.
        let mut reporter = fresh();
        assert_eq!(
            report(&mut reporter, &expected, Some("203.0.113.9:700")).to,
            at("203.0.113.9:701")
        );
        reporter.heard_from(at("203.0.113.9:888"));
        assert_eq!(
            report(&mut reporter, &expected, Some("203.0.113.9:700")).to,
            at("203.0.113.9:888")
        );
        let mux = Expected { rtcp_mux: true, ..expected };
        let muxed = report(&mut fresh(), &mux, Some("203.0.113.9:700"));
        assert_eq!((muxed.to, muxed.from_rtp_port), (at("203.0.113.9:700"), true));
        assert_eq!(fresh().report(0, &Expected::anything(), None, &[]), None);
    }

    #[test]
    fn they_come_every_two_to_six_seconds_and_not_in_step() {
        let mut reporter = Reporter::new("x".to_owned(), 0);
        let mut now = 0;
        let mut intervals = Vec::new();
        for _ in 0..200 {
            let before = now;
            while !reporter.is_due(now) {
                now += SECOND / 100;
            }
            reporter.report(now, &expected(), None, &[]);
            intervals.push(now - before);
        }
        let (least, most) = (intervals.iter().min().unwrap(), intervals.iter().max().unwrap());
        assert!(*least >= SECOND && *most <= 62 * SECOND / 10, "{least} {most}");
        assert!(most - least > SECOND, "{least} {most}");
    }

    #[test]
    fn goodbye_is_said_to_who_was_told_something() {
        let mut reporter = Reporter::new("x".to_owned(), 0);
        assert_eq!(reporter.farewell(&expected(), None), None);
        let told = sources(&report(&mut reporter, &expected(), None).bytes);
        let Rtcp::ReceiverReport { ssrc, .. } = told[0] else { panic!("{told:?}") };
        let goodbye = reporter.farewell(&expected(), None).unwrap();
        assert_eq!(sources(&goodbye.bytes)[1], Rtcp::Bye { ssrcs: vec![ssrc] });
    }

    #[test]
    fn an_ssrc_that_somebody_else_has_is_given_up_with_a_goodbye() {
        let mut reporter = Reporter::new("x".to_owned(), 0);
        let old = reporter.ssrc;
        reporter.heard_ssrc(old.wrapping_add(1));
        assert_eq!(reporter.ssrc, old);
        reporter.heard_ssrc(old);
        assert_ne!(reporter.ssrc, old);
        let first = sources(&report(&mut reporter, &expected(), None).bytes);
        assert_eq!(first[1], Rtcp::Bye { ssrcs: vec![old] });
        assert_eq!(sources(&report(&mut reporter, &expected(), None).bytes).len(), 1);
    }

    #[test]
    fn encrypted_reports_are_read_by_the_src_and_the_same_keys_go_on_counting() {
        let suite = Suite::AesCm128Sha1Tag32;
        let keying = |seed| {
            Keying::new(suite, vec![MasterKey::new(suite, &[seed; 30], &[]).unwrap()]).unwrap()
        };
        let mut reporter = Reporter::new("x".to_owned(), 0);
        let index = |to_send: &ToSend| {
            let bytes = &to_send.bytes[to_send.bytes.len() - 14..];
            u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) & 0x7fff_ffff
        };
        let mut indexes = Vec::new();
        for (seed, first) in [(1, 5 << 20), (1, 5 << 20), (2, 6 << 20)] {
            reporter.encrypt(Some((&keying(seed), first)));
            let told = report(&mut reporter, &expected(), None);
            indexes.push(index(&told));
            let plain = Receiver::new(&keying(seed)).open_rtcp(&told.bytes).unwrap();
            assert!(matches!(sources(&plain)[0], Rtcp::ReceiverReport { .. }));
        }
        assert_eq!(indexes, [5 << 20, (5 << 20) + 1, 6 << 20]);
    }
}
