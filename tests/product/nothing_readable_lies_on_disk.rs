//! Sealed from the first byte: who has the disk but not the key has nothing.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use caller::{FRAME_SAMPLES, MetadataStyle};
use e2e::audio::mu_law;
use e2e::calls::{place, plan};
use e2e::product::Product;
use e2e::raw_call::RawCall;

/// Said in metadata and nowhere else.
const MARKER: &str = "Xanthippe-Marker-7401";
/// An SDES key, as an SRC may name it in its metadata.
const SDP_KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

const NUMBER: &str = "15550174019";
const DIGEST: &str = "753927fa0e85d155564e2e272a28d180";
const PASSWORD: &str = "plum-tapir-07401";
/// The password is asked for where the first trunk is not.
const TRUNKS: &str = "[[sip.trunks]]\nname = \"sbc\"\nsources = [\"127.0.0.1\"]\n\
    [[sip.trunks]]\nname = \"digest\"\n\
    digest = { user = \"Xanthippe-Marker-7401\", password = \"plum-tapir-07401\" }\n";

#[test]
fn neither_metadata_nor_keys_nor_audio_can_be_read_from_journal_and_objects() {
    let product = Product::start();
    let mut wanted = plan(product.sip, 3.0);
    wanted.metadata = MetadataStyle::Custom(format!(
        "<recording xmlns=\"urn:ietf:params:xml:ns:recording:1\"><session session_id=\"s\"/>\
         <participant participant_id=\"p\"><nameID aor=\"sip:{MARKER}@example.com\"/></participant>\
         <note>a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{SDP_KEY}</note></recording>"
    ));
    let reports = place(wanted);
    let recording = product.wait_for(&reports[0].call_id, "stored");
    let (_, metadata) = product
        .get(&format!("/v1/recordings/{}/metadata", recording["id"].as_str().expect("an id")));
    // With the key all of it is there.
    let text = metadata["documents"][0]["text"].as_str().expect("a document");
    assert!(text.contains(MARKER) && text.contains(SDP_KEY), "{text}");

    // The loudest packet of the call, as G.711 and as PCM; both are found where they may be.
    let stream = &reports[0].streams[0];
    let count = usize::try_from(stream.frames).expect("short") * FRAME_SAMPLES;
    let pcm = stream.source.samples(count).expect("speech");
    let loudness = |frame: &[i16]| frame.iter().map(|sample| i64::from(*sample).abs()).sum::<i64>();
    let loudest = pcm.chunks(FRAME_SAMPLES).max_by_key(|frame| loudness(frame)).expect("frames");
    let coded: Vec<u8> = loudest.iter().map(|sample| mu_law(*sample)).collect();
    let id = recording["id"].as_str().expect("an id");
    let pcap = product.export(id, "pcap");
    assert!(contains(&pcap, &coded), "the packets that were sent have these bytes");
    let wav = product.export_wav(id);
    let middle = wav.channels[0].len() / 2;
    let loud = wav.channels[0][middle..]
        .chunks(64)
        .max_by_key(|chunk| loudness(chunk))
        .expect("half a call has samples");
    let linear: Vec<u8> = loud.iter().flat_map(|sample| sample.to_le_bytes()).collect();

    let needles: [(&str, &[u8]); 4] = [
        ("a name in metadata", MARKER.as_bytes()),
        ("an SDP key", SDP_KEY.as_bytes()),
        ("PCM", &linear),
        ("G.711", &coded),
    ];
    let mut looked_at = Vec::new();
    for file in files(&product.data_dir().join("journal"))
        .into_iter()
        .chain(files(&product.data_dir().join("objects")))
    {
        // Playable outputs are what people hear; the store encrypts them. Everything else is sealed.
        let sealed = !file.components().any(|part| {
            part.as_os_str().to_str().is_some_and(|name| {
                name.strip_prefix('g').is_some_and(|rest| rest.parse::<u32>().is_ok())
            })
        });
        if !sealed {
            continue;
        }
        let bytes = fs::read(&file).expect("the files are ours");
        looked_at.push(file.to_string_lossy().into_owned());
        for (what, needle) in needles {
            assert!(!contains(&bytes, needle), "{what} can be read in {}", file.display());
        }
    }
    for kind in [".journal", "/segments/", "/packets"] {
        assert!(looked_at.iter().any(|file| file.contains(kind)), "no {kind} in {looked_at:?}");
    }
}

#[test]
fn what_the_product_logs_names_nobody() {
    let config = std::env::temp_dir().join(format!("linekeeper-{}.toml", std::process::id()));
    fs::write(&config, TRUNKS).expect("a temporary file can be written");
    let product = Product::start_traced(&["--config", config.to_str().expect("a path in UTF-8")]);
    fs::remove_file(&config).expect("the file was there");
    let mut wanted = plan(product.sip, 1.0);
    wanted.participants[0].name = MARKER.to_owned();
    wanted.participants[1].aor = format!("sip:{NUMBER}@{MARKER}.example.com");
    wanted.headers = vec![("P-Asserted-Identity".to_owned(), format!("<sip:{MARKER}@x>"))];
    let reports = place(wanted);
    product.wait_for(&reports[0].call_id, "stored");

    // A key in the offer of a call that is taken.
    let encrypted = format!(
        "v=0\r\no={MARKER} 1 1 IN IP4 127.0.0.1\r\ns={MARKER}\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
         m=audio 4000 RTP/SAVP 0\r\na=sendonly\r\n\
         a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{SDP_KEY}\r\n"
    );
    let call = RawCall::place(product.sip, &encrypted);
    assert!(String::from_utf8_lossy(&call.answer).contains("a=crypto:1 "), "it is encrypted");
    call.bye();
    product.wait_for(&call.call_id, "stored");

    // A password that is wrong: its proof and what it was made of.
    let socket = UdpSocket::bind("127.0.0.2:0").expect("loopback");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let local = socket.local_addr().expect("bound");
    let invite = format!(
        "INVITE sip:recorder@linekeeper.test SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKd\r\n\
         From: <sip:{NUMBER}@x>;tag=1\r\nTo: <sip:r@x>\r\nCall-ID: digest\r\nCSeq: 1 INVITE\r\n\
         Authorization: Digest username=\"{MARKER}\", realm=\"linekeeper\", nonce=\"{DIGEST}\", \
         uri=\"sip:{MARKER}\", response=\"{DIGEST}\", qop=auth, nc=00000001, cnonce=\"{DIGEST}\"\r\n\
         Content-Length: 0\r\n\r\n"
    );
    socket.send_to(invite.as_bytes(), product.sip).expect("loopback");
    let mut answer = [0; 2_000];
    let length = socket.recv(&mut answer).expect("an answer");
    assert!(answer[..length].starts_with(b"SIP/2.0 401"), "the digest was looked at");

    let log = product.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "everything is logged: {log}");
    for secret in [MARKER, NUMBER, SDP_KEY, DIGEST, PASSWORD] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("a readable directory").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
