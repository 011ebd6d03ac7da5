//! Sealed from the first byte: who has the disk but not the key has nothing.

use std::fs;
use std::path::{Path, PathBuf};

use caller::{FRAME_SAMPLES, MetadataStyle};
use e2e::audio::mu_law;
use e2e::calls::{place, plan};
use e2e::product::Product;

/// Said in metadata and nowhere else.
const MARKER: &str = "Xanthippe-Marker-7401";
/// An SDES key, as an SRC may name it in its metadata.
const SDP_KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";

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
    let product = Product::start_traced();
    let mut wanted = plan(product.sip, 1.0);
    wanted.participants[0].name = MARKER.to_owned();
    wanted.participants[1].aor = format!("sip:{MARKER}@example.com");
    wanted.headers = vec![("P-Asserted-Identity".to_owned(), format!("<sip:{MARKER}@x>"))];
    let reports = place(wanted);
    product.wait_for(&reports[0].call_id, "stored");
    assert!(!product.log().contains(MARKER), "{}", product.log());
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
