//! SIPREC metadata in our words: from siprec's [`Snapshot`] to the model's [`CallFacts`], and
//! from communication sessions (CS, RFC 7865 §6.3) to recordings.

use std::collections::{BTreeMap, BTreeSet};

use model::call::{CallFacts, Party, StreamFact};
use model::numbering::{self, NumberingPlan};
use model::{Personal, RecordingId, SessionId};
use serde::{Deserialize, Serialize};
use siprec::Snapshot;
use siprec::metadata::{Label, Participant, ParticipantId, Scope, Stream};

/// Which recordings a recording session makes.
///
/// Almost always one. A turret keeps one session open for days and reports call after call, or
/// several at once, as communication sessions (RFC 8068 §3.5); each of those becomes a recording
/// of its own. But some SBCs give a call another CS id when it is transferred, on the streams it
/// had before, and that is still the same recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Communications {
    /// The id under which the first recording is known now.
    first: Option<String>,
    /// Of the others.
    further: BTreeMap<String, Further>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Further {
    recording: RecordingId,
    over: bool,
    /// Counts up in the order in which they began.
    #[serde(default)]
    number: u64,
}

/// What a metadata document changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Began(RecordingId),
    Ended(RecordingId),
}

/// An SRC cannot make us keep more recordings in one session at a time than this, nor remember
/// more that are over.
const MAX_FURTHER: usize = 256;

impl Communications {
    pub fn update(&mut self, session: SessionId, snapshot: &Snapshot) -> Vec<Change> {
        let stopped = |id: &str| {
            snapshot.sessions.iter().any(|known| known.id.0 == id && known.stop.is_some())
        };
        let mut active: Vec<&str> = Vec::new();
        for stream in &snapshot.streams {
            if let Some(id) = &stream.session
                && stream.label.is_some()
                && !stopped(&id.0)
                && !active.contains(&id.0.as_str())
            {
                active.push(&id.0);
            }
        }
        if self.first.is_none() {
            let listed = || snapshot.sessions.first().map(|known| known.id.0.as_str());
            self.first = active.first().copied().or_else(listed).map(str::to_owned);
        }
        let mut changes = Vec::new();
        for id in &active {
            let Some(first) = self.first.as_deref() else { break };
            if *id == first || self.further.contains_key(*id) {
                continue;
            }
            if active.contains(&first) || stopped(first) {
                if self.further().count() >= MAX_FURTHER {
                    tracing::warn!(%session, "too many calls at a time in one session");
                    continue;
                }
                self.forget_oldest_over(&active);
                let newest = self.further.values().map(|further| further.number).max();
                let number = newest.map_or(0, |newest| newest.saturating_add(1));
                let recording = session.further_recording(id);
                let further = Further { recording, over: false, number };
                self.further.insert((*id).to_owned(), further);
                changes.push(Change::Began(recording));
            } else {
                self.first = Some((*id).to_owned());
            }
        }
        for (id, further) in &mut self.further {
            if !further.over && stopped(id) {
                further.over = true;
                changes.push(Change::Ended(further.recording));
            }
        }
        changes
    }

    /// Makes room for one more. What the SRC still tells of is remembered, or it would begin again.
    fn forget_oldest_over(&mut self, active: &[&str]) {
        if self.further.len() < MAX_FURTHER {
            return;
        }
        let oldest = self
            .further
            .iter()
            .filter(|(id, further)| further.over && !active.contains(&id.as_str()))
            .min_by_key(|(_, further)| further.number)
            .map(|(id, _)| id.clone());
        if let Some(id) = oldest {
            self.further.remove(&id);
        }
    }

    /// Further recordings that have not ended.
    pub fn further(&self) -> impl Iterator<Item = RecordingId> {
        self.further.values().filter(|further| !further.over).map(|further| further.recording)
    }

    /// A further recording was ended by command.
    pub fn end(&mut self, recording: RecordingId) {
        for further in self.further.values_mut().filter(|known| known.recording == recording) {
            further.over = true;
        }
    }

    /// The CS of a recording; `None` when the session has only one, to which all belongs.
    fn id_of(&self, session: SessionId, recording: RecordingId) -> Option<&str> {
        if self.further.is_empty() {
            return None;
        }
        if recording == session.first_recording() {
            return self.first.as_deref();
        }
        self.further
            .iter()
            .find(|(_, further)| further.recording == recording)
            .map(|(id, _)| id.as_str())
    }

    /// Whether the stream with this label belongs to the recording. A stream of which the SRC
    /// says nothing belongs to all of them: better in one too many than lost.
    pub fn has_stream(
        &self,
        session: SessionId,
        recording: RecordingId,
        snapshot: &Snapshot,
        label: Option<&str>,
    ) -> bool {
        let Some(id) = self.id_of(session, recording) else { return true };
        let stream = label.and_then(|label| snapshot.stream(&Label(label.to_owned())));
        stream.and_then(|stream| stream.session.as_ref()).is_none_or(|owner| owner.0 == id)
    }

    /// What is known of one recording.
    pub fn facts(
        &self,
        session: SessionId,
        recording: RecordingId,
        snapshot: &Snapshot,
        headers: &[(String, String)],
        numbering: Option<&NumberingPlan>,
    ) -> CallFacts {
        let id = self.id_of(session, recording);
        let ours = |owner: Option<&str>| id.is_none() || owner.is_none() || owner == id;
        let streams: Vec<&Stream> = snapshot
            .streams
            .iter()
            .filter(|stream| ours(stream.session.as_ref().map(|owner| owner.0.as_str())))
            .collect();
        let stream_facts = stream_facts(snapshot, &streams);
        let heard: BTreeSet<&str> =
            stream_facts.iter().flat_map(|fact| fact.senders.iter().map(String::as_str)).collect();
        let takes_part = |participant: &ParticipantId| {
            id.is_none()
                || heard.contains(participant.0.as_str())
                || snapshot.associations.iter().any(|association| {
                    association.participant.as_ref() == Some(participant)
                        && association.session.as_ref().is_some_and(|cs| Some(cs.0.as_str()) == id)
                })
        };
        let extensions = snapshot
            .extensions
            .iter()
            .filter(|extension| match &extension.scope {
                Scope::Session(owner) => ours(Some(&owner.0)),
                _ => true,
            })
            .flat_map(|extension| extension.entries())
            .map(|(name, value)| (name, Personal::new(value.to_owned())));
        let headers =
            headers.iter().map(|(name, value)| (name.clone(), Personal::new(value.clone())));
        CallFacts {
            participants: snapshot
                .participants
                .iter()
                .filter(|participant| takes_part(&participant.id))
                .map(|participant| party(participant, numbering))
                .collect(),
            streams: stream_facts,
            call_ids: snapshot.call_ids.clone(),
            extensions: headers.chain(extensions).collect(),
        }
    }
}

fn party(participant: &Participant, plan: Option<&NumberingPlan>) -> Party {
    let number = participant.aor().and_then(|address| match plan {
        Some(plan) => plan.e164(address),
        None => numbering::international(address),
    });
    Party {
        number: number.map(Personal::new),
        id: participant.id.0.clone(),
        name: participant.name().map(Personal::from),
        aor: participant.aor().map(Personal::from),
        role: participant.role.map(|role| role.as_str().to_owned()),
    }
}

/// One fact per label, in the order of the metadata: what a label meant last.
fn stream_facts(snapshot: &Snapshot, streams: &[&Stream]) -> Vec<StreamFact> {
    let mut facts: Vec<StreamFact> = Vec::new();
    for stream in streams {
        let Some(label) = &stream.label else { continue };
        let senders: Vec<String> =
            snapshot.speakers(label).map(|participant| participant.id.0.clone()).collect();
        match facts.iter_mut().find(|fact| fact.label == label.0) {
            Some(fact) => fact.senders = senders,
            None => facts.push(StreamFact { label: label.0.clone(), senders }),
        }
    }
    facts
}

/// Ids by which an INVITE's call is known elsewhere: the Call-ID, then what its headers name.
pub fn call_ids(call_id: &str, headers: &[(String, String)]) -> Vec<String> {
    let mut ids = vec![call_id.to_owned()];
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        // `Session-ID` (RFC 7989), `Cisco-Guid`, `User-to-User` (Avaya's UCID), `X-…-ID`.
        let names_an_id =
            ["id", "guid", "ucid"].iter().any(|end| name.ends_with(end)) || name == "user-to-user";
        // The value of a header may have parameters; the id stands before them.
        let id = value.split(';').next().unwrap_or_default().trim();
        if names_an_id && !id.is_empty() && id.len() <= 256 && !ids.iter().any(|known| known == id)
        {
            ids.push(id.to_owned());
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use siprec::metadata::{CommunicationSession, MetadataTime, NameId, Role, StreamId};

    use super::*;

    fn session() -> SessionId {
        SessionId::at(1_700_000_000_000, [1; 10])
    }

    fn cs(id: &str) -> siprec::metadata::SessionId {
        siprec::metadata::SessionId(id.to_owned())
    }

    /// Streams as (label, CS, sender).
    fn snapshot(streams: &[(&str, &str, &str)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (label, owner, sender) in streams {
            let participant = ParticipantId((*sender).to_owned());
            if !snapshot.participants.iter().any(|known| known.id == participant) {
                let aor = Some(format!("sip:{sender}@example.com"));
                snapshot.participants.push(Participant {
                    id: participant.clone(),
                    names: vec![NameId { name: None, aor }],
                    role: (*sender == "ana").then_some(Role::Caller),
                });
            }
            if !snapshot.sessions.iter().any(|known| known.id.0 == *owner) {
                snapshot.sessions.push(CommunicationSession {
                    id: cs(owner),
                    sip_session_ids: Vec::new(),
                    group: None,
                    start: None,
                    stop: None,
                    reasons: Vec::new(),
                });
            }
            snapshot.streams.push(Stream {
                id: StreamId(format!("stream-{label}")),
                label: Some(Label((*label).to_owned())),
                session: Some(cs(owner)),
                mode: None,
            });
            snapshot.last_heard.insert(Label((*label).to_owned()), vec![participant]);
        }
        snapshot
    }

    #[test]
    fn participants_keep_the_order_of_the_document() {
        let snapshot = snapshot(&[("2", "a", "zoe"), ("1", "a", "ana")]);
        let mut all = Communications::default();
        assert_eq!(all.update(session(), &snapshot), []);
        let headers = [("X-Trunk".to_owned(), "7".to_owned())];
        let facts = all.facts(session(), session().first_recording(), &snapshot, &headers, None);
        let ids: Vec<_> = facts.participants.iter().map(|party| party.id.as_str()).collect();
        assert_eq!(ids, ["zoe", "ana"]);
        assert_eq!(facts.participants[1].role.as_deref(), Some("caller"));
        assert_eq!(facts.speakers("1").next().unwrap().id, "ana");
        assert_eq!(facts.extensions[0].0, "X-Trunk");
    }

    #[test]
    fn two_calls_at_once_are_two_recordings_with_their_own_people() {
        let snapshot = snapshot(&[("1", "a", "ana"), ("2", "b", "bob")]);
        let mut all = Communications::default();
        let second = session().further_recording("b");
        assert_eq!(all.update(session(), &snapshot), [Change::Began(second)]);
        assert_eq!(all.update(session(), &snapshot), [], "told again");
        let facts = all.facts(session(), second, &snapshot, &[], None);
        assert_eq!(facts.participants.len(), 1);
        assert_eq!(facts.participants[0].id, "bob");
        assert!(all.has_stream(session(), second, &snapshot, Some("2")));
        assert!(!all.has_stream(session(), second, &snapshot, Some("1")));
        assert!(all.has_stream(session(), second, &snapshot, Some("unknown")));
    }

    #[test]
    fn a_call_that_follows_a_stopped_one_is_a_recording_of_its_own_and_ends_by_itself() {
        let mut view = snapshot(&[("1", "a", "ana")]);
        let mut all = Communications::default();
        all.update(session(), &view);
        let time = Some(MetadataTime::read("2026-11-22T14:00:00Z"));
        view.sessions[0].stop = time.clone();
        view.streams.clear();
        let next = snapshot(&[("1", "b", "bob")]);
        view.streams.extend(next.streams);
        view.sessions.extend(next.sessions);
        let second = session().further_recording("b");
        assert_eq!(all.update(session(), &view), [Change::Began(second)]);
        assert_eq!(all.further().collect::<Vec<_>>(), [second]);
        view.sessions[1].stop = time;
        assert_eq!(all.update(session(), &view), [Change::Ended(second)]);
        assert_eq!(all.further().count(), 0);
    }

    #[test]
    fn a_turret_makes_a_recording_of_each_call_for_as_many_days_as_it_likes() {
        let time = Some(MetadataTime::read("2026-11-22T14:00:00Z"));
        let mut all = Communications::default();
        all.update(session(), &snapshot(&[("1", "a", "ana")]));
        for number in 0..3 * MAX_FURTHER {
            let id = format!("cs-{number}");
            let recording = session().further_recording(&id);
            let mut view = snapshot(&[("1", "a", "ana"), ("2", &id, "bob")]);
            assert_eq!(all.update(session(), &view), [Change::Began(recording)], "{id}");
            view.sessions[1].stop = time.clone();
            assert_eq!(all.update(session(), &view), [Change::Ended(recording)], "{id}");
        }
        assert_eq!(all.further.len(), MAX_FURTHER, "memory does not grow for ever");
    }

    #[test]
    fn more_calls_at_a_time_than_a_session_may_have_make_no_recordings() {
        let ids: Vec<String> = (0..MAX_FURTHER + 2).map(|number| number.to_string()).collect();
        let streams: Vec<_> = ids.iter().map(|id| (id.as_str(), id.as_str(), "ana")).collect();
        let view = snapshot(&streams);
        let mut all = Communications::default();
        assert_eq!(all.update(session(), &view).len(), MAX_FURTHER);
        // One that a command ended does not begin again, and makes room for another.
        let stopped = all.further().next().unwrap();
        all.end(stopped);
        let late = session().further_recording(&ids[MAX_FURTHER + 1]);
        assert_eq!(all.update(session(), &view), [Change::Began(late)]);
        assert!(all.further().all(|recording| recording != stopped));
    }

    #[test]
    fn a_transfer_under_another_cs_id_goes_on_as_one_recording() {
        let mut all = Communications::default();
        all.update(session(), &snapshot(&[("1", "a", "ana")]));
        assert_eq!(all.update(session(), &snapshot(&[("1", "b", "ana")])), []);
        assert_eq!(all.further().count(), 0);
    }

    #[test]
    fn ids_are_taken_from_headers_that_name_ids() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let headers = [
            header("Session-ID", "ab12;remote=0"),
            header("User-to-User", "00FA08;encoding=hex"),
            header("X-Greeting", "hello"),
            header("X-Call-Id", "call-1"),
            header("Cisco-Guid", ""),
        ];
        assert_eq!(call_ids("call-1", &headers), ["call-1", "ab12", "00FA08"]);
    }
}
