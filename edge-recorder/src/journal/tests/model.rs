//! Random histories on a disk that tears, against the simplest model there is: a list.

use std::collections::BTreeMap;

use proptest::prelude::*;
use storage_ports::survived::survived;

use super::record::Kind;
use super::torn_disk::Faults;
use super::*;

#[derive(Clone, Debug)]
enum Step {
    Start(u8),
    End(u8),
    Packets(u8, u16),
    Dialog(u8, u8),
    Sync,
    /// Syncs fail for a moment while this is appended.
    FailedSync(u8),
    Deliver,
    /// The machine stops after a commit may have begun.
    Crash(u64),
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let session = 0..4u8;
    prop_oneof![
        3 => session.clone().prop_map(Step::Start),
        1 => session.clone().prop_map(Step::End),
        8 => (session.clone(), 0..6_000u16).prop_map(|(number, bytes)| Step::Packets(number, bytes)),
        3 => (session.clone(), any::<u8>()).prop_map(|(number, byte)| Step::Dialog(number, byte)),
        6 => Just(Step::Sync),
        1 => session.prop_map(Step::FailedSync),
        2 => Just(Step::Deliver),
        2 => (1..u64::MAX).prop_map(Step::Crash),
        1 => Just(Step::Kill),
    ]
}

/// What was appended, and what of it was promised.
#[derive(Default)]
struct Model {
    appended: BTreeMap<Position, (Kind, u8, Vec<u8>)>,
    promised: Position,
    announced: Position,
    /// The greatest position ever given out.
    given: Position,
}

impl Model {
    fn took(&mut self, position: Position, kind: Kind, number: u8, payload: Vec<u8>) {
        assert!(position > self.given, "{position} was given out before");
        self.given = position;
        self.appended.insert(position, (kind, number, payload));
    }

    /// Sessions that are live when everything up to `last` happened.
    fn live(&self, last: Position) -> BTreeMap<u8, Option<Vec<u8>>> {
        let mut live = BTreeMap::new();
        for (kind, number, payload) in self.appended.range(..=last).map(|(_, record)| record) {
            match kind {
                Kind::Started => {
                    live.entry(*number).or_insert(None);
                }
                Kind::Ended => {
                    live.remove(number);
                }
                Kind::Dialog => {
                    live.entry(*number).and_modify(|held| *held = Some(payload.clone()));
                }
                _ => {}
            }
        }
        live
    }

    /// Holds what a start found against what was promised; forgets what was lost.
    fn check(&mut self, journal: &Journal, recovered: &Recovered) {
        assert!(recovered.last >= self.promised, "a synced record is gone");
        assert!(recovered.damage.is_empty(), "a tear is no damage: {:?}", recovered.damage);
        self.appended.retain(|position, _| *position <= recovered.last);
        let found: BTreeMap<Position, Record> = all(journal)
            .into_iter()
            .filter(|record| matches!(record.kind, Kind::Packets | Kind::Started | Kind::Ended))
            .map(|record| (record.position, record))
            .collect();
        for (position, record) in &found {
            let (kind, number, payload) =
                self.appended.get(position).expect("only what was appended is found");
            let body = record::SessionBody::parse(&record.body).unwrap();
            assert_eq!((record.kind, body.session), (*kind, tag(*number).session));
            assert_eq!(body.payload, payload);
        }
        for (position, (kind, ..)) in self.appended.range(self.announced.next()..) {
            if *kind != Kind::Dialog {
                assert!(found.contains_key(position), "{position} is gone");
            }
        }
        let live: BTreeMap<_, _> =
            recovered.live.iter().map(|live| (live.session, live.dialog.clone())).collect();
        let expected: BTreeMap<_, _> = self
            .live(recovered.last)
            .into_iter()
            .map(|(number, dialog)| (tag(number).session, dialog))
            .collect();
        assert_eq!(live, expected);
    }
}

fn run(steps: Vec<Step>) {
    let mut disk = TornDisk::default();
    let mut model = Model::default();
    let (mut journal, _) = open(&disk);
    for step in steps {
        let handle = journal.handle();
        match step {
            Step::Start(number) => {
                let position = start(&handle, &tag(number));
                model.took(position, Kind::Started, number, b"started".to_vec());
            }
            Step::End(number) => {
                let position = end(&handle, &tag(number));
                model.took(position, Kind::Ended, number, b"ended".to_vec());
            }
            Step::Packets(number, bytes) => {
                let payload = vec![bytes as u8; bytes.into()];
                let position = packets(&handle, &tag(number), bytes.into(), &payload);
                model.took(position, Kind::Packets, number, payload);
            }
            Step::Dialog(number, byte) => {
                let position = dialog(&handle, &tag(number), &[byte; 300]);
                model.took(position, Kind::Dialog, number, vec![byte; 300]);
            }
            Step::Sync => sync(&journal),
            Step::FailedSync(number) => {
                disk.set(Faults { syncs_fail: true, ..Faults::default() });
                let position = packets(&handle, &tag(number), 1, b"once");
                model.took(position, Kind::Packets, number, b"once".to_vec());
                let syncs = disk.syncs();
                let waiting = std::thread::spawn({
                    let handle = handle.clone();
                    move || wait(handle.sync(position))
                });
                while disk.syncs() == syncs {
                    std::thread::yield_now();
                }
                disk.set(Faults::default());
                waiting.join().unwrap().unwrap();
            }
            Step::Deliver => {
                sync(&journal);
                model.announced = handle.positions().synced.position;
                deliver(&journal);
            }
            Step::Crash(_) | Step::Kill => {
                if let Step::Crash(seed) = step {
                    // Without waiting: the commit is anywhere when the machine stops.
                    if seed % 2 == 0 {
                        let _ = wait(async {
                            let received = handle.positions().received.position;
                            tokio::time::timeout(Duration::ZERO, handle.sync(received)).await
                        });
                    }
                    disk = disk.crash(seed);
                } else {
                    disk = disk.kill();
                }
                model.promised = model.promised.max(handle.positions().synced.position);
                abandon(journal);
                let (reopened, recovered) = open(&disk);
                model.check(&reopened, &recovered);
                journal = reopened;
            }
        }
    }
    abandon(journal);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_start_after_any_crash_finds_all_that_was_synced_and_nothing_else(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        run(steps);
        survived(
            "power cut; torn tails and recycled files",
            "random histories on a disk that keeps any part of what was not synced",
            "a start finds all that was synced, no record that was never written, and every live call",
        );
    }

    #[test]
    fn any_damage_is_survived_and_costs_only_what_it_hit(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u8), 1..20)
    ) {
        let disk = TornDisk::default();
        let (journal, _) = open(&disk);
        start(&journal.handle(), &tag(1));
        for number in 0..20u16 {
            packets(&journal.handle(), &tag(1), number.into(), &[number as u8; 500]);
            sync(&journal);
        }
        let before = all(&journal);
        let disk = disk.kill();
        abandon(journal);
        let mut hit = 0;
        for name in disk.names().iter().filter(|name| name.ends_with(".journal")) {
            disk.corrupt(name, |bytes| {
                for (index, bit) in &flips {
                    let at = 4096 + index.index(FILE_BYTES as usize - 4096);
                    bytes[at] ^= 1 << bit;
                }
            });
            hit += flips.len();
        }
        let (journal, _) = open(&disk);
        let after = all(&journal);
        prop_assert!(after.iter().all(|record| before.contains(record)), "something was made up");
        prop_assert!(after.len() + hit + 1 >= before.len(), "{} of {}", after.len(), before.len());
        survived(
            "flipped bits in journal files",
            "up to 20 bits anywhere in every file",
            "the start succeeds; only the records that were hit are missing, and are reported",
        );
    }
}
