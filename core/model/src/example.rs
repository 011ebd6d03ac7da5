//! A made-up history of calls, for the tests of everything that folds events.
//!
//! It is what edges send on a bad day: two tenants, calls that overlap, hold and transfer, edges
//! that restart under another name, edges that never come back, and dead-man's messages that
//! were wrong. The same seed gives the same history.

use std::collections::BTreeSet;

use crate::call::{CallFacts, Party, StreamFact};
use crate::event::{EventBody, RecordingEvent, VERSION};
use crate::id::{CommandId, EdgeId, JournalId, RecordingId, SessionId, TenantId};
use crate::personal::Personal;
use crate::recording::{MarkKind, flag};
use crate::time::{Position, WallTime};

/// 2026-11-22T08:00:00Z, when every history begins.
pub const DAY_START_MS: u64 = 1_795_334_400_000;

/// Steps in which the made-up edges live, the time between two beats.
const STEP_MS: u64 = 5_000;

/// SplitMix64: enough for test data, and needs no dependency.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `sides - 1`.
    pub fn below(&mut self, sides: u64) -> u64 {
        self.roll() % sides
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn random(&mut self) -> [u8; 10] {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.roll().to_le_bytes());
        random
    }

    /// Fisher and Yates.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// About `calls` calls on three edges, in the order in which each edge sent its events.
pub fn history(seed: u64, calls: usize) -> Vec<RecordingEvent> {
    let mut dice = Dice::new(seed);
    (0..3).flat_map(|number| EdgeLife::new(number, &mut dice).live(calls.div_ceil(3))).collect()
}

/// `events` as a queue may deliver them: any order, some of them several times.
pub fn redelivered(seed: u64, events: &[RecordingEvent]) -> Vec<RecordingEvent> {
    let mut dice = Dice::new(seed);
    let mut delivered: Vec<RecordingEvent> = events
        .iter()
        .flat_map(|event| {
            let times = if dice.once_in(3) { 2 + dice.below(2) } else { 1 };
            std::iter::repeat_n(event.clone(), times as usize)
        })
        .collect();
    dice.shuffle(&mut delivered);
    delivered
}

struct OpenCall {
    tenant: TenantId,
    session: SessionId,
    recording: RecordingId,
    started_ms: u64,
    on_hold: bool,
}

struct EdgeLife<'a> {
    dice: &'a mut Dice,
    edge: EdgeId,
    journal: JournalId,
    epoch: u64,
    position: Position,
    stored_through: Position,
    beat: u64,
    now_ms: u64,
    open: Vec<OpenCall>,
    sent: Vec<RecordingEvent>,
}

impl<'a> EdgeLife<'a> {
    fn new(number: u8, dice: &'a mut Dice) -> Self {
        let journal = JournalId::at(DAY_START_MS, dice.random());
        Self {
            dice,
            edge: name(number, 1),
            journal,
            epoch: 1,
            position: Position(0),
            stored_through: Position(0),
            beat: 0,
            now_ms: DAY_START_MS,
            open: Vec::new(),
            sent: Vec::new(),
        }
    }

    fn live(mut self, calls: usize) -> Vec<RecordingEvent> {
        let mut to_start = calls;
        while to_start > 0 || !self.open.is_empty() {
            self.now_ms += STEP_MS;
            if to_start > 0 {
                to_start -= 1;
                self.start();
            }
            for index in (0..self.open.len()).rev() {
                self.something_happens_to(index);
            }
            self.store();
            self.beat();
            if self.dice.once_in(12) {
                self.restart();
            }
            if self.dice.once_in(60) {
                break; // And nobody ever heard of it again.
            }
        }
        if self.dice.once_in(2) {
            self.dead_man(self.beat);
        }
        self.sent
    }

    /// Sends an event about a new journal record.
    fn record(&mut self, body: EventBody) {
        self.position = Position(self.position.0 + 1 + self.dice.below(50));
        self.send(body);
    }

    fn send(&mut self, body: EventBody) {
        self.sent.push(RecordingEvent {
            version: VERSION,
            edge: self.edge.clone(),
            journal: self.journal,
            epoch: self.epoch,
            position: self.position,
            at: WallTime::from_unix_ms(self.now_ms as i64),
            body,
        });
    }

    fn start(&mut self) {
        let session = SessionId::at(self.now_ms, self.dice.random());
        let tenant = if self.dice.once_in(4) { "second" } else { "default" };
        let call = OpenCall {
            tenant: TenantId::new(tenant).expect("a plain word is a name"),
            session,
            recording: session.first_recording(),
            started_ms: self.now_ms,
            on_hold: false,
        };
        self.started(call);
    }

    fn started(&mut self, call: OpenCall) {
        let odd = self.dice.once_in(5);
        let call_id = format!("{:x}@pbx.example.com", self.dice.roll());
        self.record(EventBody::Started {
            tenant: call.tenant.clone(),
            recording: call.recording,
            session: call.session,
            call_ids: vec![call_id],
            flags: odd.then(|| flag::NO_SIPREC_TAG.to_owned()).into_iter().collect(),
        });
        self.open.push(call);
        self.metadata(self.open.len() - 1);
    }

    fn something_happens_to(&mut self, index: usize) {
        match self.dice.below(8) {
            0 => self.end(index),
            1 => self.metadata(index),
            2 => self.hold_or_resume(index),
            4 => self.hear(index),
            3 if self.open[index].session.first_recording() == self.open[index].recording => {
                self.further_recording(index);
            }
            _ => {}
        }
    }

    fn metadata(&mut self, index: usize) {
        let facts = facts(self.dice);
        let OpenCall { tenant, recording, .. } = &self.open[index];
        let (tenant, recording) = (tenant.clone(), *recording);
        let document = self.dice.once_in(2).then(|| "<recording/>".to_owned());
        let flags = BTreeSet::new();
        self.record(EventBody::Metadata { tenant, recording, facts, flags, document });
    }

    fn hear(&mut self, index: usize) {
        let OpenCall { tenant, recording, .. } = &self.open[index];
        let (tenant, recording) = (tenant.clone(), *recording);
        let odd = self.dice.once_in(2).then(|| flag::ONE_WAY_AUDIO.to_owned());
        self.record(EventBody::Heard { tenant, recording, flags: odd.into_iter().collect() });
    }

    fn hold_or_resume(&mut self, index: usize) {
        let call = &mut self.open[index];
        call.on_hold = !call.on_hold;
        let body = EventBody::Mark {
            tenant: call.tenant.clone(),
            recording: call.recording,
            mark: MarkKind::Hold,
            label: Some("1".to_owned()),
            begins: call.on_hold,
            detail: None,
        };
        self.record(body);
    }

    fn further_recording(&mut self, index: usize) {
        let OpenCall { tenant, session, .. } = &self.open[index];
        let recording = session.further_recording(&self.dice.roll().to_string());
        let (tenant, session) = (tenant.clone(), *session);
        let started_ms = self.now_ms;
        self.started(OpenCall { tenant, session, recording, started_ms, on_hold: false });
    }

    fn end(&mut self, index: usize) {
        let call = self.open.swap_remove(index);
        self.record(EventBody::Ended {
            tenant: call.tenant,
            recording: call.recording,
            reason: "bye".to_owned(),
            duration_ms: self.now_ms - call.started_ms,
            flags: BTreeSet::new(),
        });
    }

    fn store(&mut self) {
        self.stored_through =
            Position(self.dice.below(self.position.0 + 1).max(self.stored_through.0));
        if self.dice.once_in(2) {
            self.stored_through = self.position;
        }
        self.send(EventBody::Stored { through: self.stored_through });
        if self.dice.once_in(20) {
            let command = CommandId::at(self.now_ms, self.dice.random());
            self.send(EventBody::CommandDone { command, ok: true, detail: String::new() });
        }
    }

    fn beat(&mut self) {
        self.beat += 1;
        self.send_beat(self.beat, false);
        if self.beat > 5 {
            self.dead_man(self.beat - 5);
        }
    }

    fn dead_man(&mut self, beat: u64) {
        if beat > 0 {
            self.send_beat(beat, true);
        }
    }

    fn send_beat(&mut self, seq: u64, dead_man: bool) {
        self.send(EventBody::Beat {
            seq,
            stored_through: self.stored_through,
            live: self.open.iter().map(|call| call.recording).collect(),
            dead_man,
        });
    }

    /// Its last beat of the old epoch comes back; its calls go on.
    fn restart(&mut self) {
        if self.dice.once_in(2) {
            self.dead_man(self.beat);
        }
        self.epoch += 1;
        self.beat = 0;
        if self.dice.once_in(3) {
            self.edge = name(self.journal.0.as_bytes()[15] % 10, self.epoch);
        }
    }
}

fn name(number: u8, version: u64) -> EdgeId {
    EdgeId::new(format!("edge-{number}.v{version}")).expect("letters, digits, dots and dashes")
}

fn facts(dice: &mut Dice) -> CallFacts {
    let names = ["Eva Novák", "Jürgen Groß", "Ana Kovač", "Łukasz Żak", "Siân O'Brien"];
    let party = |dice: &mut Dice, id: &str| Party {
        id: id.to_owned(),
        name: Some(Personal::from(names[dice.below(5) as usize])),
        aor: Some(Personal::new(format!(
            "sip:+386-1-{}@pbx.example.com",
            100_000 + dice.below(900_000)
        ))),
        number: None,
        role: None,
    };
    let stream = |label: &str, sender: &str| StreamFact {
        label: label.to_owned(),
        senders: vec![sender.to_owned()],
    };
    CallFacts {
        participants: vec![party(dice, "a"), party(dice, "b")],
        streams: vec![stream("1", "a"), stream("2", "b")],
        call_ids: BTreeSet::from([format!("ucid-{}", dice.below(1_000_000))]),
        extensions: vec![("queue".to_owned(), Personal::from("Podpora"))],
    }
}

#[test]
fn a_history_has_every_event_and_repeats_itself() {
    let events = history(7, 60);
    assert_eq!(events, history(7, 60));
    let kinds: BTreeSet<String> = events
        .iter()
        .map(|event| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    let expected =
        ["beat", "command_done", "ended", "heard", "mark", "metadata", "started", "stored"];
    assert_eq!(kinds, expected.map(str::to_owned).into());
    let delivered = redelivered(7, &events);
    assert!(delivered.len() > events.len());
    assert!(events.iter().all(|event| delivered.contains(event)));
}
