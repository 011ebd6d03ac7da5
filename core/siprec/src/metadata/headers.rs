//! What the headers of an INVITE tell of a call whose SRC sends no recording metadata.
//!
//! Two of Cisco's ways to record are older than SIPREC and say in headers who is heard:
//!
//! - *Network-based recording* (CUBE): one `X-Cisco-Recording-Participant` per party,
//!   `sip:708090@10.0.0.1;media-index="0"`, where the index is that of the m-line.
//! - The *built-in bridge* of a phone (CUCM): two calls with one stream each, one of what the near
//!   end says and one of the far end. Parameters of the From URI say which is which; both carry
//!   the same `x-refci`, by which the two are found to be one call.
//!
//! What is read here becomes a document like any other. Its bytes are the header lines as they
//! came, as `message/sipfrag` (RFC 3420).

use super::document::{
    DataMode, Document, Extension, Label, NameId, Participant, ParticipantId, Scope, Stream,
    StreamAssociation, StreamId,
};
use crate::sip::address::{Address, Params, param, parse_params};
use crate::sip::message::Message;

pub const CONTENT_TYPE: &str = "message/sipfrag";

const NBR_PARTICIPANT: &str = "x-cisco-recording-participant";

/// More parties than a call can have m-lines.
const MAX_PARTIES: usize = 64;

/// A document that headers make.
#[derive(Debug)]
pub struct FromHeaders {
    pub bytes: Vec<u8>,
    pub document: Document,
}

/// The label of an m-line that has none, in a call of which headers tell who is heard where.
pub fn implied_label(index: usize) -> String {
    index.to_string()
}

/// Reads the headers of an INVITE. `None` when they name nobody and nothing by which the call
/// could be found.
pub fn read(invite: &Message) -> Option<FromHeaders> {
    let mut document = Document::default();
    network_based(&mut document, invite);
    built_in_bridge(&mut document, invite);
    // Who names nobody takes nobody away.
    if document.participants.is_empty() {
        document.mode = DataMode::Partial;
    }
    let names = |name: &str| ["from", "to"].contains(&name) || is_correlating(name);
    let says_something =
        !document.participants.is_empty() || invite.headers.iter().any(|h| is_correlating(&h.name));
    says_something.then(|| {
        let mut bytes = Vec::new();
        for header in invite.headers.iter().filter(|header| names(&header.name)) {
            bytes.extend_from_slice(header.written_name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(&header.value);
            bytes.extend_from_slice(b"\r\n");
        }
        FromHeaders { bytes, document }
    })
}

fn network_based(document: &mut Document, invite: &Message) {
    for value in invite.list(NBR_PARTICIPANT).into_iter().take(MAX_PARTIES) {
        let Ok(party) = Address::parse(&value) else { continue };
        // Behind brackets or not, `media-index` is the header's.
        let index = param(&party.params, "media-index").and_then(|text| text.trim().parse().ok());
        let number = document.participants.len();
        add_party(document, number.to_string(), &party.uri, index);
    }
}

/// `sip:5001@10.0.0.1;x-nearend;x-refci=24194634;x-nearendaddr=5001;x-farendrefci=24194635;…`
fn built_in_bridge(document: &mut Document, invite: &Message) {
    let Some(text) = invite.text("from") else { return };
    let Ok(from) = Address::parse(&text) else { return };
    let uri_params = from.uri.split_once(';').map(|(_, params)| parse_params(params));
    let mut params: Params = uri_params.unwrap_or_default();
    // Without brackets the parameters of the URI are taken for those of the header.
    params.extend(from.params.clone());
    if param(&params, "x-refci").is_none() {
        return;
    }
    for id in ["x-refci", "x-farendrefci", "x-nearendrefci"] {
        document.call_ids.extend(param(&params, id).filter(|id| !id.is_empty()).map(str::to_owned));
    }
    let address = |end: &str| {
        let address = param(&params, &format!("x-{end}addr")).filter(|text| !text.is_empty());
        address.map(str::to_owned)
    };
    // The one stream of this call is what this end says.
    let is_far = param(&params, "x-farend").is_some();
    for (end, speaks) in [("nearend", !is_far), ("farend", is_far)] {
        let own = || (end == "nearend").then(|| from.uri.split(';').next().unwrap_or_default());
        let Some(address) = address(end).or_else(|| own().map(str::to_owned)) else { continue };
        add_party(document, end.to_owned(), &address, speaks.then_some(0));
    }
    for (name, value) in params.iter().filter(|(name, _)| name.starts_with("x-")) {
        document.extensions.push(Extension {
            scope: Scope::Document,
            element: name.clone(),
            attributes: Vec::new(),
            text: value.clone().unwrap_or_else(|| "true".to_owned()),
        });
    }
}

fn add_party(document: &mut Document, id: String, address: &str, speaks_on: Option<usize>) {
    let id = ParticipantId(id);
    let aor = Some(address.to_owned());
    document.participants.push(Participant {
        id: id.clone(),
        names: vec![NameId { name: None, aor }],
        role: None,
    });
    let Some(index) = speaks_on.filter(|index| *index < MAX_PARTIES) else { return };
    let stream = StreamId(implied_label(index));
    if !document.streams.iter().any(|known| known.id == stream) {
        document.streams.push(Stream {
            id: stream.clone(),
            label: Some(Label(implied_label(index))),
            session: None,
            mode: None,
        });
    }
    document.stream_associations.push(StreamAssociation {
        participant: id,
        sends: vec![stream],
        receives: Vec::new(),
        from: None,
        to: None,
    });
}

/// Whether a header helps to find the call in another system.
pub fn is_correlating(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "session-id",
        "user-to-user",
        "cisco-guid",
        "cisco-gucid",
        "av-global-session-id",
        "remote-party-id",
        "diversion",
        "history-info",
        "call-info",
        "subject",
        "accept-contact",
        "referred-by",
    ];
    name.starts_with("x-") || name.starts_with("p-") || NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Snapshot;

    fn told(headers: &str) -> Option<(Snapshot, Vec<u8>)> {
        let text = format!("INVITE sip:x SIP/2.0\r\n{headers}\r\n\r\n");
        let message = Message::from_datagram(text.as_bytes()).unwrap();
        let found = read(&message)?;
        let mut snapshot = Snapshot::default();
        snapshot.fold(found.document);
        Some((snapshot, found.bytes))
    }

    fn heard(snapshot: &Snapshot, label: &str) -> Vec<String> {
        let speakers = snapshot.speakers(&Label(label.to_owned()));
        speakers.map(|party| party.aor().unwrap_or_default().to_owned()).collect()
    }

    #[test]
    fn network_based_recording_says_who_is_heard_on_which_m_line() {
        let (snapshot, bytes) = told(
            "From: <sip:cube@192.0.2.1>;tag=1\r\n\
             X-Cisco-Recording-Participant: sip:708090@10.0.0.1;media-index=\"1\"\r\n\
             X-Cisco-Recording-Participant: <sip:5001@10.0.0.2>;media-index=\"0\"",
        )
        .unwrap();
        assert_eq!(heard(&snapshot, "0"), ["sip:5001@10.0.0.2"]);
        assert_eq!(heard(&snapshot, "1"), ["sip:708090@10.0.0.1"]);
        assert_eq!(bytes.split(|byte| *byte == b'\n').count(), 4, "as it came");
    }

    #[test]
    fn the_two_calls_of_a_built_in_bridge_have_an_id_in_common() {
        let from = |end: &str| {
            format!(
                "From: <sip:5001@10.0.0.1;{end};x-refci=24194634;x-nearenddevice=SEP1;\
                 x-nearendaddr=5001;x-farendrefci=24194635;x-farenddevice=SEP2;\
                 x-farendaddr=708090>;tag=7"
            )
        };
        let (near, _) = told(&from("x-nearend")).unwrap();
        let (far, _) = told(&from("x-farend")).unwrap();
        assert_eq!(heard(&near, "0"), ["5001"]);
        assert_eq!(heard(&far, "0"), ["708090"]);
        assert_eq!(near.participants.len(), 2);
        for call in [&near, &far] {
            assert!(call.call_ids.contains("24194634") && call.call_ids.contains("24194635"));
        }
        assert!(near.extensions.iter().any(|e| e.element == "x-nearenddevice" && e.text == "SEP1"));
    }

    #[test]
    fn headers_that_say_nothing_make_no_document() {
        assert!(told("From: <sip:a@b>;tag=1\r\nUser-Agent: x").is_none());
        let (snapshot, bytes) = told("From: <sip:a@b>;tag=1\r\nCisco-Guid: 1-2-3-4").unwrap();
        assert!(snapshot.participants.is_empty());
        assert_eq!(bytes, b"From: <sip:a@b>;tag=1\r\nCisco-Guid: 1-2-3-4\r\n");
        let (snapshot, _) =
            told("X-Cisco-Recording-Participant: \"open <sip:a>\r\nX-A: 1").unwrap();
        assert!(snapshot.participants.is_empty());
    }
}
