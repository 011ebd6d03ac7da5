//! Any content type and body: every part lies within the body, and there are not many.
#![no_main]

use libfuzzer_sys::fuzz_target;
use siprec::metadata::multipart;

fuzz_target!(|input: (String, Vec<u8>)| {
    let (content_type, body) = input;
    for content_type in [content_type, "multipart/mixed; boundary=b".to_owned()] {
        let parts = multipart::split(&content_type, &body);
        assert!(parts.len() <= 64);
        let within = body.as_ptr_range();
        for part in parts {
            let part = part.body.as_ptr_range();
            assert!(part.start >= within.start && part.end <= within.end);
        }
    }
});
