//! Reads the XML of recording metadata (RFC 7865 §9) in all the dialects that are spoken.
//!
//! Only local names count, in any case: there are three namespaces (`…:recording:1`,
//! `…:recording`, `…:siprec`), prefixed or not. An id is `id` or `<element>_id`. What RFC 7865
//! does not define is kept as an [`Extension`].
//!
//! A document type declaration, and with it every entity, is refused. [`super::guard`] limits the
//! rest before the parser sees it, and repairs two mistakes that would lose all names.

use roxmltree::{Error, Node, ParsingOptions};

use super::document::{
    Association, CommunicationSession, DataMode, Document, Extension, Group, GroupId, Label,
    NameId, Participant, ParticipantId, Scope, SessionId, Stream, StreamAssociation, StreamId,
};
use super::{MetadataError, MetadataTime, encoding, guard, role};

const LIMIT_BYTES: usize = 256 * 1024;
const LIMIT_NODES: u32 = 50_000;
const LIMIT_REPAIRS: usize = 8;

/// Longer texts are no ids.
const LIMIT_CALL_ID_BYTES: usize = 256;

/// Reads a document whose MIME type names no charset.
pub fn read(bytes: &[u8]) -> Result<Document, MetadataError> {
    read_as("", bytes)
}

/// Reads a document that came with this `Content-Type`, whose `charset` counts.
pub fn read_as(content_type: &str, bytes: &[u8]) -> Result<Document, MetadataError> {
    if bytes.len() > LIMIT_BYTES {
        return Err(MetadataError::TooLarge { bytes: bytes.len(), limit_bytes: LIMIT_BYTES });
    }
    let mut text = encoding::decode(content_type, bytes);
    guard::check_shape(&text)?;
    for _ in 0..LIMIT_REPAIRS {
        let options = ParsingOptions { nodes_limit: LIMIT_NODES, ..ParsingOptions::default() };
        text = match roxmltree::Document::parse_with_options(&text, options) {
            Ok(tree) => return document(tree.root_element()),
            Err(Error::DtdDetected) => return Err(MetadataError::DocumentType),
            Err(error) => match guard::repaired(&text, &error) {
                Some(repaired) => repaired,
                None => return Err(MetadataError::NotXml { problem: error.to_string() }),
            },
        };
    }
    Err(MetadataError::NotXml { problem: "too many mistakes".to_owned() })
}

fn document(root: Node<'_, '_>) -> Result<Document, MetadataError> {
    let known_root = is(root, "recording") || is(root, "recording_metadata");
    let known_child = |node| ["participant", "session", "stream"].iter().any(|name| is(node, name));
    if !known_root && !elements(root).any(known_child) {
        let root = root.tag_name().name().chars().take(64).collect();
        return Err(MetadataError::NotMetadata { root });
    }
    let mut document = Document::default();
    let mut extensions = Vec::new();
    for node in elements(root) {
        match lower_name(node).as_str() {
            "datamode" => document.mode = data_mode(&text(node)),
            "group" => group(&mut document, node),
            "session" => session(&mut document, node),
            "participant" => participant(&mut document, node),
            "stream" => stream(&mut document, node),
            "sessionrecordingassoc" => association(&mut document, node, false),
            "participantsessionassoc" => association(&mut document, node, true),
            "participantstreamassoc" => stream_association(&mut document, node),
            _ => extensions.push(node),
        }
    }
    // Last, because a container may name its parent by an id that comes after it (BroadWorks).
    for node in extensions {
        let scope = attribute(node, &["parent"]).and_then(|id| scope_of(&document, &id));
        extend(&mut document, &scope.unwrap_or(Scope::Document), node, "");
    }
    collect_call_ids(&mut document);
    role::infer(&mut document);
    Ok(document)
}

fn data_mode(text: &str) -> DataMode {
    if text.eq_ignore_ascii_case("partial") { DataMode::Partial } else { DataMode::Complete }
}

fn group(document: &mut Document, node: Node<'_, '_>) {
    let id = GroupId(attribute(node, &["group_id", "id"]).unwrap_or_default());
    let mut group = Group { id, from: None, to: None };
    let scope = Scope::Group(group.id.clone());
    for child in elements(node) {
        match lower_name(child).as_str() {
            "associate-time" => group.from = time(child),
            "disassociate-time" => group.to = time(child),
            _ => extend(document, &scope, child, ""),
        }
    }
    document.groups.push(group);
}

fn session(document: &mut Document, node: Node<'_, '_>) {
    let id = SessionId(attribute(node, &["session_id", "id"]).unwrap_or_default());
    let scope = Scope::Session(id.clone());
    let mut session = CommunicationSession {
        id,
        sip_session_ids: Vec::new(),
        group: None,
        start: None,
        stop: None,
        reasons: Vec::new(),
    };
    for child in elements(node) {
        match lower_name(child).as_str() {
            "sipsessionid" => session.sip_session_ids.extend(non_blank(text(child))),
            "reason" => session.reasons.extend(non_blank(text(child))),
            "group-ref" => session.group = non_blank(text(child)).map(GroupId),
            // Oracle writes the times of an association into the session.
            "start-time" => session.start = time(child),
            "associate-time" => session.start = session.start.take().or_else(|| time(child)),
            "stop-time" => session.stop = time(child),
            "disassociate-time" => session.stop = session.stop.take().or_else(|| time(child)),
            _ => extend(document, &scope, child, ""),
        }
    }
    document.sessions.push(session);
}

fn participant(document: &mut Document, node: Node<'_, '_>) {
    let mut names = Vec::new();
    let mut own = NameId::default();
    let mut association = Association {
        session: attribute(node, &["session_id", "session"]).map(SessionId),
        participant: None,
        from: None,
        to: None,
    };
    let (mut sends, mut receives) = (Vec::new(), Vec::new());
    let mut extensions = Vec::new();
    own.aor = attribute(node, &["aor"]).and_then(non_blank);
    for child in elements(node) {
        match lower_name(child).as_str() {
            "nameid" => names.push(name_id(child)),
            "name" => own.name = non_blank(text(child)),
            "aor" => own.aor = non_blank(text(child)),
            "send" => sends.extend(stream_ids(child)),
            "recv" => receives.extend(stream_ids(child)),
            "associate-time" => association.from = time(child),
            "disassociate-time" => association.to = time(child),
            _ => extensions.push(child),
        }
    }
    if own != NameId::default() {
        names.push(own);
    }
    // Nobody is left out for want of an id, but nothing can refer to them either.
    let id = attribute(node, &["participant_id", "id"])
        .unwrap_or_else(|| format!("#{}", document.participants.len()));
    let id = ParticipantId(id);
    for child in extensions {
        extend(document, &Scope::Participant(id.clone()), child, "");
    }
    if !sends.is_empty() || !receives.is_empty() {
        let (participant, from, to) =
            (id.clone(), association.from.clone(), association.to.clone());
        let association = StreamAssociation { participant, sends, receives, from, to };
        document.stream_associations.push(association);
    }
    if association.from.is_some() || association.to.is_some() {
        association.participant = Some(id.clone());
        document.associations.push(association);
    }
    document.participants.push(Participant { id, names, role: None });
}

/// `<nameID aor="…"><name>…</name></nameID>`, also with an `aor` element or just a text.
fn name_id(node: Node<'_, '_>) -> NameId {
    let mut entry = NameId {
        name: attribute(node, &["name"]).and_then(non_blank),
        aor: attribute(node, &["aor"]).and_then(non_blank),
    };
    for child in elements(node) {
        match lower_name(child).as_str() {
            "name" => entry.name = non_blank(text(child)),
            "aor" => entry.aor = non_blank(text(child)),
            _ => {}
        }
    }
    if entry.name.is_none() {
        entry.name = non_blank(text(node));
    }
    entry
}

fn stream(document: &mut Document, node: Node<'_, '_>) {
    let id = StreamId(attribute(node, &["stream_id", "id"]).unwrap_or_default());
    let scope = Scope::Stream(id.clone());
    let session = attribute(node, &["session_id", "session"]).map(SessionId);
    let mut stream = Stream { id, label: None, session, mode: None };
    for child in elements(node) {
        match lower_name(child).as_str() {
            "label" => stream.label = non_blank(text(child)).map(Label),
            "mode" => stream.mode = non_blank(text(child)),
            // When the stream began is no more than when the session did.
            "associate-time" | "disassociate-time" | "start-time" | "stop-time" => {}
            _ => extend(document, &scope, child, ""),
        }
    }
    document.streams.push(stream);
}

fn association(document: &mut Document, node: Node<'_, '_>, of_participant: bool) {
    let participant = attribute(node, &["participant_id", "participant"]).map(ParticipantId);
    if of_participant && participant.is_none() {
        return;
    }
    let session = attribute(node, &["session_id", "session"]).map(SessionId);
    let scope = match (&participant, &session) {
        (Some(id), _) => Scope::Participant(id.clone()),
        (None, Some(id)) => Scope::Session(id.clone()),
        (None, None) => Scope::Document,
    };
    let mut association = Association { session, participant, from: None, to: None };
    for child in elements(node) {
        match lower_name(child).as_str() {
            "associate-time" => association.from = time(child),
            "disassociate-time" => association.to = time(child),
            _ => extend(document, &scope, child, ""),
        }
    }
    document.associations.push(association);
}

fn stream_association(document: &mut Document, node: Node<'_, '_>) {
    let Some(id) = attribute(node, &["participant_id", "participant", "id"]) else { return };
    let participant = ParticipantId(id);
    let scope = Scope::Participant(participant.clone());
    let (sends, receives) = (Vec::new(), Vec::new());
    let mut association = StreamAssociation { participant, sends, receives, from: None, to: None };
    for child in elements(node) {
        match lower_name(child).as_str() {
            "send" => association.sends.extend(stream_ids(child)),
            "recv" => association.receives.extend(stream_ids(child)),
            "associate-time" => association.from = time(child),
            "disassociate-time" => association.to = time(child),
            _ => extend(document, &scope, child, ""),
        }
    }
    document.stream_associations.push(association);
}

/// `<send>id</send>`, or `<send><id>id</id></send>` (BroadWorks).
fn stream_ids(node: Node<'_, '_>) -> Vec<StreamId> {
    let inner = elements(node).filter(|child| is(*child, "id") || is(*child, "stream_id"));
    let ids = inner.map(text).chain([text(node)]).filter_map(non_blank);
    ids.map(StreamId).collect()
}

fn scope_of(document: &Document, id: &str) -> Option<Scope> {
    let participant = document.participants.iter().find(|p| p.id.0 == id);
    let session = document.sessions.iter().find(|s| s.id.0 == id);
    let stream = document.streams.iter().find(|s| s.id.0 == id);
    let group = document.groups.iter().find(|g| g.id.0 == id);
    participant
        .map(|p| Scope::Participant(p.id.clone()))
        .or_else(|| session.map(|s| Scope::Session(s.id.clone())))
        .or_else(|| stream.map(|s| Scope::Stream(s.id.clone())))
        .or_else(|| group.map(|g| Scope::Group(g.id.clone())))
}

/// Keeps an element that RFC 7865 does not define, and all below it. `extensiondata` is only the
/// container, so it is no part of the names.
fn extend(document: &mut Document, scope: &Scope, node: Node<'_, '_>, path: &str) {
    let container = is(node, "extensiondata");
    let name = node.tag_name().name();
    let element = match (container, path) {
        (true, path) => path.to_owned(),
        (false, "") => name.to_owned(),
        (false, path) => format!("{path}/{name}"),
    };
    if !container {
        let attributes: Vec<_> =
            node.attributes().map(|a| (a.name().to_owned(), a.value().trim().to_owned())).collect();
        let text = text(node);
        if !text.is_empty() || !attributes.is_empty() {
            let (scope, element) = (scope.clone(), element.clone());
            document.extensions.push(Extension { scope, element, attributes, text });
        }
    }
    // As deep as the guard let through at most.
    for child in elements(node) {
        extend(document, scope, child, &element);
    }
}

fn collect_call_ids(document: &mut Document) {
    let mut ids: Vec<String> = Vec::new();
    for session in &document.sessions {
        ids.push(session.id.0.clone());
        ids.extend(session.group.iter().map(|group| group.0.clone()));
        for id in &session.sip_session_ids {
            // `<local>;remote=<remote>` (RFC 7989 §5), broken over lines in the RFC's example.
            let id: String = id.split_whitespace().collect();
            let halves = id.split(';').map(|half| half.strip_prefix("remote=").unwrap_or(half));
            ids.extend(halves.map(str::to_owned));
        }
    }
    ids.extend(document.groups.iter().map(|group| group.id.0.clone()));
    for extension in document.extensions.iter().filter(|extension| names_a_call(extension)) {
        // Oracle and Avaya add `;encoding=hex`.
        ids.extend(extension.text.split(';').next().map(|id| id.trim().to_owned()));
    }
    ids.retain(|id| !id.is_empty() && id.len() <= LIMIT_CALL_ID_BYTES);
    document.call_ids.extend(ids);
}

/// Vendors' elements that hold an id of the call: `AvayaUCID`, `gcid`, `extTrackingID`, `callid`,
/// `xferredGroupID`, …
fn names_a_call(extension: &Extension) -> bool {
    let letters = extension.name().chars().filter(char::is_ascii_alphanumeric);
    let name: String = letters.map(|letter| letter.to_ascii_lowercase()).collect();
    let endings = [
        "ucid",
        "gcid",
        "guid",
        "callid",
        "trackingid",
        "correlationid",
        "sessionid",
        "callref",
        "refci",
        "xferredgroupid",
    ];
    endings.iter().any(|ending| name.ends_with(ending))
}

fn elements<'a, 'input>(node: Node<'a, 'input>) -> impl Iterator<Item = Node<'a, 'input>> {
    node.children().filter(Node::is_element)
}

fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.tag_name().name().eq_ignore_ascii_case(name)
}

fn lower_name(node: Node<'_, '_>) -> String {
    node.tag_name().name().to_ascii_lowercase()
}

/// The first of these attributes that is there, in any case and namespace.
fn attribute(node: Node<'_, '_>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let mut attributes = node.attributes();
        let found = attributes.find(|attribute| attribute.name().eq_ignore_ascii_case(name))?;
        Some(found.value().trim().to_owned())
    })
}

/// An element's own text, not that of elements in it, trimmed.
fn text(node: Node<'_, '_>) -> String {
    let pieces = node.children().filter(Node::is_text).filter_map(|piece| piece.text());
    pieces.collect::<String>().trim().to_owned()
}

fn time(node: Node<'_, '_>) -> Option<MetadataTime> {
    non_blank(text(node)).map(|text| MetadataTime::read(&text))
}

fn non_blank(text: String) -> Option<String> {
    let trimmed = text.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMESPACE: &str = "xmlns='urn:ietf:params:xml:ns:recording:1'";

    fn recording(content: &str) -> Document {
        read(format!("<recording {NAMESPACE}>{content}</recording>").as_bytes()).unwrap()
    }

    #[test]
    fn the_mode_is_read_in_any_case_and_complete_without_a_word() {
        assert_eq!(recording("<dataMode>Partial</dataMode>").mode, DataMode::Partial);
        assert_eq!(recording("<datamode> partial </datamode>").mode, DataMode::Partial);
        assert_eq!(recording("<datamode>complete</datamode>").mode, DataMode::Complete);
        assert_eq!(recording("").mode, DataMode::Complete);
    }

    #[test]
    fn an_address_of_record_is_read_wherever_it_stands() {
        for participant in [
            "<participant id='p'><nameID aor='sip:a@b'><name>Ana</name></nameID></participant>",
            "<participant id='p'><nameID><aor>sip:a@b</aor><name>Ana</name></nameID></participant>",
            "<participant id='p'><aor>sip:a@b</aor><name>Ana</name></participant>",
            "<participant id='p' aor='sip:a@b'><name>Ana</name></participant>",
            "<Participant PARTICIPANT_ID='p'><NameID AOR='sip:a@b'>Ana</NameID></Participant>",
        ] {
            let document = recording(participant);
            let found = &document.participants[0];
            assert_eq!(found.id, ParticipantId("p".into()), "{participant}");
            assert_eq!(
                (found.aor(), found.name()),
                (Some("sip:a@b"), Some("Ana")),
                "{participant}"
            );
        }
    }

    #[test]
    fn several_names_of_one_participant_are_all_kept() {
        let document = recording(
            "<participant id='p'><nameID aor='tel:+1555'/><nameID aor='sip:a@b'><name>Ana</name>\
             </nameID></participant>",
        );
        let participant = &document.participants[0];
        assert_eq!(participant.names.len(), 2);
        assert_eq!((participant.aor(), participant.name()), (Some("tel:+1555"), Some("Ana")));
    }

    #[test]
    fn a_participant_without_an_id_is_not_left_out() {
        let document = recording("<participant><aor>1</aor></participant><participant/>");
        assert_eq!(document.participants.len(), 2);
        assert_ne!(document.participants[0].id, document.participants[1].id);
    }

    #[test]
    fn prefixed_and_unprefixed_elements_are_the_same() {
        let prefixed = "<t:recording xmlns:t='urn:ietf:params:xml:ns:recording'>\
                        <t:stream t:stream_id='s'><t:label>7</t:label></t:stream></t:recording>";
        let document = read(prefixed.as_bytes()).unwrap();
        assert_eq!(document.streams[0].label, Some(Label("7".into())));
        assert_eq!(document.streams[0].id, StreamId("s".into()));
    }

    #[test]
    fn a_stray_ampersand_and_an_undeclared_prefix_cost_nothing() {
        let document = recording(
            "<participant id='p'><nameID aor='sip:a@b'><name>Ana & Co &nbsp;</name></nameID>\
             <ac:note>x</ac:note><zz:note zz:y='1'/></participant>",
        );
        assert_eq!(document.participants[0].name(), Some("Ana & Co &nbsp;"));
        assert_eq!(document.extensions.len(), 2);
    }

    #[test]
    fn a_document_type_and_its_entities_are_refused() {
        let bomb =
            "<!DOCTYPE r [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]><recording>&b;</recording>";
        assert_eq!(read(bomb.as_bytes()), Err(MetadataError::DocumentType));
        let external = "<!DOCTYPE r SYSTEM 'file:///etc/passwd'><recording/>";
        assert_eq!(read(external.as_bytes()), Err(MetadataError::DocumentType));
    }

    #[test]
    fn what_is_no_metadata_is_an_error_that_says_so() {
        let error = |text: &str| read(text.as_bytes()).unwrap_err();
        assert!(matches!(error(""), MetadataError::NotXml { .. }));
        assert!(matches!(error("v=0"), MetadataError::NotXml { .. }));
        assert!(matches!(error("<recording><session></recording>"), MetadataError::NotXml { .. }));
        let root = "requestsnapshot".to_owned();
        assert_eq!(error("<requestsnapshot/>"), MetadataError::NotMetadata { root });
        assert!(matches!(error(&"<a>".repeat(5000)), MetadataError::TooDeep { .. }));
        assert!(matches!(error(&" ".repeat(300_000)), MetadataError::TooLarge { .. }));
    }

    #[test]
    fn ids_of_the_call_are_found_in_vendors_elements_but_not_everywhere() {
        let document = recording(
            "<session id='cs'><x xmlns='v'><AvayaUCID>U1;encoding=hex</AvayaUCID><gcid>G1</gcid>\
             <extTrackingID>E1</extTrackingID><userID>ana</userID><call-id>C1</call-id></x></session>",
        );
        let ids: Vec<_> = document.call_ids.iter().map(String::as_str).collect();
        assert_eq!(ids, ["C1", "E1", "G1", "U1", "cs"]);
    }
}
