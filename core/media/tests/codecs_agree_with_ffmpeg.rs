//! Every codec is decoded as ffmpeg decodes it, from what ffmpeg encoded where it can. Opus is
//! decoded by ffmpeg's own decoder, not by the library that we use.

mod support;

use std::io::Cursor;
use std::process::Command;

use media::Call as Recorded;
use oxideav_core::{AudioFrame, CodecId, CodecParameters, Encoder, Frame};
use segment::Format;
use support::*;
use symphonia::core::formats::FormatOptions;
use symphonia::core::formats::probe::Hint;
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

const SECONDS: u64 = 4;

fn bytes_of(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn samples_of(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

/// What ffmpeg makes of `input`, which is a file of the format and options in `from`.
fn ffmpeg(from: &[&str], input: &[u8], to: &[&str]) -> Option<Vec<u8>> {
    let mut ffmpeg: Command = tool("ffmpeg")?;
    let input = file(input, ".input");
    let output = tempfile::NamedTempFile::new().unwrap();
    ffmpeg.args(["-v", "error", "-y"]).args(from).arg("-i").arg(input.path());
    let run = ffmpeg.args(to).arg(output.path()).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    Some(std::fs::read(output.path()).unwrap())
}

fn raw(rate: &str) -> [&str; 6] {
    ["-f", "s16le", "-ar", rate, "-ac", "1"]
}

/// A call of one stream, whose payloads last `ticks` each. `lost` ones do not come.
fn heard(format: &Format, payloads: &[Vec<u8>], ticks: u32, lost: &[usize]) -> Vec<i16> {
    let mut call = Call::new();
    let mut negotiated = stream(0, Some("96"));
    negotiated.formats.push(format.clone());
    call.negotiate(1, &[negotiated]);
    let packets = payloads.iter().enumerate().filter(|(number, _)| !lost.contains(number));
    let packet_ms = u64::from(ticks) * 1_000 / u64::from(format.clock_rate);
    let packets = packets.map(|(number, payload)| Rtp {
        stream: 0,
        payload_type: format.payload_type,
        sequence: number as u16,
        timestamp: number as u32 * ticks,
        ssrc: 7,
        payload: payload.clone(),
        arrival_ms: number as u64 * packet_ms + 5,
    });
    call.receive(packets.collect());
    let built: Recorded = call.assemble();
    assert!(built.flags.is_empty() || !lost.is_empty(), "{:?}", built.flags);
    pcm(&built, 0)
}

fn format(encoding: &str, clock_rate: u32, channels: u8) -> Format {
    let encoding = encoding.to_owned();
    Format { payload_type: 110, encoding, clock_rate, channels, fmtp: None }
}

fn chunks(coded: &[u8], bytes: usize) -> Vec<Vec<u8>> {
    coded.chunks_exact(bytes).map(<[u8]>::to_vec).collect()
}

/// To the bit by another reference, see the codec: ffmpeg rounds a little otherwise. At 40 kbit/s it
/// lets the predictor's zeros leak twice as fast as the Recommendation (UPB) and is no reference.
#[test]
fn g726_in_either_packing_sounds_as_ffmpeg_decodes_it() {
    let voice = bytes_of(&speech(3, SECONDS * 1_000));
    for bits in 2..=4_u8 {
        let (size, rate) = (bits.to_string(), format!("{}k", bits * 8));
        for (packing, prefix) in [("g726le", ""), ("g726", "AAL2-")] {
            let to = ["-c:a", packing, "-b:a", &rate, "-f", packing];
            let Some(coded) = ffmpeg(&raw("8000"), &voice, &to) else { return };
            let decoded = ["-f", packing, "-code_size", &size, "-ar", "8000"];
            let theirs = samples_of(&ffmpeg(&decoded, &coded, &["-f", "s16le"]).unwrap());
            let name = format!("{prefix}G726-{}", bits * 8);
            let payloads = chunks(&coded, usize::from(bits) * 20);
            let ours = heard(&format(&name, 8_000, 1), &payloads, 160, &[]);
            assert_same_voice(&theirs, &ours, 0.999);
        }
    }
}

#[test]
fn gsm_is_decoded_to_the_bit() {
    let voice = bytes_of(&speech(4, SECONDS * 1_000));
    let Some(coded) = ffmpeg(&raw("8000"), &voice, &["-c:a", "libgsm", "-f", "gsm"]) else {
        return;
    };
    // Their own decoder, not the library that encoded it.
    let theirs = ffmpeg(&["-c:a", "gsm", "-f", "gsm"], &coded, &["-f", "s16le"]).unwrap();
    let ours = heard(&format("GSM", 8_000, 1), &chunks(&coded, 33), 160, &[]);
    assert_eq!(ours[..], samples_of(&theirs)[..ours.len()]);
}

#[test]
fn g711_and_l16_are_decoded_to_the_bit() {
    let voice = speech(5, SECONDS * 1_000);
    for (theirs, ours) in [("pcm_mulaw", "PCMU"), ("pcm_alaw", "PCMA")] {
        let muxer = theirs.trim_start_matches("pcm_");
        let to = ["-c:a", theirs, "-f", muxer];
        let Some(coded) = ffmpeg(&raw("8000"), &bytes_of(&voice), &to) else { return };
        let back = ["-f", muxer, "-ar", "8000", "-ac", "1"];
        let decoded = samples_of(&ffmpeg(&back, &coded, &["-f", "s16le"]).unwrap());
        assert_eq!(heard(&format(ours, 8_000, 1), &chunks(&coded, 160), 160, &[]), decoded);
    }
    let to = ["-c:a", "pcm_s16be", "-f", "s16be"];
    let coded = ffmpeg(&raw("8000"), &bytes_of(&voice), &to).unwrap();
    assert_eq!(heard(&format("L16", 8_000, 1), &chunks(&coded, 320), 160, &[]), voice);
}

#[test]
fn g722_is_soon_decoded_to_the_bit_and_never_late() {
    let voice = bytes_of(&speech(6, SECONDS * 1_000));
    let to = ["-c:a", "g722", "-f", "g722"];
    let Some(coded) = ffmpeg(&raw("16000"), &voice, &to) else { return };
    let theirs = samples_of(&ffmpeg(&["-f", "g722"], &coded, &["-f", "s16le"]).unwrap());
    let ours = heard(&format("G722", 8_000, 1), &chunks(&coded, 160), 160, &[]);
    // What the filters of both ends take is taken off: the voice is where it was spoken.
    let spoken = samples_of(&voice);
    assert_same_voice(&spoken, &ours, 0.98);
    // It begins with another step size, which the first half second evens out.
    let settled = 8_000..ours.len() - 22;
    assert_eq!(ours[settled.clone()], theirs[settled.start + 22..settled.end + 22]);
}

/// Frames of an encoder that ffmpeg does not have.
fn encode(mut encoder: Box<dyn Encoder>, samples: &[i16]) -> Vec<Vec<u8>> {
    let count = samples.len() as u32;
    let frame = AudioFrame { samples: count, pts: Some(0), data: vec![bytes_of(samples)] };
    encoder.send_frame(&Frame::Audio(frame)).unwrap();
    std::iter::from_fn(|| encoder.receive_packet().ok()).map(|packet| packet.data).collect()
}

#[track_caller]
fn assert_same_voice(theirs: &[i16], ours: &[i16], at_least: f64) {
    let length = theirs.len().min(ours.len());
    assert!(length as u64 > SECONDS * 7_900, "{length} samples");
    let likeness = correlation(&theirs[..length], &ours[..length]);
    assert!(likeness > at_least, "correlation {likeness}");
}

#[cfg(feature = "g729")]
#[test]
fn g729_sounds_as_ffmpeg_decodes_it() {
    let voice = speech(8, SECONDS * 1_000);
    let parameters = CodecParameters::audio(CodecId::new("g729"));
    let frames = encode(oxideav_g729::codec::make_encoder(&parameters).unwrap(), &voice);
    let from = ["-f", "g729"];
    let Some(theirs) = ffmpeg(&from, &frames.concat(), &["-f", "s16le"]) else { return };
    let payloads: Vec<Vec<u8>> = frames.chunks_exact(2).map(<[_]>::concat).collect();
    let ours = heard(&format("G729", 8_000, 1), &payloads, 160, &[]);
    assert_same_voice(&samples_of(&theirs), &ours, 0.95);
}

/// The packets of an Opus stream in WebM.
fn opus_packets(webm: Vec<u8>) -> Vec<Vec<u8>> {
    let source = MediaSourceStream::new(Box::new(Cursor::new(webm)), Default::default());
    let mut format = symphonia::default::get_probe()
        .probe(&Hint::new(), source, FormatOptions::default(), MetadataOptions::default())
        .unwrap();
    std::iter::from_fn(|| format.next_packet().unwrap())
        .map(|packet| packet.data.to_vec())
        .collect()
}

#[test]
fn opus_of_one_or_two_channels_sounds_as_ffmpegs_own_decoder_has_it() {
    let voice: Vec<i16> = speech(9, SECONDS * 1_000);
    let other: Vec<i16> = speech(2, SECONDS * 1_000);
    let both: Vec<i16> = voice.iter().zip(&other).flat_map(|(l, r)| [*l, *r]).collect();
    for (channels, samples) in [("1", voice), ("2", both)] {
        let from = ["-f", "s16le", "-ar", "8000", "-ac", channels];
        let to = ["-c:a", "libopus", "-ar", "48000", "-b:a", "64k", "-f", "webm"];
        let Some(webm) = ffmpeg(&from, &bytes_of(&samples), &to) else { return };
        let decoder = ["-c:a", "opus"];
        let theirs = ffmpeg(&decoder, &webm, &["-ac", "1", "-f", "s16le"]).unwrap();
        let ours = heard(&format("opus", 48_000, 2), &opus_packets(webm), 960, &[]);
        assert_same_voice(&samples_of(&theirs), &ours, 0.99);
    }
}

/// A tone that is another one every 40 ms: what nobody can guess from what was before.
fn melody(seconds: u64) -> Vec<i16> {
    let mut random = 1_u32;
    let mut phase = 0.0_f32;
    let mut step = 0.0;
    let tones = (0..seconds * 8_000).map(|n| {
        if n % 320 == 0 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            step = 0.2 + (random >> 16) as f32 / 65_536.0;
        }
        phase += step;
        (phase.sin() * 8_000.0) as i16
    });
    tones.collect()
}

#[test]
fn a_lost_packet_of_opus_is_heard_from_what_the_next_one_has_of_it() {
    let voice = bytes_of(&melody(SECONDS));
    let encode = |fec: &str| {
        let to = ["-c:a", "libopus", "-b:a", "24k", "-application", "voip", "-vbr", "off"];
        let to = [&to[..], &["-fec", fec, "-packet_loss", "30", "-f", "webm"]].concat();
        Some(opus_packets(ffmpeg(&raw("8000"), &voice, &to)?))
    };
    // Every tenth packet, each far from the others.
    let lost: Vec<usize> = (20..SECONDS as usize * 50 - 10).step_by(10).collect();
    let likeness = |payloads: &[Vec<u8>]| {
        let whole = heard(&format("opus", 48_000, 2), payloads, 960, &[]);
        let holed = heard(&format("opus", 48_000, 2), payloads, 960, &lost);
        let of_each = |number: &usize| number * 960..(number + 1) * 960;
        let pieces = |from: &[i16]| -> Vec<i16> {
            lost.iter().flat_map(|number| from[of_each(number)].to_vec()).collect()
        };
        correlation(&pieces(&whole), &pieces(&holed))
    };
    let (Some(with), Some(without)) = (encode("1"), encode("0")) else { return };
    let (with, without) = (likeness(&with), likeness(&without));
    assert!(with > 0.8 && with > without + 0.3, "{with} with FEC, {without} without");
}
