//! Re-reads what a run recorded. A measurement of a recorder that lost something is no
//! measurement.
//!
//! Valid is a run of which every checksum of the journal is right, every segment and every sealed
//! body opens, and every packet that was sent is there once.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use segment::{Body, Opener, RecordKind, SealedKey, SegmentReader, TenantKeyPair};
use serde::{Deserialize, Serialize};
use siprec::rtp::SequenceUnwrapper;
use storage_embedded::Embedded;
use storage_ports::ObjectStore;

use crate::generate::Sent;

pub const KEY_NAME: &str = "tenant.key";
pub const JOURNAL_NAME: &str = "journal";

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub journal_records: u64,
    /// Holes in what the journal had synced.
    pub journal_damage: usize,
    pub segments: usize,
    pub sent: u64,
    pub found: u64,
    pub missing: u64,
    pub doubled: u64,
}

impl Proof {
    pub fn is_valid(&self) -> bool {
        self.journal_damage == 0 && self.missing == 0 && self.doubled == 0 && self.sent > 0
    }
}

/// Looks for everything that was sent in the data directory of a recorder that has exited.
pub fn read(dir: &Path, sent: &[Sent]) -> Result<Proof> {
    let report = edge_recorder::journal::verify(&dir.join(JOURNAL_NAME))?;
    let mut found: HashMap<u32, Found> =
        sent.iter().map(|sent| (sent.ssrc, Found::of(sent))).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let segments = runtime.block_on(read_segments(dir, &mut found))?;
    Ok(Proof {
        journal_records: report.files.iter().map(|file| file.records).sum(),
        journal_damage: report.damage.len(),
        segments,
        sent: sent.iter().map(|sent| sent.packets).sum(),
        found: found.values().map(|found| found.packets - found.doubled).sum(),
        missing: found.values().map(Found::missing).sum(),
        doubled: found.values().map(|found| found.doubled).sum(),
    })
}

async fn read_segments(dir: &Path, found: &mut HashMap<u32, Found>) -> Result<usize> {
    let key = std::fs::read(dir.join(KEY_NAME)).context("read the tenant's key")?;
    let key = key.try_into().map_err(|_| anyhow::anyhow!("a tenant's key has 32 bytes"))?;
    let tenant = TenantKeyPair::from_bytes(key);
    let objects = Embedded::open(dir)?.objects();
    let listed = objects.list("t/default/segments/").await?;
    let mut keys: HashMap<model::SessionId, Vec<SealedKey>> = HashMap::new();
    // In order of key, which is in order of position: a session's key comes before its bodies.
    for object in &listed {
        let bytes = objects.get(&object.key).await?;
        let reader = SegmentReader::verify(&bytes)?;
        for entry in reader.sessions() {
            let range = entry.range();
            let records = entry.records(&bytes[range.start as usize..range.end as usize])?;
            let keys = keys.entry(entry.session).or_default();
            for record in records.iter().filter(|record| record.kind == RecordKind::Key) {
                keys.push(record.as_key()?);
            }
            let opener = Opener::new(&tenant, entry.session, keys);
            for record in &records {
                if let Some(Body::Packets(packets)) = opener.open_record(record)? {
                    for packet in packets {
                        take(found, &packet.datagram)?;
                    }
                }
            }
        }
    }
    Ok(listed.len())
}

fn take(found: &mut HashMap<u32, Found>, datagram: &[u8]) -> Result<()> {
    ensure!(datagram.len() >= 12, "a packet of {} bytes", datagram.len());
    let ssrc = u32::from_be_bytes([datagram[8], datagram[9], datagram[10], datagram[11]]);
    let sequence = u16::from_be_bytes([datagram[2], datagram[3]]);
    found.get_mut(&ssrc).with_context(|| format!("SSRC {ssrc} was never sent"))?.take(sequence);
    Ok(())
}

/// What was found of one stream.
struct Found {
    numbers: SequenceUnwrapper,
    first: i64,
    seen: Vec<bool>,
    packets: u64,
    doubled: u64,
}

impl Found {
    fn of(sent: &Sent) -> Self {
        let mut numbers = SequenceUnwrapper::default();
        let first = numbers.extend(sent.first_sequence).0;
        let seen = vec![false; sent.packets as usize];
        Self { numbers, first, seen, packets: 0, doubled: 0 }
    }

    fn take(&mut self, sequence: u16) {
        self.packets += 1;
        let index = self.numbers.extend(sequence).0 - self.first;
        match usize::try_from(index).ok().and_then(|index| self.seen.get_mut(index)) {
            Some(seen) if !*seen => *seen = true,
            _ => self.doubled += 1,
        }
    }

    fn missing(&self) -> u64 {
        self.seen.iter().filter(|seen| !**seen).count() as u64
    }
}

#[test]
fn what_is_missing_and_what_came_twice_is_counted_across_a_wrap() {
    let sent = Sent { ssrc: 1, first_sequence: 65_534, packets: 5 };
    let mut found = Found::of(&sent);
    for sequence in [65_534, 65_535, 1, 1] {
        found.take(sequence);
    }
    assert_eq!((found.missing(), found.doubled), (2, 1));
}

#[test]
fn a_run_that_sent_nothing_proves_nothing() {
    assert!(!Proof::default().is_valid());
    let one = Proof { sent: 1, found: 1, ..Proof::default() };
    assert!(one.is_valid());
    assert!(!Proof { missing: 1, ..one.clone() }.is_valid());
    assert!(!Proof { journal_damage: 1, ..one }.is_valid());
}
