//! Whether a call in progress sounds as it should, as far as packets tell without decoding them:
//! a recording that is silent is found while there is still somebody to be asked.
//!
//! - A stream that should send and has sent nothing for [`NOTHING_AFTER`]: `no_packets`.
//! - A stream of G.711 of which nothing but silence came for [`SILENT_AFTER`]: `silent_track`.
//!   Of other codecs, and of encrypted streams, silence cannot be told without decoding.
//! - One of these beside a stream with a voice: `one_way_audio`.
//! - Most packets of a payload type that nobody negotiated: `wrong_codec`.
//!
//! It is about the whole call so far, and taken back when it is no longer true. Hold and pauses do
//! not count. The finaliser judges again, from decoded audio, when the call is over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metrics::counter;
use model::recording::flag;
use segment::PacketRef;
use siprec::{Direction, NegotiatedStream};

const NOTHING_AFTER: Duration = Duration::from_secs(10);
const SILENT_AFTER: Duration = Duration::from_secs(30);
/// Fewer tell nothing of a codec: some SRCs begin before their own answer.
const TELLING_PACKETS: u64 = 50;
const RTP_HEADER_BYTES: usize = 12;
/// µ-law without its sign, counted from silence: 64 of 32,124, as for the finaliser.
const QUIET_ULAW: u8 = 8;
/// A-law likewise: ±8 is its silence, and a step of 16 follows the other.
const QUIET_ALAW: u8 = 3;
const PCMU: u8 = 0;
const PCMA: u8 = 8;
const COMFORT_NOISE: u8 = 13;

/// What was heard of a call since it began, or since this process did.
#[derive(Debug, Default)]
pub struct Assurance {
    streams: BTreeMap<u16, Heard>,
    told: BTreeSet<String>,
    /// Everything that was ever told, for the metrics: a call counts once.
    counted: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug)]
enum Sounds {
    /// G.711 that is not encrypted: a look at its octets tells.
    Plainly,
    /// Whatever it says, it is no voice: comfort noise, events.
    Never,
    /// Cannot be told here.
    Perhaps,
}

#[derive(Debug)]
struct Heard {
    /// Payload types that were negotiated.
    formats: BTreeMap<u8, Sounds>,
    /// How long it should have sent so far, without holds and pauses.
    expected: Duration,
    sends: bool,
    packets: u64,
    unknown: u64,
    /// Anything that is not silence, or of which that cannot be told.
    has_voice: bool,
}

impl Assurance {
    /// What is sent from now on.
    pub fn negotiated(&mut self, streams: &[NegotiatedStream]) {
        for stream in streams {
            let Ok(index) = u16::try_from(stream.index) else { continue };
            // Pictures have no sound.
            if stream.removed || stream.media == "video" {
                self.streams.remove(&index);
                continue;
            }
            let is_plain = stream.srtp.is_none();
            let formats = stream.formats.iter().map(|format| {
                let sounds = match format.payload_type {
                    PCMU | PCMA if is_plain => Sounds::Plainly,
                    COMFORT_NOISE => Sounds::Never,
                    _ if format.encoding.eq_ignore_ascii_case("telephone-event") => Sounds::Never,
                    _ if format.encoding.eq_ignore_ascii_case("CN") => Sounds::Never,
                    _ => Sounds::Perhaps,
                };
                (format.payload_type, sounds)
            });
            let sends = stream.direction != Direction::Inactive;
            let heard = self.streams.entry(index).or_insert_with(|| Heard {
                formats: BTreeMap::new(),
                expected: Duration::ZERO,
                sends,
                packets: 0,
                unknown: 0,
                has_voice: false,
            });
            heard.sends = sends;
            heard.formats.extend(formats);
        }
    }

    /// Called for every packet: a look at two bytes, and at ten more of a stream without a voice.
    pub fn packet(&mut self, packet: &PacketRef<'_>) {
        if packet.rtcp {
            return;
        }
        let Some(heard) = self.streams.get_mut(&packet.stream) else { return };
        let Some(payload_type) = packet.datagram.get(1).map(|byte| byte & 0x7f) else { return };
        heard.packets += 1;
        match heard.formats.get(&payload_type) {
            // Many SRCs send it without a word about it.
            None if payload_type == COMFORT_NOISE => {}
            None => heard.unknown += 1,
            Some(Sounds::Plainly) if !heard.has_voice => {
                let payload = packet.datagram.get(RTP_HEADER_BYTES..).unwrap_or_default();
                heard.has_voice = is_loud(payload_type, payload);
            }
            Some(Sounds::Plainly | Sounds::Never) => {}
            Some(Sounds::Perhaps) => heard.has_voice = true,
        }
    }

    /// Time passes. `is_paused`: nothing is taken now, whatever is sent.
    pub fn passed(&mut self, time: Duration, is_paused: bool) {
        for heard in self.streams.values_mut().filter(|heard| heard.sends && !is_paused) {
            heard.expected += time;
        }
    }

    /// The flags as they are now, if they have changed since they were told.
    pub fn changed(&mut self) -> Option<&BTreeSet<String>> {
        let now = self.flags();
        if now == self.told {
            return None;
        }
        for flag in now.difference(&self.counted) {
            counter!("linekeeper_calls_flagged_total", "flag" => flag.clone()).increment(1);
        }
        self.counted.extend(now.iter().cloned());
        self.told = now;
        Some(&self.told)
    }

    fn flags(&self) -> BTreeSet<String> {
        let mut flags = BTreeSet::new();
        let (mut voices, mut mute) = (0, 0);
        for heard in self.streams.values() {
            let nothing = heard.packets == 0 && heard.expected >= NOTHING_AFTER;
            let silent = heard.packets > 0 && !heard.has_voice && heard.expected >= SILENT_AFTER;
            let wrong = heard.packets >= TELLING_PACKETS && heard.unknown * 2 > heard.packets;
            for (is_so, flag) in [
                (nothing, flag::NO_PACKETS),
                // What nobody negotiated is not silence.
                (silent && !wrong, flag::SILENT_TRACK),
                (wrong, flag::WRONG_CODEC),
            ] {
                if is_so {
                    flags.insert(flag.to_owned());
                }
            }
            voices += usize::from(heard.has_voice);
            mute += usize::from(nothing || (silent && !wrong));
        }
        if voices == 1 && mute > 0 && voices + mute == self.streams.len() {
            flags.insert(flag::ONE_WAY_AUDIO.to_owned());
        }
        flags
    }
}

/// Ten samples of a packet tell: a voice is not silent every 2 ms.
fn is_loud(payload_type: u8, payload: &[u8]) -> bool {
    let step = (payload.len() / 10).max(1);
    payload.iter().step_by(step).any(|byte| match payload_type {
        // Inverted, silence is 0 (ITU-T G.711, table 2a).
        PCMU => !byte & 0x7f > QUIET_ULAW,
        // Every other bit is inverted (ITU-T G.711, table 1a).
        _ => (byte ^ 0x55) & 0x7f > QUIET_ALAW,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn negotiated(payload_types: &[u8], direction: Direction) -> Vec<NegotiatedStream> {
        let format = |payload_type: &u8| siprec::PayloadFormat {
            payload_type: *payload_type,
            encoding: "PCMU".to_owned(),
            clock_rate: 8_000,
            channels: 1,
            fmtp: None,
        };
        let stream = |index| NegotiatedStream {
            index,
            label: Some(index.to_string()),
            formats: payload_types.iter().map(format).collect(),
            remote: None,
            local: None,
            direction,
            removed: false,
            protocol: "RTP/AVP".to_owned(),
            rtcp_mux: false,
            media: "audio".to_owned(),
            remote_rtcp: None,
            srtp: None,
        };
        vec![stream(0), stream(1)]
    }

    struct Call(Assurance);

    impl Call {
        fn new() -> Self {
            let mut assurance = Assurance::default();
            assurance.negotiated(&negotiated(&[PCMU, PCMA, 96], Direction::SendOnly));
            Self(assurance)
        }

        /// A second in which the streams send what is told of each: a payload type and a byte.
        fn second(&mut self, sent: [Option<(u8, u8)>; 2]) -> &mut Self {
            for (stream, sent) in (0..).zip(sent) {
                let Some((payload_type, byte)) = sent else { continue };
                let mut datagram = vec![0x80, payload_type];
                datagram.resize(RTP_HEADER_BYTES + 160, byte);
                let packet = PacketRef {
                    stream,
                    rtcp: false,
                    arrival_boot_ns: 0,
                    source: ([192, 0, 2, 1], 4_000).into(),
                    datagram: &datagram,
                };
                (0..50).for_each(|_| self.0.packet(&packet));
            }
            self.0.passed(SECOND, false);
            self
        }

        fn flags(&self) -> Vec<String> {
            self.0.flags().into_iter().collect()
        }
    }

    const VOICE: Option<(u8, u8)> = Some((PCMU, 0x20));
    const SILENCE: Option<(u8, u8)> = Some((PCMU, 0xff));
    const A_LAW_SILENCE: Option<(u8, u8)> = Some((PCMA, 0xd5));

    #[test]
    fn a_leg_without_packets_is_one_way_until_it_sends() {
        let mut call = Call::new();
        (0..9).for_each(|_| _ = call.second([VOICE, None]));
        assert_eq!(call.flags(), [""; 0]);
        call.second([VOICE, None]);
        assert_eq!(call.flags(), [flag::NO_PACKETS, flag::ONE_WAY_AUDIO]);
        assert!(call.0.changed().is_some());
        assert!(call.0.changed().is_none(), "told once");
        call.second([VOICE, VOICE]);
        assert_eq!(call.0.changed(), Some(&BTreeSet::new()));
    }

    #[test]
    fn a_leg_of_silence_is_found_in_either_law() {
        for silence in [SILENCE, A_LAW_SILENCE] {
            let mut call = Call::new();
            (0..30).for_each(|_| _ = call.second([silence, VOICE]));
            assert_eq!(call.flags(), [flag::ONE_WAY_AUDIO, flag::SILENT_TRACK]);
        }
    }

    #[test]
    fn of_what_cannot_be_decoded_here_nothing_is_claimed() {
        let mut call = Call::new();
        (0..60).for_each(|_| _ = call.second([Some((96, 0)), Some((96, 0))]));
        assert_eq!(call.flags(), [""; 0]);
    }

    #[test]
    fn a_payload_type_that_nobody_negotiated_is_the_wrong_codec() {
        let mut call = Call::new();
        (0..60).for_each(|_| _ = call.second([Some((18, 0)), VOICE]));
        assert_eq!(call.flags(), [flag::WRONG_CODEC]);
    }

    #[test]
    fn hold_and_pauses_are_no_silence() {
        let mut call = Call::new();
        call.0.negotiated(&negotiated(&[PCMU], Direction::Inactive));
        (0..60).for_each(|_| _ = call.second([None, None]));
        assert_eq!(call.flags(), [""; 0]);
        let mut call = Call::new();
        (0..60).for_each(|_| call.0.passed(SECOND, true));
        assert_eq!(call.flags(), [""; 0]);
    }
}
