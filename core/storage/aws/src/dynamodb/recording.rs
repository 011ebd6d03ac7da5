//! Events into recordings.
//!
//! A recording is one item that is read, folded and written back, if it is still the one that was
//! read. What a duplicate or an old event finds unchanged is not written. Metadata documents are
//! items of their own: they may be large, and each is written once.
//!
//! # Who asks for a build
//!
//! A build is needed once a call and its journal's stored position say so, and these are two
//! items. Whoever writes one of them looks at the other afterwards, so that one of two that come
//! at once sees both. Where an index lags behind, the next word from the edge (seconds) or the
//! sweep (a minute) finds what was missed.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use futures_util::{StreamExt, TryStreamExt, stream};
use model::event::EventBody;
use model::index::{Document, JournalState, RecordingState};
use model::recording::Status;
use model::{JournalId, Position, RecordingEvent, RecordingId, TenantId, WallTime};
use sha2::{Digest, Sha256};
use storage_ports::StorageError;

use super::DynamoIndex;
use super::item::{COMPLETE, DayItem, DocumentItem, RecordingItem, Told};
use super::purge::is_erased;
use super::table::{Backoff, Condition, Index, Item, Run, from_item, text, to_item};
use super::{journal, key, lookup};
use crate::names::table;

/// Recordings that are looked at side by side.
const AT_ONCE: usize = 8;
/// Days whose shards a process remembers before it begins anew.
const MAX_DAYS: usize = 10_000;

/// Names an event, so that the same one can be recognised when it comes again.
pub fn mark_of(event: &RecordingEvent) -> String {
    key::hex(&Sha256::digest(event.to_json())[..16])
}

/// What a change made of a recording.
pub struct Changed {
    pub item: RecordingItem,
    /// The event that was named has to tell that a build is needed.
    pub tell: bool,
}

impl DynamoIndex {
    pub(super) async fn item(
        &self,
        tenant: &TenantId,
        id: RecordingId,
    ) -> Result<Option<RecordingItem>, StorageError> {
        let item = self.table.get(&key::recording(tenant, id), key::SELF).await?;
        item.map(from_item).transpose()
    }

    pub(super) async fn documents(
        &self,
        tenant: &TenantId,
        id: RecordingId,
    ) -> Result<BTreeMap<Position, Document>, StorageError> {
        let run = Run::prefix(Index::Table, key::recording(tenant, id), "D#");
        let mut documents = BTreeMap::new();
        for item in self.table.query_all(&run).await? {
            let Some(position) = text(&item, table::SK).and_then(key::position_of_document) else {
                continue;
            };
            documents.insert(position, from_item::<DocumentItem>(item)?.document);
        }
        Ok(documents)
    }

    /// What decides about recordings of `journal`; nothing is known of it yet only when the table
    /// was damaged.
    pub(super) async fn journal_of(
        &self,
        state: &RecordingState,
    ) -> Result<JournalState, StorageError> {
        let known = journal::brief(&self.table, state.journal).await?;
        Ok(known.unwrap_or_else(|| JournalState::new(state.journal, state.edge.clone())))
    }

    /// Over how many partitions a day is spread. The first recording of the day decides.
    async fn shards(&self, tenant: &TenantId, at: WallTime) -> Result<u8, StorageError> {
        let day = key::day(at);
        let name = (tenant.clone(), day.clone());
        if let Some(shards) = self.days().get(&name) {
            return Ok(*shards);
        }
        let mut item = DayItem { pk: key::days(tenant), sk: day, shards: self.new_shards };
        if !self.table.put(to_item(&item)?, Some(Condition::absent())).await? {
            let held = self.table.get(&item.pk, &item.sk).await?;
            item = from_item(held.unwrap_or_default())?;
        }
        let mut days = self.days();
        if days.len() >= MAX_DAYS {
            days.clear();
        }
        days.insert(name, item.shards);
        Ok(item.shards)
    }

    /// Changes a recording, and writes it if that changed anything. `None` where `change` finds
    /// nothing to make. With a `mark`, sees to it that a needed build is told of.
    pub(super) async fn change(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        journal: &JournalState,
        mark: Option<&str>,
        mut change: impl FnMut(Option<&RecordingItem>) -> Option<RecordingItem>,
    ) -> Result<Option<Changed>, StorageError> {
        let mut backoff = Backoff::default();
        loop {
            let held = self.item(tenant, id).await?;
            let Some(mut new) = change(held.as_ref()) else { return Ok(None) };
            let tell = mark.is_some_and(|mark| tell(&mut new, journal, mark));
            let shards = match &new.state.started {
                None => 1,
                Some(started) => self.shards(tenant, started.value.at).await?,
            };
            new.place(journal, shards);
            if held.as_ref() == Some(&new) {
                if is_erased(&new.state) {
                    // Whoever was about to write when it was erased may have written beside it.
                    self.erase_rest(&new.state).await?;
                }
                return Ok(Some(Changed { item: new, tell }));
            }
            let held_state = held.as_ref().map(|held| &held.state);
            lookup::write(&self.table, &self.dictionary, held_state, &new.state).await?;
            let unchanged = match &held {
                None => Condition::absent(),
                Some(held) => {
                    new.rev = held.rev + 1;
                    Condition::equals("rev", AttributeValue::N(held.rev.to_string()))
                }
            };
            if self.table.put(to_item(&new)?, Some(unchanged)).await? {
                if is_erased(&new.state) {
                    self.erase_rest(&new.state).await?;
                }
                return Ok(Some(Changed { item: new, tell }));
            }
            backoff.wait("a recording is written too often").await?;
        }
    }

    /// Writes an event about a recording. Returns whether it has to tell that a build is needed.
    pub(super) async fn apply_to_recording(
        &self,
        event: &RecordingEvent,
        heard: &JournalState,
    ) -> Result<bool, StorageError> {
        let (tenant, id) = event.recording().expect("the caller asked");
        let mark = mark_of(event);
        if let EventBody::Metadata { document, .. } = &event.body {
            // Before the recording is read: if it is erased by then, this goes with the rest of it.
            let document = Document { at: event.at, text: document.clone() };
            self.put_document(tenant, id, event.position, document).await?;
        }
        let fold = |held: Option<&RecordingItem>| Some(folded(held, event));
        let changed = self.change(tenant, id, heard, Some(&mark), fold).await?;
        let changed = changed.expect("a fold always makes something");
        let is_decisive = matches!(event.body, EventBody::Started { .. } | EventBody::Ended { .. });
        let state = &changed.item.state;
        if changed.tell || !is_decisive || state.started.is_none() || state.ended.is_none() {
            return Ok(changed.tell);
        }
        // What was stored meanwhile may have looked for this recording before it was here.
        let journal = self.journal_of(state).await?;
        if changed.item.told.is_some() || !state.needs_build(&journal) {
            return Ok(false);
        }
        let same = |held: Option<&RecordingItem>| held.cloned();
        let changed = self.change(tenant, id, &journal, Some(&mark), same).await?;
        Ok(changed.is_some_and(|changed| changed.tell))
    }

    async fn put_document(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        position: Position,
        document: Document,
    ) -> Result<(), StorageError> {
        let (pk, sk) = (key::recording(tenant, id), key::document(position));
        let new = DocumentItem { pk, sk, document };
        if self.table.put(to_item(&new)?, Some(Condition::absent())).await? {
            return Ok(());
        }
        // Here already: it comes again, or another record claims its position.
        let mut backoff = Backoff::default();
        loop {
            let Some(held) = self.table.get(&new.pk, &new.sk).await? else { return Ok(()) };
            let held: DocumentItem = from_item(held)?;
            if held.document >= new.document {
                return Ok(());
            }
            let held = to_item(&held)?.remove("document").expect("every document item has one");
            if self.table.put(to_item(&new)?, Some(Condition::equals("document", held))).await? {
                return Ok(());
            }
            backoff.wait("a document is written too often").await?;
        }
    }

    /// Looks at the recordings that wait for what `event` tells of their journal. Returns those
    /// that need a build by it.
    pub(super) async fn apply_to_journal(
        &self,
        event: &RecordingEvent,
        journal: &JournalState,
    ) -> Result<Vec<(TenantId, RecordingId)>, StorageError> {
        if matches!(event.body, EventBody::CommandDone { .. }) {
            return Ok(Vec::new());
        }
        let mark = mark_of(event);
        let stored = format!("E#{:020}#{}", journal.stored_through.0, char::MAX);
        let mut runs = vec![self.waiting(journal.journal, &format!("T#{mark}#"), None)];
        if journal.is_dead() {
            runs.push(self.waiting(journal.journal, "L#", None));
            runs.push(self.waiting(journal.journal, "E#", None));
            runs.push(self.waiting(journal.journal, "P#", None));
        } else {
            runs.push(self.waiting(journal.journal, "E#", Some(stored)));
            // It is back: what it had left behind goes on.
            runs.push(self.waiting(journal.journal, "P#", None));
        }
        let mut names = Vec::new();
        for run in runs {
            names.extend(self.table.query_all(&run).await?.iter().filter_map(name_of));
        }
        self.look_at(names, journal, &mark).await
    }

    /// Brings recordings up to date with their journal; returns those that `mark` has to tell of.
    async fn look_at(
        &self,
        names: Vec<(TenantId, RecordingId)>,
        journal: &JournalState,
        mark: &str,
    ) -> Result<Vec<(TenantId, RecordingId)>, StorageError> {
        let told = stream::iter(names)
            .map(async |(tenant, id)| {
                let same = |held: Option<&RecordingItem>| held.cloned();
                let changed = self.change(&tenant, id, journal, Some(mark), same).await?;
                let tell = changed.is_some_and(|changed| changed.tell);
                Ok::<_, StorageError>(tell.then_some((tenant, id)))
            })
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(told.into_iter().flatten().collect())
    }

    fn waiting(&self, journal: JournalId, kind: &str, to: Option<String>) -> Run {
        let run = Run::prefix(Index::Lookup, key::journal(journal), kind);
        match to {
            None => run,
            Some(to) => Run { to, ..run },
        }
    }

    /// Recordings of `journal` that need a build now, whoever was told.
    pub(super) async fn to_build(
        &self,
        journal: &JournalState,
    ) -> Result<Vec<(TenantId, RecordingId)>, StorageError> {
        let run = Run::whole(Index::Lookup, key::journal(journal.journal));
        let waiting = self.table.query_all(&run).await?;
        let stored = format!("E#{:020}#{}", journal.stored_through.0, char::MAX);
        let keys = waiting.iter().filter_map(|item| {
            let waits_for = text(item, table::LOOKUP_SK)?;
            let may_need = journal.is_dead() || waits_for.starts_with("T#") || {
                waits_for.starts_with("E#") && waits_for <= stored.as_str()
            };
            may_need.then(|| text(item, table::PK).map(str::to_owned)).flatten()
        });
        let keys = keys.map(|pk| (pk, key::SELF.to_owned())).collect();
        let mut needed = Vec::new();
        for item in self.table.get_many(keys).await? {
            let RecordingItem { state, .. } = from_item(item)?;
            if state.needs_build(journal) {
                needed.push((state.tenant, state.id));
            }
        }
        Ok(needed)
    }
}

/// What `event` makes of a recording. Its documents are elsewhere.
fn folded(held: Option<&RecordingItem>, event: &RecordingEvent) -> RecordingItem {
    let state = RecordingState::fold(held.map(|held| held.state.clone()), event);
    let mut state = state.expect("the event is about a recording");
    state.documents.clear();
    match held {
        Some(held) => RecordingItem { state, ..held.clone() },
        None => RecordingItem {
            pk: key::recording(&state.tenant, state.id),
            sk: key::SELF.to_owned(),
            rev: 0,
            told: None,
            holds: Vec::new(),
            state,
            places: Default::default(),
        },
    }
}

/// Decides whether the event called `mark` tells of the build that a recording needs, and
/// remembers that it did. A need that was told of is told again by the same event only.
fn tell(item: &mut RecordingItem, journal: &JournalState, mark: &str) -> bool {
    // An event of another journal about this recording would be a damaged edge's.
    if item.state.journal != journal.journal || !item.state.needs_build(journal) {
        return false;
    }
    let cause = match item.state.status(journal) {
        Status::Finalizing => COMPLETE.to_owned(),
        _ => journal::death(journal),
    };
    match &item.told {
        Some(told) if told.cause == cause => told.by == mark,
        _ => {
            item.told = Some(Told { cause, by: mark.to_owned() });
            true
        }
    }
}

/// The recording that an entry of an index belongs to.
pub fn name_of(item: &Item) -> Option<(TenantId, RecordingId)> {
    let (tenant, id) = text(item, table::PK)?.strip_prefix("C#")?.rsplit_once('#')?;
    Some((TenantId::new(tenant).ok()?, id.parse().ok()?))
}

/// The error for what is not there.
pub fn not_found(id: RecordingId) -> StorageError {
    StorageError::NotFound { what: format!("recording {id}") }
}
