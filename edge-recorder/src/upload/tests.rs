//! Tests of the promises in the head of `upload`: what is cut is stored, whole and once.

use std::collections::BTreeSet;

use model::object_key::segments_prefix;
use segment::SegmentReader;
use storage_embedded::Embedded;
use storage_ports::faulty::{Fail, Faults, Faulty, Loss};
use storage_ports::survived::survived;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::journal::tests::{abandon, config, open, packets, start, tag};
use crate::journal::torn_disk::TornDisk;
use crate::journal::{Journal, JournalConfig, SessionTag};

/// A journal that commits by itself, and a store that fails when told to.
struct Bench {
    journal: Journal,
    store: Arc<dyn ObjectStore>,
    faults: Faults,
    _dir: TempDir,
}

fn bench(disk: &TornDisk) -> Bench {
    let quick = JournalConfig { commit: Duration::from_millis(2), ..config() };
    let (journal, _) = Journal::open_on(Arc::new(disk.clone()), quick).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let engine: Arc<dyn ObjectStore> = Embedded::open(dir.path()).unwrap().objects();
    let faults = Faults::default();
    let store = Arc::new(Faulty::new(engine, faults.clone()));
    Bench { journal, store, faults, _dir: dir }
}

impl Bench {
    fn upload(&self, config: UploadConfig) -> (watch::Sender<Deliver>, JoinHandle<()>) {
        let (tell, told) = watch::channel(Deliver::GoOn);
        let running = run(self.journal.handle(), Arc::clone(&self.store), config, told);
        (tell, tokio::spawn(running))
    }

    async fn objects(&self, tenant: &TenantId) -> Vec<(SegmentName, Bytes)> {
        let prefix = segments_prefix(tenant, self.journal.handle().id());
        let mut objects = Vec::new();
        for meta in self.store.list(&prefix).await.unwrap() {
            let name = SegmentName::parse(&meta.key).unwrap();
            objects.push((name, self.store.get(&meta.key).await.unwrap()));
        }
        objects
    }

    /// Every record of packets in the store: session, position, bytes.
    async fn stored_packets(&self, tenant: &TenantId) -> Vec<(SessionId, Position, Vec<u8>)> {
        let mut found = Vec::new();
        for (_, bytes) in self.objects(tenant).await {
            for entry in SegmentReader::verify(&bytes).unwrap().sessions() {
                let range = entry.range();
                let records =
                    entry.records(&bytes[range.start as usize..range.end as usize]).unwrap();
                let packets = records.into_iter().filter(|r| r.kind == RecordKind::Packets);
                found.extend(packets.map(|r| (entry.session, r.position, r.bytes)));
            }
        }
        found
    }
}

/// What a test appended, in the shape in which the store is read back.
type Sent = Vec<(SessionId, Position, Vec<u8>)>;

fn talk(bench: &Bench, who: &SessionTag, ms: u64, bytes: usize, sent: &mut Sent) {
    let payload = vec![ms as u8; bytes];
    let position = packets(&bench.journal.handle(), who, ms, &payload);
    sent.push((who.session, position, payload));
}

/// Records for `seconds` of simulated time, 10 batches a second.
async fn record(bench: &Bench, seconds: u64, sent: &mut Sent) {
    for tenth in 0..seconds * 10 {
        talk(bench, &tag(1), tenth * 100, 160, sent);
        talk(bench, &tag(2), tenth * 100, 160, sent);
        tokio::time::sleep(Duration::from_millis(100)).await;
        // The writer lives on real time.
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn sorted(mut sent: Sent) -> Sent {
    sent.sort();
    sent
}

/// As [`record`], but 10 times as slow in simulated time, and as fast in real time.
async fn record_slowly(bench: &Bench, seconds: u64, sent: &mut Sent) {
    for second in 0..seconds {
        talk(bench, &tag(1), second * 1_000, 160, sent);
        talk(bench, &tag(2), second * 1_000, 160, sent);
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_loses_nothing_and_doubles_nothing() {
    for loss in [Loss::Request, Loss::Answer, Loss::Refused] {
        let bench = bench(&TornDisk::default());
        let (tell, upload) = bench.upload(UploadConfig::default());
        let mut sent = Sent::new();
        start(&bench.journal.handle(), &tag(1));
        start(&bench.journal.handle(), &tag(2));
        record(&bench, 12, &mut sent).await;
        bench.faults.fail(Fail::Always, loss);
        record_slowly(&bench, 3_600, &mut sent).await;
        bench.faults.fail(Fail::EveryKth(2), loss);
        record(&bench, 12, &mut sent).await;
        bench.faults.only(Some("put"));
        tell.send_replace(Deliver::Finish);
        upload.await.unwrap();
        bench.faults.heal();
        assert!(bench.faults.failures() > 100, "the store did fail");
        let stored = bench.stored_packets(&TenantId::default()).await;
        let records = sent.len();
        assert_eq!(sorted(stored), sorted(sent), "{loss:?}");
        let positions = bench.journal.handle().positions();
        assert_eq!(positions.stored.newest_packet, positions.received.newest_packet);
        let injected = match loss {
            Loss::Request => "every request fails for an hour, then every second one",
            Loss::Answer => "for an hour every PUT is carried out and its answer lost",
            Loss::Refused => "every request is refused for an hour, then every second one",
        };
        let fault = match loss {
            Loss::Request => "object store down for an hour, then flapping",
            Loss::Answer => "object store answers after the PUT was taken",
            Loss::Refused => "object store refuses the credentials",
        };
        survived(fault, injected, &format!("{records} records: none missing, none double"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_delays_everything_and_loses_nothing() {
    let bench = bench(&TornDisk::default());
    let (tell, upload) = bench.upload(UploadConfig::default());
    let mut sent = Sent::new();
    start(&bench.journal.handle(), &tag(1));
    start(&bench.journal.handle(), &tag(2));
    bench.faults.delay(Duration::from_secs(20));
    record(&bench, 120, &mut sent).await;
    tell.send_replace(Deliver::Finish);
    upload.await.unwrap();
    bench.faults.heal();
    let records = sent.len();
    assert_eq!(sorted(bench.stored_packets(&TenantId::default()).await), sorted(sent));
    survived(
        "object store slow",
        "every request takes 20 s, four times as long as a segment",
        &format!("{records} records: none missing, none double"),
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_leaves_in_a_second_than_is_allowed() {
    let bench = bench(&TornDisk::default());
    start(&bench.journal.handle(), &tag(1));
    let mut sent = Sent::new();
    for ms in 0..100 {
        talk(&bench, &tag(1), ms, 2_000, &mut sent);
    }
    let begun = Instant::now();
    let config = UploadConfig {
        max_slice_bytes: 20_000,
        bytes_per_sec: NonZeroU64::new(10_000),
        ..UploadConfig::default()
    };
    let (tell, upload) = bench.upload(config);
    tell.send_replace(Deliver::Finish);
    upload.await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(20), "200 kB in {:?}", begun.elapsed());
    assert_eq!(sorted(bench.stored_packets(&TenantId::default()).await), sorted(sent));
}

/// What a machine takes with it that never comes back.
#[tokio::test(start_paused = true)]
async fn what_only_this_machine_has_is_never_older_than_seven_seconds() {
    const LIMIT_MS: u64 = 7_000;
    let bench = bench(&TornDisk::default());
    let (_tell, _upload) = bench.upload(UploadConfig::default());
    let handle = bench.journal.handle();
    start(&handle, &tag(1));
    bench.faults.delay(Duration::from_millis(500));
    let begun = crate::journal::tests::at(0).wall();
    let mut worst_ms = 0;
    for tenth in 0..600_u64 {
        packets(&handle, &tag(1), tenth * 100, &[0; 160]);
        // The writer lives on real time, which must not be slower than the simulated one.
        while handle.positions().synced.position < handle.positions().received.position {
            std::thread::sleep(Duration::from_micros(100));
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = begun + Duration::from_millis(tenth * 100);
        let stored = handle.positions().stored.newest_packet.unwrap_or(begun);
        worst_ms = worst_ms.max(now.ms_since(stored));
    }
    assert!(worst_ms <= LIMIT_MS, "{worst_ms} ms");
    assert!(worst_ms >= 5_000, "{worst_ms} ms: less than a segment is not measured rightly");
    survived(
        "machine and disk gone for good: what goes with them",
        "the age of the oldest audio that is not in the store, with 500 ms for every PUT",
        &format!("never more than {worst_ms} ms of a live call"),
    );
}

#[tokio::test(start_paused = true)]
async fn slices_follow_each_other_without_a_gap_and_about_every_five_seconds() {
    let bench = bench(&TornDisk::default());
    let (tell, upload) = bench.upload(UploadConfig::default());
    start(&bench.journal.handle(), &tag(1));
    record(&bench, 30, &mut Sent::new()).await;
    tell.send_replace(Deliver::Finish);
    upload.await.unwrap();
    let objects = bench.objects(&TenantId::default()).await;
    assert!((5..=9).contains(&objects.len()), "{} segments in 30 s", objects.len());
    assert_eq!(objects[0].0.first, Position(1));
    for pair in objects.windows(2) {
        assert_eq!(pair[1].0.first, pair[0].0.last.next());
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_put_and_stored_repeats_the_same_bytes() {
    let disk = TornDisk::default();
    let bench = bench(&disk);
    let handle = bench.journal.handle();
    start(&handle, &tag(1));
    let mut sent = Sent::new();
    record(&bench, 3, &mut sent).await;
    let last = handle.positions().received.position;
    let cut = Cut { first: Position(1), last, max_object_bytes: 4_000 };
    handle.sync(handle.append_cut(cut).unwrap()).await.unwrap();
    let before = Slice::read(handle.reader(Position(0)), last, u64::MAX).unwrap();
    let before = before.into_objects(handle.id(), cut);
    assert!(before.len() > 1, "the cut is split");
    // Of the objects of the cut, the first had been stored when the machine stopped.
    bench.store.put(&before[0].0, before[0].1.clone(), PutMode::IfAbsent).await.unwrap();
    let disk = disk.crash(7);
    let Bench { journal, store, faults, _dir } = bench;
    abandon(journal);

    let quick = JournalConfig { commit: Duration::from_millis(2), ..config() };
    let (journal, _) = Journal::open_on(Arc::new(disk), quick).unwrap();
    let bench = Bench { journal, store, faults, _dir };
    // The limit is another now, as after an upgrade; the cut keeps its own.
    let limits = UploadConfig { max_object_bytes: 1 << 20, ..UploadConfig::default() };
    let (tell, upload) = bench.upload(limits);
    tell.send_replace(Deliver::Finish);
    upload.await.unwrap();
    let after = bench.objects(&TenantId::default()).await;
    let of_cut: Vec<_> = after.iter().filter(|(name, _)| name.first == cut.first).collect();
    assert_eq!(of_cut.len(), before.len());
    for ((key, body), (name, stored)) in before.iter().zip(of_cut) {
        assert_eq!(SegmentName::parse(key), Some(*name));
        assert_eq!(body, stored);
    }
    assert_eq!(sorted(bench.stored_packets(&TenantId::default()).await), sorted(sent));
}

#[tokio::test(start_paused = true)]
async fn a_large_slice_is_split_by_session_and_never_mixes_tenants() {
    let bench = bench(&TornDisk::default());
    let mut sent = BTreeSet::new();
    let other = TenantId::new("bank").unwrap();
    for number in 0..20 {
        let tenant = if number % 2 == 0 { TenantId::default() } else { other.clone() };
        let who = SessionTag { tenant: tenant.clone(), ..tag(number) };
        start(&bench.journal.handle(), &who);
        for ms in 0..3 {
            let position = packets(&bench.journal.handle(), &who, ms, &[number; 900]);
            sent.insert((tenant.clone(), who.session, position));
        }
    }
    let config = UploadConfig { max_object_bytes: 8_000, ..UploadConfig::default() };
    let (tell, upload) = bench.upload(config);
    tell.send_replace(Deliver::Finish);
    upload.await.unwrap();
    let mut found = BTreeSet::new();
    for tenant in [TenantId::default(), other] {
        let mut part_of_session: HashMap<SessionId, (Position, u32)> = HashMap::new();
        let objects = bench.objects(&tenant).await;
        assert!(objects.len() > 1, "27 kB in objects of 8 kB");
        for (name, bytes) in objects {
            let segment = SegmentReader::verify(&bytes).unwrap();
            assert_eq!(segment.tenant, tenant);
            for entry in segment.sessions() {
                let part = (name.first, name.part);
                let before = part_of_session.insert(entry.session, part);
                assert!(before.is_none_or(|held| held.0 != part.0), "a session in two parts");
            }
        }
        for (session, position, _) in bench.stored_packets(&tenant).await {
            found.insert((tenant.clone(), session, position));
        }
    }
    assert_eq!(found, sent);
}

#[tokio::test(start_paused = true)]
async fn a_backlog_leaves_in_slices_that_fit_in_memory() {
    let bench = bench(&TornDisk::default());
    start(&bench.journal.handle(), &tag(1));
    let mut sent = Sent::new();
    for ms in 0..100 {
        talk(&bench, &tag(1), ms, 2_000, &mut sent);
    }
    let config = UploadConfig { max_slice_bytes: 20_000, ..UploadConfig::default() };
    let (tell, upload) = bench.upload(config);
    tell.send_replace(Deliver::Finish);
    upload.await.unwrap();
    let objects = bench.objects(&TenantId::default()).await;
    assert!(objects.len() >= 10, "{} slices of 200 kB", objects.len());
    assert!(objects.iter().all(|(_, bytes)| bytes.len() < 25_000));
    assert_eq!(sorted(bench.stored_packets(&TenantId::default()).await), sorted(sent));
}

#[tokio::test(start_paused = true)]
async fn every_session_of_a_segment_has_a_clock() {
    let bench = bench(&TornDisk::default());
    start(&bench.journal.handle(), &tag(1));
    start(&bench.journal.handle(), &tag(2));
    let (tell, upload) = bench.upload(UploadConfig::default());
    record(&bench, 12, &mut Sent::new()).await;
    tell.send_replace(Deliver::Finish);
    upload.await.unwrap();
    for (_, bytes) in bench.objects(&TenantId::default()).await {
        for entry in SegmentReader::verify(&bytes).unwrap().sessions() {
            let range = entry.range();
            let records = entry.records(&bytes[range.start as usize..range.end as usize]).unwrap();
            let clock = records[0].as_clock().unwrap();
            assert_eq!((clock.epoch, clock.boot_id), (1, crate::journal::boot_id()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_recorder_stores_and_journals_nothing() {
    let bench = bench(&TornDisk::default());
    let (tell, upload) = bench.upload(UploadConfig::default());
    tokio::time::sleep(Duration::from_secs(600)).await;
    tell.send_replace(Deliver::Stop);
    upload.await.unwrap();
    assert_eq!(bench.journal.handle().positions().received.position, Position(0));
    assert!(bench.store.list("").await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_does_not_keep_the_recorder_from_stopping() {
    let disk = TornDisk::default();
    let bench = bench(&disk);
    bench.faults.fail(Fail::Always, Loss::Request);
    start(&bench.journal.handle(), &tag(1));
    let (tell, upload) = bench.upload(UploadConfig::default());
    tokio::time::sleep(Duration::from_secs(60)).await;
    tell.send_replace(Deliver::Stop);
    upload.await.unwrap();
    assert!(bench.journal.close(Duration::from_secs(5)));
    let (_journal, recovered) = open(&disk);
    assert_eq!(recovered.live.len(), 1);
}
