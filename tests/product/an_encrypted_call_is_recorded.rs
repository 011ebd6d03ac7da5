//! SRTP: ciphertext on disk with its keys sealed beside it, speech for whoever may listen.

use std::time::Duration;

use caller::{CallReport, Caller, Suite, Transport};
use e2e::audio::assert_is;
use e2e::calls::{place_beside, plan};
use e2e::product::{Product, has_flag};
use e2e::wait_until;
use serde_json::Value;

fn assert_as_sent(product: &Product, report: &CallReport) -> Value {
    let recording = product.wait_for(&report.call_id, "stored");
    assert!(!has_flag(&recording, "not_authentic"), "{recording}");
    let wav = product.export_wav(recording["id"].as_str().expect("an id"));
    assert_eq!(wav.channels.len(), report.streams.len(), "{recording}");
    for (stream, channel) in report.streams.iter().zip(&wav.channels) {
        assert_is("a stream", &stream.source, stream.frames, channel);
    }
    recording
}

#[test]
fn a_call_under_every_suite_is_recorded_as_it_was_said() {
    let product = Product::start();
    let calls: Vec<_> = Suite::ALL
        .into_iter()
        .map(|suite| {
            let mut wanted = plan(product.sip, 3.0);
            wanted.srtp = Some(suite);
            place_beside(wanted)
        })
        .collect();
    for call in calls {
        let reports = call.join().expect("calls were placed");
        let recording = assert_as_sent(&product, &reports[0]);
        for (track, stream) in
            recording["tracks"].as_array().expect("tracks").iter().zip(&reports[0].streams)
        {
            assert_eq!(track["packets_received"], stream.packets_sent, "{recording}");
        }
        // What was kept is what came: nobody can read it without the keys.
        let pcap = product.export(recording["id"].as_str().expect("an id"), "pcap");
        let stream = &reports[0].streams[0];
        let said = stream.source.samples(8_000).expect("speech");
        let coded: Vec<u8> = said.iter().map(|sample| e2e::audio::mu_law(*sample)).collect();
        assert!(pcap.len() > coded.len());
        assert!(!coded.chunks(64).any(|part| pcap.windows(64).any(|there| there == part)));
    }
    product.verify_all();
}

#[test]
fn keys_that_change_in_mid_call_lose_nothing() {
    let product = Product::start();
    let mut wanted = plan(product.sip, 5.0);
    wanted.srtp = Some(Suite::AesCm128Sha1Tag80);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let report = runtime.expect("a runtime starts").block_on(async {
        let caller = Caller::connect(wanted).await.expect("a connection");
        let mut call = caller.call(0).expect("a call begins");
        call.answered().await;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(900)).await;
            call.rekey().await.expect("new keys are taken");
        }
        call.finished().await.expect("a report")
    });
    let recording = assert_as_sent(&product, &report);
    for track in recording["tracks"].as_array().expect("tracks") {
        assert_eq!(track["packets_lost"], 0, "{recording}");
    }
}

#[test]
fn an_encrypted_call_outlives_kill_9() {
    let product = Product::start();
    let sip = product.sip;
    let mut wanted = plan(sip, 10.0);
    (wanted.srtp, wanted.transport) = (Some(Suite::AeadAes256Gcm), Transport::Udp);
    let calls = place_beside(wanted);
    wait_until("a live call", Duration::from_secs(20), || {
        (product.get("/v1/live").1["recordings"].as_array()?.len() == 1).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    let product = Product::start_on(product.kill(), &sip.to_string(), &[]);
    let reports = calls.join().expect("calls were placed");
    let recording = product.wait_for(&reports[0].call_id, "stored");
    assert!(has_flag(&recording, "interrupted"), "{recording}");
    assert!(!has_flag(&recording, "not_authentic"), "{recording}");
    let wav = product.export_wav(recording["id"].as_str().expect("an id"));
    for (stream, channel) in reports[0].streams.iter().zip(&wav.channels) {
        let samples = stream.source.samples(channel.len()).expect("speech");
        let second = 8_000;
        assert_is("the first two seconds", &stream.source, 100, &channel[..2 * second]);
        let tail = samples.len() - 2 * second;
        let (found, shift) = e2e::audio::correlation(&samples[tail..], &channel[tail..], 320);
        assert!(found > 0.98, "the last two seconds: {found:.4} at {shift}: {recording}");
    }
    product.verify_all();
}

#[test]
fn the_command_line_places_encrypted_calls() {
    let product = Product::start();
    let sip = product.sip.to_string();
    let output = e2e::product::command(&["call", &sip, "--seconds", "2", "--srtp", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let report: CallReport = serde_json::from_value(told["calls"][0].clone()).expect("a report");
    assert_as_sent(&product, &report);
}
