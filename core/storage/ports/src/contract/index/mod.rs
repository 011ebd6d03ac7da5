//! Promises of [`RecordingIndex`].

mod order;
mod purge;
mod scene;
mod scope;
mod search;

use std::time::Duration;

use model::event::{EventBody, RecordingEvent};
use model::index::Finalized;
use model::recording::Status;
use model::{Position, WallTime};

use super::now;
use crate::{RecordingIndex, StorageError};

pub use order::any_order_gives_one_index;
use scene::{Scene, query};
use search::searches;

/// Every promise of an index, but the one about order: [`any_order_gives_one_index`] is given
/// its events, so that engines can be tried with many histories.
pub async fn index(index: &dyn RecordingIndex) {
    a_started_call_is_found_and_live(index).await;
    an_event_before_its_start_is_kept_and_not_shown(index).await;
    a_call_is_built_once_all_of_it_is_stored(index).await;
    only_the_event_that_completed_a_call_tells_so_again(index).await;
    a_build_makes_a_call_playable(index).await;
    the_newest_build_wins(index).await;
    a_build_of_an_unknown_recording_is_not_found(index).await;
    a_dead_edge_leaves_partial_calls_and_its_return_reopens_them(index).await;
    a_silent_journal_is_swept(index).await;
    a_sweep_tells_every_recording_that_waits_to_be_built(index).await;
    tenants_do_not_see_each_other(index).await;
    live_calls_come_oldest_first(index).await;
    searches(index).await;
    scope::scopes(index).await;
    purge::holds_and_purges(index).await;
    events_applied_at_once_are_all_applied(index).await;
}

async fn a_started_call_is_found_and_live(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    assert_eq!(index.journal(scene.journal).await.unwrap(), None);
    let id = scene.new_id();
    assert_eq!(index.state(&scene.tenant, id).await.unwrap(), None);
    scene.tell(scene.started(id)).await;
    assert_eq!(scene.status(id).await, Status::Recording);
    let view = scene.view(id).await.unwrap();
    assert_eq!(view.started_at, scene.at);
    assert_eq!(view.call_ids, [format!("call-of-{id}")]);
    let journal = index.journal(scene.journal).await.unwrap().unwrap();
    assert_eq!(journal.last_seen, scene.at);
    assert!(index.journals().await.unwrap().contains(&journal));
}

async fn an_event_before_its_start_is_kept_and_not_shown(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.new_id();
    let start = scene.event(scene.started(id));
    scene.end(id).await;
    assert_eq!(scene.store_all().await, [], "what has not started is not built");
    assert_eq!(scene.view(id).await, None);
    assert_eq!(scene.tell_again(&start).await, [id], "its start was the last that was missing");
    assert_eq!(scene.status(id).await, Status::Finalizing);
}

async fn a_call_is_built_once_all_of_it_is_stored(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    assert_eq!(scene.store_all().await, []);
    assert_eq!(scene.end(id).await, []);
    assert_eq!(scene.status(id).await, Status::Finalizing);
    assert_eq!(scene.store_all().await, [id]);
    let other = scene.start().await;
    let far = Position(scene.position + 100);
    scene.tell(EventBody::Stored { through: far }).await;
    assert_eq!(scene.end(other).await, [other], "its end was stored before it was told");
}

async fn only_the_event_that_completed_a_call_tells_so_again(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    scene.end(id).await;
    let stored = scene.event(EventBody::Stored { through: Position(scene.position) });
    for _ in 0..3 {
        assert_eq!(scene.tell_again(&stored).await, [id], "a lost hand-over is repeated");
        assert_eq!(scene.beat().await, [], "a beat does not repeat the backlog");
        assert_eq!(scene.store_all().await, []);
    }
    assert!(scene.build(id, 1, true).await);
    assert_eq!(scene.tell_again(&stored).await, [], "it is built");
}

async fn a_build_makes_a_call_playable(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    scene.end(id).await;
    scene.store_all().await;
    assert!(!scene.view(id).await.unwrap().playable);
    assert!(scene.build(id, 1, true).await);
    assert_eq!(scene.status(id).await, Status::Stored);
    let view = scene.view(id).await.unwrap();
    assert!(view.playable);
    assert_eq!(view.duration_ms, Some(9_980));
    assert_eq!(scene.find_text("silent_track").await, [id]);
}

async fn the_newest_build_wins(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    scene.end(id).await;
    scene.store_all().await;
    assert!(scene.build(id, 2, true).await);
    assert!(scene.build(id, 2, true).await, "told again, because the answer was lost");
    assert!(!scene.build(id, 1, true).await);
    let rival = Finalized { duration_ms: 1, ..scene.built(2, true) };
    assert!(!index.finalized(&scene.tenant, id, rival).await.unwrap());
    assert!(scene.build(id, 3, true).await);
    let (state, _) = index.state(&scene.tenant, id).await.unwrap().unwrap();
    assert_eq!(state.finalized, Some(scene.built(3, true)));
}

async fn a_build_of_an_unknown_recording_is_not_found(index: &dyn RecordingIndex) {
    let scene = Scene::new(index);
    let answer = index.finalized(&scene.tenant, scene.new_id(), scene.built(1, true)).await;
    assert!(matches!(answer, Err(StorageError::NotFound { .. })), "{answer:?}");
}

async fn a_dead_edge_leaves_partial_calls_and_its_return_reopens_them(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let open = scene.start().await;
    let ended = scene.start().await;
    scene.beat().await;
    scene.store_all().await;
    scene.end(ended).await;
    let mut told = scene.dead_man().await;
    told.sort();
    let mut both = vec![open, ended];
    both.sort();
    assert_eq!(told, both, "what is there of both is built");
    assert_eq!(scene.status(open).await, Status::Partial);
    assert_eq!(scene.status(ended).await, Status::Partial, "its last seconds are on the edge");
    assert_eq!(scene.view(open).await.unwrap().end_reason.as_deref(), Some("edge_lost"));
    assert!(scene.build(open, 1, false).await);
    assert_eq!(scene.status(open).await, Status::Partial);

    scene.epoch += 1;
    scene.beat().await;
    assert_eq!(scene.status(open).await, Status::Recording);
    assert_eq!(scene.status(ended).await, Status::Finalizing);
    assert_eq!(scene.store_all().await, [ended]);
    scene.end(open).await;
    assert_eq!(scene.store_all().await, [open], "the partial build is not the last one");
    assert!(scene.build(open, 2, true).await);
    assert_eq!(scene.status(open).await, Status::Stored);
    scene.dead_man().await;
    assert_eq!(scene.status(open).await, Status::Stored, "nothing is lost of a stored call");
}

async fn a_silent_journal_is_swept(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    // This edge's clock is an hour slow.
    scene.at = WallTime::from_unix_ms(scene.at.unix_ms() - 3_600_000);
    let before = now();
    let id = scene.start().await;
    index.sweep(before).await.unwrap();
    assert_eq!(scene.status(id).await, Status::Recording, "it was heard of since");
    let told = index.sweep(now() + Duration::from_secs(1)).await.unwrap();
    assert!(told.contains(&(scene.tenant.clone(), id)));
    assert_eq!(scene.status(id).await, Status::Partial, "although no beat ever came");
    scene.beat().await;
    assert_eq!(scene.status(id).await, Status::Recording);
}

async fn a_sweep_tells_every_recording_that_waits_to_be_built(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let (built, waits, open) = (scene.start().await, scene.start().await, scene.start().await);
    scene.end(built).await;
    scene.end(waits).await;
    scene.store_all().await;
    scene.build(built, 1, true).await;
    for _ in 0..2 {
        let told = index.sweep(WallTime::from_unix_ms(0)).await.unwrap();
        let told = |id| told.contains(&(scene.tenant.clone(), id));
        assert_eq!((told(built), told(waits), told(open)), (false, true, false));
    }
}

async fn tenants_do_not_see_each_other(index: &dyn RecordingIndex) {
    let (mut ours, theirs) = (Scene::new(index), Scene::new(index));
    let id = ours.start_with(&[("Eva Novák", "sip:1@x")]).await;
    assert_eq!(ours.find_text("novak").await, [id]);
    assert_eq!(theirs.find_text("novak").await, []);
    assert_eq!(theirs.find(query()).await, []);
    assert_eq!(index.state(&theirs.tenant, id).await.unwrap(), None);
    assert_eq!(index.live(&theirs.tenant).await.unwrap(), []);
    let built = index.finalized(&theirs.tenant, id, theirs.built(1, true)).await;
    assert!(matches!(built, Err(StorageError::NotFound { .. })), "{built:?}");
}

async fn live_calls_come_oldest_first(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let ids = [scene.start().await, scene.start().await, scene.start().await];
    let live: Vec<_> =
        index.live(&scene.tenant).await.unwrap().into_iter().map(|live| live.id).collect();
    assert_eq!(live, ids);
    assert_eq!(scene.find(query()).await, [ids[2], ids[1], ids[0]], "a search: newest first");
}

async fn events_applied_at_once_are_all_applied(index: &dyn RecordingIndex) {
    let mut scene = Scene::new(index);
    let id = scene.start().await;
    let documents: Vec<RecordingEvent> =
        (0..8).map(|_| scene.event(scene.facts(id, &[("Eva", "sip:eva@pbx")]))).collect();
    let apply = async |events: &[RecordingEvent]| {
        for event in events {
            index.apply(event).await.unwrap();
        }
    };
    let (first, second) = documents.split_at(4);
    tokio::join!(apply(first), apply(second), apply(second), apply(first));
    let (state, _) = index.state(&scene.tenant, id).await.unwrap().unwrap();
    assert_eq!(state.documents.len(), 8);
}
