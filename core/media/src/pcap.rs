//! The packets of a call as a capture file, for Wireshark: what arrived, when, from whom.
//!
//! pcap with nanoseconds and LINKTYPE_RAW: IP headers are rebuilt from what was kept, which is
//! source, local port and content; the destination address is the unspecified one.

use std::net::{IpAddr, SocketAddr};

use segment::{Body, Opener, Packet, RecordKind, SealError, SessionRecord};

use crate::clock::{CallClock, Reading};

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const LINKTYPE_RAW: u32 = 101;
/// Larger than any UDP datagram with its headers.
const SNAP_LENGTH: u32 = 128 * 1_024;
const UDP: u8 = 17;

/// Writes all packets of `records`, which are in order of position. Times are of the wall clock.
pub fn write(
    records: impl IntoIterator<Item = SessionRecord>,
    opener: &Opener,
) -> Result<Vec<u8>, SealError> {
    let mut out = Vec::new();
    for field in
        [MAGIC_NANOSECONDS, u32::from_le_bytes([2, 0, 4, 0]), 0, 0, SNAP_LENGTH, LINKTYPE_RAW]
    {
        out.extend_from_slice(&field.to_le_bytes());
    }
    let mut clock = CallClock::default();
    // Wall time at zero of the call's axis.
    let mut wall_zero_ns = 0;
    let mut local_ports = std::collections::BTreeMap::new();
    for record in records {
        let reading = match record.kind {
            RecordKind::Started => record.as_started().ok().map(|started| Reading {
                boot_id: started.boot_id,
                wall_ns: started.wall_ms.saturating_mul(1_000_000),
                boot_ns: started.boot_ns,
            }),
            RecordKind::Clock => record.as_clock().ok().map(|clock| Reading {
                boot_id: clock.boot_id,
                wall_ns: clock.wall_ns,
                boot_ns: clock.boot_ns,
            }),
            _ => None,
        };
        if let Some(reading) = reading {
            clock.read(reading);
            wall_zero_ns = reading.wall_ns.saturating_sub(clock.axis(reading.boot_ns));
        }
        let body = match opener.open_record(&record) {
            Ok(body) => body,
            // Nothing can be done about it, and it must not hide the rest of the call.
            Err(SealError::Changed { .. } | SealError::Body { .. } | SealError::NotOne) => continue,
            Err(error @ (SealError::NoKey | SealError::TooNew { .. })) => return Err(error),
        };
        match body {
            Some(Body::Streams(streams)) => {
                local_ports.extend(streams.iter().map(|s| (s.index, s.local_port)));
            }
            Some(Body::Packets(packets)) => {
                for packet in &packets {
                    let at = clock.axis(packet.arrival_boot_ns).saturating_add(wall_zero_ns);
                    let port = local_ports.get(&packet.stream).copied().unwrap_or(0);
                    let port = port.saturating_add(u16::from(packet.rtcp));
                    put_packet(&mut out, at, packet, port);
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

fn put_packet(out: &mut Vec<u8>, wall_ns: i64, packet: &Packet, local_port: u16) {
    let Some(ip) = ip_packet(packet.source, local_port, &packet.datagram) else { return };
    let wall_ns = wall_ns.max(0) as u64;
    // The format counts seconds in 32 bits; they last until 2106.
    let length = ip.len() as u32;
    for field in
        [(wall_ns / 1_000_000_000) as u32, (wall_ns % 1_000_000_000) as u32, length, length]
    {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&ip);
}

/// IP and UDP headers (RFC 791 §3.1, RFC 8200 §3, RFC 768). `None`: longer than UDP can be.
fn ip_packet(source: SocketAddr, local_port: u16, datagram: &[u8]) -> Option<Vec<u8>> {
    let udp_bytes = u16::try_from(datagram.len() + 8).ok()?;
    let mut out = Vec::with_capacity(40 + usize::from(udp_bytes));
    match source.ip() {
        IpAddr::V4(ip) => {
            let total = udp_bytes.checked_add(20)?;
            let mut header = vec![0x45, 0];
            header.extend_from_slice(&total.to_be_bytes());
            header.extend_from_slice(&[0, 0, 0x40, 0, 64, UDP, 0, 0]);
            header.extend_from_slice(&ip.octets());
            header.extend_from_slice(&[0; 4]);
            let checksum = internet_checksum(&header).to_be_bytes();
            header[10..12].copy_from_slice(&checksum);
            out.extend_from_slice(&header);
        }
        IpAddr::V6(ip) => {
            out.extend_from_slice(&[0x60, 0, 0, 0]);
            out.extend_from_slice(&udp_bytes.to_be_bytes());
            out.extend_from_slice(&[UDP, 64]);
            out.extend_from_slice(&ip.octets());
            out.extend_from_slice(&[0; 16]);
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&local_port.to_be_bytes());
    out.extend_from_slice(&udp_bytes.to_be_bytes());
    // No checksum: it was verified when the packet came, and its destination is not known here.
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(datagram);
    Some(out)
}

/// RFC 1071 §1.
fn internet_checksum(header: &[u8]) -> u16 {
    let words =
        header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum = words.fold(0, |sum, word| {
        let sum: u32 = sum + word;
        (sum & 0xffff) + (sum >> 16)
    });
    !(sum as u16)
}

#[test]
fn a_header_with_its_checksum_sums_to_nothing() {
    let packet = ip_packet("192.0.2.1:4000".parse().unwrap(), 20_000, b"audio").unwrap();
    assert_eq!(internet_checksum(&packet[..20]), 0);
    assert_eq!(packet.len(), 20 + 8 + 5);
    let packet = ip_packet("[2001:db8::1]:4000".parse().unwrap(), 20_000, b"audio").unwrap();
    assert_eq!(packet.len(), 40 + 8 + 5);
}
