//! Promises of [`RecordingIndex`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::call::{CallFacts, Party};
use model::event::{EventBody, RecordingEvent, VERSION};
use model::index::{Finalized, JournalState, RecordingState};
use model::recording::{Recording, Status};
use model::search::SearchQuery;
use model::{EdgeId, JournalId, Personal, Position, RecordingId, SessionId, TenantId, WallTime};

use super::{now, unused, unused_name};
use crate::{RecordingIndex, StorageError};

/// Every promise of an index, but the one about order: [`any_order_gives_one_index`] is given
/// its events, so that engines can be tried with many histories.
pub async fn index(index: &dyn RecordingIndex) {
    a_started_call_is_found_and_live(index).await;
    an_event_before_its_start_is_kept_and_not_shown(index).await;
    a_call_is_built_once_all_of_it_is_stored(index).await;
    only_the_event_that_completed_a_call_tells_so_again(index).await;
    a_build_makes_a_call_playable(index).await;
    the_newest_build_wins(index).await;
    a_build_of_an_unknown_recording_is_not_found(index).await;
    a_dead_edge_leaves_partial_calls_and_its_return_reopens_them(index).await;
    a_silent_journal_is_swept(index).await;
    a_sweep_tells_every_recording_that_waits_to_be_built(index).await;
    tenants_do_not_see_each_other(index).await;
    live_calls_come_oldest_first(index).await;
    pages_join_without_gap_or_repetition(index).await;
    a_search_is_limited_by_time_status_and_length(index).await;
    every_word_of_a_search_has_to_be_found(index).await;
    a_number_is_found_however_it_is_written(index).await;
    a_search_text_is_never_a_pattern(index).await;
    a_search_finds_what_is_known_last(index).await;
    a_party_is_searched_among_the_participants_only(index).await;
    events_applied_at_once_are_all_applied(index).await;
}

/// Applies `events` in the order given and compares the index with the folds of the same events
/// in another order. The events must be of journals that the index does not know yet.
pub async fn any_order_gives_one_index(
    index: &dyn RecordingIndex,
    delivered: &[RecordingEvent],
    in_order: &[RecordingEvent],
) {
    for event in delivered {
        index.apply(event).await.unwrap();
    }
    let mut journals: BTreeMap<JournalId, JournalState> = BTreeMap::new();
    let mut recordings: BTreeMap<(TenantId, RecordingId), RecordingState> = BTreeMap::new();
    for event in in_order {
        let journal = journals
            .remove(&event.journal)
            .unwrap_or_else(|| JournalState::new(event.journal, event.edge.clone()));
        journals.insert(event.journal, journal.fold(event));
        if let Some((tenant, id)) = event.recording() {
            let name = (tenant.clone(), id);
            let state = RecordingState::fold(recordings.remove(&name), event);
            recordings.insert(name, state.expect("the event is about a recording"));
        }
    }
    for (id, journal) in &journals {
        assert_eq!(index.journal(*id).await.unwrap().as_ref(), Some(journal));
    }
    let mut views: BTreeMap<&TenantId, BTreeMap<RecordingId, Recording>> = BTreeMap::new();
    for ((tenant, id), state) in &recordings {
        let journal = &journals[&state.journal];
        let held = index.state(tenant, *id).await.unwrap();
        assert_eq!(held.as_ref(), Some(&(state.clone(), journal.clone())));
        if let Some(view) = state.view(journal) {
            views.entry(tenant).or_default().insert(*id, view);
        }
    }
    for (tenant, views) in views {
        for status in Status::ALL {
            let shown = all(index, tenant, SearchQuery { status: Some(status), ..query() }).await;
            let shown: BTreeMap<_, _> = shown.into_iter().map(|view| (view.id, view)).collect();
            let expected: BTreeMap<_, _> = views
                .iter()
                .filter(|(_, view)| view.status == status)
                .map(|(id, view)| (*id, view.clone()))
                .collect();
            let ours: BTreeMap<_, _> =
                shown.into_iter().filter(|(id, _)| views.contains_key(id)).collect();
            assert_eq!(ours, expected, "{status:?}");
        }
    }
    let to_build: BTreeSet<_> =
        index.sweep(WallTime::from_unix_ms(0)).await.unwrap().into_iter().collect();
    for (name, state) in &recordings {
        let needed = state.needs_build(&journals[&state.journal]);
        assert_eq!(to_build.contains(name), needed, "{state:?}");
    }
}

fn query() -> SearchQuery {
    SearchQuery::default()
}

/// All pages of one question.
async fn all(index: &dyn RecordingIndex, tenant: &TenantId, query: SearchQuery) -> Vec<Recording> {
    let mut found = Vec::new();
    let mut query = query;
    loop {
        let page = index.search(tenant, &query).await.unwrap();
        assert!(page.items.len() <= query.limit, "more than the page may have");
        found.extend(page.items);
        match page.next {
            None => return found,
            next => query.after = next,
        }
    }
}

/// One edge with a journal and a tenant of its own.
struct Scene<'a> {
    index: &'a dyn RecordingIndex,
    tenant: TenantId,
    journal: JournalId,
    epoch: u64,
    position: u64,
    at: WallTime,
    beat: u64,
}

impl<'a> Scene<'a> {
    fn new(index: &'a dyn RecordingIndex) -> Self {
        let at = now();
        Self {
            index,
            tenant: TenantId::new(unused_name("t")).expect("letters and digits"),
            journal: JournalId::at(at.unix_ms().unsigned_abs(), unused()),
            epoch: 1,
            position: 0,
            at,
            beat: 0,
        }
    }

    fn event(&mut self, body: EventBody) -> RecordingEvent {
        self.position += 1;
        self.at = self.at + Duration::from_millis(1_000);
        RecordingEvent {
            version: VERSION,
            edge: EdgeId::new("edge-1").expect("letters and digits"),
            journal: self.journal,
            epoch: self.epoch,
            position: Position(self.position),
            at: self.at,
            body,
        }
    }

    /// Applies an event and returns what it made ready to build.
    async fn tell(&mut self, body: EventBody) -> Vec<RecordingId> {
        let event = self.event(body);
        self.tell_again(&event).await
    }

    async fn tell_again(&self, event: &RecordingEvent) -> Vec<RecordingId> {
        let applied = self.index.apply(event).await.unwrap();
        assert!(applied.to_build.iter().all(|(tenant, _)| *tenant == self.tenant));
        applied.to_build.into_iter().map(|(_, id)| id).collect()
    }

    fn new_id(&self) -> RecordingId {
        RecordingId::at(self.at.unix_ms().unsigned_abs(), unused())
    }

    fn started(&self, recording: RecordingId) -> EventBody {
        EventBody::Started {
            tenant: self.tenant.clone(),
            recording,
            session: SessionId(recording.0),
            call_ids: vec![format!("call-of-{recording}")],
            flags: BTreeSet::new(),
        }
    }

    async fn start(&mut self) -> RecordingId {
        let id = self.new_id();
        self.tell(self.started(id)).await;
        id
    }

    fn facts(&self, recording: RecordingId, parties: &[(&str, &str)]) -> EventBody {
        let participants = parties.iter().enumerate().map(|(number, (name, aor))| Party {
            id: number.to_string(),
            name: Some(Personal::from(*name)),
            aor: Some(Personal::from(*aor)),
            role: None,
        });
        EventBody::Metadata {
            tenant: self.tenant.clone(),
            recording,
            facts: CallFacts { participants: participants.collect(), ..CallFacts::default() },
            flags: BTreeSet::new(),
            document: None,
        }
    }

    async fn start_with(&mut self, parties: &[(&str, &str)]) -> RecordingId {
        let id = self.start().await;
        self.tell(self.facts(id, parties)).await;
        id
    }

    fn ended(&self, recording: RecordingId, duration_ms: u64) -> EventBody {
        EventBody::Ended {
            tenant: self.tenant.clone(),
            recording,
            reason: "bye".to_owned(),
            duration_ms,
            flags: BTreeSet::new(),
        }
    }

    async fn end(&mut self, recording: RecordingId) -> Vec<RecordingId> {
        self.tell(self.ended(recording, 10_000)).await
    }

    async fn store_all(&mut self) -> Vec<RecordingId> {
        let through = Position(self.position);
        self.tell(EventBody::Stored { through }).await
    }

    async fn beat(&mut self) -> Vec<RecordingId> {
        self.beat += 1;
        self.send_beat(false).await
    }

    /// The newest beat comes back.
    async fn dead_man(&mut self) -> Vec<RecordingId> {
        self.send_beat(true).await
    }

    async fn send_beat(&mut self, dead_man: bool) -> Vec<RecordingId> {
        let stored_through = Position(0);
        let body = EventBody::Beat { seq: self.beat, stored_through, live: Vec::new(), dead_man };
        self.tell(body).await
    }

    async fn build(&self, id: RecordingId, generation: u32, complete: bool) -> bool {
        let built = self.built(generation, complete);
        self.index.finalized(&self.tenant, id, built).await.unwrap()
    }

    fn built(&self, generation: u32, complete: bool) -> Finalized {
        Finalized {
            generation,
            through: Position(self.position),
            complete,
            duration_ms: 9_980,
            tracks: Vec::new(),
            marks: Vec::new(),
            flags: BTreeSet::from(["silent_track".to_owned()]),
            sha256: format!("{generation:064}"),
            sealed_keys: vec!["a2V5".to_owned()],
        }
    }

    async fn view(&self, id: RecordingId) -> Option<Recording> {
        let (state, journal) = self.index.state(&self.tenant, id).await.unwrap()?;
        let view = state.view(&journal);
        let found = self.find(query()).await;
        assert_eq!(found.contains(&id), view.is_some(), "state and search disagree");
        view
    }

    async fn status(&self, id: RecordingId) -> Status {
        let status = self.view(id).await.expect("the recording has started").status;
        let found = self.find(SearchQuery { status: Some(status), ..query() }).await;
        assert!(found.contains(&id), "{id} is not found by its status {status:?}");
        let live = self.index.live(&self.tenant).await.unwrap();
        let is_live = live.iter().any(|recording| recording.id == id);
        assert_eq!(is_live, status == Status::Recording, "live and {status:?}");
        status
    }

    async fn find(&self, query: SearchQuery) -> Vec<RecordingId> {
        let found = all(self.index, &self.tenant, query).await;
        found.into_iter().map(|recording| recording.id).collect()
    }

    async fn find_text(&self, text: &str) -> Vec<RecordingId> {
        self.find(SearchQuery { q: Some(text.to_owned()), ..query() }).await
    }
}

async fn a_started_call_is_found_and_live(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    assert_eq!(index.journal(scene.journal).await.unwrap(), None);
    let id = scene.new_id();
    assert_eq!(index.state(&scene.tenant, id).await.unwrap(), None);
    scene.tell(scene.started(id)).await;
    assert_eq!(scene.status(id).await, Status::Recording);
    let view = scene.view(id).await.unwrap();
    assert_eq!(view.started_at, scene.at);
    assert_eq!(view.call_ids, [format!("call-of-{id}")]);
    let journal = index.journal(scene.journal).await.unwrap().unwrap();
    assert_eq!(journal.last_seen, scene.at);
    assert!(index.journals().await.unwrap().contains(&journal));
}

async fn an_event_before_its_start_is_kept_and_not_shown(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.new_id();
    let start = scene.event(scene.started(id));
    scene.end(id).await;
    assert_eq!(scene.store_all().await, [], "what has not started is not built");
    assert_eq!(scene.view(id).await, None);
    assert_eq!(scene.tell_again(&start).await, [id], "its start was the last that was missing");
    assert_eq!(scene.status(id).await, Status::Finalizing);
}

async fn a_call_is_built_once_all_of_it_is_stored(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    assert_eq!(scene.store_all().await, []);
    assert_eq!(scene.end(id).await, []);
    assert_eq!(scene.status(id).await, Status::Finalizing);
    assert_eq!(scene.store_all().await, [id]);
    let other = scene.start().await;
    let far = Position(scene.position + 100);
    scene.tell(EventBody::Stored { through: far }).await;
    assert_eq!(scene.end(other).await, [other], "its end was stored before it was told");
}

async fn only_the_event_that_completed_a_call_tells_so_again(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    scene.end(id).await;
    let stored = scene.event(EventBody::Stored { through: Position(scene.position) });
    for _ in 0..3 {
        assert_eq!(scene.tell_again(&stored).await, [id], "a lost hand-over is repeated");
        assert_eq!(scene.beat().await, [], "a beat does not repeat the backlog");
        assert_eq!(scene.store_all().await, []);
    }
    assert!(scene.build(id, 1, true).await);
    assert_eq!(scene.tell_again(&stored).await, [], "it is built");
}

async fn a_build_makes_a_call_playable(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    scene.end(id).await;
    scene.store_all().await;
    assert!(!scene.view(id).await.unwrap().playable);
    assert!(scene.build(id, 1, true).await);
    assert_eq!(scene.status(id).await, Status::Stored);
    let view = scene.view(id).await.unwrap();
    assert!(view.playable);
    assert_eq!(view.duration_ms, Some(9_980));
    assert_eq!(scene.find_text("silent_track").await, [id]);
}

async fn the_newest_build_wins(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    scene.end(id).await;
    scene.store_all().await;
    assert!(scene.build(id, 2, true).await);
    assert!(scene.build(id, 2, true).await, "told again, because the answer was lost");
    assert!(!scene.build(id, 1, true).await);
    let rival = Finalized { duration_ms: 1, ..scene.built(2, true) };
    assert!(!index.finalized(&scene.tenant, id, rival).await.unwrap());
    assert!(scene.build(id, 3, true).await);
    let (state, _) = index.state(&scene.tenant, id).await.unwrap().unwrap();
    assert_eq!(state.finalized, Some(scene.built(3, true)));
}

async fn a_build_of_an_unknown_recording_is_not_found(index: &dyn RecordingIndex) {
    let scene = Scene::new(index);
    let answer = index.finalized(&scene.tenant, scene.new_id(), scene.built(1, true)).await;
    assert!(matches!(answer, Err(StorageError::NotFound { .. })), "{answer:?}");
}

async fn a_dead_edge_leaves_partial_calls_and_its_return_reopens_them(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let open = scene.start().await;
    let ended = scene.start().await;
    scene.beat().await;
    scene.store_all().await;
    scene.end(ended).await;
    let mut told = scene.dead_man().await;
    told.sort();
    let mut both = vec![open, ended];
    both.sort();
    assert_eq!(told, both, "what is there of both is built");
    assert_eq!(scene.status(open).await, Status::Partial);
    assert_eq!(scene.status(ended).await, Status::Partial, "its last seconds are on the edge");
    assert_eq!(scene.view(open).await.unwrap().end_reason.as_deref(), Some("edge_lost"));
    assert!(scene.build(open, 1, false).await);
    assert_eq!(scene.status(open).await, Status::Partial);

    scene.epoch += 1;
    scene.beat().await;
    assert_eq!(scene.status(open).await, Status::Recording);
    assert_eq!(scene.status(ended).await, Status::Finalizing);
    assert_eq!(scene.store_all().await, [ended]);
    scene.end(open).await;
    assert_eq!(scene.store_all().await, [open], "the partial build is not the last one");
    assert!(scene.build(open, 2, true).await);
    assert_eq!(scene.status(open).await, Status::Stored);
    scene.dead_man().await;
    assert_eq!(scene.status(open).await, Status::Stored, "nothing is lost of a stored call");
}

async fn a_silent_journal_is_swept(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    // This edge's clock is an hour slow.
    scene.at = WallTime::from_unix_ms(scene.at.unix_ms() - 3_600_000);
    let before = now();
    let id = scene.start().await;
    index.sweep(before).await.unwrap();
    assert_eq!(scene.status(id).await, Status::Recording, "it was heard of since");
    let told = index.sweep(now() + Duration::from_secs(1)).await.unwrap();
    assert!(told.contains(&(scene.tenant.clone(), id)));
    assert_eq!(scene.status(id).await, Status::Partial, "although no beat ever came");
    scene.beat().await;
    assert_eq!(scene.status(id).await, Status::Recording);
}

async fn a_sweep_tells_every_recording_that_waits_to_be_built(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let (built, waits, open) = (scene.start().await, scene.start().await, scene.start().await);
    scene.end(built).await;
    scene.end(waits).await;
    scene.store_all().await;
    scene.build(built, 1, true).await;
    for _ in 0..2 {
        let told = index.sweep(WallTime::from_unix_ms(0)).await.unwrap();
        let told = |id| told.contains(&(scene.tenant.clone(), id));
        assert_eq!((told(built), told(waits), told(open)), (false, true, false));
    }
}

async fn tenants_do_not_see_each_other(index: &dyn RecordingIndex) {
    let (mut ours, theirs) = (Scene::new(index), Scene::new(index));
    let id = ours.start_with(&[("Eva Novák", "sip:1@x")]).await;
    assert_eq!(ours.find_text("novak").await, [id]);
    assert_eq!(theirs.find_text("novak").await, []);
    assert_eq!(theirs.find(query()).await, []);
    assert_eq!(index.state(&theirs.tenant, id).await.unwrap(), None);
    assert_eq!(index.live(&theirs.tenant).await.unwrap(), []);
    let built = index.finalized(&theirs.tenant, id, theirs.built(1, true)).await;
    assert!(matches!(built, Err(StorageError::NotFound { .. })), "{built:?}");
}

async fn live_calls_come_oldest_first(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let ids = [scene.start().await, scene.start().await, scene.start().await];
    let live: Vec<_> =
        index.live(&scene.tenant).await.unwrap().into_iter().map(|live| live.id).collect();
    assert_eq!(live, ids);
    assert_eq!(scene.find(query()).await, [ids[2], ids[1], ids[0]], "a search: newest first");
}

async fn pages_join_without_gap_or_repetition(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let mut ids = Vec::new();
    for number in 0..7 {
        let id = scene.new_id();
        let mut start = scene.event(scene.started(id));
        // Two and three start in the same millisecond.
        start.at = WallTime::from_unix_ms(1_800_000_000_000 + [0, 1, 1, 2, 2, 2, 3][number]);
        index.apply(&start).await.unwrap();
        ids.push((start.at, id));
    }
    ids.sort_by(|a, b| b.cmp(a));
    let ids: Vec<_> = ids.into_iter().map(|(_, id)| id).collect();
    for limit in [1, 2, 3, 7, 8, 1_000] {
        assert_eq!(scene.find(SearchQuery { limit, ..query() }).await, ids, "limit {limit}");
    }
    let exact = SearchQuery { limit: 7, ..query() };
    assert_eq!(index.search(&scene.tenant, &exact).await.unwrap().next, None);
    let first = index.search(&scene.tenant, &SearchQuery { limit: 3, ..query() }).await.unwrap();
    scene.start().await;
    let after = SearchQuery { limit: 1_000, after: first.next, ..query() };
    let rest = scene.find(after).await;
    assert!(rest.starts_with(&ids[3..]), "a new call does not move the pages");
}

async fn a_search_is_limited_by_time_status_and_length(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let short = scene.start().await;
    let short_at = scene.at;
    let long = scene.start().await;
    let long_at = scene.at;
    let open = scene.start().await;
    scene.tell(scene.ended(short, 59_999)).await;
    scene.tell(scene.ended(long, 60_000)).await;
    let found = async |query: SearchQuery| scene.find(query).await;
    assert_eq!(found(SearchQuery { from: Some(long_at), ..query() }).await, [open, long]);
    assert_eq!(found(SearchQuery { to: Some(long_at), ..query() }).await, [short]);
    let between = SearchQuery { from: Some(short_at), to: Some(long_at), ..query() };
    assert_eq!(found(between).await, [short]);
    assert_eq!(found(SearchQuery { min_seconds: Some(60), ..query() }).await, [long]);
    assert_eq!(found(SearchQuery { min_seconds: Some(0), ..query() }).await, [long, short]);
    let status = |status| SearchQuery { status: Some(status), ..query() };
    assert_eq!(found(status(Status::Recording)).await, [open]);
    assert_eq!(found(status(Status::Finalizing)).await, [long, short]);
    assert_eq!(found(status(Status::Deleted)).await, []);
}

async fn every_word_of_a_search_has_to_be_found(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let eva = scene.start_with(&[("Eva Novák", "sip:eva@pbx"), ("Łukasz", "sip:lu@pbx")]).await;
    let ivan = scene.start_with(&[("Ivan Novak", "sip:ivan@pbx"), ("李小龍", "sip:li@pbx")]).await;
    let both = vec![ivan, eva];
    for (text, expected) in [
        ("novak", both.clone()),
        ("NOVÁK", both.clone()),
        ("  novak\teva ", vec![eva]),
        ("ova", both.clone()),
        ("va", both.clone()),
        ("lukasz", vec![eva]),
        ("lukasz ivan", vec![]),
        ("eva novak lu", vec![eva]),
        ("小龍", vec![ivan]),
        ("李小龍", vec![ivan]),
        ("novakeva", vec![]),
        ("", both.clone()),
        ("   ", both),
    ] {
        assert_eq!(scene.find_text(text).await, expected, "{text:?}");
    }
    assert_eq!(scene.find_text(&format!("call-of-{eva}")).await, [eva]);
    assert_eq!(scene.find_text(&eva.to_string()).await, [eva]);
    scene.tell(scene.ended(eva, 1)).await;
    assert_eq!(scene.find_text("novak").await, [ivan, eva], "an event that tells no names");
}

async fn a_number_is_found_however_it_is_written(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id =
        scene.start_with(&[("Eva", "sip:+386-1-2345678@pbx"), ("Ivan", "tel:7001;ext=9")]).await;
    for text in ["3861234567", "+386-1-2345678", "+386 1 234 56 78", "(1) 234.5678", "7001", "12"] {
        assert_eq!(scene.find_text(text).await, [id], "{text:?}");
    }
    assert_eq!(scene.find_text("7001 eva").await, [id], "a number and a name");
    assert_eq!(scene.find_text("7001 5678").await, [id], "two numbers");
    assert_eq!(scene.find_text("7001999999999999").await, []);
}

async fn a_search_text_is_never_a_pattern(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start_with(&[("Q\"uote% O'Neil_ \\x*", "sip:a@b")]).await;
    scene.start_with(&[("plain", "sip:c@d")]).await;
    for text in ["q\"uote", "\"", "%", "uote%", "o'neil", "'", "neil_", "\\x*", "\\"] {
        assert_eq!(scene.find_text(text).await, [id], "{text:?}");
    }
    for text in ["plain OR quote", "pl%in", "plai*", "pla?n", "text:plain", "-", "\0", "pl\0ain"] {
        let found = scene.find_text(text).await;
        assert!(found.len() != 1, "{text:?} was read as a pattern");
    }
}

async fn a_search_finds_what_is_known_last(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start_with(&[("First Guess", "sip:guess@pbx")]).await;
    scene.tell(scene.facts(id, &[("Eva Novák", "sip:eva@pbx")])).await;
    assert_eq!(scene.find_text("novak").await, [id]);
    assert_eq!(scene.find_text("guess").await, [], "a name that was corrected");
}

async fn a_party_is_searched_among_the_participants_only(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start_with(&[("Eva Novák", "sip:+386-1-234@pbx")]).await;
    let party = async |text: &str| {
        scene.find(SearchQuery { party: Some(text.to_owned()), ..query() }).await
    };
    for text in ["Novák", "eva novak", "ev", "386 1 234", "+386-1-234@pbx", "%", ""] {
        let expected = if text == "%" { vec![] } else { vec![id] };
        assert_eq!(party(text).await, expected, "{text:?}");
    }
    assert_eq!(party("call-of-").await, []);
}

async fn events_applied_at_once_are_all_applied(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    let documents: Vec<RecordingEvent> =
        (0..8).map(|_| scene.event(scene.facts(id, &[("Eva", "sip:eva@pbx")]))).collect();
    let apply = async |events: &[RecordingEvent]| {
        for event in events {
            index.apply(event).await.unwrap();
        }
    };
    let (first, second) = documents.split_at(4);
    tokio::join!(apply(first), apply(second), apply(second), apply(first));
    let (state, _) = index.state(&scene.tenant, id).await.unwrap().unwrap();
    assert_eq!(state.documents.len(), 8);
}
