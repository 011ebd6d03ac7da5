//! What of a recording can be found by free text, folded as queries are, and what a query asks.
//!
//! One line per name, number, id or flag, so that no match runs from one into the next. A number
//! that is written with punctuation has a second line of digits only: people type numbers as
//! they please, and SRCs write them as they please.

use std::collections::BTreeSet;

use crate::attribution::addresses_of_state;
use crate::call::CallFacts;
use crate::index::RecordingState;
use crate::recording::Recording;
use crate::search::{SearchQuery, fold};

#[derive(Clone, Debug, PartialEq, Eq)]
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
            for text in [&party.name, &party.aor, &party.number].into_iter().flatten() {
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

/// The texts of a query, folded, for engines that compare rows with it one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Each of these is found in the text.
    pub words: Vec<String>,
    /// Or all of the question is this one number, however it is written.
    pub number: Option<String>,
    /// Found among the parties, as it stands or as a number.
    pub party: Option<(String, Option<String>)>,
    /// Folded.
    pub user: Option<String>,
}

impl Wanted {
    pub fn by(query: &SearchQuery) -> Self {
        let text = query.q.as_deref().map(fold).unwrap_or_default();
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let party = query.party.as_deref().map(|party| fold(party.trim()));
        Self {
            number: digits_of(&text),
            words,
            party: party.map(|party| {
                let digits = digits_of(&party);
                (party, digits)
            }),
            user: query.user.as_deref().map(fold),
        }
    }

    /// Whether the query asks for this recording; its cursor and its limit aside. `view` is what
    /// people see of `state`.
    pub fn matches(&self, query: &SearchQuery, state: &RecordingState, view: &Recording) -> bool {
        let in_time = query.from.is_none_or(|from| view.started_at >= from)
            && query.to.is_none_or(|to| view.started_at < to);
        let long_enough = query.min_seconds.is_none_or(|seconds| {
            view.duration_ms.is_some_and(|ms| ms >= u64::from(seconds) * 1_000)
        });
        in_time
            && long_enough
            && query.status.is_none_or(|status| view.status == status)
            // Calls are attributed to no group yet, so none is theirs.
            && query.group.is_none()
            && self.user.as_ref().is_none_or(|user| users_of(state).contains(user))
            && in_scope(query, state, view)
            && self.matches_text(state)
    }

    fn matches_text(&self, state: &RecordingState) -> bool {
        if self.words.is_empty() && self.party.is_none() {
            return true;
        }
        let text = SearchText::of(state);
        let all_words = self.words.iter().all(|word| text.all.contains(word.as_str()));
        let number = self.number.as_ref().is_some_and(|digits| text.all.contains(digits.as_str()));
        let party = self.party.as_ref().is_none_or(|(party, digits)| {
            text.parties.contains(party.as_str())
                || digits.as_ref().is_some_and(|digits| text.parties.contains(digits.as_str()))
        });
        (all_words || number) && party
    }
}

fn in_scope(query: &SearchQuery, state: &RecordingState, view: &Recording) -> bool {
    let Some(scope) = &query.scope else { return true };
    let addresses = addresses_of_state(state);
    scope.iter().any(|assignment| assignment.covers(&addresses, view.started_at))
}

/// The users whose call it is: those that an address of a participant names, folded.
pub fn users_of(state: &RecordingState) -> BTreeSet<String> {
    let facts = state.facts.as_ref().map(|facts| &facts.value);
    let parties = facts.into_iter().flat_map(|facts: &CallFacts| &facts.participants);
    parties.filter_map(|party| user_of(party.aor.as_ref()?.reveal())).collect()
}

/// The user part of a SIP address (RFC 3261 §19.1.1), folded, where it is a name that somebody
/// could sign in with.
pub fn user_of(aor: &str) -> Option<String> {
    let rest = ["sip:", "sips:"].iter().find_map(|scheme| strip_ignoring_case(aor, scheme))?;
    let user = rest.split_once('@')?.0.split([';', ':']).next()?;
    crate::UserId::new(user).ok()?;
    Some(fold(user))
}

/// The digits of `text` when it is a telephone number with punctuation (RFC 3966 §5.1.1 and what
/// people add) or a URI of one: `sip:+386-1-234@host` is 3861234.
pub fn number_in(text: &str) -> Option<String> {
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

#[test]
fn a_sip_address_names_a_user_and_a_telephone_number_does_not() {
    let user = user_of;
    assert_eq!(user("sip:Eva.Novak@pbx;transport=tls").as_deref(), Some("eva.novak"));
    assert_eq!(user("SIPS:7001;x=y@pbx").as_deref(), Some("7001"));
    for none in ["tel:+3861234", "sip:pbx", "sip:+3861@pbx", "sip:a b@pbx", ""] {
        assert_eq!(user(none), None, "{none}");
    }
}
