//! The first reading of a call: what came, and where it lies. No audio is decoded and no payload
//! kept, so that hours cost a few megabytes.

use std::collections::{BTreeMap, BTreeSet};

use model::recording::MarkKind;
use model::{Position, RecordingId, SessionId};
use segment::{Document, Format, Opener, SealError, SessionRecord};
use sha2::{Digest as _, Sha256};

use crate::align::Observed;
use crate::clock::AxisNs;
use crate::codec::{Codec, NARROW_HZ};
use crate::marks::{Digits, Spans};
use crate::quality::Jitter;
use crate::router::{Event, Routed, Router};
use crate::run::{Before, ticks_to_ns};
use crate::sequencer::{Came, Sequencer};

/// How often the router's state is kept, so that reading can begin again in the middle.
const KEEP_EVERY_NS: i64 = 10_000_000_000;

const VIDEO_HZ: u32 = 90_000;

/// What the records so far tell.
#[derive(Debug)]
pub struct Survey {
    pub(crate) router: Router,
    pub(crate) facts: Facts,
    kept: Vec<Kept>,
    /// Of the records since the newest kept state.
    digest: Sha256,
    newest: Option<Position>,
    is_first: bool,
}

/// State before a record.
#[derive(Debug)]
struct Kept {
    /// When the newest packet before it came.
    at: AxisNs,
    position: Position,
    router: Router,
    /// Of the records from here to the next kept state; `None` while that is not there.
    digest: Option<[u8; 32]>,
}

#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub streams: Vec<StreamFacts>,
    pub spans: Spans,
    pub documents: Vec<Document>,
    pub damaged: u64,
}

#[derive(Debug, Default)]
pub(crate) struct StreamFacts {
    pub index: u16,
    pub label: String,
    formats: BTreeMap<u8, Format>,
    /// Packets of each payload type.
    payload_types: BTreeMap<u8, u64>,
    pub codecs: BTreeSet<CodecSeen>,
    /// Whether the SRC ever said that it would send.
    pub sends: bool,
    pub runs: Vec<RunFacts>,
    pub stray: u64,
    /// Packets of an encrypted stream that are not of who has its key.
    pub not_authentic: u64,
}

/// What of a codec matters to a whole call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CodecSeen {
    Undecoded,
    Decoded { call_rate: u32 },
}

/// What is known of a run once all of it was read.
#[derive(Debug)]
pub(crate) struct RunFacts {
    pub ssrc: u32,
    pub clock_rate: u32,
    pub before: Option<Before>,
    pub observed: Observed,
    pub jitter: Jitter,
    pub received: u64,
    pub late: u64,
    pub reordered: u64,
    pub duplicates: u64,
    waiting: Sequencer<Brief>,
    in_order: InOrder,
}

/// Packets that did not come, and the ticks in which they would have been heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub from: i64,
    pub to: i64,
    pub packets: u64,
}

#[derive(Debug)]
struct Brief {
    timestamp: i64,
    ticks: i64,
    /// The payload, of a named event.
    event: Option<[u8; 4]>,
}

impl Survey {
    pub fn new(session: SessionId, recording: RecordingId) -> Self {
        Self {
            router: Router::new(session, recording),
            facts: Facts::default(),
            kept: Vec::new(),
            digest: Sha256::new(),
            newest: None,
            is_first: recording == session.first_recording(),
        }
    }

    /// Takes the session's next record. One that was taken already changes nothing.
    pub fn take(&mut self, record: &SessionRecord, opener: &Opener) -> Result<(), SealError> {
        if self.newest.is_some_and(|newest| record.position <= newest) {
            return Ok(());
        }
        let now = self.router.newest_packet.unwrap_or(AxisNs::MIN);
        if self.kept.last().is_none_or(|kept| now >= kept.at.saturating_add(KEEP_EVERY_NS)) {
            let digest = std::mem::take(&mut self.digest).finalize().into();
            if let Some(before) = self.kept.last_mut() {
                before.digest = Some(digest);
            }
            let (position, router) = (record.position, self.router.clone());
            self.kept.push(Kept { at: now, position, router, digest: None });
        }
        // A record never changes, so where it lies and how long it is tell which one it is.
        self.digest.update(record.position.0.to_le_bytes());
        self.digest.update((record.bytes.len() as u64).to_le_bytes());
        let facts = &mut self.facts;
        self.router.take(record, opener, &mut |event| facts.take(event))?;
        self.newest = Some(record.position);
        Ok(())
    }

    /// Position of the newest record that was taken.
    pub fn through(&self) -> Option<Position> {
        self.newest
    }

    /// Whether the session's streams are all of this recording.
    pub(crate) fn is_first(&self) -> bool {
        self.is_first
    }

    fn kept_before(&self, at: AxisNs) -> usize {
        self.kept.partition_point(|kept| kept.at <= at).saturating_sub(1)
    }

    /// Where reading must begin to hear everything from `at` on, and the state to begin with.
    pub(crate) fn before(&self, at: AxisNs) -> Option<(Position, Router)> {
        let kept = self.kept.get(self.kept_before(at))?;
        Some((kept.position, kept.router.clone()))
    }

    /// Digests of all records that are read between two times; `None` while more of them may come.
    pub(crate) fn digests(&self, from: AxisNs, to: AxisNs) -> Option<Vec<[u8; 32]>> {
        let end = self.kept.partition_point(|kept| kept.at <= to);
        if end == self.kept.len() {
            return None;
        }
        self.kept[self.kept_before(from)..end].iter().map(|kept| kept.digest).collect()
    }
}

impl Facts {
    fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Stream { index, label } => {
                let label = label.to_owned();
                self.streams.push(StreamFacts { index, label, ..StreamFacts::default() });
            }
            Event::Negotiated { stream, formats, sends } => {
                let stream = &mut self.streams[stream];
                stream.sends |= sends;
                for format in formats {
                    stream.formats.insert(format.payload_type, format.clone());
                }
            }
            Event::Hold { stream, at, begins } => {
                // Streams without labels are told apart by their m-line only.
                let label = Some(self.streams[stream].span_label());
                self.spans.tell(at, MarkKind::Hold, label, begins, None);
            }
            Event::Mark { at, mark } => {
                self.spans.tell(at, mark.kind, mark.label, mark.begins, mark.detail);
            }
            Event::Restart { from, to } => {
                let detail = Some("recorder restarted".to_owned());
                self.spans.tell(from, MarkKind::Gap, None, true, detail);
                self.spans.tell(to, MarkKind::Gap, None, false, None);
            }
            Event::Document(document) => self.documents.push(document),
            Event::Damaged => self.damaged += 1,
            Event::Stray { stream } => self.streams[stream].stray += 1,
            Event::NotAuthentic { stream } => self.streams[stream].not_authentic += 1,
            Event::Report { stream, run, media_ns, ntp_ns } => {
                if let Some(run) = self.streams[stream].runs.get_mut(run) {
                    run.observed.report(media_ns, ntp_ns);
                }
            }
            Event::Rtp(routed) => self.streams[routed.stream].take(&routed),
        }
    }
}

impl StreamFacts {
    fn take(&mut self, routed: &Routed<'_>) {
        *self.payload_types.entry(routed.payload_type).or_default() += 1;
        match routed.codec {
            Codec::TelephoneEvent | Codec::ComfortNoise => {}
            codec if codec.is_decoded() => {
                self.codecs.insert(CodecSeen::Decoded { call_rate: codec.call_rate() });
            }
            _ => {
                self.codecs.insert(CodecSeen::Undecoded);
            }
        }
        if let Some(begins) = routed.begins {
            self.runs.push(RunFacts {
                ssrc: begins.ssrc,
                clock_rate: begins.clock_rate,
                before: begins.before,
                observed: Observed::default(),
                jitter: Jitter::default(),
                received: 0,
                late: 0,
                reordered: 0,
                duplicates: 0,
                waiting: Sequencer::default(),
                in_order: InOrder::default(),
            });
        }
        if let Some(run) = self.runs.get_mut(routed.run) {
            run.take(routed);
        }
    }

    /// Whether it is pictures: what every format of a video m-line has and no other is this clock
    /// (RFC 3551 §5).
    pub fn is_video(&self) -> bool {
        !self.formats.is_empty()
            && self.formats.values().all(|format| format.clock_rate == VIDEO_HZ)
    }

    /// How spans name the stream that they are about.
    pub fn span_label(&self) -> String {
        if self.label.is_empty() { format!("\0{}", self.index) } else { self.label.clone() }
    }

    pub fn call_rate(&self) -> u32 {
        let rates = self.codecs.iter().map(|seen| match seen {
            CodecSeen::Undecoded => NARROW_HZ,
            CodecSeen::Decoded { call_rate } => *call_rate,
        });
        rates.max().unwrap_or(NARROW_HZ)
    }

    /// Encoding name of the payload type that most packets had, else of the first one negotiated.
    pub fn codec(&self) -> String {
        let name = |payload_type: u8| {
            let format = self.formats.get(&payload_type);
            let by_number = match Codec::of(None, payload_type) {
                Codec::Pcmu => "PCMU",
                Codec::Pcma => "PCMA",
                Codec::G722 => "G722",
                Codec::G729 => "G729",
                Codec::GsmFr => "GSM",
                Codec::L16 { .. } => "L16",
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

    /// Whether most packets had a payload type that was never negotiated.
    pub fn is_of_wrong_codec(&self) -> bool {
        let all: u64 = self.payload_types.values().sum();
        let unknown = self
            .payload_types
            .iter()
            .filter(|(number, _)| !self.formats.is_empty() && !self.formats.contains_key(number));
        unknown.map(|(_, packets)| packets).sum::<u64>() * 2 > all
    }
}

impl RunFacts {
    fn take(&mut self, routed: &Routed<'_>) {
        let event = match (routed.codec, routed.payload) {
            (Codec::TelephoneEvent, [event, flags, high, low, ..]) => {
                Some([*event, *flags, *high, *low])
            }
            _ => None,
        };
        let brief = Brief { timestamp: routed.place.timestamp, ticks: routed.ticks, event };
        match self.waiting.push(routed.place.sequence, routed.arrival, brief) {
            Came::Kept => self.received += 1,
            Came::Duplicate => self.duplicates += 1,
            Came::Late => self.late += 1,
        }
        self.reordered += u64::from(routed.place.overtaken);
        self.observed.packet(routed.media_ns, routed.place.transit_ns);
        // Events repeat the timestamp at which they began (RFC 4733 §2.5.1.2): no measure of jitter.
        if routed.codec != Codec::TelephoneEvent {
            self.jitter.observe(routed.place.transit_ns);
        }
        while let Some((sequence, brief)) = self.waiting.pop() {
            self.in_order.take(sequence, &brief);
        }
    }

    /// As if no more packets came. A copy: while a call lasts, more come after somebody has looked.
    pub fn settled(&self) -> InOrder {
        let mut settled = self.in_order.clone();
        for (sequence, brief) in self.waiting.iter() {
            settled.take(sequence, brief);
        }
        settled
    }

    pub fn ns(&self, ticks: i64) -> i64 {
        ticks_to_ns(ticks, self.clock_rate)
    }
}

/// What the packets of a run tell in the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct InOrder {
    /// First and last tick of media.
    pub extent: Option<(i64, i64)>,
    pub holes: Vec<Hole>,
    pub digits: Digits,
    /// Number and last tick of the newest packet.
    newest: Option<(i64, i64)>,
}

impl InOrder {
    fn take(&mut self, sequence: i64, brief: &Brief) {
        let (from, to) = (brief.timestamp, brief.timestamp.saturating_add(brief.ticks));
        if let Some((before, end)) = self.newest {
            let packets = sequence.abs_diff(before).saturating_sub(1);
            if packets > 0 {
                self.holes.push(Hole { from: end, to: from, packets });
            }
        }
        self.newest = Some((sequence, to));
        self.extent = Some(match self.extent {
            None => (from, to),
            Some((first, last)) => (first.min(from), last.max(to)),
        });
        if let Some(event) = brief.event {
            self.digits.take(brief.timestamp, event);
        }
    }
}
