//! Times in recording metadata, which should be RFC 3339 (RFC 7865 §6.9) and often are not.
//!
//! Seen besides: no zone at all (Oracle, Avaya), an offset without colon (OpenSIPS `%z`), a space
//! for the `T`, and fractions of any length. A time without zone is read as UTC and says so.

use serde::{Deserialize, Serialize};

/// A time as the SRC gave it, and what we make of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MetadataTime {
    pub text: String,
    /// Milliseconds since 1970 in UTC; `None` when the text is no time that we understand.
    pub unix_ms: Option<i64>,
    /// The text named its zone. Without one, `unix_ms` may be off by the zone of the SRC.
    pub zoned: bool,
}

impl MetadataTime {
    pub fn read(text: &str) -> Self {
        let text = text.trim();
        let (unix_ms, zoned) = match parse(text) {
            Some((unix_ms, zoned)) => (Some(unix_ms), zoned),
            None => (None, false),
        };
        Self { text: text.to_owned(), unix_ms, zoned }
    }
}

fn parse(text: &str) -> Option<(i64, bool)> {
    let mut rest = text.as_bytes();
    let year = number(&mut rest, 4)?;
    literal(&mut rest, b"-")?;
    let month = number(&mut rest, 2)?;
    literal(&mut rest, b"-")?;
    let day = number(&mut rest, 2)?;
    literal(&mut rest, b"Tt ")?;
    let hour = number(&mut rest, 2)?;
    literal(&mut rest, b":")?;
    let minute = number(&mut rest, 2)?;
    // Seconds are missing in nothing seen so far, but ISO 8601 lets them.
    let second = match literal(&mut rest, b":") {
        Some(()) => number(&mut rest, 2)?,
        None => 0,
    };
    let millis = fraction_millis(&mut rest);
    let (offset_minutes, zoned) = zone(rest.trim_ascii())?;
    // A leap second, 60, is the first second of the next minute.
    if !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 24
        || minute > 59
        || second > 60
    {
        return None;
    }
    let days = days_since_1970(year, month, day);
    let seconds = days * 86_400 + hour * 3600 + (minute - offset_minutes) * 60 + second;
    Some((seconds * 1000 + millis, zoned))
}

fn number(rest: &mut &[u8], digits: usize) -> Option<i64> {
    let (head, tail) = rest.split_at_checked(digits)?;
    *rest = tail;
    head.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
    })
}

fn literal(rest: &mut &[u8], any_of: &[u8]) -> Option<()> {
    let (first, tail) = rest.split_first()?;
    any_of.contains(first).then(|| *rest = tail)
}

/// `.` or `,` and digits, of which the first three count.
fn fraction_millis(rest: &mut &[u8]) -> i64 {
    let before = *rest;
    if literal(rest, b".,").is_none() {
        return 0;
    }
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        *rest = before;
        return 0;
    }
    let (fraction, tail) = rest.split_at(digits);
    *rest = tail;
    let digit = |place: usize| fraction.get(place).map_or(0, |byte| i64::from(byte - b'0'));
    digit(0) * 100 + digit(1) * 10 + digit(2)
}

/// Minutes east of UTC, and whether a zone was given.
fn zone(rest: &[u8]) -> Option<(i64, bool)> {
    let (sign, mut rest) = match rest {
        [] => return Some((0, false)),
        b"Z" | b"z" | b"UTC" | b"GMT" => return Some((0, true)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let hours = number(&mut rest, 2)?;
    let _ = literal(&mut rest, b":");
    let minutes = if rest.is_empty() { 0 } else { number(&mut rest, 2)? };
    (rest.is_empty() && hours < 24 && minutes < 60).then_some((sign * (hours * 60 + minutes), true))
}

/// Days of the Gregorian calendar. Counting years from March puts the leap day last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    // 719 468 days lie between 1 March of year 0 and 1 January 1970.
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> Option<i64> {
        MetadataTime::read(text).unix_ms
    }

    /// `date -u -d 2010-12-16T23:41:07Z +%s`
    const EXAMPLE: Option<i64> = Some(1_292_542_867_000);

    #[test]
    fn the_example_of_the_rfc_is_that_second() {
        assert_eq!(ms("2010-12-16T23:41:07Z"), EXAMPLE);
        assert!(MetadataTime::read("2010-12-16T23:41:07Z").zoned);
    }

    #[test]
    fn an_offset_counts_with_and_without_colon() {
        for text in
            ["2010-12-17T00:41:07+01:00", "2010-12-17T00:41:07+0100", "2010-12-16T18:11:07-0530"]
        {
            assert_eq!(ms(text), EXAMPLE, "{text}");
        }
        assert_eq!(ms("2010-12-17T00:41:07+01"), EXAMPLE);
    }

    #[test]
    fn a_time_without_zone_is_utc_and_says_so() {
        let time = MetadataTime::read(" 2010-12-16T23:41:07 ");
        assert_eq!((time.unix_ms, time.zoned), (EXAMPLE, false));
    }

    #[test]
    fn fractions_of_any_length_are_cut_to_milliseconds() {
        assert_eq!(ms("2010-12-16 23:41:07.5Z"), Some(1_292_542_867_500));
        assert_eq!(ms("2010-12-16T23:41:07.123456789Z"), Some(1_292_542_867_123));
    }

    #[test]
    fn the_calendar_has_leap_days_where_it_should() {
        assert_eq!(ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(ms("2000-02-29T00:00:00Z"), Some(951_782_400_000));
        assert_eq!(ms("2100-03-01T00:00:00Z"), Some(4_107_542_400_000));
        assert_eq!(ms("1969-12-31T23:59:59Z"), Some(-1000));
    }

    #[test]
    fn what_is_no_time_keeps_its_text() {
        for text in [
            "",
            "yesterday",
            "2010-13-01T00:00:00Z",
            "2010-12-16T23:41:07+9",
            "2010-12-16T23:41:07.Z",
            "2010-12-16",
            "ž010-12-16T23:41:07Z",
        ] {
            let time = MetadataTime::read(text);
            assert_eq!((time.unix_ms, time.text.as_str()), (None, text));
        }
    }
}
