//! Any bytes under any key: opening them ends without a panic and learns nothing; what a sender
//! seals, a receiver with its key opens, and one bit less of it does not.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use siprec::rtp::RtpHeader;
use siprec::rtp::srtp::{Keying, MasterKey, Receiver, Sender, Suite};

#[derive(Debug, Arbitrary)]
struct Input {
    suite: u8,
    mki: Vec<u8>,
    plain: [bool; 2],
    resumed: Option<(u32, u32)>,
    packets: Vec<Vec<u8>>,
    changed: u16,
}

fuzz_target!(|input: Input| {
    let suite = Suite::ALL[usize::from(input.suite) % Suite::ALL.len()];
    let mki = &input.mki[..input.mki.len().min(128)];
    let bytes: Vec<u8> = (0..suite.key_and_salt_bytes()).map(|n| n as u8 ^ 0x5a).collect();
    let key = MasterKey::new(suite, &bytes, mki).expect("a key of the right length");
    let mut keying = Keying::new(suite, vec![key]).expect("one key");
    [keying.plain_rtp, keying.plain_rtcp] = input.plain;
    let mut stranger = Receiver::new(&keying);
    if let Some((ssrc, roc)) = input.resumed {
        stranger.resume(ssrc, roc);
    }
    let known = stranger.rollover();
    // Of 32 bits a tag can be guessed in the time that a fuzzer has.
    let is_short = suite.name().ends_with("_32");
    for packet in &input.packets {
        assert!(stranger.open_rtp(packet).is_err() || is_short, "nobody guesses a tag");
        assert!(stranger.open_rtcp(packet).is_err(), "nobody guesses a tag");
    }
    assert!(stranger.rollover() == known || is_short);

    let (mut sender, mut receiver) = (Sender::new(&keying), Receiver::new(&keying));
    for packet in &input.packets {
        let mut sealed = packet.clone();
        if RtpHeader::parse_sealed(packet).is_ok() && sender.seal_rtp(&mut sealed).is_ok() {
            if let Ok(opened) = receiver.open_rtp(&sealed) {
                assert_eq!(&opened, packet);
            }
            let tag = sealed.len() - mki.len().min(sealed.len());
            let at = usize::from(input.changed) % tag.saturating_sub(mki.len() + 16).max(1);
            sealed[at] ^= 1;
            assert!(Receiver::new(&keying).open_rtp(&sealed).is_err() || is_short);
        }
        let mut sealed = packet.clone();
        if sender.seal_rtcp(&mut sealed).is_ok() {
            assert_eq!(receiver.open_rtcp(&sealed).as_ref(), Ok(packet));
        }
    }
});
