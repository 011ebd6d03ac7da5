//! Whatever an SRC sends, in whatever order, with whatever numbers: laid out, marked and rendered.
#![no_main]

mod call;

use call::{CallOf, MS};
use libfuzzer_sys::fuzz_target;
use media::{Selection, webm};
use segment::Packet;

/// Of one packet: what its header says, when it came, what kind it is.
const HEAD: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let mut call = CallOf::new();
    let mut now_ms = 0_u64;
    let (mut sequence, mut timestamp) = (65_500_u16, 0_u32);
    for piece in bytes.chunks(HEAD).take(400) {
        let Some([kind, step, jump, ticks, wait, ssrc, payload_type, fill]) = piece.first_chunk()
        else {
            break;
        };
        now_ms += u64::from(*wait) * if kind & 1 == 1 { 400 } else { 1 };
        sequence = sequence.wrapping_add(u16::from(*step)).wrapping_sub(u16::from(*jump) << 6);
        timestamp = timestamp.wrapping_add(u32::from(*ticks) << (kind >> 4));
        let rtcp = kind & 2 == 2;
        let mut datagram = vec![0x80, if rtcp { 200 } else { *payload_type }];
        if rtcp {
            // A sender report without blocks.
            datagram.extend_from_slice(&6_u16.to_be_bytes());
            datagram.extend_from_slice(&u32::from(*ssrc % 3).to_be_bytes());
            datagram.extend_from_slice(&(u64::from(*fill) << (kind >> 2)).to_be_bytes());
            datagram.extend_from_slice(&timestamp.to_be_bytes());
            datagram.extend_from_slice(&[0; 8]);
        } else {
            datagram.extend_from_slice(&sequence.to_be_bytes());
            datagram.extend_from_slice(&timestamp.to_be_bytes());
            datagram.extend_from_slice(&u32::from(*ssrc % 3).to_be_bytes());
            datagram.resize(12 + usize::from(*fill), *fill);
        }
        call.receive(Packet {
            stream: u16::from(kind >> 2 & 1),
            rtcp,
            arrival_boot_ns: now_ms * MS,
            source: ([192, 0, 2, 1], 4_000).into(),
            datagram,
        });
        if kind & 8 == 8 {
            call.hold(now_ms, fill & 1 == 1);
        }
    }
    let mut built = call.read();
    for mark in &built.marks {
        assert!(mark.from_ms <= mark.to_ms && mark.to_ms <= built.duration_ms(), "{mark:?}");
    }
    for lane in &built.lanes {
        let quality = &lane.quality;
        assert!(quality.received + quality.lost >= quality.expected, "{quality:?}");
    }
    // What lasts longer is rendered in the same way, and costs the fuzzer its time.
    if built.duration_ms() < 60_000 {
        let heard = built.peaks().expect("records in memory can be read");
        built.plan.hear(heard.heard());
        webm::write(&built, Selection::Sides).expect("encoded to memory");
    }
});
