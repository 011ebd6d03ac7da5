//! Questions to the table.
//!
//! Whatever is asked, candidates come newest first from one or several runs of an index, are
//! compared with the whole question, and fill the page:
//!
//! | question | candidates |
//! | --- | --- |
//! | no text | the days that have recordings, backwards, their shards merged |
//! | `status=recording` | the calls in progress |
//! | a scope | the calls of each of its addresses, merged |
//! | a user | that user's calls |
//! | an id, whole | the calls with that id |
//! | a number: 5 first or 4 last digits and more | the calls with such numbers |
//! | a word, or 3 letters and more of one | the calls with each such word, merged |
//! | anything else | the days, as without a text |
//!
//! All of them read about as many items as the page has rows, however many recordings there are.
//! Only where the rows are not what was asked for is more examined: a page ends after
//! [`MAX_EXAMINED`] of them, short, and its cursor goes on from there.

use std::collections::{BTreeSet, HashMap, VecDeque};

use model::attribution::{Assignment, Term};
use model::index::{JournalState, RecordingState};
use model::recording::{Recording, Status};
use model::search::{Cursor, MAX_LIMIT, Page, SearchQuery};
use model::search_text::{Wanted, digits_of};
use model::{JournalId, RecordingId, TenantId, WallTime};
use storage_ports::StorageError;

use super::DynamoIndex;
use super::item::{DayItem, RecordingItem, ShownItem};
use super::journal;
use super::key::{self, Lookup};
use super::lookup;
use super::recording::name_of;
use super::table::{Index, Item, Run, from_item, text};
use crate::names::table;

/// The most candidates that one page is made of.
const MAX_EXAMINED: usize = 5_000;
/// The most words, or numbers, that a part of one may stand for. Where more do, the part is in
/// so many calls that the days lead to them sooner.
const MAX_MEANT: usize = 200;
/// Candidates of one request, where most of them may not be what was asked for.
const CHUNK: usize = 200;
/// Days whose keys are read at once.
const DAYS: usize = 31;

/// Where a question begins and ends in time: entries of an index, both included.
#[derive(Clone, Debug)]
pub struct Span {
    from: String,
    to: String,
    /// The cursor's own row is not shown again.
    after: Option<String>,
}

impl Span {
    fn of(query: &SearchQuery) -> Self {
        let from = query.from.map_or("0".to_owned(), key::start);
        let before = query.to.map(|to| WallTime::from_unix_ms(to.unix_ms().saturating_sub(1)));
        let before = before.map_or("~".to_owned(), |last| format!("{}#~", key::start(last)));
        let after = query.after.map(|cursor| key::entry(cursor.started_at, cursor.id));
        let to = after.clone().map_or(before.clone(), |after| after.min(before));
        Self { from, to, after }
    }

    /// What of the question's time an address was owned.
    fn owned(query: &SearchQuery, term: Term) -> Option<Self> {
        let term = term.and(Term { from: query.from, until: query.to })?;
        let after = query.after;
        let query =
            SearchQuery { from: term.from, to: term.until, after, ..SearchQuery::default() };
        Some(Self::of(&query)).filter(|span| !span.is_empty())
    }

    /// From the first recording to the last one that started before `time`.
    pub fn before(time: WallTime) -> Self {
        let last = WallTime::from_unix_ms(time.unix_ms().saturating_sub(1));
        Self { from: "0".to_owned(), to: format!("{}#~", key::start(last)), after: None }
    }

    /// Whether nothing can lie in it.
    fn is_empty(&self) -> bool {
        self.from > self.to
    }

    pub fn run(&self, index: Index, pk: String, prefix: &str) -> Run {
        let (from, to) = (format!("{prefix}{}", self.from), format!("{prefix}{}", self.to));
        Run { index, pk, from, to, descending: true }
    }
}

/// A recording that may be what was asked for.
pub struct Candidate {
    entry: String,
    /// Where the index has it already.
    pub state: Option<Box<RecordingState>>,
    name: (TenantId, RecordingId),
}

impl Candidate {
    fn of(item: Item, index: Index) -> Result<Option<Self>, StorageError> {
        let Some(name) = name_of(&item) else { return Ok(None) };
        // Before the entry there may be a number.
        let sort_key = text(&item, index.sort_key()).unwrap_or_default();
        let entry =
            sort_key.rmatch_indices('#').nth(1).map_or(sort_key, |(at, _)| &sort_key[at + 1..]);
        let entry = entry.to_owned();
        let state = if item.contains_key(table::STATE) {
            Some(Box::new(from_item::<ShownItem>(item)?.state))
        } else {
            None
        };
        Ok(Some(Self { entry, state, name }))
    }
}

/// One run, read bit by bit.
struct Source {
    run: Run,
    read: VecDeque<Candidate>,
    next: Option<Item>,
    is_done: bool,
}

impl Source {
    fn new(run: Run) -> Self {
        Self { run, read: VecDeque::new(), next: None, is_done: false }
    }
}

/// Several runs as one, in the order that all of them have.
pub struct Merged {
    sources: Vec<Source>,
    /// Items of one request.
    chunk: usize,
    descending: bool,
}

impl Merged {
    pub fn of(runs: Vec<Run>, chunk: usize) -> Self {
        let descending = runs.iter().all(|run| run.descending);
        Self { sources: runs.into_iter().map(Source::new).collect(), chunk, descending }
    }

    pub async fn next(&mut self, index: &DynamoIndex) -> Result<Option<Candidate>, StorageError> {
        for source in &mut self.sources {
            while source.read.is_empty() && !source.is_done {
                let after = source.next.take();
                let page = index.table.query(&source.run, Some(self.chunk), after).await?;
                source.is_done = page.next.is_none();
                source.next = page.next;
                for item in page.items {
                    source.read.extend(Candidate::of(item, source.run.index)?);
                }
            }
        }
        let descending = self.descending;
        let first =
            self.sources.iter_mut().filter(|source| !source.read.is_empty()).min_by(|a, b| match a
                .read[0]
                .entry
                .cmp(&b.read[0].entry)
            {
                order if descending => order.reverse(),
                order => order,
            });
        Ok(first.and_then(|source| source.read.pop_front()))
    }
}

/// Where candidates come from.
enum Candidates {
    /// Days, newest first, and the shards of the day at hand.
    Days {
        days: VecDeque<DayItem>,
        more: Option<Run>,
        shards: Merged,
    },
    Merged(Merged),
}

impl DynamoIndex {
    pub(super) async fn search_page(
        &self,
        tenant: &TenantId,
        query: &SearchQuery,
    ) -> Result<Page<Recording>, StorageError> {
        let limit = query.limit.clamp(1, MAX_LIMIT);
        let wanted = Wanted::by(query);
        let span = Span::of(query);
        if span.is_empty() || query.group.is_some() {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let mut candidates = self.candidates(tenant, query, &wanted, &span, limit).await?;
        let mut page = PageInWork::new(query, &wanted, limit);
        let mut examined = 0;
        let mut last: Option<String> = None;
        loop {
            let mut batch = Vec::new();
            while batch.len() < page.missing() && examined < MAX_EXAMINED {
                let Some(candidate) = self.next(&mut candidates, tenant, &span).await? else {
                    break;
                };
                examined += 1;
                let is_repeated = last.as_ref() == Some(&candidate.entry)
                    || span.after.as_ref() == Some(&candidate.entry);
                last = Some(candidate.entry.clone());
                if !is_repeated {
                    batch.push(candidate);
                }
            }
            let is_end = batch.is_empty();
            page.add(self, batch).await?;
            if page.missing() == 0 {
                return Ok(page.full());
            }
            if examined >= MAX_EXAMINED {
                let next = last.as_deref().and_then(cursor);
                return Ok(Page { items: page.items, next });
            }
            if is_end {
                return Ok(Page { items: page.items, next: None });
            }
        }
    }

    async fn candidates(
        &self,
        tenant: &TenantId,
        query: &SearchQuery,
        wanted: &Wanted,
        span: &Span,
        limit: usize,
    ) -> Result<Candidates, StorageError> {
        let merged = |runs: Vec<Run>, chunk: usize| Candidates::Merged(Merged::of(runs, chunk));
        let has_text = !wanted.words.is_empty() || wanted.party.is_some();
        let is_picky = has_text
            || query.min_seconds.is_some()
            || query.status.is_some_and(|status| status != Status::Stored);
        // One more row tells whether there is a next page.
        let chunk = if is_picky { (limit + 1).max(CHUNK) } else { limit + 1 };
        if let Some(scope) = &query.scope {
            let runs = runs_of_scope(tenant, query, scope);
            // Most of what is read is shown, unless something else was asked for, too.
            let share = (limit + 1).div_ceil(runs.len().max(1)).max(10).min(limit + 1);
            return Ok(merged(runs, if is_picky { CHUNK } else { share }));
        }
        if let Some(user) = &wanted.user {
            let pk = Lookup::User.partition(tenant, user);
            return Ok(merged(vec![span.run(Index::Lookup, pk, "")], limit + 1));
        }
        if let Some(runs) = self.runs_of_text(tenant, wanted, span).await? {
            let chunk = (limit + 1).div_ceil(runs.len().max(1)).max(10).min(limit + 1);
            return Ok(merged(runs, chunk));
        }
        if query.status == Some(Status::Recording) {
            return Ok(merged(vec![span.run(Index::Work, key::live(tenant), "")], chunk));
        }
        let days = day_run(tenant, span);
        Ok(Candidates::Days {
            days: VecDeque::new(),
            more: Some(days),
            shards: Merged::of(Vec::new(), chunk),
        })
    }

    /// Runs that hold every recording with the text that is asked for; `None` when no index leads
    /// to it.
    async fn runs_of_text(
        &self,
        tenant: &TenantId,
        wanted: &Wanted,
        span: &Span,
    ) -> Result<Option<Vec<Run>>, StorageError> {
        let mut texts: Vec<&str> = wanted.words.iter().map(String::as_str).collect();
        if let Some((party, _)) = &wanted.party {
            texts.extend(party.split_whitespace());
        }
        let numbers: BTreeSet<&String> = wanted
            .number
            .iter()
            .chain(wanted.party.iter().filter_map(|(_, digits)| digits.as_ref()))
            .collect();
        // One word that is found is enough: the others are compared.
        texts.sort_by_key(|text| (digits_of(text).is_some(), usize::MAX - text.chars().count()));
        let mut found = None;
        for text in &texts {
            found = self.runs_of_word(tenant, text, span).await?;
            if found.is_some() {
                break;
            }
        }
        let mut runs: Vec<Run> = found.into_iter().flatten().collect();
        for digits in numbers {
            runs.extend(self.runs_of_number(tenant, digits, span).await?.into_iter().flatten());
        }
        let mut seen = BTreeSet::new();
        runs.retain(|run| seen.insert((run.pk.clone(), run.from.clone())));
        Ok((!runs.is_empty()).then_some(runs))
    }

    async fn runs_of_word(
        &self,
        tenant: &TenantId,
        word: &str,
        span: &Span,
    ) -> Result<Option<Vec<Run>>, StorageError> {
        let by = |lookup: Lookup, text: &str| {
            span.run(Index::Lookup, lookup.partition(tenant, text), "")
        };
        let mut runs = Vec::new();
        let name = lookup::before_host(word);
        if let Some(pk) = key::words(tenant, name) {
            let run = Run::prefix(Index::Table, pk, key::cut(name));
            let found = self.table.query(&run, Some(MAX_MEANT + 1), None).await?;
            if found.items.len() > MAX_MEANT {
                return Ok(None);
            }
            let meant: BTreeSet<&str> = found
                .items
                .iter()
                .filter_map(|item| Some(text(item, table::SK)?.split_once(key::BETWEEN)?.1))
                .collect();
            runs.extend(meant.into_iter().map(|word| by(Lookup::Word, word)));
        }
        if let Some(digits) = digits_of(name) {
            runs.extend(self.runs_of_number(tenant, &digits, span).await?.into_iter().flatten());
        }
        let id = by(Lookup::Id, word);
        if !self.table.query(&id, Some(1), None).await?.items.is_empty() {
            runs.push(id);
        }
        Ok((!runs.is_empty()).then_some(runs))
    }

    /// Runs of the numbers that begin or end with `digits`; `None` when there are none, or so many
    /// that the days lead to them sooner.
    async fn runs_of_number(
        &self,
        tenant: &TenantId,
        digits: &str,
        span: &Span,
    ) -> Result<Option<Vec<Run>>, StorageError> {
        let mut runs = Vec::new();
        let reversed = key::reversed(digits);
        for (index, pk, digits) in [
            (Index::Lookup, key::number_prefix(tenant, digits), digits),
            (Index::List, key::number_suffix(tenant, digits), reversed.as_str()),
        ] {
            let Some(pk) = pk else { continue };
            match self.numbers(index, &pk, digits).await? {
                None => return Ok(None),
                Some(numbers) => runs.extend(
                    numbers
                        .into_iter()
                        .map(|number| span.run(index, pk.clone(), &format!("{number}#"))),
                ),
            }
        }
        Ok((!runs.is_empty()).then_some(runs))
    }

    /// The numbers of a partition that begin with `digits`: one request for each, because the
    /// calls of one number lie before the next number.
    async fn numbers(
        &self,
        index: Index,
        pk: &str,
        digits: &str,
    ) -> Result<Option<Vec<String>>, StorageError> {
        let mut numbers = Vec::new();
        let mut run = Run::prefix(index, pk.to_owned(), digits);
        loop {
            let first = self.table.query(&run, Some(1), None).await?;
            let number = first
                .items
                .first()
                .and_then(|item| Some(text(item, index.sort_key())?.split_once('#')?.0.to_owned()));
            let Some(number) = number else { return Ok(Some(numbers)) };
            if numbers.len() >= MAX_MEANT {
                return Ok(None);
            }
            // `$` comes after `#`, and no digit is between them.
            run.from = format!("{number}$");
            numbers.push(number);
        }
    }

    async fn next(
        &self,
        candidates: &mut Candidates,
        tenant: &TenantId,
        span: &Span,
    ) -> Result<Option<Candidate>, StorageError> {
        let (days, more, shards) = match candidates {
            Candidates::Merged(merged) => return merged.next(self).await,
            Candidates::Days { days, more, shards } => (days, more, shards),
        };
        loop {
            if let Some(candidate) = shards.next(self).await? {
                return Ok(Some(candidate));
            }
            if days.is_empty()
                && let Some(run) = more.take()
            {
                let page = self.table.query(&run, Some(DAYS), None).await?;
                for item in page.items {
                    days.push_back(from_item(item)?);
                }
                if page.next.is_some()
                    && let Some(last) = days.back()
                {
                    *more = Some(Run { to: before(&last.sk), ..run });
                }
            }
            let Some(day) = days.pop_front() else { return Ok(None) };
            shards.sources = (0..day.shards.max(1))
                .map(|shard| {
                    let pk = key::list(tenant, &day.sk, shard);
                    Source::new(span.run(Index::List, pk, ""))
                })
                .collect();
        }
    }

    /// Calls in progress, oldest first.
    pub(super) async fn calls_in_progress(
        &self,
        tenant: &TenantId,
    ) -> Result<Vec<Recording>, StorageError> {
        let run = Run::whole(Index::Work, key::live(tenant));
        let mut states = Vec::new();
        for item in self.table.query_all(&run).await? {
            states.push(from_item::<ShownItem>(item)?.state);
        }
        let mut journals = Journals::default();
        journals.know(self, &states).await?;
        let views = states.iter().filter_map(|state| state.view(&journals.of(state)));
        Ok(views.filter(|view| view.status == Status::Recording).collect())
    }
}

/// One run for each address that was somebody's: its calls while it was.
fn runs_of_scope(tenant: &TenantId, query: &SearchQuery, scope: &[Assignment]) -> Vec<Run> {
    let runs = scope.iter().filter_map(|Assignment { address, term }| {
        let span = Span::owned(query, *term)?;
        Some(match address.digits() {
            Some(digits) => {
                let pk = key::number_prefix(tenant, digits)?;
                span.run(Index::Lookup, pk, &format!("{digits}#"))
            }
            None => {
                let pk = Lookup::User.partition(tenant, address.as_str());
                span.run(Index::Lookup, pk, "")
            }
        })
    });
    let mut seen = BTreeSet::new();
    runs.filter(|run| seen.insert((run.pk.clone(), run.from.clone(), run.to.clone()))).collect()
}

fn day_run(tenant: &TenantId, span: &Span) -> Run {
    let day = |entry: &str, otherwise: &str| {
        let at = entry.get(..15).and_then(key::parse_start);
        at.map_or(otherwise.to_owned(), key::day)
    };
    Run {
        index: Index::Table,
        pk: key::days(tenant),
        from: day(&span.from, "0"),
        to: day(&span.to, "~"),
        descending: true,
    }
}

/// The last key before `day`: days are digits and dashes.
fn before(day: &str) -> String {
    let mut key = day.to_owned();
    let last = key.pop().unwrap_or('0');
    let before = char::from_u32(u32::from(last) - 1).unwrap_or('/');
    format!("{key}{before}~")
}

fn cursor(entry: &str) -> Option<Cursor> {
    let (started_at, id) = key::parse_entry(entry)?;
    Some(Cursor { started_at, id })
}

/// What decides about the status of the recordings at hand.
#[derive(Default)]
pub struct Journals(HashMap<JournalId, JournalState>);

impl Journals {
    pub async fn know(
        &mut self,
        index: &DynamoIndex,
        states: &[RecordingState],
    ) -> Result<(), StorageError> {
        let unknown: BTreeSet<JournalId> = states
            .iter()
            .map(|state| state.journal)
            .filter(|journal| !self.0.contains_key(journal))
            .collect();
        let found = journal::briefs(&index.table, unknown).await?;
        self.0.extend(found.into_iter().map(|(id, heard)| (id, heard.journal)));
        Ok(())
    }

    pub fn of(&self, state: &RecordingState) -> JournalState {
        let known = self.0.get(&state.journal).cloned();
        known.unwrap_or_else(|| JournalState::new(state.journal, state.edge.clone()))
    }
}

/// The rows found so far.
struct PageInWork<'a> {
    query: &'a SearchQuery,
    wanted: &'a Wanted,
    limit: usize,
    items: Vec<Recording>,
    journals: Journals,
}

impl<'a> PageInWork<'a> {
    fn new(query: &'a SearchQuery, wanted: &'a Wanted, limit: usize) -> Self {
        let journals = Journals::default();
        Self { query, wanted, limit, items: Vec::new(), journals }
    }

    /// Rows until it is full, and one more, which tells that another page follows.
    fn missing(&self) -> usize {
        self.limit + 1 - self.items.len()
    }

    /// Adds those of `batch` that are what was asked for; all in order, at most as many as are
    /// missing.
    async fn add(
        &mut self,
        index: &DynamoIndex,
        batch: Vec<Candidate>,
    ) -> Result<(), StorageError> {
        let unread: Vec<_> = batch
            .iter()
            .filter(|candidate| candidate.state.is_none())
            .map(|candidate| {
                let (tenant, id) = &candidate.name;
                (key::recording(tenant, *id), key::SELF.to_owned())
            })
            .collect();
        let mut read: HashMap<RecordingId, RecordingState> = HashMap::new();
        for item in index.table.get_many(unread).await? {
            let state = from_item::<RecordingItem>(item)?.state;
            read.insert(state.id, state);
        }
        let states: Vec<RecordingState> = batch
            .into_iter()
            .filter_map(|candidate| match candidate.state {
                Some(state) => Some(*state),
                None => read.remove(&candidate.name.1),
            })
            .collect();
        self.journals.know(index, &states).await?;
        for state in &states {
            let Some(view) = state.view(&self.journals.of(state)) else { continue };
            if self.wanted.matches(self.query, state, &view) {
                self.items.push(view);
            }
        }
        Ok(())
    }

    fn full(mut self) -> Page<Recording> {
        self.items.truncate(self.limit);
        let last = self.items.last();
        let next = last.map(|last| Cursor { started_at: last.started_at, id: last.id });
        Page { items: self.items, next }
    }
}

#[test]
fn the_day_before_a_day_is_before_it_and_after_the_one_before() {
    for (day, earlier) in
        [("2026-11-22", "2026-11-21"), ("2026-11-20", "2026-11-19"), ("2026-12-01", "2026-11-30")]
    {
        let last = before(day);
        assert!(last.as_str() < day && last.as_str() >= earlier, "{last}");
    }
}
