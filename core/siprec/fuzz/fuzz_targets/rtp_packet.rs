//! Any datagram: parsing it as RTP or RTCP ends without a panic, and nothing read is longer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use siprec::rtp::{Packet, SequenceUnwrapper, TimestampUnwrapper, rtcp};

fuzz_target!(|datagrams: Vec<Vec<u8>>| {
    let mut sequence = SequenceUnwrapper::default();
    let mut timestamps = TimestampUnwrapper::default();
    for datagram in &datagrams {
        match Packet::parse(datagram) {
            Ok(Packet::Rtp(header)) => {
                assert!(header.payload.len() + 12 + header.csrcs().count() * 4 <= datagram.len());
                assert_eq!(sequence.extend(header.sequence).0 as u16, header.sequence);
                assert_eq!(timestamps.extend(header.timestamp).0 as u32, header.timestamp);
            }
            Ok(Packet::Rtcp(compound)) => {
                rtcp::parse(compound);
            }
            Err(_) => {}
        }
    }
});
