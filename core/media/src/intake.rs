//! Opens the records of a call and sorts what they tell: streams with their packets, marks,
//! restarts, documents.

use std::collections::BTreeMap;

use model::recording::MarkKind;
use model::{RecordingId, SessionId};
use segment::{
    Body, Direction, Document, Format, Opener, Packet, RecordKind, SealError, SessionRecord,
    StreamInfo,
};
use siprec::rtp::packet::Packet as Datagram;
use siprec::rtp::srtp::Rejected;

use crate::clock::{AxisNs, CallClock, Reading};
use crate::codec::{Codec, NARROW_HZ};
use crate::decrypt::Decryptor;
use crate::marks::Spans;
use crate::run::Run;

/// A packet is journaled within seconds of its arrival. Beyond this its time is wrong.
const LONGEST_WAIT_NS: u64 = 3_600 * 1_000_000_000;

const VIDEO_HZ: u32 = 90_000;

/// Packets that were under way when the recording ended still belong to it.
const AFTER_END_NS: i64 = 500_000_000;

/// Everything that one session's records tell of one recording.
#[derive(Debug)]
pub(crate) struct Intake {
    recording: RecordingId,
    /// A further communication session of a session that went on before it.
    is_further: bool,
    clock: CallClock,
    decryptor: Decryptor,
    /// By m-line and label: an m-line whose stream ended may be used again (RFC 3264 §8.1).
    pub streams: BTreeMap<(u16, String), Stream>,
    current: BTreeMap<u16, String>,
    pub spans: Spans,
    pub documents: Vec<Document>,
    pub started: Option<AxisNs>,
    pub ended: Option<AxisNs>,
    pub interrupted: bool,
    /// Since the restart no packet has come yet; the last one before it came then.
    restart: Option<AxisNs>,
    newest_packet: Option<AxisNs>,
    /// What came to RTP ports, wherever it belongs.
    pub packets: u64,
    /// Bodies that did not open though their key is here: changed after they were sealed.
    pub damaged: u64,
}

impl Intake {
    pub fn new(session: SessionId, recording: RecordingId) -> Self {
        Self {
            recording,
            is_further: recording != session.first_recording(),
            clock: CallClock::default(),
            decryptor: Decryptor::default(),
            streams: BTreeMap::new(),
            current: BTreeMap::new(),
            spans: Spans::default(),
            documents: Vec::new(),
            started: None,
            ended: None,
            interrupted: false,
            restart: None,
            newest_packet: None,
            packets: 0,
            damaged: 0,
        }
    }
}

/// One negotiated stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub label: String,
    formats: BTreeMap<u8, Format>,
    /// Packets of each payload type.
    payload_types: BTreeMap<u8, u64>,
    /// Whether the SRC ever said that it would send.
    pub sends: bool,
    /// It is on hold now.
    held: bool,
    pub runs: Vec<Run>,
    /// Index of the newest run of each SSRC.
    newest_run: BTreeMap<u32, usize>,
    pub not_rtp: u64,
    /// Packets of an encrypted stream that are not of who has its key.
    pub not_authentic: u64,
}

impl Intake {
    /// Takes the session's next record.
    pub fn take(&mut self, record: &SessionRecord, opener: &Opener) -> Result<(), SealError> {
        match record.kind {
            RecordKind::Key => return Ok(()),
            RecordKind::Started | RecordKind::Ended | RecordKind::Clock => {
                if !self.take_plain(record) {
                    self.damaged += 1;
                }
                return Ok(());
            }
            RecordKind::Packets | RecordKind::Metadata | RecordKind::Streams | RecordKind::Mark => {
            }
        }
        let body = match opener.open_record(record) {
            Ok(Some(body)) => body,
            Ok(None) => return Ok(()),
            // What cannot be undone must not hide the rest of the call.
            Err(SealError::Changed { .. } | SealError::Body { .. } | SealError::NotOne) => {
                self.damaged += 1;
                return Ok(());
            }
            Err(error @ (SealError::NoKey | SealError::TooNew { .. })) => return Err(error),
        };
        let at = self.clock.axis(record.boot_ns);
        match body {
            Body::Packets(packets) => {
                for packet in &packets {
                    self.packet(packet, record.boot_ns);
                }
            }
            Body::Metadata(document) => self.documents.push(document),
            Body::Streams(streams) => self.negotiated(&streams, at),
            // What was negotiated tells of holds too, and of which stream.
            Body::Mark(mark) if mark.kind == MarkKind::Hold => {}
            Body::Mark(mark) => {
                self.spans.tell(at, mark.kind, mark.label, mark.begins, mark.detail);
            }
        }
        Ok(())
    }

    /// False: the record cannot be read.
    fn take_plain(&mut self, record: &SessionRecord) -> bool {
        match record.kind {
            RecordKind::Started => {
                let Ok(started) = record.as_started() else { return false };
                let wall_ns = started.wall_ms.saturating_mul(1_000_000);
                let boot_ns = started.boot_ns;
                self.clock.read(Reading { boot_id: started.boot_id, wall_ns, boot_ns });
                let at = self.clock.axis(boot_ns);
                if started.recording == self.recording {
                    self.started.get_or_insert(at);
                }
                if started.resumed {
                    self.interrupted = true;
                    self.restart = self.restart.or(self.newest_packet);
                }
            }
            RecordKind::Clock => {
                let Ok(clock) = record.as_clock() else { return false };
                let (wall_ns, boot_ns) = (clock.wall_ns, clock.boot_ns);
                self.clock.read(Reading { boot_id: clock.boot_id, wall_ns, boot_ns });
            }
            RecordKind::Ended => {
                let Ok(ended) = record.as_ended() else { return false };
                let at = self.clock.axis(ended.boot_ns);
                if ended.recording == self.recording {
                    self.ended = Some(at);
                }
            }
            _ => {}
        }
        true
    }

    fn negotiated(&mut self, streams: &[StreamInfo], at: AxisNs) {
        self.decryptor.negotiated(streams);
        for info in streams {
            let label = info.label.clone().unwrap_or_default();
            let key = (info.index, label.clone());
            if info.removed && !self.streams.contains_key(&key) {
                // Refused from the start: nothing of it was ever to be recorded.
                continue;
            }
            self.current.insert(info.index, label.clone());
            let stream = self.streams.entry(key).or_default();
            stream.label.clone_from(&label);
            for format in &info.formats {
                stream.formats.insert(format.payload_type, format.clone());
            }
            let sends = info.direction.sends() && !info.removed;
            stream.sends |= sends;
            let held = matches!(info.direction, Direction::Inactive | Direction::RecvOnly)
                && !info.removed;
            if held != stream.held {
                stream.held = held;
                // Streams without labels are told apart by their m-line only.
                let label = Some(span_label(info.index, &label));
                self.spans.tell(at, MarkKind::Hold, label, held, None);
            }
        }
    }

    /// Whether what arrived then is of this recording, and not of another one of the session.
    fn is_part(&self, arrival: AxisNs) -> bool {
        let began = !self.is_further || self.started.is_some_and(|started| started <= arrival);
        let over = self.ended.is_some_and(|end| end.saturating_add(AFTER_END_NS) < arrival);
        began && !over
    }

    fn packet(&mut self, packet: &Packet, journaled_boot_ns: u64) {
        let waited = journaled_boot_ns.abs_diff(packet.arrival_boot_ns);
        let boot_ns =
            if waited > LONGEST_WAIT_NS { journaled_boot_ns } else { packet.arrival_boot_ns };
        let arrival = self.clock.axis(boot_ns);
        // Also what is not of this recording: the rollover counter has to be counted along.
        let datagram = self.decryptor.open(packet);
        self.packets += u64::from(!packet.rtcp);
        if packet.rtcp || !self.is_part(arrival) {
            return;
        }
        let label = self.current.get(&packet.stream).cloned().unwrap_or_default();
        let stream = self.streams.entry((packet.stream, label.clone())).or_default();
        stream.label = label;
        let datagram = match datagram {
            Ok(datagram) => datagram,
            Err(Rejected::NotAuthentic) => {
                stream.not_authentic += 1;
                return;
            }
            Err(Rejected::NotRtp(_) | Rejected::TooShort) => {
                stream.not_rtp += 1;
                return;
            }
        };
        let header = match Datagram::parse(&datagram) {
            Ok(Datagram::Rtp(header)) => header,
            Ok(Datagram::Rtcp(_)) => return,
            Err(_) => {
                stream.not_rtp += 1;
                return;
            }
        };
        if let Some(before) = self.restart.take() {
            let detail = Some("recorder restarted".to_owned());
            self.spans.tell(before, MarkKind::Gap, None, true, detail);
            self.spans.tell(arrival, MarkKind::Gap, None, false, None);
        }
        self.newest_packet = self.newest_packet.max(Some(arrival));

        let format = stream.formats.get(&header.payload_type);
        let codec = Codec::of(format, header.payload_type);
        *stream.payload_types.entry(header.payload_type).or_default() += 1;
        let clock_rate = format.map_or(NARROW_HZ, |format| format.clock_rate);
        let clock_rate = if clock_rate == 0 { NARROW_HZ } else { clock_rate };
        let newest = stream.newest_run.get(&header.ssrc).copied();
        let before = newest.and_then(|index| stream.runs.get(index));
        let index = match (newest, before) {
            (Some(index), Some(run)) if run.continues(&header, clock_rate, arrival) => index,
            _ => {
                let run = Run::new(&header, clock_rate, arrival, before);
                stream.runs.push(run);
                stream.newest_run.insert(header.ssrc, stream.runs.len() - 1);
                stream.runs.len() - 1
            }
        };
        if let Some(run) = stream.runs.get_mut(index) {
            run.push(&header, codec, arrival);
        }
    }
}

impl Stream {
    /// Whether it is pictures: what every format of a video m-line has and no other is this clock
    /// (RFC 3551 §5).
    pub fn is_video(&self) -> bool {
        !self.formats.is_empty()
            && self.formats.values().all(|format| format.clock_rate == VIDEO_HZ)
    }

    /// Encoding name of the payload type that most packets had, else of the first one negotiated.
    pub fn codec(&self) -> String {
        let name = |payload_type: u8| {
            let format = self.formats.get(&payload_type);
            let by_number = match Codec::of(None, payload_type) {
                Codec::Pcmu => "PCMU",
                Codec::Pcma => "PCMA",
                Codec::G722 => "G722",
                _ => "",
            };
            format.map_or(by_number, |format| format.encoding.as_str())
        };
        let is_event =
            |payload_type: &u8| name(*payload_type).eq_ignore_ascii_case("telephone-event");
        let counted = self.payload_types.iter().filter(|(number, _)| !is_event(number));
        let most = counted.max_by_key(|(_, packets)| **packets).map(|(number, _)| *number);
        let first = self.formats.keys().copied().find(|number| !is_event(number));
        most.or(first).map(name).unwrap_or_default().to_owned()
    }
}

/// How spans name the stream that they are about.
pub(crate) fn span_label(index: u16, label: &str) -> String {
    if label.is_empty() { format!("\0{index}") } else { label.to_owned() }
}
