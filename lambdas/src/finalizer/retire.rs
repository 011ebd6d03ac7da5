//! Deletes segments that nobody needs any more.
//!
//! A segment goes when, of every session in it:
//!
//! - its first recording is `stored`, and was built from everything up to this session's last
//!   record in the segment;
//! - the packets object of that recording is in the store, whole;
//! - no other recording of the session is unfinished. One that the index learns of only later is
//!   built from the packets object of the first, which has every record of the session.
//!
//! Everything else stays, whatever the reason: a session that the index does not know, a damaged
//! segment, a call that goes on. Deleting late costs space, deleting early costs a call.

use std::collections::{HashMap, HashSet};

use model::object_key::{ObjectKey, segments_prefix};
use model::recording::{Status, flag};
use model::search::{MAX_LIMIT, SearchQuery};
use model::{JournalId, Position, RecordingId, SessionId, TenantId};
use segment::{PacketsReader, SegmentReader};
use storage_ports::{ObjectStore, RecordingIndex, StorageError};

use super::gather::read_directory;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    pub deleted: usize,
    pub kept: usize,
}

/// Looks at every segment of one journal.
pub async fn retire_segments(
    index: &dyn RecordingIndex,
    objects: &dyn ObjectStore,
    tenant: &TenantId,
    journal: JournalId,
) -> Result<Retired, StorageError> {
    let listed = objects.list(&segments_prefix(tenant, journal)).await?;
    let mut retired = Retired::default();
    if listed.is_empty() {
        return Ok(retired);
    }
    let mut sessions = Sessions {
        index,
        objects,
        tenant,
        unfinished: unfinished_sessions(index, tenant).await?,
        built_through: HashMap::new(),
        kept: HashMap::new(),
    };
    for meta in listed {
        let (_, read) = read_directory(objects, &meta.key).await?;
        let is_spent = match read {
            Ok(reader) => sessions.keep_all_of(&reader).await?,
            Err(_) => false,
        };
        if is_spent {
            objects.delete(&meta.key).await?;
            retired.deleted += 1;
        } else {
            retired.kept += 1;
        }
    }
    Ok(retired)
}

struct Sessions<'a> {
    index: &'a dyn RecordingIndex,
    objects: &'a dyn ObjectStore,
    tenant: &'a TenantId,
    unfinished: HashSet<SessionId>,
    /// What was asked already; `None`: not built yet.
    built_through: HashMap<SessionId, Option<Position>>,
    /// Whether a session needs its segments no more, as far as its packets object tells.
    kept: HashMap<SessionId, bool>,
}

impl Sessions<'_> {
    /// Whether every session of the segment has all of it in its own packets object.
    async fn keep_all_of(&mut self, segment: &SegmentReader) -> Result<bool, StorageError> {
        let sessions = segment.sessions();
        // The index first, for all of them: most segments that stay do so for one call of many,
        // and reading the packets of the others each time would be for nothing.
        if sessions.iter().any(|entry| self.unfinished.contains(&entry.session)) {
            return Ok(false);
        }
        for entry in sessions {
            let built_through = self.built_through(entry.session).await?;
            if built_through.is_none_or(|through| through < entry.last) {
                return Ok(false);
            }
        }
        for entry in sessions {
            if !self.packets_are_kept(entry.session).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Up to which position a session was built into its first recording.
    async fn built_through(
        &mut self,
        session: SessionId,
    ) -> Result<Option<Position>, StorageError> {
        if let Some(known) = self.built_through.get(&session) {
            return Ok(*known);
        }
        let recording = session.first_recording();
        let through = match self.index.state(self.tenant, recording).await? {
            None => None,
            Some((state, journal)) => match state.status(&journal) {
                Status::Stored => state
                    .finalized
                    .filter(|built| !built.flags.contains(flag::DAMAGED))
                    .map(|built| built.through),
                // Its packets are gone, and what segments still hold of it must go too.
                Status::Deleted => {
                    self.kept.insert(session, true);
                    Some(Position(u64::MAX))
                }
                _ => None,
            },
        };
        self.built_through.insert(session, through);
        Ok(through)
    }

    async fn packets_are_kept(&mut self, session: SessionId) -> Result<bool, StorageError> {
        if let Some(known) = self.kept.get(&session) {
            return Ok(*known);
        }
        let recording = session.first_recording();
        let kept = packets_are_whole(self.objects, self.tenant, recording).await?;
        self.kept.insert(session, kept);
        Ok(kept)
    }
}

async fn packets_are_whole(
    objects: &dyn ObjectStore,
    tenant: &TenantId,
    recording: RecordingId,
) -> Result<bool, StorageError> {
    match objects.get(&ObjectKey::packets(tenant, recording)).await {
        Ok(packets) => Ok(PacketsReader::verify(&packets).is_ok()),
        Err(StorageError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Sessions of which some recording, the first or a further one, is not stored yet.
async fn unfinished_sessions(
    index: &dyn RecordingIndex,
    tenant: &TenantId,
) -> Result<HashSet<SessionId>, StorageError> {
    let mut sessions = HashSet::new();
    for status in [Status::Recording, Status::Finalizing, Status::Partial] {
        let mut query =
            SearchQuery { status: Some(status), limit: MAX_LIMIT, ..SearchQuery::default() };
        loop {
            let page = index.search(tenant, &query).await?;
            for recording in page.items {
                let state = index.state(tenant, recording.id).await?;
                let started = state.and_then(|(state, _)| state.started);
                sessions.extend(started.map(|started| started.value.session));
            }
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
    }
    Ok(sessions)
}
