//! Calls as a contact centre has them: a named agent, a customer known by number, the ids that an
//! SBC sends, a metadata document, two tracks.

use std::collections::BTreeSet;
use std::time::Duration;

use model::call::{CallFacts, Party, StreamFact};
use model::event::{EventBody, RecordingEvent, VERSION};
use model::index::Finalized;
use model::recording::Track;
use model::{EdgeId, JournalId, Personal, Position, RecordingId, SessionId, TenantId, WallTime};
use storage_aws::DynamoIndex;
use storage_ports::RecordingIndex;

/// Agents, and customers, of the tenant.
pub const PEOPLE: usize = 60;
pub const LENGTH: Duration = Duration::from_secs(180);

/// A document of two participants and two streams, as most SRCs write it.
const DOCUMENT_BYTES: usize = 2_600;

pub fn tenant() -> TenantId {
    TenantId::default()
}

pub fn number_of(person: usize) -> String {
    format!("+3861{:07}", 2_000_003 * (person + 1) % 10_000_000)
}

pub fn user_of(person: usize) -> String {
    format!("agent{person:03}")
}

/// One edge, which tells what happens to its calls.
pub struct Edge {
    pub journal: JournalId,
    position: u64,
    beats: u64,
}

impl Edge {
    pub fn new() -> Self {
        Self { journal: JournalId::at(1, *b"onlyonedge"), position: 0, beats: 0 }
    }

    fn event(&mut self, at: WallTime, body: EventBody) -> RecordingEvent {
        self.position += 1;
        RecordingEvent {
            version: VERSION,
            edge: EdgeId::new("edge-1").unwrap(),
            journal: self.journal,
            epoch: 1,
            position: Position(self.position),
            at,
            body,
        }
    }

    pub fn starts(&mut self, id: RecordingId, person: usize, at: WallTime) -> Vec<RecordingEvent> {
        let (tenant, recording) = (tenant(), id);
        let started = EventBody::Started {
            tenant: tenant.clone(),
            recording,
            session: SessionId(id.0),
            call_ids: vec![format!("{}@sbc.example", id.0.simple())],
            flags: BTreeSet::new(),
        };
        let metadata = EventBody::Metadata {
            tenant,
            recording,
            facts: facts(id, person),
            flags: BTreeSet::new(),
            document: Some("x".repeat(DOCUMENT_BYTES)),
        };
        vec![self.event(at, started), self.event(at, metadata)]
    }

    /// Its end, and that all of it is in the object store.
    pub fn ends(&mut self, id: RecordingId, at: WallTime) -> Vec<RecordingEvent> {
        let ended = EventBody::Ended {
            tenant: tenant(),
            recording: id,
            reason: "bye".to_owned(),
            duration_ms: LENGTH.as_millis() as u64,
            flags: BTreeSet::new(),
        };
        vec![self.event(at + LENGTH, ended), self.stored(at + LENGTH)]
    }

    pub fn stored(&mut self, at: WallTime) -> RecordingEvent {
        let through = Position(self.position);
        self.event(at, EventBody::Stored { through })
    }

    /// A sign of life, at once and delayed.
    pub fn beats(&mut self, at: WallTime, live: Vec<RecordingId>) -> [RecordingEvent; 2] {
        self.beats += 1;
        let (seq, stored_through) = (self.beats, Position(self.position));
        [false, true].map(|dead_man| {
            let body = EventBody::Beat { seq, stored_through, live: live.clone(), dead_man };
            self.event(at, body)
        })
    }

    /// What the finaliser makes of it, up to a position.
    pub fn built(through: u64) -> Finalized {
        let track = |label: &str, participant: &str, speaker| Track {
            label: label.to_owned(),
            participant: Some(Personal::from(participant)),
            speakers: vec![speaker],
            codec: "PCMA".to_owned(),
            packets_expected: 9_000,
            packets_received: 9_000,
            packets_lost: 0,
            duration_ms: LENGTH.as_millis() as u64,
            alignment: None,
        };
        Finalized {
            generation: 1,
            through: Position(through),
            complete: true,
            duration_ms: LENGTH.as_millis() as u64,
            tracks: vec![track("1", "sip:agent000@pbx.example", 0), track("2", &number_of(0), 1)],
            packets: Some(18_000),
            marks: Vec::new(),
            flags: BTreeSet::new(),
            sha256: "0".repeat(64),
            // HPKE: 32 bytes of a public key, 32 of a key and 16 of a tag, in base64.
            sealed_keys: vec!["k".repeat(108)],
        }
    }
}

fn facts(id: RecordingId, person: usize) -> CallFacts {
    let party = |id: &str, aor: String, role: &str| Party {
        id: id.to_owned(),
        aor: Some(Personal::from(aor)),
        role: Some(role.to_owned()),
        ..Party::default()
    };
    let stream = |label: &str, sender: &str| StreamFact {
        label: label.to_owned(),
        senders: vec![sender.to_owned()],
    };
    let (user, number) = (user_of(person), number_of(person));
    let agent = Party {
        name: Some(Personal::from(format!("Eva Novak{person:03}"))),
        ..party("p1", format!("sip:{user}@pbx.example"), "callee")
    };
    let customer = Party {
        number: Some(Personal::from(number.clone())),
        ..party("p2", format!("sip:{number}@carrier.example;user=phone"), "caller")
    };
    CallFacts {
        participants: vec![agent, customer],
        streams: vec![stream("1", "p1"), stream("2", "p2")],
        call_ids: BTreeSet::from([format!("ucid-{}", id.0.simple())]),
        extensions: vec![("skill".to_owned(), Personal::from("loans"))],
    }
}

/// Tells `index` a whole call.
pub async fn record(
    index: &DynamoIndex,
    edge: &mut Edge,
    id: RecordingId,
    person: usize,
    at: WallTime,
) {
    let mut events = edge.starts(id, person, at);
    events.extend(edge.ends(id, at));
    let mut to_build = Vec::new();
    for event in &events {
        to_build.extend(index.apply(event).await.unwrap().to_build);
    }
    assert_eq!(to_build, [(tenant(), id)]);
    assert!(index.finalized(&tenant(), id, Edge::built(edge.position)).await.unwrap());
}
