//! Objects of every version that was ever written, which must open in every later release.
//!
//! `tests/golden/v1.segment` and `v1.packets` hold what [`crate::sample`] describes. A change that
//! fails the first test would make calls unreadable. A change that fails only the second writes a
//! new format under an old number: give it a new version, and a new golden file beside the old.

use crate::sample;
use crate::{Opener, PacketsReader, RecordKind, SegmentReader, SessionRecord};

const SEGMENT_V1: &[u8] = include_bytes!("../tests/golden/v1.segment");
const PACKETS_V1: &[u8] = include_bytes!("../tests/golden/v1.packets");

fn assert_tells_the_sample(opener: &Opener, records: &[SessionRecord]) {
    let bodies: Vec<_> =
        records.iter().filter_map(|record| opener.open_record(record).unwrap()).collect();
    assert_eq!(bodies, sample::bodies());
    let of_kind = |kind| records.iter().find(|record| record.kind == kind).unwrap();
    assert_eq!(of_kind(RecordKind::Started).as_started().unwrap(), sample::started());
    assert_eq!(of_kind(RecordKind::Ended).as_ended().unwrap(), sample::ended());
    assert_eq!(of_kind(RecordKind::Clock).as_clock().unwrap().epoch, 3);
}

#[test]
fn what_version_1_wrote_still_opens() {
    let reader = SegmentReader::verify(SEGMENT_V1).unwrap();
    let entry = reader.find(sample::session(1)).unwrap();
    let range = entry.range().start as usize..entry.range().end as usize;
    let records = entry.records(&SEGMENT_V1[range]).unwrap();
    let key = records.iter().find(|record| record.kind == RecordKind::Key).unwrap();
    let opener = Opener::new(&sample::tenant(), sample::session(1), &[key.as_key().unwrap()]);
    assert_tells_the_sample(&opener, &records);

    let packets = PacketsReader::open(PACKETS_V1).unwrap();
    assert_eq!(packets.header, sample::packets_header());
    let records: Vec<_> = packets.map(Result::unwrap).collect();
    assert_tells_the_sample(&opener, &records);
}

/// With `LINEKEEPER_WRITE_GOLDEN` set it writes them first: for whoever adds a version.
#[test]
fn version_1_is_written_byte_for_byte() {
    if std::env::var_os("LINEKEEPER_WRITE_GOLDEN").is_some() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
        std::fs::write(format!("{golden}/v1.segment"), sample::segment()).unwrap();
        std::fs::write(format!("{golden}/v1.packets"), sample::packets_object()).unwrap();
    }
    assert!(sample::segment() == SEGMENT_V1);
    assert!(sample::packets_object() == PACKETS_V1);
}
