//! What of a recording can be found by free text, folded as queries are.
//!
//! One line per name, number, id or flag, so that no match runs from one into the next. A number
//! that is written with punctuation has a second line of digits only: people type numbers as
//! they please, and SRCs write them as they please.

use std::collections::BTreeSet;

use model::RecordingState;
use model::search::fold;

#[derive(Debug, PartialEq, Eq)]
pub struct SearchText {
    /// Everything that `q` searches.
    pub all: String,
    /// What `party` searches: names and addresses of participants.
    pub parties: String,
}

impl SearchText {
    pub fn of(state: &RecordingState) -> Self {
        let facts = state.facts.as_ref().map(|facts| &facts.value);
        let mut parties = Lines::default();
        for party in facts.into_iter().flat_map(|facts| &facts.participants) {
            for text in [&party.name, &party.aor].into_iter().flatten() {
                parties.add(text.reveal());
                if let Some(digits) = number_in(text.reveal()) {
                    parties.add(&digits);
                }
            }
        }
        let mut all = parties.clone();
        all.add(&state.id.to_string());
        state.call_ids.iter().chain(&state.flags).for_each(|text| all.add(text));
        if let Some(built) = &state.finalized {
            built.flags.iter().for_each(|flag| all.add(flag));
        }
        for (_, text) in facts.into_iter().flat_map(|facts| &facts.extensions) {
            all.add(text.reveal());
        }
        Self { all: all.join(), parties: parties.join() }
    }
}

/// Lines without repetitions; sorted, so that equal facts give equal text.
#[derive(Clone, Default)]
struct Lines(BTreeSet<String>);

impl Lines {
    fn add(&mut self, text: &str) {
        self.0.extend(fold(text).lines().map(str::to_owned));
    }

    fn join(self) -> String {
        self.0.into_iter().collect::<Vec<_>>().join("\n")
    }
}

/// The digits of `text` when it is a telephone number with punctuation (RFC 3966 §5.1.1 and what
/// people add) or a URI of one: `sip:+386-1-234@host` is 3861234.
fn number_in(text: &str) -> Option<String> {
    let user =
        ["sip:", "sips:", "tel:"].iter().find_map(|scheme| strip_ignoring_case(text, scheme));
    let user = user.unwrap_or(text);
    let number = user.split(['@', ';']).next().unwrap_or(user);
    digits_of(number)
}

fn strip_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The digits of a text that has digits and nothing but digits and a number's punctuation.
pub fn digits_of(text: &str) -> Option<String> {
    let is_punctuation =
        |c: char| matches!(c, '+' | '-' | '.' | '(' | ')' | '/') || c.is_whitespace();
    let is_number = text.chars().all(|c| c.is_ascii_digit() || is_punctuation(c));
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    (is_number && !digits.is_empty()).then_some(digits)
}

#[test]
fn a_number_is_found_in_every_way_of_writing_it() {
    for text in [
        "sip:+386-1-234@10.0.0.1;user=phone",
        "SIPS:3861234@host",
        "tel:+386.1.234;phone-context=x",
        "+386 (1) 234",
        "3861234",
    ] {
        assert_eq!(number_in(text).as_deref(), Some("3861234"), "{text}");
    }
    for text in ["sip:eva@10.0.0.1", "Eva 2", "sip:@host", "", "+", "sí:1"] {
        assert_eq!(number_in(text), None, "{text}");
    }
}
