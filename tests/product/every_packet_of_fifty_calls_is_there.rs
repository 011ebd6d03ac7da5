//! Many calls at once: what the caller says it sent is what was recorded, to the packet.

use std::time::Duration;

use caller::Transport;
use e2e::calls::{place_beside, plan};
use e2e::product::Product;
use e2e::wait_until;

#[test]
fn every_packet_of_fifty_calls_is_in_the_journal_and_the_recordings() {
    let product = Product::start();
    let mut wanted = plan(product.sip, 12.0);
    (wanted.calls, wanted.rate_per_sec) = (50, 25.0);
    wanted.transport = Transport::Udp;
    let calls = place_beside(wanted);
    wait_until("fifty live calls", Duration::from_secs(20), || {
        let (_, live) = product.get("/v1/live");
        (live["recordings"].as_array().map_or(0, Vec::len) == 50).then_some(())
    });
    // While it records, too.
    product.verify_all();
    let metrics = product.metrics();
    let ports = metric(&metrics, "linekeeper_capacity_used_ratio{of=\"ports\"}");
    // 5,000 pairs of ports by default.
    assert!((ports - 100.0 / 5_000.0).abs() < 1e-9, "{ports} of the ports\n{metrics}");
    let left = metric(&metrics, "linekeeper_disk_full_in_seconds");
    assert!(left > 0.0, "the disk lasts {left} s\n{metrics}");
    let reports = calls.join().expect("calls were placed");
    let sent: u64 =
        reports.iter().flat_map(|report| &report.streams).map(|stream| stream.packets_sent).sum();
    let mut received = 0;
    for report in &reports {
        let recording = product.wait_for(&report.call_id, "stored");
        for stream in &report.streams {
            let label = stream.label.as_deref().expect("labels are on");
            let track = recording["tracks"]
                .as_array()
                .and_then(|tracks| tracks.iter().find(|track| track["label"] == label));
            let track = track.unwrap_or_else(|| panic!("no track {label}: {recording}"));
            assert_eq!(track["packets_received"], stream.packets_sent, "{recording}");
            received += track["packets_received"].as_u64().expect("a count");
        }
    }
    assert_eq!(received, sent);
    let metrics = product.metrics();
    let total = metric(&metrics, "linekeeper_rtp_packets_total");
    assert!(total >= sent as f64, "{total} of {sent}\n{metrics}");
    product.verify_all();
}

/// Sum over all label sets of one metric.
fn metric(text: &str, name: &str) -> f64 {
    text.lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
