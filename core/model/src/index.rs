//! How events become the index: pure folds that every index engine stores the result of.
//!
//! Constraints that tests hold (`any_order_gives_one_index`):
//!
//! - Scalars are guarded by journal position: an older value never replaces a newer one.
//! - What adds (call ids, flags, marks, metadata documents) is merged by union.
//! - Status is not stored but derived from the two folds, so that no order of arrival can leave
//!   a recording in a state that its facts do not support.
//! - An event about a recording may come before its `started`: the recording is kept, and
//!   [`RecordingState::view`] shows it once it has started.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::call::CallFacts;
use crate::event::{EventBody, RecordingEvent};
use crate::id::{CommandId, EdgeId, JournalId, RecordingId, SessionId, TenantId};
use crate::recording::{Mark, MarkKind, Participant, Recording, Status, Track};
use crate::time::{Position, WallTime};

/// A value and the position it was told at. The newest position wins; on a tie the greater
/// value, so that the result does not depend on the order even then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Guarded<T> {
    pub position: Position,
    pub value: T,
}

fn keep_newest<T: Ord>(slot: &mut Option<Guarded<T>>, position: Position, value: T) {
    let newer = Guarded { position, value };
    if slot.as_ref().is_none_or(|held| *held < newer) {
        *slot = Some(newer);
    }
}

/// Keeps the greater of two values told under one key, so that the order cannot matter.
fn keep_greatest<K: Ord, V: Ord>(map: &mut BTreeMap<K, V>, key: K, value: V) {
    match map.entry(key) {
        Entry::Vacant(slot) => {
            slot.insert(value);
        }
        Entry::Occupied(mut slot) if *slot.get() < value => {
            slot.insert(value);
        }
        Entry::Occupied(_) => {}
    }
}

/// What is known of one recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingState {
    pub tenant: TenantId,
    pub id: RecordingId,
    /// As the newest event calls it: an edge can be renamed between two starts.
    pub edge: EdgeId,
    pub journal: JournalId,
    /// Position of the newest event.
    pub newest: Position,
    pub started: Option<Guarded<Started>>,
    pub facts: Option<Guarded<CallFacts>>,
    pub ended: Option<Guarded<Ended>>,
    pub call_ids: BTreeSet<String>,
    pub flags: BTreeSet<String>,
    /// What the recorder hears now, see [`EventBody::Heard`]; the finaliser's flags replace it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard: Option<Guarded<BTreeSet<String>>>,
    /// Marks told while the call lasted, keyed by position; the finaliser's replace them.
    pub live_marks: BTreeMap<Position, LiveMark>,
    /// Documents as received, keyed by position.
    pub documents: BTreeMap<Position, Document>,
    /// The newest build of playable audio.
    pub finalized: Option<Finalized>,
    /// Set by a purge; guards against holds (`purging`) and says that nothing remains.
    pub purge: Option<Purge>,
    /// Holds placed and not released. A purge is refused while it is above 0.
    pub holds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Started {
    pub at: WallTime,
    pub session: SessionId,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ended {
    pub at: WallTime,
    pub reason: String,
    pub duration_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LiveMark {
    pub at: WallTime,
    pub kind: MarkKind,
    pub label: Option<String>,
    pub begins: bool,
    pub detail: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Document {
    pub at: WallTime,
    /// Absent when it is larger than an event may be: it is in the packets object.
    pub text: Option<String>,
}

/// What the finaliser built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finalized {
    /// Rises with every build; names the prefix of the outputs.
    pub generation: u32,
    /// The journal position up to which segments went in.
    pub through: Position,
    /// Whether the end of the call is in it.
    pub complete: bool,
    pub duration_ms: u64,
    pub tracks: Vec<Track>,
    /// Everything that the original holds of RTP ports: also pictures, duplicates and what is not
    /// of the stream. Absent of what was built before it was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    pub marks: Vec<Mark>,
    pub flags: BTreeSet<String>,
    /// Hex SHA-256 of the manifest.
    pub sha256: String,
    /// The recording's data keys, sealed to its tenant: the only place they are kept once the
    /// segments are gone. Base64.
    pub sealed_keys: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purge {
    Purging,
    Deleted,
}

impl RecordingState {
    fn new(event: &RecordingEvent, tenant: &TenantId, id: RecordingId) -> Self {
        Self {
            tenant: tenant.clone(),
            id,
            edge: event.edge.clone(),
            journal: event.journal,
            newest: event.position,
            started: None,
            facts: None,
            ended: None,
            call_ids: BTreeSet::new(),
            flags: BTreeSet::new(),
            heard: None,
            live_marks: BTreeMap::new(),
            documents: BTreeMap::new(),
            finalized: None,
            purge: None,
            holds: 0,
        }
    }

    /// Folds `event` into `held`, which is what the index has of the same recording.
    ///
    /// `None` for events about a whole journal: those go into [`JournalState::fold`].
    pub fn fold(held: Option<Self>, event: &RecordingEvent) -> Option<Self> {
        let (tenant, id) = event.recording()?;
        let mut state = held.unwrap_or_else(|| Self::new(event, tenant, id));
        // What was erased does not come back with an event that is delivered once more.
        if state.purge == Some(Purge::Deleted) {
            return Some(state);
        }
        let position = event.position;
        if state.newest < position {
            state.newest = position;
            state.edge = event.edge.clone();
        }
        match &event.body {
            EventBody::Started { session, call_ids, flags, .. } => {
                let started = Started { at: event.at, session: *session };
                keep_newest(&mut state.started, position, started);
                state.call_ids.extend(call_ids.iter().cloned());
                state.flags.extend(flags.iter().cloned());
            }
            EventBody::Metadata { facts, flags, document, .. } => {
                state.call_ids.extend(facts.call_ids.iter().cloned());
                state.flags.extend(flags.iter().cloned());
                keep_newest(&mut state.facts, position, facts.clone());
                let document = Document { at: event.at, text: document.clone() };
                keep_greatest(&mut state.documents, position, document);
            }
            EventBody::Mark { mark, label, begins, detail, .. } => {
                let mark = LiveMark {
                    at: event.at,
                    kind: *mark,
                    label: label.clone(),
                    begins: *begins,
                    detail: detail.clone(),
                };
                keep_greatest(&mut state.live_marks, position, mark);
            }
            EventBody::Heard { flags, .. } => {
                keep_newest(&mut state.heard, position, flags.clone());
            }
            EventBody::Ended { reason, duration_ms, flags, .. } => {
                let ended =
                    Ended { at: event.at, reason: reason.clone(), duration_ms: *duration_ms };
                keep_newest(&mut state.ended, position, ended);
                state.flags.extend(flags.iter().cloned());
            }
            EventBody::Stored { .. } | EventBody::Beat { .. } | EventBody::CommandDone { .. } => {}
        }
        Some(state)
    }

    /// Takes over what the finaliser built, unless a newer build is known.
    ///
    /// Returns whether `built` is what is held now: a build that lost the race must not replace
    /// the winner, and one whose answer was lost may be told again.
    pub fn finalized(&mut self, built: Finalized) -> bool {
        if self.purge.is_some() {
            return false;
        }
        match &self.finalized {
            Some(held) if held.generation >= built.generation => *held == built,
            _ => {
                self.finalized = Some(built);
                true
            }
        }
    }

    /// Counts one more hold; false once the recording is being purged.
    pub fn place_hold(&mut self) -> bool {
        if self.purge.is_none() {
            self.holds += 1;
        }
        self.purge.is_none()
    }

    /// Claims the recording for a purge; false while it is held. From here on it cannot be held.
    pub fn begin_purge(&mut self) -> bool {
        if self.purge.is_none() && self.holds == 0 {
            self.purge = Some(Purge::Purging);
        }
        self.purge.is_some()
    }

    /// Forgets who was on the call, what was said, and the keys to it. When it was, how long and
    /// on which edge remains, and says that there was something.
    pub fn end_purge(&mut self) {
        self.purge = Some(Purge::Deleted);
        self.facts = None;
        self.finalized = None;
        self.call_ids.clear();
        self.flags.clear();
        self.heard = None;
        self.live_marks.clear();
        self.documents.clear();
    }

    /// Where this recording is in its life, given what is known of its journal.
    pub fn status(&self, journal: &JournalState) -> Status {
        match self.purge {
            Some(Purge::Purging) => return Status::Purging,
            Some(Purge::Deleted) => return Status::Deleted,
            None => {}
        }
        let built_complete = self.finalized.as_ref().is_some_and(|built| built.complete);
        match &self.ended {
            Some(_) if built_complete => Status::Stored,
            Some(ended) if journal.stored_through >= ended.position => Status::Finalizing,
            // Ended, but its last seconds are still on an edge: lost with the edge, or on their way.
            _ if journal.is_dead() => Status::Partial,
            Some(_) => Status::Finalizing,
            None => Status::Recording,
        }
    }

    /// Whether the finaliser has something to build that it has not built yet.
    pub fn needs_build(&self, journal: &JournalState) -> bool {
        if self.started.is_none() {
            return false;
        }
        let built_through = self.finalized.as_ref().map(|built| built.through);
        match self.status(journal) {
            Status::Finalizing => {
                self.ended.as_ref().is_some_and(|ended| journal.stored_through >= ended.position)
            }
            Status::Partial => built_through.is_none_or(|built| built < journal.stored_through),
            Status::Recording | Status::Stored | Status::Purging | Status::Deleted => false,
        }
    }

    /// What people see. `None` until the recording's `started` is known.
    pub fn view(&self, journal: &JournalState) -> Option<Recording> {
        let started = &self.started.as_ref()?.value;
        let status = self.status(journal);
        let ended = self.ended.as_ref().map(|ended| &ended.value);
        let built = self.finalized.as_ref().filter(|_| self.purge.is_none());
        let facts = self.facts.as_ref().map(|facts| &facts.value);
        let mut flags = self.flags.clone();
        match (built, &self.heard) {
            (Some(built), _) => flags.extend(built.flags.iter().cloned()),
            (None, Some(heard)) => flags.extend(heard.value.iter().cloned()),
            (None, None) => {}
        }
        let end_reason = match (ended, status) {
            (Some(ended), _) => Some(ended.reason.clone()),
            (None, Status::Partial) => Some("edge_lost".to_owned()),
            (None, _) => None,
        };
        Some(Recording {
            id: self.id,
            status,
            started_at: started.at,
            ended_at: ended.map(|ended| ended.at),
            duration_ms: built
                .map(|built| built.duration_ms)
                .or(ended.map(|ended| ended.duration_ms)),
            edge: self.edge.clone(),
            call_ids: self.call_ids.iter().cloned().collect(),
            participants: facts
                .into_iter()
                .flat_map(|facts| &facts.participants)
                .map(|party| Participant {
                    name: party.name.clone(),
                    aor: party.aor.clone(),
                    number: party.number.clone(),
                    role: party.role.clone(),
                })
                .collect(),
            tracks: built.map(|built| built.tracks.clone()).unwrap_or_default(),
            flags: flags.into_iter().collect(),
            marks: built
                .map(|built| built.marks.clone())
                .unwrap_or_else(|| self.marks_so_far(started.at)),
            sha256: built.map(|built| built.sha256.clone()),
            playable: built.is_some(),
            end_reason,
        })
    }

    /// Live marks on the wall clock: good enough to show, replaced when the call is built.
    fn marks_so_far(&self, started_at: WallTime) -> Vec<Mark> {
        let mut marks: Vec<Mark> = Vec::new();
        for live in self.live_marks.values() {
            let at_ms = live.at.ms_since(started_at);
            if live.begins {
                marks.push(Mark {
                    kind: live.kind,
                    from_ms: at_ms,
                    to_ms: at_ms,
                    track: None,
                    detail: live.detail.clone(),
                });
            } else if let Some(open) = marks.iter_mut().rev().find(|mark| mark.kind == live.kind) {
                open.to_ms = at_ms;
            }
        }
        marks
    }
}

/// What is known of one journal, that is of one edge and its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalState {
    pub journal: JournalId,
    /// As the newest event calls it: an edge can be renamed between two starts.
    pub edge: EdgeId,
    /// Epoch and position of the newest event.
    pub newest: (u64, Position),
    /// Everything up to here is in the object store.
    pub stored_through: Position,
    /// Epoch and number of the newest beat.
    pub newest_beat: Option<(u64, u64)>,
    /// Epoch and number of the newest dead-man's message.
    pub newest_dead_man: Option<(u64, u64)>,
    /// When the newest event was sent, by the edge's clock.
    pub last_seen: WallTime,
    /// Recordings in progress at the newest beat.
    pub live: Vec<RecordingId>,
    /// Outcomes of commands: done or not, and why.
    pub commands: BTreeMap<CommandId, (bool, String)>,
}

impl JournalState {
    pub fn new(journal: JournalId, edge: EdgeId) -> Self {
        Self {
            journal,
            edge,
            newest: (0, Position(0)),
            stored_through: Position(0),
            newest_beat: None,
            newest_dead_man: None,
            last_seen: WallTime::default(),
            live: Vec::new(),
            commands: BTreeMap::new(),
        }
    }

    /// Folds any event of this journal into what is known.
    pub fn fold(mut self, event: &RecordingEvent) -> Self {
        match &event.body {
            EventBody::Stored { through } => {
                self.stored_through = self.stored_through.max(*through);
            }
            EventBody::Beat { seq, stored_through, live, dead_man } => {
                let beat = Some((event.epoch, *seq));
                self.stored_through = self.stored_through.max(*stored_through);
                if (beat, live) > (self.newest_beat, &self.live) {
                    self.newest_beat = beat;
                    self.live.clone_from(live);
                }
                if *dead_man {
                    self.newest_dead_man = self.newest_dead_man.max(beat);
                }
            }
            EventBody::CommandDone { command, ok, detail } => {
                keep_greatest(&mut self.commands, *command, (*ok, detail.clone()));
            }
            EventBody::Started { .. }
            | EventBody::Metadata { .. }
            | EventBody::Mark { .. }
            | EventBody::Heard { .. }
            | EventBody::Ended { .. } => {}
        }
        self.last_seen = self.last_seen.max(event.at);
        if self.newest < (event.epoch, event.position) {
            self.newest = (event.epoch, event.position);
            self.edge = event.edge.clone();
        }
        self
    }

    /// Takes the edge for dead although no dead-man's message said so: that one may be lost, or
    /// the edge may have died before its first beat. The next beat makes this undone.
    pub fn declare_dead(&mut self) {
        let newest_beat = self.newest_beat.unwrap_or_default();
        self.newest_dead_man = self.newest_dead_man.max(Some(newest_beat));
    }

    /// The edge's newest beat has come back as a dead-man's message: nothing newer arrived in
    /// the 25 s between. A later beat makes this false again.
    pub fn is_dead(&self) -> bool {
        self.newest_dead_man.is_some() && self.newest_dead_man >= self.newest_beat
    }
}
