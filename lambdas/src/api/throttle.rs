//! Slows down guessing of passwords.
//!
//! An attempt counts as failed from its beginning, and is taken back when it was none: many at
//! once are no way around the count. Failures are counted for a login as tried from one address, and for that address over all
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
    /// Counts an attempt, unless there are seconds to wait before the next one.
    pub fn begin(
        &self,
        login: &str,
        from: Option<IpAddr>,
        now: WallTime,
    ) -> Result<Attempt<'_>, u64> {
        let mut failures = self.failures.lock().expect("no code panics while it holds this lock");
        let keys = keys(login, from);
        let wait_secs = keys
            .iter()
            .filter_map(|(key, _)| failures.get(key))
            .map(|held| held.not_before.ms_since(now).div_ceil(1_000))
            .max()
            .unwrap_or(0);
        if wait_secs > 0 {
            return Err(wait_secs);
        }
        if failures.len() >= MOST_KEYS {
            forget(&mut failures, now);
        }
        let [login, address] = keys.map(|(key, free)| {
            let held = failures.entry(key.clone()).or_insert(Failures {
                count: 0,
                last: now,
                not_before: now,
            });
            if now.ms_since(held.last) > FORGET_AFTER_MS {
                held.count = 0;
            }
            held.count = held.count.saturating_add(1);
            held.last = now;
            if let Some(over) = held.count.checked_sub(free) {
                let secs = LONGEST_WAIT_SECS.min(1 << over.min(16));
                held.not_before = now + Duration::from_secs(secs);
            }
            (key, held.not_before)
        });
        Ok(Attempt { throttle: self, login, address })
    }
}

/// An attempt that is counted. Dropped, it stays so: it failed, or its client did not wait.
#[derive(Debug)]
#[must_use = "an attempt counts as failed unless it is taken back"]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    /// What was counted, and the wait that followed from it.
    login: (Key, WallTime),
    address: (Key, WallTime),
}

impl Attempt<'_> {
    /// A success clears what was counted for this login from this address, and only this attempt
    /// of what the address did to others.
    pub fn succeeded(self) {
        let mut failures = self.lock();
        failures.remove(&self.login.0);
        take_back(&mut failures, &self.address);
    }

    /// Nothing was tried.
    pub fn not_made(self) {
        let mut failures = self.lock();
        take_back(&mut failures, &self.login);
        take_back(&mut failures, &self.address);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Failures>> {
        self.throttle.failures.lock().expect("no code panics while it holds this lock")
    }
}

fn take_back(failures: &mut HashMap<Key, Failures>, (key, wait): &(Key, WallTime)) {
    let Some(held) = failures.get_mut(key) else { return };
    held.count = held.count.saturating_sub(1);
    // Unless another attempt made it longer, nobody waits because of this one.
    if held.not_before == *wait {
        held.not_before = held.last;
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

    /// After the wait, if there is one.
    fn fail(throttle: &Throttle, login: &str, from: Option<IpAddr>, now: WallTime) -> WallTime {
        let later = now + Duration::from_secs(wait_secs(throttle, login, from, now));
        drop(throttle.begin(login, from, later).unwrap());
        later
    }

    fn wait_secs(throttle: &Throttle, login: &str, from: Option<IpAddr>, now: WallTime) -> u64 {
        throttle.begin(login, from, now).map(Attempt::not_made).err().unwrap_or(0)
    }

    #[test]
    fn guessing_gets_slower_and_the_owner_elsewhere_is_not_locked_out() {
        let throttle = Throttle::default();
        for _ in 0..4 {
            fail(&throttle, "ana", HERE, at(0));
        }
        assert_eq!(wait_secs(&throttle, "ana", HERE, at(0)), 0);
        fail(&throttle, "ana", HERE, at(0));
        assert_eq!(wait_secs(&throttle, "ana", HERE, at(0)), 1);
        let mut now = at(0);
        for _ in 0..20 {
            now = fail(&throttle, "ana", HERE, now);
        }
        assert_eq!(wait_secs(&throttle, "ana", HERE, now), 300);
        assert_eq!(wait_secs(&throttle, "ana", HERE, now + Duration::from_secs(301)), 0);
        assert_eq!(wait_secs(&throttle, "ana", THERE, at(0)), 0);
    }

    #[test]
    fn one_address_cannot_try_every_login() {
        let throttle = Throttle::default();
        for n in 0..40 {
            fail(&throttle, &format!("user{n}"), HERE, at(0));
        }
        assert!(wait_secs(&throttle, "never-tried", HERE, at(0)) > 0);
    }

    #[test]
    fn a_success_and_an_hour_are_forgiving() {
        let throttle = Throttle::default();
        for _ in 0..5 {
            fail(&throttle, "ana", HERE, at(0));
        }
        throttle.begin("ana", HERE, at(2)).unwrap().succeeded();
        assert_eq!(wait_secs(&throttle, "ana", HERE, at(2)), 0);
        for _ in 0..5 {
            fail(&throttle, "eva", HERE, at(0));
        }
        fail(&throttle, "eva", HERE, at(3_700));
        assert_eq!(wait_secs(&throttle, "eva", HERE, at(3_700)), 0);
    }

    #[test]
    fn a_flood_of_logins_does_not_grow_without_bound() {
        let throttle = Throttle::default();
        for n in 0..3 * MOST_KEYS {
            fail(&throttle, &format!("user{n}"), HERE, at(n as i64 / 1_000));
        }
        assert!(throttle.failures.lock().unwrap().len() <= MOST_KEYS + 2);
    }
}
