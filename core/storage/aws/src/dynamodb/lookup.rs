//! What leads to a recording besides its day: words, numbers, ids, users.
//!
//! Each is a small item in the recording's own partition, so that erasing the partition erases
//! them, and shows itself in an index under the text that it leads from. They are hints: a name
//! that was corrected still leads here, and whoever follows reads the recording and compares.
//!
//! A part of a word is found by the dictionary of the tenant's words: under every suffix of three
//! letters and more stands the word. People and flags are few, however many the calls, so a word
//! is new seldom; each process remembers those it has seen.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use model::TenantId;
use model::index::RecordingState;
use model::search::fold;
use model::search_text::{number_in, users_of};
use storage_ports::StorageError;

use super::item::LookupItem;
use super::key::{self, Lookup};
use super::table::{Item, Table, key_of, to_item};

/// Words that a process remembers before it begins anew.
const MAX_REMEMBERED: usize = 100_000;

/// Words that are known to be in the dictionary.
#[derive(Debug, Default)]
pub struct Dictionary(Mutex<HashSet<(TenantId, String)>>);

/// Everything that leads to a recording.
#[derive(Debug, Default, PartialEq, Eq)]
struct Leads {
    words: BTreeSet<String>,
    ids: BTreeSet<String>,
    users: BTreeSet<String>,
    numbers: BTreeSet<String>,
}

impl Leads {
    fn of(state: &RecordingState) -> Self {
        let mut leads = Self { users: users_of(state), ..Self::default() };
        leads.ids.insert(state.id.to_string());
        leads.ids.extend(state.call_ids.iter().map(|id| fold(id)));
        let built = state.finalized.iter().flat_map(|built| &built.flags);
        leads.words.extend(state.flags.iter().chain(built).map(|flag| fold(flag)));
        let facts = state.facts.as_ref().map(|facts| &facts.value);
        for (_, text) in facts.into_iter().flat_map(|facts| &facts.extensions) {
            leads.ids.extend(words_of(text.reveal()));
        }
        for party in facts.into_iter().flat_map(|facts| &facts.participants) {
            if let Some(name) = &party.name {
                match number_in(name.reveal()) {
                    Some(digits) => _ = leads.numbers.insert(digits),
                    None => leads.words.extend(words_of(name.reveal())),
                }
            }
            if let Some(aor) = &party.aor {
                match number_in(aor.reveal()) {
                    Some(digits) => _ = leads.numbers.insert(digits),
                    None => leads.words.extend(user_part(aor.reveal())),
                }
            }
            let number = party.number.as_ref().and_then(|number| number_in(number.reveal()));
            leads.numbers.extend(number);
        }
        leads
    }

    fn items(&self, state: &RecordingState, entry: &str) -> BTreeMap<String, LookupItem> {
        let pk = key::recording(&state.tenant, state.id);
        let text = |lookup| {
            let (pk, tenant) = (&pk, &state.tenant);
            move |text: &String| LookupItem::text(pk, tenant, entry, lookup, text)
        };
        let words = self.words.iter().map(text(Lookup::Word));
        let ids = self.ids.iter().map(text(Lookup::Id));
        let users = self.users.iter().map(text(Lookup::User));
        let numbers = self
            .numbers
            .iter()
            .filter_map(|digits| LookupItem::number(&pk, &state.tenant, entry, digits));
        words.chain(ids).chain(users).chain(numbers).map(|item| (item.sk.clone(), item)).collect()
    }
}

/// Sort keys of all that leads to a recording, in its own partition.
pub fn keys(state: &RecordingState) -> Vec<String> {
    Leads::of(state).items(state, "").into_keys().collect()
}

/// The words of a text, folded as those of a query are.
fn words_of(text: &str) -> Vec<String> {
    fold(text).split_whitespace().map(str::to_owned).collect()
}

/// What stands before the host of an address: the host is everybody's.
fn user_part(aor: &str) -> Vec<String> {
    before_host(&fold(aor)).split_whitespace().map(str::to_owned).collect()
}

/// What of a folded text leads to the addresses that contain it: addresses themselves are in no
/// index, because their users and their numbers are.
pub fn before_host(text: &str) -> &str {
    let rest = ["sip:", "sips:", "tel:"].iter().find_map(|scheme| text.strip_prefix(scheme));
    rest.unwrap_or(text).split(['@', ';']).next().unwrap_or_default()
}

/// Writes what leads to `new` and did not lead to `held`. To be called before the recording itself
/// is written: then what is there of it can always be found.
pub async fn write(
    table: &Table,
    dictionary: &Dictionary,
    held: Option<&RecordingState>,
    new: &RecordingState,
) -> Result<(), StorageError> {
    let Some(at) = new.started.as_ref().map(|started| started.value.at) else { return Ok(()) };
    let entry = key::entry(at, new.id);
    let leads = Leads::of(new);
    let mut items = leads.items(new, &entry);
    let known = held.filter(|held| held.started == new.started).map(Leads::of);
    if known.as_ref() == Some(&leads) {
        return Ok(());
    }
    if let (Some(held), Some(known)) = (held, known) {
        let known = known.items(held, &entry);
        items.retain(|sk, _| !known.contains_key(sk));
    }
    dictionary.add(table, &new.tenant, &leads.words).await?;
    let items: Result<Vec<Item>, _> = items.values().map(to_item).collect();
    table.put_many(items?).await
}

impl Dictionary {
    async fn add(
        &self,
        table: &Table,
        tenant: &TenantId,
        words: &BTreeSet<String>,
    ) -> Result<(), StorageError> {
        let name = |word: &String| (tenant.clone(), key::cut(word).to_owned());
        let new: Vec<&String> = {
            let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            words.iter().filter(|word| !known.contains(&name(word))).collect()
        };
        let mut items: BTreeMap<(String, String), Item> = BTreeMap::new();
        for word in &new {
            let word = key::cut(word);
            for suffix in key::suffixes(word) {
                let Some(pk) = key::words(tenant, suffix) else { continue };
                let sk = format!("{suffix}{}{word}", key::BETWEEN);
                items.insert((pk.clone(), sk.clone()), key_of(&pk, &sk));
            }
        }
        table.put_many(items.into_values().collect()).await?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + new.len() > MAX_REMEMBERED {
            known.clear();
        }
        known.extend(new.into_iter().map(name));
        Ok(())
    }
}

#[test]
fn a_telephone_number_is_no_word_and_a_name_is() {
    use model::call::{CallFacts, Party};
    use model::index::Guarded;
    use model::{Personal, Position};
    let mut state = model::example::history(1, 1)
        .iter()
        .find_map(|event| RecordingState::fold(None, event))
        .expect("a history has a call");
    let party = |name: &str, aor: &str| Party {
        name: Some(Personal::from(name)),
        aor: Some(Personal::from(aor)),
        ..Party::default()
    };
    let participants =
        vec![party("Eva Novák", "sip:eva@pbx"), party("+386 1 234", "sip:+386-1-234@gw")];
    let value = CallFacts { participants, ..CallFacts::default() };
    state.facts = Some(Guarded { position: Position(9), value });
    let leads = Leads::of(&state);
    assert!(leads.words.is_superset(&["eva", "novak"].map(str::to_owned).into()));
    assert!(leads.ids.iter().all(|id| !id.starts_with("sip:")), "{:?}", leads.ids);
    assert_eq!(leads.users, BTreeSet::from(["eva".to_owned()]));
    assert_eq!(leads.numbers, BTreeSet::from(["3861234".to_owned()]));
}
