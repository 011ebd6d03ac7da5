//! Packets on their way from the network to the seal: laid one after another into one buffer,
//! because an allocation for each would cost more than receiving it does.
//!
//! Coded, a batch gives the bytes of [`Body::Packets`](crate::Body) with the same packets.

use std::net::SocketAddr;
use std::ops::Range;

use crate::body::put_packets;
use crate::{Body, Packet};

/// Packets of one session.
#[derive(Clone, Default)]
pub struct PacketBatch {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Entry {
    arrival_boot_ns: u64,
    source: SocketAddr,
    from: u32,
    length: u32,
    stream: u16,
    rtcp: bool,
}

/// One packet of a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PacketRef<'a> {
    pub stream: u16,
    pub rtcp: bool,
    pub arrival_boot_ns: u64,
    pub source: SocketAddr,
    pub datagram: &'a [u8],
}

impl PacketBatch {
    pub fn push(
        &mut self,
        stream: u16,
        rtcp: bool,
        arrival_boot_ns: u64,
        source: SocketAddr,
        datagram: &[u8],
    ) {
        let from = self.bytes.len() as u32;
        self.bytes.extend_from_slice(datagram);
        let length = datagram.len() as u32;
        self.entries.push(Entry { arrival_boot_ns, source, from, length, stream, rtcp });
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = PacketRef<'_>> + Clone {
        self.refs(0..self.len())
    }

    /// When the first and the last of these packets arrived.
    pub fn arrivals_boot_ns(&self, range: Range<usize>) -> Option<(u64, u64)> {
        let entries = &self.entries[range];
        Some((entries.first()?.arrival_boot_ns, entries.last()?.arrival_boot_ns))
    }

    /// Streams are read one after the other; a session is told in order of arrival.
    pub fn sort_by_arrival(&mut self) {
        self.entries.sort_by_key(|entry| entry.arrival_boot_ns);
    }

    /// Nothing from `from` on arrived later than what comes after it, nor than `latest_boot_ns`.
    pub fn cap_arrivals(&mut self, from: usize, latest_boot_ns: u64) {
        let mut latest = latest_boot_ns;
        for entry in self.entries[from..].iter_mut().rev() {
            latest = latest.min(entry.arrival_boot_ns);
            entry.arrival_boot_ns = latest;
        }
    }

    /// How many packets from `from` on have at most this many bytes together; at least one.
    pub fn fitting(&self, from: usize, max_bytes: usize) -> usize {
        const BESIDE_THE_DATAGRAM: usize = 64;
        let mut bytes = 0;
        let fitting = self.entries[from..].iter().take_while(|entry| {
            bytes += entry.length as usize + BESIDE_THE_DATAGRAM;
            bytes <= max_bytes
        });
        fitting.count().max(1)
    }

    /// These packets as the body that a record has.
    pub fn to_body(&self) -> Body {
        Body::Packets(self.iter().map(PacketRef::to_packet).collect())
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>, range: Range<usize>) {
        put_packets(out, self.refs(range));
    }

    fn refs(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = PacketRef<'_>> + Clone {
        self.entries[range].iter().map(|entry| PacketRef {
            stream: entry.stream,
            rtcp: entry.rtcp,
            arrival_boot_ns: entry.arrival_boot_ns,
            source: entry.source,
            datagram: &self.bytes[entry.from as usize..(entry.from + entry.length) as usize],
        })
    }
}

impl PacketRef<'_> {
    fn to_packet(self) -> Packet {
        Packet {
            stream: self.stream,
            rtcp: self.rtcp,
            arrival_boot_ns: self.arrival_boot_ns,
            source: self.source,
            datagram: self.datagram.to_vec(),
        }
    }
}

impl<'a> From<&'a Packet> for PacketRef<'a> {
    fn from(packet: &'a Packet) -> Self {
        Self {
            stream: packet.stream,
            rtcp: packet.rtcp,
            arrival_boot_ns: packet.arrival_boot_ns,
            source: packet.source,
            datagram: &packet.datagram,
        }
    }
}

/// Speech does not belong into logs.
impl std::fmt::Debug for PacketBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PacketBatch")
            .field("packets", &self.len())
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(arrivals: &[u64]) -> PacketBatch {
        let mut batch = PacketBatch::default();
        for (number, arrival) in (0_u8..).zip(arrivals) {
            let source = SocketAddr::from(([192, 0, 2, 1], 4_000 + u16::from(number % 2)));
            batch.push(u16::from(number % 2), number == 2, *arrival, source, &[number; 172]);
        }
        batch
    }

    #[test]
    fn a_batch_has_the_bytes_of_the_body_with_its_packets() {
        let batch = batch(&[5, 3, 9_000_000, 4]);
        let mut bytes = Vec::new();
        batch.put(&mut bytes, 0..4);
        assert_eq!(bytes, batch.to_body().encode());
    }

    #[test]
    fn packets_are_told_in_order_of_arrival_and_none_later_than_the_next() {
        let mut batch = batch(&[900, 100, 200, 850, 300, 860]);
        batch.cap_arrivals(1, 850);
        let arrivals = |batch: &PacketBatch| -> Vec<u64> {
            batch.iter().map(|packet| packet.arrival_boot_ns).collect()
        };
        assert_eq!(arrivals(&batch), [900, 100, 200, 300, 300, 850]);
        batch.sort_by_arrival();
        assert_eq!(arrivals(&batch), [100, 200, 300, 300, 850, 900]);
        assert_eq!(batch.iter().last().unwrap().datagram, [0; 172]);
    }

    #[test]
    fn a_record_takes_as_many_packets_as_fit_and_at_least_one() {
        let batch = batch(&[1, 2, 3, 4]);
        assert_eq!(batch.fitting(0, 3 * (172 + 64)), 3);
        assert_eq!(batch.fitting(2, 1 << 20), 2);
        assert_eq!(batch.fitting(3, 1), 1);
    }
}
