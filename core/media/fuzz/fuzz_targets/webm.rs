//! What we write is what a reader finds: every packet, whatever its content and length. The reader
//! is the one that the tests use.
#![no_main]

mod call;

use std::io::Cursor;

use call::{CallOf, MS};
use libfuzzer_sys::fuzz_target;
use media::opus::Shape;
use media::{Selection, webm};
use segment::Packet;
use symphonia::core::formats::FormatOptions;
use symphonia::core::formats::probe::Hint;
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

fuzz_target!(|bytes: &[u8]| {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut rest = bytes;
    while let [length, more @ ..] = rest {
        // A packet of no bytes is none (RFC 6716 §3.4).
        let packet = &more[..more.len().min(usize::from(*length).max(1))];
        rest = &more[packet.len()..];
        if !packet.is_empty() {
            packets.push(packet.to_vec());
        }
    }
    if packets.is_empty() {
        return;
    }
    // A call that has as many packets of 20 ms, and what the encoder holds back.
    let mut call = CallOf::new();
    let last = packets.len() as u64 - 1;
    for number in [0, last] {
        let mut datagram = vec![0x80, 0];
        datagram.extend_from_slice(&(number as u16).to_be_bytes());
        datagram.extend_from_slice(&(number as u32 * 160).to_be_bytes());
        datagram.resize(12 + 160, 0);
        call.receive(Packet {
            stream: 0,
            rtcp: false,
            arrival_boot_ns: number * 20 * MS,
            source: ([192, 0, 2, 1], 4_000).into(),
            datagram,
        });
    }
    let shape = Shape::of(&call.read(), Selection::Sides).expect("8 kHz");
    packets.resize(shape.packets as usize, vec![1]);
    let mut writer = webm::Writer::new(Cursor::new(Vec::new()), shape).expect("memory");
    for packet in &packets {
        writer.push(packet).expect("memory");
    }
    let file = writer.finish().expect("memory").into_inner();
    let source = MediaSourceStream::new(Box::new(Cursor::new(file)), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(&Hint::new(), source, FormatOptions::default(), MetadataOptions::default())
        .expect("a WebM file");
    let mut found = 0;
    while let Some(packet) = format.next_packet().expect("whole packets") {
        assert_eq!(&*packet.data, packets[found].as_slice());
        found += 1;
    }
    assert_eq!(found, packets.len());
});
