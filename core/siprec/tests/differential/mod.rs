//! The same messages read by `ezk-sip-types`, which shares no code with our reader. Where the two
//! differ, [`DIFFERENCES`] says why, and a difference that it does not name fails.

use std::path::Path;

use bytes::Bytes;
use ezk_sip_types::header::typed::{CSeq, CallID, ContentLength, FromTo, Via};
use ezk_sip_types::msg::{Line, MessageLine, PullParser};
use ezk_sip_types::parse::Parse as _;
use ezk_sip_types::{Headers, Name};
use siprec::sip::message::{Message, StartLine};
use siprec::sip::request::Request;

use crate::{Pair, RECORDED, RECORDED_ODDLY, REFUSED, with_length};

/// What both readers must agree on. Nothing but the status of a response.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reading {
    what: String,
    call_id: String,
    cseq: (u32, String),
    from_tag: Option<String>,
    to_tag: Option<String>,
    branch: Option<String>,
    body: String,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ours(bytes: &[u8]) -> Option<Reading> {
    let message = Message::from_datagram(bytes)?;
    if let StartLine::Response { status } = message.start {
        return Some(Reading { what: status.to_string(), ..Reading::default() });
    }
    let request = Request::read(message).ok()?;
    let method = request.method.to_string();
    Some(Reading {
        what: method.clone(),
        call_id: request.call_id.clone(),
        // A request whose CSeq names another method is not usable.
        cseq: (request.cseq, method),
        from_tag: request.from_tag().map(str::to_owned),
        to_tag: request.to_tag().map(str::to_owned),
        branch: request.via.branch().map(str::to_owned),
        body: text(&request.message.body),
    })
}

fn theirs(bytes: &[u8]) -> Option<Reading> {
    let source = Bytes::copy_from_slice(bytes);
    let mut lines = PullParser::new(&source, 0);
    let start = MessageLine::parse_str(std::str::from_utf8(lines.next()?.ok()?).ok()?).ok()?;
    let mut headers = Headers::new();
    for line in &mut lines {
        let (_, line) = Line::parse(&source, std::str::from_utf8(line.ok()?).ok()?).ok()?;
        headers.insert(line.name, line.value);
    }
    let body = source.get(lines.head_end()..)?;
    let method = match start {
        MessageLine::Response(line) => {
            let what = line.code.into_u16().to_string();
            return Some(Reading { what, ..Reading::default() });
        }
        MessageLine::Request(line) => line.method.to_string(),
    };
    let from: FromTo = headers.get(Name::FROM).ok()?;
    let to: FromTo = headers.get(Name::TO).ok()?;
    let cseq: CSeq = headers.get_named().ok()?;
    let via: Via = headers.get_named().ok()?;
    let length = match headers.try_get_named::<ContentLength>() {
        None => body.len(),
        Some(length) => length.ok()?.0,
    };
    Some(Reading {
        what: method,
        call_id: headers.get_named::<CallID>().ok()?.0.to_string(),
        cseq: (cseq.cseq, cseq.method.to_string()),
        from_tag: from.tag.map(|tag| tag.to_string()),
        to_tag: to.tag.map(|tag| tag.to_string()),
        branch: via.params.get_val("branch").map(|branch| branch.to_string()),
        body: text(body.get(..length)?),
    })
}

/// Every test message of the RFCs, and our INVITE with every quirk.
fn messages() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for rfc in ["rfc4475", "rfc5118"] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(rfc);
        for file in std::fs::read_dir(&dir).expect("the messages of the RFC") {
            let path = file.expect("a readable directory").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            #[expect(clippy::disallowed_methods, reason = "a test may read its data")]
            all.push((name, std::fs::read(&path).expect("a readable file")));
        }
    }
    let invite = Pair::udp().siprec_invite();
    let refused = REFUSED.iter().map(|(_, quirk)| quirk);
    for (name, quirk) in RECORDED.iter().chain(RECORDED_ODDLY).chain(refused) {
        all.push(((*name).to_owned(), with_length(&quirk(&invite)).into_bytes()));
    }
    all
}

/// By message: what the other reader does, and why ours does something else. `None` of ours is
/// a request that is answered 400 or, where the RFC names another status, with that.
const DIFFERENCES: &[(&str, &str)] = &[
    // Ours reads, theirs does not.
    ("wsinv", "refuses blanks around the version of Via, and a Via in several lines; both valid"),
    (
        "trws",
        "refuses blanks at the end of the first line; RFC 4475 §3.1.2.10 allows to ignore them",
    ),
    ("blanks after the first line", "as trws"),
    ("line ends before the first line", "reads no message; RFC 3261 §7.5 says to ignore them"),
    ("a line that is no header", "refuses the message for it; nothing in it needed that line"),
    ("badaspec", "refuses blanks within < and >; RFC 4475 §3.1.2.14 allows to ignore them"),
    ("baddn", "refuses a comma in a name without quotes; RFC 4475 §3.1.2.15 allows to take it"),
    ("separators in a name", "ends a quoted name at an escaped quote; valid, RFC 3261 §25.1"),
    ("unkscm", "reads no scheme but sip and sips; 416 can be answered only to what was read"),
    ("novelsc", "as unkscm"),
    ("a scheme that is no telephone's", "as unkscm"),
    ("unksm2", "as unkscm, in To"),
    ("a tel URI in From", "as unkscm, in From; gateways that know only a number write so"),
    ("a Via in lower case", "refuses sip/2.0; RFC 3261 §7.1 says to compare without case"),
    (
        "ipv6-bad",
        "refuses an IPv6 address without brackets, as RFC 5118 §4.2 says; ours answers REGISTER 405",
    ),
    ("ipv6-bug-abnf-3-colons", "refuses the third colon; RFC 5118 §4.10 says to tolerate it"),
    // Theirs reads, ours does not.
    ("lwsruri", "reads a blank within the URI as its end; RFC 4475 §3.1.2.8 says 400"),
    ("quotbal", "reads an open quote as a name; RFC 4475 §3.1.2.6 says 400"),
    ("a From that is no address", "as quotbal"),
    ("multi01", "takes the first of several From, To and Call-ID; RFC 4475 §3.3.8 says 400"),
    ("two Call-IDs", "as multi01"),
    ("mcl01", "takes the first of two lengths; RFC 4475 §3.3.9 says 400"),
    ("mismatch01", "does not compare the methods; RFC 4475 §3.1.2.17 says 400"),
    ("mismatch02", "does not compare the methods; RFC 4475 §3.1.2.18 says 501 or 400"),
    ("a CSeq of another method", "as mismatch01"),
    // Both read, and something else.
    ("intmeth", "decodes %66 in a branch; a % in a token is only a %, RFC 4475 §3.1.1.2"),
    ("a method in lower case", "takes invite for INVITE; RFC 3261 §7.1: case matters in methods"),
];

#[test]
fn another_reader_understands_the_same_except_where_a_table_says_why() {
    let mut unexplained = Vec::new();
    let mut differing = Vec::new();
    let messages = messages();
    for (name, bytes) in &messages {
        let (ours, theirs) = (ours(bytes), theirs(bytes));
        if ours == theirs {
            continue;
        }
        differing.push(name.as_str());
        if !DIFFERENCES.iter().any(|(known, _)| known == name) {
            unexplained.push(format!("{name}: ours {ours:?}, theirs {theirs:?}"));
        }
    }
    assert!(messages.len() > 150, "{}", messages.len());
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    for (name, _) in DIFFERENCES {
        assert!(differing.contains(name), "{name} is read alike by now");
    }
}
