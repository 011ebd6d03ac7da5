//! The manifest: what a build is made of. Its SHA-256 is the recording's, and stands for every
//! part, because it names each with its own.

use std::io::Read;

use model::recording::Mark;
use model::{JournalId, Position, RecordingId, SessionId, Track};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::plan::{Lane, Plan};
use crate::quality::{MOS_FORMULA, Quality};

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
    /// What built it.
    pub software: &'static str,
    pub mos_formula: &'static str,
    pub parts: Vec<Part>,
    pub tracks: Vec<ManifestTrack<'a>>,
    /// Without the keys that were pressed: whoever may see those asks the index.
    pub marks: Vec<Mark>,
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

    /// Of a file, piece by piece.
    pub fn of_reader(key: impl Into<String>, mut content: impl Read) -> std::io::Result<Self> {
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut bytes = 0;
        loop {
            let read = content.read(&mut buffer)?;
            if read == 0 {
                return Ok(Self { key: key.into(), bytes, sha256: hex(&digest.finalize()) });
            }
            digest.update(&buffer[..read]);
            bytes += read as u64;
        }
    }
}

impl<'a> Manifest<'a> {
    /// What `call` tells; the caller adds whose it is and its parts.
    pub fn tracks_of(call: &'a Plan) -> Vec<ManifestTrack<'a>> {
        let track = |lane: &'a Lane| ManifestTrack { track: &lane.track, quality: lane.quality };
        call.lanes.iter().map(track).collect()
    }

    /// See [`Manifest::marks`].
    pub fn marks_of(call: &Plan) -> Vec<Mark> {
        let mut marks = call.marks.clone();
        marks.iter_mut().for_each(Mark::hide_digit);
        marks
    }

    /// What `sha256sum --check` reads, beside the manifest: every part, and the manifest itself,
    /// which is `content`.
    pub fn sums(&self, content: &[u8]) -> String {
        let mut sums = String::new();
        for part in &self.parts {
            let name = part.key.rsplit('/').next().unwrap_or_default();
            // The packets object lies above the generations that are built from it.
            let is_output = part.key.ends_with(&format!("/g{}/{name}", self.generation));
            let place = if is_output { "" } else { "../" };
            sums.push_str(&format!("{}  {place}{name}\n", part.sha256));
        }
        sums.push_str(&format!("{}  manifest.json\n", sha256_hex(content)));
        sums
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self)
            .expect("a manifest has string keys and no failing serialiser")
    }
}

/// What this code calls itself in a manifest.
pub const SOFTWARE: &str = concat!("linekeeper ", env!("CARGO_PKG_VERSION"));

/// See [`Manifest::mos_formula`].
pub const FORMULA: &str = MOS_FORMULA;

pub fn sha256_hex(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_hash_is_hex_in_lower_case() {
    // FIPS 180-2, appendix B.1.
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256_hex(b"abc"), expected);
}
