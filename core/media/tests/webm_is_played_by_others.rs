//! What we write is read back by other people's demuxers and decoders.

mod support;

use std::io::Cursor;
use std::process::Command;

use media::{Call as Recorded, Selection, flac, webm};
use support::*;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, SeekMode, SeekTo, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;
use symphonia::core::units::Time;

fn call_of(lanes: u16, ms: u64) -> (Recorded, Vec<Vec<i16>>) {
    let mut call = Call::new();
    let names = ["ana", "ben", "cleo"];
    let labels = ["96", "97", "98"];
    let voices: Vec<_> = (0..lanes).map(|lane| speech(u32::from(lane) + 1, ms)).collect();
    let mut streams = Vec::new();
    let mut packets = Vec::new();
    for lane in 0..lanes {
        let label = labels[usize::from(lane)];
        call.party(names[usize::from(lane)], "sip:x@example.com", label);
        streams.push(stream(lane, Some(label)));
        packets.extend(packetize(lane, u32::from(lane), &voices[usize::from(lane)], 0));
    }
    call.negotiate(1, &streams);
    call.receive(packets);
    (call.assemble(), voices)
}

#[test]
fn symphonia_demuxes_every_packet_and_seeks() {
    let (built, _) = call_of(2, 12_340);
    let bytes = webm::write(&built, Selection::Sides).unwrap();
    let probe = || {
        let source =
            MediaSourceStream::new(Box::new(Cursor::new(bytes.clone())), Default::default());
        symphonia::default::get_probe()
            .probe(&Hint::new(), source, FormatOptions::default(), MetadataOptions::default())
            .unwrap()
    };
    let mut format = probe();
    let track = format.default_track(TrackType::Audio).unwrap();
    let codec = track.codec_params.as_ref().unwrap().audio().unwrap();
    assert_eq!(codec.sample_rate, Some(48_000));
    let head = codec.extra_data.as_deref().unwrap();
    assert_eq!((&head[..8], head[8], head[9]), (b"OpusHead".as_slice(), 1, 2));
    assert_eq!(u32::from_le_bytes([head[12], head[13], head[14], head[15]]), 8_000);
    let track = track.id;
    let mut packets = 0;
    while let Some(packet) = format.next_packet().unwrap() {
        assert_eq!(packet.track_id, track);
        packets += 1;
    }
    // 12,340 ms and what the encoder holds back, in packets of 20 ms.
    assert_eq!(packets, 618);
    // A reader that has come to the end does not go back.
    let mut format = probe();
    let to = SeekTo::Time { time: Time::from_millis(7_000), track_id: Some(track) };
    let sought = format.seek(SeekMode::Accurate, to).unwrap();
    assert!(sought.actual_ts.get().abs_diff(7_000) <= 20, "{sought:?}");
    assert!(format.next_packet().unwrap().is_some());
}

#[test]
fn ffprobe_finds_no_fault_and_the_right_length() {
    let Some(mut ffprobe) = tool("ffprobe") else { return };
    for (lanes, channels) in [(1, 1), (2, 2), (3, 2)] {
        let (built, _) = call_of(lanes, 7_300);
        let file = file(&webm::write(&built, Selection::Sides).unwrap(), ".webm");
        let output = ffprobe_of(&mut ffprobe, file.path());
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let probed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let stream = &probed["streams"][0];
        assert_eq!(stream["codec_name"], "opus");
        assert_eq!(stream["sample_rate"], "48000");
        assert_eq!(stream["channels"], channels);
        let seconds: f64 = probed["format"]["duration"].as_str().unwrap().parse().unwrap();
        assert!((seconds - 7.3).abs() <= 0.02, "{seconds} s");
        ffprobe = Command::new("ffprobe");
    }
}

fn ffprobe_of(ffprobe: &mut Command, path: &std::path::Path) -> std::process::Output {
    let options = ["-v", "warning", "-of", "json", "-show_format", "-show_streams"];
    ffprobe.args(options).arg(path).output().unwrap()
}

/// Interleaved samples at 8 kHz as ffmpeg hears them.
fn ffmpeg_decodes(bytes: &[u8], suffix: &str, seek_secs: &str) -> Option<Vec<i16>> {
    let mut ffmpeg = tool("ffmpeg")?;
    let file = file(bytes, suffix);
    ffmpeg.args(["-v", "error", "-ss", seek_secs, "-i"]).arg(file.path());
    let output = ffmpeg.args(["-f", "s16le", "-ar", "8000", "-"]).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let samples = output.stdout.chunks_exact(2);
    Some(samples.map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect())
}

fn side(samples: &[i16], side: usize) -> Vec<i16> {
    samples.iter().skip(side).step_by(2).copied().collect()
}

#[test]
fn ffmpeg_hears_each_party_on_its_side_at_its_time() {
    let (built, voices) = call_of(2, 6_000);
    let bytes = webm::write(&built, Selection::Sides).unwrap();
    let Some(samples) = ffmpeg_decodes(&bytes, ".webm", "0") else { return };
    assert!(samples.len().abs_diff(2 * 48_000) <= 2 * 160, "{}", samples.len());
    for lane in 0..2 {
        let heard = side(&samples, lane);
        let count = heard.len().min(48_000);
        let own = correlation(&voices[lane][..count], &heard[..count]);
        let other = correlation(&voices[1 - lane][..count], &heard[..count]);
        assert!(own > 0.9 && other.abs() < 0.2, "lane {lane}: own {own}, other {other}");
    }
}

#[test]
fn ffmpeg_seeks_to_where_it_was_told() {
    let (built, voices) = call_of(2, 12_000);
    let bytes = webm::write(&built, Selection::Sides).unwrap();
    let Some(samples) = ffmpeg_decodes(&bytes, ".webm", "7.5") else { return };
    let heard = side(&samples, 0);
    // Half a second after the seek the decoder has settled. ffmpeg counts from the first packet,
    // which lies the codec's delay of 6.5 ms before the first sample, in whole milliseconds.
    let sent = &voices[0][64_000..88_000];
    let likeness = (4_000..4_064).map(|at| correlation(sent, &heard[at..at + 24_000]));
    let best = likeness.fold(0.0, f64::max);
    assert!(best > 0.9, "{best}");
}

#[test]
fn ffmpeg_reads_the_flac_to_the_bit() {
    let (built, _) = call_of(2, 1_234);
    let bytes = flac::write(&built, None).unwrap();
    let Some(samples) = ffmpeg_decodes(&bytes, ".flac", "0") else { return };
    assert_eq!(side(&samples, 0), pcm(&built, 0));
    assert_eq!(side(&samples, 1), pcm(&built, 1));
}

#[test]
fn a_call_without_a_sample_is_a_file_all_the_same() {
    let built = Call::new().assemble();
    let bytes = webm::write(&built, Selection::Sides).unwrap();
    assert_eq!(bytes[..4], [0x1a, 0x45, 0xdf, 0xa3]);
    let Some(samples) = ffmpeg_decodes(&bytes, ".webm", "0") else { return };
    assert!(samples.len() <= 160, "{}", samples.len());
}

#[test]
fn minutes_are_joined_without_a_seam() {
    let (built, voices) = call_of(2, 130_000);
    let bytes = webm::write(&built, Selection::Sides).unwrap();
    let Some(samples) = ffmpeg_decodes(&bytes, ".webm", "0") else { return };
    assert!(samples.len().abs_diff(2 * 1_040_000) <= 2 * 160, "{}", samples.len());
    for (lane, voice) in voices.iter().enumerate() {
        let heard = side(&samples, lane);
        // A tenth of a second around a seam is as like what was sent as any other.
        let likeness = |ms: usize| {
            let part = ms * 8 - 400..ms * 8 + 400;
            correlation(&voice[part.clone()], &heard[part])
        };
        let elsewhere = likeness(30_000).min(likeness(90_000)).min(likeness(110_000));
        for seam in [60_000, 120_000] {
            let at_seam = likeness(seam);
            assert!(at_seam > elsewhere - 0.05, "lane {lane}: {at_seam}, elsewhere {elsewhere}");
        }
    }
}

#[test]
fn a_part_is_played_by_itself_and_fits_to_the_next() {
    let (built, voices) = call_of(2, 20_000);
    let mut heard = Vec::new();
    for from in [5_000_u64, 9_000, 13_000] {
        let bytes = webm::write_part(&built, Selection::Sides, from * 8, 4_000 * 8).unwrap();
        let Some(samples) = ffmpeg_decodes(&bytes, ".webm", "0") else { return };
        assert!(samples.len().abs_diff(2 * 32_000) <= 2 * 160, "{}", samples.len());
        heard.extend(side(&samples, 0).into_iter().take(32_000));
    }
    let likeness = correlation(&voices[0][40_000..40_000 + heard.len()], &heard);
    assert!(likeness > 0.9, "{likeness}");
}

#[test]
fn one_track_or_all_in_the_middle_are_mono() {
    let (built, voices) = call_of(3, 3_000);
    for (selection, voice) in [(Selection::Track(2), 2), (Selection::Mono, 0)] {
        let bytes = webm::write(&built, selection).unwrap();
        let Some(samples) = ffmpeg_decodes(&bytes, ".webm", "0") else { return };
        assert!(samples.len().abs_diff(24_000) <= 160, "{selection:?}: {}", samples.len());
        let count = samples.len().min(24_000);
        let likeness = correlation(&voices[voice][..count], &samples[..count]);
        assert!(likeness > 0.5, "{selection:?}: {likeness}");
    }
}
