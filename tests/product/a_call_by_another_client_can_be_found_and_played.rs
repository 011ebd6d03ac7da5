//! A call signaled by SIPp, which knows nothing of us, over UDP and TCP.

use caller::SourceId;
use e2e::audio::assert_is;
use e2e::product::Product;
use e2e::sipp::{self, SEED_A, SEED_B};

fn records(test: &str, transport: &str) {
    if !sipp::is_installed() {
        e2e::skip(test, "SIPp is not installed");
        return;
    }
    let product = Product::start();
    let seconds = 3;
    let call_id = sipp::call(product.sip, transport, seconds);
    let recording = product.wait_for(&call_id, "stored");
    // Found by what people look for, too.
    for query in ["q=ben", "q=ANA", &format!("q={call_id}"), "party=ana%40example.com"] {
        let (status, list) = product.get(&format!("/v1/recordings?{query}"));
        assert_eq!(status, 200, "{query}: {list}");
        assert_eq!(list["recordings"].as_array().map(Vec::len), Some(1), "{query}: {list}");
    }
    assert_eq!(product.get("/v1/recordings?q=nobody").1["recordings"], serde_json::json!([]));
    let wav = product.export_wav(recording["id"].as_str().expect("an id"));
    assert!(
        (wav.duration_ms() - f64::from(seconds) * 1000.0).abs() <= 20.0,
        "{}",
        wav.duration_ms()
    );
    // Ana is listed first and heard on the second m-line.
    let frames = u64::from(seconds) * 50;
    assert_is("left is Ana", &SourceId::Speech { seed: SEED_B }, frames, &wav.channels[0]);
    assert_is("right is Ben", &SourceId::Speech { seed: SEED_A }, frames, &wav.channels[1]);
    product.verify_all();
}

#[test]
fn a_call_by_sipp_over_udp_can_be_found_and_played() {
    records("a_call_by_sipp_over_udp_can_be_found_and_played", "u1");
}

#[test]
fn a_call_by_sipp_over_tcp_can_be_found_and_played() {
    records("a_call_by_sipp_over_tcp_can_be_found_and_played", "t1");
}
