//! Any compound: reading it ends without a panic, what a report says survives our own writing, and
//! statistics of any packets make a report that can be read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use siprec::rtp::rtcp::{self, Rtcp};
use siprec::rtp::{Reception, RtpHeader};

fuzz_target!(|input: (&[u8], Vec<(u16, u32, u64)>, u32)| {
    let (compound, packets, clock_rate) = input;
    for packet in rtcp::parse(compound) {
        match packet {
            Rtcp::ReceiverReport { ssrc, blocks } => {
                let again = rtcp::receiver_report(ssrc, &blocks, "x");
                assert_eq!(rtcp::parse(&again), [Rtcp::ReceiverReport { ssrc, blocks }]);
            }
            Rtcp::SenderReport { ssrc, info, .. } => {
                let again = rtcp::sender_report(ssrc, &info, "x");
                assert_eq!(rtcp::parse(&again), [Rtcp::SenderReport { ssrc, info, blocks: vec![] }]);
            }
            Rtcp::Bye { ssrcs } => {
                let mut again = Vec::new();
                rtcp::append_bye(&mut again, &ssrcs);
                assert_eq!(rtcp::parse(&again), [Rtcp::Bye { ssrcs }]);
            }
        }
    }
    let mut reception: Option<Reception> = None;
    for (sequence, timestamp, arrival_ns) in packets {
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(7_u32.to_be_bytes());
        let header = RtpHeader::parse(&packet).expect("a header");
        let reception = reception.get_or_insert_with(|| Reception::new(&header));
        reception.count(&header, clock_rate, arrival_ns);
        if sequence % 7 == 0 {
            reception.sender_report(timestamp, arrival_ns);
        }
        if sequence % 5 == 0 {
            let block = reception.report(arrival_ns).expect("something was heard");
            rtcp::receiver_report(1, &[block], "");
        }
        reception.lost();
    }
});
