//! Writes one recording to a file, straight from the data directory: with and without a running
//! recorder, and when nobody can sign in.

mod vcon;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use lambdas::original::{Made, Original, OriginalError};
use model::api::MetadataDocument;
use model::index::Finalized;
use model::object_key::{ObjectKey, Output};
use model::{Recording, RecordingId, RecordingState, Status, TenantId};
use serde::Serialize;
use storage_ports::{ObjectStore, RecordingIndex};

use crate::arguments::{ExportFlags, ExportFormat};
use crate::data_dir::DataDir;

pub async fn export(data_dir: &Path, flags: ExportFlags) -> Result<ExitCode> {
    let data = DataDir::open(data_dir).await?;
    let source = Source::find(&data, flags.id).await?;
    let is_audio =
        matches!(flags.format, ExportFormat::Webm | ExportFormat::Wav | ExportFormat::Flac);
    if flags.track.is_some() && !is_audio {
        bail!("--track: one track alone comes as webm, wav or flac");
    }
    if flags.mono && (flags.format != ExportFormat::Webm || flags.track.is_some()) {
        bail!("--mono: everybody in one channel comes as webm");
    }
    if let Some(track) = flags.track.filter(|track| *track >= source.built.tracks.len()) {
        let tracks = source.built.tracks.len();
        bail!("--track {track}: the call has {tracks} track(s), counted from 0");
    }
    let bytes = match flags.format {
        ExportFormat::Webm => match (flags.track, flags.mono) {
            (Some(track), _) => source.made(Made::Track(track)).await?,
            (None, true) => source.made(Made::Mono).await?,
            (None, false) => source.webm().await?,
        },
        ExportFormat::Wav => source.made(Made::Wav { track: flags.track }).await?,
        ExportFormat::Flac => source.made(Made::Flac { track: flags.track }).await?,
        ExportFormat::Json => source.json().await?,
        ExportFormat::Pcap => source.make(Original::pcap).await?.into(),
        ExportFormat::Vcon => source.vcon().await?,
    };
    write(&flags.out, flags.force, &bytes)?;
    Ok(ExitCode::SUCCESS)
}

/// A recording that was built, and where its files are.
struct Source<'a> {
    data: &'a DataDir,
    held: RecordingState,
    recording: Recording,
    built: Finalized,
}

impl<'a> Source<'a> {
    async fn find(data: &'a DataDir, id: RecordingId) -> Result<Self> {
        let tenant = TenantId::default();
        let found = data.engines.index().state(&tenant, id).await?;
        let view = found.and_then(|(held, journal)| Some((held.view(&journal)?, held)));
        let Some((recording, held)) = view else { bail!("there is no recording {id}") };
        if matches!(recording.status, Status::Purging | Status::Deleted) {
            bail!("recording {id} was erased");
        }
        let Some(built) = held.finalized.clone() else {
            bail!(
                "recording {id} cannot be played yet: it is {}; try again when it is stored",
                recording.status.as_str()
            );
        };
        Ok(Self { data, held, recording, built })
    }

    async fn webm(&self) -> Result<Bytes> {
        let generation = self.built.generation;
        let key = ObjectKey::output(&self.held.tenant, self.held.id, generation, Output::Webm);
        Ok(self.data.engines.objects().get(&key).await?)
    }

    async fn made(&self, wanted: Made) -> Result<Bytes> {
        Ok(self.make(move |original| original.made(wanted)).await?.into())
    }

    /// What `work` makes of the original.
    async fn make<T: Send + 'static>(
        &self,
        work: impl FnOnce(Original) -> Result<T, OriginalError> + Send + 'static,
    ) -> Result<T> {
        let bytes = Original::bytes(self.data.engines.objects().as_ref(), &self.held).await?;
        let (keys, held, built) = (self.data.keys.clone(), self.held.clone(), self.built.clone());
        let made = tokio::task::spawn_blocking(move || {
            Original::open(&bytes, &keys, &held, &built).and_then(work)
        });
        Ok(made.await??)
    }

    /// Everything that is known: the recording as the API shows it, and its documents.
    async fn json(&self) -> Result<Bytes> {
        #[derive(Serialize)]
        struct Everything<'a> {
            recording: &'a Recording,
            metadata: Vec<MetadataDocument>,
        }
        let everything =
            Everything { recording: &self.recording, metadata: self.documents().await? };
        Ok(Bytes::from(serde_json::to_vec_pretty(&everything)?))
    }

    async fn documents(&self) -> Result<Vec<MetadataDocument>> {
        self.make(|original| original.documents()).await
    }

    async fn vcon(&self) -> Result<Bytes> {
        let mut tracks = Vec::new();
        for track in 0..self.built.tracks.len() {
            tracks.push(self.make(move |original| original.wav(Some(track))).await?);
        }
        let documents = self.documents().await?;
        let vcon = vcon::write(&self.recording, &tracks, &documents, crate::run::now());
        Ok(Bytes::from(serde_json::to_vec(&vcon)?))
    }
}

/// Whole or not at all: a broken export must not look like a call.
fn write(out: &Path, force: bool, bytes: &[u8]) -> Result<()> {
    if out == Path::new("-") {
        let mut stdout = std::io::stdout().lock();
        stdout
            .write_all(bytes)
            .and_then(|()| stdout.flush())
            .context("write to standard output")?;
        return Ok(());
    }
    let shown = out.display();
    let dir = match out.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".linekeeper-export-")
        .tempfile_in(dir)
        .with_context(|| format!("write {shown}"))?;
    file.write_all(bytes).with_context(|| format!("write {shown}"))?;
    let written = if force {
        file.persist(out).map_err(|error| error.error)
    } else {
        file.persist_noclobber(out).map_err(|error| error.error)
    };
    match written {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{shown} is there already; --force replaces it")
        }
        Err(error) => Err(error).with_context(|| format!("write {shown}")),
    }
}

#[test]
fn an_export_replaces_nothing_unless_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("call.wav");
    write(&out, false, b"first").unwrap();
    let refused = write(&out, false, b"second").unwrap_err().to_string();
    assert!(refused.contains("--force") && refused.contains("call.wav"), "{refused}");
    assert_eq!(std::fs::read(&out).unwrap(), b"first");
    write(&out, true, b"third").unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), b"third");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(write(&dir.path().join("missing/call.wav"), true, b"").is_err());
}
