//! Loss, reordering, repetition, restarts: each costs what was lost and moves nothing else.

mod support;

use model::recording::{Mark, MarkKind, flag};
use support::*;

/// Ana alone, as packets that the test may maltreat.
fn ana(ms: u64) -> (Call, Vec<i16>, Vec<Rtp>) {
    let mut call = Call::of_two(["96", "97"]);
    call.negotiate(1, &[stream(0, Some("96"))]);
    let voice = speech(1, ms);
    let packets = packetize(0, 77, &voice, 0);
    (call, voice, packets)
}

fn gaps(marks: &[Mark]) -> Vec<(u64, u64, Option<usize>, Option<&str>)> {
    marks
        .iter()
        .filter(|mark| mark.kind == MarkKind::Gap)
        .map(|mark| (mark.from_ms, mark.to_ms, mark.track, mark.detail.as_deref()))
        .collect()
}

#[test]
fn sequence_and_timestamp_wrap_without_a_trace() {
    let (mut call, voice, packets) = ana(3_000);
    assert!(packets.windows(2).any(|pair| pair[0].sequence > pair[1].sequence));
    assert!(packets.windows(2).any(|pair| pair[0].timestamp > pair[1].timestamp));
    call.receive(packets);
    let built = call.assemble();
    assert_same(&voice, &pcm(&built, 0));
    assert_eq!(built.lanes[0].quality.lost, 0);
    assert_eq!(built.marks, []);
}

#[test]
fn a_short_loss_is_filled_and_not_marked() {
    let (mut call, voice, mut packets) = ana(2_000);
    packets.drain(50..53);
    call.receive(packets);
    let built = call.assemble();
    let heard = pcm(&built, 0);
    assert_same(&voice[..8_000], &heard[..8_000]);
    assert!(heard[8_000..8_400].iter().any(|sample| sample.unsigned_abs() > 500));
    assert_same(&voice[8_480..], &heard[8_480..]);
    assert_eq!(built.marks, []);
    assert_eq!((built.lanes[0].quality.expected, built.lanes[0].quality.lost), (100, 3));
}

#[test]
fn a_long_loss_is_silent_and_marked() {
    let (mut call, voice, mut packets) = ana(2_000);
    packets.drain(50..54);
    call.receive(packets);
    let built = call.assemble();
    let heard = pcm(&built, 0);
    assert!(heard[8_000..8_640].iter().all(|sample| *sample == 0));
    assert_same(&voice[8_640..], &heard[8_640..]);
    assert_eq!(gaps(&built.marks), [(1_000, 1_080, Some(0), Some("loss"))]);
}

#[test]
fn reordered_and_repeated_packets_are_put_right() {
    let (mut call, voice, mut packets) = ana(2_000);
    for pair in packets.chunks_exact_mut(5) {
        let late = pair[1].arrival_ms;
        pair[1].arrival_ms = pair[4].arrival_ms + 2;
        pair[3].arrival_ms = late;
    }
    let again: Vec<Rtp> = packets.iter().step_by(7).cloned().collect();
    let repeated = again.len() as u64;
    packets.extend(again);
    call.receive(packets);
    let built = call.assemble();
    // A packet that overtook by 40 ms is the fastest of all and sets the time of the first sample.
    assert_eq!(built.samples, 16_000);
    assert_same(&voice, &pcm(&built, 0));
    let quality = built.lanes[0].quality;
    assert_eq!((quality.received, quality.lost, quality.duplicates), (100, 0, repeated));
    assert!(quality.reordered >= 20, "{quality:?}");
}

#[test]
fn jitter_shifts_no_sample() {
    let (mut call, voice, mut packets) = ana(2_000);
    for (number, packet) in packets.iter_mut().enumerate() {
        packet.arrival_ms += (number as u64 * 37) % 90;
    }
    call.receive(packets);
    let built = call.assemble();
    assert_eq!(built.duration_ms(), 2_000);
    assert_same(&voice, &pcm(&built, 0));
    assert!(built.lanes[0].quality.jitter_max_ms > 10.0);
}

#[test]
fn a_stalled_network_delivers_everything_in_its_place() {
    let (mut call, voice, mut packets) = ana(6_000);
    // Nothing for 3 s, then all at once.
    for packet in &mut packets {
        if (1_000..4_000).contains(&packet.arrival_ms) {
            packet.arrival_ms = 4_000;
        }
    }
    call.receive(packets);
    let built = call.assemble();
    assert_eq!(built.duration_ms(), 6_000);
    assert_same(&voice, &pcm(&built, 0));
    assert_eq!(built.lanes[0].quality.lost, 0);
}

#[test]
fn a_new_ssrc_goes_on_where_it_arrives() {
    let (mut call, voice, packets) = ana(4_000);
    let after = packets[100..].iter().map(|rtp| Rtp {
        ssrc: 78,
        sequence: rtp.sequence.wrapping_add(9_999),
        timestamp: rtp.timestamp.wrapping_mul(7),
        ..rtp.clone()
    });
    // Their own timestamps, 20 ms apart.
    let after: Vec<Rtp> = after
        .enumerate()
        .map(|(number, rtp)| Rtp { timestamp: 5 + number as u32 * 160, ..rtp })
        .collect();
    call.receive([packets[..100].to_vec(), after].concat());
    let built = call.assemble();
    assert_eq!(built.duration_ms(), 4_000);
    assert_same(&voice, &pcm(&built, 0));
    let quality = built.lanes[0].quality;
    assert_eq!((quality.expected, quality.lost, quality.restarts), (200, 0, 1));
}

#[test]
fn a_sender_that_restarts_its_numbers_under_the_same_ssrc_loses_nothing() {
    let (mut call, voice, mut packets) = ana(4_000);
    for (number, packet) in packets[100..].iter_mut().enumerate() {
        packet.sequence = 20_000 + number as u16;
        packet.timestamp = 1_000_000 + number as u32 * 160;
    }
    call.receive(packets);
    let built = call.assemble();
    assert_same(&voice, &pcm(&built, 0));
    assert_eq!((built.lanes[0].quality.expected, built.lanes[0].quality.lost), (200, 0));
}

#[test]
fn numbers_that_wrap_while_nothing_is_heard_turn_no_time_around() {
    let (mut call, voice, packets) = ana(4_000);
    // 65,436 packets were left out, almost a whole round: the next number looks like an old one.
    let after = packets[100..].iter().map(|rtp| Rtp {
        sequence: rtp.sequence.wrapping_sub(100),
        timestamp: rtp.timestamp.wrapping_add(65_436 * 160),
        arrival_ms: rtp.arrival_ms + 65_436 * 20,
        ..rtp.clone()
    });
    let after: Vec<Rtp> = after.collect();
    call.receive([packets[..100].to_vec(), after].concat());
    let built = call.assemble();
    assert_eq!(built.duration_ms(), 4_000 + 65_436 * 20);
    let heard = pcm(&built, 0);
    assert_same(&voice[..16_000], &heard[..16_000]);
    assert_same(&voice[16_000..], &heard[heard.len() - 16_000..]);
}

#[test]
fn a_pause_of_the_sender_is_no_loss() {
    let (mut call, voice, mut packets) = ana(4_000);
    // Silence suppression: nothing is sent for a second, numbers go on, timestamps keep time.
    packets.drain(100..150);
    for (number, packet) in packets[100..].iter_mut().enumerate() {
        packet.sequence = 65_500_u16.wrapping_add(100 + number as u16);
    }
    call.receive(packets);
    let built = call.assemble();
    assert_eq!(built.lanes[0].quality.lost, 0);
    assert_eq!(built.marks, []);
    let heard = pcm(&built, 0);
    assert!(heard[16_000..24_000].iter().all(|sample| *sample == 0));
    assert_same(&voice[24_000..], &heard[24_000..]);
}

#[test]
fn a_restart_of_the_recorder_is_one_gap_of_the_whole_call() {
    for reboot in [false, true] {
        let mut call = Call::of_two(["96", "97"]);
        let streams = [stream(0, Some("96")), stream(1, Some("97"))];
        let voices = [speech(1, 8_000), speech(2, 8_000)];
        let sent = [packetize(0, 1, &voices[0], 0), packetize(1, 2, &voices[1], 0)].concat();
        let between = |from: u64, to: u64| -> Vec<Rtp> {
            let within = |rtp: &&Rtp| (from..to).contains(&rtp.arrival_ms);
            sent.iter().filter(within).cloned().collect()
        };
        call.negotiate(1, &streams);
        call.receive(between(0, 3_000));
        call.restart(4_900, reboot);
        call.negotiate(4_901, &streams);
        call.receive(between(5_000, 9_000));
        let built = call.assemble();
        assert!(built.flags.contains(flag::INTERRUPTED));
        assert_eq!(built.duration_ms(), 8_000, "reboot: {reboot}");
        for (lane, voice) in voices.iter().enumerate() {
            let heard = pcm(&built, lane);
            assert_same(&voice[..24_000], &heard[..24_000]);
            assert!(heard[24_000..40_000].iter().all(|sample| *sample == 0));
            assert_same(&voice[40_000..], &heard[40_000..]);
            assert_eq!(built.lanes[lane].quality.lost, 100);
        }
        let [(from, to, None, Some("recorder restarted"))] = gaps(&built.marks)[..] else {
            panic!("{:?}", built.marks);
        };
        assert!(from.abs_diff(3_000) <= 20 && to.abs_diff(5_000) <= 20, "{from} to {to}");
    }
}

#[test]
fn an_m_line_that_is_used_again_is_another_track() {
    let mut call = Call::of_two(["96", "97"]);
    call.negotiate(1, &[stream(0, Some("96"))]);
    let voice = speech(1, 2_000);
    let sent = packetize(0, 1, &voice, 0);
    call.receive(sent[..50].to_vec());
    call.negotiate(1_000, &[stream(0, Some("97"))]);
    call.receive(sent[50..].to_vec());
    let built = call.assemble();
    let labels: Vec<_> = built.lanes.iter().map(|lane| lane.track.label.as_str()).collect();
    assert_eq!(labels, ["96", "97"]);
    assert_same(&voice[..8_000], &pcm(&built, 0)[..8_000]);
    assert_same(&voice[8_000..], &pcm(&built, 1)[8_000..]);
}

#[test]
fn what_is_not_rtp_is_counted_and_disturbs_nothing() {
    let (mut call, voice, packets) = ana(500);
    call.receive(packets);
    let noise = |datagram: &[u8]| segment::Packet {
        stream: 0,
        rtcp: false,
        arrival_boot_ns: u64::MAX,
        source: ([192, 0, 2, 1], 4_000).into(),
        datagram: datagram.to_vec(),
    };
    let junk = vec![noise(&[]), noise(b"GET / HTTP/1.1"), noise(&[0x80]), noise(&[0xbf; 14])];
    call.seal(400, &segment::Body::Packets(junk));
    let built = call.assemble();
    assert_eq!(built.lanes[0].quality.not_rtp, 4);
    assert_same(&voice, &pcm(&built, 0));
}

mod any_packets {
    use proptest::prelude::*;

    use super::*;

    fn rtp() -> impl Strategy<Value = Rtp> {
        let numbers = (0..3_u16, 0..128_u8, any::<u16>(), any::<u32>(), 0..3_u32);
        (numbers, prop::collection::vec(any::<u8>(), 0..50), 0..100_000_u64).prop_map(
            |((stream, payload_type, sequence, timestamp, ssrc), payload, arrival_ms)| Rtp {
                stream,
                payload_type,
                sequence,
                timestamp,
                ssrc,
                payload,
                arrival_ms,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn whatever_is_sent_is_built_without_panic(
            packets in prop::collection::vec(rtp(), 0..60),
        ) {
            let mut call = Call::of_two(["96", "97"]);
            call.negotiate(1, &[stream(0, Some("96")), stream(1, None)]);
            call.receive(packets);
            let built = call.assemble();
            for (number, lane) in built.lanes.iter().enumerate() {
                prop_assert_eq!(pcm(&built, number).len() as u64, built.samples);
                let track = &lane.track;
                prop_assert!(track.packets_received + track.packets_lost <= track.packets_expected);
            }
            for mark in &built.marks {
                prop_assert!(mark.from_ms <= mark.to_ms && mark.to_ms <= built.duration_ms());
            }
        }
    }
}
