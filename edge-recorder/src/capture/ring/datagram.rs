//! Finds the UDP datagram in an IP packet, and checks what the kernel's stack would have checked.
//!
//! Constraints, each a test: bytes behind the lengths in the headers are padding and are left
//! out; a wrong checksum is told; nothing panics, whatever the bytes (a fuzz target).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A datagram to one of our ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp<'a> {
    pub source: SocketAddr,
    pub target: SocketAddr,
    pub payload: &'a [u8],
    checksum_is_right: Option<bool>,
}

const UDP: u8 = 17;
const UDP_HEADER_BYTES: usize = 8;

impl<'a> Udp<'a> {
    /// `None`: not a whole UDP datagram.
    pub fn parse(packet: &'a [u8], check: bool) -> Option<Self> {
        let (source, target, udp) = match packet.first()? >> 4 {
            4 => ipv4(packet)?,
            6 => ipv6(packet)?,
            _ => return None,
        };
        let length = usize::from(u16_at(udp, 4)?);
        let udp = udp.get(..length).filter(|udp| udp.len() >= UDP_HEADER_BYTES)?;
        let port = |at| u16_at(udp, at);
        Some(Self {
            source: SocketAddr::new(source, port(0)?),
            target: SocketAddr::new(target, port(2)?),
            payload: &udp[UDP_HEADER_BYTES..],
            checksum_is_right: check.then(|| is_right(source, target, udp)),
        })
    }

    /// Whether the checksum says that the datagram is not what was sent.
    pub fn is_damaged(&self) -> bool {
        self.checksum_is_right == Some(false)
    }
}

type Parts<'a> = (IpAddr, IpAddr, &'a [u8]);

/// RFC 791 §3.1.
fn ipv4(packet: &[u8]) -> Option<Parts<'_>> {
    let header_bytes = usize::from(packet[0] & 0x0f) * 4;
    let total = usize::from(u16_at(packet, 2)?);
    let is_fragment = u16_at(packet, 6)? & 0x3fff != 0;
    if header_bytes < 20 || is_fragment || *packet.get(9)? != UDP {
        return None;
    }
    let address = |at| Some(Ipv4Addr::from(packet.get(at..at + 4)?.first_chunk::<4>()?.to_owned()));
    let udp = packet.get(header_bytes..total.min(packet.len()))?;
    Some((address(12)?.into(), address(16)?.into(), udp))
}

/// RFC 8200 §3. The filter lets only those through in which UDP follows at once.
fn ipv6(packet: &[u8]) -> Option<Parts<'_>> {
    const HEADER_BYTES: usize = 40;
    let total = HEADER_BYTES + usize::from(u16_at(packet, 4)?);
    if *packet.get(6)? != UDP {
        return None;
    }
    let address =
        |at| Some(Ipv6Addr::from(packet.get(at..at + 16)?.first_chunk::<16>()?.to_owned()));
    let udp = packet.get(HEADER_BYTES..total.min(packet.len()))?;
    Some((address(8)?.into(), address(24)?.into(), udp))
}

/// RFC 768: over a pseudo header and the datagram. Zero says that there is none, which IPv6 does
/// not allow (RFC 8200 §8.1).
fn is_right(source: IpAddr, target: IpAddr, udp: &[u8]) -> bool {
    if u16_at(udp, 6) == Some(0) {
        return source.is_ipv4();
    }
    let mut sum = u64::from(UDP) + udp.len() as u64;
    for address in [source, target] {
        sum += match address {
            IpAddr::V4(address) => sum_of(&address.octets()),
            IpAddr::V6(address) => sum_of(&address.octets()),
        };
    }
    sum += sum_of(udp);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum == 0xffff
}

/// Sum of the 16-bit words, an odd byte at the end padded with zero.
fn sum_of(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(2);
    let odd = words.remainder().first().map_or(0, |byte| u64::from(*byte) << 8);
    words.map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum::<u64>() + odd
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A packet as it lies on the wire, with its UDP checksum.
    pub fn packet(source: SocketAddr, target: SocketAddr, payload: &[u8]) -> Vec<u8> {
        let mut udp = Vec::new();
        udp.extend(source.port().to_be_bytes());
        udp.extend(target.port().to_be_bytes());
        udp.extend(((UDP_HEADER_BYTES + payload.len()) as u16).to_be_bytes());
        udp.extend([0; 2]);
        udp.extend(payload);
        let checksum = (0..=u16::MAX).find(|sum| {
            udp[6..8].copy_from_slice(&sum.to_be_bytes());
            *sum != 0 && is_right(source.ip(), target.ip(), &udp)
        });
        udp[6..8].copy_from_slice(&checksum.unwrap().to_be_bytes());
        let mut packet = Vec::new();
        match (source.ip(), target.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                packet.extend([0x45, 0]);
                packet.extend(((20 + udp.len()) as u16).to_be_bytes());
                packet.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
                packet.extend(source.octets());
                packet.extend(target.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                packet.extend([0x60, 0, 0, 0]);
                packet.extend((udp.len() as u16).to_be_bytes());
                packet.extend([UDP, 64]);
                packet.extend(source.octets());
                packet.extend(target.octets());
            }
            _ => panic!("of one family"),
        }
        packet.extend(udp);
        packet
    }

    const V4: (&str, &str) = ("192.0.2.1:4000", "192.0.2.9:20000");
    const V6: (&str, &str) = ("[2001:db8::1]:4000", "[2001:db8::9]:20000");

    #[test]
    fn a_datagram_is_found_behind_either_header_and_in_front_of_padding() {
        for (source, target) in [V4, V6] {
            let (source, target) = (source.parse().unwrap(), target.parse().unwrap());
            let mut bytes = packet(source, target, b"audio");
            bytes.extend([0; 9]);
            let udp = Udp::parse(&bytes, true).unwrap();
            assert_eq!((udp.source, udp.target, udp.payload), (source, target, &b"audio"[..]));
            assert!(!udp.is_damaged());
        }
    }

    #[test]
    fn a_changed_bit_is_told_by_the_checksum_and_only_when_it_is_looked_at() {
        for (source, target) in [V4, V6] {
            let mut bytes = packet(source.parse().unwrap(), target.parse().unwrap(), b"audio");
            *bytes.last_mut().unwrap() ^= 4;
            assert!(Udp::parse(&bytes, true).unwrap().is_damaged());
            assert!(!Udp::parse(&bytes, false).unwrap().is_damaged());
        }
    }

    #[test]
    fn a_missing_checksum_is_allowed_over_ipv4_alone() {
        for ((source, target), header, is_damaged) in [(V4, 20, false), (V6, 40, true)] {
            let mut bytes = packet(source.parse().unwrap(), target.parse().unwrap(), b"audio");
            bytes[header + 6..header + 8].fill(0);
            assert_eq!(Udp::parse(&bytes, true).unwrap().is_damaged(), is_damaged);
        }
    }

    #[test]
    fn a_fragment_is_no_datagram() {
        let mut bytes = packet(V4.0.parse().unwrap(), V4.1.parse().unwrap(), b"audio");
        bytes[6] = 0x20;
        assert_eq!(Udp::parse(&bytes, true), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>, at: prop::sample::Index, to: u8) {
            let _ = Udp::parse(&bytes, true);
            let mut bytes = packet(V4.0.parse().unwrap(), V4.1.parse().unwrap(), b"audio");
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = Udp::parse(&bytes, true);
            let _ = Udp::parse(&bytes[..at], true);
        }
    }
}
