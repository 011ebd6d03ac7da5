//! What was sent is what is heard: every sample in its place, each party on its side.

mod support;

use media::{Channel, ReadError, wav};
use model::call::StreamFact;
use model::recording::{MarkKind, flag};
use segment::{Direction, RecordKind, SealedMark, StreamInfo, TenantKeyPair};
use support::*;

/// Ana on label 96, Ben on 97, both for `ms`.
fn simple_call(ms: u64) -> (Call, Vec<i16>, Vec<i16>) {
    let mut call = Call::of_two(["96", "97"]);
    let (ana, ben) = (speech(1, ms), speech(2, ms));
    call.negotiate(1, &[stream(0, Some("96")), stream(1, Some("97"))]);
    let packets = [packetize(0, 100, &ana, 300), packetize_pcma(1, 200, &ben, 300)].concat();
    call.receive(packets);
    (call, ana, ben)
}

#[test]
fn both_parties_come_back_to_the_sample() {
    let (mut call, ana, ben) = simple_call(4_000);
    call.ended(4_500, call.session.first_recording());
    let built = call.assemble();
    // Shorter than the dialog: it begins with the first sample and ends with the last.
    assert_eq!((built.samples, built.duration_ms()), (32_000, 4_000));
    assert_same(&ana, &pcm(&built, 0));
    assert_same(&ben, &pcm(&built, 1));
    assert!(built.ended);
    assert_eq!(built.flags, Default::default());
    assert_eq!(built.marks, []);
    let tracks: Vec<_> = built.lanes.iter().map(|lane| lane.track.clone()).collect();
    assert_eq!((tracks[0].codec.as_str(), tracks[1].codec.as_str()), ("PCMU", "PCMA"));
    assert_eq!(tracks[0].participant.as_ref().unwrap().reveal(), "sip:ana@example.com");
    for track in tracks {
        assert_eq!(
            (track.packets_expected, track.packets_received, track.packets_lost),
            (200, 200, 0)
        );
        assert_eq!(track.duration_ms, 4_000);
    }
}

#[test]
fn the_first_participant_is_left_wherever_the_offer_put_the_stream() {
    let mut call = Call::of_two(["second", "first"]);
    let (ana, ben) = (speech(1, 1_000), speech(2, 1_000));
    call.negotiate(1, &[stream(0, Some("first")), stream(1, Some("second"))]);
    call.receive([packetize(1, 100, &ana, 0), packetize(0, 200, &ben, 0)].concat());
    let built = call.assemble();
    assert_eq!(built.lanes[0].channel, Channel::Left);
    assert_eq!(built.lanes[0].track.label, "second");
    assert_eq!(built.lanes[0].track.speakers, [0]);
    assert_same(&ana, &pcm(&built, 0));
    assert_eq!(built.lanes[1].channel, Channel::Right);
    assert_same(&ben, &pcm(&built, 1));
}

#[test]
fn two_streams_of_one_party_are_on_one_side() {
    let mut call = Call::of_two(["96", "97"]);
    let senders = vec!["ana".to_owned()];
    call.facts.streams.push(StreamFact { label: "98".to_owned(), senders });
    call.negotiate(1, &[stream(0, Some("96")), stream(1, Some("97")), stream(2, Some("98"))]);
    let built = call.assemble();
    let sides: Vec<_> =
        built.lanes.iter().map(|lane| (lane.track.label.as_str(), lane.channel)).collect();
    let expected = [("96", Channel::Left), ("98", Channel::Left), ("97", Channel::Right)];
    assert_eq!(sides, expected);
}

#[test]
fn a_mixed_stream_is_one_lane_and_says_so() {
    let mut call = Call::of_two(["96", "96"]);
    call.facts.streams.truncate(1);
    call.facts.streams[0].senders = vec!["ana".to_owned(), "ben".to_owned()];
    call.negotiate(1, &[stream(0, Some("96"))]);
    call.receive(packetize(0, 1, &speech(1, 500), 0));
    let built = call.assemble();
    assert_eq!(built.lanes[0].track.speakers, [0, 1]);
    assert!(built.flags.contains(flag::MIXED));
}

#[test]
fn a_stream_without_label_or_metadata_is_recorded_too() {
    let mut call = Call::new();
    let voices = [speech(1, 600), speech(2, 600)];
    call.negotiate(1, &[stream(0, None), stream(1, None)]);
    let packets = [packetize(0, 1, &voices[0], 0), packetize(1, 2, &voices[1], 0)];
    call.receive(packets.concat());
    let built = call.assemble();
    for (lane, voice) in voices.iter().enumerate() {
        assert_same(voice, &pcm(&built, lane));
        assert_eq!(built.lanes[lane].track.participant, None);
    }
    assert_eq!([built.lanes[0].channel, built.lanes[1].channel], [Channel::Left, Channel::Right]);
}

#[test]
fn a_party_that_joins_late_is_heard_late() {
    let mut call = Call::of_two(["96", "97"]);
    let (ana, ben) = (speech(1, 2_000), speech(2, 1_000));
    call.negotiate(1, &[stream(0, Some("96")), stream(1, Some("97"))]);
    call.receive([packetize(0, 1, &ana, 0), packetize(1, 2, &ben, 700)].concat());
    let built = call.assemble();
    let late = pcm(&built, 1);
    assert!(late[..5_600].iter().all(|sample| *sample == 0));
    assert_same(&ben, &late[5_600..13_600]);
    assert_eq!(built.lanes[1].track.duration_ms, 1_000);
}

#[test]
fn g722_is_heard_in_its_full_band_beside_g711() {
    let mut call = Call::of_two(["96", "97"]);
    let wide: Vec<i16> = (0..32_000)
        .map(|n| ((n as f32 * 0.1).sin() * 5_000.0 + (n as f32 * 2.2).sin() * 3_000.0) as i16)
        .collect();
    let narrow = speech(2, 2_000);
    call.negotiate(1, &[stream(0, Some("96")), stream(1, Some("97"))]);
    call.receive([packetize_g722(0, 1, &wide, 0), packetize(1, 2, &narrow, 0)].concat());
    let built = call.assemble();
    assert_eq!((built.sample_rate, built.duration_ms()), (16_000, 2_000));
    // What the coder's filters delay by is made up for; they settle within some milliseconds.
    assert_same(&wide[500..31_000], &pcm(&built, 0)[500..31_000]);
    // G.711 is interpolated: every second sample is the one that was sent, but for the highest
    // frequencies, and not late.
    let back: Vec<i16> = pcm(&built, 1).iter().step_by(2).copied().collect();
    assert_same(&narrow[100..15_900], &back[100..15_900]);
}

#[test]
fn an_unknown_codec_is_counted_laid_out_and_flagged() {
    let mut call = Call::of_two(["96", "97"]);
    call.negotiate(1, &[stream(0, Some("96"))]);
    let mut packets = packetize(0, 1, &speech(1, 1_000), 0);
    for packet in &mut packets {
        packet.payload_type = 4;
        packet.payload.truncate(20);
    }
    call.receive(packets);
    let built = call.assemble();
    assert_eq!(built.lanes[0].track.codec, "G723");
    assert_eq!(built.lanes[0].track.packets_received, 50);
    assert_eq!(built.duration_ms(), 1_000);
    assert_eq!(built.flags.iter().collect::<Vec<_>>(), [flag::UNDECODED_TRACK]);
}

#[test]
fn silence_and_absence_are_told_apart() {
    let mut call = Call::of_two(["96", "97"]);
    call.negotiate(1, &[stream(0, Some("96")), stream(1, Some("97"))]);
    call.receive(packetize(0, 1, &speech(1, 500), 0));
    let flags = |call: &Call| call.assemble().plan.flags.into_iter().collect::<Vec<_>>();
    assert_eq!(flags(&call), [flag::NO_PACKETS, flag::ONE_WAY_AUDIO]);
    call.receive(packetize(1, 1, &vec![0; 4_000], 0));
    assert_eq!(flags(&call), [flag::ONE_WAY_AUDIO, flag::SILENT_TRACK]);
}

#[test]
fn a_call_without_media_is_as_long_as_its_dialog() {
    let mut call = Call::of_two(["96", "97"]);
    call.negotiate(1, &[stream(0, Some("96")), stream(1, Some("97"))]);
    call.ended(2_500, call.session.first_recording());
    let built = call.assemble();
    assert_eq!(built.duration_ms(), 2_500);
    assert_eq!(pcm(&built, 1), vec![0; 20_000]);
}

#[test]
fn hold_is_marked_on_its_stream_and_costs_no_time() {
    let mut call = Call::of_two(["96", "97"]);
    let (ana, ben) = (speech(1, 6_000), speech(2, 6_000));
    let both = [stream(0, Some("96")), stream(1, Some("97"))];
    let held = StreamInfo { direction: Direction::Inactive, ..both[0].clone() };
    call.negotiate(1, &both);
    let mut sent = packetize(0, 1, &ana, 0);
    // The sender stops its timestamps with its packets, as many do.
    let after: Vec<Rtp> = packetize(0, 1, &ana, 0)
        .into_iter()
        .skip(100)
        .map(|rtp| Rtp { arrival_ms: rtp.arrival_ms + 2_000, ..rtp })
        .collect();
    sent.truncate(100);
    call.receive(sent);
    call.negotiate(2_000, &[held, both[1].clone()]);
    call.negotiate(4_000, &both);
    call.receive([after, packetize(1, 2, &ben, 0)].concat());
    let built = call.assemble();
    let lane = pcm(&built, 0);
    assert_same(&ana[..16_000], &lane[..16_000]);
    assert!(lane[16_000..32_000].iter().all(|sample| *sample == 0));
    assert_same(&ana[16_000..32_000], &lane[32_000..48_000]);
    assert_same(&ben, &pcm(&built, 1)[..48_000]);
    assert_eq!(built.marks.len(), 1, "{:?}", built.marks);
    let hold = &built.marks[0];
    assert_eq!((hold.kind, hold.track), (MarkKind::Hold, Some(0)));
    assert!(hold.from_ms.abs_diff(2_000) <= 10 && hold.to_ms.abs_diff(4_000) <= 10, "{hold:?}");
    assert_eq!(built.lanes[0].quality.lost, 0);
}

#[test]
fn a_pause_is_a_pause_and_not_a_loss() {
    let (ana, mut call) = (speech(1, 3_000), Call::of_two(["96", "97"]));
    call.negotiate(1, &[stream(0, Some("96"))]);
    let mark = |begins| SealedMark { kind: MarkKind::Pause, label: None, begins, detail: None };
    let sent = packetize(0, 1, &ana, 0);
    call.receive(sent[..50].to_vec());
    call.mark(1_000, mark(true));
    call.mark(2_000, mark(false));
    call.receive(sent[100..].to_vec());
    let built = call.assemble();
    let kinds: Vec<_> = built.marks.iter().map(|mark| (mark.kind, mark.track)).collect();
    assert_eq!(kinds, [(MarkKind::Pause, None)]);
    assert_same(&ana[16_000..], &pcm(&built, 0)[16_000..]);
    let track = &built.lanes[0].track;
    let counts = (track.packets_expected, track.packets_received, track.packets_lost);
    assert_eq!(counts, (100, 100, 0));
}

#[test]
fn a_loss_outside_of_a_pause_is_counted_beside_it() {
    let (ana, mut call) = (speech(1, 3_000), Call::of_two(["96", "97"]));
    call.negotiate(1, &[stream(0, Some("96"))]);
    let mark = |begins| SealedMark { kind: MarkKind::Pause, label: None, begins, detail: None };
    let sent = packetize(0, 1, &ana, 0);
    call.receive(sent[..30].to_vec());
    call.receive(sent[33..50].to_vec());
    call.mark(1_000, mark(true));
    call.mark(2_000, mark(false));
    call.receive(sent[100..].to_vec());
    let track = &call.assemble().lanes[0].track;
    assert_eq!((track.packets_expected, track.packets_lost), (100, 3));
}

#[test]
fn digits_are_marks_and_not_sound() {
    let mut call = Call::of_two(["96", "97"]);
    call.negotiate(1, &[stream(0, Some("96"))]);
    let mut sent = packetize(0, 1, &speech(1, 1_000), 0);
    // A `7` that begins at 400 ms and lasts for 100 ms, its last packet three times.
    let began = sent[20].timestamp;
    for (number, packet) in sent[20..25].iter_mut().enumerate() {
        let ticks = (160 * (number as u16 + 1)).to_be_bytes();
        let end = if number == 4 { 0x80 } else { 0 };
        packet.payload_type = 101;
        packet.timestamp = began;
        packet.payload = vec![7, end | 10, ticks[0], ticks[1]];
    }
    call.receive(sent);
    let built = call.assemble();
    assert_eq!(built.marks.len(), 1, "{:?}", built.marks);
    let mark = &built.marks[0];
    assert_eq!((mark.kind, mark.detail.as_deref()), (MarkKind::Dtmf, Some("7")));
    assert_eq!((mark.from_ms, mark.to_ms, mark.track), (400, 500, Some(0)));
    assert!(pcm(&built, 0)[3_200..4_000].iter().all(|sample| *sample == 0));
    assert_eq!(built.lanes[0].track.packets_lost, 0);
    assert_eq!(built.lanes[0].track.codec, "PCMU");
}

#[test]
fn a_further_communication_session_has_its_own_streams_and_time() {
    let mut call = Call::of_two(["96", "97"]);
    let (first, second) = (speech(1, 4_000), speech(2, 4_000));
    let further = call.session.further_recording("cs-2");
    call.negotiate(1, &[stream(0, Some("96")), stream(1, Some("97"))]);
    let [all_first, all_second] = [packetize(0, 1, &first, 0), packetize(1, 2, &second, 0)];
    call.receive([&all_first[..100], &all_second[..100]].concat());
    call.started(2_000, further, false);
    call.receive([&all_first[100..150], &all_second[100..150]].concat());
    call.ended(3_010, further);
    // The session goes on for another second.
    let after = |rtp: &Rtp| Rtp { arrival_ms: rtp.arrival_ms + 1_000, ..rtp.clone() };
    call.receive(all_second[150..].iter().map(after).collect());
    call.facts.streams.retain(|stream| stream.label == "97");
    let built = call.try_assemble(further).unwrap();
    assert_eq!(built.lanes.len(), 1);
    assert_eq!(built.duration_ms(), 1_000);
    assert_same(&second[16_000..24_000], &pcm(&built, 0));
    assert!(built.ended);
    assert!(!call.assemble().ended);
}

#[test]
fn the_wrong_key_builds_nothing_rather_than_silence() {
    let (mut call, ..) = simple_call(200);
    call.keys = TenantKeyPair::from_bytes([9; 32]);
    let built = call.try_assemble(call.session.first_recording());
    assert!(matches!(built, Err(ReadError::Sealed(_))));
}

#[test]
fn a_changed_record_costs_itself_and_is_flagged() {
    let (mut call, ana, _) = simple_call(1_000);
    let is_packets = |record: &&mut segment::SessionRecord| record.kind == RecordKind::Packets;
    let record = call.records.iter_mut().filter(is_packets).nth(5).unwrap();
    let last = record.bytes.len() - 20;
    record.bytes[last] ^= 1;
    let built = call.assemble();
    assert!(built.flags.contains(flag::DAMAGED));
    assert_eq!(built.duration_ms(), 1_000);
    assert_eq!(built.lanes[0].quality.lost, 5);
    assert_same(&ana[4_800..], &pcm(&built, 0)[4_800..]);
}

fn wave(call: &media::Call, track: Option<usize>) -> Result<Vec<u8>, wav::WavError> {
    let mut out = Vec::new();
    wav::write(call, track, &mut out)?;
    assert_eq!(out.len() as u64, wav::bytes(call, track));
    Ok(out)
}

#[test]
fn a_wav_holds_every_lane_or_one() {
    let (call, ana, ben) = simple_call(500);
    let built = call.assemble();
    let read = |bytes: Vec<u8>| {
        let reader = hound::WavReader::new(std::io::Cursor::new(bytes)).unwrap();
        let spec = reader.spec();
        assert_eq!((spec.sample_rate, spec.bits_per_sample), (8_000, 16));
        (spec.channels, reader.into_samples::<i16>().map(Result::unwrap).collect::<Vec<_>>())
    };
    let (channels, samples) = read(wave(&built, None).unwrap());
    assert_eq!(channels, 2);
    let side = |side| samples.iter().skip(side).step_by(2).copied().collect::<Vec<_>>();
    assert_same(&ana, &side(0));
    assert_same(&ben, &side(1));
    let (channels, samples) = read(wave(&built, Some(1)).unwrap());
    assert_eq!(channels, 1);
    assert_same(&ben, &samples);
    assert!(matches!(wave(&built, Some(2)), Err(wav::WavError::NoTrack { track: 2 })));
}

#[test]
fn peaks_are_where_the_sound_is() {
    let mut call = Call::of_two(["96", "97"]);
    call.negotiate(1, &[stream(0, Some("96")), stream(1, Some("97"))]);
    let mut loud_then_silent = vec![16_000_i16; 4_000];
    loud_then_silent.extend(vec![0; 4_000]);
    let quiet = vec![-1_000_i16; 8_000];
    call.receive([packetize(0, 1, &loud_then_silent, 0), packetize(1, 2, &quiet, 0)].concat());
    let built = call.assemble();
    let peaks = built.peaks().unwrap().json(&built);
    let peaks: serde_json::Value = serde_json::from_str(&peaks).unwrap();
    assert_eq!((peaks["version"].as_u64(), peaks["bits"].as_u64()), (Some(2), Some(8)));
    assert_eq!((peaks["channels"].as_u64(), peaks["length"].as_u64()), (Some(2), Some(20)));
    assert_eq!(peaks["samples_per_pixel"], 400);
    let data: Vec<i64> =
        peaks["data"].as_array().unwrap().iter().map(|value| value.as_i64().unwrap()).collect();
    assert_eq!(data.len(), 20 * 2 * 2);
    for pixel in 0..20 {
        let [least, most, least_ben, most_ben] = data[pixel * 4..][..4] else { unreachable!() };
        if pixel < 10 {
            assert!(least >= 60 && most <= 65, "pixel {pixel}: {least} to {most}");
        } else {
            assert_eq!((least, most), (0, 0), "pixel {pixel}");
        }
        assert!((-5..-2).contains(&least_ben) && (-5..-2).contains(&most_ben));
    }
}
