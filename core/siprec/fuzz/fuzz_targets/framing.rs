//! Any stream: cut into chunks in any way, it is the same messages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use siprec::sip::framing::{Frame, Framer};

const MAX_MESSAGE_BYTES: usize = 4096;

fn frames(chunks: &[&[u8]]) -> Vec<Frame> {
    let mut framer = Framer::new(MAX_MESSAGE_BYTES);
    let mut frames = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        frames.extend(std::iter::from_fn(|| framer.next_frame()));
    }
    frames
}

fuzz_target!(|input: (Vec<u8>, u8)| {
    let (bytes, chunk_bytes) = input;
    let whole = frames(&[&bytes]);
    let chunks: Vec<_> = bytes.chunks(usize::from(chunk_bytes).max(1)).collect();
    let chunked = frames(&chunks);
    // A head that is too long may be seen as such earlier or later.
    if bytes.len() < 60_000 {
        assert_eq!(whole, chunked);
    }
    for frame in whole {
        if let Frame::Message(message) = frame {
            assert!(message.body.len() <= MAX_MESSAGE_BYTES);
        }
    }
});
