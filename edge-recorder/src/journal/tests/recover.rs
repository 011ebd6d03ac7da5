//! What a start knows of the one before.

use super::*;

#[test]
fn a_new_directory_is_a_new_journal_and_a_second_start_is_its_second_epoch() {
    let disk = TornDisk::default();
    let (journal, first) = open(&disk);
    assert!(first.is_new && first.live.is_empty());
    assert_eq!((first.epoch, first.positions.received.position), (1, Position(0)));
    assert!(journal.close(Duration::from_secs(5)));
    let (_journal, second) = open(&disk);
    assert_eq!((second.journal_id, second.epoch, second.is_new), (first.journal_id, 2, false));
}

#[test]
fn the_epoch_is_on_the_disk_when_open_returns() {
    let mut disk = TornDisk::default();
    for epoch in 1..5 {
        let (journal, recovered) = open(&disk);
        assert_eq!(recovered.epoch, epoch);
        disk = disk.crash(epoch);
        abandon(journal);
    }
}

#[test]
fn a_live_session_comes_back_with_its_newest_dialog_and_an_ended_one_does_not() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    let handle = journal.handle();
    for number in 1..=3 {
        start(&handle, &tag(number));
        dialog(&handle, &tag(number), b"invite");
    }
    dialog(&handle, &tag(1), b"re-invite");
    packets(&handle, &tag(1), 500, b"audio");
    end(&handle, &tag(2));
    packets(&handle, &tag(2), 501, b"late audio");
    sync(&journal);
    let disk = disk.kill();
    abandon(journal);

    let (_journal, recovered) = open(&disk);
    let live = recovered.live;
    assert_eq!(live.len(), 2);
    assert_eq!(live[0].session, tag(1).session);
    assert_eq!(live[0].tenant, TenantId::default());
    assert_eq!(live[0].dialog.as_deref(), Some(&b"re-invite"[..]));
    assert_eq!(live[0].last_wall, at(500).wall());
    assert!(live[0].recordings.contains_key(&tag(1).recording));
    assert_eq!(live[1].session, tag(3).session);
    assert_eq!(live[1].dialog.as_deref(), Some(&b"invite"[..]));
    assert!(recovered.last_clock.is_some_and(|clock| clock.epoch == 1));
}

#[test]
fn the_words_of_a_dialog_and_of_an_event_are_not_readable_on_the_disk() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    let handle = journal.handle();
    start(&handle, &tag(1));
    dialog(&handle, &tag(1), b"sip:ana@example.com");
    sync(&journal);
    for name in disk.names() {
        let contents = disk.contents(&name);
        for secret in [&b"sip:ana"[..], b"call-1@sbc"] {
            assert!(!contents.windows(secret.len()).any(|window| window == secret), "{name}");
        }
    }
}

#[test]
fn an_event_opens_again_after_a_restart_with_the_position_of_its_record() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    let position = start(&journal.handle(), &tag(1));
    sync(&journal);
    let disk = disk.kill();
    abandon(journal);
    let (journal, _) = open(&disk);
    let record = all(&journal).into_iter().find(|record| record.position == position).unwrap();
    let body = record::SessionBody::parse(&record.body).unwrap();
    let event = journal.handle().open_event(position, body.event).unwrap();
    assert_eq!((event.position, event.epoch), (position, 1));
    assert_eq!(event.body, started_event(&tag(1)));
    assert_eq!(event.at, at(0).wall());
}

#[test]
fn a_directory_in_use_is_refused_with_words_for_the_operator() {
    let disk = TornDisk::default();
    let (_journal, _) = open(&disk);
    let error = Journal::open_on(Arc::new(disk.clone()), config()).map(|_| ()).unwrap_err();
    assert!(matches!(error, JournalError::InUse { .. }));
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[test]
fn a_file_of_a_newer_version_is_refused_and_named() {
    let disk = TornDisk::default();
    let (journal, _) = open(&disk);
    journal.close(Duration::from_secs(5));
    disk.corrupt("00000000.journal", |bytes| {
        bytes[8] = 2;
        let checksum = record::crc32c(&bytes[..124]);
        bytes[124..128].copy_from_slice(&checksum.to_le_bytes());
    });
    let error = Journal::open_on(Arc::new(disk), config()).map(|_| ()).unwrap_err();
    assert!(matches!(error, JournalError::TooNew { found: 2, known: 1, .. }));
    assert!(error.to_string().contains("00000000.journal"), "{error}");
}

#[test]
fn a_damaged_identity_costs_nothing() {
    let disk = TornDisk::default();
    let (journal, first) = open(&disk);
    start(&journal.handle(), &tag(1));
    sync(&journal);
    journal.close(Duration::from_secs(5));
    disk.corrupt("identity", |bytes| bytes[20] ^= 1);
    let (_journal, second) = open(&disk);
    assert_eq!((second.journal_id, second.epoch), (first.journal_id, 2));
    assert_eq!(second.live.len(), 1);
}

#[test]
fn a_missing_local_key_is_not_replaced_behind_the_operators_back() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), config()).unwrap();
    journal.close(Duration::from_secs(5));
    std::fs::remove_file(dir.path().join("local.key")).unwrap();
    let error = Journal::open(dir.path(), config()).map(|_| ()).unwrap_err();
    assert!(matches!(error, JournalError::LocalKey { .. }), "{error}");
    assert!(!dir.path().join("local.key").exists());
}

#[test]
fn a_journal_on_a_real_disk_is_found_again_and_verifies_while_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), config()).unwrap();
    let handle = journal.handle();
    start(&handle, &tag(1));
    for number in 0..100 {
        packets(&handle, &tag(1), number, &[number as u8; 2_000]);
        sync(&journal);
    }
    let report = verify(dir.path()).unwrap();
    assert!(report.is_good(), "{report:?}");
    assert!(report.files.len() > 5, "{report:?}");
    let records: u64 = report.files.iter().map(|file| file.records).sum();
    assert_eq!(records, handle.positions().synced.position.0);
    journal.close(Duration::from_secs(5));
    let (_journal, recovered) = Journal::open(dir.path(), config()).unwrap();
    assert_eq!(recovered.live.len(), 1);
    assert_eq!(recovered.positions.received.newest_packet, Some(at(99).wall()));
}

#[test]
fn there_is_nothing_wrong_with_an_empty_directory() {
    let dir = tempfile::tempdir().unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.journal, report.is_good()), (None, true));
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "verify only reads");
}
