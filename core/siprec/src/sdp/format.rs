//! RTP payload types: what the numbers on an m-line stand for (RFC 3551 §6, RFC 8866 §6.6).

use serde::{Deserialize, Serialize};

/// One payload type of an m-line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadFormat {
    pub payload_type: u8,
    /// As the peer spelled it; compare without case. Empty for a dynamic type that the peer did
    /// not explain: its packets can be stored, and an answer without it may cost all of them.
    pub encoding: String,
    pub clock_rate: u32,
    pub channels: u8,
    /// The parameters of `a=fmtp`, verbatim.
    pub fmtp: Option<String>,
}

/// What a payload type means when nobody says so.
const FALLBACK_CLOCK_RATE: u32 = 8000;

impl PayloadFormat {
    /// The format that RFC 3551 ties to this number, else an unexplained one.
    pub fn without_rtpmap(payload_type: u8) -> Self {
        let (encoding, clock_rate, channels) =
            static_format(payload_type).unwrap_or(("", FALLBACK_CLOCK_RATE, 1));
        Self { payload_type, encoding: encoding.to_owned(), clock_rate, channels, fmtp: None }
    }

    /// `<encoding>/<clock rate>[/<channels>]`, the value of `a=rtpmap` behind the number.
    ///
    /// A clock rate that is missing or zero is taken from the static table.
    pub fn from_rtpmap(payload_type: u8, value: &str) -> Self {
        let fallback = Self::without_rtpmap(payload_type);
        let mut fields = value.split('/').map(str::trim);
        let encoding = fields.next().filter(|name| !name.is_empty());
        let clock_rate = fields.next().and_then(|rate| rate.parse().ok()).filter(|rate| *rate > 0);
        let channels =
            fields.next().and_then(|count| count.parse().ok()).filter(|count| *count > 0);
        Self {
            payload_type,
            encoding: encoding.map_or(fallback.encoding, str::to_owned),
            clock_rate: clock_rate.unwrap_or(fallback.clock_rate),
            channels: channels.unwrap_or(1),
            fmtp: None,
        }
    }

    /// The value of `a=rtpmap` behind the number, unless the format is unexplained.
    pub fn rtpmap(&self) -> Option<String> {
        if self.encoding.is_empty() {
            return None;
        }
        let channels =
            if self.channels > 1 { format!("/{}", self.channels) } else { String::new() };
        Some(format!("{}/{}{channels}", self.encoding, self.clock_rate))
    }

    /// Whether it is something to listen to, or to look at, of which we know what it is. Some of it
    /// cannot be decoded yet.
    pub fn is_known(&self) -> bool {
        const KNOWN: [&str; 24] = [
            "PCMU",
            "PCMA",
            "G722",
            "G729",
            "GSM",
            "GSM-EFR",
            "opus",
            "iLBC",
            "L16",
            "L8",
            "G726-16",
            "G726-24",
            "G726-32",
            "G726-40",
            "AAL2-G726-32",
            "G723",
            "G728",
            "AMR",
            "AMR-WB",
            "speex",
            "H264",
            "VP8",
            "H263-1998",
            "H265",
        ];
        KNOWN.iter().any(|known| self.encoding.eq_ignore_ascii_case(known))
    }

    /// DTMF digits and other named events (RFC 4733): stored, never played.
    pub fn is_telephone_event(&self) -> bool {
        self.encoding.eq_ignore_ascii_case("telephone-event")
    }

    /// Comfort noise (RFC 3389).
    pub fn is_comfort_noise(&self) -> bool {
        self.encoding.eq_ignore_ascii_case("CN")
    }
}

/// Tables 4 and 5 of RFC 3551 §6.
///
/// 2 and 19 are reserved there; in the field 2 is still G726-32 and 19 still comfort noise.
fn static_format(payload_type: u8) -> Option<(&'static str, u32, u8)> {
    Some(match payload_type {
        0 => ("PCMU", 8000, 1),
        2 => ("G726-32", 8000, 1),
        3 => ("GSM", 8000, 1),
        4 => ("G723", 8000, 1),
        5 => ("DVI4", 8000, 1),
        6 => ("DVI4", 16_000, 1),
        7 => ("LPC", 8000, 1),
        8 => ("PCMA", 8000, 1),
        // 16 kHz audio, but its RTP clock is 8 kHz for historical reasons (RFC 3551 §4.5.2).
        9 => ("G722", 8000, 1),
        10 => ("L16", 44_100, 2),
        11 => ("L16", 44_100, 1),
        12 => ("QCELP", 8000, 1),
        13 | 19 => ("CN", 8000, 1),
        14 => ("MPA", 90_000, 1),
        15 => ("G728", 8000, 1),
        16 => ("DVI4", 11_025, 1),
        17 => ("DVI4", 22_050, 1),
        18 => ("G729", 8000, 1),
        25 => ("CelB", 90_000, 1),
        26 => ("JPEG", 90_000, 1),
        28 => ("nv", 90_000, 1),
        31 => ("H261", 90_000, 1),
        32 => ("MPV", 90_000, 1),
        33 => ("MP2T", 90_000, 1),
        34 => ("H263", 90_000, 1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_payload_type_needs_no_rtpmap() {
        let g722 = PayloadFormat::without_rtpmap(9);
        assert_eq!((g722.encoding.as_str(), g722.clock_rate, g722.channels), ("G722", 8000, 1));
        assert_eq!(g722.rtpmap().as_deref(), Some("G722/8000"));
    }

    #[test]
    fn an_unexplained_dynamic_type_is_kept_without_a_name() {
        let unknown = PayloadFormat::without_rtpmap(113);
        assert_eq!(unknown.encoding, "");
        assert_eq!(unknown.rtpmap(), None);
    }

    #[test]
    fn an_rtpmap_beats_the_static_table_and_its_gaps_are_filled_from_it() {
        let opus = PayloadFormat::from_rtpmap(111, "opus/48000/2");
        assert_eq!((opus.clock_rate, opus.channels), (48_000, 2));
        assert_eq!(opus.rtpmap().as_deref(), Some("opus/48000/2"));
        let sloppy = PayloadFormat::from_rtpmap(18, " g729 ");
        assert_eq!((sloppy.encoding.as_str(), sloppy.clock_rate), ("g729", 8000));
        assert_eq!(PayloadFormat::from_rtpmap(0, "/0/0").rtpmap().as_deref(), Some("PCMU/8000"));
    }

    #[test]
    fn what_can_be_heard_is_known_and_events_and_what_nobody_explained_are_not() {
        for name in ["opus", "g729", "L16", "AMR-WB", "vp8"] {
            assert!(PayloadFormat::from_rtpmap(96, name).is_known(), "{name}");
        }
        assert!(PayloadFormat::without_rtpmap(18).is_known());
        for unknown in [PayloadFormat::without_rtpmap(113), PayloadFormat::without_rtpmap(13)] {
            assert!(!unknown.is_known());
        }
        assert!(!PayloadFormat::from_rtpmap(101, "telephone-event/8000").is_known());
    }

    #[test]
    fn telephone_events_are_known_in_any_case() {
        assert!(PayloadFormat::from_rtpmap(101, "Telephone-Event/8000").is_telephone_event());
        assert!(PayloadFormat::without_rtpmap(19).is_comfort_noise());
    }
}
