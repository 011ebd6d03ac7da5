//! What real SRCs write and no RFC allows, or hardly anybody expects: a table. Each is done to one
//! good SIPREC INVITE, which is recorded all the same, over UDP and over TCP.

mod differential;
mod pair;

use pair::{METADATA, Pair};
use siprec::metadata::Label;
use siprec::sip::message::Message;
use siprec::{Event, Transport};

/// A name, and what it does to the INVITE. The length of the body is put right afterwards, unless
/// the quirk took it away.
type Quirk = (&'static str, fn(&str) -> String);

/// Both streams are recorded, both labels echoed, and Alice is known to be heard on one.
const RECORDED: &[Quirk] = &[
    ("header names in lower case", |t| names(t, |name| name.to_lowercase())),
    ("header names in upper case", |t| names(t, |name| name.to_uppercase())),
    ("compact header names", |t| names(t, compact)),
    ("a blank before every colon", |t| names(t, |name| format!("{name} "))),
    ("a tab after every colon", |t| values(t, |value| format!("\t\t{value}"))),
    ("every value folded", |t| values(t, |value| format!("\r\n  {value}"))),
    ("blanks at the end of every line", |t| values(t, |value| format!("{value}  "))),
    ("the head in bare LF", |t| head(t, |head| head.replace("\r\n", "\n"))),
    ("the body in bare LF", |t| body(t, |body| body.replace("\r\n", "\n"))),
    ("line ends before the first line", |t| format!("\r\n\r\n\r\n{t}")),
    ("two blanks in the first line", |t| t.replacen(" SIP/2.0\r\n", "  SIP/2.0\r\n", 1)),
    ("blanks after the first line", |t| t.replacen(" SIP/2.0\r\n", " SIP/2.0  \r\n", 1)),
    ("a line that is no header", |t| add(t, "this is no header")),
    ("a header without a value", |t| add(t, "Supported:\r\nRecv-Info:")),
    ("a header that nobody knows", |t| add(t, "X-Nonsense: ;;,,<\"\r\nNewFangled: 1")),
    ("two hundred more headers", |t| add(t, &vec!["X-More: of the same"; 200].join("\r\n"))),
    ("a date that is none", |t| add(t, "Date: yesterday\r\nExpires: 0 0l@company.com")),
    ("a timestamp as CUBE sends it", |t| add(t, "Timestamp: 1716372615")),
    ("a name in UTF-8", |t| swap(t, "From: <sip:src", "From: \"Žiga Müller\" <sip:src")),
    ("separators in a name", |t| swap(t, "From: <sip:src", "From: \"a, <b>; \\\"c\\\"\" <sip:src")),
    ("a name without quotes", |t| swap(t, "To: <", "To: Recording Server No. 1 <")),
    ("a From without brackets", |t| from(t, "sip:src@192.0.2.1;tag=src")),
    ("blanks around the tag", |t| from(t, "<sip:src@192.0.2.1> ; tag = src")),
    ("parameters around the tag", |t| from(t, "<sip:src@192.0.2.1;x=y>;a=b;tag=src;c")),
    ("a tel URI in From", |t| from(t, "<tel:+1-555-0100;phone-context=x>;tag=src")),
    ("no tag in From, as RFC 2543 had it", |t| from(t, "<sip:src@192.0.2.1>")),
    ("a Contact without brackets", |t| contact(t, "sip:src@192.0.2.1:5060;+sip.src")),
    ("the feature tag within the brackets", |t| contact(t, "<sip:src@192.0.2.1;+sip.src>")),
    ("the parameter of AudioCodes", |t| contact(t, "<sip:src@192.0.2.1>;src")),
    ("a feature tag with a value", |t| contact(t, "<sip:src@192.0.2.1>;+sip.src=\"TRUE\"")),
    ("two Contacts", |t| contact(t, "<sip:src@192.0.2.1>;+sip.src, <sip:b@192.0.2.2>")),
    ("no Contact", |t| drop_line(t, "Contact:")),
    ("the option tag in capitals", |t| swap(t, "Require: siprec", "Require: SIPREC")),
    ("the option tag only supported", |t| swap(t, "Require: siprec", "Supported: siprec")),
    ("a list without blanks", |t| swap(t, "Require: siprec", "Require: siprec,timer,100rel")),
    ("a list with empty elements", |t| swap(t, "Require: siprec", "Require: ,siprec,,timer,")),
    ("two Require headers", |t| swap(t, "Require: siprec", "Require: timer\r\nRequire: siprec")),
    ("no Allow", |t| drop_line(t, "Allow:")),
    ("no Max-Forwards", |t| drop_line(t, "Max-Forwards:")),
    ("no hop left", |t| swap(t, "Max-Forwards: 70", "Max-Forwards: 0")),
    ("a Max-Forwards beyond all bounds", |t| swap(t, "Forwards: 70", "Forwards: 999999999999")),
    ("a large CSeq", |t| swap(t, "CSeq: 2 ", "CSeq: 2147483640 ")),
    ("a CSeq with leading zeros", |t| swap(t, "CSeq: 2 ", "CSeq: 0000000002   ")),
    ("an odd Call-ID", |t| swap(t, "Call-ID: call-1", "Call-ID: {[(\"<>?/%\\:`~)]}@")),
    ("a Via in lower case", |t| swap(t, "Via: SIP/2.0/", "Via: sip/2.0/")),
    ("a Via with blanks", |t| swap(t, "Via: SIP/2.0/", "Via: SIP / 2.0 / ")),
    ("two Vias in one line", |t| after_via(t, ", SIP/2.0/TCP 10.9.9.9:5070;branch=z9hG4bKx")),
    ("a Via in two lines", |t| after_via(t, "\r\nVia: SIP/2.0/TCP 10.9.9.9;branch=z9hG4bKx")),
    ("an alias in Via", |t| after_via(t, ";alias;rport")),
    ("a branch without the cookie", |t| swap(t, "z9hG4bK", "1")),
    ("an empty value in Via", |t| after_via(t, ";received=;x=\"\"")),
    ("a Request-URI without user", |t| swap(t, "INVITE sip:srs@", "INVITE sip:")),
    ("a Request-URI in capitals", |t| swap(t, "INVITE sip:", "INVITE SIP:")),
    ("a Request-URI with everything", |t| {
        swap(t, ":5060 SIP/2.0", ":5060;transport=udp;x=%41?Subject=hi SIP/2.0")
    }),
    ("a Route to ourselves", |t| add(t, "Route: <sip:192.0.2.50:5060;lr>")),
    ("a content type in capitals", |t| swap(t, "multipart/mixed", "MULTIPART/MIXED")),
    ("a quoted boundary", |t| swap(t, "boundary=b", "boundary=\"b\"")),
    ("blanks around the boundary", |t| swap(t, ";boundary=b", " ; Boundary = b ; x=y")),
    ("an odd boundary", |t| {
        t.replace("boundary=b", "boundary=\"=_'():?b\"").replace("--b", "--=_'():?b")
    }),
    ("a boundary that is another", |t| swap(t, "boundary=b", "boundary=c")),
    ("no boundary", |t| swap(t, ";boundary=b", "")),
    ("no closing boundary", |t| swap(t, "\r\n--b--\r\n", "")),
    ("text around the parts", |t| body(t, |b| format!("preamble\r\n{b}epilogue\r\n"))),
    ("blanks after a boundary", |t| t.replace("--b\r\n", "--b \t\r\n")),
    ("part headers without a blank", |t| body(t, |b| b.replace(": application", ":application"))),
    ("part headers in lower case", |t| body(t, |b| b.replace("Content-Type", "content-type"))),
    ("a length in a part", |t| {
        body(t, |b| b.replace("application/sdp", "application/sdp\r\nContent-Length: 9"))
    }),
    ("metadata before the description", |t| body(t, swap_parts)),
    ("a third part as CUBE has it", |t| third_part(t, "application/gtd")),
    ("a third part that has to be understood", |t| {
        third_part(t, "application/isup\r\nContent-Disposition: signal;handling=required")
    }),
    ("the media type of RFC 7866", |t| swap(t, "rs-metadata+xml", "rs-metadata")),
    ("a charset", |t| swap(t, "rs-metadata+xml", "rs-metadata+xml;charset=\"utf-8\"")),
    ("no disposition", |t| drop_line(t, "Content-Disposition:")),
    ("another disposition", |t| swap(t, "recording-session", "render; handling=optional")),
    ("a description without name and time", |t| {
        swap(t, "s=-\r\nc=", "c=").replace("t=0 0\r\n", "")
    }),
    ("a description without owner", |t| swap(t, "o=SRC 1 1 IN IP4 192.0.2.1\r\n", "")),
    ("addresses on the m-lines", |t| {
        let t = swap(t, "c=IN IP4 192.0.2.1\r\nt=", "t=");
        t.replace("a=rtpmap:101", "c=IN IP4 192.0.2.1\r\na=rtpmap:101")
    }),
    ("no direction", |t| t.replace("a=sendonly\r\n", "")),
    ("both directions", |t| t.replace("a=sendonly", "a=sendrecv")),
    ("lines nobody knows", |t| {
        swap(t, "t=0 0\r\n", "t=0 0\r\nk=prompt\r\nq=what\r\na=\r\na=x:y:z\r\nb=AS:84\r\n")
    }),
    ("blanks after every line", |t| {
        body(t, |b| b.replace("telephone-event/8000", "telephone-event/8000 "))
    }),
    ("a codec in lower case", |t| {
        t.replace(
            "a=rtpmap:101 telephone-event",
            "a=rtpmap:8 pcma/8000/1\r\na=rtpmap:0 pcmu/8000\r\na=rtpmap:101 TELEPHONE-EVENT",
        )
    }),
    ("a codec that nobody explains", |t| t.replace("RTP/AVP 0 101", "RTP/AVP 0 97 101")),
    ("a codec explained twice", |t| {
        t.replace("a=rtpmap:101", "a=rtpmap:101 telephone-event/8000\r\na=rtpmap:101")
    }),
    ("metadata without declaration", |t| swap(t, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>", "")),
    ("metadata after a byte order mark", |t| swap(t, "<?xml", "\u{feff}<?xml")),
    ("metadata after a blank line", |t| swap(t, "<?xml", "\r\n  <?xml")),
    ("the namespace of Oracle", |t| swap(t, "ns:recording:1", "ns:recording")),
    ("the namespace and root of BroadWorks", |t| {
        t.replace("ns:recording:1", "ns:siprec")
            .replace("<recording ", "<recording_metadata ")
            .replace("</recording>", "</recording_metadata>")
    }),
    ("a prefix that is declared", |t| {
        t.replace("xmlns=", "xmlns:t=")
            .replace("</", "</t:")
            .replace("<recording ", "<t:recording ")
            .replace("<datamode", "<t:datamode")
            .replace("<session", "<t:session")
            .replace("<participant", "<t:participant")
            .replace("<nameID", "<t:nameID")
            .replace("<stream", "<t:stream")
            .replace("<label", "<t:label")
            .replace("<send", "<t:send")
    }),
    ("a prefix that is not declared", |t| swap(t, "</recording>", "<ac:x>1</ac:x></recording>")),
    ("an entity of HTML", |t| {
        swap(t, "\"/></participant>", "\"><name>A&nbsp;B & C</name></nameID></participant>")
    }),
    ("names of elements in another case", |t| t.replace("datamode", "dataMode")),
    ("ids of the older draft", |t| {
        t.replace("participant participant_id=", "participant id=")
            .replace("stream stream_id=", "stream id=")
            .replace("session session_id=", "session id=")
    }),
    ("an instruction and a comment", |t| {
        swap(t, "<datamode>", "<?x y?><!-- <datamode> --><datamode>")
    }),
];

/// Recorded, but nobody can say who is heard: the metadata is kept as it came.
const RECORDED_ODDLY: &[Quirk] = &[
    ("metadata that breaks off", |t| {
        body(t, |b| b.replace("</send></participantstreamassoc></recording>", ""))
    }),
    ("metadata that is something else", |t| swap(t, METADATA, "<html><body/></html>")),
    ("metadata with a document type", |t| {
        swap(t, "<recording ", "<!DOCTYPE x [<!ENTITY a \"b\">]><recording ")
    }),
    ("empty metadata", |t| swap(t, METADATA, "")),
    ("no metadata", |t| {
        let start = t.find("--b\r\nContent-Type: application/rs").expect("the second part");
        format!("{}--b--\r\n", &t[..start])
    }),
];

/// What cannot be recorded, and the status that says why.
const REFUSED: &[(u16, Quirk)] = &[
    (400, ("two Call-IDs", |t| add(t, "Call-ID: another"))),
    (400, ("a From that is no address", |t| from(t, "\"open <sip:a@b>;tag=1"))),
    (400, ("a CSeq that is none", |t| swap(t, "CSeq: 2 INVITE", "CSeq: INVITE"))),
    (400, ("a CSeq of another method", |t| swap(t, "CSeq: 2 INVITE", "CSeq: 2 ACK"))),
    (400, ("blanks in the Request-URI", |t| swap(t, "INVITE sip:srs", "INVITE sip:s r s"))),
    (505, ("a version of the future", |t| swap(t, " SIP/2.0\r\n", " SIP/3.0\r\n"))),
    (416, ("a scheme that is no telephone's", |t| swap(t, "INVITE sip:", "INVITE http:"))),
    (420, ("a requirement we do not know", |t| swap(t, "Require: siprec", "Require: siprec, foo"))),
    (415, ("a body that is packed", |t| add(t, "Content-Encoding: gzip"))),
    (
        488,
        ("no codec and no stream at all", |t| {
            t.replace("m=audio", "m=application").replace("RTP/AVP", "TCP/BFCP")
        }),
    ),
    (501, ("a method in lower case", |t| t.replace("INVITE", "invite"))),
];

fn head(text: &str, change: impl Fn(&str) -> String) -> String {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let end = change("\r\n\r\n");
    format!("{}{end}{body}", change(head))
}

fn body(text: &str, change: impl Fn(&str) -> String) -> String {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    format!("{head}\r\n\r\n{}", change(body))
}

/// Changes every header line of the head.
fn lines(text: &str, change: impl Fn(&str, &str) -> String) -> String {
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let mut lines = head.split("\r\n");
    let mut out = lines.next().expect("a first line").to_owned();
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a header");
        out += "\r\n";
        out += &change(name, value);
    }
    format!("{out}\r\n\r\n{body}")
}

fn names(text: &str, change: impl Fn(&str) -> String) -> String {
    lines(text, |name, value| format!("{}: {value}", change(name)))
}

fn values(text: &str, change: impl Fn(&str) -> String) -> String {
    lines(text, |name, value| format!("{name}:{}", change(value)))
}

fn compact(name: &str) -> String {
    let short = match name {
        "Via" => "v",
        "From" => "f",
        "To" => "t",
        "Call-ID" => "i",
        "Contact" => "m",
        "Content-Type" => "c",
        "Content-Length" => "l",
        other => other,
    };
    short.to_owned()
}

fn swap(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the INVITE");
    text.replacen(from, to, 1)
}

fn add(text: &str, header: &str) -> String {
    swap(text, "Content-Type: multipart", &format!("{header}\r\nContent-Type: multipart"))
}

fn line_of<'a>(text: &'a str, start: &str) -> &'a str {
    let at = text.find(start).expect("the line");
    let end = text[at..].find("\r\n").expect("its end");
    &text[at..at + end]
}

fn drop_line(text: &str, start: &str) -> String {
    swap(text, &format!("{}\r\n", line_of(text, start)), "")
}

fn from(text: &str, value: &str) -> String {
    swap(text, line_of(text, "From:"), &format!("From: {value}"))
}

fn contact(text: &str, value: &str) -> String {
    swap(text, line_of(text, "Contact:"), &format!("Contact: {value}"))
}

fn after_via(text: &str, more: &str) -> String {
    let line = line_of(text, "Via:");
    swap(text, line, &format!("{line}{more}"))
}

fn swap_parts(body: &str) -> String {
    let parts: Vec<&str> = body.split("--b").collect();
    assert_eq!(parts.len(), 4, "nothing, two parts and the end");
    format!("--b{}--b{}--b{}", parts[2], parts[1], parts[3])
}

fn third_part(text: &str, headers: &str) -> String {
    swap(text, "\r\n--b--", &format!("\r\n--b\r\nContent-Type: {headers}\r\n\r\nGCI,1\r\n--b--"))
}

/// Puts the length right, in whatever form its header is.
fn with_length(text: &str) -> String {
    let message = Message::from_datagram(text.as_bytes()).expect("a message");
    let old = message.text("content-length").expect("a length").into_owned();
    // Line ends may come before the first line.
    let begun = text.trim_start();
    let ends = ["\r\n\r\n", "\n\n"];
    let heads = ends.iter().filter_map(|end| begun.find(end).map(|at| at + end.len()));
    let body_bytes = begun.len() - heads.min().expect("an empty line");
    let lower = text.to_lowercase();
    let name = ["content-length", "\nl:", "\nl "].iter().find_map(|name| lower.find(name));
    let at = name.expect("a length");
    let (before, rest) = text.split_at(at);
    format!("{before}{}", rest.replacen(&old, &body_bytes.to_string(), 1))
}

struct Outcome {
    status: u16,
    recorded: usize,
    labels: usize,
    heard: Vec<String>,
    documents: usize,
}

fn outcome(transport: Transport, quirk: &Quirk) -> Outcome {
    let mut pair = match transport {
        Transport::Udp => Pair::udp(),
        _ => Pair::tcp(),
    };
    let invite = pair.siprec_invite();
    pair.send(with_length(&quirk.1(&invite)));
    let answers = pair.all();
    assert_eq!(answers.len(), 1, "{}: {answers:#?}", quirk.0);
    let streams = pair.streams();
    let mut heard = Vec::new();
    let mut documents = 0;
    for event in &pair.events {
        if let Event::Metadata { view, .. } = event {
            documents += 1;
            let label = Label("0".to_owned());
            heard.extend(view.iter().flat_map(|view| {
                view.speakers(&label).filter_map(|party| party.aor().map(str::to_owned))
            }));
        }
    }
    let answer = answers[0].body();
    Outcome {
        status: answers[0].status(),
        recorded: streams.iter().filter(|stream| !stream.removed).count(),
        labels: pair::count(&answer, "a=label:0") + pair::count(&answer, "a=label:16777227"),
        heard,
        documents,
    }
}

const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];

#[test]
fn what_real_clients_write_is_recorded() {
    assert!(RECORDED.len() + RECORDED_ODDLY.len() + REFUSED.len() >= 60);
    let mut wrong = Vec::new();
    for quirk in RECORDED {
        for transport in TRANSPORTS {
            let found = outcome(transport, quirk);
            let Outcome { status, recorded, labels, heard, .. } = found;
            if (status, recorded, labels) != (200, 2, 2) || heard != ["sip:alice@example.com"] {
                wrong.push(format!(
                    "{} ({transport:?}): {status}, {recorded} streams, {labels} labels, {heard:?}",
                    quirk.0
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_cannot_be_understood_is_recorded_and_kept_as_it_came() {
    for quirk in RECORDED_ODDLY {
        for transport in TRANSPORTS {
            let found = outcome(transport, quirk);
            assert_eq!((found.status, found.recorded), (200, 2), "{}", quirk.0);
            assert_eq!(found.heard, [""; 0], "{}", quirk.0);
            assert_eq!(found.documents, usize::from(quirk.0 != "no metadata"), "{}", quirk.0);
        }
    }
}

#[test]
fn what_cannot_be_recorded_is_told_why() {
    for (status, quirk) in REFUSED {
        for transport in TRANSPORTS {
            let found = outcome(transport, quirk);
            assert_eq!(found.status, *status, "{} over {transport:?}", quirk.0);
            assert_eq!(found.recorded, 0, "{}", quirk.0);
        }
    }
}

#[test]
fn a_name_in_latin_1_is_echoed_byte_for_byte() {
    let mut pair = Pair::udp();
    let invite = pair.siprec_invite();
    let mut bytes = invite.replacen("From: <", "From: \"M@@ller\" <", 1).into_bytes();
    let at = bytes.windows(2).position(|two| two == b"@@").unwrap();
    bytes.splice(at..at + 2, [0xfc]);
    pair.send(&bytes);
    assert_eq!(pair.one().status(), 200);
    let echoed = b"From: \"M\xfcller\" <";
    assert!(pair.raw_out.windows(echoed.len()).any(|bytes| bytes == echoed));
}
