//! Whatever a store returns under a segment's key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segment::SegmentReader;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(reader) = SegmentReader::open(bytes) {
        for entry in reader.sessions() {
            let range = usize::try_from(entry.range().start)
                .ok()
                .zip(usize::try_from(entry.range().end).ok());
            if let Some(records) = range.and_then(|(start, end)| bytes.get(start..end)) {
                // Malformed records are an error, never a panic.
                _ = entry.records(records);
            }
        }
    }
    _ = SegmentReader::verify(bytes);
});
