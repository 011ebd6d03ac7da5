//! What is known of a journal, kept without reading before writing.
//!
//! Every event of an edge changes its journal's item, and many readers of the queue apply them at
//! once. All that a journal's fold keeps only rises, so one conditional write says it: set these
//! attributes if they are not above that already. Events mostly come in order, and then it is one
//! write. When the condition fails, what rises nevertheless is found from the item that the failed
//! write returns, and written alone. What no longer rises is old, which is success.
//!
//! The calls in progress at the newest beat may be thousands; they are an item of their own, so
//! that the other events do not pay for them. Outcomes of commands are items too.

use std::collections::HashMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use model::event::EventBody;
use model::{EdgeId, JournalId, JournalState, Position, RecordingEvent, RecordingId, WallTime};
use storage_ports::StorageError;

use super::item::CommandItem;
use super::key;
use super::table::{
    Backoff, Condition, Index, Item, Run, Table, WHAT, from_item, key_of, text, to_item,
};
use crate::clock::now_ms;
use crate::error::storage_error;
use crate::names::table;

/// Attributes of a journal's item. `newest`, `beat` and `dead_man` are an epoch and a number in
/// 20 digits each, so that texts compare as pairs do.
const NEWEST: &str = "newest";
const EDGE: &str = "edge";
const SEEN: &str = "seen";
/// By the index's own clock.
const HEARD: &str = "heard";
const STORED: &str = "stored";
const BEAT: &str = "beat";
const DEAD_MAN: &str = "dead_man";
const CALLS: &str = "calls";

/// The outcome of a command is of use while somebody waits for it or looks into what happened.
const COMMANDS_KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// Something that only rises: the attribute that says so, and those that are set with it.
struct Rise {
    guard: &'static str,
    value: AttributeValue,
    with: Vec<(&'static str, AttributeValue)>,
}

impl Rise {
    fn text(guard: &'static str, value: String) -> Self {
        Self { guard, value: AttributeValue::S(value), with: Vec::new() }
    }

    fn number(guard: &'static str, value: u64) -> Self {
        Self { guard, value: AttributeValue::N(value.to_string()), with: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: AttributeValue) -> Self {
        self.with.push((name, value));
        self
    }

    /// Whether it would change `held`.
    fn is_above(&self, held: &Item) -> bool {
        match (held.get(self.guard), &self.value) {
            (Some(AttributeValue::S(held)), AttributeValue::S(new)) => held < new,
            (Some(AttributeValue::N(held)), AttributeValue::N(new)) => {
                held.parse::<u64>().ok() < new.parse::<u64>().ok()
            }
            _ => true,
        }
    }
}

/// A journal's item, and when it was last heard of by the index's clock.
pub struct Heard {
    pub journal: JournalState,
    pub heard_ms: i64,
}

/// Folds what `event` says of its journal into the table. Returns what is known then, but the
/// calls in progress and the commands.
pub async fn hear(table: &Table, event: &RecordingEvent) -> Result<JournalState, StorageError> {
    let at = u64::try_from(event.at.unix_ms()).unwrap_or_default();
    let now = AttributeValue::N(now_ms().to_string());
    let mut rises = vec![
        Rise::text(NEWEST, pair(event.epoch, event.position.0))
            .with(EDGE, AttributeValue::S(event.edge.to_string())),
        Rise::number(SEEN, at),
    ];
    match &event.body {
        EventBody::Stored { through } => rises.push(Rise::number(STORED, through.0)),
        EventBody::Beat { seq, stored_through, live, dead_man } => {
            let beat = pair(event.epoch, *seq);
            put_calls(table, event.journal, &beat, live).await?;
            rises.push(Rise::number(STORED, stored_through.0));
            rises.push(Rise::text(BEAT, beat.clone()));
            if *dead_man {
                rises.push(Rise::text(DEAD_MAN, beat));
            }
        }
        EventBody::CommandDone { command, ok, detail } => {
            put_command(table, event.journal, &command.to_string(), *ok, detail).await?;
        }
        EventBody::Started { .. }
        | EventBody::Metadata { .. }
        | EventBody::Mark { .. }
        | EventBody::Heard { .. }
        | EventBody::Ended { .. } => {}
    }
    if !matches!(event.body, EventBody::Beat { dead_man: true, .. }) {
        // A message that was sent 25 s ago is no sign of life.
        rises[0].with.push((HEARD, now));
    }
    let item = raise(table, event.journal, rises).await?;
    parse(event.journal, &item)
}

/// Takes the edge for dead; its next beat makes that undone.
pub async fn declare_dead(
    table: &Table,
    held: &JournalState,
) -> Result<JournalState, StorageError> {
    let (epoch, beat) = held.newest_beat.unwrap_or_default();
    let item = raise(table, held.journal, vec![Rise::text(DEAD_MAN, pair(epoch, beat))]).await?;
    parse(held.journal, &item)
}

/// Sets what rises, and returns the item as it is then.
async fn raise(
    table: &Table,
    journal: JournalId,
    mut rises: Vec<Rise>,
) -> Result<Item, StorageError> {
    let pk = key::journal(journal);
    let mut backoff = Backoff::default();
    loop {
        match set(table, &pk, journal, &rises).await? {
            Ok(item) => return Ok(item),
            Err(held) => {
                rises.retain(|rise| rise.is_above(&held));
                if rises.is_empty() {
                    return Ok(held);
                }
                backoff.wait("the journal's item is written too often").await?;
            }
        }
    }
}

/// One conditional write. `Err` holds the item that did not meet the condition.
async fn set(
    table: &Table,
    pk: &str,
    journal: JournalId,
    rises: &[Rise],
) -> Result<Result<Item, Item>, StorageError> {
    let mut names = HashMap::new();
    let mut values = HashMap::new();
    let mut conditions = Vec::new();
    let mut sets = Vec::new();
    let mut set = |name: &str, value: AttributeValue| {
        let number = sets.len();
        names.insert(format!("#{number}"), name.to_owned());
        values.insert(format!(":{number}"), value);
        sets.push(format!("#{number} = :{number}"));
        number
    };
    for rise in rises {
        let number = set(rise.guard, rise.value.clone());
        conditions.push(format!("(attribute_not_exists(#{number}) OR #{number} <= :{number})"));
        for (name, value) in &rise.with {
            set(name, value.clone());
        }
    }
    set(table::WORK_PK, AttributeValue::S(key::JOURNALS.to_owned()));
    set(table::WORK_SK, AttributeValue::S(journal.0.simple().to_string()));
    let answer = table
        .client
        .update_item()
        .table_name(&*table.name)
        .set_key(Some(key_of(pk, key::SELF)))
        .update_expression(format!("SET {}", sets.join(", ")))
        .condition_expression(conditions.join(" AND "))
        .set_expression_attribute_names(Some(names))
        .set_expression_attribute_values(Some(values))
        .return_values(ReturnValue::AllNew)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await;
    match answer {
        Ok(answer) => {
            table.wrote(&answer.consumed_capacity);
            Ok(Ok(answer.attributes.unwrap_or_default()))
        }
        Err(SdkError::ServiceError(refused)) if is_unmet(refused.err()) => {
            let returned = match refused.into_err() {
                UpdateItemError::ConditionalCheckFailedException(unmet) => unmet.item,
                _ => None,
            };
            Ok(Err(match returned {
                Some(item) => item,
                // Some emulators return none.
                None => table.get(pk, key::SELF).await?.unwrap_or_default(),
            }))
        }
        Err(error) => Err(storage_error(WHAT, error)),
    }
}

fn is_unmet(error: &UpdateItemError) -> bool {
    matches!(error, UpdateItemError::ConditionalCheckFailedException(_))
}

/// The newest beat decides which calls are in progress; of two that claim to be it, the greater.
async fn put_calls(
    table: &Table,
    journal: JournalId,
    beat: &str,
    live: &[RecordingId],
) -> Result<(), StorageError> {
    let calls: Vec<u8> = live.iter().flat_map(|id| *id.0.as_bytes()).collect();
    let mut item = key_of(&key::journal(journal), key::LIVE);
    item.insert(BEAT.to_owned(), AttributeValue::S(beat.to_owned()));
    item.insert(CALLS.to_owned(), AttributeValue::B(Blob::new(calls.clone())));
    let condition = Condition {
        expression: "attribute_not_exists(#b) OR #b < :b OR (#b = :b AND #c < :c)".to_owned(),
        names: HashMap::from([
            ("#b".to_owned(), BEAT.to_owned()),
            ("#c".to_owned(), CALLS.to_owned()),
        ]),
        values: HashMap::from([
            (":b".to_owned(), AttributeValue::S(beat.to_owned())),
            (":c".to_owned(), AttributeValue::B(Blob::new(calls))),
        ]),
    };
    table.put(item, Some(condition)).await?;
    Ok(())
}

/// The first outcome told is kept; of two different ones, which a command cannot have, the greater.
async fn put_command(
    table: &Table,
    journal: JournalId,
    command: &str,
    ok: bool,
    detail: &str,
) -> Result<(), StorageError> {
    let pk = key::journal(journal);
    let sk = format!("CMD#{command}");
    let expires = (now_ms() + COMMANDS_KEPT_MS) / 1_000;
    let new = CommandItem { pk, sk, ok, detail: detail.to_owned(), expires };
    if table.put(to_item(&new)?, Some(Condition::absent())).await? {
        return Ok(());
    }
    let mut backoff = Backoff::default();
    loop {
        let Some(held) = table.get(&new.pk, &new.sk).await? else { return Ok(()) };
        let held: CommandItem = from_item(held)?;
        if (held.ok, &held.detail) >= (new.ok, &new.detail) {
            return Ok(());
        }
        let unchanged = Condition::equals("detail", AttributeValue::S(held.detail));
        if table.put(to_item(&new)?, Some(unchanged)).await? {
            return Ok(());
        }
        backoff.wait("a command's item is written too often").await?;
    }
}

/// What decides about the recordings of a journal; without calls and commands.
pub async fn brief(
    table: &Table,
    journal: JournalId,
) -> Result<Option<JournalState>, StorageError> {
    let item = table.get(&key::journal(journal), key::SELF).await?;
    item.map(|item| parse(journal, &item)).transpose()
}

/// As [`brief`], of several.
pub async fn briefs(
    table: &Table,
    journals: impl IntoIterator<Item = JournalId>,
) -> Result<HashMap<JournalId, Heard>, StorageError> {
    let keys =
        journals.into_iter().map(|journal| (key::journal(journal), key::SELF.to_owned())).collect();
    let mut found = HashMap::new();
    for item in table.get_many(keys).await? {
        let journal = journal_of(&item)?;
        let heard_ms = number(&item, HEARD).and_then(|ms| i64::try_from(ms).ok());
        let heard = Heard { journal: parse(journal, &item)?, heard_ms: heard_ms.unwrap_or(0) };
        found.insert(journal, heard);
    }
    Ok(found)
}

/// All that is known of a journal.
pub async fn whole(
    table: &Table,
    journal: JournalId,
) -> Result<Option<JournalState>, StorageError> {
    let items = table.query_all(&Run::whole(Index::Table, key::journal(journal))).await?;
    let mut state = None;
    let mut live = Vec::new();
    let mut commands = Vec::new();
    for item in items {
        match text(&item, table::SK) {
            Some(key::SELF) => state = Some(parse(journal, &item)?),
            Some(key::LIVE) => live = calls(&item),
            Some(sk) => {
                let command = sk.strip_prefix("CMD#").and_then(|command| command.parse().ok());
                if let Some(command) = command {
                    let item: CommandItem = from_item(item)?;
                    commands.push((command, (item.ok, item.detail)));
                }
            }
            None => {}
        }
    }
    Ok(state.map(|mut state| {
        state.live = live;
        state.commands.extend(commands);
        state
    }))
}

/// Every journal that was ever heard of, in order of id.
pub async fn all(table: &Table) -> Result<Vec<JournalId>, StorageError> {
    let run = Run::whole(Index::Work, key::JOURNALS.to_owned());
    table.query_all(&run).await?.iter().map(journal_of).collect()
}

fn journal_of(item: &Item) -> Result<JournalId, StorageError> {
    text(item, table::PK)
        .and_then(|pk| pk.strip_prefix("J#")?.parse().ok())
        .ok_or_else(|| StorageError::refused(WHAT, "a journal's item has another key"))
}

fn calls(item: &Item) -> Vec<RecordingId> {
    let bytes = item.get(CALLS).and_then(|calls| calls.as_b().ok());
    let ids = bytes.map(|bytes| bytes.as_ref().chunks_exact(16)).into_iter().flatten();
    ids.filter_map(|id| Some(RecordingId(uuid::Uuid::from_slice(id).ok()?))).collect()
}

fn parse(journal: JournalId, item: &Item) -> Result<JournalState, StorageError> {
    let damaged = || StorageError::refused(WHAT, format!("journal {journal} cannot be read"));
    let edge = text(item, EDGE).ok_or_else(damaged)?;
    let edge = EdgeId::new(edge).map_err(|cause| StorageError::refused(WHAT, cause))?;
    let pair = |name| match text(item, name) {
        None => Ok(None),
        Some(text) => parse_pair(text).map(Some).ok_or_else(damaged),
    };
    let mut state = JournalState::new(journal, edge);
    let (epoch, position) = pair(NEWEST)?.unwrap_or_default();
    state.newest = (epoch, Position(position));
    state.newest_beat = pair(BEAT)?;
    state.newest_dead_man = pair(DEAD_MAN)?;
    state.stored_through = Position(number(item, STORED).unwrap_or_default());
    let seen = number(item, SEEN).and_then(|ms| i64::try_from(ms).ok()).unwrap_or_default();
    state.last_seen = WallTime::from_unix_ms(seen);
    Ok(state)
}

fn number(item: &Item, name: &str) -> Option<u64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn pair(epoch: u64, number: u64) -> String {
    format!("{epoch:020}#{number:020}")
}

fn parse_pair(text: &str) -> Option<(u64, u64)> {
    let (epoch, number) = text.split_once('#')?;
    Some((epoch.parse().ok()?, number.parse().ok()?))
}

/// Names the newest dead-man's message: another death of the same edge has another name.
pub fn death(journal: &JournalState) -> String {
    let (epoch, number) = journal.newest_dead_man.unwrap_or_default();
    pair(epoch, number)
}

#[test]
fn pairs_compare_as_texts_do() {
    let pairs = [(0, 0), (0, u64::MAX), (1, 0), (9, 5), (10, 0), (u64::MAX, 1)];
    let texts: Vec<String> = pairs.iter().map(|(epoch, number)| pair(*epoch, *number)).collect();
    assert!(texts.is_sorted());
    for (pair, text) in pairs.iter().zip(&texts) {
        assert_eq!(parse_pair(text).as_ref(), Some(pair));
    }
}
