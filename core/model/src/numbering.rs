//! Telephone numbers as a trunk writes them, brought into the one form that compares: E.164 with
//! its plus sign.
//!
//! Constraints that tests hold:
//!
//! - The number as written is never touched; this gives a second one beside it.
//! - What is not certainly a public number gives none: a name, an extension, too few digits.

use serde::{Deserialize, Serialize};

/// The longest number (ITU-T E.164 §6) and the shortest that is taken for one when it is not
/// written in international form.
const LONGEST_DIGITS: usize = 15;
const SHORTEST_DIGITS: usize = 7;

/// How numbers are dialled where the trunk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberingPlan {
    /// `44`, `386`, `1`.
    pub country_code: String,
    /// What is dialled before a country code: `00`, `011`.
    #[serde(default = "default_international_prefix")]
    pub international_prefix: String,
    /// What is dialled before an area code, and left out when called from abroad: `0`, or nothing.
    #[serde(default)]
    pub national_prefix: String,
    /// What stands before a number without an area code, without the national prefix: `20`.
    #[serde(default)]
    pub area_code: String,
    /// What is dialled for an outside line: `9`. Taken off before a number of an outside line.
    #[serde(default)]
    pub outside_prefix: String,
    /// Numbers of so many digits are extensions of the house, and no public numbers.
    #[serde(default)]
    pub extension_digits: Vec<u8>,
}

fn default_international_prefix() -> String {
    "00".to_owned()
}

impl NumberingPlan {
    /// The E.164 number of a participant's address: a SIP or tel URI, or a bare number.
    pub fn e164(&self, address: &str) -> Option<String> {
        let (plus, digits) = digits_of(address)?;
        if plus {
            return in_form(&digits);
        }
        if self.extension_digits.iter().any(|length| usize::from(*length) == digits.len()) {
            return None;
        }
        if let Some(rest) = after(&digits, &self.international_prefix) {
            return in_form(rest);
        }
        if let Some(outside) = after(&digits, &self.outside_prefix) {
            if let Some(rest) = after(outside, &self.international_prefix) {
                return in_form(rest);
            }
            if let Some(rest) = after(outside, &self.national_prefix) {
                return self.national(rest);
            }
        }
        if let Some(rest) = after(&digits, &self.national_prefix) {
            return self.national(rest);
        }
        // A plan without national prefix: a number that begins with the country code and is too
        // long for a national one (North America) has the country code already.
        if self.national_prefix.is_empty()
            && digits.starts_with(&self.country_code)
            && digits.len() > 10
        {
            return in_form(&digits);
        }
        if self.national_prefix.is_empty() {
            return self.national(&digits);
        }
        if !self.area_code.is_empty() {
            return self.national(&format!("{}{digits}", self.area_code));
        }
        None
    }

    fn national(&self, digits: &str) -> Option<String> {
        if digits.len() < SHORTEST_DIGITS {
            return None;
        }
        in_form(&format!("{}{digits}", self.country_code))
    }
}

/// The number that is in international form wherever it is dialled.
pub fn international(address: &str) -> Option<String> {
    let (plus, digits) = digits_of(address)?;
    plus.then(|| in_form(&digits)).flatten()
}

fn in_form(digits: &str) -> Option<String> {
    let is_long_enough = (SHORTEST_DIGITS..=LONGEST_DIGITS).contains(&digits.len());
    (is_long_enough && !digits.starts_with('0')).then(|| format!("+{digits}"))
}

fn after<'a>(digits: &'a str, prefix: &str) -> Option<&'a str> {
    digits.strip_prefix(prefix).filter(|_| !prefix.is_empty())
}

/// Whether there is a plus sign, and the digits; `None` when the address is no number.
fn digits_of(address: &str) -> Option<(bool, String)> {
    let address = address.trim();
    let lower = address.to_ascii_lowercase();
    let scheme = ["sips:", "sip:", "tel:"].iter().find(|scheme| lower.starts_with(*scheme));
    let rest = &address[scheme.map_or(0, |scheme| scheme.len())..];
    let user = rest.split(['@', ';']).next().unwrap_or_default().trim();
    // `sip:192.0.2.7` is a host, not a number.
    if scheme.is_some_and(|scheme| scheme.starts_with("sip")) && !rest.contains('@') {
        return None;
    }
    let (plus, number) = match user.strip_prefix('+') {
        Some(number) => (true, number),
        None => (false, user),
    };
    let is_separator = |letter: char| "-. ()".contains(letter);
    if !number.chars().all(|letter| letter.is_ascii_digit() || is_separator(letter)) {
        return None;
    }
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    (!digits.is_empty()).then_some((plus, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn britain() -> NumberingPlan {
        NumberingPlan {
            country_code: "44".to_owned(),
            international_prefix: "00".to_owned(),
            national_prefix: "0".to_owned(),
            area_code: "20".to_owned(),
            outside_prefix: "9".to_owned(),
            extension_digits: vec![3, 4],
        }
    }

    fn north_america() -> NumberingPlan {
        NumberingPlan {
            country_code: "1".to_owned(),
            international_prefix: "011".to_owned(),
            national_prefix: String::new(),
            area_code: String::new(),
            outside_prefix: String::new(),
            extension_digits: vec![4],
        }
    }

    #[test]
    fn one_number_has_one_form_however_it_is_dialled() {
        let plan = britain();
        for written in [
            "sip:+442079460123@sbc.example.com",
            "tel:+44-20-7946-0123",
            "00442079460123",
            "02079460123",
            "sip:9-020-7946-0123@192.0.2.7;user=phone",
            "900442079460123",
            "7946 0123",
        ] {
            assert_eq!(plan.e164(written).as_deref(), Some("+442079460123"), "{written}");
        }
        let plan = north_america();
        for written in ["2125550123", "12125550123", "+1 (212) 555-0123"] {
            assert_eq!(plan.e164(written).as_deref(), Some("+12125550123"), "{written}");
        }
        assert_eq!(plan.e164("011442079460123").as_deref(), Some("+442079460123"));
    }

    #[test]
    fn what_is_no_public_number_has_no_such_form() {
        for written in [
            "4711",
            "911",
            "sip:ana@example.com",
            "sip:192.0.2.7",
            "",
            "+",
            "+0123456789",
            "anonymous",
        ] {
            assert_eq!(britain().e164(written), None, "{written}");
        }
        assert_eq!(britain().e164("+1234567890123456"), None, "longer than any number");
    }

    #[test]
    fn a_number_with_a_plus_needs_no_plan() {
        assert_eq!(international("tel:+386-1-234-5678").as_deref(), Some("+38612345678"));
        assert_eq!(international("02079460123"), None);
    }
}
