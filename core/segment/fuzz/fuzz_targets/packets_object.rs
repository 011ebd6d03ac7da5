//! Whatever a store returns under a packets object's key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use segment::PacketsReader;

fuzz_target!(|bytes: &[u8]| {
    let Ok(reader) = PacketsReader::open(bytes) else { return };
    for record in reader.flatten() {
        // Reading a record as what it is not is an error, never a panic.
        _ = record.as_started();
        _ = record.as_ended();
        _ = record.as_clock();
        _ = record.as_key();
    }
});
