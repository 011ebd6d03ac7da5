//! Any credentials: reading them does not panic, nothing of them prints, who does not know the
//! password is never let in, and who does is let in once.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use siprec::sip::digest::{Account, Credentials, Denied, Nonces};

const REALM: &str = "linekeeper";

fuzz_target!(|input: (&str, u16, u64)| {
    let (header, later_secs, number) = input;
    let Some(credentials) = Credentials::parse(header, REALM) else { return };
    assert_eq!(format!("{credentials:?}"), "Credentials(secret)");
    let now = Instant::now();
    let mut nonces = Nonces::new([3; 32]);
    let account = Account::with_password(&credentials.user, REALM, "correct horse");
    let challenges =
        nonces.challenges(now, number, REALM, false, std::iter::once(&account));
    assert_eq!(challenges.len(), 2);
    let now = now + Duration::from_secs(u64::from(later_secs));
    // No input can contain a nonce of this run, so even the right password is too late.
    let answer = nonces.check(now, &credentials, &account, "INVITE");
    assert!(matches!(answer, Err(Denied::Wrong | Denied::Stale)));
    let nobody = Account::with_hashes(&credentials.user, None, None);
    assert_eq!(nonces.check(now, &credentials, &nobody, "INVITE"), Err(Denied::Wrong));
});
