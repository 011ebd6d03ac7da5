//! A recorder that is killed goes on with its calls, and what had arrived is there.

use std::time::{Duration, Instant};

use caller::Transport;
use e2e::audio::{assert_is, correlation};
use e2e::calls::{place_beside, plan};
use e2e::product::{Product, has_flag};
use e2e::wait_until;

/// RTP frames are 20 ms.
const FRAME_MS: u64 = 20;

/// What may be missing of what had arrived when the process was killed, and the commit under
/// way then, for which a busy test machine is given as much again.
const LOSS_LIMIT_MS: u64 = 200 + 200;

#[test]
fn ten_calls_outlive_kill_9_and_nobody_is_asked() {
    let product = Product::start();
    let sip = product.sip;
    let mut wanted = plan(sip, 14.0);
    (wanted.calls, wanted.rate_per_sec) = (10, 20.0);
    // Over UDP the same address is there again; what happens over TCP is up to the SRC.
    wanted.transport = Transport::Udp;
    let calls = place_beside(wanted);
    wait_until("ten live calls", Duration::from_secs(20), || {
        (product.get("/v1/live").1["recordings"].as_array()?.len() == 10).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    let killed = Instant::now();
    let data = product.kill();
    let product = Product::start_on(data, &sip.to_string(), &[]);
    let down_ms = u64::try_from(killed.elapsed().as_millis()).expect("a restart is short");
    let reports = calls.join().expect("calls were placed");
    for report in &reports {
        let recording = product.wait_for(&report.call_id, "stored");
        assert!(has_flag(&recording, "interrupted"), "{recording}");
        let id = recording["id"].as_str().expect("an id");
        let gaps: Vec<_> = recording["marks"]
            .as_array()
            .expect("marks")
            .iter()
            .filter(|mark| mark["kind"] == "gap")
            .collect();
        assert!(!gaps.is_empty(), "the gap is marked: {recording}");
        let wav = product.export_wav(id);
        for (stream, channel) in report.streams.iter().zip(&wav.channels) {
            let label = stream.label.as_deref().expect("labels are on");
            let tracks = recording["tracks"].as_array().expect("tracks");
            let track = tracks.iter().find(|track| track["label"] == label).expect("a track");
            let received = track["packets_received"].as_u64().expect("a count");
            let missing_ms = (stream.packets_sent - received) * FRAME_MS;
            let limit_ms = down_ms + LOSS_LIMIT_MS;
            assert!(missing_ms <= limit_ms, "{missing_ms} ms of {limit_ms} ms: {recording}");
            // What came before the kill and what came after are where they were said.
            let samples = stream.source.samples(channel.len()).expect("speech");
            let rate = 8 * 1000;
            assert_is("the first seconds", &stream.source, 100, &channel[..2 * rate]);
            let tail = samples.len() - 2 * rate;
            let (found, shift) = correlation(&samples[tail..], &channel[tail..], 320);
            assert!(found > 0.98, "the last seconds: {found:.4} at {shift}: {recording}");
        }
    }
    product.verify_all();
}

#[test]
fn a_call_whose_bye_came_while_the_recorder_was_down_is_closed() {
    let product = Product::start();
    let sip = product.sip;
    let mut wanted = plan(sip, 3.0);
    wanted.transport = Transport::Udp;
    let calls = place_beside(wanted);
    let call_id = wait_until("a live call", Duration::from_secs(10), || {
        let (_, live) = product.get("/v1/live");
        live["recordings"][0]["id"].as_str().map(str::to_owned)
    });
    std::thread::sleep(Duration::from_millis(1500));
    // Stopped in an orderly way: the next start resumes, and the BYE, repeated, is understood.
    let data = product.interrupt();
    std::thread::sleep(Duration::from_millis(2500));
    let product = Product::start_on(data, &sip.to_string(), &[]);
    calls.join().expect("calls were placed");
    let recording = product.wait_for(&call_id, "stored");
    assert_eq!(recording["end_reason"], "bye", "{recording}");
    assert!(has_flag(&recording, "interrupted"), "{recording}");
}
