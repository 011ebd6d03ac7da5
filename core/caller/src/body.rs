//! The body of a SIPREC INVITE: an offer and recording metadata (RFC 7866 §9.1, RFC 7865).

use std::fmt::Write as _;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::plan::{CallPlan, MetadataStyle, Party};
use crate::report::CallError;

/// The ids by which metadata speaks of a call (RFC 7865 §6.10).
#[derive(Clone, Debug)]
pub(crate) struct Ids {
    pub session: String,
    pub group: String,
    pub participants: [String; 2],
    pub streams: [String; 2],
}

impl Ids {
    pub fn random() -> Result<Self, CallError> {
        let id = || {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(CallError::Random)?;
            // Version 4 and variant of a UUID (RFC 9562 §5.4).
            bytes[6] = bytes[6] & 0x0f | 0x40;
            bytes[8] = bytes[8] & 0x3f | 0x80;
            Ok::<_, CallError>(STANDARD.encode(bytes))
        };
        Ok(Self {
            session: id()?,
            group: id()?,
            participants: [id()?, id()?],
            streams: [id()?, id()?],
        })
    }
}

/// An m-line of ours.
#[derive(Clone, Debug)]
pub(crate) struct OfferLine {
    pub port: u16,
    pub label: Option<String>,
    pub held: bool,
    /// The value of `a=crypto`.
    pub crypto: Option<String>,
}

pub(crate) fn offer(
    plan: &CallPlan,
    local: SocketAddr,
    version: u64,
    lines: &[OfferLine],
) -> String {
    let (ip, payload_type) = (local.ip(), plan.codec.payload_type());
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    let mut text = format!(
        "v=0\r\no=- {} {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n",
        // One call is told from the next by its ports.
        lines.first().map_or(1, |line| line.port),
    );
    for line in lines {
        let direction = if line.held { "inactive" } else { "sendonly" };
        let profile = if line.crypto.is_some() { "RTP/SAVP" } else { "RTP/AVP" };
        text += &format!(
            "m=audio {} {profile} {payload_type}\r\na=rtpmap:{payload_type} {}\r\n\
             a=ptime:20\r\na={direction}\r\n",
            line.port,
            plan.codec.rtpmap(),
        );
        if let Some(crypto) = &line.crypto {
            text += &format!("a=crypto:{crypto}\r\n");
        }
        if let Some(label) = &line.label {
            text += &format!("a=label:{label}\r\n");
        }
    }
    text
}

/// The metadata part, if the plan wants one.
pub(crate) fn metadata(plan: &CallPlan, index: u32, call_id: &str, ids: &Ids) -> Option<String> {
    match &plan.metadata {
        MetadataStyle::Full => Some(complete(plan, index, call_id, ids)),
        MetadataStyle::None => None,
        MetadataStyle::Broken => {
            let mut text = complete(plan, index, call_id, ids);
            let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(middle.unwrap_or(0));
            Some(text)
        }
        MetadataStyle::Custom(text) => Some(text.clone()),
    }
}

fn complete(plan: &CallPlan, index: u32, call_id: &str, ids: &Ids) -> String {
    let Ids { session, group, participants, streams } = ids;
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
         <recording xmlns=\"urn:ietf:params:xml:ns:recording:1\">\r\n\
         <datamode>complete</datamode>\r\n<group group_id=\"{group}\"/>\r\n\
         <session session_id=\"{session}\">\r\n<sipSessionID>{}</sipSessionID>\r\n\
         <group-ref>{group}</group-ref>\r\n</session>\r\n",
        escape(call_id)
    );
    for (id, party) in participants.iter().zip(&plan.participants) {
        let Party { name, aor } = numbered(party, index);
        text += &format!(
            "<participant participant_id=\"{id}\">\r\n<nameID aor=\"{}\">\
             <name xml:lang=\"en\">{}</name></nameID>\r\n</participant>\r\n",
            escape(&aor),
            escape(&name)
        );
    }
    let streams = &streams[..usize::from(plan.streams).min(streams.len())];
    for (number, id) in streams.iter().enumerate() {
        text += &format!(
            "<stream stream_id=\"{id}\" session_id=\"{session}\"><label>{}</label></stream>\r\n",
            number + 1
        );
    }
    text += &format!("<sessionrecordingassoc session_id=\"{session}\"/>\r\n");
    for id in participants {
        text += &format!(
            "<participantsessionassoc participant_id=\"{id}\" session_id=\"{session}\"/>\r\n"
        );
    }
    for (number, id) in participants.iter().enumerate() {
        let _ = write!(text, "<participantstreamassoc participant_id=\"{id}\">");
        for (stream, stream_id) in streams.iter().enumerate() {
            // On the only stream of a call both are heard.
            let sends = streams.len() == 1 || stream == number;
            let element = if sends { "send" } else { "recv" };
            let _ = write!(text, "<{element}>{stream_id}</{element}>");
        }
        text += "</participantstreamassoc>\r\n";
    }
    text + "</recording>\r\n"
}

pub(crate) fn numbered(party: &Party, index: u32) -> Party {
    let number = |text: &str| text.replace("{n}", &index.to_string());
    Party { name: number(&party.name), aor: number(&party.aor) }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// Content type and body for an offer, with or without metadata.
pub(crate) fn assemble(sdp: &str, metadata: Option<&str>) -> (String, Vec<u8>) {
    let Some(metadata) = metadata else {
        return ("application/sdp".to_owned(), sdp.as_bytes().to_vec());
    };
    // Neither an offer nor our metadata has a line that begins like this.
    const BOUNDARY: &str = "linekeeper-caller-boundary";
    let body = format!(
        "--{BOUNDARY}\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--{BOUNDARY}\r\n\
         Content-Type: application/rs-metadata+xml\r\nContent-Disposition: recording-session\r\n\
         \r\n{metadata}\r\n--{BOUNDARY}--\r\n"
    );
    (format!("multipart/mixed;boundary={BOUNDARY}"), body.into_bytes())
}

#[cfg(test)]
mod tests {
    use siprec::metadata::{Label, Snapshot, multipart, xml};
    use siprec::sdp::{Direction, offer as reader};

    use super::*;

    fn plan() -> CallPlan {
        let mut plan = CallPlan::to("192.0.2.1:5060".parse().unwrap());
        plan.participants[0] = Party::new("Ana <\"&\"> {n}", "sip:ana{n}@example.com");
        plan
    }

    fn lines() -> [OfferLine; 2] {
        [
            OfferLine { port: 4000, label: Some("1".into()), held: false, crypto: None },
            OfferLine { port: 4002, label: None, held: true, crypto: None },
        ]
    }

    #[test]
    fn the_body_is_read_as_it_was_meant() {
        let (plan, ids) = (plan(), Ids::random().unwrap());
        let sdp = offer(&plan, "[2001:db8::1]:5060".parse().unwrap(), 1, &lines());
        let metadata = metadata(&plan, 7, "call@host", &ids);
        let (content_type, body) = assemble(&sdp, metadata.as_deref());
        let parts = multipart::split(&content_type, &body);
        let offer = reader::parse(parts[0].body).unwrap();
        assert_eq!(offer.media[0].address, Some("[2001:db8::1]:4000".parse().unwrap()));
        assert_eq!(offer.media[0].direction, Direction::SendOnly);
        assert_eq!(offer.media[0].label.as_deref(), Some("1"));
        assert_eq!(offer.media[1].direction, Direction::Inactive);
        assert_eq!(offer.media[1].label, None);
        let mut call = Snapshot::default();
        call.fold(xml::read(parts[1].body).unwrap());
        let first: Vec<_> = call.speakers(&Label("1".into())).collect();
        assert_eq!(first[0].name(), Some("Ana <\"&\"> 7"));
        assert_eq!(first[0].aor(), Some("sip:ana7@example.com"));
        assert_eq!(call.speakers(&Label("2".into())).count(), 1);
        assert!(call.call_ids.contains("call@host") && call.call_ids.contains(&ids.session));
    }

    #[test]
    fn on_a_single_stream_both_are_heard() {
        let plan = CallPlan { streams: 1, ..plan() };
        let text = metadata(&plan, 0, "c", &Ids::random().unwrap()).unwrap();
        let mut call = Snapshot::default();
        call.fold(xml::read(text.as_bytes()).unwrap());
        assert_eq!(call.speakers(&Label("1".into())).count(), 2);
        assert_eq!(call.streams.len(), 1);
    }

    #[test]
    fn broken_metadata_is_broken_and_none_is_none() {
        let ids = Ids::random().unwrap();
        let broken = CallPlan { metadata: MetadataStyle::Broken, ..plan() };
        assert!(xml::read(metadata(&broken, 0, "c", &ids).unwrap().as_bytes()).is_err());
        let none = CallPlan { metadata: MetadataStyle::None, ..plan() };
        assert_eq!(metadata(&none, 0, "c", &ids), None);
        assert_eq!(assemble("v=0", None).0, "application/sdp");
    }
}
