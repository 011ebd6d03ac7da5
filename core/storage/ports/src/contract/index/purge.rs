//! Holds and purges: a recording is held or being purged, never both.

use std::time::Duration;

use model::recording::Status;
use model::{HoldId, RecordingId, WallTime};

use super::scene::{Scene, query};
use crate::{RecordingIndex, StorageError};

/// How many try at once.
const RIVALS: usize = 8;
const ROUNDS: usize = 10;

pub async fn holds_and_purges(index: &dyn RecordingIndex) {
    what_is_old_enough_is_due_oldest_first(index).await;
    what_is_held_is_not_purged(index).await;
    a_purge_leaves_a_tombstone(index).await;
    a_begun_purge_is_due_until_it_is_ended(index).await;
    of_holds_and_purges_at_once_one_side_wins(index).await;
    an_event_that_comes_while_it_is_erased_leaves_nothing(index).await;
    the_unknown_is_not_found(index).await;
}

impl Scene<'_> {
    async fn store_one(&mut self, parties: &[(&str, &str)]) -> RecordingId {
        let id = self.start_with(parties).await;
        self.end(id).await;
        self.store_all().await;
        assert!(self.build(id, 1, true).await);
        id
    }

    async fn due(&self, limit: usize) -> Vec<RecordingId> {
        let after_all = self.at + Duration::from_secs(1);
        self.index.due(&self.tenant, after_all, limit).await.unwrap()
    }

    async fn hold(&self, id: RecordingId, name: &str) -> bool {
        self.index.place_hold(&self.tenant, id, &hold(name)).await.unwrap()
    }

    async fn begin(&self, id: RecordingId) -> bool {
        self.index.begin_purge(&self.tenant, id).await.unwrap()
    }
}

fn hold(name: &str) -> HoldId {
    HoldId::new(name).expect("letters, digits and dashes")
}

async fn what_is_old_enough_is_due_oldest_first(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let first = scene.store_one(&[]).await;
    let second = scene.store_one(&[]).await;
    let between = scene.at;
    let third = scene.store_one(&[]).await;
    let live = scene.start().await;
    assert_eq!(scene.due(9).await, [first, second, third], "a live call is never due");
    assert_eq!(scene.due(2).await, [first, second]);
    assert_eq!(index.due(&scene.tenant, between, 9).await.unwrap(), [first, second]);
    let long_ago = WallTime::from_unix_ms(0);
    assert_eq!(index.due(&scene.tenant, long_ago, 9).await.unwrap(), []);
    let other = Scene::new(index);
    assert_eq!(index.due(&other.tenant, scene.at, 9).await.unwrap(), []);

    // Its edge dies: what is there of it is kept no longer than the others.
    scene.beat().await;
    scene.dead_man().await;
    assert_eq!(scene.status(live).await, Status::Partial);
    assert_eq!(scene.due(9).await, [first, second, third, live]);
}

async fn what_is_held_is_not_purged(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.store_one(&[]).await;
    assert!(scene.hold(id, "case-1").await);
    assert!(scene.hold(id, "case-1").await, "asked again, because the answer was lost");
    assert!(scene.hold(id, "case-2").await);
    assert_eq!(scene.due(9).await, []);
    assert!(!scene.begin(id).await);
    for _ in 0..2 {
        index.release_hold(&scene.tenant, id, &hold("case-1")).await.unwrap();
        assert!(!scene.begin(id).await, "the other hold is still there");
    }
    assert_eq!(scene.status(id).await, Status::Stored);
    index.release_hold(&scene.tenant, id, &hold("case-2")).await.unwrap();
    assert_eq!(scene.due(9).await, [id]);
    assert!(scene.begin(id).await);
    assert!(!scene.hold(id, "case-3").await, "a hold that comes too late is told so");
    assert!(scene.begin(id).await, "that hold counts for nothing");
}

async fn a_purge_leaves_a_tombstone(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    let facts = scene.event(scene.facts(id, &[("Eva Novák", "sip:eva@x")]));
    scene.tell_again(&facts).await;
    scene.end(id).await;
    scene.store_all().await;
    assert!(scene.build(id, 1, true).await);
    let before = scene.view(id).await.unwrap();
    index.end_purge(&scene.tenant, id).await.unwrap();
    assert_eq!(scene.status(id).await, Status::Stored, "what was not begun is not ended");

    assert!(scene.begin(id).await);
    assert_eq!(scene.status(id).await, Status::Purging);
    assert!(!scene.build(id, 2, true).await, "a build that was under way is not taken");
    for _ in 0..2 {
        index.end_purge(&scene.tenant, id).await.unwrap();
        // Delivered once more, years late: a queue may.
        scene.tell_again(&facts).await;
    }
    assert_eq!(scene.status(id).await, Status::Deleted);
    let after = scene.view(id).await.unwrap();
    assert_eq!(after.started_at, before.started_at);
    assert!(after.participants.is_empty() && after.call_ids.is_empty() && !after.playable);
    let (state, _) = index.state(&scene.tenant, id).await.unwrap().unwrap();
    assert_eq!(state.finalized, None, "the keys are gone");
    assert!(state.documents.is_empty() && state.facts.is_none());
    assert_eq!(scene.find_text("novak").await, []);
    assert_eq!(scene.find_text("call-of").await, []);
    assert_eq!(scene.find(query()).await, [id]);
    assert_eq!(scene.due(9).await, []);
    assert!(!scene.hold(id, "case-1").await);
}

async fn a_begun_purge_is_due_until_it_is_ended(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.store_one(&[]).await;
    assert!(scene.begin(id).await);
    // Even if the policy was changed meanwhile: half of its objects may be gone.
    let long_ago = WallTime::from_unix_ms(0);
    assert_eq!(index.due(&scene.tenant, long_ago, 9).await.unwrap(), [id]);
    index.end_purge(&scene.tenant, id).await.unwrap();
    assert_eq!(index.due(&scene.tenant, long_ago, 9).await.unwrap(), []);
}

async fn of_holds_and_purges_at_once_one_side_wins(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    for round in 0..ROUNDS {
        let id = scene.store_one(&[]).await;
        let names: Vec<String> = (0..RIVALS).map(|rival| format!("case-{rival}")).collect();
        let holds = async {
            let mut placed = Vec::new();
            for name in &names {
                placed.push(scene.hold(id, name).await);
            }
            placed
        };
        // Sometimes one side begins, sometimes the other.
        let purge = async {
            if round % 2 == 1 {
                tokio::time::sleep(Duration::from_millis(round as u64)).await;
            }
            scene.begin(id).await
        };
        let (placed, purged, purged_too) = tokio::join!(holds, purge, scene.begin(id));
        let purged = purged || purged_too;
        let held = placed.contains(&true);
        assert!(held != purged, "held: {placed:?}, purged: {purged}");
        assert!(!held || !placed.contains(&false), "a hold was refused for no reason: {placed:?}");
        let expected = if purged { Status::Purging } else { Status::Stored };
        assert_eq!(scene.status(id).await, expected);
    }
}

async fn an_event_that_comes_while_it_is_erased_leaves_nothing(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    for round in 0..ROUNDS {
        let id = scene.store_one(&[]).await;
        assert!(scene.begin(id).await);
        let facts = scene.event(scene.facts(id, &[("Eva Novák", "sip:+386123456@x")]));
        let late = async {
            if round % 2 == 1 {
                tokio::time::sleep(Duration::from_millis(round as u64 / 2)).await;
            }
            index.apply(&facts).await.unwrap();
        };
        let (erased, ()) = tokio::join!(index.end_purge(&scene.tenant, id), late);
        erased.unwrap();
        let (state, _) = index.state(&scene.tenant, id).await.unwrap().unwrap();
        assert!(state.facts.is_none() && state.documents.is_empty(), "{state:?}");
    }
    for text in ["novak", "386123456", "3456"] {
        assert_eq!(scene.find_text(text).await, [], "{text}");
    }
}

async fn the_unknown_is_not_found(index: &dyn RecordingIndex) {
    let scene = Scene::new(index);
    let (tenant, id) = (&scene.tenant, scene.new_id());
    let held = index.place_hold(tenant, id, &hold("case-1")).await;
    assert!(matches!(held, Err(StorageError::NotFound { .. })), "{held:?}");
    let begun = index.begin_purge(tenant, id).await;
    assert!(matches!(begun, Err(StorageError::NotFound { .. })), "{begun:?}");
    index.release_hold(tenant, id, &hold("case-1")).await.unwrap();
}
