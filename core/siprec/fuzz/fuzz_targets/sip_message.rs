//! Any datagram: reading and answering it does not panic, and the answer can be read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use siprec::sip::message::{BodyProblem, Message, StartLine};
use siprec::sip::request::{Request, Unusable};
use siprec::sip::response::Response;

fuzz_target!(|bytes: &[u8]| {
    let Some(message) = Message::from_datagram(bytes) else { return };
    assert!(message.body.len() <= bytes.len());
    let (via, message, status) = match Request::read(message) {
        Ok(request) => (request.via, request.message, rsip::StatusCode::OK),
        Err(Unusable::Answer(refusal)) => (refusal.via, refusal.message, refusal.status),
        Err(Unusable::Ignore) => return,
    };
    let code = status.code();
    let source = "192.0.2.1:5060".parse().expect("an address");
    assert_eq!(via.response_address(source).ip(), source.ip(), "never to a third party");
    let answer = Response::new(&message, &via, source, status, Some("tag")).into_bytes();
    let answer = Message::from_datagram(&answer).expect("what we write can be read");
    assert_eq!(answer.start, StartLine::Response { status: code });
    assert_ne!(answer.body_problem, Some(BodyProblem::Truncated));
    assert_eq!(answer.header("call-id"), message.header("call-id"));
});
