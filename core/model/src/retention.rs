//! How long recordings are kept.

use serde::{Deserialize, Serialize};

use crate::time::WallTime;

const DAY_MS: i64 = 24 * 3_600_000;

/// For how long. By age alone: a hold is decided when a recording is claimed for erasure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionPolicy {
    /// Days from the start of the call, 1 to 36,500. `None`: for ever.
    #[serde(default)]
    pub keep_days: Option<u32>,
}

/// A number of days that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} days: write a whole number from 1 to {MAX_DAYS}, or nothing to keep for ever")]
pub struct InvalidDays(pub String);

/// A hundred years.
const MAX_DAYS: u32 = 36_500;

impl RetentionPolicy {
    /// From text; empty means for ever.
    pub fn parse(text: &str) -> Result<Self, InvalidDays> {
        if text.is_empty() {
            return Ok(Self { keep_days: None });
        }
        let invalid = || InvalidDays(text.to_owned());
        Self { keep_days: Some(text.parse().map_err(|_| invalid())?) }.checked()
    }

    /// Refuses numbers that cannot have been meant: 0 would erase what was just recorded.
    pub fn checked(self) -> Result<Self, InvalidDays> {
        match self.keep_days {
            Some(days) if !(1..=MAX_DAYS).contains(&days) => Err(InvalidDays(days.to_string())),
            _ => Ok(self),
        }
    }

    /// Calls that started before this are due at `now`; with nothing to erase by age, none are.
    pub fn due_before(self, now: WallTime) -> WallTime {
        let Some(days) = self.keep_days else { return WallTime::from_unix_ms(i64::MIN) };
        WallTime::from_unix_ms(now.unix_ms().saturating_sub(i64::from(days) * DAY_MS))
    }

    /// Whether a call that started at `started` is due at `now`.
    pub fn is_due(self, started: WallTime, now: WallTime) -> bool {
        started < self.due_before(now)
    }
}

#[test]
fn a_call_is_due_when_its_days_are_over_and_not_before() {
    let at = WallTime::from_unix_ms;
    let month = RetentionPolicy { keep_days: Some(30) };
    assert!(!month.is_due(at(0), at(30 * DAY_MS)));
    assert!(month.is_due(at(0), at(30 * DAY_MS + 1)));
    let for_ever = RetentionPolicy::default();
    assert!(!for_ever.is_due(at(i64::MIN), at(i64::MAX)));
}

#[test]
fn days_that_cannot_be_meant_are_refused() {
    assert_eq!(RetentionPolicy::parse("").unwrap().keep_days, None);
    assert_eq!(RetentionPolicy::parse("365").unwrap().keep_days, Some(365));
    for bad in ["0", "-1", "1.5", "36501", "a year", " "] {
        let refused = RetentionPolicy::parse(bad).unwrap_err().to_string();
        assert!(refused.contains(bad), "{refused}");
    }
}
