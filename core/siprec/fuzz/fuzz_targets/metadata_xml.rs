//! Any bytes: reading them ends, and folding the result in twice is folding it in once.
#![no_main]

use libfuzzer_sys::fuzz_target;
use siprec::metadata::{Snapshot, xml};

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = xml::read(bytes) else { return };
    let mut once = Snapshot::default();
    once.fold(document.clone());
    let mut twice = once.clone();
    twice.fold(document);
    assert_eq!(once.participants.len(), twice.participants.len());
    assert_eq!(once.call_ids, twice.call_ids);
    assert_eq!(once.senders, twice.senders);
    for stream in &once.streams {
        if let Some(label) = &stream.label {
            let _ = once.speakers(label).count();
        }
    }
});
