//! The capture file has every datagram, with its time and its source.

mod support;

use media::pcap;
use support::*;

/// Seconds, nanoseconds and bytes of each packet.
fn packets(file: &[u8]) -> Vec<(u32, u32, &[u8])> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 101), "nanoseconds, raw IP");
    let mut packets = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let length = word(at + 8) as usize;
        assert_eq!(word(at + 12) as usize, length);
        packets.push((word(at), word(at + 4), &file[at + 16..at + 16 + length]));
        at += 16 + length;
    }
    packets
}

#[test]
fn every_datagram_is_in_it_and_a_changed_record_is_not() {
    let mut call = Call::of_two(["96", "97"]);
    call.negotiate(1, &[stream(0, Some("96")), stream(1, Some("97"))]);
    let voice = speech(1, 1_000);
    call.receive([packetize(0, 1, &voice, 0), packetize(1, 2, &voice, 0)].concat());
    let write = |call: &Call| pcap::write(call.records.clone(), &call.opener()).unwrap();

    let file = write(&call);
    let all = packets(&file);
    assert_eq!(all.len(), 100);
    // The first came 5 ms after the call began, from port 4000 to 20000, with 172 bytes of RTP.
    let (secs, nanos, ip) = all[0];
    assert_eq!((secs, nanos), (1_700_000_000, 5_000_000));
    assert_eq!((ip.len(), &ip[12..16]), (20 + 8 + 172, [192, 0, 2, 1].as_slice()));
    assert_eq!(ip[20..24], [4_000_u16.to_be_bytes(), 20_000_u16.to_be_bytes()].concat());
    assert_eq!(ip[28], 0x80);
    let ports: Vec<u16> =
        all.iter().map(|(_, _, ip)| u16::from_be_bytes([ip[22], ip[23]])).collect();
    assert_eq!(ports.iter().filter(|port| **port == 20_002).count(), 50);

    let last = call.records.last_mut().unwrap();
    *last.bytes.last_mut().unwrap() ^= 1;
    assert_eq!(packets(&write(&call)).len(), 90);
}
