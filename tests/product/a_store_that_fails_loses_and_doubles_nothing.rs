//! The object store away for half a minute in the middle of calls.

use std::fs;
use std::time::Duration;

use e2e::calls::{place_beside, plan};
use e2e::product::Product;

#[test]
fn a_store_that_fails_for_thirty_seconds_loses_and_doubles_nothing() {
    let product = Product::start();
    let mut wanted = plan(product.sip, 40.0);
    (wanted.calls, wanted.rate_per_sec) = (3, 10.0);
    let calls = place_beside(wanted);
    std::thread::sleep(Duration::from_secs(4));
    // A file where the directory was: every operation of the store fails, also for root.
    let (objects, away) =
        (product.data_dir().join("objects"), product.data_dir().join("objects-away"));
    fs::rename(&objects, &away).expect("renamed");
    fs::write(&objects, "").expect("written");
    std::thread::sleep(Duration::from_secs(30));
    // New calls are taken all the while.
    let during = place_beside(plan(product.sip, 1.0));
    let mut reports = during.join().expect("a call during the outage was answered");
    fs::remove_file(&objects).expect("removed");
    fs::rename(&away, &objects).expect("renamed back");

    reports.extend(calls.join().expect("calls were placed"));
    for report in &reports {
        let recording = product.wait_for(&report.call_id, "stored");
        let tracks = recording["tracks"].as_array().expect("tracks");
        assert_eq!(tracks.len(), report.streams.len(), "{recording}");
        for stream in &report.streams {
            let label = stream.label.as_deref().expect("labels are on");
            let track = tracks.iter().find(|track| track["label"] == label).expect("its track");
            assert_eq!(track["packets_received"], stream.packets_sent, "{recording}");
            assert_eq!(track["packets_lost"], 0, "{recording}");
        }
    }
    assert_eq!(product.recordings().len(), reports.len());
    product.verify_all();
}
