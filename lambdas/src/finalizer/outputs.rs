//! What a build stores: packets object, audio, waveform, manifest.

use bytes::Bytes;
use media::{Assembled, Manifest, Part, manifest};
use model::call::CallFacts;
use model::object_key::{ObjectKey, Output};
use model::{Position, RecordingId, RecordingState, SessionId};
use segment::{Opener, PacketsHeader, PacketsWriter, SealedKey, TenantKeyPair};
use storage_ports::{ObjectStore, PutMode, PutOutcome, StorageError};

use super::FinalizeError;
use super::gather::{Gathered, records_of};

/// More builds of one recording than this differ only because something is badly wrong.
const MOST_GENERATIONS_TRIED: u32 = 100;

/// The packets object of what was gathered.
pub(super) fn packets(state: &RecordingState, session: SessionId, gathered: &Gathered) -> Bytes {
    let header = PacketsHeader { recording: state.id, session, journal: state.journal };
    let mut writer = PacketsWriter::new(&header);
    for record in gathered.records.values() {
        // In order and without keys, so none is left out.
        writer.push(record);
    }
    writer.finish().into()
}

/// Stores the packets object. What another build put there meanwhile is kept beside what is ours.
pub(super) async fn store_packets(
    objects: &dyn ObjectStore,
    state: &RecordingState,
    packets: Bytes,
) -> Result<Part, FinalizeError> {
    let key = ObjectKey::packets(&state.tenant, state.id);
    let mut packets = packets;
    if objects.put(&key, packets.clone(), PutMode::IfAbsent).await? == PutOutcome::AlreadyThere {
        let held = objects.get(&key).await?;
        if held != packets {
            packets = merged(state, &held, packets);
            objects.put(&key, packets.clone(), PutMode::Replace).await?;
        }
    }
    Ok(Part::of(key.as_str(), &packets))
}

/// Ours, and what only the other one has. A damaged object is replaced: ours has every record of
/// it that the segments still hold.
fn merged(state: &RecordingState, held: &[u8], ours: Bytes) -> Bytes {
    let (Ok(held), Ok(reader)) = (records_of(held), segment::PacketsReader::open(&ours)) else {
        return ours;
    };
    let header = reader.header;
    let mut all = Gathered::default();
    for record in reader.flatten().chain(held) {
        all.add(record);
    }
    packets(state, header.session, &all)
}

/// Whose build this is and what it covers.
pub(super) struct Whose<'a> {
    pub state: &'a RecordingState,
    pub session: SessionId,
    pub through: Position,
    pub complete: bool,
}

/// A call, rendered.
pub(super) struct Rendered {
    pub call: Assembled,
    webm: Bytes,
    peaks: Bytes,
}

impl Rendered {
    /// Decodes and encodes the whole call: on a thread that may block.
    pub fn make(
        gathered: Gathered,
        keys: &TenantKeyPair,
        session: SessionId,
        recording: RecordingId,
        facts: &CallFacts,
    ) -> Result<Self, FinalizeError> {
        let sealed: Vec<SealedKey> = gathered.sealed_keys.into_iter().collect();
        let opener = Opener::new(keys, session, &sealed);
        let records = gathered.records.into_values();
        let call = media::assemble(records, &opener, session, recording, facts)?;
        let webm = media::webm::write(&call)?.into();
        let peaks = media::peaks::json(&call).into();
        Ok(Self { call, webm, peaks })
    }

    /// Stores the outputs under the first generation from `generation` on that nobody else has
    /// used for other ones. Returns it, and the SHA-256 of the manifest.
    pub async fn store(
        &self,
        objects: &dyn ObjectStore,
        whose: &Whose<'_>,
        generation: u32,
        packets: Part,
    ) -> Result<(u32, String), FinalizeError> {
        let mut outcome = Err(StorageError::refused("outputs", "too many builds at once").into());
        for generation in generation..generation.saturating_add(MOST_GENERATIONS_TRIED) {
            if let Some(sha256) = self.store_as(objects, whose, generation, &packets).await? {
                outcome = Ok((generation, sha256));
                break;
            }
        }
        outcome
    }

    /// `None`: other outputs are there.
    async fn store_as(
        &self,
        objects: &dyn ObjectStore,
        whose: &Whose<'_>,
        generation: u32,
        packets: &Part,
    ) -> Result<Option<String>, StorageError> {
        let state = whose.state;
        let key = |output| ObjectKey::output(&state.tenant, state.id, generation, output);
        let mut parts = vec![packets.clone()];
        for (output, content) in [(Output::Webm, &self.webm), (Output::Peaks, &self.peaks)] {
            let key = key(output);
            if !put_same(objects, &key, content).await? {
                return Ok(None);
            }
            parts.push(Part::of(key.as_str(), content));
        }
        let manifest = Manifest {
            version: manifest::VERSION,
            recording: state.id,
            session: whose.session,
            journal: state.journal,
            generation,
            through: whose.through,
            complete: whose.complete,
            duration_ms: self.call.duration_ms(),
            sample_rate: self.call.sample_rate,
            parts,
            tracks: Manifest::tracks_of(&self.call),
            marks: &self.call.marks,
            flags: self.call.flags.iter().map(String::as_str).collect(),
        };
        let manifest = Bytes::from(manifest.to_json());
        let is_stored = put_same(objects, &key(Output::Manifest), &manifest).await?;
        Ok(is_stored.then(|| manifest::sha256_hex(&manifest)))
    }
}

/// False: something else is there.
async fn put_same(
    objects: &dyn ObjectStore,
    key: &ObjectKey,
    content: &Bytes,
) -> Result<bool, StorageError> {
    match objects.put(key, content.clone(), PutMode::IfAbsent).await? {
        PutOutcome::Stored => Ok(true),
        // Our own, from a build that died before the index knew of it, or somebody else's.
        PutOutcome::AlreadyThere => Ok(objects.get(key).await? == *content),
    }
}
