//! Decides which datagrams of one stream are recorded, whichever engine has taken them.
//!
//! Promises, each a test:
//!
//! - Only the source of the stream is recorded; see [`super::latch`]. What is refused is counted by
//!   its reason.
//! - An encrypted stream is recorded as it came. Its packets are authenticated only where something
//!   hangs on it: when a source is new, and now and then, so that a key that does not fit is noticed
//!   while the call goes on.
//! - A flood costs one stream its excess and no other stream anything.

use std::net::{IpAddr, SocketAddr};

use model::trunk::Network;
use siprec::rtp::packet::PacketError;
use siprec::rtp::srtp::{Keying, Receiver};
use siprec::rtp::{Packet, Reception, RtpHeader, rtcp};

use super::latch::Latch;
use super::report::{Reporter, ToSend};

/// Of a stream's packets under encryption, one in so many is authenticated though its source is
/// known: once in a second of audio, for a hundredth of a microsecond each.
const SAMPLED: u64 = 64;

/// How many packets of one stranger a second are authenticated. Each costs some microseconds.
const STRANGERS_PER_SEC: u32 = 50;

/// Sources of one stream that are counted, for its reports.
const MAX_SOURCES: usize = 8;

/// What was agreed about a stream.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Where the SRC says that it sends RTP from and receives RTCP. Absent on hold at 0.0.0.0.
    pub rtp: Option<SocketAddr>,
    pub rtcp: Option<SocketAddr>,
    /// RTCP is on the RTP port, both ways (RFC 5761).
    pub rtcp_mux: bool,
    /// Who signals.
    pub signaling: Option<IpAddr>,
    /// Ticks a second of each payload type. Zero where timestamps are no measure.
    pub clock_rates: Vec<(u8, u32)>,
    pub security: Security,
    /// More than this is not recorded; with bursts of twice as many.
    pub packets_per_sec: u32,
    /// Where it may come from, whoever else is believed. Empty: from anywhere.
    pub sources: Vec<Network>,
}

/// How the packets of a stream are protected.
#[derive(Clone, Debug, Default)]
pub enum Security {
    #[default]
    Plain,
    /// Encrypted, and the keys are not agreed yet: nobody can send anything meant for us.
    KeysToCome,
    Srtp(Box<Keys>),
}

/// The keys of both sides.
#[derive(Clone, Debug)]
pub struct Keys {
    pub theirs: Keying,
    pub ours: Keying,
    /// The first index of the reports that this process sends, beyond those of the one before.
    pub first_report: u32,
    /// Source and rollover counter as far as a process before this one knew.
    pub rollover: Option<(u32, u32)>,
}

/// On which of a stream's two ports a datagram came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    Rtp,
    Rtcp,
}

/// A datagram and where it is from.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub bytes: &'a [u8],
    pub source: SocketAddr,
    pub half: Half,
    pub arrival_boot_ns: u64,
}

/// What a datagram that is recorded is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Rtp,
    Rtcp,
}

/// Why a datagram is not recorded, as the metric `linekeeper_rtp_rejected_packets_total` names it.
pub type Reason = &'static str;

pub struct Gate {
    expected: Expected,
    latch: Latch,
    /// Of an encrypted stream.
    guard: Option<Guard>,
    cap: Cap,
    /// Packets that were found to be of somebody without the key, and were not told.
    not_authentic: u64,
    /// The one heard last is last.
    receptions: Vec<Reception>,
    lost_told: u64,
    reporter: Reporter,
}

struct Guard {
    receiver: Receiver,
    /// Of the newest packet that was authenticated: one that was recorded elsewhere and is sent
    /// again has no newer one.
    newest: Option<(u32, u64)>,
    accepted: u64,
    strangers: Cap,
    rollover_told: Option<(u32, u32)>,
}

impl Gate {
    pub fn new(expected: Expected, reporter: Reporter) -> Self {
        let mut gate = Self {
            latch: Latch::new(expected.rtp, expected.signaling),
            guard: None,
            cap: Cap::new(expected.packets_per_sec),
            not_authentic: 0,
            receptions: Vec::new(),
            lost_told: 0,
            reporter,
            expected,
        };
        gate.take_keys();
        gate
    }

    /// A new offer was answered.
    pub fn expect(&mut self, expected: Expected) {
        self.latch.offer(expected.rtp);
        if self.expected.packets_per_sec != expected.packets_per_sec {
            self.cap = Cap::new(expected.packets_per_sec);
        }
        self.expected = expected;
        self.take_keys();
    }

    fn take_keys(&mut self) {
        let Security::Srtp(keys) = &self.expected.security else {
            self.guard = None;
            self.reporter.encrypt(None);
            return;
        };
        self.reporter.encrypt(Some((&keys.ours, keys.first_report)));
        let guard = self.guard.get_or_insert_with(|| {
            let mut receiver = Receiver::default();
            if let Some((ssrc, roc)) = keys.rollover {
                receiver.resume(ssrc, roc);
            }
            let strangers = Cap::new(STRANGERS_PER_SEC);
            Guard { receiver, newest: None, accepted: 0, strangers, rollover_told: keys.rollover }
        });
        guard.receiver.add_keys(&keys.theirs);
    }

    /// Whether a datagram is of the stream, and as what.
    pub fn judge(&mut self, arrived: &Datagram<'_>) -> Result<Kind, Reason> {
        let kind = self.admit(arrived)?;
        if self.cap.take(arrived.arrival_boot_ns) { Ok(kind) } else { Err("rate") }
    }

    fn admit(&mut self, arrived: &Datagram<'_>) -> Result<Kind, Reason> {
        let sources = &self.expected.sources;
        if !sources.is_empty() && !sources.iter().any(|net| net.contains(arrived.source.ip())) {
            return Err("network");
        }
        if matches!(self.expected.security, Security::KeysToCome) {
            return Err("not_authentic");
        }
        let header = match (Packet::parse(arrived.bytes), arrived.half) {
            // Both kinds on one port: RFC 5761 §4.
            (Ok(Packet::Rtcp(_)), _) => return self.admit_rtcp(arrived).map(|()| Kind::Rtcp),
            (Ok(Packet::Rtp(header)), Half::Rtp) => Some(header),
            // Encrypted, the last byte does not count the padding. In plain packets it is wrong, and
            // their audio may be good all the same; that is for the decoder to find out.
            (Err(PacketError::Padding { .. }), Half::Rtp) => {
                RtpHeader::parse_sealed(arrived.bytes).ok().filter(|_| self.guard.is_some())
            }
            _ => return Err("not_rtp"),
        };
        let at = arrived.arrival_boot_ns;
        let is_heard = match (&mut self.guard, header) {
            (Some(guard), Some(header)) => {
                let expected = self.latch.is_expected(arrived.source);
                let mut failed = false;
                let is_heard = self.latch.accepts_srtp(arrived.source, at, || {
                    let fits = guard.is_authentic(arrived.bytes, header.ssrc, expected, at);
                    failed = !fits;
                    fits
                });
                if is_heard && !failed && guard.is_sampled() {
                    failed = !guard.samples_well(arrived.bytes, header.ssrc);
                    if failed && self.latch.source() == Some(arrived.source) {
                        self.latch.doubt();
                    }
                }
                self.not_authentic += u64::from(failed);
                is_heard
            }
            (Some(_), None) => return Err("not_rtp"),
            (None, header) => {
                let ssrc = header.map(|header| header.ssrc);
                self.latch.accepts_rtp(arrived.source, ssrc, at)
            }
        };
        if !is_heard {
            return Err("source");
        }
        if let Some(header) = header {
            self.count(&header, at);
        }
        Ok(Kind::Rtp)
    }

    fn admit_rtcp(&mut self, arrived: &Datagram<'_>) -> Result<(), Reason> {
        if !self.latch.accepts_rtcp(arrived.source.ip()) {
            return Err("source");
        }
        let opened = match &mut self.guard {
            None => Ok(None),
            Some(guard) => guard.receiver.open_rtcp(arrived.bytes).map(Some),
        };
        match opened {
            Ok(opened) => {
                self.reporter.heard_from(arrived.source);
                let compound = opened.as_deref().unwrap_or(arrived.bytes);
                self.read_reports(compound, arrived.arrival_boot_ns);
            }
            // Recorded like everything from there, and nothing is learned from it.
            Err(_) => self.not_authentic += 1,
        }
        Ok(())
    }

    fn read_reports(&mut self, compound: &[u8], arrival_boot_ns: u64) {
        for packet in rtcp::parse(compound) {
            match packet {
                rtcp::Rtcp::SenderReport { ssrc, info, .. } => {
                    self.reporter.heard_ssrc(ssrc);
                    if let Some(reception) = self.receptions.iter_mut().find(|r| r.ssrc() == ssrc) {
                        reception.sender_report(info.compact_ntp(), arrival_boot_ns);
                    }
                }
                rtcp::Rtcp::ReceiverReport { ssrc, .. } => self.reporter.heard_ssrc(ssrc),
                rtcp::Rtcp::Bye { ssrcs } => self.receptions.retain(|r| !ssrcs.contains(&r.ssrc())),
            }
        }
    }

    fn count(&mut self, header: &RtpHeader<'_>, arrival_boot_ns: u64) {
        let rates = &self.expected.clock_rates;
        let rate = rates.iter().find(|(number, _)| *number == header.payload_type);
        let rate = rate.map_or(8_000, |(_, rate)| *rate);
        if self.receptions.last().is_none_or(|newest| newest.ssrc() != header.ssrc) {
            self.reporter.heard_ssrc(header.ssrc);
            let known = self.receptions.iter().position(|known| known.ssrc() == header.ssrc);
            let reception = match known {
                Some(at) => self.receptions.remove(at),
                None => Reception::new(header),
            };
            if self.receptions.len() == MAX_SOURCES {
                self.receptions.remove(0);
            }
            self.receptions.push(reception);
        }
        if let Some(reception) = self.receptions.last_mut() {
            reception.count(header, rate, arrival_boot_ns);
        }
    }

    /// Packets lost and not told before. One that comes a visit late was told as lost; the recording
    /// has it all the same, and the finished recording's count is the exact one.
    pub fn newly_lost(&mut self) -> u64 {
        let lost: u64 = self.receptions.iter().map(Reception::lost).sum();
        let new = lost.saturating_sub(self.lost_told);
        self.lost_told = lost;
        new
    }

    /// Packets under the wrong key, or of a stranger, since this was asked last.
    pub fn take_not_authentic(&mut self) -> u64 {
        std::mem::take(&mut self.not_authentic)
    }

    /// Source and rollover counter, when either is not as it was told last: for whoever goes on
    /// after this process.
    pub fn new_rollover(&mut self) -> Option<(u32, u32)> {
        let guard = self.guard.as_mut()?;
        let rollover = guard.receiver.rollover();
        if rollover == guard.rollover_told {
            return None;
        }
        guard.rollover_told = rollover;
        rollover
    }

    /// The report that is due by now, and where to.
    pub fn report(&mut self, now_boot_ns: u64) -> Option<ToSend> {
        if !self.reporter.is_due(now_boot_ns) {
            return None;
        }
        let receptions = self.receptions.iter_mut().rev();
        let blocks: Vec<_> = receptions.filter_map(|r| r.report(now_boot_ns)).collect();
        self.reporter.report(now_boot_ns, &self.expected, self.latch.source(), &blocks)
    }

    /// The goodbye to whoever had reports from us.
    pub fn farewell(&mut self) -> Option<ToSend> {
        self.reporter.farewell(&self.expected, self.latch.source())
    }
}

impl Guard {
    /// Whether a source that is not latched has the key. A packet that was sent before says nothing
    /// about who sends it now.
    fn is_authentic(&mut self, packet: &[u8], ssrc: u32, is_expected: bool, at_ns: u64) -> bool {
        if !is_expected && !self.strangers.take(at_ns) {
            return false;
        }
        let Ok(index) = self.receiver.authenticate(packet) else { return false };
        let is_new = self.newest.is_none_or(|(known, newest)| known != ssrc || index > newest);
        if is_new {
            self.newest = Some((ssrc, index));
        }
        is_new
    }

    fn is_sampled(&mut self) -> bool {
        self.accepted += 1;
        self.accepted.is_multiple_of(SAMPLED)
    }

    /// Whether a packet that was believed without being asked stands the test.
    fn samples_well(&mut self, packet: &[u8], ssrc: u32) -> bool {
        let Ok(index) = self.receiver.authenticate(packet) else { return false };
        let is_new = self.newest.is_none_or(|(known, newest)| known != ssrc || index > newest);
        if is_new {
            self.newest = Some((ssrc, index));
        }
        true
    }
}

/// Lets so many through in a second, and twice as many in a burst. Time is that of arrival, so that
/// a visit that comes late does not make a flood of what came in time.
struct Cap {
    cost_ns: u64,
    credit_ns: u64,
    newest_ns: u64,
}

const FULL_CREDIT_NS: u64 = 2_000_000_000;

impl Cap {
    fn new(per_sec: u32) -> Self {
        let cost_ns = 1_000_000_000 / u64::from(per_sec.max(1));
        Self { cost_ns, credit_ns: FULL_CREDIT_NS, newest_ns: 0 }
    }

    fn take(&mut self, at_ns: u64) -> bool {
        let passed_ns = at_ns.saturating_sub(self.newest_ns);
        self.newest_ns = self.newest_ns.max(at_ns);
        self.credit_ns = self.credit_ns.saturating_add(passed_ns).min(FULL_CREDIT_NS);
        match self.credit_ns.checked_sub(self.cost_ns) {
            Some(rest) => {
                self.credit_ns = rest;
                true
            }
            None => false,
        }
    }
}

impl Expected {
    /// A plain stream about which nothing was agreed.
    pub fn anything() -> Self {
        Self {
            rtp: None,
            rtcp: None,
            rtcp_mux: false,
            signaling: None,
            clock_rates: Vec::new(),
            security: Security::Plain,
            packets_per_sec: 2_000,
            sources: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use siprec::rtp::srtp::{MasterKey, Sender, Suite};

    use super::*;

    const SRC: &str = "192.0.2.1:4000";
    const STRANGER: &str = "198.51.100.66:6666";
    const MS: u64 = 1_000_000;

    fn keying(seed: u8) -> Keying {
        let suite = Suite::AesCm128Sha1Tag80;
        Keying::new(suite, vec![MasterKey::new(suite, &[seed; 30], &[]).unwrap()]).unwrap()
    }

    fn secure() -> Expected {
        let (theirs, ours) = (keying(1), keying(2));
        let keys = Keys { theirs, ours, first_report: 0, rollover: None };
        Expected { security: Security::Srtp(Box::new(keys)), ..plain() }
    }

    fn plain() -> Expected {
        Expected { rtp: Some(SRC.parse().unwrap()), ..Expected::anything() }
    }

    fn gate(expected: Expected) -> Gate {
        Gate::new(expected, Reporter::new("name".to_owned(), 0))
    }

    fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 160).to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0xff; 160]);
        packet
    }

    struct Sends {
        sender: Sender,
        from: SocketAddr,
    }

    impl Sends {
        fn new(seed: u8, from: &str) -> Self {
            Self { sender: Sender::new(&keying(seed)), from: from.parse().unwrap() }
        }

        fn packet(&mut self, sequence: u16) -> Vec<u8> {
            let mut packet = rtp(7, sequence);
            self.sender.seal_rtp(&mut packet).unwrap();
            packet
        }

        fn send(&mut self, gate: &mut Gate, sequence: u16) -> Result<Kind, Reason> {
            let packet = self.packet(sequence);
            arrive(gate, &packet, self.from, u64::from(sequence) * 20)
        }
    }

    fn arrive(gate: &mut Gate, bytes: &[u8], source: SocketAddr, ms: u64) -> Result<Kind, Reason> {
        let half = Half::Rtp;
        gate.judge(&Datagram { bytes, source, half, arrival_boot_ns: 1_000 * MS + ms * MS })
    }

    #[test]
    fn audio_is_taken_from_the_networks_that_are_allowed_alone() {
        let sources = vec!["198.51.100.0/24".parse().unwrap()];
        let mut gate = gate(Expected { sources, ..plain() });
        let (src, other) = (SRC.parse().unwrap(), STRANGER.parse().unwrap());
        // Though the offer names it.
        assert_eq!(arrive(&mut gate, &rtp(7, 1), src, 20), Err("network"));
        assert_eq!(arrive(&mut gate, &rtp(7, 1), other, 20), Ok(Kind::Rtp));
    }

    #[test]
    fn a_stranger_who_has_not_the_key_is_not_heard_before_the_src_nor_instead_of_it() {
        let mut gate = gate(secure());
        let mut stranger = Sends::new(9, STRANGER);
        let mut translated = Sends::new(1, "203.0.113.9:7000");
        for sequence in 0..10 {
            assert_eq!(stranger.send(&mut gate, sequence), Err("source"));
        }
        for sequence in 10..300 {
            assert_eq!(translated.send(&mut gate, sequence), Ok(Kind::Rtp));
            assert_eq!(stranger.send(&mut gate, sequence), Err("source"));
        }
        // Half an hour of silence later.
        assert_eq!(stranger.send(&mut gate, 65_000), Err("source"));
        assert_eq!(gate.latch.source(), Some(translated.from));
    }

    #[test]
    fn packets_that_are_sent_again_from_elsewhere_move_nothing() {
        let mut gate = gate(secure());
        let mut src = Sends::new(1, SRC);
        let packets: Vec<_> = (0..200).map(|sequence| src.packet(sequence)).collect();
        let stranger: SocketAddr = STRANGER.parse().unwrap();
        for (ms, packet) in packets.iter().enumerate() {
            assert_eq!(arrive(&mut gate, packet, src.from, ms as u64 * 20), Ok(Kind::Rtp));
        }
        for packet in &packets[..60] {
            assert_eq!(arrive(&mut gate, packet, stranger, 5_000), Err("source"));
        }
        assert_eq!(gate.latch.source(), Some(src.from));
    }

    #[test]
    fn one_who_pretends_to_be_the_source_is_found_out_and_the_src_goes_on_being_heard() {
        let mut gate = gate(secure());
        let mut src = Sends::new(1, "203.0.113.9:7000");
        let mut pretender = Sends::new(9, "203.0.113.9:7000");
        for sequence in 0..100 {
            assert_eq!(src.send(&mut gate, sequence), Ok(Kind::Rtp));
        }
        let believed = (100..300).filter(|n| pretender.send(&mut gate, *n).is_ok()).count();
        assert!(believed <= SAMPLED as usize, "{believed}");
        for sequence in 300..310 {
            assert_eq!(src.send(&mut gate, sequence), Ok(Kind::Rtp));
        }
    }

    #[test]
    fn what_the_src_itself_sends_is_kept_though_its_key_does_not_fit() {
        let mut gate = gate(secure());
        let mut src = Sends::new(77, SRC);
        for sequence in 0..100 {
            assert_eq!(src.send(&mut gate, sequence), Ok(Kind::Rtp));
        }
        assert_eq!(gate.latch.source(), None);
    }

    #[test]
    fn nothing_is_heard_before_the_keys_are_agreed() {
        let mut gate = gate(Expected { security: Security::KeysToCome, ..plain() });
        let mut src = Sends::new(1, SRC);
        assert_eq!(src.send(&mut gate, 0), Err("not_authentic"));
        gate.expect(secure());
        assert_eq!(src.send(&mut gate, 1), Ok(Kind::Rtp));
    }

    #[test]
    fn a_new_key_is_taken_beside_the_old_one() {
        let mut gate = gate(secure());
        let mut src = Sends::new(1, "203.0.113.9:7000");
        src.send(&mut gate, 0).unwrap();
        let mut expected = secure();
        let Security::Srtp(keys) = &mut expected.security else { panic!() };
        keys.theirs = keying(3);
        gate.expect(expected);
        let mut moved = Sends::new(3, "203.0.113.10:9000");
        assert_eq!(src.send(&mut gate, 1), Ok(Kind::Rtp));
        assert_eq!(moved.send(&mut gate, 2), Ok(Kind::Rtp));
        assert_eq!(gate.latch.source(), Some(moved.from));
    }

    #[test]
    fn the_rollover_counter_is_told_when_it_changes_and_is_gone_on_from() {
        let mut gate = gate(secure());
        let mut src = Sends::new(1, "203.0.113.9:7000");
        src.send(&mut gate, 60_000).unwrap();
        assert_eq!(gate.new_rollover(), Some((7, 0)));
        assert_eq!(gate.new_rollover(), None);
        for n in 60_001..66_000_u32 {
            src.send(&mut gate, n as u16).unwrap();
        }
        assert_eq!(gate.new_rollover(), Some((7, 1)));
        for n in 66_000..(131_072 * 4_u32) {
            // Only the sender counts: the recorder is down.
            src.packet(n as u16);
        }
        let mut expected = secure();
        let Security::Srtp(keys) = &mut expected.security else { panic!() };
        keys.rollover = Some((7, 1));
        let mut restarted = self::gate(expected);
        assert_eq!(src.send(&mut restarted, 5), Ok(Kind::Rtp));
        assert_eq!(restarted.new_rollover(), Some((7, 8)));
    }

    #[test]
    fn a_flood_is_cut_to_the_cap_and_what_came_in_time_is_no_flood() {
        let mut gate = gate(Expected { packets_per_sec: 100, ..plain() });
        let source = SRC.parse().unwrap();
        let flood = |gate: &mut Gate, from: u16, ms: u64| {
            (from..from + 1_000).filter(|n| arrive(gate, &rtp(7, *n), source, ms).is_ok()).count()
        };
        assert_eq!(flood(&mut gate, 0, 0), 200);
        assert_eq!(flood(&mut gate, 1_000, 1_000), 100);
        let steady = (0..500_u16).filter(|n| {
            arrive(&mut gate, &rtp(7, 2_000 + n), source, 10_000 + u64::from(*n) * 20).is_ok()
        });
        assert_eq!(steady.count(), 500);
    }

    #[test]
    fn lost_packets_are_told_once_and_late_ones_are_not_lost() {
        let mut gate = gate(plain());
        let source = SRC.parse().unwrap();
        for sequence in [65_534, 65_535, 1, 0, 4] {
            arrive(&mut gate, &rtp(7, sequence), source, 0).unwrap();
        }
        assert_eq!(gate.newly_lost(), 2);
        assert_eq!(gate.newly_lost(), 0);
        arrive(&mut gate, &rtp(8, 30_000), source, 0).unwrap();
        assert_eq!(gate.newly_lost(), 0, "another SSRC begins anew");
    }

    #[test]
    fn what_is_not_rtp_is_refused_and_bad_padding_is_not() {
        let mut gate = gate(plain());
        let source = SRC.parse().unwrap();
        assert_eq!(arrive(&mut gate, b"not rtp at all", source, 0), Err("not_rtp"));
        let mut padded = rtp(7, 1);
        padded[0] |= 0x20;
        assert_eq!(arrive(&mut gate, &padded, source, 0), Ok(Kind::Rtp));
    }

    #[test]
    fn an_encrypted_packet_with_padding_is_authenticated_like_any_other() {
        let mut gate = gate(secure());
        let mut src = Sends::new(1, "203.0.113.9:7000");
        for sequence in 0..50 {
            let mut packet = rtp(7, sequence);
            packet[0] |= 0x20;
            *packet.last_mut().unwrap() = 4;
            src.sender.seal_rtp(&mut packet).unwrap();
            assert_eq!(arrive(&mut gate, &packet, src.from, u64::from(sequence)), Ok(Kind::Rtp));
        }
    }
}
