//! A body that its own sealer could have made: what is opened may still be nonsense, and a
//! changed one must not open.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use model::{Position, SessionId};
use segment::{Opener, Sealer, TenantKeyPair};

static OPENER: LazyLock<Opener> = LazyLock::new(|| {
    let keys = TenantKeyPair::from_bytes([1; 32]);
    let session = SessionId::at(1, [2; 10]);
    let (_, sealed) = Sealer::new(session, &keys.public()).expect("a public key was derived");
    Opener::new(&keys, session, &[sealed])
});

fuzz_target!(|bytes: &[u8]| {
    assert!(OPENER.open(Position(1), bytes).is_err());
    segment::fuzz_body(bytes);
});
