//! Retention over the embedded engines: what is due goes, whole; what is not, stays.

use std::collections::BTreeSet;

use bytes::Bytes;
use lambdas::retention::{Swept, erase, sweep};
use model::index::Finalized;
use model::object_key::{ObjectKey, Output, recording_prefix};
use model::recording::Status;
use model::retention::RetentionPolicy;
use model::{
    EdgeId, EventBody, HoldId, JournalId, Position, RecordingEvent, RecordingId, SessionId,
    TenantId, WallTime,
};
use storage_embedded::Embedded;
use storage_ports::faulty::{Fail, Faults, Faulty, Loss};
use storage_ports::survived::survived;
use storage_ports::{ObjectStore, PutMode, RecordingIndex, StorageError};

const DAY_MS: i64 = 24 * 3_600_000;
/// Calls begin on this day and the ones after it.
const FIRST_DAY: i64 = 1_795_334_400_000;
const KEEP: RetentionPolicy = RetentionPolicy { keep_days: Some(30) };

struct Store {
    engines: Embedded,
    tenant: TenantId,
    position: u64,
    _dir: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engines = Embedded::open(dir.path()).unwrap();
        Self { engines, tenant: TenantId::default(), position: 0, _dir: dir }
    }

    async fn tell(&mut self, at: WallTime, body: EventBody) -> Position {
        self.position += 1;
        let position = Position(self.position);
        let event = RecordingEvent {
            version: model::event::VERSION,
            edge: EdgeId::new("edge-1").unwrap(),
            journal: JournalId::at(1, [1; 10]),
            epoch: 1,
            position,
            at,
            body,
        };
        self.engines.index().apply(&event).await.unwrap();
        position
    }

    /// A stored call of `day`, with packets and two outputs.
    async fn call(&mut self, day: i64) -> RecordingId {
        let (tenant, flags) = (self.tenant.clone(), BTreeSet::new());
        let at = WallTime::from_unix_ms(FIRST_DAY + day * DAY_MS);
        let number = u8::try_from(self.position).unwrap();
        let session = SessionId::at(at.unix_ms() as u64, [number; 10]);
        let recording = session.first_recording();
        let call_ids = vec![format!("call-{number}")];
        let started = EventBody::Started {
            tenant: tenant.clone(),
            recording,
            session,
            call_ids,
            flags: flags.clone(),
        };
        self.tell(at, started).await;
        let reason = "bye".to_owned();
        let ended = EventBody::Ended { tenant, recording, reason, duration_ms: 9_000, flags };
        let through = self.tell(at, ended).await;
        self.tell(at, EventBody::Stored { through }).await;
        let objects = self.engines.objects();
        for key in [
            ObjectKey::packets(&self.tenant, recording),
            ObjectKey::output(&self.tenant, recording, 1, Output::Webm),
            ObjectKey::output(&self.tenant, recording, 1, Output::Manifest),
        ] {
            objects.put(&key, Bytes::from_static(b"audio"), PutMode::IfAbsent).await.unwrap();
        }
        let built = Finalized {
            generation: 1,
            through,
            complete: true,
            duration_ms: 9_000,
            tracks: Vec::new(),
            packets: Some(450),
            marks: Vec::new(),
            flags: BTreeSet::new(),
            sha256: "00".repeat(32),
            sealed_keys: vec!["key".to_owned()],
        };
        let taken = self.engines.index().finalized(&self.tenant, recording, built).await.unwrap();
        assert!(taken);
        recording
    }

    async fn sweep(&self, day: i64) -> Swept {
        let (index, objects) = (self.engines.index(), self.engines.objects());
        self.sweep_with(&*index, &*objects, day).await.unwrap()
    }

    async fn sweep_with(
        &self,
        index: &dyn RecordingIndex,
        objects: &dyn ObjectStore,
        day: i64,
    ) -> Result<Swept, StorageError> {
        let now = WallTime::from_unix_ms(FIRST_DAY + day * DAY_MS + 1);
        sweep(index, objects, &self.tenant, KEEP, now, None).await
    }

    async fn status(&self, id: RecordingId) -> Status {
        let (state, journal) = self.engines.index().state(&self.tenant, id).await.unwrap().unwrap();
        state.status(&journal)
    }

    async fn objects_of(&self, id: RecordingId) -> usize {
        let prefix = recording_prefix(&self.tenant, id);
        self.engines.objects().list(&prefix).await.unwrap().len()
    }

    async fn assert_is_erased(&self, id: RecordingId) {
        assert_eq!(self.objects_of(id).await, 0);
        let (state, journal) = self.engines.index().state(&self.tenant, id).await.unwrap().unwrap();
        assert_eq!(state.status(&journal), Status::Deleted);
        assert!(state.finalized.is_none(), "its keys must be gone");
        assert!(state.call_ids.is_empty() && state.facts.is_none());
    }
}

#[tokio::test]
async fn what_is_due_is_erased_whole_and_what_is_not_stays() {
    let mut store = Store::new();
    let (old, young) = (store.call(0).await, store.call(5).await);
    assert_eq!(store.sweep(29).await, Swept::default());
    assert_eq!(store.sweep(30).await, Swept { erased: 1, not_erased: 0 });
    store.assert_is_erased(old).await;
    assert_eq!((store.status(young).await, store.objects_of(young).await), (Status::Stored, 3));
    assert_eq!(store.sweep(30).await, Swept::default());
}

#[tokio::test]
async fn without_a_number_of_days_nothing_is_erased() {
    let mut store = Store::new();
    let id = store.call(0).await;
    let now = WallTime::from_unix_ms(FIRST_DAY + 30_000 * DAY_MS);
    let (index, objects) = (store.engines.index(), store.engines.objects());
    let policy = RetentionPolicy::default();
    let swept = sweep(&*index, &*objects, &store.tenant, policy, now, None).await.unwrap();
    assert_eq!(swept, Swept::default());
    assert_eq!(store.status(id).await, Status::Stored);
}

#[tokio::test]
async fn what_is_held_outlives_its_days_until_it_is_released() {
    let mut store = Store::new();
    let id = store.call(0).await;
    let hold = HoldId::new("case-9").unwrap();
    let index = store.engines.index();
    assert!(index.place_hold(&store.tenant, id, &hold).await.unwrap());
    assert_eq!(store.sweep(400).await, Swept::default());
    let objects = store.engines.objects();
    assert!(!erase(&*index, &*objects, &store.tenant, id).await.unwrap());
    assert_eq!(store.objects_of(id).await, 3);
    index.release_hold(&store.tenant, id, &hold).await.unwrap();
    assert_eq!(store.sweep(400).await, Swept { erased: 1, not_erased: 0 });
    store.assert_is_erased(id).await;
}

#[tokio::test]
async fn an_erasure_that_stops_anywhere_is_finished_later() {
    for method in ["begin_purge", "list", "delete", "end_purge"] {
        for loss in [Loss::Request, Loss::Answer] {
            // From the first call of it to one that is never made.
            for nth in 1..=4 {
                let mut store = Store::new();
                let id = store.call(0).await;
                let faults = Faults::default();
                let index = Faulty::new(store.engines.index(), faults.clone());
                let objects = Faulty::new(store.engines.objects(), faults.clone());
                faults.only(Some(method));
                faults.fail(Fail::EveryKth(nth), loss);
                let failed = store.sweep_with(&index, &objects, 30).await.is_err();
                assert_eq!(failed, faults.failures() > 0);
                faults.heal();
                // Whatever its age: it was claimed, or it is due still.
                store.sweep_with(&index, &objects, 30).await.unwrap();
                store.assert_is_erased(id).await;
            }
        }
    }
    survived(
        "erasure cut off at any step",
        "each of its requests fails, or its answer is lost",
        "the next sweep finishes it; nothing of the call remains",
    );
}

#[tokio::test]
async fn what_the_store_refuses_to_erase_is_told_and_holds_up_nothing_else() {
    let mut store = Store::new();
    let (first, second) = (store.call(0).await, store.call(0).await);
    let faults = Faults::default();
    let objects = Faulty::new(store.engines.objects(), faults.clone());
    faults.only(Some("delete"));
    faults.fail(Fail::Next(1), Loss::Refused);
    let swept = store.sweep_with(&*store.engines.index(), &objects, 30).await.unwrap();
    assert_eq!(swept, Swept { erased: 1, not_erased: 1 });
    // Nobody can hold or hear what is half erased.
    let hold = HoldId::new("case-9").unwrap();
    assert!(!store.engines.index().place_hold(&store.tenant, first, &hold).await.unwrap());
    assert_eq!(store.sweep(30).await, Swept { erased: 1, not_erased: 0 });
    store.assert_is_erased(first).await;
    store.assert_is_erased(second).await;
}
