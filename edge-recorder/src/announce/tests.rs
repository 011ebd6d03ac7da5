//! Tests of the promises in the head of `announce`: what is told, in which order, and how often.

use std::collections::BTreeSet;

use model::EdgeId;
use storage_embedded::Embedded;
use storage_ports::faulty::{Fail, Faults, Faulty, Loss};
use storage_ports::survived::survived;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::journal::tests::{abandon, config, end, open, start, started_event, sync, tag};
use crate::journal::torn_disk::{self, TornDisk};
use crate::journal::{Journal, JournalConfig};

struct Bench {
    journal: Journal,
    queue: Arc<dyn EventQueue>,
    faults: Faults,
    _dir: TempDir,
}

fn bench(disk: &TornDisk) -> Bench {
    let quick = JournalConfig { commit: Duration::from_millis(2), ..config() };
    let (journal, _) = Journal::open_on(Arc::new(disk.clone()), quick).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let engine: Arc<dyn EventQueue> = Embedded::open(dir.path()).unwrap().events();
    let faults = Faults::default();
    let queue = Arc::new(Faulty::new(engine, faults.clone()));
    Bench { journal, queue, faults, _dir: dir }
}

/// Beats would only be noise in most tests.
const NO_BEATS: AnnounceConfig =
    AnnounceConfig { beat: Duration::from_secs(1 << 20), dead_man: Duration::from_secs(25) };

impl Bench {
    fn announce(&self, config: AnnounceConfig) -> (watch::Sender<Deliver>, JoinHandle<()>) {
        let (tell, told) = watch::channel(Deliver::GoOn);
        let running = run(self.journal.handle(), Arc::clone(&self.queue), config, told);
        (tell, tokio::spawn(running))
    }

    async fn synced(&self) {
        let handle = self.journal.handle();
        handle.sync(handle.positions().received.position).await.unwrap();
    }

    /// Everything in the queue, but beats, and takes it out.
    async fn events(&self) -> Vec<RecordingEvent> {
        let mut events = self.everything().await;
        events.retain(|event| !matches!(event.body, EventBody::Beat { .. }));
        events
    }

    async fn everything(&self) -> Vec<RecordingEvent> {
        let mut events = Vec::new();
        loop {
            let batch = self.queue.receive(10, Duration::ZERO).await.unwrap();
            if batch.is_empty() {
                return events;
            }
            for delivery in batch {
                events.push(RecordingEvent::from_json(&delivery.body).unwrap());
                self.queue.acknowledge(&delivery.receipt).await.unwrap();
            }
        }
    }

    /// Waits until everything synced is announced; panics when that takes too long.
    async fn announced(&self) {
        for _ in 0..5_000 {
            let head = self.journal.handle().head();
            if head.newest_event > Position(0) && head.newest_event <= head.events_through {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            // The writer lives on real time.
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("not announced");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_leaves_within_a_second_of_being_synced_and_not_before() {
    let disk = TornDisk::default();
    let bench = bench(&disk);
    let (_tell, _announce) = bench.announce(NO_BEATS);
    disk.set(torn_disk::Faults { syncs_stall: true, ..Default::default() });
    let position = start(&bench.journal.handle(), &tag(1));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(bench.events().await.is_empty(), "its record is not on the disk");
    disk.set(torn_disk::Faults::default());
    bench.journal.handle().wait_synced(position).await.unwrap();
    let synced = tokio::time::Instant::now();
    bench.announced().await;
    assert!(synced.elapsed() < Duration::from_secs(1), "{:?}", synced.elapsed());
    let events = bench.events().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].position, position);
    assert_eq!(events[0].body, started_event(&tag(1)));
    assert_eq!(events[0].edge, EdgeId::new("edge-1").unwrap());
    assert_eq!(events[0].journal, bench.journal.handle().id());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_away_gets_every_event_when_it_is_back() {
    for loss in [Loss::Request, Loss::Answer] {
        let bench = bench(&TornDisk::default());
        let (tell, announce) = bench.announce(NO_BEATS);
        bench.faults.fail(Fail::Always, loss);
        let mut sent = BTreeSet::new();
        for number in 0..35 {
            sent.insert(start(&bench.journal.handle(), &tag(number)));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        bench.faults.fail(Fail::EveryKth(2), loss);
        bench.faults.only(Some("send"));
        bench.announced().await;
        bench.faults.heal();
        let events = bench.events().await;
        let found: BTreeSet<Position> = events.iter().map(|event| event.position).collect();
        assert_eq!(found, sent, "{loss:?}");
        if loss == Loss::Request {
            assert_eq!(events.len(), sent.len(), "nothing was taken twice");
        }
        tell.send_replace(Deliver::Stop);
        announce.await.unwrap();
    }
    survived(
        "queue down, then flapping",
        "every send fails for 35 s, then every second one; its answer or the request is lost",
        "every event arrives; twice only where the answer was lost",
    );
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_only_what_was_not_announced_leaves_again() {
    let disk = TornDisk::default();
    let bench = bench(&disk);
    let (tell, announce) = bench.announce(NO_BEATS);
    start(&bench.journal.handle(), &tag(1));
    bench.announced().await;
    assert_eq!(bench.events().await.len(), 1);
    bench.faults.fail(Fail::Always, Loss::Request);
    let waiting = start(&bench.journal.handle(), &tag(2));
    bench.journal.handle().wait_synced(waiting).await.unwrap();
    tell.send_replace(Deliver::Stop);
    announce.await.unwrap();
    let disk = disk.crash(3);
    let Bench { journal, queue, faults, _dir } = bench;
    abandon(journal);
    faults.heal();

    let quick = JournalConfig { commit: Duration::from_millis(2), ..config() };
    let (journal, _) = Journal::open_on(Arc::new(disk), quick).unwrap();
    let bench = Bench { journal, queue, faults, _dir };
    let (_tell, _announce) = bench.announce(NO_BEATS);
    bench.announced().await;
    let events = bench.events().await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((events[0].position, events[0].epoch), (waiting, 1));
}

#[tokio::test(start_paused = true)]
async fn stored_is_told_once_its_record_is_there_and_moves_announced() {
    let bench = bench(&TornDisk::default());
    let (tell, announce) = bench.announce(NO_BEATS);
    let handle = bench.journal.handle();
    let through = start(&handle, &tag(1));
    let at = WallTime::from_unix_ms(1_700_000_000_000);
    let position = handle.append_stored(Stored { through, newest_packet: Some(at), at }).unwrap();
    bench.synced().await;
    tell.send_replace(Deliver::Finish);
    announce.await.unwrap();
    let events = bench.events().await;
    let stored = events.iter().find(|event| event.position == position).unwrap();
    assert_eq!((&stored.body, stored.at), (&EventBody::Stored { through }, at));
    bench.synced().await;
    let positions = handle.positions();
    assert_eq!(positions.announced.newest_packet, Some(at));
    assert_eq!(positions.announced.position, positions.synced.position, "nothing is left to do");
}

#[tokio::test(start_paused = true)]
async fn finishing_waits_for_what_is_not_stored() {
    let bench = bench(&TornDisk::default());
    let (tell, announce) = bench.announce(NO_BEATS);
    let handle = bench.journal.handle();
    let through = start(&handle, &tag(1));
    bench.synced().await;
    tell.send_replace(Deliver::Finish);
    bench.announced().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!announce.is_finished(), "its media is not in the store");
    let at = WallTime::default();
    handle.append_stored(Stored { through, newest_packet: None, at }).unwrap();
    announce.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_beat_names_the_calls_in_progress_and_has_a_delayed_copy() {
    let bench = bench(&TornDisk::default());
    let handle = bench.journal.handle();
    start(&handle, &tag(1));
    start(&handle, &tag(2));
    end(&handle, &tag(1));
    bench.synced().await;
    let [now, dead_man] = beat(&handle, &AnnounceConfig::default(), 7, WallTime::default());
    assert_eq!((now.delay, dead_man.delay), (Duration::ZERO, Duration::from_secs(25)));
    let read = |message: Message| RecordingEvent::from_json(&message.body).unwrap().body;
    let expected = |dead_man| EventBody::Beat {
        seq: 7,
        stored_through: Position(0),
        live: vec![tag(2).recording],
        dead_man,
    };
    assert_eq!(read(now), expected(false));
    assert_eq!(read(dead_man), expected(true));
}

#[tokio::test(start_paused = true)]
async fn beats_come_every_five_seconds_and_one_that_fails_is_not_repeated() {
    let bench = bench(&TornDisk::default());
    let (tell, announce) = bench.announce(AnnounceConfig::default());
    // Between the first beat (at once) and the second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.faults.fail(Fail::Next(2), Loss::Request);
    bench.faults.only(Some("send"));
    tokio::time::sleep(Duration::from_secs(25)).await;
    tell.send_replace(Deliver::Stop);
    announce.await.unwrap();
    let beats = bench.everything().await;
    let numbers: Vec<u64> = beats
        .iter()
        .filter_map(|event| match event.body {
            EventBody::Beat { seq, dead_man: false, .. } => Some(seq),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [1, 4, 5, 6]);
    assert_eq!(beats.len(), numbers.len(), "the dead-man's messages are held back");
}

#[test]
fn a_batch_fits_the_queue() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    for number in 0..25 {
        start(&journal.handle(), &tag(number));
    }
    sync(&journal);
    let handle = journal.handle();
    let mut reader = handle.reader(Position(0));
    let through = handle.positions().synced.position;
    let sizes: Vec<usize> = std::iter::from_fn(|| {
        let batch = read_batch(&handle, &mut reader, through).unwrap();
        (!batch.messages.is_empty()).then_some(batch.messages.len())
    })
    .collect();
    assert_eq!(sizes, [10, 10, 5]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_opened_does_not_hold_back_the_next() {
    let disk = TornDisk::default();
    let bench = bench(&disk);
    start(&bench.journal.handle(), &tag(1));
    bench.synced().await;
    let disk = disk.crash(1);
    let Bench { journal, queue, faults, _dir } = bench;
    abandon(journal);
    disk.corrupt("local.key", |key| key[0] ^= 1);
    let quick = JournalConfig { commit: Duration::from_millis(2), ..config() };
    let (journal, _) = Journal::open_on(Arc::new(disk), quick).unwrap();
    let bench = Bench { journal, queue, faults, _dir };
    let (_tell, _announce) = bench.announce(NO_BEATS);
    bench.announced().await;
    assert!(bench.events().await.is_empty());
    let next = start(&bench.journal.handle(), &tag(2));
    bench.journal.handle().wait_synced(next).await.unwrap();
    bench.announced().await;
    assert_eq!(bench.events().await.len(), 1);
}
