//! The manifest: what a build is made of. Its SHA-256 is the recording's, and stands for every
//! part, because it names each with its own.

use model::recording::Mark;
use model::{JournalId, Position, RecordingId, SessionId, Track};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::assemble::Assembled;
use crate::quality::Quality;

/// The version that this code writes.
pub const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
pub struct Manifest<'a> {
    pub version: u32,
    pub recording: RecordingId,
    pub session: SessionId,
    pub journal: JournalId,
    pub generation: u32,
    /// Journal position up to which segments went in.
    pub through: Position,
    /// Whether the end of the call is in it.
    pub complete: bool,
    pub duration_ms: u64,
    pub sample_rate: u32,
    pub parts: Vec<Part>,
    pub tracks: Vec<ManifestTrack<'a>>,
    pub marks: &'a [Mark],
    pub flags: Vec<&'a str>,
}

/// One object of the recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Its key in the object store.
    pub key: String,
    pub bytes: u64,
    /// In hex.
    pub sha256: String,
}

#[derive(Debug, Serialize)]
pub struct ManifestTrack<'a> {
    #[serde(flatten)]
    pub track: &'a Track,
    pub quality: Quality,
}

impl Part {
    pub fn of(key: impl Into<String>, content: &[u8]) -> Self {
        Self { key: key.into(), bytes: content.len() as u64, sha256: sha256_hex(content) }
    }
}

impl<'a> Manifest<'a> {
    /// What `call` tells; the caller adds whose it is and its parts.
    pub fn tracks_of(call: &'a Assembled) -> Vec<ManifestTrack<'a>> {
        let track = |lane: &'a crate::lanes::Lane| ManifestTrack {
            track: &lane.track,
            quality: lane.quality,
        };
        call.lanes.iter().map(track).collect()
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .expect("a manifest has string keys and no failing serialiser")
    }
}

pub fn sha256_hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_hash_is_hex_in_lower_case() {
    // FIPS 180-2, appendix B.1.
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256_hex(b"abc"), expected);
}
