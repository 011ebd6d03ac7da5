//! A made-up edge that tells an index what happens to its calls.

use std::collections::BTreeSet;
use std::time::Duration;

use model::call::{CallFacts, Party};
use model::event::{EventBody, RecordingEvent, VERSION};
use model::index::Finalized;
use model::recording::{Recording, Status};
use model::search::SearchQuery;
use model::{EdgeId, JournalId, Personal, Position, RecordingId, SessionId, TenantId, WallTime};

use super::super::{now, unused, unused_name};
use crate::RecordingIndex;

pub fn query() -> SearchQuery {
    SearchQuery::default()
}

/// All pages of one question.
pub async fn all(
    index: &dyn RecordingIndex,
    tenant: &TenantId,
    query: SearchQuery,
) -> Vec<Recording> {
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
pub struct Scene<'a> {
    pub index: &'a dyn RecordingIndex,
    pub tenant: TenantId,
    pub journal: JournalId,
    pub epoch: u64,
    pub position: u64,
    pub at: WallTime,
    pub beat: u64,
}

impl<'a> Scene<'a> {
    pub fn new(index: &'a dyn RecordingIndex) -> Self {
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

    pub fn event(&mut self, body: EventBody) -> RecordingEvent {
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
    pub async fn tell(&mut self, body: EventBody) -> Vec<RecordingId> {
        let event = self.event(body);
        self.tell_again(&event).await
    }

    pub async fn tell_again(&self, event: &RecordingEvent) -> Vec<RecordingId> {
        let applied = self.index.apply(event).await.unwrap();
        assert!(applied.to_build.iter().all(|(tenant, _)| *tenant == self.tenant));
        applied.to_build.into_iter().map(|(_, id)| id).collect()
    }

    pub fn new_id(&self) -> RecordingId {
        RecordingId::at(self.at.unix_ms().unsigned_abs(), unused())
    }

    pub fn started(&self, recording: RecordingId) -> EventBody {
        EventBody::Started {
            tenant: self.tenant.clone(),
            recording,
            session: SessionId(recording.0),
            call_ids: vec![format!("call-of-{recording}")],
            flags: BTreeSet::new(),
        }
    }

    pub async fn start(&mut self) -> RecordingId {
        let id = self.new_id();
        self.tell(self.started(id)).await;
        id
    }

    pub fn facts(&self, recording: RecordingId, parties: &[(&str, &str)]) -> EventBody {
        let participants = parties.iter().enumerate().map(|(number, (name, aor))| Party {
            id: number.to_string(),
            name: Some(Personal::from(*name)),
            aor: Some(Personal::from(*aor)),
            number: None,
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

    pub async fn start_with(&mut self, parties: &[(&str, &str)]) -> RecordingId {
        let id = self.start().await;
        self.tell(self.facts(id, parties)).await;
        id
    }

    pub fn ended(&self, recording: RecordingId, duration_ms: u64) -> EventBody {
        EventBody::Ended {
            tenant: self.tenant.clone(),
            recording,
            reason: "bye".to_owned(),
            duration_ms,
            flags: BTreeSet::new(),
        }
    }

    pub async fn end(&mut self, recording: RecordingId) -> Vec<RecordingId> {
        self.tell(self.ended(recording, 10_000)).await
    }

    pub async fn store_all(&mut self) -> Vec<RecordingId> {
        let through = Position(self.position);
        self.tell(EventBody::Stored { through }).await
    }

    pub async fn beat(&mut self) -> Vec<RecordingId> {
        self.beat += 1;
        self.send_beat(false).await
    }

    /// The newest beat comes back.
    pub async fn dead_man(&mut self) -> Vec<RecordingId> {
        self.send_beat(true).await
    }

    pub async fn send_beat(&mut self, dead_man: bool) -> Vec<RecordingId> {
        let stored_through = Position(0);
        let body = EventBody::Beat { seq: self.beat, stored_through, live: Vec::new(), dead_man };
        self.tell(body).await
    }

    pub async fn build(&self, id: RecordingId, generation: u32, complete: bool) -> bool {
        let built = self.built(generation, complete);
        self.index.finalized(&self.tenant, id, built).await.unwrap()
    }

    pub fn built(&self, generation: u32, complete: bool) -> Finalized {
        Finalized {
            generation,
            through: Position(self.position),
            complete,
            duration_ms: 9_980,
            tracks: Vec::new(),
            packets: None,
            marks: Vec::new(),
            flags: BTreeSet::from(["silent_track".to_owned()]),
            sha256: format!("{generation:064}"),
            sealed_keys: vec!["a2V5".to_owned()],
        }
    }

    pub async fn view(&self, id: RecordingId) -> Option<Recording> {
        let (state, journal) = self.index.state(&self.tenant, id).await.unwrap()?;
        let view = state.view(&journal);
        let found = self.find(query()).await;
        assert_eq!(found.contains(&id), view.is_some(), "state and search disagree");
        view
    }

    pub async fn status(&self, id: RecordingId) -> Status {
        let status = self.view(id).await.expect("the recording has started").status;
        let found = self.find(SearchQuery { status: Some(status), ..query() }).await;
        assert!(found.contains(&id), "{id} is not found by its status {status:?}");
        let live = self.index.live(&self.tenant).await.unwrap();
        let is_live = live.iter().any(|recording| recording.id == id);
        assert_eq!(is_live, status == Status::Recording, "live and {status:?}");
        status
    }

    pub async fn find(&self, query: SearchQuery) -> Vec<RecordingId> {
        let found = all(self.index, &self.tenant, query).await;
        found.into_iter().map(|recording| recording.id).collect()
    }

    pub async fn find_text(&self, text: &str) -> Vec<RecordingId> {
        self.find(SearchQuery { q: Some(text.to_owned()), ..query() }).await
    }
}
