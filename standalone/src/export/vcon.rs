//! A recording as a vCon, the IETF's container for conversations: who took part, what was said,
//! and the SIPREC documents, in one JSON file (draft-ietf-vcon-vcon-core-00).
//!
//! Each track is a dialog of its own with one channel, so that `parties` (§4.3.4) needs no
//! assumption about which side of a stereo file somebody is on.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use model::WallTime;
use model::api::MetadataDocument;
use model::recording::{Participant, Recording};
use serde_json::{Map, Value, json};

/// Of the syntax (§4.1.1).
const VERSION: &str = "0.3.0";

/// `tracks` holds a WAV file for each of the recording's tracks, in their order.
pub fn write(
    recording: &Recording,
    tracks: &[Vec<u8>],
    documents: &[MetadataDocument],
    created_at: WallTime,
) -> Value {
    let parties: Vec<Value> = recording.participants.iter().map(party).collect();
    let dialog: Vec<Value> = recording
        .tracks
        .iter()
        .zip(tracks)
        .enumerate()
        .map(|(index, (track, wav))| {
            json!({
                "type": "recording",
                "start": recording.started_at,
                "duration": track.duration_ms as f64 / 1_000.0,
                "parties": track.speakers,
                "mediatype": "audio/x-wav",
                "filename": format!("{}-track{index}.wav", recording.id),
                "encoding": "base64url",
                "body": URL_SAFE_NO_PAD.encode(wav),
            })
        })
        .collect();
    let attachments: Vec<Value> = documents.iter().map(attachment).collect();
    json!({
        "vcon": VERSION,
        "uuid": recording.id,
        "created_at": created_at,
        "parties": parties,
        "dialog": dialog,
        "attachments": attachments,
    })
}

/// An address of record as the kind of URL that it is (§4.2.1, §4.2.2).
fn party(participant: &Participant) -> Value {
    let mut party = Map::new();
    if let Some(name) = &participant.name {
        party.insert("name".to_owned(), json!(name.reveal()));
    }
    if let Some(aor) = &participant.aor {
        let aor = aor.reveal();
        let kind = if aor.starts_with("tel:") || aor.starts_with('+') { "tel" } else { "sip" };
        party.insert(kind.to_owned(), json!(aor));
    }
    Value::Object(party)
}

fn attachment(document: &MetadataDocument) -> Value {
    let mut attachment = json!({
        "type": "siprec-metadata",
        "start": document.received_at,
        "mediatype": document.content_type,
    });
    let body = match (&document.text, &document.base64) {
        (Some(text), _) => Some(("none", text.clone())),
        (None, Some(base64)) => {
            let standard = base64::engine::general_purpose::STANDARD.decode(base64);
            standard.ok().map(|bytes| ("base64url", URL_SAFE_NO_PAD.encode(bytes)))
        }
        (None, None) => None,
    };
    if let (Some(fields), Some((encoding, body))) = (attachment.as_object_mut(), body) {
        fields.insert("encoding".to_owned(), json!(encoding));
        fields.insert("body".to_owned(), json!(body));
    }
    attachment
}

#[cfg(test)]
mod tests {
    use model::recording::{Status, Track};
    use model::{EdgeId, RecordingId};

    use super::*;

    #[test]
    fn every_track_is_a_dialog_of_those_who_speak_on_it() {
        let participant = |name: &str, aor: &str| Participant {
            name: Some(name.into()),
            aor: Some(aor.into()),
            number: None,
            role: None,
        };
        let track = |speakers: Vec<usize>| Track {
            label: "1".to_owned(),
            participant: None,
            speakers,
            codec: "PCMU".to_owned(),
            packets_expected: 1,
            packets_received: 1,
            packets_lost: 0,
            duration_ms: 1_500,
            alignment: None,
        };
        let at = WallTime::from_unix_ms(1_700_000_000_000);
        let recording = Recording {
            id: RecordingId::at(1_700_000_000_000, [1; 10]),
            status: Status::Stored,
            started_at: at,
            ended_at: None,
            duration_ms: Some(1_500),
            edge: EdgeId::new("edge-1").unwrap(),
            call_ids: vec![],
            participants: vec![participant("Ana", "tel:+1415"), participant("Eva", "sip:eva@x")],
            tracks: vec![track(vec![0]), track(vec![1, 0])],
            flags: vec![],
            marks: vec![],
            sha256: None,
            playable: true,
            end_reason: None,
        };
        let document = |text: Option<&str>, base64: Option<&str>| MetadataDocument {
            received_at: at,
            content_type: "application/rs-metadata+xml".to_owned(),
            text: text.map(str::to_owned),
            base64: base64.map(str::to_owned),
        };
        let documents = [document(Some("<x/>"), None), document(None, Some("/+8="))];
        let vcon = write(&recording, &[b"\xff\xef".to_vec(), vec![]], &documents, at);
        assert_eq!(vcon["vcon"], "0.3.0");
        assert_eq!(vcon["parties"][0], json!({"name": "Ana", "tel": "tel:+1415"}));
        assert_eq!(vcon["parties"][1], json!({"name": "Eva", "sip": "sip:eva@x"}));
        assert_eq!(vcon["dialog"].as_array().unwrap().len(), 2);
        assert_eq!(vcon["dialog"][0]["body"], "_-8");
        assert_eq!(vcon["dialog"][0]["duration"], 1.5);
        assert_eq!(vcon["dialog"][1]["parties"], json!([1, 0]));
        assert_eq!(vcon["attachments"][0]["body"], "<x/>");
        assert_eq!(vcon["attachments"][1]["body"], "_-8");
    }
}
