//! Reads again what was recorded, and names what is wrong: the answer to "is it all still there?".
//!
//! | what | how |
//! | --- | --- |
//! | journal | every record's checksum, where it counts |
//! | segments | every checksum; nothing between and nothing after |
//! | packets objects | every checksum; every body opens with the tenant's key |
//! | playable files | SHA-256 as the manifest says; the manifest's own as the index says |
//! | packets | as many as the index says were received |
//!
//! Takes no lock and writes nothing, so it runs beside `run`: what is deleted or replaced while it
//! is read is read again or left out, and is no fault.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use edge_recorder::journal;
use media::manifest::sha256_hex;
use model::index::{Finalized, JournalState};
use model::object_key::{ObjectKey, Output, SegmentName, recording_prefix};
use model::recording::MarkKind;
use model::search::{MAX_LIMIT, SearchQuery};
use model::{Position, RecordingId, RecordingState, Status, TenantId};
use segment::{Body, Opener, PacketsReader, SealedKey, SegmentReader};
use serde::Deserialize;
use storage_ports::{ObjectStore, RecordingIndex, StorageError};

use crate::arguments::VerifyFlags;
use crate::chain;
use crate::data_dir::DataDir;

pub async fn verify(data_dir: &Path, flags: VerifyFlags) -> Result<ExitCode> {
    if flags.audit {
        bail!("there is no audit log yet, so there is nothing to verify in it");
    }
    let mut check = Check { data: DataDir::open(data_dir).await?, wrong: Vec::new() };
    match flags.id {
        Some(id) => check.one(id).await?,
        None => check.all().await?,
    }
    if check.wrong.is_empty() {
        println!("good");
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} thing(s) wrong", check.wrong.len());
    Ok(ExitCode::FAILURE)
}

struct Check {
    data: DataDir,
    wrong: Vec<String>,
}

impl Check {
    /// Told at once: reading everything can take hours.
    fn wrong(&mut self, what: impl std::fmt::Display, why: impl std::fmt::Display) {
        let line = format!("WRONG  {what}: {why}");
        println!("{line}");
        self.wrong.push(line);
    }

    async fn all(&mut self) -> Result<()> {
        self.journal().await?;
        self.segments(None).await?;
        let mut count = 0;
        let mut query = SearchQuery { limit: MAX_LIMIT, ..SearchQuery::default() };
        loop {
            let page = self.data.engines.index().search(&TenantId::default(), &query).await?;
            for recording in page.items {
                count += 1;
                self.recording(recording.id).await?;
            }
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
        println!("recordings: {count} read");
        Ok(())
    }

    async fn one(&mut self, id: RecordingId) -> Result<()> {
        let tenant = TenantId::default();
        let Some((held, _)) = self.data.engines.index().state(&tenant, id).await? else {
            bail!("there is no recording {id}");
        };
        self.segments(Some(&held)).await?;
        self.recording(id).await
    }

    async fn journal(&mut self) -> Result<()> {
        let dir = self.data.path.join("journal");
        if !dir.exists() {
            println!("journal: none yet");
            return Ok(());
        }
        let report = tokio::task::spawn_blocking(move || journal::verify(&dir)).await?;
        match report {
            Ok(report) => {
                let records: u64 = report.files.iter().map(|file| file.records).sum();
                println!("journal: {records} records in {} file(s) read", report.files.len());
                for damage in &report.damage {
                    let (from, to) = (damage.from, damage.to);
                    let why = format!(
                        "bytes {from} to {to} cannot be read; the last good position before is {}",
                        damage.after
                    );
                    self.wrong(format!("journal file {}", damage.file), why);
                }
            }
            Err(error) => self.wrong("journal", chain(&error)),
        }
        Ok(())
    }

    /// All segments, or those in which `only` can be.
    async fn segments(&mut self, only: Option<&RecordingState>) -> Result<()> {
        let objects = self.data.engines.objects();
        let prefix = match only {
            Some(held) => model::object_key::segments_prefix(&held.tenant, held.journal),
            None => format!("t/{}/segments/", TenantId::default()),
        };
        let started = only.and_then(|held| held.started.as_ref()).map(|started| started.position);
        let ended = only.and_then(|held| held.ended.as_ref()).map(|ended| ended.position);
        let mut count = 0;
        for meta in objects.list(&prefix).await? {
            let Some(name) = SegmentName::parse(&meta.key) else {
                self.wrong(&meta.key, "is not the name of a segment");
                continue;
            };
            let before = started.is_some_and(|started: Position| name.last < started);
            let after = ended.is_some_and(|ended: Position| name.first > ended);
            if before || after {
                continue;
            }
            let bytes = match objects.get(&meta.key).await {
                Ok(bytes) => bytes,
                // All of its recordings were built meanwhile.
                Err(StorageError::NotFound { .. }) => continue,
                Err(error) => {
                    self.wrong(&meta.key, chain(&error));
                    continue;
                }
            };
            count += 1;
            match SegmentReader::verify(&bytes) {
                Ok(reader) => {
                    let told = (reader.journal, reader.first, reader.last, reader.part);
                    if told != (name.journal, name.first, name.last, name.part) {
                        self.wrong(&meta.key, "holds another segment than its name says");
                    }
                }
                Err(error) => self.wrong(&meta.key, chain(&error)),
            }
        }
        println!("segments: {count} read");
        Ok(())
    }

    async fn recording(&mut self, id: RecordingId) -> Result<()> {
        // A build that replaces the files while they are read shows as a new generation.
        for _ in 0..3 {
            let tenant = TenantId::default();
            let Some((held, journal)) = self.data.engines.index().state(&tenant, id).await? else {
                return Ok(());
            };
            if matches!(held.status(&journal), Status::Purging | Status::Deleted) {
                return Ok(());
            }
            let Some(built) = &held.finalized else {
                println!("recording {id}: {}, not built yet", held.status(&journal).as_str());
                return Ok(());
            };
            let mut found = Vec::new();
            self.packets(&held, built, &mut found).await;
            self.outputs(&held, built, &mut found).await;
            let now = self.data.engines.index().state(&tenant, id).await?;
            let same = now.and_then(|(now, _)| now.finalized).is_some_and(|now| now == *built);
            if same {
                for (what, why) in found {
                    self.wrong(format!("recording {id}, {what}"), why);
                }
                tell_gaps(&held, &journal);
                return Ok(());
            }
        }
        println!("recording {id}: is being built again and again; verify it later");
        Ok(())
    }

    /// The original: whole, openable, and as many packets as the index says.
    async fn packets(
        &self,
        held: &RecordingState,
        built: &Finalized,
        found: &mut Vec<(String, String)>,
    ) {
        let key = ObjectKey::packets(&held.tenant, held.id);
        let mut wrong = |why: String| found.push(("packets".to_owned(), why));
        let bytes = match self.data.engines.objects().get(&key).await {
            Ok(bytes) => bytes,
            Err(error) => return wrong(chain(&error)),
        };
        let reader = match PacketsReader::open(&bytes) {
            Ok(reader) => reader,
            Err(error) => return wrong(chain(&error)),
        };
        if (reader.header.recording, reader.header.journal) != (held.id, held.journal) {
            return wrong("belongs to another recording".to_owned());
        }
        let keys: Vec<SealedKey> =
            built.sealed_keys.iter().filter_map(|text| text.parse().ok()).collect();
        let opener = Opener::new(&self.data.keys, reader.header.session, &keys);
        if opener.usable_keys() != built.sealed_keys.len() {
            let (usable, all) = (opener.usable_keys(), built.sealed_keys.len());
            wrong(format!("only {usable} of {all} data keys open with the tenant's key"));
        }
        let mut received = 0_u64;
        for record in reader {
            let opened = match record {
                Ok(record) => opener.open_record(&record).map_err(|error| {
                    format!("the record at {} does not open: {}", record.position, chain(&error))
                }),
                Err(error) => return wrong(chain(&error)),
            };
            match opened {
                Ok(Some(Body::Packets(packets))) => {
                    received += packets.iter().filter(|packet| !packet.rtcp).count() as u64;
                }
                Ok(_) => {}
                Err(why) => wrong(why),
            }
        }
        if let Some(told) = built.packets.filter(|told| *told != received) {
            wrong(format!("holds {received} RTP packets, and the index says {told}"));
        }
    }

    /// The playable files, by the manifest that the index vouches for.
    async fn outputs(
        &self,
        held: &RecordingState,
        built: &Finalized,
        found: &mut Vec<(String, String)>,
    ) {
        /// The part of a manifest that is needed here.
        #[derive(Deserialize)]
        struct Manifest {
            parts: Vec<Part>,
        }
        #[derive(Deserialize)]
        struct Part {
            key: ObjectKey,
            bytes: u64,
            sha256: String,
        }
        let objects = self.data.engines.objects();
        let mut wrong = |what: &str, why: String| found.push((what.to_owned(), why));
        let key = ObjectKey::output(&held.tenant, held.id, built.generation, Output::Manifest);
        let manifest = match objects.get(&key).await {
            Ok(manifest) => manifest,
            Err(error) => return wrong("manifest", chain(&error)),
        };
        if sha256_hex(&manifest) != built.sha256 {
            return wrong("manifest", "is not the one that the index vouches for".to_owned());
        }
        let manifest: Manifest = match serde_json::from_slice(&manifest) {
            Ok(manifest) => manifest,
            Err(error) => return wrong("manifest", chain(&error)),
        };
        for part in manifest.parts {
            let name = part.key.as_str().rsplit('/').next().unwrap_or_default().to_owned();
            // The manifest is ours, but a key from a file is checked all the same.
            if !part.key.as_str().starts_with(&recording_prefix(&held.tenant, held.id)) {
                wrong(&name, format!("{} belongs to another recording", part.key));
                continue;
            }
            match objects.get(&part.key).await {
                Ok(bytes) if bytes.len() as u64 != part.bytes => {
                    wrong(&name, format!("has {} bytes and not {}", bytes.len(), part.bytes));
                }
                Ok(bytes) if sha256_hex(&bytes) != part.sha256 => {
                    wrong(&name, "is not what was built: its SHA-256 differs".to_owned());
                }
                Ok(_) => {}
                Err(error) => wrong(&name, chain(&error)),
            }
        }
    }
}

/// What is missing and was marked as such when it was lost: true, and nothing that is wrong with
/// the files.
fn tell_gaps(held: &RecordingState, journal: &JournalState) {
    let marks = held.view(journal).map(|view| view.marks).unwrap_or_default();
    for gap in marks.iter().filter(|mark| mark.kind == MarkKind::Gap) {
        let (id, from_ms, to_ms) = (held.id, gap.from_ms, gap.to_ms);
        let why = gap.detail.as_deref().unwrap_or("no reason is known");
        println!("recording {id}: gap from {from_ms} ms to {to_ms} ms: {why}");
    }
}
