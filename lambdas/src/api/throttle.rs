//! Slows down guessing of passwords.
//!
//! Failures are counted for a login as tried from one address, and for that address over all
//! logins. Not for a login alone: whoever knows a name could lock its owner out. The counts are
//! in memory: a restart forgets them, which costs an attacker's patience nothing worth a table.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use model::WallTime;
use std::time::Duration;

/// Failures that cost nothing: people mistype.
const FREE_PER_LOGIN: u32 = 5;
const FREE_PER_ADDRESS: u32 = 30;
/// After the free ones the wait doubles from 1 s up to this.
const LONGEST_WAIT_SECS: u64 = 300;
/// A count that has not grown for this long is forgotten.
const FORGET_AFTER_MS: u64 = 3_600_000;
/// Bounds the memory that a flood of made-up logins can take.
const MOST_KEYS: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Login(Option<IpAddr>, String),
    Address(Option<IpAddr>),
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: WallTime,
    not_before: WallTime,
}

#[derive(Debug, Default)]
pub struct Throttle {
    failures: Mutex<HashMap<Key, Failures>>,
}

impl Throttle {
    /// Seconds to wait before this login may be tried again from this address; 0 = now.
    pub fn wait_secs(&self, login: &str, from: Option<IpAddr>, now: WallTime) -> u64 {
        let failures = self.failures.lock().expect("no code panics while it holds this lock");
        keys(login, from)
            .iter()
            .filter_map(|(key, _)| failures.get(key))
            .map(|held| held.not_before.ms_since(now).div_ceil(1_000))
            .max()
            .unwrap_or(0)
    }

    pub fn failed(&self, login: &str, from: Option<IpAddr>, now: WallTime) {
        let mut failures = self.failures.lock().expect("no code panics while it holds this lock");
        if failures.len() >= MOST_KEYS {
            forget(&mut failures, now);
        }
        for (key, free) in keys(login, from) {
            let held =
                failures.entry(key).or_insert(Failures { count: 0, last: now, not_before: now });
            if now.ms_since(held.last) > FORGET_AFTER_MS {
                held.count = 0;
            }
            held.count = held.count.saturating_add(1);
            held.last = now;
            if let Some(over) = held.count.checked_sub(free) {
                let secs = LONGEST_WAIT_SECS.min(1 << over.min(16));
                held.not_before = now + Duration::from_secs(secs);
            }
        }
    }

    /// A success clears what was counted for this login from this address, not what the address
    /// did to others.
    pub fn succeeded(&self, login: &str, from: Option<IpAddr>) {
        let mut failures = self.failures.lock().expect("no code panics while it holds this lock");
        failures.remove(&Key::Login(from, login.to_owned()));
    }
}

fn keys(login: &str, from: Option<IpAddr>) -> [(Key, u32); 2] {
    [
        (Key::Login(from, login.chars().take(64).collect()), FREE_PER_LOGIN),
        (Key::Address(from), FREE_PER_ADDRESS),
    ]
}

/// Drops what is old, and then the counts that grew least recently until half are left.
fn forget(failures: &mut HashMap<Key, Failures>, now: WallTime) {
    failures.retain(|_, held| now.ms_since(held.last) <= FORGET_AFTER_MS);
    if failures.len() >= MOST_KEYS {
        let mut times: Vec<WallTime> = failures.values().map(|held| held.last).collect();
        times.sort_unstable();
        let median = times[times.len() / 2];
        failures.retain(|_, held| held.last > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> WallTime {
        WallTime::from_unix_ms(1_700_000_000_000 + secs * 1_000)
    }

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));
    const THERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)));

    #[test]
    fn guessing_gets_slower_and_the_owner_elsewhere_is_not_locked_out() {
        let throttle = Throttle::default();
        for _ in 0..4 {
            throttle.failed("ana", HERE, at(0));
        }
        assert_eq!(throttle.wait_secs("ana", HERE, at(0)), 0);
        throttle.failed("ana", HERE, at(0));
        assert_eq!(throttle.wait_secs("ana", HERE, at(0)), 1);
        for _ in 0..20 {
            throttle.failed("ana", HERE, at(0));
        }
        assert_eq!(throttle.wait_secs("ana", HERE, at(0)), 300);
        assert_eq!(throttle.wait_secs("ana", HERE, at(301)), 0);
        assert_eq!(throttle.wait_secs("ana", THERE, at(0)), 0);
    }

    #[test]
    fn one_address_cannot_try_every_login() {
        let throttle = Throttle::default();
        for n in 0..40 {
            throttle.failed(&format!("user{n}"), HERE, at(0));
        }
        assert!(throttle.wait_secs("never-tried", HERE, at(0)) > 0);
    }

    #[test]
    fn a_success_and_an_hour_are_forgiving() {
        let throttle = Throttle::default();
        for _ in 0..5 {
            throttle.failed("ana", HERE, at(0));
        }
        throttle.succeeded("ana", HERE);
        assert_eq!(throttle.wait_secs("ana", HERE, at(0)), 0);
        for _ in 0..5 {
            throttle.failed("eva", HERE, at(0));
        }
        throttle.failed("eva", HERE, at(3_700));
        assert_eq!(throttle.wait_secs("eva", HERE, at(3_700)), 0);
    }

    #[test]
    fn a_flood_of_logins_does_not_grow_without_bound() {
        let throttle = Throttle::default();
        for n in 0..3 * MOST_KEYS {
            throttle.failed(&format!("user{n}"), HERE, at(n as i64 / 1_000));
        }
        assert!(throttle.failures.lock().unwrap().len() <= MOST_KEYS + 2);
    }
}
