//! The index: what people search. A copy of the queue's events, rebuildable from them.

use async_trait::async_trait;
use model::index::{Finalized, JournalState, RecordingState};
use model::recording::Recording;
use model::search::{Page, SearchQuery};
use model::{HoldId, JournalId, RecordingEvent, RecordingId, TenantId, WallTime};

use crate::StorageError;

/// What an event changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Recordings for which [`RecordingState::needs_build`] became true by this event. Told again
    /// when the same event is applied again, so that a lost hand-over is repeated; not told by
    /// other events, or every beat of an edge would repeat the finaliser's whole backlog.
    pub to_build: Vec<(TenantId, RecordingId)>,
}

/// Promises, each a test in [`crate::contract`]:
///
/// - `apply` stores what [`RecordingState::fold`] and [`JournalState::fold`] give, and any
///   multiset of events applied in any order, concurrently too, gives the same index.
/// - Reads see every write that returned before they began; `search`, `live`, `sweep` and
///   `due` may lag behind by about a second on an engine whose indexes follow its writes (DynamoDB).
/// - Nothing is seen across tenants, and by a search with a scope nothing outside of it: engines
///   look the scope's addresses up instead of leaving rows out.
/// - A recording is held or being purged, never both, whoever asks at once. What was purged stays
///   purged, whatever is delivered later.
#[async_trait]
pub trait RecordingIndex: Send + Sync {
    async fn apply(&self, event: &RecordingEvent) -> Result<Applied, StorageError>;

    /// `None` when there is no such recording for this tenant.
    async fn state(
        &self,
        tenant: &TenantId,
        id: RecordingId,
    ) -> Result<Option<(RecordingState, JournalState)>, StorageError>;

    /// Newest first. A page may be short, even empty, although more follow: an engine that looks
    /// through rows one by one gives back what it found so far, and `next`.
    async fn search(
        &self,
        tenant: &TenantId,
        query: &SearchQuery,
    ) -> Result<Page<Recording>, StorageError>;

    /// Recordings in progress, oldest first.
    async fn live(&self, tenant: &TenantId) -> Result<Vec<Recording>, StorageError>;

    async fn journals(&self) -> Result<Vec<JournalState>, StorageError>;

    /// `None` when nothing of this journal was ever indexed.
    async fn journal(&self, journal: JournalId) -> Result<Option<JournalState>, StorageError>;

    /// Takes over a build; false when a newer one is there or the recording is being purged.
    async fn finalized(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        built: Finalized,
    ) -> Result<bool, StorageError>;

    /// Marks the journals dead of which nothing new was indexed since `silent_since`: the backstop
    /// behind the dead-man's messages. By the index's own clock, because an edge whose clock is
    /// slow is not dead. Returns every recording that has to be built now, of any journal.
    async fn sweep(
        &self,
        silent_since: WallTime,
    ) -> Result<Vec<(TenantId, RecordingId)>, StorageError>;

    /// Places a hold, once however often it is asked for; false when the recording is being purged
    /// or is gone already. [`StorageError::NotFound`] without such a recording.
    async fn place_hold(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        hold: &HoldId,
    ) -> Result<bool, StorageError>;

    /// Succeeds when there is no such hold, so that a repeated release is harmless.
    async fn release_hold(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        hold: &HoldId,
    ) -> Result<(), StorageError>;

    /// What retention has to erase: recordings that are `stored` or `partial`, started before
    /// `before` and are not held, and those whose purge was begun and not ended. Oldest first, at
    /// most `limit`.
    async fn due(
        &self,
        tenant: &TenantId,
        before: WallTime,
        limit: usize,
    ) -> Result<Vec<RecordingId>, StorageError>;

    /// Claims a recording for a purge; false while it is held. True again when it was claimed
    /// before. [`StorageError::NotFound`] without such a recording.
    async fn begin_purge(&self, tenant: &TenantId, id: RecordingId) -> Result<bool, StorageError>;

    /// All objects are gone: what the index knows of the call goes too, its keys first of all.
    /// Only after [`Self::begin_purge`]; otherwise it changes nothing.
    async fn end_purge(&self, tenant: &TenantId, id: RecordingId) -> Result<(), StorageError>;
}
