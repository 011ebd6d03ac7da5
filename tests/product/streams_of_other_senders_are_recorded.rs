//! RTP that ffmpeg and GStreamer make, in every codec that they have, plain and encrypted; and what
//! Wireshark says of what we send.

use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::product::{Product, has_flag};
use e2e::raw_call::RawCall;
use e2e::tshark;
use serde_json::Value;

const SECONDS: u64 = 3;

/// A codec: how SDP names it, who makes it.
struct Made {
    payload_type: u8,
    rtpmap: &'static str,
    by: By,
}

#[derive(Clone, Copy)]
enum By {
    /// Its arguments.
    Ffmpeg(&'static [&'static str]),
    /// The elements that encode and packetise 8 kHz.
    Gstreamer(&'static str),
}

impl By {
    fn is_here(self) -> bool {
        match self {
            Self::Ffmpeg(arguments) => has_encoder(arguments[1]),
            Self::Gstreamer(elements) => elements.split(" ! ").all(has_element),
        }
    }

    fn start(self, payload_type: u8, port: u16) -> Child {
        match self {
            Self::Ffmpeg(codec) => {
                let tone = format!("sine=frequency=440:duration={SECONDS}");
                let target = format!("rtp://127.0.0.1:{port}");
                let payload_type = payload_type.to_string();
                let mut arguments = vec!["-i", &tone, "-ac", "1"];
                arguments.extend(codec);
                arguments.extend(["-f", "rtp", "-payload_type", &payload_type, &target]);
                ffmpeg(&arguments)
            }
            Self::Gstreamer(elements) => gstreamer(elements, port),
        }
    }
}

const MADE: [Made; 9] = [
    Made {
        payload_type: 0,
        rtpmap: "PCMU/8000",
        by: By::Ffmpeg(&["-c:a", "pcm_mulaw", "-ar", "8000"]),
    },
    Made {
        payload_type: 8,
        rtpmap: "PCMA/8000",
        by: By::Ffmpeg(&["-c:a", "pcm_alaw", "-ar", "8000"]),
    },
    Made {
        payload_type: 9,
        rtpmap: "G722/8000",
        by: By::Ffmpeg(&["-c:a", "g722", "-ar", "16000"]),
    },
    Made {
        payload_type: 97,
        rtpmap: "G726-32/8000",
        by: By::Ffmpeg(&["-c:a", "g726", "-b:a", "32k", "-ar", "8000"]),
    },
    Made { payload_type: 3, rtpmap: "GSM/8000", by: By::Gstreamer("gsmenc ! rtpgsmpay") },
    Made {
        payload_type: 98,
        rtpmap: "L16/16000",
        by: By::Ffmpeg(&["-c:a", "pcm_s16be", "-ar", "16000"]),
    },
    Made {
        payload_type: 111,
        rtpmap: "opus/48000/2",
        by: By::Ffmpeg(&["-c:a", "libopus", "-ar", "48000", "-ac", "2"]),
    },
    Made {
        payload_type: 99,
        rtpmap: "speex/16000",
        by: By::Ffmpeg(&["-c:a", "libspeex", "-ar", "16000"]),
    },
    Made {
        payload_type: 113,
        rtpmap: "iLBC/8000",
        by: By::Ffmpeg(&["-c:a", "libilbc", "-ar", "8000"]),
    },
];

/// SRTP: its suite, and who makes it.
struct Sealed {
    suite: &'static str,
    /// Of key and salt together.
    key_bytes: usize,
    /// GStreamer's names of cipher and authentication; ffmpeg makes the others.
    gstreamer: Option<(&'static str, &'static str)>,
}

const SEALED: [Sealed; 7] = [
    Sealed { suite: "AES_CM_128_HMAC_SHA1_80", key_bytes: 30, gstreamer: None },
    Sealed { suite: "AES_CM_128_HMAC_SHA1_32", key_bytes: 30, gstreamer: None },
    Sealed {
        suite: "AES_CM_128_HMAC_SHA1_80",
        key_bytes: 30,
        gstreamer: Some(("aes-128-icm", "hmac-sha1-80")),
    },
    Sealed {
        suite: "AES_256_CM_HMAC_SHA1_80",
        key_bytes: 46,
        gstreamer: Some(("aes-256-icm", "hmac-sha1-80")),
    },
    Sealed {
        suite: "AES_256_CM_HMAC_SHA1_32",
        key_bytes: 46,
        gstreamer: Some(("aes-256-icm", "hmac-sha1-32")),
    },
    Sealed { suite: "AEAD_AES_128_GCM", key_bytes: 28, gstreamer: Some(("aes-128-gcm", "null")) },
    Sealed { suite: "AEAD_AES_256_GCM", key_bytes: 44, gstreamer: Some(("aes-256-gcm", "null")) },
];

fn head() -> String {
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n".to_owned()
}

fn ffmpeg(arguments: &[&str]) -> Child {
    Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-re", "-f", "lavfi"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("ffmpeg starts")
}

fn gstreamer(elements: &str, port: u16) -> Child {
    let pipeline = format!(
        "audiotestsrc is-live=true wave=sine freq=440 samplesperbuffer=160 num-buffers={} ! \
         audio/x-raw,rate=8000,channels=1 ! {elements} ! \
         udpsink host=127.0.0.1 port={port} sync=true",
        SECONDS * 50
    );
    Command::new("gst-launch-1.0")
        .arg("-q")
        .args(pipeline.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("gst-launch-1.0 starts")
}

fn is_installed(program: &str) -> bool {
    Command::new(program)
        .arg("-version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

/// Encoders that this ffmpeg has.
fn has_encoder(name: &str) -> bool {
    let output = Command::new("ffmpeg").args(["-v", "error", "-encoders"]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().lines().any(|line| line.split_whitespace().nth(1) == Some(name))
}

/// Elements that this GStreamer has.
fn has_element(name: &str) -> bool {
    let inspected = Command::new("gst-inspect-1.0").arg(name).stdout(Stdio::null()).status();
    inspected.is_ok_and(|status| status.success())
}

fn wait(mut sender: Child) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match sender.try_wait().expect("a child of ours") {
            Some(status) => return assert!(status.success(), "the sender failed: {status}"),
            None if Instant::now() > deadline => {
                let _ = sender.kill();
                panic!("the sender does not end");
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[track_caller]
fn assert_whole(track: &Value, codec: &str) {
    assert!(
        track["codec"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(codec)),
        "{track}"
    );
    assert_eq!(track["packets_lost"], 0, "{track}");
    let ms = track["duration_ms"].as_u64().expect("a length");
    // ffmpeg fills packets as it likes; the last one may not be full.
    assert!((SECONDS * 1_000 - 300..=SECONDS * 1_000 + 300).contains(&ms), "{codec}: {ms} ms");
}

#[test]
fn every_codec_that_ffmpeg_and_gstreamer_make_is_recorded_packet_by_packet() {
    const NAME: &str = "every_codec_that_ffmpeg_and_gstreamer_make_is_recorded_packet_by_packet";
    if !is_installed("ffmpeg") {
        return e2e::skip(NAME, "ffmpeg is not installed");
    }
    let made: Vec<&Made> = MADE.iter().filter(|made| made.by.is_here()).collect();
    assert!(made.len() >= 5, "an ffmpeg without codecs");
    let product = Product::start();
    let mut sdp = head();
    for (label, Made { payload_type, rtpmap, .. }) in made.iter().enumerate() {
        // Static types need no rtpmap (RFC 3551), and many leave it out.
        let map = format!("a=rtpmap:{payload_type} {rtpmap}\r\n");
        let map = if *payload_type < 96 { String::new() } else { map };
        sdp += &format!(
            "m=audio {} RTP/AVP {payload_type}\r\n{map}a=sendonly\r\na=label:{label}\r\n",
            40_000 + 2 * label
        );
    }
    sdp += "m=video 50000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=sendonly\r\na=label:v\r\n";
    let call = RawCall::place(product.sip, &sdp);
    assert!(call.ports.iter().all(|port| *port > 0), "{:?}", call.ports);
    let mut senders: Vec<Child> = made
        .iter()
        .zip(&call.ports)
        .map(|(made, port)| made.by.start(made.payload_type, *port))
        .collect();
    let video = call.ports[made.len()];
    let is_video = has_encoder("libx264");
    if is_video {
        let picture = format!("testsrc=size=320x240:rate=15:duration={SECONDS}");
        let target = format!("rtp://127.0.0.1:{video}");
        let codec = ["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency"];
        let mut arguments = vec!["-i", &picture];
        arguments.extend(codec);
        arguments.extend(["-f", "rtp", "-payload_type", "96", &target]);
        senders.push(ffmpeg(&arguments));
    }
    senders.into_iter().for_each(wait);
    call.bye();

    let recording = product.wait_for(&call.call_id, "stored");
    let tracks = recording["tracks"].as_array().expect("tracks");
    assert_eq!(tracks.len(), made.len(), "pictures are no track: {recording}");
    for (track, made) in tracks.iter().zip(&made) {
        assert_whole(track, made.rtpmap.split('/').next().unwrap_or_default());
    }
    if is_video && tshark::is_installed() {
        let pcap = product.data_dir().join("all.pcap");
        let bytes = product.export(recording["id"].as_str().expect("an id"), "pcap");
        std::fs::write(&pcap, bytes).expect("a temporary file");
        let rules = [format!("udp.port=={video},rtp")];
        let filter = format!("rtp && udp.dstport == {video}");
        let pictures = tshark::fields(&pcap, &rules, &filter, &["rtp.p_type"]);
        assert!(pictures.len() >= 30, "{} packets of video", pictures.len());
        assert!(pictures.iter().all(|payload_type| payload_type == "96"));
    }
    product.verify_all();
}

#[test]
fn srtp_that_ffmpeg_and_gstreamer_make_is_read() {
    const NAME: &str = "srtp_that_ffmpeg_and_gstreamer_make_is_read";
    if !is_installed("ffmpeg") {
        return e2e::skip(NAME, "ffmpeg is not installed");
    }
    let has_gstreamer = has_element("srtpenc");
    if !has_gstreamer {
        e2e::skip(NAME, "GStreamer's srtpenc is not installed; ffmpeg's half ran");
    }
    let product = Product::start();
    let made: Vec<&Sealed> =
        SEALED.iter().filter(|made| made.gstreamer.is_none() || has_gstreamer).collect();
    let mut sdp = head();
    let keys: Vec<Vec<u8>> = (1..).zip(&made).map(|(n, made)| vec![n; made.key_bytes]).collect();
    for (label, (made, key)) in made.iter().zip(&keys).enumerate() {
        let (suite, key) = (made.suite, STANDARD.encode(key));
        sdp += &format!(
            "m=audio {} RTP/SAVP 0\r\na=crypto:1 {suite} inline:{key}\r\na=sendonly\r\n\
             a=label:{label}\r\n",
            40_000 + 2 * label
        );
    }
    let call = RawCall::place(product.sip, &sdp);
    assert!(call.ports.iter().all(|port| *port > 0), "{:?}", call.ports);
    let senders: Vec<Child> = made
        .iter()
        .zip(&keys)
        .zip(&call.ports)
        .map(|((made, key), port)| match made.gstreamer {
            None => {
                let tone = format!("sine=frequency=440:duration={SECONDS}");
                let (key, target) = (STANDARD.encode(key), format!("srtp://127.0.0.1:{port}"));
                ffmpeg(&[
                    "-i",
                    &tone,
                    "-ac",
                    "1",
                    "-c:a",
                    "pcm_mulaw",
                    "-ar",
                    "8000",
                    "-f",
                    "rtp",
                    "-srtp_out_suite",
                    made.suite,
                    "-srtp_out_params",
                    &key,
                    &target,
                ])
            }
            Some((cipher, auth)) => gstreamer_srtp(key, cipher, auth, *port),
        })
        .collect();
    senders.into_iter().for_each(wait);
    call.bye();
    let recording = product.wait_for(&call.call_id, "stored");
    assert!(!has_flag(&recording, "not_authentic"), "{recording}");
    let tracks = recording["tracks"].as_array().expect("tracks");
    assert_eq!(tracks.len(), made.len(), "{recording}");
    tracks.iter().for_each(|track| assert_whole(track, "PCMU"));
    // A tone of 440 Hz is what is heard on all of them, and not noise.
    let wav = product.export_wav(recording["id"].as_str().expect("an id"));
    for (channel, made) in wav.channels.iter().zip(&made) {
        let middle = &channel[channel.len() / 3..channel.len() / 3 + 8_000];
        let crossings = middle.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        assert!((435..=445).contains(&crossings), "{}: {crossings} Hz", made.suite);
    }
    product.verify_all();
}

fn gstreamer_srtp(key: &[u8], cipher: &str, auth: &str, port: u16) -> Child {
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    let elements = format!(
        "mulawenc ! rtppcmupay min-ptime=20000000 max-ptime=20000000 ! srtpenc key={hex} \
         rtp-cipher={cipher} rtp-auth={auth} rtcp-cipher={cipher} rtcp-auth={auth}"
    );
    gstreamer(&elements, port)
}

#[test]
fn wireshark_reads_our_answers_and_reports_without_a_complaint() {
    const NAME: &str = "wireshark_reads_our_answers_and_reports_without_a_complaint";
    if !tshark::is_installed() {
        return e2e::skip(NAME, "tshark is not installed");
    }
    let product = Product::start();
    let rtcp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    rtcp.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let rtp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let key = STANDARD.encode([7; 30]);
    let port = |socket: &UdpSocket| socket.local_addr().expect("bound").port();
    let sdp = format!(
        "{}m=audio {} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp:{}\r\n\
         a=sendonly\r\na=label:1\r\nm=audio 40002 RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n\
         a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^20|1:4\r\na=rtcp-mux\r\na=sendonly\r\n\
         a=label:2\r\nm=video 40004 RTP/AVPF 96\r\na=rtpmap:96 VP8/90000\r\na=inactive\r\n",
        head(),
        port(&rtp),
        port(&rtcp)
    );
    let call = RawCall::place(product.sip, &sdp);
    for sequence in 0..20_u16 {
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 160).to_be_bytes());
        packet.extend(0x1234_5678_u32.to_be_bytes());
        packet.extend([0xff; 160]);
        rtp.send_to(&packet, ("127.0.0.1", call.ports[0])).expect("loopback");
    }
    let hear = || {
        let mut buffer = [0; 2_048];
        let (length, _) = rtcp.recv_from(&mut buffer).expect("RTCP in time");
        buffer[..length].to_vec()
    };
    let report = hear();
    call.bye();
    let mut compounds = vec![report];
    // Until the goodbye, which is the last.
    while !compounds.last().is_some_and(|last| last.windows(2).any(|pair| pair == [0x81, 203])) {
        compounds.push(hear());
    }

    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("rtcp.pcap");
    tshark::capture(41_001, &compounds, &file);
    let rules = ["udp.port==41001,rtcp".to_owned()];
    tshark::assert_no_complaint(&file, &rules);
    let types = tshark::fields(&file, &rules, "rtcp", &["rtcp.pt", "rtcp.ssrc.identifier"]);
    assert_eq!(types.len(), compounds.len(), "{types:?}");
    assert!(types[0].starts_with("201,202"), "a report and a name: {types:?}");
    assert!(types[0].contains("0x12345678"), "about the source: {types:?}");
    assert!(types.last().is_some_and(|last| last.starts_with("201,202,203")), "{types:?}");

    let file = dir.path().join("sip.pcap");
    tshark::capture(5_060, std::slice::from_ref(&call.answer), &file);
    tshark::assert_no_complaint(&file, &[]);
    let media = tshark::fields(&file, &[], "sdp", &["sip.Status-Code", "sdp.media.proto"]);
    let [media] = media.as_slice() else { panic!("{media:?}") };
    assert!(media.starts_with("200\tRTP/AVP,RTP/SAVPF,RTP/AVPF"), "{media}");
}
