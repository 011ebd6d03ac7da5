//! Two clocks, kept apart by type.
//!
//! [`WallTime`] is for people and for searching; it may step when NTP corrects it. Media is laid
//! out by the boot clock and by RTP ticks, which are plain nanoseconds and ticks inside the
//! crates that handle them. No duration is ever computed from two wall times of one call.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since the Unix epoch, UTC. In JSON: RFC 3339 with milliseconds and `Z`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime {
    unix_ms: i64,
}

/// A text that is not a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time: write it as 2026-11-22T14:00:00Z")]
pub struct InvalidTime(pub String);

impl WallTime {
    /// 9999-12-31T23:59:59.999Z: the last time that RFC 3339 can write.
    const LAST: i64 = 253_402_300_799_999;

    /// Out-of-range values are clamped to what RFC 3339 can write (year 0 to 9999).
    pub fn from_unix_ms(unix_ms: i64) -> Self {
        Self { unix_ms: unix_ms.clamp(-62_167_219_200_000, Self::LAST) }
    }

    pub fn unix_ms(self) -> i64 {
        self.unix_ms
    }

    /// Milliseconds from `earlier` to `self`; 0 when the clock went backwards.
    pub fn ms_since(self, earlier: Self) -> u64 {
        u64::try_from(self.unix_ms - earlier.unix_ms).unwrap_or(0)
    }

    /// RFC 3339, with any offset.
    pub fn parse(text: &str) -> Result<Self, InvalidTime> {
        let parsed =
            OffsetDateTime::parse(text, &Rfc3339).map_err(|_| InvalidTime(text.to_owned()))?;
        let unix_ms = parsed.unix_timestamp_nanos().div_euclid(1_000_000);
        // A four-digit year in nanoseconds fits i128 easily, in milliseconds it fits i64.
        Ok(Self::from_unix_ms(unix_ms as i64))
    }
}

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = i128::from(self.unix_ms) * 1_000_000;
        let time = OffsetDateTime::from_unix_timestamp_nanos(nanos)
            .expect("from_unix_ms clamps to the range that time can hold");
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            time.year(),
            u8::from(time.month()),
            time.day(),
            time.hour(),
            time.minute(),
            time.second(),
            time.millisecond()
        )
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_unix_ms(self.unix_ms.saturating_add(ms))
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for WallTime {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for WallTime {}

/// Number of a record in its journal: rises across files and restarts, is never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Position(pub u64);

impl Position {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_text() {
        for unix_ms in [0, 1_700_000_000_123, -1, WallTime::LAST, i64::MAX, i64::MIN] {
            let time = WallTime::from_unix_ms(unix_ms);
            assert_eq!(WallTime::parse(&time.to_string()), Ok(time));
        }
        assert_eq!(
            WallTime::from_unix_ms(1_700_000_000_123).to_string(),
            "2023-11-14T22:13:20.123Z"
        );
    }

    #[test]
    fn an_offset_is_understood() {
        let utc = WallTime::parse("2026-11-22T14:00:00Z").unwrap();
        assert_eq!(WallTime::parse("2026-11-22T15:00:00+01:00"), Ok(utc));
        assert!(WallTime::parse("yesterday").is_err());
    }
}
