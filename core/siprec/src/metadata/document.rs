//! One metadata document, as its SRC sent it: the elements of RFC 7865 §6, in their order.
//!
//! Ids are whatever the SRC likes: base64 of a UUID (RFC 7865 §6.10), hex (Avaya), `urn:uuid:`
//! (BroadWorks), a Call-ID (NetSapiens), a phone number (AudioCodes), nothing at all (Avaya).
//! They are compared byte by byte and never interpreted.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::time::MetadataTime;

/// The value of `a=label` on an m-line (RFC 4574), and of `<label>` in a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label(pub String);

/// Does not print: some SRCs use the phone number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ParticipantId(pub String);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId(pub String);

/// The id of a communication session (CS): the call that is recorded, not the recording session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub String);

/// The id of a group of communication sessions, e.g. the legs of a transferred call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupId(pub String);

impl fmt::Debug for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ParticipantId(personal)")
    }
}

/// Whether a document is the whole truth or a change to it (RFC 7865 §5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataMode {
    /// Also what the absence of `datamode` means (§5.1.2).
    #[default]
    Complete,
    Partial,
}

/// What one document says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    pub mode: DataMode,
    pub groups: Vec<Group>,
    pub sessions: Vec<CommunicationSession>,
    pub participants: Vec<Participant>,
    pub streams: Vec<Stream>,
    /// `participantstreamassoc`, or the `send` and `recv` inside a participant.
    pub stream_associations: Vec<StreamAssociation>,
    /// `participantsessionassoc` and `sessionrecordingassoc`.
    pub associations: Vec<Association>,
    /// Every id by which somebody may look for this call.
    pub call_ids: BTreeSet<String>,
    /// Elements of other namespaces and of vendors' extension containers.
    pub extensions: Vec<Extension>,
}

/// A group of communication sessions (RFC 7865 §6.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    pub id: GroupId,
    pub from: Option<MetadataTime>,
    pub to: Option<MetadataTime>,
}

/// A communication session (RFC 7865 §6.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommunicationSession {
    pub id: SessionId,
    pub sip_session_ids: Vec<String>,
    pub group: Option<GroupId>,
    pub start: Option<MetadataTime>,
    pub stop: Option<MetadataTime>,
    pub reasons: Vec<String>,
}

/// A participant (RFC 7865 §6.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    pub id: ParticipantId,
    /// One entry per `nameID`: the same person with, say, a SIP and a tel URI.
    pub names: Vec<NameId>,
    /// Where the SRC tells, in one way or another.
    pub role: Option<Role>,
}

/// A name and an address of record. Does not print.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameId {
    pub name: Option<String>,
    /// A SIP or tel URI, or what the SRC sent in its place, e.g. a bare number.
    pub aor: Option<String>,
}

impl fmt::Debug for NameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameId(personal)")
    }
}

impl Participant {
    /// The first name that is not blank; Ribbon sends a single space.
    pub fn name(&self) -> Option<&str> {
        self.names.iter().find_map(|entry| entry.name.as_deref())
    }

    /// The first address of record.
    pub fn aor(&self) -> Option<&str> {
        self.names.iter().find_map(|entry| entry.aor.as_deref())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Caller,
    Callee,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Callee => "callee",
        }
    }
}

/// A media stream (RFC 7865 §6.7). It may have no m-line: streams that are not delivered to us
/// can be described too (§6.7.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub id: StreamId,
    pub label: Option<Label>,
    pub session: Option<SessionId>,
    /// `mixed` or `separate`, where the SRC tells (BroadWorks, Oracle).
    pub mode: Option<String>,
}

/// All streams that one participant sends and receives from now on (RFC 7865 §6.8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAssociation {
    pub participant: ParticipantId,
    pub sends: Vec<StreamId>,
    pub receives: Vec<StreamId>,
    pub from: Option<MetadataTime>,
    pub to: Option<MetadataTime>,
}

/// One interval in which a participant took part in a CS, or a CS was recorded (RFC 7865 §6.4,
/// §6.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Association {
    pub session: Option<SessionId>,
    /// `None`: the communication session itself and the recording session.
    pub participant: Option<ParticipantId>,
    pub from: Option<MetadataTime>,
    pub to: Option<MetadataTime>,
}

/// What an extension element says something about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    Document,
    Group(GroupId),
    Session(SessionId),
    Participant(ParticipantId),
    Stream(StreamId),
}

/// An element that RFC 7865 does not define. Only its name prints.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    pub scope: Scope,
    /// The names of the elements around it, up to the vendor's outermost, and its own, joined by
    /// `/`. Without namespaces.
    pub element: String,
    /// Name and value of its attributes.
    pub attributes: Vec<(String, String)>,
    /// Its own text, trimmed; empty for an element that only holds others or attributes.
    pub text: String,
}

impl Extension {
    /// The name of the element itself.
    pub fn name(&self) -> &str {
        self.element.rsplit('/').next().unwrap_or_default()
    }

    /// Name and value pairs for storing and searching: the element with its text, and each of
    /// its attributes as `element@attribute`.
    pub fn entries(&self) -> impl Iterator<Item = (String, &str)> {
        let text = (!self.text.is_empty()).then(|| (self.element.clone(), self.text.as_str()));
        let attributes = self
            .attributes
            .iter()
            .map(|(name, value)| (format!("{}@{name}", self.element), value.as_str()));
        text.into_iter().chain(attributes)
    }
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extension({}, personal)", self.element)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_on_the_call_does_not_print() {
        let document = Document {
            participants: vec![Participant {
                id: ParticipantId("+15551234".into()),
                names: vec![NameId {
                    name: Some("Ana Novak".into()),
                    aor: Some("sip:ana@example.com".into()),
                }],
                role: None,
            }],
            extensions: vec![Extension {
                scope: Scope::Participant(ParticipantId("+15551234".into())),
                element: "request-uri".into(),
                attributes: vec![("label".into(), "Ana".into())],
                text: "sip:ana@example.com".into(),
            }],
            ..Document::default()
        };
        let printed = format!("{document:?}");
        assert!(printed.contains("request-uri"), "{printed}");
        for secret in ["Ana", "ana", "1234"] {
            assert!(!printed.contains(secret), "{printed}");
        }
    }

    #[test]
    fn an_extension_is_searchable_by_its_text_and_its_attributes() {
        let extension = Extension {
            scope: Scope::Document,
            element: "header".into(),
            attributes: vec![("label".into(), "From".into())],
            text: "<sip:a@b>".into(),
        };
        let entries: Vec<_> = extension.entries().collect();
        assert_eq!(
            entries,
            [("header".to_owned(), "<sip:a@b>"), ("header@label".to_owned(), "From")]
        );
    }
}
