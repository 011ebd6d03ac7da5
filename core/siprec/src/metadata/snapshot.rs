//! Everything an SRC has told so far, as one view (RFC 7865 §5.1, §6).
//!
//! RFC 7865 flattens a graph into XML: participants and streams are listed side by side and
//! joined by id in `participantstreamassoc`. The only thing this shares with the media is the SDP
//! label, so label to speaker is the one question a recorder asks it.
//!
//! A recording outlives what the metadata says last. Before hanging up, some SRCs send that
//! nobody sends anything any more (Ribbon in BYE); after a transfer the first agent is gone.
//! So whoever was heard stays, and a stream keeps its last speakers until it has new ones.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::document::{
    Association, CommunicationSession, DataMode, Document, Extension, Group, Label, NameId,
    Participant, ParticipantId, Stream, StreamId,
};

/// More of anything than this is ignored: an SRC cannot fill our memory by one update a second.
const LIMIT_ENTRIES: usize = 1024;

/// One view of the call. Folding the same document twice changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// In the order in which they were first listed.
    pub participants: Vec<Participant>,
    pub streams: Vec<Stream>,
    /// Who is heard on a stream now: `participantstreamassoc/send` (§6.8). A mixed stream has
    /// several senders.
    pub senders: BTreeMap<StreamId, Vec<ParticipantId>>,
    /// Who hears a stream now: `participantstreamassoc/recv`.
    pub receivers: BTreeMap<StreamId, Vec<ParticipantId>>,
    /// Who was last heard on the m-line with this label.
    pub last_heard: BTreeMap<Label, Vec<ParticipantId>>,
    /// Everybody who ever sent anything.
    pub ever_heard: BTreeSet<ParticipantId>,
    pub sessions: Vec<CommunicationSession>,
    pub groups: Vec<Group>,
    /// Intervals of taking part; a participant can leave and come back (§6.6).
    pub associations: Vec<Association>,
    /// Every id by which somebody may look for this call. Only ever grows.
    pub call_ids: BTreeSet<String>,
    /// What vendors add. Only ever grows.
    pub extensions: Vec<Extension>,
}

impl Snapshot {
    /// Takes in a document, complete or partial.
    pub fn fold(&mut self, document: Document) {
        if document.mode == DataMode::Complete {
            self.forget_what_is_not_in(&document);
        }
        for participant in document.participants {
            self.fold_participant(participant);
        }
        for stream in document.streams {
            upsert(&mut self.streams, stream, |old, new| old.id == new.id, fold_stream);
        }
        for session in document.sessions {
            upsert(&mut self.sessions, session, |old, new| old.id == new.id, fold_session);
        }
        for group in document.groups {
            upsert(
                &mut self.groups,
                group,
                |old, new| old.id == new.id,
                |old, new| {
                    old.from = new.from.or(old.from.take());
                    old.to = new.to.or(old.to.take());
                },
            );
        }
        // An association replaces all that was said about this participant (§6.8.1), and several
        // in one document add up.
        let associated: BTreeSet<_> =
            document.stream_associations.iter().map(|a| a.participant.clone()).collect();
        for ids in self.senders.values_mut().chain(self.receivers.values_mut()) {
            ids.retain(|id| !associated.contains(id));
        }
        for association in document.stream_associations {
            if association.to.is_some() {
                continue;
            }
            let participant = association.participant;
            for (streams, by_stream) in [
                (association.sends, &mut self.senders),
                (association.receives, &mut self.receivers),
            ] {
                for stream in streams {
                    add(by_stream, stream, &participant);
                }
            }
        }
        self.senders.retain(|_, ids| !ids.is_empty());
        self.receivers.retain(|_, ids| !ids.is_empty());
        for association in document.associations {
            self.fold_association(association);
        }
        self.remember_who_is_heard();
        for id in document.call_ids {
            if self.call_ids.len() < LIMIT_ENTRIES {
                self.call_ids.insert(id);
            }
        }
        for extension in document.extensions {
            if self.extensions.len() < LIMIT_ENTRIES && !self.extensions.contains(&extension) {
                self.extensions.push(extension);
            }
        }
    }

    /// The people heard on the m-line with this label, now or, if nobody is, last.
    ///
    /// Empty until the SRC says; metadata may come after the media, in an UPDATE or re-INVITE.
    pub fn speakers(&self, label: &Label) -> impl Iterator<Item = &Participant> {
        let ids = self.last_heard.get(label).map(Vec::as_slice).unwrap_or_default();
        ids.iter().filter_map(|id| self.participant(id))
    }

    pub fn participant(&self, id: &ParticipantId) -> Option<&Participant> {
        self.participants.iter().find(|participant| participant.id == *id)
    }

    /// The stream that an m-line with this label carries.
    pub fn stream(&self, label: &Label) -> Option<&Stream> {
        // The last: an SRC that uses a label for a new stream need not say that the old is gone.
        self.streams.iter().rev().find(|stream| stream.label.as_ref() == Some(label))
    }

    fn forget_what_is_not_in(&mut self, document: &Document) {
        let listed: BTreeSet<_> = document.participants.iter().map(|p| &p.id).collect();
        self.participants.retain(|participant| {
            // Avaya announces a dummy first, which is never heard and must not stay.
            listed.contains(&participant.id) || self.ever_heard.contains(&participant.id)
        });
        let streams: BTreeSet<_> = document.streams.iter().map(|stream| &stream.id).collect();
        self.streams.retain(|stream| streams.contains(&stream.id));
        self.senders.clear();
        self.receivers.clear();
    }

    fn fold_participant(&mut self, new: Participant) {
        upsert(
            &mut self.participants,
            new,
            |old, new| old.id == new.id,
            |old, new| {
                // A bare reference, as in Ribbon's BYE, must not take the name away.
                if new.names.iter().any(|entry| *entry != NameId::default()) {
                    old.names = new.names;
                }
                old.role = new.role.or(old.role);
            },
        );
    }

    /// Ends the interval that is open, or opens another.
    fn fold_association(&mut self, new: Association) {
        let same_interval = |old: &Association| {
            let same_pair = old.session == new.session && old.participant == new.participant;
            same_pair
                && match &new.from {
                    Some(_) => old.from == new.from,
                    None => old.to.is_none() || old.to == new.to,
                }
        };
        match self.associations.iter().rposition(same_interval) {
            Some(known) => {
                let old = &mut self.associations[known];
                old.to = new.to.or(old.to.take());
            }
            None if self.associations.len() >= LIMIT_ENTRIES => {}
            None => self.associations.push(new),
        }
    }

    fn remember_who_is_heard(&mut self) {
        for stream in &self.streams {
            let Some(senders) = self.senders.get(&stream.id) else { continue };
            if let Some(label) = &stream.label
                && self.last_heard.len() < LIMIT_ENTRIES
            {
                self.last_heard.insert(label.clone(), senders.clone());
            }
            let room = LIMIT_ENTRIES.saturating_sub(self.ever_heard.len());
            self.ever_heard.extend(senders.iter().take(room).cloned());
        }
    }
}

fn upsert<T>(
    known: &mut Vec<T>,
    new: T,
    same: impl Fn(&T, &T) -> bool,
    merge: impl FnOnce(&mut T, T),
) {
    match known.iter().position(|old| same(old, &new)) {
        Some(index) => merge(&mut known[index], new),
        None if known.len() >= LIMIT_ENTRIES => {}
        None => known.push(new),
    }
}

fn fold_stream(old: &mut Stream, new: Stream) {
    old.label = new.label.or(old.label.take());
    old.session = new.session.or(old.session.take());
    old.mode = new.mode.or(old.mode.take());
}

fn fold_session(old: &mut CommunicationSession, new: CommunicationSession) {
    if !new.sip_session_ids.is_empty() {
        old.sip_session_ids = new.sip_session_ids;
    }
    if !new.reasons.is_empty() {
        old.reasons = new.reasons;
    }
    old.group = new.group.or(old.group.take());
    old.start = new.start.or(old.start.take());
    old.stop = new.stop.or(old.stop.take());
}

fn add(
    by_stream: &mut BTreeMap<StreamId, Vec<ParticipantId>>,
    stream: StreamId,
    participant: &ParticipantId,
) {
    if by_stream.len() >= LIMIT_ENTRIES && !by_stream.contains_key(&stream) {
        return;
    }
    let ids = by_stream.entry(stream).or_default();
    if ids.len() < LIMIT_ENTRIES && !ids.contains(participant) {
        ids.push(participant.clone());
    }
}
