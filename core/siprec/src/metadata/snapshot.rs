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
    pub fn speakers<'a>(
        &'a self,
        label: &Label,
    ) -> impl Iterator<Item = &'a Participant> + use<'a> {
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

#[cfg(test)]
mod tests {
    use super::super::xml;
    use super::*;

    fn told(documents: &[&str]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for content in documents {
            let text = format!("<recording>{content}</recording>");
            snapshot.fold(xml::read(text.as_bytes()).unwrap());
        }
        snapshot
    }

    fn heard(snapshot: &Snapshot, label: &str) -> Vec<String> {
        let speakers = snapshot.speakers(&Label(label.to_owned()));
        speakers.map(|participant| participant.id.0.clone()).collect()
    }

    const TWO: &str = "<participant id='a'><aor>1</aor></participant>\
        <participant id='b'><aor>2</aor></participant>\
        <stream id='s1'><label>1</label></stream><stream id='s2'><label>2</label></stream>\
        <participantstreamassoc participant_id='a'><send>s1</send><recv>s2</recv>\
        </participantstreamassoc>\
        <participantstreamassoc participant_id='b'><send>s2</send><recv>s1</recv>\
        </participantstreamassoc>";

    const PARTIAL: &str = "<datamode>partial</datamode>";

    #[test]
    fn a_hold_takes_the_send_away_but_not_the_memory_of_it() {
        // RFC 8068 §3.2.2: on hold the association comes without send and recv.
        let hold = format!("{PARTIAL}<participantstreamassoc participant_id='a'/>");
        let call = told(&[TWO, &hold]);
        assert!(!call.senders.contains_key(&StreamId("s1".into())));
        assert!(!call.receivers.contains_key(&StreamId("s2".into())));
        assert_eq!(heard(&call, "1"), ["a"]);
        assert_eq!(heard(&call, "2"), ["b"]);
    }

    #[test]
    fn an_association_that_ends_is_no_sender_any_more() {
        let end = format!(
            "{PARTIAL}<participantstreamassoc participant_id='a'><send>s1</send>\
             <disassociate-time>2024-05-14T09:30:00Z</disassociate-time></participantstreamassoc>"
        );
        assert!(!told(&[TWO, &end]).senders.contains_key(&StreamId("s1".into())));
    }

    #[test]
    fn after_a_transfer_the_new_agent_is_heard_and_the_old_one_still_listed() {
        let transferred = TWO.replace("'b'", "'c'").replace("<aor>2", "<aor>3");
        let call = told(&[TWO, &transferred]);
        assert_eq!(heard(&call, "2"), ["c"]);
        let listed: Vec<_> = call.participants.iter().map(|p| p.id.0.as_str()).collect();
        assert_eq!(listed, ["a", "b", "c"]);
    }

    #[test]
    fn who_was_listed_but_never_heard_goes_with_the_next_complete_document() {
        let call = told(&["<participant id='dummy'/>", TWO]);
        assert_eq!(call.participants.len(), 2);
        let partial = told(&["<participant id='dummy'/>", &format!("{PARTIAL}{TWO}")]);
        assert_eq!(partial.participants.len(), 3);
    }

    #[test]
    fn a_partial_document_that_names_nobody_takes_no_name_away() {
        let call = told(&[TWO, &format!("{PARTIAL}<participant id='a'/>")]);
        assert_eq!(call.participants[0].aor(), Some("1"));
    }

    #[test]
    fn leaving_and_coming_back_are_two_intervals() {
        let at = |element: &str, minute: u32| {
            format!(
                "{PARTIAL}<participantsessionassoc participant_id='a' session_id='s'>\
                 <{element}>2024-05-14T09:{minute}:00Z</{element}></participantsessionassoc>"
            )
        };
        let call = told(&[
            &at("associate-time", 30),
            &at("disassociate-time", 31),
            &at("disassociate-time", 31),
            &at("associate-time", 32),
            &at("disassociate-time", 33),
        ]);
        let minutes: Vec<_> = call
            .associations
            .iter()
            .map(|interval| {
                (
                    &interval.from.as_ref().unwrap().text[14..16],
                    &interval.to.as_ref().unwrap().text[14..16],
                )
            })
            .collect();
        assert_eq!(minutes, [("30", "31"), ("32", "33")]);
    }

    #[test]
    fn a_label_that_moves_to_another_stream_takes_the_speaker_with_it() {
        let moved = format!(
            "{PARTIAL}<stream id='s3'><label>1</label></stream>\
             <participantstreamassoc participant_id='b'><send>s3</send></participantstreamassoc>"
        );
        assert_eq!(heard(&told(&[TWO, &moved]), "1"), ["b"]);
    }

    #[test]
    fn an_endless_stream_of_updates_does_not_grow_without_end() {
        let mut snapshot = Snapshot::default();
        for round in 0..40 {
            let many: String = (0..100)
                .map(|n| {
                    let id = round * 100 + n;
                    format!(
                        "<participant id='p{id}' session='s{id}'><send>s{id}</send><x>{id}</x>\
                         <associate-time>{id}</associate-time></participant>\
                         <stream id='s{id}'><label>{id}</label></stream><session id='s{id}'/>\
                         <group id='g{id}'/>"
                    )
                })
                .collect();
            let text = format!("<recording>{PARTIAL}{many}</recording>");
            snapshot.fold(xml::read(text.as_bytes()).unwrap());
        }
        let sizes = [
            snapshot.participants.len(),
            snapshot.streams.len(),
            snapshot.senders.len(),
            snapshot.last_heard.len(),
            snapshot.ever_heard.len(),
            snapshot.sessions.len(),
            snapshot.groups.len(),
            snapshot.associations.len(),
            snapshot.call_ids.len(),
            snapshot.extensions.len(),
        ];
        assert_eq!(sizes, [LIMIT_ENTRIES; 10]);
    }
}
