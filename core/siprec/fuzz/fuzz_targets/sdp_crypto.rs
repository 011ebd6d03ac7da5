//! Any value of `a=crypto`: what can be read is written the same and read again, an answer to it can
//! be used when it can, and no key prints.
#![no_main]

use libfuzzer_sys::fuzz_target;
use siprec::sdp::Crypto;

fuzz_target!(|text: &str| {
    let Some(crypto) = Crypto::parse(text) else { return };
    assert_eq!(Crypto::parse(&crypto.to_line()).as_ref(), Some(&crypto));
    let Ok(keying) = crypto.keying() else { return };
    let answer = Crypto::answering(&crypto, vec![0xa5; keying.suite.key_and_salt_bytes()]);
    assert_eq!((answer.tag, &answer.suite), (crypto.tag, &crypto.suite));
    let ours = answer.keying().expect("an answer of ours");
    assert_eq!((ours.plain_rtp, ours.plain_rtcp), (keying.plain_rtp, keying.plain_rtcp));
    let printed = format!("{crypto:?} {keying:?}");
    for key in &crypto.keys {
        let bytes = format!("{:?}", key.key_and_salt);
        assert!(!printed.contains(&bytes));
    }
});
