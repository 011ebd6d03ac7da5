//! What is sealed: packets as they came off the wire, metadata documents, what was negotiated,
//! marks.
//!
//! Packets are coded by hand, because there are 50 a second of every stream; the rest is
//! `postcard`, whose layout the version of the sealed body stands for. Packets:
//!
//! ```text
//! first:    varint             arrival of the first packet, ns on the boot clock
//! sources:  varint count, each: u8 4 or 6, address, u16 LE port
//! packets:  varint count, each:
//!   flags:    u8               bit 0: RTCP
//!   stream:   varint           index of the m-line
//!   source:   varint           index into sources
//!   arrival:  zigzag varint    ns since the packet before
//!   length:   varint, then that many bytes
//! ```

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use model::Personal;
use model::recording::MarkKind;
use serde::{Deserialize, Serialize};

use crate::batch::PacketRef;
use crate::record::RecordKind;
use crate::wire::{Cursor, put_varint, unzigzag, zigzag};

const RTCP: u8 = 1;

/// What one sealed record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// What one session received within one commit, in order of arrival.
    Packets(Vec<Packet>),
    /// A metadata document as received.
    Metadata(Document),
    /// All streams as negotiated, from this record on.
    Streams(Vec<StreamInfo>),
    Mark(SealedMark),
}

/// One datagram. A scope id of an IPv6 address is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    /// Index of the m-line.
    pub stream: u16,
    /// Came on the stream's RTCP port, or is RTCP by its payload type (RFC 5761 §4).
    pub rtcp: bool,
    /// CLOCK_BOOTTIME at which the kernel received it.
    pub arrival_boot_ns: u64,
    pub source: SocketAddr,
    pub datagram: Vec<u8>,
}

/// Speech does not belong into logs.
impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet")
            .field("stream", &self.stream)
            .field("rtcp", &self.rtcp)
            .field("arrival_boot_ns", &self.arrival_boot_ns)
            .field("bytes", &self.datagram.len())
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub received_wall_ms: i64,
    pub content_type: String,
    pub bytes: Vec<u8>,
}

/// Metadata is names and numbers of people.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("content_type", &self.content_type)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// One m-line as negotiated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamInfo {
    /// Index of the m-line.
    pub index: u16,
    /// `a=label` (RFC 4574).
    pub label: Option<String>,
    pub formats: Vec<Format>,
    /// From the SRC's side: `SendOnly` sends to us, `Inactive` is on hold.
    pub direction: Direction,
    /// The m-line was refused or taken back (port 0).
    pub removed: bool,
    /// Where the SRC said that it sends from.
    pub remote: Option<SocketAddr>,
    pub local_port: u16,
    /// `a=crypto` lines (RFC 4568): with them the packets can be decrypted.
    pub crypto: Vec<Personal<String>>,
}

/// One payload type of an m-line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    pub payload_type: u8,
    /// Encoding name (RFC 8866 §6.6), as the SRC wrote it.
    pub encoding: String,
    pub clock_rate: u32,
    pub channels: u8,
    pub fmtp: Option<String>,
}

/// Direction attribute (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    /// Whether the side that offers this direction sends media.
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }
}

/// Something that happened at the time of its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedMark {
    pub kind: MarkKind,
    /// SDP label of the stream; absent: all.
    pub label: Option<String>,
    /// Whether it begins or ends here.
    pub begins: bool,
    pub detail: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("malformed packets")]
    Packets,
    #[error("malformed body")]
    Malformed(#[source] postcard::Error),
}

impl Body {
    pub fn kind(&self) -> RecordKind {
        match self {
            Self::Packets(_) => RecordKind::Packets,
            Self::Metadata(_) => RecordKind::Metadata,
            Self::Streams(_) => RecordKind::Streams,
            Self::Mark(_) => RecordKind::Mark,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let coded = match self {
            Self::Packets(packets) => return encode_packets(packets),
            Self::Metadata(document) => postcard::to_stdvec(document),
            Self::Streams(streams) => postcard::to_stdvec(streams),
            Self::Mark(mark) => postcard::to_stdvec(mark),
        };
        coded.expect("these types have no failing serialiser and a vector grows")
    }

    pub(crate) fn decode(kind: RecordKind, bytes: &[u8]) -> Result<Self, BodyError> {
        match kind {
            RecordKind::Packets => {
                decode_packets(bytes).map(Self::Packets).ok_or(BodyError::Packets)
            }
            RecordKind::Metadata => from_postcard(bytes).map(Self::Metadata),
            RecordKind::Streams => from_postcard(bytes).map(Self::Streams),
            RecordKind::Mark => from_postcard(bytes).map(Self::Mark),
            RecordKind::Key | RecordKind::Started | RecordKind::Ended | RecordKind::Clock => {
                Err(BodyError::Packets)
            }
        }
    }
}

fn from_postcard<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, BodyError> {
    postcard::from_bytes(bytes).map_err(BodyError::Malformed)
}

fn encode_packets(packets: &[Packet]) -> Vec<u8> {
    let bytes: usize = packets.iter().map(|packet| packet.datagram.len() + 12).sum();
    let mut out = Vec::with_capacity(bytes + 32);
    put_packets(&mut out, packets.iter().map(PacketRef::from));
    out
}

/// Appends the coded packets, whose iterator is gone through twice.
pub(crate) fn put_packets<'a>(
    out: &mut Vec<u8>,
    packets: impl ExactSizeIterator<Item = PacketRef<'a>> + Clone,
) {
    let mut sources: Vec<SocketAddr> = Vec::with_capacity(4);
    // A session has as many sources as it has streams: a search is faster than a map.
    let index_of = |sources: &[SocketAddr], source: SocketAddr| {
        sources.iter().position(|held| held.port() == source.port() && held.ip() == source.ip())
    };
    for packet in packets.clone() {
        if index_of(&sources, packet.source).is_none() {
            sources.push(packet.source);
        }
    }
    let mut arrival = packets.clone().next().map_or(0, |packet| packet.arrival_boot_ns);
    put_varint(out, arrival);
    put_varint(out, sources.len() as u64);
    for source in &sources {
        match source.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
            }
        }
        out.extend_from_slice(&source.port().to_le_bytes());
    }
    put_varint(out, packets.len() as u64);
    for packet in packets {
        let source = index_of(&sources, packet.source).expect("all were collected above");
        out.push(if packet.rtcp { RTCP } else { 0 });
        put_varint(out, u64::from(packet.stream));
        put_varint(out, source as u64);
        let since_last = packet.arrival_boot_ns.wrapping_sub(arrival) as i64;
        put_varint(out, zigzag(since_last));
        arrival = packet.arrival_boot_ns;
        put_varint(out, packet.datagram.len() as u64);
        out.extend_from_slice(packet.datagram);
    }
}

fn decode_packets(bytes: &[u8]) -> Option<Vec<Packet>> {
    let mut cursor = Cursor::new(bytes);
    let mut arrival = cursor.varint()?;
    let count = cursor.count(1 + 4 + 2)?;
    let mut sources = Vec::with_capacity(count);
    for _ in 0..count {
        let ip = match cursor.u8()? {
            4 => IpAddr::from(cursor.array::<4>()?),
            6 => IpAddr::from(cursor.array::<16>()?),
            _ => return None,
        };
        sources.push(SocketAddr::new(ip, cursor.u16()?));
    }
    let count = cursor.count(5)?;
    let mut packets = Vec::with_capacity(count);
    for _ in 0..count {
        let rtcp = match cursor.u8()? {
            0 => false,
            RTCP => true,
            _ => return None,
        };
        let stream = u16::try_from(cursor.varint()?).ok()?;
        let source = *sources.get(usize::try_from(cursor.varint()?).ok()?)?;
        arrival = arrival.wrapping_add(unzigzag(cursor.varint()?) as u64);
        let length = usize::try_from(cursor.varint()?).ok()?;
        let datagram = cursor.take(length)?.to_vec();
        packets.push(Packet { stream, rtcp, arrival_boot_ns: arrival, source, datagram });
    }
    (cursor.remaining() == 0).then_some(packets)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sample;

    fn packet() -> impl Strategy<Value = Packet> {
        (any::<u16>(), any::<bool>(), any::<u64>(), any::<SocketAddr>(), any::<Vec<u8>>()).prop_map(
            |(stream, rtcp, arrival_boot_ns, source, datagram)| Packet {
                stream,
                rtcp,
                arrival_boot_ns,
                source: SocketAddr::new(source.ip(), source.port()),
                datagram,
            },
        )
    }

    proptest! {
        #[test]
        fn packets_survive_their_bytes(packets in prop::collection::vec(packet(), 0..20)) {
            let body = Body::Packets(packets);
            let bytes = body.encode();
            prop_assert_eq!(Body::decode(RecordKind::Packets, &bytes).unwrap(), body);
            for cut in 0..bytes.len() {
                prop_assert!(Body::decode(RecordKind::Packets, &bytes[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(kind in 0_u8..10, bytes: Vec<u8>) {
            if let Some(kind) = RecordKind::from_u8(kind)
                && let Ok(body) = Body::decode(kind, &bytes)
            {
                prop_assert_eq!(body.kind(), kind);
            }
        }

        #[test]
        fn changed_bytes_decode_without_panic(at: prop::sample::Index, to: u8) {
            for body in sample::bodies() {
                let mut bytes = body.encode();
                let at = at.index(bytes.len());
                bytes[at] = to;
                // Either is fine: what must not happen is a panic or a huge allocation.
                if let Ok(decoded) = Body::decode(body.kind(), &bytes) {
                    prop_assert_eq!(decoded.kind(), body.kind());
                }
            }
        }
    }

    #[test]
    fn a_steady_stream_costs_at_most_nine_bytes_a_packet_beside_its_datagram() {
        let packets: Vec<_> = (0..50)
            .map(|n| Packet {
                stream: n % 2,
                rtcp: false,
                arrival_boot_ns: 9_000_000_000_000 + u64::from(n) * 10_000_000,
                source: ([192, 0, 2, 1], 4_000 + n % 2).into(),
                datagram: vec![0; 172],
            })
            .collect();
        assert!(Body::Packets(packets).encode().len() <= 50 * (172 + 9) + 32);
    }

    #[test]
    fn what_was_said_does_not_print() {
        let text = format!("{:?}", sample::bodies());
        assert!(!text.contains("inline:"), "{text}");
        assert!(!text.contains("Ana"), "{text}");
        assert!(!text.contains("datagram"), "{text}");
    }
}
