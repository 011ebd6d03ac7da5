//! Where objects lie in the bucket: the one place that writer and reader agree on.
//!
//! ```text
//! t/{tenant}/segments/{journal}/{first:020}-{last:020}.{part}
//! t/{tenant}/recordings/{id}/packets
//! t/{tenant}/recordings/{id}/g{generation}/audio.webm | peaks.json | manifest.json | …
//! t/{tenant}/recordings/{id}/minutes/{number:05}-{content}
//! policy/snapshot.json
//! keys/{tenant}.key                        in AWS only, encrypted by a key of its own
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{JournalId, RecordingId, TenantId};
use crate::time::Position;

/// Key of an object. Built by the functions here only, or read back from a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ObjectKey(String);

/// A text that could leave the store's directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an object key")]
pub struct InvalidKey(pub String);

impl ObjectKey {
    /// Parts of `[A-Za-z0-9._-]`, none of them `.` or `..`, joined by single slashes.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let part_is_safe = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        if text.len() <= 512 && text.split('/').all(part_is_safe) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidKey(text.to_owned()))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The policy snapshot that every edge reads.
    pub fn policy() -> Self {
        Self("policy/snapshot.json".to_owned())
    }

    /// The key pair that opens what is recorded for `tenant`.
    pub fn tenant_key(tenant: &TenantId) -> Self {
        Self(format!("keys/{tenant}.key"))
    }

    /// One slice of a journal, the part of it that belongs to `tenant`.
    pub fn segment(tenant: &TenantId, name: SegmentName) -> Self {
        let prefix = segments_prefix(tenant, name.journal);
        Self(format!("{prefix}{:020}-{:020}.{}", name.first.0, name.last.0, name.part))
    }

    /// A recording's own packets: the original that everything playable is rebuilt from.
    pub fn packets(tenant: &TenantId, recording: RecordingId) -> Self {
        Self(format!("{}packets", recording_prefix(tenant, recording)))
    }

    /// One encoded minute of a call, kept while the call is not built yet. `content`: what it was
    /// made of, in hex.
    pub fn minute(tenant: &TenantId, recording: RecordingId, number: u64, content: &str) -> Self {
        Self(format!("{}{number:05}-{content}", minutes_prefix(tenant, recording)))
    }

    /// One playable output of one build.
    pub fn output(
        tenant: &TenantId,
        recording: RecordingId,
        generation: u32,
        output: Output,
    ) -> Self {
        let prefix = recording_prefix(tenant, recording);
        Self(format!("{prefix}g{generation}/{}", output.file_name()))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the key of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    pub journal: JournalId,
    pub first: Position,
    pub last: Position,
    pub part: u32,
}

impl SegmentName {
    /// Reads the name back from a listed key.
    pub fn parse(key: &ObjectKey) -> Option<Self> {
        let mut parts = key.as_str().split('/').skip_while(|part| *part != "segments").skip(1);
        let journal = parts.next()?.parse().ok()?;
        let (range, part) = parts.next()?.split_once('.')?;
        let (first, last) = range.split_once('-')?;
        Some(Self {
            journal,
            first: Position(first.parse().ok()?),
            last: Position(last.parse().ok()?),
            part: part.parse().ok()?,
        })
    }
}

/// Prefix of all segments that `journal` wrote for `tenant`, in order of position.
pub fn segments_prefix(tenant: &TenantId, journal: JournalId) -> String {
    format!("t/{tenant}/segments/{journal}/")
}

/// Prefix of everything that belongs to one recording.
pub fn recording_prefix(tenant: &TenantId, recording: RecordingId) -> String {
    format!("t/{tenant}/recordings/{recording}/")
}

/// Prefix of the encoded minutes of a call.
pub fn minutes_prefix(tenant: &TenantId, recording: RecordingId) -> String {
    format!("{}minutes/", recording_prefix(tenant, recording))
}

/// The files of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Opus in WebM; two parties as left and right.
    Webm,
    /// Waveform, BBC audiowaveform version 2 JSON, one channel per track.
    Peaks,
    /// The same at a glance, at most 1,000 pixels.
    Overview,
    /// Names and SHA-256 of every part, packet counts, quality.
    Manifest,
    /// SHA-256 of every part and of the manifest, for `sha256sum --check`.
    Sums,
}

impl Output {
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Webm => "audio.webm",
            Self::Peaks => "peaks.json",
            Self::Overview => "overview.json",
            Self::Manifest => "manifest.json",
            Self::Sums => "SHA256SUMS",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_key_reads_back_and_sorts_by_position() {
        let journal = JournalId::at(1, [1; 10]);
        let name =
            |first| SegmentName { journal, first: Position(first), last: Position(99), part: 0 };
        let tenant = TenantId::default();
        let key = ObjectKey::segment(&tenant, name(7));
        assert_eq!(SegmentName::parse(&key), Some(name(7)));
        assert!(key < ObjectKey::segment(&tenant, name(10)));
        assert!(key.as_str().starts_with(&segments_prefix(&tenant, journal)));
        assert_eq!(ObjectKey::parse(key.as_str()), Ok(key));
    }

    #[test]
    fn a_key_cannot_climb_out_of_the_store() {
        for bad in ["", "/etc/passwd", "a//b", "a/../b", "a/.b", "a\\b", "a b", "a/"] {
            assert!(ObjectKey::parse(bad).is_err(), "{bad:?}");
        }
    }
}
