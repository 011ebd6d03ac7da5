//! Whose call it is: addresses that belong to people and groups for a time.
//!
//! A recording names addresses, not people. A person owns an address from one day to another, so
//! a call is theirs if an address of a participant was theirs when the call started. Nothing of
//! this is written into a recording: who gets a desk's extension next sees none of the calls that
//! were made from it before, and a mistake in an assignment is undone by correcting it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{GroupId, UserId};
use crate::index::RecordingState;
use crate::personal::Personal;
use crate::recording::Recording;
use crate::search::fold;
use crate::search_text::{number_in, user_of};
use crate::time::WallTime;

/// Digits of the shortest and the longest telephone number that can be owned (E.164: at most 15).
const NUMBER_DIGITS: std::ops::RangeInclusive<usize> = 5..=15;

/// What SIP messages call somebody: `7001` or `ana`, which is what stands before the `@` of a
/// SIP address (RFC 3261 §19.1.1), or a whole telephone number, `+38612345678`.
///
/// Without the host: an SBC writes its own there, and another one after a failover.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String))]
pub struct Address(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an address: give an extension (7001), the part of a SIP address before its @ \
     (ana), or a whole telephone number with its plus (+38612345678)"
)]
pub struct InvalidAddress(pub String);

impl Address {
    /// Reads what people type; letters count in any case, a number with any punctuation.
    pub fn new(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.chars().take(80).collect());
        let text = text.trim();
        if text.starts_with('+') {
            let digits = number_in(text).ok_or_else(invalid)?;
            return Self::number(&digits).ok_or_else(invalid);
        }
        UserId::new(text).map_err(|_| invalid())?;
        Ok(Self(fold(text)))
    }

    /// No country code begins with a zero (ITU-T E.164).
    fn number(digits: &str) -> Option<Self> {
        let is_whole = NUMBER_DIGITS.contains(&digits.len()) && !digits.starts_with('0');
        is_whole.then(|| Self(format!("+{digits}")))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The digits, if it is a telephone number.
    pub fn digits(&self) -> Option<&str> {
        self.0.strip_prefix('+')
    }

    /// All that a participant's address and number stand for.
    fn of_party(aor: Option<&str>, number: Option<&str>) -> Vec<Self> {
        let user = aor.and_then(user_of).map(Self);
        let numbers = [aor, number].into_iter().flatten().filter_map(number_in);
        user.into_iter().chain(numbers.filter_map(|digits| Self::number(&digits))).collect()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        Self::new(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.0
    }
}

/// The addresses of a recording's participants. Their names say nothing: a caller chooses them.
pub fn addresses_of(recording: &Recording) -> BTreeSet<Address> {
    let parties = recording.participants.iter().map(|party| (&party.aor, &party.number));
    parties.flat_map(|(aor, number)| of_personal(aor.as_ref(), number.as_ref())).collect()
}

/// As [`addresses_of`], for an engine of the index.
pub fn addresses_of_state(state: &RecordingState) -> BTreeSet<Address> {
    let facts = state.facts.iter().flat_map(|facts| &facts.value.participants);
    facts.flat_map(|party| of_personal(party.aor.as_ref(), party.number.as_ref())).collect()
}

fn of_personal(aor: Option<&Personal<String>>, number: Option<&Personal<String>>) -> Vec<Address> {
    let aor = aor.map(|aor| aor.reveal().as_str());
    Address::of_party(aor, number.map(|number| number.reveal().as_str()))
}

/// A span of time: from its first millisecond to before its last. An end that is absent is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Term {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<WallTime>,
    /// Not any more at this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<WallTime>,
}

impl Term {
    pub fn contains(self, at: WallTime) -> bool {
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at < until)
    }

    /// When both hold; `None`: never.
    pub fn and(self, other: Self) -> Option<Self> {
        let both = Self {
            from: self.from.max(other.from),
            until: match (self.until, other.until) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            },
        };
        both.is_some_time().then_some(both)
    }

    /// Whether it ends after it begins.
    pub fn is_some_time(self) -> bool {
        !matches!((self.from, self.until), (Some(from), Some(until)) if until <= from)
    }
}

/// An address that belongs to somebody for a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Assignment {
    pub address: Address,
    #[serde(flatten)]
    pub term: Term,
}

impl Assignment {
    pub fn covers(&self, addresses: &BTreeSet<Address>, started_at: WallTime) -> bool {
        self.term.contains(started_at) && addresses.contains(&self.address)
    }
}

/// A user who belongs to a group for a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Member {
    pub login: UserId,
    #[serde(flatten)]
    pub term: Term,
}

/// People, and addresses that are nobody's alone: a hunt group, a shared mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Group {
    pub name: GroupId,
    /// May hear the group's calls, if their role reaches the groups they manage.
    #[serde(default)]
    pub managers: BTreeSet<UserId>,
    #[serde(default)]
    pub members: Vec<Member>,
    #[serde(default)]
    pub addresses: Vec<Assignment>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> WallTime {
        WallTime::from_unix_ms(ms)
    }

    fn address(text: &str) -> Address {
        Address::new(text).unwrap()
    }

    #[test]
    fn an_address_is_an_extension_a_name_or_a_whole_number() {
        assert_eq!(address(" Ana.Novak ").as_str(), "ana.novak");
        assert_eq!(address("7001").as_str(), "7001");
        assert_eq!(address("+386 (1) 234-5678").as_str(), "+38612345678");
        for bad in
            ["", "+", "+1234", "+0123456", "+1234567890123456", "ana@pbx", "sip:ana", "a b", "+ana"]
        {
            let error = Address::new(bad).unwrap_err();
            assert!(error.to_string().contains("before its @"), "{bad:?}");
        }
    }

    #[test]
    fn a_participant_is_known_by_the_user_part_and_by_the_number() {
        let of = |aor, number| -> Vec<String> {
            Address::of_party(Some(aor), number).into_iter().map(String::from).collect()
        };
        assert_eq!(of("sip:Ana@pbx", None), ["ana"]);
        assert_eq!(of("sip:7001@pbx", None), ["7001"]);
        assert_eq!(
            of("sip:02079460123@gw", Some("+442079460123")),
            ["02079460123", "+442079460123"]
        );
        assert_eq!(of("tel:+386-1-234-5678", None), ["+38612345678"]);
        assert_eq!(of("sip:pbx.example.com", None), [""; 0]);
    }

    #[test]
    fn a_term_ends_before_its_last_instant_and_two_terms_meet_where_both_hold() {
        let term = |from: Option<i64>, until: Option<i64>| Term {
            from: from.map(at),
            until: until.map(at),
        };
        let may = term(Some(10), Some(20));
        assert!(may.contains(at(10)) && may.contains(at(19)));
        assert!(!may.contains(at(9)) && !may.contains(at(20)));
        assert_eq!(may.and(term(None, None)), Some(may));
        assert_eq!(may.and(term(Some(15), None)), Some(term(Some(15), Some(20))));
        assert_eq!(may.and(term(None, Some(12))), Some(term(Some(10), Some(12))));
        assert_eq!(may.and(term(Some(20), None)), None);
        assert_eq!(may.and(term(None, Some(10))), None);
    }
}
