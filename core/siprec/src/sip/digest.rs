//! Digest authentication of requests (RFC 7616, RFC 3261 §22, RFC 8760).
//!
//! Constraints that tests hold:
//!
//! - A nonce is ours, and good for [`NONCE_LIFETIME`]; one that is not gets a new one, with
//!   `stale=true` where the password was right, so that no user is asked again.
//! - A nonce count is taken once. Counts may come out of order by up to 63, as datagrams do.
//! - Nothing is kept for who does not know the password.
//! - Nothing of it prints.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::address::{Params, param, parse_params};

/// How long a nonce may be used: long enough for the calls of a busy hour to share some, short
/// enough that a captured one is worth little.
pub const NONCE_LIFETIME: Duration = Duration::from_secs(300);

/// Nonces of authenticated clients that are remembered.
const MAX_NONCES: usize = 4_096;

/// How far a nonce count may be behind the highest.
const WINDOW: u32 = u64::BITS;

/// Longer ones are no names.
const MAX_PARAMETER_BYTES: usize = 1_024;

/// The hashes that clients know (RFC 8760 §2.1). In the order in which they are offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Sha256,
    Md5,
}

impl Algorithm {
    const ALL: [Self; 2] = [Self::Sha256, Self::Md5];

    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "SHA-256",
            Self::Md5 => "MD5",
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Sha256 => hex(&Sha256::digest(text)),
            Self::Md5 => hex(&Md5::digest(text)),
        }
    }
}

/// A user and what is known of the password: `H(user:realm:password)` by algorithm, in hex.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    pub user: String,
    sha256: Option<String>,
    md5: Option<String>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Account(secret)")
    }
}

impl Account {
    pub fn with_password(user: &str, realm: &str, password: &str) -> Self {
        let hash =
            |algorithm: Algorithm| Some(algorithm.hash(&format!("{user}:{realm}:{password}")));
        Self { user: user.to_owned(), sha256: hash(Algorithm::Sha256), md5: hash(Algorithm::Md5) }
    }

    /// From what is stored instead of a password. In hex, any case.
    pub fn with_hashes(user: &str, sha256: Option<&str>, md5: Option<&str>) -> Self {
        Self {
            user: user.to_owned(),
            sha256: sha256.map(str::to_ascii_lowercase),
            md5: md5.map(str::to_ascii_lowercase),
        }
    }

    fn secret(&self, algorithm: Algorithm) -> Option<&str> {
        match algorithm {
            Algorithm::Sha256 => self.sha256.as_deref(),
            Algorithm::Md5 => self.md5.as_deref(),
        }
    }
}

/// An `Authorization` header of scheme Digest (RFC 7616 §3.4).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    algorithm: Algorithm,
    nonce: String,
    uri: String,
    cnonce: String,
    /// As written, because it is hashed.
    nonce_count: String,
    count: u32,
    response: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(secret)")
    }
}

impl Credentials {
    /// `None` for another scheme, another realm, an unknown algorithm, or without `qop=auth`: a
    /// client that leaves that out cannot be kept from being replayed.
    pub fn parse(header: &str, realm: &str) -> Option<Self> {
        let (scheme, rest) = header.trim_start().split_once(char::is_whitespace)?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let params: Params =
            super::address::split_list(rest).into_iter().flat_map(parse_params).collect();
        let text = |name: &str| {
            param(&params, name).filter(|text| text.len() <= MAX_PARAMETER_BYTES).map(str::to_owned)
        };
        if text("realm")? != realm || !text("qop")?.eq_ignore_ascii_case("auth") {
            return None;
        }
        let algorithm = match text("algorithm") {
            // RFC 7616 §3.3: MD5 when there is none.
            None => Algorithm::Md5,
            Some(name) => {
                *Algorithm::ALL.iter().find(|known| known.name().eq_ignore_ascii_case(&name))?
            }
        };
        let nonce_count = text("nc")?;
        let count =
            (nonce_count.len() == 8).then(|| u32::from_str_radix(&nonce_count, 16).ok())??;
        Some(Self {
            user: text("username")?,
            algorithm,
            nonce: text("nonce")?,
            uri: text("uri")?,
            cnonce: text("cnonce")?,
            nonce_count,
            count,
            response: text("response")?,
        })
    }

    /// The `request-digest` of RFC 7616 §3.4.1.
    ///
    /// Over the URI as the client wrote it: proxies change the one in the first line, and nothing
    /// here depends on it.
    fn digest(&self, secret: &str, method: &str) -> String {
        let hash = |text: &str| self.algorithm.hash(text);
        let request = hash(&format!("{method}:{}", self.uri));
        hash(&format!(
            "{secret}:{}:{}:{}:auth:{request}",
            self.nonce, self.nonce_count, self.cnonce
        ))
    }
}

/// Why credentials are not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No such user, or the password is another.
    Wrong,
    /// The password is right, the nonce is too old, not ours or used up.
    Stale,
}

/// Makes nonces and knows those it made.
pub struct Nonces {
    secret: [u8; 32],
    /// Times in nonces count from the first one.
    epoch: Option<Instant>,
    /// Those that somebody proved a password with.
    used: HashMap<String, Used>,
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces").field("used", &self.used.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Used {
    until: Instant,
    highest: u32,
    /// Bit `n`: the count `highest - n` was used.
    recent: u64,
}

impl Used {
    /// Whether the count is new; notes it.
    fn take(&mut self, count: u32) -> bool {
        if count > self.highest {
            let ahead = count - self.highest;
            self.recent = if ahead < WINDOW { self.recent << ahead | 1 } else { 1 };
            self.highest = count;
            return true;
        }
        let behind = self.highest - count;
        let bit = 1u64.checked_shl(behind).unwrap_or(0);
        let is_new = bit != 0 && self.recent & bit == 0;
        self.recent |= bit;
        is_new
    }
}

impl Nonces {
    /// `secret` must be unpredictable.
    pub fn new(secret: [u8; 32]) -> Self {
        Self { secret, epoch: None, used: HashMap::new() }
    }

    /// The values of `WWW-Authenticate` for these accounts, the better algorithm first.
    pub fn challenges<'a>(
        &mut self,
        now: Instant,
        number: u64,
        realm: &str,
        stale: bool,
        accounts: impl Iterator<Item = &'a Account> + Clone,
    ) -> Vec<String> {
        let nonce = self.nonce(now, number);
        let stale = if stale { ", stale=true" } else { "" };
        Algorithm::ALL
            .into_iter()
            .filter(|algorithm| {
                accounts.clone().any(|account| account.secret(*algorithm).is_some())
            })
            .map(|algorithm| {
                format!(
                    "Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={}, \
                     qop=\"auth\"{stale}",
                    algorithm.name()
                )
            })
            .collect()
    }

    /// The time it was made, a number that makes it the only one, and a proof that it is ours.
    fn nonce(&mut self, now: Instant, number: u64) -> String {
        let epoch = *self.epoch.get_or_insert(now);
        let ms = u64::try_from(now.saturating_duration_since(epoch).as_millis());
        let head = format!("{:012x}{number:016x}", ms.unwrap_or(u64::MAX) & 0xffff_ffff_ffff);
        let proof = self.proof(&head);
        head + &proof
    }

    fn proof(&self, head: &str) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        mac.update(head.as_bytes());
        hex(&mac.finalize().into_bytes()[..16])
    }

    /// Until when a nonce of ours is good.
    fn good_until(&self, now: Instant, nonce: &str) -> Option<Instant> {
        let (head, proof) = nonce.split_at_checked(28)?;
        if !same(&self.proof(head), proof) {
            return None;
        }
        let ms = u64::from_str_radix(&head[..12], 16).ok()?;
        let until = self.epoch? + Duration::from_millis(ms) + NONCE_LIFETIME;
        (now < until).then_some(until)
    }

    /// Whether these are the credentials of `account` for a request with this method.
    pub fn check(
        &mut self,
        now: Instant,
        credentials: &Credentials,
        account: &Account,
        method: &str,
    ) -> Result<(), Denied> {
        let secret = account.secret(credentials.algorithm).ok_or(Denied::Wrong)?;
        let expected = credentials.digest(secret, method);
        if account.user != credentials.user
            || !same(&expected, &credentials.response.to_ascii_lowercase())
        {
            return Err(Denied::Wrong);
        }
        let until = self.good_until(now, &credentials.nonce).ok_or(Denied::Stale)?;
        if self.used.len() >= MAX_NONCES && !self.used.contains_key(&credentials.nonce) {
            self.used.retain(|_, used| now < used.until);
            if self.used.len() >= MAX_NONCES {
                return Err(Denied::Stale);
            }
        }
        let used = self.used.entry(credentials.nonce.clone()).or_insert(Used {
            until,
            highest: 0,
            // Count 0 does not exist (RFC 7616 §3.4: the first is 1).
            recent: 1,
        });
        used.take(credentials.count).then_some(()).ok_or(Denied::Stale)
    }
}

/// Compares in a time that does not tell how much is the same.
fn same(a: &str, b: &str) -> bool {
    let differing = a.bytes().zip(b.bytes()).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && differing == 0
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant will do")]
mod tests {
    use super::*;

    const REALM: &str = "http-auth@example.org";

    /// The example of RFC 7616 §3.9.1, with its own nonce.
    fn mufasa(algorithm: &str, response: &str) -> Credentials {
        let header = format!(
            "Digest username=\"Mufasa\", realm=\"{REALM}\", uri=\"/dir/index.html\", \
             algorithm={algorithm}, nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
             nc=00000001, cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
             response=\"{response}\", opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
        );
        Credentials::parse(&header, REALM).expect("credentials")
    }

    #[test]
    fn the_digests_of_the_rfc_come_out() {
        let account = Account::with_password("Mufasa", REALM, "Circle of Life");
        let sha256 = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        for (algorithm, response) in
            [("MD5", "8ca523f5e9506fed4657c9700eebdbec"), ("SHA-256", sha256)]
        {
            let mut nonces = Nonces::new([1; 32]);
            let right = mufasa(algorithm, response);
            // The nonce is not ours, which is told only to who knows the password.
            let denied = nonces.check(Instant::now(), &right, &account, "GET");
            assert_eq!(denied, Err(Denied::Stale), "{algorithm}");
            let denied = nonces.check(Instant::now(), &right, &account, "PUT");
            assert_eq!(denied, Err(Denied::Wrong), "{algorithm}");
        }
    }

    fn answer(challenge: &str, count: u32, password: &str) -> Credentials {
        let params = challenge.strip_prefix("Digest ").expect("a challenge");
        let nonce = params.split("nonce=\"").nth(1).and_then(|rest| rest.split('"').next());
        let mut credentials = Credentials {
            user: "src".to_owned(),
            algorithm: Algorithm::Sha256,
            nonce: nonce.expect("a nonce").to_owned(),
            uri: "sip:srs".to_owned(),
            cnonce: "c".to_owned(),
            nonce_count: format!("{count:08x}"),
            count,
            response: String::new(),
        };
        let secret = Algorithm::Sha256.hash(&format!("src:{REALM}:{password}"));
        credentials.response = credentials.digest(&secret, "INVITE");
        credentials
    }

    fn challenge(nonces: &mut Nonces, now: Instant, account: &Account) -> String {
        nonces.challenges(now, 7, REALM, false, [account].into_iter()).remove(0)
    }

    #[test]
    fn a_nonce_is_good_for_a_while_and_each_count_once() {
        let start = Instant::now();
        let account = Account::with_password("src", REALM, "secret");
        let mut nonces = Nonces::new([1; 32]);
        let challenge = challenge(&mut nonces, start, &account);
        let now = start + Duration::from_secs(10);
        let mut check = |count, password: &str, at| {
            nonces.check(at, &answer(&challenge, count, password), &account, "INVITE")
        };
        assert_eq!(check(1, "guessed", now), Err(Denied::Wrong));
        assert_eq!(check(0, "secret", now), Err(Denied::Stale), "there is no count 0");
        assert_eq!(check(1, "secret", now), Ok(()));
        assert_eq!(check(1, "secret", now), Err(Denied::Stale), "replayed");
        assert_eq!(check(3, "secret", now), Ok(()));
        assert_eq!(check(2, "secret", now), Ok(()), "overtaken on the way");
        assert_eq!(check(2, "secret", now), Err(Denied::Stale));
        assert_eq!(check(500, "secret", now), Ok(()));
        assert_eq!(check(400, "secret", now), Err(Denied::Stale), "too far behind to know");
        assert_eq!(check(u32::MAX, "secret", now), Ok(()));
        let end = start + NONCE_LIFETIME;
        assert_eq!(check(501, "secret", end), Err(Denied::Stale));
    }

    #[test]
    fn a_nonce_of_somebody_else_is_stale() {
        let start = Instant::now();
        let account = Account::with_password("src", REALM, "secret");
        let other = challenge(&mut Nonces::new([2; 32]), start, &account);
        let mut nonces = Nonces::new([1; 32]);
        challenge(&mut nonces, start, &account);
        let answer = answer(&other, 1, "secret");
        assert_eq!(nonces.check(start, &answer, &account, "INVITE"), Err(Denied::Stale));
        assert!(nonces.used.is_empty());
    }

    #[test]
    fn only_the_hashes_that_are_known_are_offered() {
        let start = Instant::now();
        let mut nonces = Nonces::new([1; 32]);
        let both = Account::with_password("src", REALM, "secret");
        let old = Account::with_hashes("old", None, Some("D41D8CD98F00B204E9800998ECF8427E"));
        let mut offered = |accounts: &[&Account], stale| {
            nonces.challenges(start, 1, REALM, stale, accounts.iter().copied())
        };
        let all = offered(&[&old, &both], true);
        assert!(all[0].contains("algorithm=SHA-256") && all[0].ends_with("stale=true"));
        assert!(all[1].contains("algorithm=MD5"));
        assert_eq!(offered(&[&old], false).len(), 1);
    }

    #[test]
    fn what_is_no_credentials_of_ours_is_not_read() {
        let good = "Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"sip:x\", qop=auth, \
                    nc=00000001, cnonce=\"c\", response=\"0\"";
        assert!(Credentials::parse(good, "r").is_some());
        for (from, to) in [
            ("Digest", "Basic"),
            ("\"r\"", "\"other\""),
            ("qop=auth,", ""),
            ("qop=auth", "qop=auth-int"),
            ("00000001", "1"),
            ("00000001", "0000000g"),
            ("nc=", "algorithm=SHA-512-256, nc="),
            ("response", "answer"),
        ] {
            assert_eq!(Credentials::parse(&good.replace(from, to), "r"), None, "{to}");
        }
        assert_eq!(format!("{:?}", Credentials::parse(good, "r")), "Some(Credentials(secret))");
    }
}
