//! Disks that fail, stall and fill up.

use storage_ports::survived::survived;

use super::torn_disk::Faults;
use super::*;

#[test]
fn a_failed_sync_loses_nothing_that_is_still_in_the_buffer() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    let handle = journal.handle();
    start(&handle, &tag(1));
    sync(&journal);
    disk.set(Faults { syncs_fail: true, ..Faults::default() });
    let lost_once = packets(&handle, &tag(1), 10, b"written around a failed sync");
    let handle_waiting = handle.clone();
    let waiting = std::thread::spawn(move || wait(handle_waiting.sync(lost_once)));
    while handle.can_accept() != Err(CannotAccept::DiskFailing) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(handle.positions().synced.position < lost_once, "nothing is said to be synced");
    disk.set(Faults::default());
    waiting.join().unwrap().unwrap();
    assert_eq!(handle.can_accept(), Ok(()));
    // What the failed sync forgot must be on the platter now.
    let disk = disk.crash(1);
    abandon(journal);
    let (journal, recovered) = open(&disk);
    assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
    assert_eq!(all(&journal).iter().filter(|found| found.position == lost_once).count(), 1);
    assert_eq!(recovered.live.len(), 1);
    survived(
        "I/O errors when syncing",
        "syncs fail and forget what they should have written, then the machine stops",
        "written again until a sync succeeds; nothing is lost, nothing is called synced too early",
    );
}

#[test]
fn a_disk_that_stalls_refuses_packets_only_when_the_buffer_is_full_and_calls_after() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    let handle = journal.handle();
    start(&handle, &tag(1));
    disk.set(Faults { syncs_stall: true, ..Faults::default() });
    let batch = [0; 64 * 1024];
    let mut taken = 0;
    let refused = loop {
        let result =
            handle.append_sealed(&tag(1), at(taken), SealedKind::Packets, None, |_| batch.to_vec());
        match result {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::Full);
    assert_eq!(taken, 16, "a buffer of 1 MiB takes 16 batches of 64 KiB");
    assert_eq!(handle.can_accept(), Err(CannotAccept::DiskSlow));
    end(&handle, &tag(1));
    disk.set(Faults::default());
    sync(&journal);
    assert_eq!(handle.can_accept(), Ok(()));
    let sealed = all(&journal).iter().filter(|found| found.kind == record::Kind::Packets).count();
    assert_eq!(sealed as u64, taken);
}

#[test]
fn a_full_disk_refuses_new_calls_and_keeps_the_ones_in_progress() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    let handle = journal.handle();
    assert_eq!(handle.can_accept(), Ok(()));
    start(&handle, &tag(1));
    disk.set(Faults { full: true, ..Faults::default() });
    packets(&handle, &tag(1), 1, b"goes on");
    sync(&journal);
    let begun = std::time::Instant::now();
    while handle.can_accept().is_ok() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let refused = handle.can_accept().unwrap_err();
    assert!(matches!(refused, CannotAccept::DiskFull { free_bytes: 0, .. }), "{refused:?}");
}

#[test]
fn closing_commits_what_waits_and_later_appends_are_refused() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    let handle = journal.handle();
    let position = start(&handle, &tag(1));
    assert!(journal.close(Duration::from_secs(5)));
    let refused = handle.append(&tag(1), at(1), AppendRecord::Dialog { plain: Vec::new() });
    assert_eq!(refused, Err(AppendError::Closed));
    assert_eq!(wait(handle.wait_synced(position)), Ok(()));
    assert_eq!(wait(handle.wait_synced(position.next())), Err(AppendError::Closed));
    let (_journal, recovered) = open(&disk);
    assert_eq!(recovered.live.len(), 1);
}

#[test]
fn a_commit_follows_the_first_record_without_anybody_asking() {
    let disk = TornDisk::default();
    let quick = JournalConfig { commit: Duration::from_millis(20), ..config() };
    let (journal, _) = Journal::open_on(Arc::new(disk.clone()), quick).unwrap();
    let syncs = disk.syncs();
    let handle = journal.handle();
    let positions: Vec<_> = (0..10).map(|_| start(&handle, &tag(1))).collect();
    let last = positions[9];
    wait(handle.wait_synced(last)).unwrap();
    assert!(disk.syncs() - syncs <= 2, "records of one interval are one commit");
}

#[test]
fn every_sync_is_told_to_the_observer() {
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let on_sync: SyncObserver = Arc::new(move |_, worked| listener.lock().unwrap().push(worked));
    let disk = TornDisk::default();
    let observed = JournalConfig { on_sync: Some(on_sync), ..config() };
    let (journal, _) = Journal::open_on(Arc::new(disk), observed).unwrap();
    start(&journal.handle(), &tag(1));
    sync(&journal);
    assert_eq!(*told.lock().unwrap(), [true, true]);
}

/// A journal whose only spare file is the one with this name.
fn with_one_spare_file(disk: &TornDisk) -> (Journal, String) {
    let (journal, _) = open(disk);
    let first = disk.names().into_iter().find(|name| name.ends_with(".journal")).unwrap();
    let handle = journal.handle();
    start(&handle, &tag(1));
    // The file is full, so the next record begins another and leaves this one behind.
    for ms in 0..4 {
        packets(&handle, &tag(1), ms, &[1; 10 * 1024]);
        sync(&journal);
    }
    deliver(&journal);
    (journal, first)
}

#[test]
fn a_bad_block_under_the_only_spare_file_does_not_stop_the_journal() {
    let disk = TornDisk::default();
    let (journal, spare) = with_one_spare_file(&disk);
    disk.set_broken(&spare, true);
    let handle = journal.handle();
    let mut sent = Vec::new();
    for ms in 10..30 {
        sent.push(packets(&handle, &tag(1), ms, &[2; 10 * 1024]));
        sync(&journal);
        deliver(&journal);
    }
    assert_eq!(handle.can_accept(), Ok(()));
    let disk = disk.crash(3);
    abandon(journal);
    let (journal, recovered) = open(&disk);
    assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
    assert_eq!(recovered.live.len(), 1);
    drop(journal);
    survived(
        "I/O errors when writing",
        "the next journal file lies over a bad block",
        "the file is put aside and recording goes on in another",
    );
}

#[test]
fn files_that_fail_are_tried_again_when_there_is_no_room_for_others_and_do_not_pile_up() {
    let disk = TornDisk::default();
    let (journal, spare) = with_one_spare_file(&disk);
    disk.set_broken(&spare, true);
    disk.set(Faults { full: true, ..Faults::default() });
    let handle = journal.handle();
    let last = packets(&handle, &tag(1), 10, &[2; 10 * 1024]);
    let handle_waiting = handle.clone();
    let waiting = std::thread::spawn(move || wait(handle_waiting.sync(last)));
    while handle.can_accept() != Err(CannotAccept::DiskFailing) {
        std::thread::sleep(Duration::from_millis(1));
    }
    disk.set_broken(&spare, false);
    waiting.join().unwrap().unwrap();

    // A disk that fails whatever it is given: every attempt makes a file.
    disk.set(Faults { writes_fail: true, ..Faults::default() });
    let last = packets(&handle, &tag(1), 20, &[3; 10 * 1024]);
    let handle_waiting = handle.clone();
    let waiting = std::thread::spawn(move || wait(handle_waiting.sync(last)));
    std::thread::sleep(Duration::from_secs(1));
    disk.set(Faults::default());
    waiting.join().unwrap().unwrap();
    assert!(disk.names().len() < 20, "{:?}", disk.names());
}

#[test]
fn the_silence_before_a_packet_does_not_count_as_its_age() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    let handle = journal.handle();
    start(&handle, &tag(1));
    packets(&handle, &tag(1), 1_000, b"first");
    sync(&journal);
    deliver(&journal);
    assert_eq!(handle.positions().oldest_unstored, None);
    packets(&handle, &tag(1), 3_600_000, b"after an hour of silence");
    assert_eq!(handle.positions().oldest_unstored, Some(at(3_600_000).wall()));
    sync(&journal);
    let disk = disk.kill();
    abandon(journal);
    let (journal, recovered) = open(&disk);
    assert_eq!(recovered.positions.oldest_unstored, Some(at(3_600_000).wall()));
    deliver(&journal);
    assert_eq!(journal.handle().positions().oldest_unstored, None);
}
