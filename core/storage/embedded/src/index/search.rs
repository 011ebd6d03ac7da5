//! Questions to SQL.
//!
//! Free text of three letters and more goes to an FTS5 index of letter triples, which finds any
//! part of a word in any script; shorter words are looked for row by row, newest first, which
//! ends as soon as the page is full. Pages are joined by the last row's key, never by an offset:
//! new calls come in at the top all the time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use model::attribution::Assignment;
use model::index::{JournalState, RecordingState};
use model::recording::{Recording, Status};
use model::search::{Cursor, MAX_LIMIT, Page, SearchQuery, fold};
use model::search_text::digits_of;
use model::{JournalId, TenantId, UserId, WallTime};
use rusqlite::types::Value;
use rusqlite::{Transaction, params_from_iter};

use super::row::{journal_or_new, parse_state};
use crate::database::WorkError;

/// Letters in a triple: shorter needles cannot be looked up.
const TRIGRAM: usize = 3;

pub fn search(
    transaction: &Transaction<'_>,
    tenant: &TenantId,
    query: &SearchQuery,
) -> Result<Page<Recording>, WorkError> {
    let limit = query.limit.clamp(1, MAX_LIMIT);
    // A name that nobody can sign in with is no user's.
    let is_nobody = query.user.as_ref().is_some_and(|user| UserId::new(user).is_err());
    if query.group.is_some() || is_nobody {
        // Calls are attributed to no group yet, so none is theirs.
        return Ok(Page { items: Vec::new(), next: None });
    }
    let mut filter = Filter::new(tenant);
    if let Some(from) = query.from {
        filter.and("started_ms >= ?", [Value::Integer(from.unix_ms())]);
    }
    if let Some(to) = query.to {
        filter.and("started_ms < ?", [Value::Integer(to.unix_ms())]);
    }
    if let Some(status) = query.status {
        filter.and("status = ?", [Value::Text(status.as_str().to_owned())]);
    }
    if let Some(seconds) = query.min_seconds {
        filter.and("duration_ms >= ?", [Value::Integer(i64::from(seconds) * 1_000)]);
    }
    if let Some(user) = &query.user {
        filter.and_user(&fold(user));
    }
    if let Some(scope) = &query.scope {
        filter.and_scope(tenant, scope)?;
    }
    if let Some(party) = query.party.as_deref().map(|party| fold(party.trim())) {
        let mut sql = "(instr(parties, ?) > 0".to_owned();
        let mut values = vec![Value::Text(party.clone())];
        if let Some(digits) = digits_of(&party) {
            sql.push_str(" OR instr(parties, ?) > 0");
            values.push(Value::Text(digits));
        }
        filter.and(&format!("{sql})"), values);
    }
    if let Some(text) = &query.q {
        filter.and_text(&fold(text));
    }
    if let Some(Cursor { started_at, id }) = query.after {
        filter.and(
            "(started_ms, id) < (?, ?)",
            [Value::Integer(started_at.unix_ms()), Value::Blob(id.0.as_bytes().to_vec())],
        );
    }
    // One more row tells whether there is a next page.
    let order = format!("ORDER BY started_ms DESC, id DESC LIMIT {}", limit + 1);
    let mut items = filter.run(transaction, &order)?;
    let has_more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| has_more);
    let next = last.map(|last| Cursor { started_at: last.started_at, id: last.id });
    Ok(Page { items, next })
}

pub fn live(transaction: &Transaction<'_>, tenant: &TenantId) -> Result<Vec<Recording>, WorkError> {
    let mut filter = Filter::new(tenant);
    filter.and("status = ?", [Value::Text(Status::Recording.as_str().to_owned())]);
    filter.run(transaction, "ORDER BY started_ms, id")
}

/// Conditions that hold together, and their values.
struct Filter {
    sql: String,
    values: Vec<Value>,
}

impl Filter {
    fn new(tenant: &TenantId) -> Self {
        Self {
            sql: "tenant = ? AND started_ms IS NOT NULL".to_owned(),
            values: vec![Value::Text(tenant.as_str().to_owned())],
        }
    }

    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.values.extend(values);
    }

    /// A line of the parties is a SIP address of `user` ([`model::search_text::users_of`]).
    fn and_user(&mut self, user: &str) {
        let mut lines = Vec::new();
        let mut values = Vec::new();
        for scheme in ["sip:", "sips:"] {
            for after in ['@', ';', ':'] {
                lines.push("instr(char(10) || parties, ?) > 0");
                values.push(Value::Text(format!("\n{scheme}{user}{after}")));
            }
        }
        self.and(&format!("({})", lines.join(" OR ")), values);
    }

    /// An address of the call was one of these when it started.
    fn and_scope(&mut self, tenant: &TenantId, scope: &[Assignment]) -> Result<(), WorkError> {
        let owned: Vec<_> = scope
            .iter()
            .map(|Assignment { address, term }| {
                let from = term.from.map_or(i64::MIN, WallTime::unix_ms);
                // No call can have started in the last millisecond that there is.
                let until = term.until.map_or(i64::MAX, WallTime::unix_ms);
                (address.as_str(), from, until)
            })
            .collect();
        let owned = serde_json::to_string(&owned).map_err(WorkError::corrupt)?;
        // One parameter, however many addresses; CROSS JOIN keeps the order, so that each of
        // them is one stretch of the table's key.
        self.and(
            "key IN (SELECT a.recording FROM json_each(?) AS owned
             CROSS JOIN recording_addresses AS a
             WHERE a.tenant = ? AND a.address = owned.value ->> 0
             AND a.started_ms >= owned.value ->> 1 AND a.started_ms < owned.value ->> 2)",
            [Value::Text(owned), Value::Text(tenant.as_str().to_owned())],
        );
        Ok(())
    }

    /// Every word of `text` is found; or all of it is one number, however it is written.
    fn and_text(&mut self, text: &str) {
        let mut words = Vec::new();
        let mut values = Vec::new();
        for word in text.split_whitespace() {
            let (sql, value) = contains(word);
            words.push(sql);
            values.push(value);
        }
        if words.is_empty() {
            return;
        }
        let mut sql = format!("({}", words.join(" AND "));
        if let Some(digits) = digits_of(text) {
            let (number, value) = contains(&digits);
            sql.push_str(" OR ");
            sql.push_str(number);
            values.push(value);
        }
        sql.push(')');
        self.and(&sql, values);
    }

    fn run(self, transaction: &Transaction<'_>, order: &str) -> Result<Vec<Recording>, WorkError> {
        let sql = format!("SELECT state FROM recordings WHERE {} {order}", self.sql);
        let mut statement = transaction.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(self.values))?;
        let mut journals: HashMap<JournalId, JournalState> = HashMap::new();
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let state: RecordingState =
                parse_state(row.get_ref(0)?.as_str().map_err(WorkError::corrupt)?)?;
            let journal = match journals.entry(state.journal) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(slot) => slot.insert(journal_or_new(transaction, &state)?),
            };
            found.extend(state.view(journal));
        }
        Ok(found)
    }
}

/// A condition that `text` contains `needle`.
fn contains(needle: &str) -> (&'static str, Value) {
    if needle.chars().count() < TRIGRAM || needle.contains('\0') {
        return ("instr(text, ?) > 0", Value::Text(needle.to_owned()));
    }
    // A quoted string is a phrase, whatever is in it: here one run of triples.
    let phrase = format!("\"{}\"", needle.replace('"', "\"\""));
    ("key IN (SELECT rowid FROM recording_text WHERE recording_text MATCH ?)", Value::Text(phrase))
}
