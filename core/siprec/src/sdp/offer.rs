//! Reads a session description from whatever bytes an SRC sends (RFC 8866 §5).
//!
//! Strictness loses calls, so the only bodies refused are those in which not one line of a
//! description is found, and those too big to be one. In particular:
//!
//! - lines may end in LF, CR or both, be indented, and carry trailing spaces;
//! - `v=`, `o=`, `s=`, `t=` and the session's `c=` may be missing (older OpenSIPS);
//! - an m-line that makes no sense is kept as refused, since an answer must count it
//!   (RFC 3264 §6);
//! - lines and attributes that are unknown or malformed are skipped.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use super::{
    Crypto, Direction, MediaDescription, PayloadFormat, RtcpAttribute, SdpError, SessionDescription,
};

/// Far above any real offer; a SIPREC INVITE is 2.5 to 4.1 kB with its metadata.
const LIMIT_BYTES: usize = 256 * 1024;

/// RFC 8068 turrets open a stream per speaker channel; this is well above them.
const LIMIT_MEDIA: usize = 128;

/// Reads a description. The name is from the SRC's side: answers are read with it as well.
pub fn parse(bytes: &[u8]) -> Result<SessionDescription, SdpError> {
    if bytes.len() > LIMIT_BYTES {
        return Err(SdpError::TooLong { bytes: bytes.len(), limit_bytes: LIMIT_BYTES });
    }
    let text = decode(bytes);
    let mut origin = None;
    let mut session = Section::default();
    let mut media: Vec<(MediaLine, Section)> = Vec::new();
    let mut known_lines = 0;
    for (kind, value) in text.split(['\n', '\r']).filter_map(split_line) {
        let in_session = media.is_empty();
        let section = media.last_mut().map_or(&mut session, |(_, section)| section);
        match kind {
            'v' | 't' | 's' => {}
            'o' if in_session => origin = Some(value.to_owned()),
            'c' => section.connection = Connection::parse(value).or(section.connection.take()),
            'a' => section.attribute(value),
            'm' if media.len() == LIMIT_MEDIA => {
                return Err(SdpError::TooManyMedia { limit: LIMIT_MEDIA });
            }
            'm' => media.push((MediaLine::parse(value), Section::default())),
            _ => continue,
        }
        known_lines += 1;
    }
    if known_lines == 0 {
        return Err(SdpError::NotSdp { bytes: bytes.len() });
    }
    let media =
        media.into_iter().map(|(line, section)| describe(line, section, &session)).collect();
    Ok(SessionDescription { origin, media })
}

/// UTF-8 (RFC 8866 §4.5), and Latin-1 where it is not: a name in `s=` must not cost the call.
fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text.trim_start_matches('\u{feff}')),
        Err(_) => Cow::Owned(bytes.iter().map(|&byte| char::from(byte)).collect()),
    }
}

/// `<type>=<value>`, in which RFC 8866 §5 allows no spaces and SBCs write some.
fn split_line(line: &str) -> Option<(char, &str)> {
    let (kind, value) = line.split_once('=')?;
    let mut letters = kind.trim().chars();
    let kind = letters.next()?;
    letters.next().is_none().then(|| (kind.to_ascii_lowercase(), value.trim()))
}

/// The value of an m-line (RFC 8866 §5.14). All empty when it cannot be read.
#[derive(Default)]
struct MediaLine {
    media: String,
    port: u16,
    protocol: String,
    formats: Vec<String>,
}

impl MediaLine {
    fn parse(value: &str) -> Self {
        let mut fields = value.split_whitespace();
        let media = fields.next().unwrap_or_default().to_ascii_lowercase();
        // `<port>/<number of ports>` is for layered media; the first port is the one that counts.
        let port = fields.next().and_then(|port| port.split('/').next()?.parse().ok()).unwrap_or(0);
        let protocol = fields.next().unwrap_or_default().to_owned();
        Self { media, port, protocol, formats: fields.map(str::to_owned).collect() }
    }
}

/// The value of a c-line (RFC 8866 §5.7).
#[derive(Clone, Copy)]
enum Connection {
    Address(IpAddr),
    /// A host name. It is not resolved: the first packet will tell the address.
    Name,
}

impl Connection {
    fn parse(value: &str) -> Option<Self> {
        // `IN IP4 <address>[/<ttl>]`; the address is the last field also when `IN` is missing.
        let address = value.split_whitespace().last()?.split('/').next()?;
        let address = address.trim_start_matches('[').trim_end_matches(']');
        Some(address.parse().map_or(Self::Name, Self::Address))
    }

    fn is_null(self) -> bool {
        matches!(self, Self::Address(address) if address.is_unspecified())
    }

    fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) if !address.is_unspecified() => Some(address),
            _ => None,
        }
    }
}

/// What was said at one level: the session's, or one m-line's.
#[derive(Default)]
struct Section {
    connection: Option<Connection>,
    direction: Option<Direction>,
    label: Option<String>,
    rtpmaps: Vec<(u8, String)>,
    fmtps: Vec<(u8, String)>,
    rtcp: Option<RtcpAttribute>,
    rtcp_mux: bool,
    crypto: Vec<Crypto>,
    ptime_ms: Option<u16>,
}

impl Section {
    fn attribute(&mut self, text: &str) {
        let (name, value) = match text.split_once(':') {
            Some((name, value)) => (name.trim(), value.trim()),
            None => (text, ""),
        };
        match name.to_ascii_lowercase().as_str() {
            "label" if !value.is_empty() => self.label = Some(value.to_owned()),
            "rtpmap" => self.rtpmaps.extend(payload_type_and_rest(value)),
            "fmtp" => self.fmtps.extend(payload_type_and_rest(value)),
            "rtcp" => self.rtcp = rtcp(value).or(self.rtcp),
            "rtcp-mux" => self.rtcp_mux = true,
            "crypto" => self.crypto.extend(Crypto::parse(value)),
            // Some write a fraction although the value is in whole milliseconds.
            "ptime" => self.ptime_ms = value.split('.').next().and_then(|ms| ms.parse().ok()),
            name => self.direction = Direction::parse(name).or(self.direction),
        }
    }
}

fn payload_type_and_rest(value: &str) -> Option<(u8, String)> {
    let (payload_type, rest) = value.split_once(char::is_whitespace)?;
    let payload_type = payload_type.parse().ok().filter(|number| *number < 128)?;
    Some((payload_type, rest.trim().to_owned()))
}

/// `<port> [<nettype> <addrtype> <address>]` (RFC 3605 §2.1).
fn rtcp(value: &str) -> Option<RtcpAttribute> {
    let mut fields = value.split_whitespace();
    let port = fields.next()?.parse().ok().filter(|port| *port != 0)?;
    let address = fields.nth(2).and_then(|address| address.parse().ok());
    Some(RtcpAttribute { port, address })
}

fn describe(line: MediaLine, own: Section, session: &Section) -> MediaDescription {
    let connection = own.connection.or(session.connection);
    let held = connection.is_some_and(Connection::is_null);
    let signalled_direction = own.direction.or(session.direction).unwrap_or_default();
    MediaDescription {
        formats: formats(&line, &own, session),
        media: line.media,
        port: line.port,
        protocol: line.protocol,
        raw_formats: line.formats,
        label: own.label,
        signalled_direction,
        direction: if held { Direction::Inactive } else { signalled_direction },
        held,
        address: connection
            .and_then(Connection::ip)
            .filter(|_| line.port != 0)
            .map(|ip| SocketAddr::new(ip, line.port)),
        rtcp: own.rtcp,
        rtcp_mux: own.rtcp_mux || session.rtcp_mux,
        crypto: if own.crypto.is_empty() { session.crypto.clone() } else { own.crypto },
        ptime_ms: own.ptime_ms.or(session.ptime_ms),
    }
}

fn formats(line: &MediaLine, own: &Section, session: &Section) -> Vec<PayloadFormat> {
    let find = |lines: fn(&Section) -> &Vec<(u8, String)>, wanted: u8| {
        let all = lines(own).iter().chain(lines(session));
        all.into_iter().find(|(number, _)| *number == wanted).map(|(_, text)| text.as_str())
    };
    let mut formats: Vec<PayloadFormat> = Vec::new();
    if !line.protocol.to_ascii_uppercase().contains("RTP/") {
        return formats;
    }
    for number in line.formats.iter().filter_map(|text| text.parse::<u8>().ok()) {
        if number > 127 || formats.iter().any(|format| format.payload_type == number) {
            continue;
        }
        let mut format = match find(|section| &section.rtpmaps, number) {
            Some(rtpmap) => PayloadFormat::from_rtpmap(number, rtpmap),
            None => PayloadFormat::without_rtpmap(number),
        };
        format.fmtp = find(|section| &section.fmtps, number).map(str::to_owned);
        formats.push(format);
    }
    formats
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> SessionDescription {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn an_offer_of_two_labelled_streams_is_read() {
        let offer = read(
            "v=0\r\no=SRC 2890844526 2890844526 IN IP4 198.51.100.1\r\ns=-\r\n\
             c=IN IP4 198.51.100.1\r\nt=0 0\r\n\
             m=audio 12240 RTP/AVP 0 4 8 101\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=fmtp:101 0-16\r\na=sendonly\r\na=label:1\r\na=ptime:20\r\n\
             m=audio 12242 RTP/AVP 98\r\na=rtpmap:98 AMR/8000\r\na=sendonly\r\na=label:a_leg\r\n",
        );
        assert_eq!(offer.origin.as_deref(), Some("SRC 2890844526 2890844526 IN IP4 198.51.100.1"));
        let [first, second] = offer.media.as_slice() else { panic!("{offer:?}") };
        assert_eq!(first.address, Some("198.51.100.1:12240".parse().unwrap()));
        assert_eq!(first.label.as_deref(), Some("1"));
        assert_eq!(first.direction, Direction::SendOnly);
        assert_eq!(first.ptime_ms, Some(20));
        let names: Vec<_> = first.formats.iter().map(|format| format.encoding.as_str()).collect();
        assert_eq!(names, ["PCMU", "G723", "PCMA", "telephone-event"]);
        assert_eq!(first.formats[3].fmtp.as_deref(), Some("0-16"));
        assert_eq!(first.rtcp_address(), Some("198.51.100.1:12241".parse().unwrap()));
        assert_eq!(second.label.as_deref(), Some("a_leg"));
        assert_eq!(second.formats[0].encoding, "AMR");
        assert!(first.is_recordable() && second.is_recordable());
    }

    #[test]
    fn a_sloppy_offer_is_read_all_the_same() {
        // LF only, no v=, s=, t= or session c=, indentation, trailing spaces, a stray line.
        let offer = read(
            "o=- 1 1 IN IP4 192.0.2.1\n  m=audio  4000  RTP/AVP  0 \n c=IN IP4 192.0.2.9 \n\
             a=rtpmap: 0  PCMU/8000 \na= sendonly \na=X-nonsense:;;=\nnonsense\n=\na=label: 7 ",
        );
        let media = &offer.media[0];
        assert_eq!(media.address, Some("192.0.2.9:4000".parse().unwrap()));
        assert_eq!(media.label.as_deref(), Some("7"));
        assert_eq!(media.direction, Direction::SendOnly);
        assert_eq!(media.formats[0].rtpmap().as_deref(), Some("PCMU/8000"));
    }

    #[test]
    fn a_direction_and_a_key_of_the_session_are_inherited_and_can_be_overridden() {
        let key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
        let offer = read(&format!(
            "v=0\na=inactive\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}\n\
             c=IN IP4 192.0.2.1\nm=audio 4000 RTP/SAVP 0\nm=audio 4002 RTP/SAVP 0\na=sendonly\n\
             a=crypto:9 AES_CM_128_HMAC_SHA1_32 inline:{key}\n"
        ));
        assert_eq!(offer.media[0].direction, Direction::Inactive);
        assert_eq!(offer.media[0].crypto[0].tag, 1);
        assert_eq!(offer.media[1].direction, Direction::SendOnly);
        assert_eq!(offer.media[1].crypto.len(), 1);
        assert_eq!(offer.media[1].crypto[0].tag, 9);
        assert!(offer.media.iter().all(|media| media.is_secure_rtp() && media.is_recordable()));
        assert_eq!(offer.media[1].usable_crypto().map(|line| line.tag), Some(9));
    }

    #[test]
    fn a_secure_stream_is_recordable_by_its_first_usable_key_and_not_without() {
        let key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
        let media = |profile: &str, lines: &[&str]| {
            let lines: String = lines.iter().map(|line| format!("a=crypto:{line}\n")).collect();
            read(&format!("v=0\nm=audio 4000 {profile} 0\n{lines}")).media.remove(0)
        };
        let f8 = format!("1 F8_128_HMAC_SHA1_80 inline:{key}");
        let cm = format!("2 AES_CM_128_HMAC_SHA1_32 inline:{key}");
        for profile in ["RTP/SAVP", "rtp/savpf"] {
            let both = media(profile, &[&f8, &cm]);
            assert_eq!(both.usable_crypto().map(|line| line.tag), Some(2));
            assert!(both.is_recordable());
            assert!(!media(profile, &[&f8]).is_recordable());
            assert!(!media(profile, &[]).is_recordable());
        }
        assert!(!media("UDP/TLS/RTP/SAVP", &[&cm]).is_recordable());
        let plain = media("RTP/AVPF", &[&cm]);
        assert!(plain.is_recordable() && plain.usable_crypto().is_none());
    }

    #[test]
    fn a_null_address_is_a_hold_whose_stated_direction_is_remembered() {
        for null in ["IP4 0.0.0.0", "IP6 ::"] {
            let offer = read(&format!("v=0\nc=IN {null}\nm=audio 4000 RTP/AVP 0\na=sendonly\n"));
            let media = &offer.media[0];
            assert!(media.held);
            assert_eq!(media.direction, Direction::Inactive);
            assert_eq!(media.signalled_direction, Direction::SendOnly);
            assert_eq!(media.address, None);
        }
    }

    #[test]
    fn ipv6_multicast_suffixes_and_host_names_are_understood() {
        let offer = read(
            "v=0\nm=audio 4000/2 RTP/AVP 0\nc=IN IP6 2001:db8::1/3\nm=audio 4002 RTP/AVP 0\n\
             c=IN IP4 sbc.example.com\n",
        );
        assert_eq!(offer.media[0].address, Some("[2001:db8::1]:4000".parse().unwrap()));
        assert_eq!(offer.media[1].address, None);
        assert!(!offer.media[1].held && offer.media[1].is_recordable());
    }

    #[test]
    fn an_m_line_without_sense_is_kept_so_that_the_answer_can_count_it() {
        let offer =
            read("v=0\nm=\nm=audio what RTP/AVP 0\nm=audio 99999 RTP/AVP 0\nm=image 9 udptl t38\n");
        assert_eq!(offer.media.len(), 4);
        assert!(offer.media.iter().all(|media| !media.is_recordable()));
        assert_eq!(offer.media[3].raw_formats, ["t38"]);
        assert!(offer.media[3].formats.is_empty());
    }

    #[test]
    fn payload_types_that_cannot_exist_or_repeat_are_left_out() {
        let offer = read("v=0\nm=audio 4000 RTP/AVP 0 0 128 300 -1 x 101\na=rtpmap:200 X/1\n");
        let numbers: Vec<_> = offer.media[0].formats.iter().map(|f| f.payload_type).collect();
        assert_eq!(numbers, [0, 101]);
    }

    #[test]
    fn rtcp_is_where_the_offer_says() {
        let offer = read(
            "v=0\nc=IN IP4 192.0.2.1\nm=audio 4000 RTP/AVP 0\na=rtcp:53020\n\
             m=audio 4000 RTP/AVP 0\na=rtcp:53020 IN IP4 192.0.2.77\n\
             m=audio 4000 RTP/AVP 0\na=rtcp-mux\na=rtcp:1\nm=audio 65535 RTP/AVP 0\n",
        );
        let rtcp: Vec<_> = offer.media.iter().map(|media| media.rtcp_address()).collect();
        let at = |text: &str| Some(text.parse().unwrap());
        assert_eq!(
            rtcp,
            [at("192.0.2.1:53020"), at("192.0.2.77:53020"), at("192.0.2.1:4000"), None]
        );
    }

    #[test]
    fn latin_1_in_a_name_does_not_cost_the_call() {
        let offer = parse(b"v=0\r\ns=Jos\xe9\r\nm=audio 4000 RTP/AVP 0\r\na=label:1\r\n").unwrap();
        assert_eq!(offer.media[0].label.as_deref(), Some("1"));
    }

    #[test]
    fn what_is_no_description_is_an_error() {
        assert_eq!(parse(b""), Err(SdpError::NotSdp { bytes: 0 }));
        assert_eq!(parse(b"<xml/>"), Err(SdpError::NotSdp { bytes: 6 }));
        assert!(matches!(parse(&vec![b'a'; 300_000]), Err(SdpError::TooLong { .. })));
        let many = "m=audio 1 RTP/AVP 0\n".repeat(200);
        assert!(matches!(parse(many.as_bytes()), Err(SdpError::TooManyMedia { .. })));
    }

    #[test]
    fn an_offer_without_media_is_an_offer() {
        assert!(read("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nt=0 0\n").media.is_empty());
    }
}
