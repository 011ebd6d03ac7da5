//! Reads the XML of recording metadata (RFC 7865 §9) in all the dialects that are spoken.
//!
//! Only local names count, in any case: there are three namespaces (`…:recording:1`,
//! `…:recording`, `…:siprec`), prefixed or not. An id is `id` or `<element>_id`. What RFC 7865
//! does not define is kept as an [`Extension`].
//!
//! The input is hostile until shown otherwise. Size, depth and attributes are limited before the
//! parser sees it, since a parser that keeps namespaces in scope takes time and memory that grow
//! with their product. A document type declaration, and with it every entity, is refused.
//!
//! Two mistakes are repaired instead of losing all names: an `&` that starts no reference, and a
//! prefix that is not declared.

use roxmltree::{Error, Node, ParsingOptions};

use super::document::{
    Association, CommunicationSession, DataMode, Document, Extension, Group, GroupId, Label,
    NameId, Participant, ParticipantId, Scope, SessionId, Stream, StreamAssociation, StreamId,
};
use super::{MetadataError, MetadataTime, encoding, role};

const LIMIT_BYTES: usize = 256 * 1024;
const LIMIT_DEPTH: usize = 32;
const LIMIT_ATTRIBUTES: usize = 64;
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
    check_shape(&text)?;
    for _ in 0..LIMIT_REPAIRS {
        let options = ParsingOptions { nodes_limit: LIMIT_NODES, ..ParsingOptions::default() };
        text = match roxmltree::Document::parse_with_options(&text, options) {
            Ok(tree) => return document(tree.root_element()),
            Err(Error::DtdDetected) => return Err(MetadataError::DocumentType),
            Err(error) => match repaired(&text, &error) {
                Some(repaired) => repaired,
                None => return Err(MetadataError::NotXml { problem: error.to_string() }),
            },
        };
    }
    Err(MetadataError::NotXml { problem: "too many mistakes".to_owned() })
}

/// Refuses what would be expensive to parse. Reads tags only, so it cannot be expensive itself.
fn check_shape(text: &str) -> Result<(), MetadataError> {
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        rest = &rest[start..];
        let skipped = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];
        if let Some((open, close)) = skipped.iter().find(|(open, _)| rest.starts_with(open)) {
            // Unclosed: the parser will say so.
            let Some(end) = rest[open.len()..].find(close) else { break };
            rest = &rest[open.len() + end + close.len()..];
            continue;
        }
        let (tag, attributes) = tag(rest);
        if attributes > LIMIT_ATTRIBUTES {
            return Err(MetadataError::NotXml { problem: "too many attributes".to_owned() });
        }
        if tag.starts_with("</") {
            depth = depth.saturating_sub(1);
        } else if !tag.ends_with("/>") {
            depth += 1;
        }
        if depth > LIMIT_DEPTH {
            return Err(MetadataError::TooDeep { limit: LIMIT_DEPTH });
        }
        rest = &rest[tag.len()..];
    }
    Ok(())
}

/// The tag at the start of `text`, and how many attributes it has. A `>` may stand in a quoted
/// attribute value.
fn tag(text: &str) -> (&str, usize) {
    let mut quote = None;
    let mut attributes = 0;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'=') => attributes += 1,
            (None, b'>') => return (&text[..=at], attributes),
            (Some(open), _) if open == byte => quote = None,
            _ => {}
        }
    }
    (text, attributes)
}

/// The text without the mistake that `error` names, where we know how.
fn repaired(text: &str, error: &Error) -> Option<String> {
    match error {
        Error::UnknownNamespace(prefix, _) => {
            let root = text.find(|letter: char| letter == '<')?;
            let name_end = root
                + 1
                + text[root + 1..].find(|c: char| c.is_whitespace() || "/>".contains(c))?;
            let (before, after) = text.split_at(name_end);
            Some(format!("{before} xmlns:{prefix}=\"urn:undeclared:{prefix}\"{after}"))
        }
        Error::UnknownEntityReference(..) | Error::MalformedEntityReference(_) => {
            let escaped = with_references_escaped(text);
            (escaped != text).then_some(escaped)
        }
        _ => None,
    }
}

/// Every `&` that does not start a reference known without a DTD becomes `&amp;`.
fn with_references_escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 64);
    for (index, piece) in text.split('&').enumerate() {
        if index > 0 {
            escaped.push_str(if starts_as_reference(piece) { "&" } else { "&amp;" });
        }
        escaped.push_str(piece);
    }
    escaped
}

fn starts_as_reference(text: &str) -> bool {
    let Some((name, _)) = text.split_once(';') else { return false };
    match name.strip_prefix('#') {
        Some(number) => {
            let digits = number.strip_prefix('x').unwrap_or(number);
            !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        }
        None => ["amp", "lt", "gt", "quot", "apos"].contains(&name),
    }
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
    // As deep as LIMIT_DEPTH at most.
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
