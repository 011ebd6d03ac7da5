//! Events through a queue into an index, on engines that fail.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lambdas::indexer::{self, Handled};
use lambdas::reaper::Reaper;
use lambdas::worker::BuildRequest;
use model::event::{EventBody, RecordingEvent, VERSION};
use model::example::{history, redelivered};
use model::recording::Status;
use model::{EdgeId, JournalId, Position, RecordingId, SessionId, TenantId, WallTime};
use storage_embedded::{Embedded, QueueOptions, SqliteQueue};
use storage_ports::faulty::{Fail, Faults, Faulty, Loss};
use storage_ports::survived::survived;
use storage_ports::{Delivery, EventQueue, Message, RecordingIndex, contract};
use tokio::sync::watch;

struct World {
    _dir: tempfile::TempDir,
    engines: Embedded,
    events: Arc<SqliteQueue>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engines = Embedded::open(dir.path()).unwrap();
        // Messages whose loss goes unnoticed come back soon, or the tests would take minutes.
        let visibility = Duration::from_millis(500);
        let options = QueueOptions { visibility, ..QueueOptions::default() };
        let events = engines.queue("events", options);
        Self { _dir: dir, engines, events }
    }

    async fn receive(&self) -> Vec<Delivery> {
        self.events.receive(10, Duration::from_secs(5)).await.unwrap()
    }

    /// Sends and handles one event.
    async fn tell(&self, event: &RecordingEvent) {
        self.events.send(&[Message::now(event.to_json())]).await.unwrap();
        let batch = self.receive().await;
        let handled = self.handle(batch).await;
        assert_eq!(handled, Handled { applied: 1, ..Handled::default() });
    }

    async fn handle(&self, batch: Vec<Delivery>) -> Handled {
        let index = self.engines.index();
        indexer::handle(&*index, &*self.engines.finalize(), &*self.events, batch).await
    }

    async fn requests(&self) -> Vec<BuildRequest> {
        let work = self.engines.finalize();
        let mut requests = Vec::new();
        loop {
            let batch = work.receive(10, Duration::ZERO).await.unwrap();
            if batch.is_empty() {
                return requests;
            }
            for delivery in batch {
                work.acknowledge(&delivery.receipt).await.unwrap();
                requests.push(serde_json::from_str(&delivery.body).unwrap());
            }
        }
    }
}

fn event(epoch: u64, position: u64, body: EventBody) -> RecordingEvent {
    RecordingEvent {
        version: VERSION,
        edge: EdgeId::new("edge-1").unwrap(),
        journal: JournalId::at(1, [1; 10]),
        epoch,
        position: Position(position),
        at: WallTime::from_unix_ms(1_795_334_400_000),
        body,
    }
}

fn recording() -> RecordingId {
    RecordingId::at(1, [9; 10])
}

fn started() -> EventBody {
    EventBody::Started {
        tenant: TenantId::default(),
        recording: recording(),
        session: SessionId(recording().0),
        call_ids: vec!["1@pbx".to_owned()],
        flags: BTreeSet::new(),
    }
}

fn ended() -> EventBody {
    EventBody::Ended {
        tenant: TenantId::default(),
        recording: recording(),
        reason: "bye".to_owned(),
        duration_ms: 1_000,
        flags: BTreeSet::new(),
    }
}

fn beat(seq: u64, dead_man: bool) -> EventBody {
    EventBody::Beat { seq, stored_through: Position(0), live: vec![recording()], dead_man }
}

fn request() -> BuildRequest {
    BuildRequest { tenant: TenantId::default(), recording: recording() }
}

impl World {
    async fn status(&self) -> Status {
        let index = self.engines.index();
        let (state, journal) =
            index.state(&TenantId::default(), recording()).await.unwrap().unwrap();
        state.status(&journal)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_events_through_faults_give_exactly_the_right_index() {
    const SEED: u64 = 20_261_122;
    let world = World::new();
    let mut sent = history(SEED, 30);
    let mut seed = SEED;
    while sent.len() < 1_000 {
        seed += 1;
        sent.extend(history(seed, 30));
    }
    let delivered = redelivered(SEED, &sent);
    for batch in delivered.chunks(100) {
        let messages: Vec<_> = batch.iter().map(|event| Message::now(event.to_json())).collect();
        world.events.send(&messages).await.unwrap();
    }

    // Every engine fails now and then; the index loses requests and answers in turn.
    let (index_faults, work_faults, queue_faults) =
        (Faults::default(), Faults::default(), Faults::default());
    index_faults.fail(Fail::EveryKth(101), Loss::Request);
    work_faults.fail(Fail::EveryKth(23), Loss::Answer);
    queue_faults.fail(Fail::EveryKth(97), Loss::Answer);
    let index: Arc<dyn RecordingIndex> =
        Arc::new(Faulty::new(world.engines.index(), index_faults.clone()));
    let work: Arc<dyn EventQueue> =
        Arc::new(Faulty::new(world.engines.finalize(), work_faults.clone()));
    let events: Arc<dyn EventQueue> =
        Arc::new(Faulty::new(Arc::clone(&world.events), queue_faults.clone()));
    let (stop, stopped) = watch::channel(false);
    let workers = [0, 1].map(|_| {
        let (index, work, events) = (Arc::clone(&index), Arc::clone(&work), Arc::clone(&events));
        tokio::spawn(indexer::run(index, work, events, stopped.clone()))
    });

    let drained = async {
        let mut polls = 0;
        let mut idle = 0;
        while idle < 3 {
            polls += 1;
            if polls == 5 {
                index_faults.fail(Fail::EveryKth(89), Loss::Answer);
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            let depth = world.events.depth().await.unwrap();
            // What is in a worker's hands for longer than its visibility time waits again.
            idle = if depth.waiting == 0 { idle + 1 } else { 0 };
        }
    };
    tokio::time::timeout(Duration::from_secs(120), drained).await.unwrap();
    stop.send(true).unwrap();
    for worker in workers {
        worker.await.unwrap();
    }

    for (name, faults) in [("index", index_faults), ("work", work_faults), ("queue", queue_faults)]
    {
        assert!(faults.failures() > 0, "the {name} never failed: nothing was tried");
    }
    assert_eq!(world.events.depth().await.unwrap().dead_letters, 0);
    // Applies nothing and compares every state, view and pending build.
    contract::any_order_gives_one_index(&*world.engines.index(), &[], &sent).await;
    let asked: BTreeSet<_> =
        world.requests().await.into_iter().map(|build| build.recording).collect();
    for (_, recording) in
        world.engines.index().sweep(WallTime::from_unix_ms(i64::MIN)).await.unwrap()
    {
        assert!(asked.contains(&recording), "nobody asked for the build of {recording}");
    }
    survived(
        "queue duplicates and reorders",
        "1,000 events, shuffled and repeated, while queue and index fail now and then",
        "exactly the index that the events in order give",
    );
}

#[tokio::test]
async fn a_message_that_is_no_event_is_put_aside_alone_and_quotes_nobody() {
    let world = World::new();
    let good = event(1, 1, started()).to_json();
    let bodies = [
        "Eva Novák".to_owned(),
        good.clone(),
        r#"{"version": 1, "event": "Eva Novák", "position": 1}"#.to_owned(),
        r#"{"version": 2, "event": "started"}"#.to_owned(),
        good.replace("\"epoch\":1", "\"epoch\":\"Eva Novák\""),
    ];
    let messages: Vec<_> = bodies.into_iter().map(Message::now).collect();
    world.events.send(&messages).await.unwrap();
    let batch = world.receive().await;
    let handled = world.handle(batch).await;
    assert_eq!(handled, Handled { applied: 1, dead_letters: 4, given_back: 0 });
    assert_eq!(world.status().await, Status::Recording);
    let letters = world.events.dead_letters(10).await.unwrap();
    assert_eq!(letters.len(), 4);
    assert!(letters.iter().all(|letter| !letter.reason.contains("Eva")), "{letters:?}");
    assert!(letters.iter().any(|letter| letter.reason.contains("newer")), "{letters:?}");
    assert!(letters.iter().any(|letter| letter.reason.contains("line 1")), "{letters:?}");
}

#[tokio::test]
async fn an_event_is_not_acknowledged_before_its_builds_are_asked_for() {
    let world = World::new();
    world.tell(&event(1, 1, started())).await;
    world.tell(&event(1, 2, ended())).await;
    let stored = event(1, 2, EventBody::Stored { through: Position(2) });
    world.events.send(&[Message::now(stored.to_json())]).await.unwrap();
    let faults = Faults::default();
    let work = Faulty::new(world.engines.finalize(), faults.clone());
    faults.fail(Fail::Next(1), Loss::Request);
    let index = world.engines.index();
    let batch = world.receive().await;
    let handled = indexer::handle(&*index, &work, &*world.events, batch).await;
    assert_eq!(handled, Handled { given_back: 1, ..Handled::default() });
    assert_eq!(world.requests().await, []);
    let batch = world.receive().await;
    assert_eq!(batch[0].attempt, 2);
    let handled = indexer::handle(&*index, &work, &*world.events, batch).await;
    assert_eq!(handled, Handled { applied: 1, ..Handled::default() });
    assert_eq!(world.requests().await, [request()]);
}

#[tokio::test]
async fn an_index_that_is_away_is_asked_once_per_batch() {
    let world = World::new();
    let messages: Vec<_> =
        (1..=10).map(|at| Message::now(event(1, at, started()).to_json())).collect();
    world.events.send(&messages).await.unwrap();
    let faults = Faults::default();
    faults.fail(Fail::Always, Loss::Request);
    let index = Faulty::new(world.engines.index(), faults.clone());
    let batch = world.receive().await;
    let handled = indexer::handle(&index, &*world.engines.finalize(), &*world.events, batch).await;
    assert_eq!(handled, Handled { given_back: 10, ..Handled::default() });
    assert_eq!(faults.failures(), 1);
    assert_eq!(world.events.depth().await.unwrap().waiting, 10);
}

#[tokio::test]
async fn a_dead_mans_message_ends_a_call_and_a_newer_beat_reopens_it() {
    let world = World::new();
    world.tell(&event(1, 1, started())).await;
    world.tell(&event(1, 1, beat(1, false))).await;
    assert_eq!(world.status().await, Status::Recording);
    world.tell(&event(1, 1, beat(1, true))).await;
    assert_eq!(world.status().await, Status::Partial);
    assert_eq!(world.requests().await, [request()]);
    world.tell(&event(2, 1, beat(1, false))).await;
    assert_eq!(world.status().await, Status::Recording);
    world.tell(&event(2, 1, beat(1, true))).await;
    assert_eq!(world.status().await, Status::Partial, "it died again");
    assert_eq!(world.requests().await, [request()]);
    survived(
        "machine and disk gone for good: its calls",
        "its beats stop",
        "each call is finalised as `partial`, and reopened by a newer beat",
    );
}

fn a_minute_from_now() -> WallTime {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    WallTime::from_unix_ms(now.as_millis() as i64) + Duration::from_secs(60)
}

#[tokio::test]
async fn a_silent_edge_is_taken_for_dead_and_its_calls_are_built() {
    let world = World::new();
    world.tell(&event(1, 1, started())).await;
    let (index, work) = (world.engines.index(), world.engines.finalize());
    let mut reaper = Reaper::default();
    let soon = WallTime::from_unix_ms(a_minute_from_now().unix_ms() - 50_000);
    reaper.sweep(&*index, &*work, &*world.events, soon).await.unwrap();
    assert_eq!(world.status().await, Status::Recording, "ten seconds are not silence");
    let swept = reaper.sweep(&*index, &*work, &*world.events, a_minute_from_now()).await.unwrap();
    assert_eq!((swept.judged, swept.asked), (true, 1));
    assert_eq!(world.status().await, Status::Partial);
    assert_eq!(world.requests().await, [request()]);
    let swept = reaper.sweep(&*index, &*work, &*world.events, a_minute_from_now()).await.unwrap();
    assert_eq!((swept.to_build, swept.asked), (1, 0), "the finaliser was asked already");
    let swept = Reaper::default()
        .sweep(&*index, &*work, &*world.events, a_minute_from_now())
        .await
        .unwrap();
    assert_eq!(swept.asked, 1, "a new reaper cannot know that");
    let swept = Reaper::default()
        .sweep(&*index, &*work, &*world.events, a_minute_from_now())
        .await
        .unwrap();
    assert_eq!(swept.asked, 0, "but it sees the request in the queue");
}

#[tokio::test]
async fn a_verdict_is_not_lost_with_the_answer_of_the_queue() {
    let world = World::new();
    world.tell(&event(1, 1, started())).await;
    let index = world.engines.index();
    let faults = Faults::default();
    let work = Faulty::new(world.engines.finalize(), faults.clone());
    faults.only(Some("send"));
    faults.fail(Fail::Next(1), Loss::Request);
    let mut reaper = Reaper::default();
    let failed = reaper.sweep(&*index, &work, &*world.events, a_minute_from_now()).await;
    assert!(failed.is_err());
    let swept = reaper.sweep(&*index, &work, &*world.events, a_minute_from_now()).await.unwrap();
    assert_eq!(swept.asked, 1);
}

#[tokio::test]
async fn silence_proves_nothing_while_events_wait() {
    let world = World::new();
    world.tell(&event(1, 1, started())).await;
    let (index, work) = (world.engines.index(), world.engines.finalize());
    let beat = event(1, 1, beat(1, false));
    world.events.send(&[Message::now(beat.to_json())]).await.unwrap();
    // Eleven seconds in which nobody reads.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let swept = Reaper::default()
        .sweep(&*index, &*work, &*world.events, a_minute_from_now())
        .await
        .unwrap();
    assert!(!swept.judged);
    assert_eq!(world.status().await, Status::Recording);
}
