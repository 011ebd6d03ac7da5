//! Writes our side of a session description: answers (RFC 3264 §6, RFC 7866 §7.2), and the offer
//! that an INVITE without one asks for.
//!
//! The answer decides whether audio comes. It has
//!
//! - the m-lines of the offer, all of them, in their order, port 0 for those we refuse;
//! - the direction of each mirrored exactly: a peer that gets `inactive` for `sendonly` stops;
//! - every label verbatim: NetSapiens and OpenSIPS send nothing when it is missing or changed;
//! - every payload type of the offer: an OpenSIPS with rtpengine that gets a subset is silent.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::{Crypto, MediaDescription, Origin, PayloadFormat, SessionDescription};

/// Answers `offer`. `local` holds where we receive RTP for each m-line, `None` to refuse it; an
/// m-line beyond its end is refused as well. `crypto` holds our own key for each that is encrypted.
pub fn build(
    offer: &SessionDescription,
    local: &[Option<SocketAddr>],
    crypto: &[Option<Crypto>],
    origin: &Origin,
) -> Vec<u8> {
    let local = |index: usize, media: &MediaDescription| {
        local.get(index).copied().flatten().filter(|_| !media.port_zero())
    };
    let used = offer.media.iter().enumerate().filter_map(|(index, media)| local(index, media));
    let session_address = used.map(|address| address.ip()).next().unwrap_or(origin.address);
    let mut text = session_lines(origin, session_address);
    for (index, media) in offer.media.iter().enumerate() {
        match local(index, media) {
            Some(address) => {
                accepted_media(&mut text, media, address, session_address);
                if let Some(crypto) = crypto.get(index).and_then(Option::as_ref) {
                    line(&mut text, format_args!("a=crypto:{}", crypto.to_line()));
                }
            }
            None => refused_media(&mut text, media),
        }
    }
    text.into_bytes()
}

/// Offers one stream to record per address, to a peer whose INVITE had no offer, as the built-in
/// bridge of Cisco phones does. Its answer comes in the ACK (RFC 3264 §4, RFC 3261 §13.2.1).
pub fn build_offer(local: &[SocketAddr], origin: &Origin) -> Vec<u8> {
    let session_address = local.first().map_or(origin.address, |address| address.ip());
    let mut text = session_lines(origin, session_address);
    let mut formats: Vec<_> = [0, 8, 9, 18].map(PayloadFormat::without_rtpmap).into();
    let mut events = PayloadFormat::from_rtpmap(101, "telephone-event/8000");
    events.fmtp = Some("0-16".to_owned());
    formats.push(events);
    for address in local {
        let numbers: String = formats.iter().map(|f| format!(" {}", f.payload_type)).collect();
        line(&mut text, format_args!("m=audio {} RTP/AVP{numbers}", address.port()));
        media_address(&mut text, address.ip(), session_address);
        format_lines(&mut text, &formats);
        line(&mut text, format_args!("a=recvonly"));
    }
    text.into_bytes()
}

fn session_lines(origin: &Origin, address: IpAddr) -> String {
    let mut text = String::with_capacity(512);
    let Origin { session_id, version, address: own } = origin;
    line(&mut text, format_args!("v=0"));
    line(&mut text, format_args!("o=- {session_id} {version} IN {} {own}", address_type(*own)));
    line(&mut text, format_args!("s=-"));
    line(&mut text, format_args!("c=IN {} {address}", address_type(address)));
    line(&mut text, format_args!("t=0 0"));
    text
}

fn accepted_media(
    text: &mut String,
    offered: &MediaDescription,
    local: SocketAddr,
    session_address: IpAddr,
) {
    let numbers: String = offered.formats.iter().map(|f| format!(" {}", f.payload_type)).collect();
    let MediaDescription { media, protocol, .. } = offered;
    line(text, format_args!("m={media} {} {protocol}{numbers}", local.port()));
    media_address(text, local.ip(), session_address);
    format_lines(text, &offered.formats);
    if let Some(ptime_ms) = offered.ptime_ms {
        line(text, format_args!("a=ptime:{ptime_ms}"));
    }
    if offered.rtcp_mux {
        line(text, format_args!("a=rtcp-mux"));
    }
    let direction = offered.signalled_direction.answered_by_a_receiver();
    line(text, format_args!("a={}", direction.as_str()));
    label_line(text, offered);
}

/// Port 0, but still with a format (RFC 3264 §6: at least one must be present).
fn refused_media(text: &mut String, offered: &MediaDescription) {
    let or = |value: &str, fallback: &str| {
        if value.is_empty() { fallback.to_owned() } else { value.to_owned() }
    };
    let formats = or(&offered.raw_formats.join(" "), "0");
    let (media, protocol) = (or(&offered.media, "audio"), or(&offered.protocol, "RTP/AVP"));
    line(text, format_args!("m={media} 0 {protocol} {formats}"));
    label_line(text, offered);
}

fn media_address(text: &mut String, own: IpAddr, session_address: IpAddr) {
    if own != session_address {
        line(text, format_args!("c=IN {} {own}", address_type(own)));
    }
}

fn format_lines(text: &mut String, formats: &[PayloadFormat]) {
    for format in formats {
        let number = format.payload_type;
        if let Some(rtpmap) = format.rtpmap() {
            line(text, format_args!("a=rtpmap:{number} {rtpmap}"));
        }
        if let Some(fmtp) = &format.fmtp {
            line(text, format_args!("a=fmtp:{number} {fmtp}"));
        }
    }
}

fn label_line(text: &mut String, offered: &MediaDescription) {
    if let Some(label) = &offered.label {
        line(text, format_args!("a=label:{label}"));
    }
}

fn address_type(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IP4" } else { "IP6" }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    text.write_fmt(content).expect("writing to a String cannot fail");
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::{Direction, offer};
    use super::*;

    fn origin() -> Origin {
        Origin { session_id: 7, version: 3, address: "192.0.2.50".parse().unwrap() }
    }

    fn at(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    fn answer(offered: &str, local: &[Option<SocketAddr>]) -> String {
        let offered = offer::parse(offered.as_bytes()).unwrap();
        String::from_utf8(build(&offered, local, &[], &origin())).unwrap()
    }

    #[test]
    fn the_answer_mirrors_the_offer_line_by_line() {
        let answer = answer(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
             m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n\
             a=fmtp:101 0-15\r\na=ptime:20\r\na=rtcp-mux\r\na=sendonly\r\na=label:16777227\r\n\
             m=audio 4002 RTP/AVP 18\r\na=inactive\r\na=label:0\r\n",
            &[at("192.0.2.50:20000"), at("192.0.2.50:20002")],
        );
        assert_eq!(
            answer,
            "v=0\r\no=- 7 3 IN IP4 192.0.2.50\r\ns=-\r\nc=IN IP4 192.0.2.50\r\nt=0 0\r\n\
             m=audio 20000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
             a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=rtcp-mux\r\n\
             a=recvonly\r\na=label:16777227\r\n\
             m=audio 20002 RTP/AVP 18\r\na=rtpmap:18 G729/8000\r\na=inactive\r\na=label:0\r\n"
        );
    }

    #[test]
    fn each_direction_is_answered_as_a_receiver_must() {
        for (offered, answered) in [
            ("sendonly", "recvonly"),
            ("sendrecv", "recvonly"),
            ("recvonly", "inactive"),
            ("inactive", "inactive"),
            ("X-unknown", "recvonly"),
        ] {
            let answer = answer(
                &format!("v=0\nm=audio 4000 RTP/AVP 0\na={offered}\n"),
                &[at("192.0.2.50:20000")],
            );
            assert!(answer.contains(&format!("a={answered}\r\n")), "{offered}: {answer}");
        }
    }

    #[test]
    fn a_hold_by_null_address_is_answered_by_its_stated_direction() {
        let answer = answer(
            "v=0\nc=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 0\na=sendonly\n",
            &[at("192.0.2.50:20000")],
        );
        assert!(answer.contains("a=recvonly\r\n"), "{answer}");
    }

    #[test]
    fn a_refused_stream_keeps_its_place_with_port_zero() {
        let answer = answer(
            "v=0\nm=video 5000 RTP/AVP 96\na=label:v\nm=\nm=image 9 udptl t38\n\
             m=audio 0 RTP/AVP 0\nm=audio 4000 RTP/AVP 0\n",
            &[None, None, None, at("192.0.2.50:20000"), at("192.0.2.50:20002")],
        );
        let media: Vec<_> = answer.lines().filter(|line| line.starts_with("m=")).collect();
        assert_eq!(
            media,
            [
                "m=video 0 RTP/AVP 96",
                "m=audio 0 RTP/AVP 0",
                "m=image 0 udptl t38",
                "m=audio 0 RTP/AVP 0",
                "m=audio 20002 RTP/AVP 0",
            ]
        );
        assert!(answer.contains("m=video 0 RTP/AVP 96\r\na=label:v\r\n"));
    }

    #[test]
    fn an_encrypted_stream_is_answered_with_tag_and_suite_of_the_offer_and_our_key() {
        let key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
        let offered = offer::parse(
            format!(
                "v=0\nm=audio 4000 RTP/SAVP 0\na=crypto:1 F8_128_HMAC_SHA1_80 inline:{key}\n\
                 a=crypto:7 AES_CM_128_HMAC_SHA1_32 inline:{key}|2^20|1:4\n"
            )
            .as_bytes(),
        )
        .unwrap();
        let ours = Crypto::answering(offered.media[0].usable_crypto().unwrap(), vec![0; 30]);
        let local = [at("192.0.2.50:20000")];
        let answer = build(&offered, &local, &[Some(ours)], &origin());
        let answer = String::from_utf8(answer).unwrap();
        let zeros = "A".repeat(40);
        assert!(answer.contains("m=audio 20000 RTP/SAVP 0\r\n"), "{answer}");
        let line = format!("\r\na=crypto:7 AES_CM_128_HMAC_SHA1_32 inline:{zeros}\r\n");
        assert!(answer.contains(&line), "{answer}");
        assert_eq!(answer.matches("a=crypto").count(), 1);
        assert!(!answer.contains(key));
    }

    #[test]
    fn an_m_line_without_an_address_for_it_is_refused() {
        assert!(answer("v=0\nm=audio 4000 RTP/AVP 0\n", &[]).contains("m=audio 0 RTP/AVP 0"));
    }

    #[test]
    fn ipv6_and_a_second_address_are_written_as_such() {
        let answer = answer(
            "v=0\nm=audio 4000 RTP/AVP 0\nm=audio 4002 RTP/AVP 0\n",
            &[at("[2001:db8::5]:20000"), at("192.0.2.51:20002")],
        );
        assert!(answer.contains("c=IN IP6 2001:db8::5\r\nt=0 0"), "{answer}");
        assert!(answer.contains("m=audio 20002 RTP/AVP 0\r\nc=IN IP4 192.0.2.51\r\n"), "{answer}");
    }

    #[test]
    fn what_we_write_is_read_back_the_same() {
        let ours = build_offer(&["192.0.2.50:20000".parse().unwrap()], &origin());
        let offer = offer::parse(&ours).unwrap();
        let media = &offer.media[0];
        assert_eq!(media.address, at("192.0.2.50:20000"));
        assert_eq!(media.direction, Direction::RecvOnly);
        let names: Vec<_> = media.formats.iter().map(|format| format.encoding.as_str()).collect();
        assert_eq!(names, ["PCMU", "PCMA", "G722", "G729", "telephone-event"]);
    }
}
