//! Wraps an engine and makes it fail on purpose: tests of what uses an engine wrap a real one.
//!
//! Two kinds of failure matter. An engine that is away does nothing and says so. A network that
//! is away loses the *answer*: the work was done, and the caller must be able to repeat it.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use model::index::{Finalized, JournalState, RecordingState};
use model::object_key::ObjectKey;
use model::recording::Recording;
use model::search::{Page, SearchQuery};
use model::{HoldId, JournalId, RecordingEvent, RecordingId, TenantId, WallTime};

use crate::{
    Applied, Delivery, EventQueue, Message, ObjectMeta, ObjectStore, PutMode, PutOutcome,
    QueueDepth, Receipt, RecordingIndex, SignedUrl, StorageError,
};

/// Which calls fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fail {
    #[default]
    Never,
    Always,
    /// This many calls, then none.
    Next(u64),
    /// Every k-th call. `EveryKth(1)` is every call, 0 none.
    EveryKth(u64),
}

/// Whether a failing call has done its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loss {
    /// Nothing was done.
    #[default]
    Request,
    /// All was done, and the caller is told that it was not.
    Answer,
    /// Nothing was done, and the caller is told that repeating it is of no use: credentials that
    /// are not valid any more.
    Refused,
}

#[derive(Debug, Default)]
struct Plan {
    fail: Fail,
    loss: Loss,
    delay: Duration,
    only: Option<&'static str>,
    calls: u64,
    failures: u64,
}

/// The switch of a [`Faulty`] engine; clones switch the same one, while it is in use.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    /// Fails calls from now on. Counting for [`Fail::EveryKth`] starts anew.
    pub fn fail(&self, fail: Fail, loss: Loss) {
        self.change(|plan| {
            plan.fail = fail;
            plan.loss = loss;
            plan.calls = 0;
        });
    }

    /// Limits failures and delay to one method of the trait, by its name; `None`: all methods.
    pub fn only(&self, method: Option<&'static str>) {
        self.change(|plan| plan.only = method);
    }

    /// Makes every call take this much longer.
    pub fn delay(&self, delay: Duration) {
        self.change(|plan| plan.delay = delay);
    }

    /// All calls succeed from now on, at full speed.
    pub fn heal(&self) {
        self.change(|plan| *plan = Plan { failures: plan.failures, ..Plan::default() });
    }

    /// How many calls were made to fail so far.
    pub fn failures(&self) -> u64 {
        self.change(|plan| plan.failures)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Plan) -> T) -> T {
        // A plan is plain data: whatever a panicking test left in it is valid.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides about one call: what is lost, and how long it takes.
    fn next(&self, method: &'static str) -> (Option<Loss>, Duration) {
        self.change(|plan| {
            if plan.only.is_some_and(|only| only != method) {
                return (None, Duration::ZERO);
            }
            plan.calls += 1;
            let fails = match &mut plan.fail {
                Fail::Never => false,
                Fail::Always => true,
                Fail::Next(0) => false,
                Fail::Next(left) => {
                    *left -= 1;
                    true
                }
                Fail::EveryKth(k) => plan.calls.checked_rem(*k) == Some(0),
            };
            plan.failures += u64::from(fails);
            (fails.then_some(plan.loss), plan.delay)
        })
    }

    async fn around<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let (loss, delay) = self.next(method);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match loss {
            None => work.await,
            Some(Loss::Request) => Err(StorageError::unavailable(method, "made to fail")),
            Some(Loss::Refused) => Err(StorageError::refused(method, "made to refuse")),
            Some(Loss::Answer) => {
                work.await?;
                Err(StorageError::unavailable(method, "its answer was made to be lost"))
            }
        }
    }
}

/// An engine that fails as its [`Faults`] say.
pub struct Faulty<E: ?Sized> {
    engine: Arc<E>,
    faults: Faults,
}

impl<E: ?Sized> Faulty<E> {
    pub fn new(engine: Arc<E>, faults: Faults) -> Self {
        Self { engine, faults }
    }
}

#[async_trait]
impl<E: ObjectStore + ?Sized> ObjectStore for Faulty<E> {
    async fn put(
        &self,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
    ) -> Result<PutOutcome, StorageError> {
        self.faults.around("put", self.engine.put(key, body, mode)).await
    }

    async fn put_file(
        &self,
        key: &ObjectKey,
        file: &Path,
        mode: PutMode,
    ) -> Result<PutOutcome, StorageError> {
        self.faults.around("put", self.engine.put_file(key, file, mode)).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, StorageError> {
        self.faults.around("get", self.engine.get(key)).await
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.faults.around("get_range", self.engine.get_range(key, range)).await
    }

    async fn size(&self, key: &ObjectKey) -> Result<u64, StorageError> {
        self.faults.around("size", self.engine.size(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, StorageError> {
        self.faults.around("list", self.engine.list(prefix)).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        self.faults.around("delete", self.engine.delete(key)).await
    }

    async fn signed_url(
        &self,
        key: &ObjectKey,
        content_type: &str,
        ttl: Duration,
    ) -> Result<SignedUrl, StorageError> {
        self.faults.around("signed_url", self.engine.signed_url(key, content_type, ttl)).await
    }
}

#[async_trait]
impl<E: EventQueue + ?Sized> EventQueue for Faulty<E> {
    async fn send(&self, messages: &[Message]) -> Result<(), StorageError> {
        self.faults.around("send", self.engine.send(messages)).await
    }

    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>, StorageError> {
        self.faults.around("receive", self.engine.receive(max, wait)).await
    }

    async fn acknowledge(&self, receipt: &Receipt) -> Result<(), StorageError> {
        self.faults.around("acknowledge", self.engine.acknowledge(receipt)).await
    }

    async fn retry(&self, receipt: &Receipt, delay: Duration) -> Result<(), StorageError> {
        self.faults.around("retry", self.engine.retry(receipt, delay)).await
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), StorageError> {
        self.faults.around("dead_letter", self.engine.dead_letter(delivery, reason)).await
    }

    async fn depth(&self) -> Result<QueueDepth, StorageError> {
        self.faults.around("depth", self.engine.depth()).await
    }
}

#[async_trait]
impl<E: RecordingIndex + ?Sized> RecordingIndex for Faulty<E> {
    async fn apply(&self, event: &RecordingEvent) -> Result<Applied, StorageError> {
        self.faults.around("apply", self.engine.apply(event)).await
    }

    async fn state(
        &self,
        tenant: &TenantId,
        id: RecordingId,
    ) -> Result<Option<(RecordingState, JournalState)>, StorageError> {
        self.faults.around("state", self.engine.state(tenant, id)).await
    }

    async fn search(
        &self,
        tenant: &TenantId,
        query: &SearchQuery,
    ) -> Result<Page<Recording>, StorageError> {
        self.faults.around("search", self.engine.search(tenant, query)).await
    }

    async fn live(&self, tenant: &TenantId) -> Result<Vec<Recording>, StorageError> {
        self.faults.around("live", self.engine.live(tenant)).await
    }

    async fn journals(&self) -> Result<Vec<JournalState>, StorageError> {
        self.faults.around("journals", self.engine.journals()).await
    }

    async fn journal(&self, journal: JournalId) -> Result<Option<JournalState>, StorageError> {
        self.faults.around("journal", self.engine.journal(journal)).await
    }

    async fn finalized(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        built: Finalized,
    ) -> Result<bool, StorageError> {
        self.faults.around("finalized", self.engine.finalized(tenant, id, built)).await
    }

    async fn sweep(
        &self,
        silent_since: WallTime,
    ) -> Result<Vec<(TenantId, RecordingId)>, StorageError> {
        self.faults.around("sweep", self.engine.sweep(silent_since)).await
    }

    async fn place_hold(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        hold: &HoldId,
    ) -> Result<bool, StorageError> {
        self.faults.around("place_hold", self.engine.place_hold(tenant, id, hold)).await
    }

    async fn release_hold(
        &self,
        tenant: &TenantId,
        id: RecordingId,
        hold: &HoldId,
    ) -> Result<(), StorageError> {
        self.faults.around("release_hold", self.engine.release_hold(tenant, id, hold)).await
    }

    async fn due(
        &self,
        tenant: &TenantId,
        before: WallTime,
        limit: usize,
    ) -> Result<Vec<RecordingId>, StorageError> {
        self.faults.around("due", self.engine.due(tenant, before, limit)).await
    }

    async fn begin_purge(&self, tenant: &TenantId, id: RecordingId) -> Result<bool, StorageError> {
        self.faults.around("begin_purge", self.engine.begin_purge(tenant, id)).await
    }

    async fn end_purge(&self, tenant: &TenantId, id: RecordingId) -> Result<(), StorageError> {
        self.faults.around("end_purge", self.engine.end_purge(tenant, id)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(faults: &Faults, calls: usize) -> Vec<Option<Loss>> {
        (0..calls).map(|_| faults.next("put").0).collect()
    }

    #[test]
    fn a_fault_can_be_switched_while_the_engine_is_in_use() {
        let faults = Faults::default();
        let (request, answer) = (Some(Loss::Request), Some(Loss::Answer));
        assert_eq!(verdicts(&faults, 2), [None, None]);
        faults.fail(Fail::Next(1), Loss::Request);
        assert_eq!(verdicts(&faults, 3), [request, None, None]);
        faults.fail(Fail::EveryKth(3), Loss::Answer);
        assert_eq!(verdicts(&faults, 6), [None, None, answer, None, None, answer]);
        faults.fail(Fail::Always, Loss::Request);
        faults.only(Some("get"));
        assert_eq!(verdicts(&faults, 1), [None]);
        assert_eq!(faults.next("get").0, request);
        faults.heal();
        assert_eq!(verdicts(&faults, 1), [None]);
        assert_eq!(faults.failures(), 4);
    }
}
