//! Opens the records of a session one after the other and says of each packet to which stream and
//! run it belongs.
//!
//! A call is read twice: once to learn where everything lies ([`crate::survey`]), and again to
//! decode it ([`crate::render`]). Both go through here, so both see the same runs. The state is
//! small and can be cloned: reading again may begin at any record whose state was kept.
//!
//! Packets are as they came off the wire: encrypted ones are opened here ([`crate::decrypt`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use model::recording::MarkKind;
use model::{RecordingId, SessionId};
use segment::{
    Body, Direction, Document, Format, Opener, Packet, RecordKind, SealError, SealedMark,
    SessionRecord, StreamInfo,
};
use siprec::rtp::packet::Packet as Datagram;
use siprec::rtp::rtcp::{self, Rtcp};
use siprec::rtp::srtp::Rejected;

use crate::clock::{AxisNs, CallClock, Reading};
use crate::codec::{Codec, NARROW_HZ};
use crate::decrypt::Decryptor;
use crate::run::{Before, Place, RunHead};

/// A packet is journaled within seconds of its arrival. Beyond this its time is wrong.
const LONGEST_WAIT_NS: u64 = 3_600 * 1_000_000_000;
/// Packets that were under way when the recording ended still belong to it.
const AFTER_END_NS: i64 = 500_000_000;
/// Runs of a stream beyond this are somebody who makes up SSRCs.
const MOST_RUNS: usize = 2_000;
/// SSRCs of a stream whose newest run may go on. The one that was silent longest makes room.
const MOST_SOURCES: usize = 32;
/// Of a packet whose codec does not tell.
const USUAL_PACKET_MS: i64 = 20;

/// What the records tell, in order.
pub(crate) enum Event<'a> {
    Rtp(Routed<'a>),
    /// A datagram that is no RTP, or one beyond [`MOST_RUNS`].
    Stray {
        stream: usize,
    },
    /// A packet of an encrypted stream that is not of who has its key.
    NotAuthentic {
        stream: usize,
    },
    /// Timestamp and the sender's NTP clock, in nanoseconds since 1900.
    Report {
        stream: usize,
        run: usize,
        media_ns: i64,
        ntp_ns: i64,
    },
    /// A stream was seen for the first time; streams are numbered in this order.
    Stream {
        index: u16,
        label: &'a str,
    },
    Negotiated {
        stream: usize,
        formats: &'a [Format],
        sends: bool,
    },
    /// A stream went on hold or came back.
    Hold {
        stream: usize,
        at: AxisNs,
        begins: bool,
    },
    Mark {
        at: AxisNs,
        mark: SealedMark,
    },
    /// Between these the recorder was not there.
    Restart {
        from: AxisNs,
        to: AxisNs,
    },
    Document(Document),
    /// A body that did not open though its key is here: changed after it was sealed.
    Damaged,
}

/// A packet and where it belongs.
pub(crate) struct Routed<'a> {
    pub stream: usize,
    pub run: usize,
    /// The first packet of its run.
    pub begins: Option<Beginning>,
    pub place: Place,
    pub clock_rate: u32,
    pub media_ns: i64,
    /// How long its media lasts.
    pub ticks: i64,
    pub payload_type: u8,
    pub codec: Codec,
    pub payload: &'a [u8],
    pub arrival: AxisNs,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    pub ssrc: u32,
    pub clock_rate: u32,
    pub before: Option<Before>,
}

#[derive(Clone, Debug)]
pub(crate) struct Router {
    recording: RecordingId,
    /// A further communication session of a session that went on before it.
    is_further: bool,
    clock: CallClock,
    decryptor: Decryptor,
    streams: Vec<Stream>,
    /// Which stream an m-line carries now.
    current: BTreeMap<u16, usize>,
    pub started: Option<AxisNs>,
    pub ended: Option<AxisNs>,
    pub interrupted: bool,
    /// Since the restart no packet has come yet; the last one before it came then.
    restart: Option<AxisNs>,
    /// When the newest packet came, of any stream.
    pub newest_packet: Option<AxisNs>,
    /// What came to RTP ports, wherever it belongs.
    pub packets: u64,
}

/// One negotiated stream. An m-line whose stream ended may be used again (RFC 3264 §8.1), so
/// m-line and label together tell which it is.
#[derive(Clone, Debug)]
struct Stream {
    index: u16,
    label: Arc<str>,
    formats: Arc<BTreeMap<u8, (Codec, u32)>>,
    held: bool,
    /// The newest run of each source, the one heard last at the end.
    sources: Vec<(usize, RunHead)>,
    runs: usize,
}

impl Router {
    pub fn new(session: SessionId, recording: RecordingId) -> Self {
        Self {
            recording,
            is_further: recording != session.first_recording(),
            clock: CallClock::default(),
            decryptor: Decryptor::default(),
            streams: Vec::new(),
            current: BTreeMap::new(),
            started: None,
            ended: None,
            interrupted: false,
            restart: None,
            newest_packet: None,
            packets: 0,
        }
    }

    /// Takes the session's next record.
    pub fn take(
        &mut self,
        record: &SessionRecord,
        opener: &Opener,
        tell: &mut impl FnMut(Event<'_>),
    ) -> Result<(), SealError> {
        match record.kind {
            RecordKind::Key => return Ok(()),
            RecordKind::Started | RecordKind::Ended | RecordKind::Clock => {
                if self.take_plain(record).is_none() {
                    tell(Event::Damaged);
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
                tell(Event::Damaged);
                return Ok(());
            }
            Err(error @ (SealError::NoKey | SealError::TooNew { .. })) => return Err(error),
        };
        let at = self.clock.axis(record.boot_ns);
        match body {
            Body::Packets(packets) => {
                for packet in &packets {
                    self.packet(packet, record.boot_ns, tell);
                }
            }
            Body::Metadata(document) => tell(Event::Document(document)),
            Body::Streams(streams) => {
                self.decryptor.negotiated(&streams);
                for info in &streams {
                    self.negotiated(info, at, tell);
                }
            }
            // What was negotiated tells of holds too, and of which stream.
            Body::Mark(mark) if mark.kind == MarkKind::Hold => {}
            Body::Mark(mark) => tell(Event::Mark { at, mark }),
        }
        Ok(())
    }

    /// `None`: the record cannot be read.
    fn take_plain(&mut self, record: &SessionRecord) -> Option<()> {
        match record.kind {
            RecordKind::Started => {
                let started = record.as_started().ok()?;
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
                let clock = record.as_clock().ok()?;
                let (wall_ns, boot_ns) = (clock.wall_ns, clock.boot_ns);
                self.clock.read(Reading { boot_id: clock.boot_id, wall_ns, boot_ns });
            }
            RecordKind::Ended => {
                let ended = record.as_ended().ok()?;
                let at = self.clock.axis(ended.boot_ns);
                if ended.recording == self.recording {
                    self.ended = Some(at);
                }
            }
            _ => {}
        }
        Some(())
    }

    fn negotiated(&mut self, info: &StreamInfo, at: AxisNs, tell: &mut impl FnMut(Event<'_>)) {
        let label = info.label.as_deref().unwrap_or_default();
        if info.removed && self.find(info.index, label).is_none() {
            // Refused from the start: nothing of it was ever to be recorded.
            return;
        }
        let number = self.stream(info.index, label, tell);
        let stream = &mut self.streams[number];
        let formats = Arc::make_mut(&mut stream.formats);
        for format in &info.formats {
            let clock_rate = if format.clock_rate == 0 { NARROW_HZ } else { format.clock_rate };
            let codec = Codec::of(Some(format), format.payload_type);
            formats.insert(format.payload_type, (codec, clock_rate));
        }
        let sends = info.direction.sends() && !info.removed;
        tell(Event::Negotiated { stream: number, formats: &info.formats, sends });
        let held =
            matches!(info.direction, Direction::Inactive | Direction::RecvOnly) && !info.removed;
        if held != stream.held {
            stream.held = held;
            tell(Event::Hold { stream: number, at, begins: held });
        }
    }

    fn find(&self, index: u16, label: &str) -> Option<usize> {
        self.streams.iter().position(|held| held.index == index && &*held.label == label)
    }

    /// The stream that the m-line carries from now on.
    fn stream(&mut self, index: u16, label: &str, tell: &mut impl FnMut(Event<'_>)) -> usize {
        let number = self.find(index, label).unwrap_or_else(|| {
            tell(Event::Stream { index, label });
            self.streams.push(Stream {
                index,
                label: label.into(),
                formats: Arc::default(),
                held: false,
                sources: Vec::new(),
                runs: 0,
            });
            self.streams.len() - 1
        });
        self.current.insert(index, number);
        number
    }

    /// Whether what arrived then is of this recording, and not of another one of the session.
    fn is_part(&self, arrival: AxisNs) -> bool {
        let began = !self.is_further || self.started.is_some_and(|started| started <= arrival);
        let over = self.ended.is_some_and(|end| end.saturating_add(AFTER_END_NS) < arrival);
        began && !over
    }

    fn packet(
        &mut self,
        packet: &Packet,
        journaled_boot_ns: u64,
        tell: &mut impl FnMut(Event<'_>),
    ) {
        let waited = journaled_boot_ns.abs_diff(packet.arrival_boot_ns);
        let boot_ns =
            if waited > LONGEST_WAIT_NS { journaled_boot_ns } else { packet.arrival_boot_ns };
        let arrival = self.clock.axis(boot_ns);
        // Also what is not of this recording: the rollover counter has to be counted along.
        let datagram = self.decryptor.open(packet);
        self.packets += u64::from(!packet.rtcp);
        if !self.is_part(arrival) {
            return;
        }
        let number = match self.current.get(&packet.stream) {
            Some(number) => *number,
            None if packet.rtcp => return,
            None => self.stream(packet.stream, "", tell),
        };
        let datagram = match datagram {
            Ok(datagram) => datagram,
            Err(_) if packet.rtcp => return,
            Err(Rejected::NotAuthentic) => return tell(Event::NotAuthentic { stream: number }),
            Err(Rejected::NotRtp(_) | Rejected::TooShort) => {
                return tell(Event::Stray { stream: number });
            }
        };
        let header = match Datagram::parse(&datagram) {
            Ok(Datagram::Rtp(header)) if !packet.rtcp => header,
            Ok(Datagram::Rtcp(compound)) => return self.reports(number, compound, tell),
            Ok(Datagram::Rtp(_)) => return,
            Err(_) if packet.rtcp => return,
            Err(_) => return tell(Event::Stray { stream: number }),
        };
        if let Some(from) = self.restart.take() {
            tell(Event::Restart { from, to: arrival });
        }
        self.newest_packet = self.newest_packet.max(Some(arrival));

        let stream = &mut self.streams[number];
        let known = stream.formats.get(&header.payload_type).copied();
        let (codec, clock_rate) = known.unwrap_or_else(|| {
            let codec = Codec::of(None, header.payload_type);
            let clock_rate = match codec {
                Codec::L16 { clock_rate, .. } => clock_rate,
                _ => NARROW_HZ,
            };
            (codec, clock_rate)
        });
        let Some((run, head, begins)) = stream.run_of(&header, clock_rate, arrival) else {
            return tell(Event::Stray { stream: number });
        };
        let place = head.push(&header, arrival);
        let ticks = codec.ticks(header.payload).unwrap_or_else(|| match codec {
            Codec::Unknown if !header.payload.is_empty() => {
                USUAL_PACKET_MS * i64::from(clock_rate) / 1_000
            }
            _ => 0,
        });
        tell(Event::Rtp(Routed {
            stream: number,
            run,
            begins,
            place,
            clock_rate: head.clock_rate,
            media_ns: head.ns(place.timestamp),
            ticks,
            payload_type: header.payload_type,
            codec,
            payload: header.payload,
            arrival,
        }));
    }

    fn reports(&self, number: usize, compound: &[u8], tell: &mut impl FnMut(Event<'_>)) {
        for packet in rtcp::parse(compound) {
            let Rtcp::SenderReport { ssrc, info, .. } = packet else { continue };
            let mut sources = self.streams[number].sources.iter().rev();
            let Some((run, head)) = sources.find(|(_, head)| head.ssrc == ssrc) else { continue };
            let Some(timestamp) = head.extend_timestamp(info.rtp_timestamp) else { continue };
            // 0: the sender has no clock to tell of (RFC 3550 §6.4.1).
            if info.ntp != 0 {
                let media_ns = head.ns(timestamp);
                let ntp_ns = ntp_ns(info.ntp);
                tell(Event::Report { stream: number, run: *run, media_ns, ntp_ns });
            }
        }
    }
}

impl Stream {
    /// The run that a packet belongs to. `None`: there are too many.
    fn run_of(
        &mut self,
        header: &siprec::rtp::RtpHeader<'_>,
        clock_rate: u32,
        arrival: AxisNs,
    ) -> Option<(usize, &mut RunHead, Option<Beginning>)> {
        let held = self.sources.iter().rposition(|(_, head)| head.ssrc == header.ssrc);
        if let Some(at) = held
            && self.sources[at].1.continues(header, clock_rate, arrival)
        {
            // The one heard last stays at the end; almost always it is there already.
            if at + 1 != self.sources.len() {
                let source = self.sources.remove(at);
                self.sources.push(source);
            }
            let (run, head) = self.sources.last_mut()?;
            return Some((*run, head, None));
        }
        if self.runs == MOST_RUNS {
            return None;
        }
        let before = held.and_then(|at| self.sources.remove(at).1.before(header));
        if self.sources.len() == MOST_SOURCES {
            self.sources.remove(0);
        }
        self.sources.push((self.runs, RunHead::new(header.ssrc, clock_rate)));
        self.runs += 1;
        let (run, head) = self.sources.last_mut()?;
        Some((*run, head, Some(Beginning { ssrc: header.ssrc, clock_rate, before })))
    }
}

/// Seconds since 1900 in the upper half, a fraction in the lower. Until 2036 this fits.
fn ntp_ns(ntp: u64) -> i64 {
    let seconds = (ntp >> 32) as i64;
    let fraction = ((ntp & 0xffff_ffff) * 1_000_000_000) >> 32;
    seconds.saturating_mul(1_000_000_000).saturating_add(fraction as i64)
}
