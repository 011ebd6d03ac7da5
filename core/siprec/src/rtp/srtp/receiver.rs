//! Receives what the other side of one stream protects, whichever of its keys and sources.

use std::sync::Arc;

use super::session_keys::{Opened, RTCP_HEADER_BYTES, SessionKeys, index_of};
use super::{Keying, MasterKey, Suite};
use crate::rtp::packet::{PacketError, RtpHeader};

/// Sources remembered per stream. An SRC has one, and another after each transfer.
const MAX_SOURCES: usize = 16;

/// Keys remembered per stream: those of the newest offers.
const MAX_KEYS: usize = 16;

/// How many rollovers nobody may have heard: at 50 packets a second each is 22 minutes.
const MISSED_ROLLOVERS: u32 = 8;

/// Why a packet is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("not an RTP packet")]
    NotRtp(#[source] PacketError),
    #[error("too short for SRTCP")]
    TooShort,
    /// Of another sender, under another key, or changed on its way.
    #[error("not authentic")]
    NotAuthentic,
}

/// The receiving side of one stream.
#[derive(Clone, Default)]
pub struct Receiver {
    /// The one that fitted last is first.
    keys: Vec<Arc<Key>>,
    /// The one heard last is last.
    sources: Vec<Source>,
}

struct Key {
    /// To know a key that is offered again.
    identity: (Suite, MasterKey),
    session: SessionKeys,
}

/// A sender by its SSRC.
#[derive(Clone, Copy, Debug)]
struct Source {
    ssrc: u32,
    /// Of its newest authentic packet.
    newest: u64,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("keys", &self.keys.len())
            .field("sources", &self.sources.len())
            .finish()
    }
}

impl Receiver {
    pub fn new(keying: &Keying) -> Self {
        let mut receiver = Self::default();
        receiver.add_keys(keying);
        receiver
    }

    /// Takes the keys of a new offer as well. Keys that are known stay as they are.
    pub fn add_keys(&mut self, keying: &Keying) {
        for master in &keying.keys {
            let identity = (keying.suite, master.clone());
            if self.keys.iter().all(|known| known.identity != identity) {
                let session = SessionKeys::derive(keying, master);
                self.keys.insert(0, Arc::new(Key { identity, session }));
            }
        }
        self.keys.truncate(MAX_KEYS);
    }

    /// Decrypts an RTP packet.
    pub fn open_rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, Rejected> {
        let (_, opened) = self.find(packet)?;
        // `find` has moved it there.
        Ok(self.keys[0].session.plain_rtp(packet, opened))
    }

    /// Whether an RTP packet is authentic, and its index: the 48 bits that never repeat (RFC 3711
    /// §3.3.1).
    pub fn authenticate(&mut self, packet: &[u8]) -> Result<u64, Rejected> {
        let (index, _) = self.find(packet)?;
        Ok(index)
    }

    /// Decrypts an RTCP compound.
    pub fn open_rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, Rejected> {
        if packet.len() < RTCP_HEADER_BYTES {
            return Err(Rejected::TooShort);
        }
        for at in 0..self.keys.len() {
            let session = &self.keys[at].session;
            let mut lengths = mki_lengths(session);
            if let Some(plain) = lengths.find_map(|bytes| session.open_rtcp(packet, bytes)) {
                self.keys[..=at].rotate_right(1);
                return Ok(plain);
            }
        }
        Err(Rejected::NotAuthentic)
    }

    /// Source and rollover counter of the newest authentic packet, for [`Self::resume`].
    pub fn rollover(&self) -> Option<(u32, u32)> {
        self.sources.last().map(|source| (source.ssrc, (source.newest >> 16) as u32))
    }

    /// Goes on with a source that a receiver before this one knew.
    pub fn resume(&mut self, ssrc: u32, roc: u32) {
        // From the middle of the round every sequence number is nearest to itself.
        self.remember(ssrc, index_of(roc, 0x8000));
    }

    fn find(&mut self, packet: &[u8]) -> Result<(u64, Opened), Rejected> {
        let header = RtpHeader::parse_sealed(packet).map_err(Rejected::NotRtp)?;
        let header_bytes = packet.len() - header.payload.len();
        let known = self.sources.iter().find(|source| source.ssrc == header.ssrc);
        let rocs = likely_rocs(known.map(|source| source.newest), header.sequence);
        for at in 0..self.keys.len() {
            let session = &self.keys[at].session;
            let opened = mki_lengths(session)
                .find_map(|bytes| session.open_rtp(packet, header_bytes, bytes, rocs.clone()));
            if let Some(opened) = opened {
                self.keys[..=at].rotate_right(1);
                let index = index_of(opened.roc, header.sequence);
                self.remember(header.ssrc, index);
                return Ok((index, opened));
            }
        }
        Err(Rejected::NotAuthentic)
    }

    fn remember(&mut self, ssrc: u32, index: u64) {
        let known = self.sources.iter().position(|source| source.ssrc == ssrc);
        let mut source = match known {
            Some(at) => self.sources.remove(at),
            None => Source { ssrc, newest: index },
        };
        // A counter that begins anew with a new key is followed down; a late packet is not.
        let begins_anew = source.newest.saturating_sub(index) > u64::from(u16::MAX);
        if index > source.newest || begins_anew {
            source.newest = index;
        }
        if self.sources.len() == MAX_SOURCES {
            self.sources.remove(0);
        }
        self.sources.push(source);
    }
}

/// The lengths of the key identifier to try: as agreed, and none, since some announce one and
/// do not send it.
fn mki_lengths(session: &SessionKeys) -> impl Iterator<Item = usize> + use<> {
    let agreed = session.mki.len();
    std::iter::once(agreed).chain((agreed > 0).then_some(0))
}

/// The rollover counters to try, the likeliest first.
///
/// That is the one by which the packet is nearest the newest one (RFC 3711 §3.3.1), then those
/// beside it, then those after it for a receiver that was away; and zero, where senders begin that
/// take a new key for a new stream.
fn likely_rocs(newest: Option<u64>, sequence: u16) -> impl Iterator<Item = u32> + Clone {
    let nearest = match newest {
        None => 0,
        Some(newest) => {
            // Read as i16, the 16-bit difference is the short way round the circle.
            let distance = i64::from(sequence.wrapping_sub(newest as u16) as i16);
            (newest.saturating_add_signed(distance) >> 16) as u32
        }
    };
    let beside = [Some(nearest), nearest.checked_add(1), nearest.checked_sub(1)];
    let after = (2..=MISSED_ROLLOVERS).filter_map(move |missed| nearest.checked_add(missed));
    beside.into_iter().flatten().chain(after).chain((nearest > 1).then_some(0))
}

#[cfg(test)]
mod tests {
    use super::super::Sender;
    use super::*;

    const SUITE: Suite = Suite::AesCm128Sha1Tag80;

    fn keying(suite: Suite, seed: u8, mki: &[u8]) -> Keying {
        let bytes: Vec<u8> =
            (0..suite.key_and_salt_bytes()).map(|n| seed.wrapping_add(n as u8)).collect();
        Keying::new(suite, vec![MasterKey::new(suite, &bytes, mki).unwrap()]).unwrap()
    }

    /// A packet with contributors and an extension, whose length is no multiple of anything.
    fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x91, 0x80];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 160]);
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0, 0, 0, 9]);
        packet.extend([0xbe, 0xde, 0, 1, 1, 2, 3, 4]);
        packet.extend((0..163_u8).map(|n| n ^ sequence as u8));
        packet
    }

    fn sealed(sender: &mut Sender, ssrc: u32, sequence: u16) -> Vec<u8> {
        let mut packet = rtp(ssrc, sequence);
        sender.seal_rtp(&mut packet).unwrap();
        packet
    }

    #[test]
    fn every_suite_comes_back_as_it_was_with_and_without_a_key_identifier() {
        for suite in Suite::ALL {
            for mki in [&b""[..], b"\x01", b"\0\0\0\x07"] {
                let keying = keying(suite, 1, mki);
                let (mut sender, mut receiver) = (Sender::new(&keying), Receiver::new(&keying));
                let packet = sealed(&mut sender, 5, 1);
                assert_eq!(packet.len(), rtp(5, 1).len() + suite.srtp_tag_bytes() + mki.len());
                assert!(packet[24..].windows(16).all(|part| !rtp(5, 1)[24..].starts_with(part)));
                assert_eq!(receiver.open_rtp(&packet).unwrap(), rtp(5, 1), "{suite:?}");
                let mut report = crate::rtp::rtcp::receiver_report(5, &[], "somebody");
                let plain = report.clone();
                sender.seal_rtcp(&mut report).unwrap();
                assert_eq!(receiver.open_rtcp(&report).unwrap(), plain, "{suite:?}");
            }
        }
    }

    #[test]
    fn one_changed_bit_anywhere_is_noticed_and_leaves_no_trace() {
        for suite in Suite::ALL {
            let keying = keying(suite, 1, b"\x01");
            let packet = sealed(&mut Sender::new(&keying), 5, 1);
            for at in 0..packet.len() {
                // The key identifier is not authenticated, and its length is all that counts.
                let behind = packet.len() - at;
                let is_mki = if suite.is_aead() { 1 } else { 1 + suite.srtp_tag_bytes() };
                if behind == is_mki {
                    continue;
                }
                let mut changed = packet.clone();
                changed[at] ^= 0x10;
                let mut receiver = Receiver::new(&keying);
                assert!(receiver.open_rtp(&changed).is_err(), "{suite:?} byte {at}");
                assert_eq!(receiver.rollover(), None);
            }
        }
    }

    #[test]
    fn plain_packets_are_authenticated_where_encryption_was_agreed_away() {
        for suite in Suite::ALL {
            let keying = Keying { plain_rtp: true, plain_rtcp: true, ..keying(suite, 1, b"") };
            let (mut sender, mut receiver) = (Sender::new(&keying), Receiver::new(&keying));
            let mut packet = sealed(&mut sender, 5, 1);
            assert!(packet.starts_with(&rtp(5, 1)));
            assert_eq!(receiver.open_rtp(&packet).unwrap(), rtp(5, 1));
            packet[30] ^= 1;
            assert_eq!(receiver.open_rtp(&packet), Err(Rejected::NotAuthentic));
            let mut report = crate::rtp::rtcp::receiver_report(5, &[], "somebody");
            let plain = report.clone();
            sender.seal_rtcp(&mut report).unwrap();
            assert!(report.starts_with(&plain));
            assert_eq!(receiver.open_rtcp(&report).unwrap(), plain);
        }
    }

    #[test]
    fn the_counter_rolls_over_and_late_packets_around_it_are_read() {
        let keying = keying(SUITE, 1, b"");
        let (mut sender, mut receiver) = (Sender::new(&keying), Receiver::new(&keying));
        let mut packets: Vec<_> =
            (65_530..65_542_u32).map(|n| sealed(&mut sender, 5, n as u16)).collect();
        packets.swap(4, 8);
        for packet in &packets {
            receiver.open_rtp(packet).unwrap();
        }
        assert_eq!(receiver.rollover(), Some((5, 1)));
        let late = receiver.authenticate(&packets[0]).unwrap();
        assert_eq!((late, receiver.rollover()), (65_530, Some((5, 1))));
    }

    #[test]
    fn a_receiver_that_was_away_finds_the_counter_again() {
        let keying = keying(SUITE, 1, b"");
        let mut sender = Sender::new(&keying);
        sealed(&mut sender, 5, 0);
        // Ten thousand packets are a step that no sender takes for a step back.
        let far: Vec<_> =
            (1..=60_u32).map(|n| sealed(&mut sender, 5, (n * 10_000) as u16)).collect();
        for missed in [1, 10, 30, 50] {
            let mut receiver = Receiver::new(&keying);
            receiver.resume(5, 0);
            let index = receiver.authenticate(&far[missed - 1]).unwrap();
            assert_eq!(index, missed as u64 * 10_000);
        }
        // 600,000 packets are the tenth round: too far for one who knows nothing, and near enough
        // for one who was there in the ninth or the eleventh.
        assert!(Receiver::new(&keying).open_rtp(&far[59]).is_err());
        for roc in [8, 10] {
            let mut receiver = Receiver::new(&keying);
            receiver.resume(5, roc);
            assert_eq!(receiver.authenticate(&far[59]), Ok(600_000));
        }
    }

    #[test]
    fn after_a_rekey_packets_under_both_keys_are_read_whether_or_not_the_counter_goes_on() {
        let (old, new) = (keying(SUITE, 1, b""), keying(Suite::AeadAes256Gcm, 9, b""));
        let mut sender = Sender::new(&old);
        let mut receiver = Receiver::new(&old);
        for n in 0..20_u32 {
            receiver.open_rtp(&sealed(&mut sender, 5, (n * 10_000) as u16)).unwrap();
        }
        let late = sealed(&mut sender, 5, (200_000_u32) as u16);
        receiver.add_keys(&new);
        let mut goes_on = sender.with_keys(&new);
        receiver.open_rtp(&sealed(&mut goes_on, 5, (200_001_u32) as u16)).unwrap();
        receiver.open_rtp(&late).unwrap();
        let mut begins_anew = Sender::new(&new);
        receiver.open_rtp(&sealed(&mut begins_anew, 5, 3_500)).unwrap();
        receiver.open_rtp(&sealed(&mut begins_anew, 5, 3_501)).unwrap();
        assert_eq!(receiver.rollover(), Some((5, 0)));
    }

    #[test]
    fn the_key_is_found_by_trying_also_where_its_identifier_is_announced_and_not_sent() {
        let key = |seed: u8, mki: &[u8]| keying(SUITE, seed, mki).keys.remove(0);
        let both = Keying::new(SUITE, vec![key(1, b"a"), key(2, b"b")]).unwrap();
        let mut receiver = Receiver::new(&both);
        for seed in [2, 1, 2] {
            let mki: &[u8] = if seed == 1 { b"a" } else { b"b" };
            let mut named = Sender::new(&keying(SUITE, seed, mki));
            let mut unnamed = Sender::new(&keying(SUITE, seed, b""));
            receiver.open_rtp(&sealed(&mut named, 5, 1)).unwrap();
            receiver.open_rtp(&sealed(&mut unnamed, 5, 2)).unwrap();
        }
    }

    #[test]
    fn strangers_fill_no_memory_and_many_sources_forget_only_the_oldest() {
        let keying = keying(SUITE, 1, b"");
        let mut receiver = Receiver::new(&keying);
        for ssrc in 0..1_000 {
            assert!(receiver.open_rtp(&rtp(ssrc, 1)).is_err());
        }
        assert!(receiver.sources.is_empty());
        for ssrc in 0..100 {
            receiver.open_rtp(&sealed(&mut Sender::new(&keying), ssrc, 1)).unwrap();
        }
        assert_eq!(receiver.sources.len(), MAX_SOURCES);
        assert_eq!(receiver.rollover(), Some((99, 0)));
    }

    #[test]
    fn what_is_too_short_is_rejected() {
        for suite in Suite::ALL {
            let keying = keying(suite, 1, b"");
            let mut receiver = Receiver::new(&keying);
            let packet = sealed(&mut Sender::new(&keying), 5, 1);
            let mut report = crate::rtp::rtcp::receiver_report(5, &[], "");
            Sender::new(&keying).seal_rtcp(&mut report).unwrap();
            for bytes in 0..packet.len() {
                assert!(receiver.open_rtp(&packet[..bytes]).is_err());
            }
            for bytes in 0..report.len() {
                assert!(receiver.open_rtcp(&report[..bytes]).is_err());
            }
        }
    }
}
