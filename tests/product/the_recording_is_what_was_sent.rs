//! What plays is what was said: as long, on the right side, the same samples.

use caller::{Codec, MetadataStyle, Transport};
use e2e::audio::assert_is;
use e2e::calls::{place, plan};
use e2e::product::Product;

/// Metadata that lists the one heard on the *second* m-line first.
const BEN_FIRST: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1"><datamode>complete</datamode>
<session session_id="s1"/>
<participant participant_id="ben"><nameID aor="sip:ben@example.org"><name>Ben</name></nameID></participant>
<participant participant_id="ana"><nameID aor="sip:ana@example.com"><name>Ana</name></nameID></participant>
<stream stream_id="x" session_id="s1"><label>1</label></stream>
<stream stream_id="y" session_id="s1"><label>2</label></stream>
<participantstreamassoc participant_id="ana"><send>x</send><recv>y</recv></participantstreamassoc>
<participantstreamassoc participant_id="ben"><send>y</send><recv>x</recv></participantstreamassoc>
</recording>"#;

fn is_as_sent(transport: Transport, codec: Codec) {
    let product = Product::start();
    let mut wanted = plan(product.sip, 4.0);
    (wanted.transport, wanted.codec) = (transport, codec);
    let reports = place(wanted);
    let recording = product.wait_for(&reports[0].call_id, "stored");
    let id = recording["id"].as_str().expect("an id");
    let wav = product.export_wav(id);
    assert_eq!(wav.channels.len(), 2, "{recording}");
    for (stream, channel) in reports[0].streams.iter().zip(&wav.channels) {
        let sent_ms = stream.frames as f64 * 20.0;
        assert!((wav.duration_ms() - sent_ms).abs() <= 20.0, "{} {sent_ms}", wav.duration_ms());
        assert_is("a stream", &stream.source, stream.frames, channel);
    }
    for (track, stream) in
        recording["tracks"].as_array().expect("tracks").iter().zip(&reports[0].streams)
    {
        assert_eq!(track["packets_received"], stream.packets_sent, "{recording}");
        assert_eq!(track["packets_lost"], 0, "{recording}");
    }
    product.verify_all();
}

#[test]
fn a_call_over_udp_is_recorded_as_it_was_sent() {
    is_as_sent(Transport::Udp, Codec::Pcmu);
}

#[test]
fn a_call_over_tcp_in_a_law_is_recorded_as_it_was_sent() {
    is_as_sent(Transport::Tcp, Codec::Pcma);
}

#[test]
fn left_and_right_follow_the_metadata_and_not_the_order_of_the_streams() {
    let product = Product::start();
    let mut wanted = plan(product.sip, 3.0);
    wanted.metadata = MetadataStyle::Custom(BEN_FIRST.to_owned());
    let reports = place(wanted);
    let recording = product.wait_for(&reports[0].call_id, "stored");
    assert_eq!(recording["participants"][0]["name"], "Ben", "{recording}");
    assert_eq!(recording["tracks"][0]["label"], "2", "{recording}");
    let wav = product.export_wav(recording["id"].as_str().expect("an id"));
    let [ana, ben] = reports[0].streams.as_slice() else { panic!("two streams: {reports:?}") };
    assert_is("left is Ben", &ben.source, ben.frames, &wav.channels[0]);
    assert_is("right is Ana", &ana.source, ana.frames, &wav.channels[1]);
}

#[test]
fn audio_is_served_in_ranges_and_waveforms_per_track() {
    let product = Product::start();
    let reports = place(plan(product.sip, 2.0));
    let recording = product.wait_for(&reports[0].call_id, "stored");
    let id = recording["id"].as_str().expect("an id");
    let (status, webm) = product.get_bytes(&format!("/v1/recordings/{id}/audio?format=webm"));
    assert_eq!(status, 200);
    // EBML, the magic of Matroska.
    assert_eq!(webm[..4], [0x1a, 0x45, 0xdf, 0xa3]);
    let (status, wav) = product.get_bytes(&format!("/v1/recordings/{id}/audio?format=wav&track=1"));
    assert_eq!((status, &wav[..4]), (200, b"RIFF".as_slice()));
    let (status, peaks) = product.get(&format!("/v1/recordings/{id}/peaks"));
    assert_eq!((status, &peaks["version"], &peaks["channels"]), (200, &2.into(), &2.into()));
    let (status, metadata) = product.get(&format!("/v1/recordings/{id}/metadata"));
    assert_eq!(status, 200);
    let document = metadata["documents"][0]["text"].as_str().expect("a document");
    assert!(document.contains(&reports[0].session_id), "{document}");
}
