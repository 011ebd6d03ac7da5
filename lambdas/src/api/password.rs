//! Passwords: argon2id, never on an async thread, and the same work for a login that
//! does not exist as for one that does.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

/// The fewest characters of a password that is not accompanied by a second factor.
pub const MIN_CHARACTERS: usize = 12;

/// More is refused: hashing is meant to be slow, not to be a way to keep the server busy.
pub const MAX_BYTES: usize = 1024;

/// Each hash takes 19 MiB and some 20 ms of a core that may also be recording calls.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// Passwords that wait to be verified, all told: a third of a second. More are turned away.
const MOST_VERIFYING: usize = 32;
static VERIFYING: AtomicUsize = AtomicUsize::new(0);

/// Too many passwords wait to be verified.
#[derive(Debug, thiserror::Error)]
#[error("too many sign-ins at once")]
pub struct Busy;

struct Place;

impl Place {
    fn take() -> Result<Self, Busy> {
        // Counted first: `Self` takes it back, however this ends.
        let before = VERIFYING.fetch_add(1, Ordering::Relaxed);
        let place = Self;
        if before < MOST_VERIFYING { Ok(place) } else { Err(Busy) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        VERIFYING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("the password has {found} characters; use at least {MIN_CHARACTERS}")]
    TooShort { found: usize },
    #[error("the password is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("hash a password")]
    Hash(#[source] argon2::password_hash::Error),
    #[error("get random bytes from the operating system")]
    Random(#[source] getrandom::Error),
}

/// Whether `password` may become somebody's password.
pub fn check(password: &str) -> Result<(), PasswordError> {
    let found = password.chars().count();
    if password.len() > MAX_BYTES {
        Err(PasswordError::TooLong)
    } else if found < MIN_CHARACTERS {
        Err(PasswordError::TooShort { found })
    } else {
        Ok(())
    }
}

/// A PHC string with a salt of its own.
pub async fn hash(password: String) -> Result<String, PasswordError> {
    on_a_thread(move || hash_now(&password)).await
}

/// Whether `password` is the one that `stored` was made of. With no `stored` hash it is not, and
/// finding that out takes as long.
pub async fn verify(password: String, stored: Option<String>) -> Result<bool, Busy> {
    /// The hash of a password that nobody has: it is random and forgotten.
    static NOBODY: LazyLock<Option<String>> =
        LazyLock::new(|| generate().and_then(|password| hash_now(&password)).ok());

    if password.len() > MAX_BYTES {
        return Ok(false);
    }
    let _place = Place::take()?;
    let matches = on_a_thread(move || {
        let known = stored.is_some();
        let Some(phc) = stored.or_else(|| NOBODY.clone()) else { return false };
        let Ok(parsed) = PasswordHash::new(&phc) else {
            tracing::error!("a stored password hash cannot be read; set the password again");
            return false;
        };
        let matches = Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok();
        known && matches
    });
    Ok(matches.await)
}

/// A password of 120 random bits in Crockford's base 32, which leaves out the letters that look
/// like digits, so that it can be read out on the telephone.
pub fn generate() -> Result<String, PasswordError> {
    const LETTERS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(PasswordError::Random)?;
    let letters: Vec<u8> = random.iter().map(|byte| LETTERS[usize::from(byte % 32)]).collect();
    let groups: Vec<&str> = letters
        .chunks(6)
        .map(|group| std::str::from_utf8(group).expect("LETTERS are ASCII"))
        .collect();
    Ok(groups.join("-"))
}

fn hash_now(password: &str) -> Result<String, PasswordError> {
    let hash: argon2::password_hash::phc::PasswordHash =
        Argon2::default().hash_password(password.as_bytes()).map_err(PasswordError::Hash)?;
    Ok(hash.to_string())
}

async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let permit = AT_ONCE.acquire().await.expect("this semaphore is never closed");
    // The permit goes along: a client that goes away stops no thread.
    let work = move || {
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(work).await.expect("hashing does not panic")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_matches() {
        let hashed = hash("correct horse battery".to_owned()).await.unwrap();
        assert!(hashed.starts_with("$argon2id$"), "{hashed}");
        assert!(verify("correct horse battery".to_owned(), Some(hashed.clone())).await.unwrap());
        assert!(!verify("correct horse batterz".to_owned(), Some(hashed)).await.unwrap());
        assert!(!verify("correct horse battery".to_owned(), None).await.unwrap());
        assert!(
            !verify("correct horse battery".to_owned(), Some("damaged".to_owned())).await.unwrap()
        );
    }

    #[test]
    fn a_generated_password_may_be_used_and_comes_once() {
        let (one, other) = (generate().unwrap(), generate().unwrap());
        assert!(check(&one).is_ok(), "{one}");
        assert_ne!(one, other);
    }

    #[test]
    fn a_short_or_endless_password_is_refused() {
        assert!(matches!(check("äöüäöüäöüäö"), Err(PasswordError::TooShort { found: 11 })));
        assert!(check("äöüäöüäöüäöü").is_ok());
        assert!(matches!(check(&"x".repeat(1025)), Err(PasswordError::TooLong)));
    }
}
