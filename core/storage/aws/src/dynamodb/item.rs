//! Items as types. Attribute names and shapes are durable: what one version wrote, every later one
//! reads. Golden items are kept in `tests/golden`.

use model::attribution::{Assignment, Group};
use model::index::{Document, Purge, RecordingState};
use model::{JournalState, TenantId, WallTime};
use serde::{Deserialize, Serialize};

use super::key::{self, Lookup};

/// A recording: the folds of its events, and where the indexes show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordingItem {
    pub pk: String,
    pub sk: String,
    /// Rises with each write. A writer that read another one than is there starts again.
    pub rev: u64,
    /// For which build somebody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// Names of the holds that the state counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<String>,
    /// Without its documents: those are items of their own.
    pub state: RecordingState,
    #[serde(flatten)]
    pub places: Places,
}

/// What an index shows of a recording, besides keys.
#[derive(Deserialize)]
pub struct ShownItem {
    pub state: RecordingState,
}

/// Keys in the indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsi1pk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsi1sk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsi2pk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsi2sk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsi3pk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsi3sk: Option<String>,
}

/// A build that is needed is told of once, by one event; that one tells of it each time it comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Why the build is needed: another reason needs another one.
    pub cause: String,
    /// Names the event.
    pub by: String,
}

/// The cause of the build of a whole call.
pub const COMPLETE: &str = "complete";

impl RecordingItem {
    /// Puts the recording where the indexes show it, given its journal and the shards of its day.
    pub fn place(&mut self, journal: &JournalState, shards: u8) {
        let state = &self.state;
        let shard = key::shard(state.id, shards);
        let started = state.started.as_ref().map(|started| started.value.at);
        let name = format!("{}#{}", state.tenant, state.id.0.simple());
        let is_whole =
            state.ended.is_some() && state.finalized.as_ref().is_some_and(|built| built.complete);
        let is_open = state.purge.is_none() && !is_whole;
        // What an edge that died left behind, built as far as it goes.
        let is_abandoned = state.ended.is_none() && journal.is_dead() && state.finalized.is_some();
        let mut places = Places::default();
        if let Some(at) = started {
            places.gsi1pk = Some(key::list(&state.tenant, &key::day(at), shard));
            places.gsi1sk = Some(key::entry(at, state.id));
        }
        if is_open {
            let waits_for = match (&state.ended, &self.told) {
                (Some(_), Some(told)) if told.cause == COMPLETE => format!("T#{}#{name}", told.by),
                (Some(ended), _) => format!("E#{:020}#{name}", ended.position.0),
                (None, _) if is_abandoned => format!("P#{name}"),
                (None, _) => format!("L#{name}"),
            };
            places.gsi2pk = Some(key::journal(state.journal));
            places.gsi2sk = Some(waits_for);
        }
        if let Some(at) = started {
            let pk = match state.purge {
                Some(Purge::Purging) => Some(key::purging(&state.tenant)),
                Some(Purge::Deleted) => None,
                None if state.ended.is_none() && !is_abandoned => Some(key::live(&state.tenant)),
                None if state.holds > 0 => None,
                None => {
                    let shard = key::shard(state.id, key::EXPIRY_SHARDS);
                    Some(key::expiry(&state.tenant, shard))
                }
            };
            places.gsi3sk = pk.as_ref().map(|_| key::entry(at, state.id));
            places.gsi3pk = pk;
        }
        self.places = places;
    }
}

/// A metadata document as received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentItem {
    pub pk: String,
    pub sk: String,
    pub document: Document,
}

/// Leads to a recording.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LookupItem {
    pub pk: String,
    pub sk: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsi1pk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsi1sk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsi2pk: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gsi2sk: Option<String>,
}

impl LookupItem {
    pub fn text(pk: &str, tenant: &TenantId, entry: &str, lookup: Lookup, text: &str) -> Self {
        Self {
            pk: pk.to_owned(),
            sk: lookup.sk(text),
            gsi1pk: None,
            gsi1sk: None,
            gsi2pk: Some(lookup.partition(tenant, text)),
            gsi2sk: Some(entry.to_owned()),
        }
    }

    /// `None` for a number too short to be looked up.
    pub fn number(pk: &str, tenant: &TenantId, entry: &str, digits: &str) -> Option<Self> {
        let suffix = key::number_suffix(tenant, digits)?;
        let prefix = key::number_prefix(tenant, digits);
        Some(Self {
            pk: pk.to_owned(),
            sk: key::number_sk(digits),
            gsi1pk: Some(suffix),
            gsi1sk: Some(key::number_entry(&key::reversed(digits), entry)),
            gsi2sk: prefix.as_ref().map(|_| key::number_entry(digits, entry)),
            gsi2pk: prefix,
        })
    }
}

/// A day that has recordings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayItem {
    pub pk: String,
    pub sk: String,
    /// Over how many partitions its recordings are spread. Set once.
    pub shards: u8,
}

/// An account.
#[derive(Clone, Serialize, Deserialize)]
pub struct AccountItem {
    pub pk: String,
    pub sk: String,
    pub tenant: TenantId,
    pub role: model::access::Role,
    pub password_hash: String,
    pub must_change_password: bool,
    #[serde(default)]
    pub disabled: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Assignment>,
}

/// A group of users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupItem {
    pub pk: String,
    pub sk: String,
    pub group: Group,
}

/// A sign-in, under its token and once more under its user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionItem {
    pub pk: String,
    pub sk: String,
    pub login: model::UserId,
    pub expires_at: WallTime,
    /// Unix seconds, for DynamoDB.
    pub expires: i64,
}

/// The outcome of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandItem {
    pub pk: String,
    pub sk: String,
    pub ok: bool,
    pub detail: String,
    pub expires: i64,
}
