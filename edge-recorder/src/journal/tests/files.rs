//! Files: rolling, recycling, damage.

use std::collections::BTreeSet;

use super::*;

/// Fills a few files with one session's packets.
fn fill(journal: &Journal, commits: u64) {
    let handle = journal.handle();
    for number in 0..commits {
        packets(&handle, &tag(1), number, &[number as u8; 3_000]);
        sync(journal);
    }
}

fn journal_files(disk: &TornDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.ends_with(".journal")).collect()
}

#[test]
fn a_session_that_began_in_an_old_file_is_live_from_the_newest_file_alone() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    start(&journal.handle(), &tag(1));
    dialog(&journal.handle(), &tag(1), b"dialog");
    fill(&journal, 60);
    journal.close(Duration::from_secs(5));
    let files = journal_files(&disk);
    assert!(files.len() > 4);
    for name in &files[..files.len() - 1] {
        disk.corrupt(name, |bytes| bytes[..4096].fill(0));
    }
    let (_journal, recovered) = open(&disk);
    assert_eq!(recovered.live.len(), 1);
    assert_eq!(recovered.live[0].dialog.as_deref(), Some(&b"dialog"[..]));
}

#[test]
fn nothing_is_recycled_before_it_is_announced_and_everything_after() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    start(&journal.handle(), &tag(1));
    fill(&journal, 60);
    let held = journal_files(&disk).len();
    assert_eq!(all(&journal).len() as u64, journal.handle().positions().synced.position.0);
    deliver(&journal);
    for _ in 0..5 {
        fill(&journal, 60);
        deliver(&journal);
    }
    let now = journal_files(&disk).len();
    assert!(now <= held + config().spare_files, "{held} files, then {now}");
}

#[test]
fn what_an_outage_needed_is_given_back() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    start(&journal.handle(), &tag(1));
    fill(&journal, 200);
    let most = journal_files(&disk).len();
    for _ in 0..5 {
        deliver(&journal);
        fill(&journal, 20);
    }
    let now = journal_files(&disk).len();
    assert!(most > 20 && now <= config().spare_files + 5, "{most} files, then {now}");
}

#[test]
fn however_often_it_is_killed_and_started_the_journal_does_not_grow() {
    let mut disk = TornDisk::default();
    for _ in 0..30 {
        let (journal, recovered) = open(&disk);
        assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
        disk = disk.kill();
        abandon(journal);
    }
    let files = journal_files(&disk).len();
    assert!(files <= config().spare_files + 2, "{files} files");
}

#[test]
fn a_start_gives_back_nothing_that_is_not_announced() {
    let mut disk = TornDisk::default();
    let (journal, _) = open(&disk);
    start(&journal.handle(), &tag(1));
    fill(&journal, 60);
    let records = all(&journal).len();
    disk = disk.kill();
    abandon(journal);
    for _ in 0..10 {
        let (journal, recovered) = open(&disk);
        assert_eq!(recovered.live.len(), 1);
        assert!(all(&journal).len() >= records);
        disk = disk.kill();
        abandon(journal);
    }
}

#[test]
fn what_an_earlier_use_left_in_a_recycled_file_is_never_read() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    start(&journal.handle(), &tag(1));
    for _ in 0..4 {
        fill(&journal, 60);
        deliver(&journal);
    }
    // The newest files now end in records of their earlier generations.
    fill(&journal, 15);
    let disk = disk.kill();
    abandon(journal);
    let (journal, recovered) = open(&disk);
    assert!(recovered.damage.is_empty(), "{:?}", recovered.damage);
    let records = all(&journal);
    let positions: BTreeSet<Position> = records.iter().map(|record| record.position).collect();
    assert_eq!(positions.len(), records.len(), "a position came twice");
    assert!(records.is_sorted_by_key(|record| record.position));
    assert_eq!(records.last().map(|record| record.position), Some(recovered.last));
}

#[test]
fn a_flipped_bit_costs_one_record_and_is_reported() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    start(&journal.handle(), &tag(1));
    fill(&journal, 5);
    let before = all(&journal);
    let disk = disk.kill();
    abandon(journal);
    let hit = before.iter().find(|record| record.body.len() > 3_000).unwrap();
    let (victim, at) = (hit.position, find(&disk.contents("00000000.journal"), &hit.body));
    disk.corrupt("00000000.journal", |bytes| bytes[at + 2_000] ^= 0x10);

    let (journal, recovered) = open(&disk);
    assert_eq!(recovered.damage.len(), 1);
    assert_eq!(recovered.damage[0].after.next(), victim);
    assert_eq!(recovered.damage[0].file, "00000000.journal");
    let report = verify_on(&disk).unwrap();
    assert_eq!(report.damage, recovered.damage);
    let after = all(&journal);
    let expected: Vec<_> = before.into_iter().filter(|record| record.position != victim).collect();
    assert_eq!(after[..expected.len()], expected[..]);
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).position(|window| window == wanted).unwrap()
}

#[test]
fn a_block_that_cannot_be_read_keeps_no_call_from_being_resumed() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    start(&journal.handle(), &tag(1));
    fill(&journal, 10);
    let handle = journal.handle();
    let through = handle.positions().synced.position;
    disk.set(torn_disk::Faults { reads_fail: true, ..Default::default() });
    let mut reader = handle.reader(Position(0));
    assert!(reader.next(through).is_err(), "an error that may pass is not taken for a hole");
    disk.set(torn_disk::Faults::default());
    assert_eq!(reader.next(through).unwrap().unwrap().position, Position(1));
}

#[test]
fn a_record_larger_than_a_file_gets_a_larger_file() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    start(&journal.handle(), &tag(1));
    let body = vec![7; 3 * FILE_BYTES as usize];
    let position = packets(&journal.handle(), &tag(1), 5, &body);
    sync(&journal);
    fill(&journal, 3);
    let disk = disk.kill();
    abandon(journal);
    let (journal, recovered) = open(&disk);
    assert!(recovered.damage.is_empty());
    let found = all(&journal).into_iter().find(|record| record.position == position).unwrap();
    assert!(found.body.ends_with(&body));
}

#[test]
fn more_live_sessions_than_fit_a_file_get_larger_files() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    let handle = journal.handle();
    for number in 0..100 {
        start(&handle, &tag(number));
        dialog(&handle, &tag(number), &[number; 1_000]);
        sync(&journal);
    }
    let disk = disk.kill();
    abandon(journal);
    let (_journal, recovered) = open(&disk);
    assert_eq!(recovered.live.len(), 100);
    assert!(recovered.live.iter().all(|live| live.dialog.as_ref().unwrap().len() == 1_000));
}

#[test]
fn a_record_beyond_the_limit_is_refused_and_takes_no_position() {
    let (journal, _) = open(&TornDisk::default());
    let handle = journal.handle();
    let huge = vec![0; record::MAX_BODY_BYTES + 1];
    let result = handle.append_sealed(&tag(1), at(0), SealedKind::Metadata, None, |_| huge);
    assert!(matches!(result, Err(AppendError::TooLarge { .. })), "{result:?}");
    start(&handle, &tag(1));
    sync(&journal);
    assert_eq!(all(&journal).len(), 2);
}

#[test]
fn a_file_whose_header_is_gone_is_reported_and_never_written_over() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    start(&journal.handle(), &tag(1));
    fill(&journal, 30);
    journal.close(Duration::from_secs(5));
    let name = "00000001.journal";
    disk.corrupt(name, |bytes| bytes[40] ^= 1);
    let contents = disk.contents(name);
    let (journal, recovered) = open(&disk);
    assert!(recovered.damage.iter().any(|damage| damage.file == name), "{recovered:?}");
    assert_eq!(recovered.live.len(), 1);
    for _ in 0..3 {
        fill(&journal, 30);
        deliver(&journal);
    }
    assert_eq!(disk.contents(name), contents);
}

#[test]
fn a_journal_whose_files_were_recycled_out_of_order_verifies() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    start(&journal.handle(), &tag(1));
    for round in 0..6 {
        fill(&journal, 20 + round * 7);
        deliver(&journal);
        let report = verify_on(&disk).unwrap();
        assert!(report.is_good(), "round {round}: {report:?}");
    }
}
