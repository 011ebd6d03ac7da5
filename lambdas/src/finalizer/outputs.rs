//! What a build stores: packets object, audio, waveforms, manifest, checksums.

use std::io::{BufReader, BufWriter, Read as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use media::peaks::Peaks;
use media::{Call, Manifest, Part, Selection, manifest};
use model::object_key::{ObjectKey, Output};
use model::{Position, RecordingState, SessionId};
use storage_ports::{ObjectStore, PutMode, PutOutcome, StorageError};
use tempfile::NamedTempFile;

use super::FinalizeError;
use super::gather::{Gatherer, download};
use super::minutes::Minutes;
use super::spool::Spool;

/// More builds of one recording than this differ only because something is badly wrong.
const MOST_GENERATIONS_TRIED: u32 = 100;
/// What is read at a time to compare a file with what is stored.
const COMPARED_BYTES: usize = 4 * 1024 * 1024;

/// Stores the packets object. What another build put there meanwhile is kept beside what is ours.
pub(super) async fn store_packets(
    objects: &dyn ObjectStore,
    state: &RecordingState,
    packets: &Spool,
) -> Result<Part, FinalizeError> {
    let key = ObjectKey::packets(&state.tenant, state.id);
    if put_same(objects, &key, packets.path()).await? {
        return part_of(&key, packets.path());
    }
    // A damaged object is replaced: ours has every record of it that the segments still hold.
    let held = Spool::verified(download(objects, &key).await?);
    let header = packets.header().map_err(FinalizeError::of_stream)?;
    let mut merged = Gatherer::new(objects, state, header.session)?;
    merged.add_records(packets)?;
    if let Ok(held) = held {
        merged.add_records(&held)?;
    }
    let merged = merged.finish()?.spool;
    objects.put_file(&key, merged.path(), PutMode::Replace).await?;
    part_of(&key, merged.path())
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
    pub call: Call,
    webm: NamedTempFile,
    peaks: Bytes,
    overview: Bytes,
}

impl Rendered {
    /// Decodes and encodes the whole call, minute by minute. Minutes that were encoded before, by
    /// a build that was cut off or while the call lasted, are taken as they are.
    pub async fn make(minutes: &Minutes<'_>, call: Arc<Call>) -> Result<Self, FinalizeError> {
        let shape = media::opus::Shape::of(&call, Selection::Sides)?;
        let file = BufWriter::new(NamedTempFile::new()?);
        let mut webm = media::webm::Writer::new(file, shape)?;
        let mut peaks = Peaks::of(&call);
        for number in 0..shape.minutes() {
            let minute = minutes.get(&call, number).await?;
            for packet in minute.packets() {
                webm.push(packet)?;
            }
            peaks.append(&minute.peaks);
        }
        let webm = webm.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let mut call = Arc::into_inner(call).ok_or(FinalizeError::Shared)?;
        call.plan.hear(peaks.heard());
        let (waveform, overview) = (peaks.json(&call), peaks.overview_json(&call));
        Ok(Self { call, webm, peaks: waveform.into(), overview: overview.into() })
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
    ) -> Result<Option<String>, FinalizeError> {
        let state = whose.state;
        let key = |output| ObjectKey::output(&state.tenant, state.id, generation, output);
        let mut parts = vec![packets.clone()];
        let webm = key(Output::Webm);
        if !put_same(objects, &webm, self.webm.path()).await? {
            return Ok(None);
        }
        parts.push(part_of(&webm, self.webm.path())?);
        for (output, content) in [(Output::Peaks, &self.peaks), (Output::Overview, &self.overview)]
        {
            let key = key(output);
            if !put_same_bytes(objects, &key, content).await? {
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
            software: manifest::SOFTWARE,
            mos_formula: manifest::FORMULA,
            parts,
            tracks: Manifest::tracks_of(&self.call),
            marks: Manifest::marks_of(&self.call),
            flags: self.call.flags.iter().map(String::as_str).collect(),
        };
        let content = Bytes::from(manifest.to_json());
        let sums = Bytes::from(manifest.sums(&content));
        let is_stored = put_same_bytes(objects, &key(Output::Manifest), &content).await?
            && put_same_bytes(objects, &key(Output::Sums), &sums).await?;
        Ok(is_stored.then(|| manifest::sha256_hex(&content)))
    }
}

fn part_of(key: &ObjectKey, file: &Path) -> Result<Part, FinalizeError> {
    Ok(Part::of_reader(key.as_str(), std::fs::File::open(file)?)?)
}

/// False: something else is there.
async fn put_same_bytes(
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

/// As [`put_same_bytes`], of a file.
async fn put_same(
    objects: &dyn ObjectStore,
    key: &ObjectKey,
    file: &Path,
) -> Result<bool, FinalizeError> {
    if objects.put_file(key, file, PutMode::IfAbsent).await? == PutOutcome::Stored {
        return Ok(true);
    }
    let mut ours = BufReader::new(std::fs::File::open(file)?);
    let mut at = 0;
    loop {
        let mut piece = Vec::new();
        (&mut ours).take(COMPARED_BYTES as u64).read_to_end(&mut piece)?;
        // One more byte at the end finds what is longer.
        let end = at + COMPARED_BYTES as u64;
        if objects.get_range(key, at..end).await? != piece {
            return Ok(false);
        }
        if piece.len() < COMPARED_BYTES {
            return Ok(true);
        }
        at = end;
    }
}
