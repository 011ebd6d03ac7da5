//! The story of a call as its SRC told it, in our words: who takes part and who is heard where.
//!
//! The edge makes these from SIPREC metadata (RFC 7865); everything after it reads only this.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::personal::Personal;

/// One view of who is on the call. A later view replaces an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct CallFacts {
    /// In the order in which the metadata lists them; the first is played on the left.
    pub participants: Vec<Party>,
    pub streams: Vec<StreamFact>,
    /// Every id by which somebody may look for this call: SIP Call-ID, SIPREC session and group
    /// ids, UCID and other ids of vendors.
    pub call_ids: BTreeSet<String>,
    /// What vendors add: element or header name and its text, kept and searchable.
    pub extensions: Vec<(String, Personal<String>)>,
}

/// One participant (RFC 7865 §6.5).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Party {
    /// As the SRC named it: opaque, unique within the session.
    pub id: String,
    pub name: Option<Personal<String>>,
    /// Address of record: a SIP or tel URI, or what the SRC sent in its place.
    pub aor: Option<Personal<String>>,
    /// The E.164 number that `aor` is, where it is certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<Personal<String>>,
    /// `caller` or `callee` where the SRC tells, else absent.
    pub role: Option<String>,
}

/// One media stream (RFC 7865 §6.7) and who is heard on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamFact {
    /// SDP label (RFC 4574); empty when the SRC gave none.
    pub label: String,
    /// Ids of the participants that send into this stream. More than one: a mixed stream.
    pub senders: Vec<String>,
}

impl CallFacts {
    /// Who is heard on the stream with this label, in the order of `participants`.
    pub fn speakers<'a>(&'a self, label: &'a str) -> impl Iterator<Item = &'a Party> {
        let senders =
            self.streams.iter().find(|stream| stream.label == label).map(|stream| &stream.senders);
        self.participants
            .iter()
            .filter(move |party| senders.is_some_and(|ids| ids.contains(&party.id)))
    }
}
