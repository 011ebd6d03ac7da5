//! Recording metadata: who is on the call, as told by the SRC (RFC 7865).
//!
//! Of the vendors' own documents none passes RFC 7865's schema, so nothing is validated here.
//! The way of a document: [`multipart`] finds it in a SIP body, [`encoding`] makes it text,
//! [`xml`] reads that into a [`Document`], and [`Snapshot`] folds documents, complete or
//! partial, into one view. Where there is none, [`headers`] may tell as much. The raw bytes are kept elsewhere; this is our reading of them.

pub mod document;
pub mod encoding;
mod guard;
pub mod headers;
pub mod multipart;
mod role;
pub mod snapshot;
pub mod time;
pub mod xml;

pub use document::{
    Association, CommunicationSession, DataMode, Document, Extension, Group, GroupId, Label,
    NameId, Participant, ParticipantId, Role, Scope, SessionId, Stream, StreamAssociation,
    StreamId,
};
pub use snapshot::Snapshot;
pub use time::MetadataTime;

/// Whether a `Content-Type` is that of recording metadata.
///
/// `application/rs-metadata+xml` is RFC 7865's; `application/rs-metadata` is what RFC 7866 was
/// published with, and what AudioCodes, Metaswitch and SEMS send.
pub fn is_metadata_type(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    ["application/rs-metadata+xml", "application/rs-metadata"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

/// Why a document could not be read. Only the SRC can do something about any of these; the call
/// is recorded all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum MetadataError {
    #[error("metadata of {bytes} bytes, at most {limit_bytes} are read")]
    TooLarge { bytes: usize, limit_bytes: usize },
    #[error("metadata nested deeper than {limit} elements")]
    TooDeep { limit: usize },
    #[error("metadata with a document type declaration")]
    DocumentType,
    #[error("metadata is not XML: {problem}")]
    NotXml { problem: String },
    #[error("root element {root} is not that of recording metadata")]
    NotMetadata { root: String },
}

#[test]
fn metadata_is_known_by_both_names_it_has_had() {
    assert!(is_metadata_type("application/rs-metadata+xml"));
    assert!(is_metadata_type("Application/RS-Metadata ; charset=utf-8"));
    assert!(!is_metadata_type("application/rs-metadata-request"));
    assert!(!is_metadata_type("application/sdp"));
}
