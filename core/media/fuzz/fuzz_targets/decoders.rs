//! Payloads of any content to every decoder, one after the other in one stream.
#![no_main]

mod call;

use call::{CODECS, CallOf, MS};
use libfuzzer_sys::fuzz_target;
use segment::Packet;

fuzz_target!(|bytes: &[u8]| {
    let mut call = CallOf::new();
    let mut rest = bytes;
    for number in 0_u16..64 {
        let [codec, length, more @ ..] = rest else { break };
        let payload = &more[..more.len().min(usize::from(*length))];
        rest = &more[payload.len()..];
        // One in sixteen is lost.
        if codec >> 4 == 15 {
            continue;
        }
        let mut datagram = vec![0x80, 96 + codec % CODECS.len() as u8];
        datagram.extend_from_slice(&number.to_be_bytes());
        datagram.extend_from_slice(&(u32::from(number) * 160).to_be_bytes());
        datagram.extend_from_slice(&[0, 0, 0, 7]);
        datagram.extend_from_slice(payload);
        call.receive(Packet {
            stream: 0,
            rtcp: false,
            arrival_boot_ns: u64::from(number) * 20 * MS,
            source: ([192, 0, 2, 1], 4_000).into(),
            datagram,
        });
    }
    let built = call.read();
    if built.duration_ms() < 60_000 {
        for lane in 0..built.lanes.len() {
            let samples = built.lane(lane).expect("records in memory can be read");
            assert_eq!(samples.len() as u64, built.samples);
        }
    }
});
