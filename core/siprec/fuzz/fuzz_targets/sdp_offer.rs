//! Any bytes: an answer has the m-lines of the offer, and what we write we can read.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use siprec::sdp::{Origin, answer, offer};

fuzz_target!(|bytes: &[u8]| {
    let Ok(offered) = offer::parse(bytes) else { return };
    let ours = SocketAddr::from(([192, 0, 2, 1], 20_000));
    let origin = Origin { session_id: 1, version: 1, address: ours.ip() };
    let local = vec![Some(ours); offered.media.len()];
    let answered = offer::parse(&answer::build(&offered, &local, &[], &origin)).expect("our own answer");
    assert_eq!(answered.media.len(), offered.media.len());
    for (answered, offered) in answered.media.iter().zip(&offered.media) {
        assert_eq!(answered.port_zero(), offered.port_zero());
        assert_eq!(answered.label, offered.label);
        if !offered.port_zero() {
            assert!(!answered.direction.sends());
        }
    }
});
