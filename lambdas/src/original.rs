//! A recording's original opened again: what is made of it on demand, for API and export alike.
//!
//! WAV, FLAC, capture files and metadata documents are rendered from the packets object each time
//! they are asked for, by the code that built the playable files. None of this is fast: call it
//! on a thread that may block.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use media::{Call, ReadError, Selection};
use model::api::MetadataDocument;
use model::call::CallFacts;
use model::index::Finalized;
use model::object_key::ObjectKey;
use model::{RecordingId, RecordingState, SessionId, WallTime};
use segment::{
    Body, FormatError, KeyError, Opener, PacketsReader, SealError, SealedKey, SessionRecord,
    TenantKeyPair,
};
use storage_ports::{ObjectStore, StorageError};

/// Why an original cannot be used. All but the first are damage.
#[derive(Debug, thiserror::Error)]
pub enum OriginalError {
    #[error("read the packets of the recording")]
    Store(#[from] StorageError),
    #[error("the packets object is damaged")]
    Format(#[from] FormatError),
    #[error("a data key in the index is damaged")]
    Key(#[from] KeyError),
    #[error("the packets do not open")]
    Sealed(#[from] SealError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Wav(#[from] media::wav::WavError),
    #[error(transparent)]
    Flac(#[from] media::flac::FlacError),
    #[error(transparent)]
    Encode(#[from] media::EncodeError),
}

/// A file that is made of an original when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// All tracks as channels, or one alone.
    Wav {
        track: Option<usize>,
    },
    Flac {
        track: Option<usize>,
    },
    /// WebM of one channel with everybody in it.
    Mono,
    /// WebM of one track alone.
    Track(usize),
}

impl Made {
    pub fn track(self) -> Option<usize> {
        match self {
            Self::Wav { track } | Self::Flac { track } => track,
            Self::Track(track) => Some(track),
            Self::Mono => None,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Wav { .. } => "audio/wav",
            Self::Flac { .. } => "audio/flac",
            Self::Mono | Self::Track(_) => "audio/webm",
        }
    }

    /// What follows the id of the recording in the name of the file.
    pub fn suffix(self) -> String {
        let part = self.track().map(|track| format!("-track{track}")).unwrap_or_default();
        match self {
            Self::Wav { .. } => format!("{part}.wav"),
            Self::Flac { .. } => format!("{part}.flac"),
            Self::Mono => "-mono.webm".to_owned(),
            Self::Track(_) => format!("{part}.webm"),
        }
    }
}

/// A packets object whose checksums are right, and the keys to it.
pub struct Original {
    records: Vec<SessionRecord>,
    opener: Opener,
    session: SessionId,
    recording: RecordingId,
    facts: CallFacts,
}

impl Original {
    /// Reads the packets of a recording that was built.
    pub async fn bytes(
        store: &dyn ObjectStore,
        held: &RecordingState,
    ) -> Result<Bytes, StorageError> {
        store.get(&ObjectKey::packets(&held.tenant, held.id)).await
    }

    pub fn open(
        bytes: &[u8],
        keys: &TenantKeyPair,
        held: &RecordingState,
        built: &Finalized,
    ) -> Result<Self, OriginalError> {
        let reader = PacketsReader::open(bytes)?;
        let session = reader.header.session;
        let sealed: Vec<SealedKey> =
            built.sealed_keys.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        Ok(Self {
            opener: Opener::new(keys, session, &sealed),
            records: reader.collect::<Result<_, _>>()?,
            facts: held.facts.as_ref().map(|facts| facts.value.clone()).unwrap_or_default(),
            session,
            recording: held.id,
        })
    }

    /// Any of the files that are made on demand.
    pub fn made(self, wanted: Made) -> Result<Vec<u8>, OriginalError> {
        match wanted {
            Made::Wav { track } => self.wav(track),
            Made::Flac { track } => self.flac(track),
            Made::Mono => Ok(media::webm::write(&self.call()?, Selection::Mono)?),
            Made::Track(track) => Ok(media::webm::write(&self.call()?, Selection::Track(track))?),
        }
    }

    /// The call as WAV: all tracks as channels, or one alone.
    pub fn wav(self, track: Option<usize>) -> Result<Vec<u8>, OriginalError> {
        let call = self.call()?;
        let mut wav =
            Vec::with_capacity(usize::try_from(media::wav::bytes(&call, track)).unwrap_or(0));
        media::wav::write(&call, track, &mut wav)?;
        Ok(wav)
    }

    pub fn flac(self, track: Option<usize>) -> Result<Vec<u8>, OriginalError> {
        Ok(media::flac::write(&self.call()?, track)?)
    }

    /// Every packet as it arrived, for Wireshark.
    pub fn pcap(self) -> Result<Vec<u8>, OriginalError> {
        Ok(media::pcap::write(self.records, &self.opener)?)
    }

    /// Every SIPREC document as it was received, in that order.
    pub fn documents(&self) -> Result<Vec<MetadataDocument>, OriginalError> {
        let mut documents = Vec::new();
        for record in &self.records {
            if let Some(Body::Metadata(document)) = self.opener.open_record(record)? {
                let received_at = WallTime::from_unix_ms(document.received_wall_ms);
                documents.push(shown(received_at, document.content_type, document.bytes));
            }
        }
        Ok(documents)
    }

    fn call(self) -> Result<Call, ReadError> {
        let Self { records, opener, session, recording, facts } = self;
        Call::read(Box::new(records), Arc::new(opener), session, recording, &facts)
    }
}

/// A document as the API shows it: text if it is text.
fn shown(received_at: WallTime, content_type: String, bytes: Vec<u8>) -> MetadataDocument {
    let (text, base64) = match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    };
    MetadataDocument { received_at, content_type, text, base64 }
}
