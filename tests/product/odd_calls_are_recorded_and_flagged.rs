//! Strictness loses calls: what is odd is recorded and says so.

use caller::{CallPlan, ContactStyle, MetadataStyle};
use e2e::audio::assert_is;
use e2e::calls::{place, plan};
use e2e::product::{Product, has_flag};
use serde_json::Value;

/// Places one call, made odd by `change`, and returns what was recorded of it.
fn odd(change: impl FnOnce(&mut CallPlan)) -> Value {
    let product = Product::start();
    let mut wanted = plan(product.sip, 2.0);
    change(&mut wanted);
    let reports = place(wanted);
    let recording = product.wait_for(&reports[0].call_id, "stored");
    let wav = product.export_wav(recording["id"].as_str().expect("an id"));
    assert_eq!(wav.channels.len(), reports[0].streams.len(), "{recording}");
    for (stream, channel) in reports[0].streams.iter().zip(&wav.channels) {
        assert_is("a stream of an odd call", &stream.source, stream.frames, channel);
    }
    recording
}

#[test]
fn an_ordinary_call_is_flagged_only_for_its_unknown_source() {
    let recording = odd(|_| ());
    assert_eq!(recording["flags"], serde_json::json!(["untrusted_source"]), "{recording}");
}

#[test]
fn a_mixed_stream_is_recorded_with_both_participants() {
    let recording = odd(|plan| plan.streams = 1);
    assert!(has_flag(&recording, "mixed"), "{recording}");
    assert_eq!(recording["tracks"][0]["speakers"], serde_json::json!([0, 1]), "{recording}");
}

#[test]
fn a_call_without_metadata_is_recorded_and_flagged() {
    let recording = odd(|plan| plan.metadata = MetadataStyle::None);
    assert!(has_flag(&recording, "no_metadata"), "{recording}");
}

#[test]
fn a_call_with_broken_metadata_is_recorded_and_flagged() {
    let recording = odd(|plan| plan.metadata = MetadataStyle::Broken);
    assert!(has_flag(&recording, "metadata_error"), "{recording}");
}

#[test]
fn a_call_without_labels_is_recorded_and_flagged() {
    let recording = odd(|plan| plan.labels = false);
    assert!(has_flag(&recording, "no_label"), "{recording}");
}

#[test]
fn a_contact_with_src_and_no_require_is_recorded() {
    let recording = odd(|plan| (plan.contact, plan.require) = (ContactStyle::Src, false));
    assert!(!has_flag(&recording, "no_metadata"), "{recording}");
}

#[test]
fn a_call_without_any_sign_of_siprec_is_recorded_and_flagged() {
    let recording = odd(|plan| {
        (plan.contact, plan.require) = (ContactStyle::Unmarked, false);
        plan.metadata = MetadataStyle::None;
    });
    assert!(has_flag(&recording, "no_siprec_tag"), "{recording}");
}
