//! A recorder without a network: what it would have stored of one long call of two people.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use audio_codec::Encoder as _;
use audio_codec::pcmu::PcmuEncoder;
use caller::Speech;
use model::call::{CallFacts, Party, StreamFact};
use model::event::VERSION;
use model::object_key::{ObjectKey, SegmentName};
use model::{
    EdgeId, EventBody, JournalId, Position, RecordingEvent, RecordingId, SessionId, TenantId,
    WallTime,
};
use segment::{
    Body, Direction, EndedBody, Format, Packet, Sealer, SegmentWriter, SessionRecord, StartedBody,
    StreamInfo, TenantKeyPair,
};
use storage_embedded::Embedded;
use storage_ports::{ObjectStore, PutMode, RecordingIndex};

const MS: u64 = 1_000_000;
pub const WALL_MS: i64 = 1_795_334_400_000;
const FRAME_MS: u64 = 20;
const FRAME_SAMPLES: usize = 160;
const LABELS: [&str; 2] = ["96", "97"];
/// As recorders cut them.
const SEGMENT_SECS: u64 = 5;

pub fn keys() -> TenantKeyPair {
    TenantKeyPair::from_bytes([7; 32])
}

pub fn session() -> SessionId {
    SessionId::at(WALL_MS as u64, [1; 10])
}

pub fn recording() -> RecordingId {
    session().first_recording()
}

fn journal() -> JournalId {
    JournalId::at(1, [1; 10])
}

/// Makes the call, second by second.
pub struct Call {
    sealer: Sealer,
    voices: [Speech; 2],
    position: u64,
    cut_from: u64,
    tenths: u64,
    waiting: Vec<SessionRecord>,
    /// What each party said, if it is to be kept.
    said: Option<[Vec<i16>; 2]>,
}

/// A segment that is not stored yet.
pub struct Cut {
    pub key: ObjectKey,
    pub bytes: Vec<u8>,
    pub through: Position,
}

impl Call {
    pub fn new(keep_what_is_said: bool) -> Result<Self> {
        let (sealer, key) = Sealer::new(session(), &keys().public())?;
        let mut call = Self {
            sealer,
            voices: [Speech::new(1), Speech::new(2)],
            position: 1,
            cut_from: 1,
            tenths: 0,
            waiting: Vec::new(),
            said: keep_what_is_said.then(Default::default),
        };
        let body = StartedBody {
            recording: recording(),
            session: session(),
            tenant: TenantId::default(),
            wall_ms: WALL_MS,
            boot_ns: 1_000 * MS,
            boot_id: [1; 16],
            epoch: 1,
            resumed: false,
        };
        let position = call.next();
        call.waiting.push(SessionRecord::started(position, &body));
        let position = call.next();
        call.waiting.push(SessionRecord::key(position, 1_000 * MS, &key));
        let streams = (0_u16..).zip(LABELS).map(|(index, label)| StreamInfo {
            index,
            label: Some(label.to_owned()),
            formats: vec![Format {
                payload_type: 0,
                encoding: "PCMU".to_owned(),
                clock_rate: 8_000,
                channels: 1,
                fmtp: None,
            }],
            direction: Direction::SendOnly,
            removed: false,
            remote: None,
            local_port: 20_000 + 2 * index,
            crypto: Vec::new(),
        });
        call.seal(1_000, &Body::Streams(streams.collect()));
        Ok(call)
    }

    pub fn facts() -> CallFacts {
        let party = |id: &str| Party { id: id.to_owned(), ..Party::default() };
        let stream = |(label, id): (&str, &str)| StreamFact {
            label: label.to_owned(),
            senders: vec![id.to_owned()],
        };
        CallFacts {
            participants: vec![party("ana"), party("ben")],
            streams: LABELS.into_iter().zip(["ana", "ben"]).map(stream).collect(),
            ..CallFacts::default()
        }
    }

    pub fn speak(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.speak_a_tenth();
        }
    }

    /// Journaled every 100 ms, as it comes.
    fn speak_a_tenth(&mut self) {
        let tenth = self.tenths;
        self.tenths += 1;
        let mut packets = Vec::new();
        for frame in 0..5 {
            let number = tenth * 5 + frame;
            for stream in 0_u16..2 {
                let mut samples = [0; FRAME_SAMPLES];
                self.voices[usize::from(stream)].read(&mut samples);
                let mut datagram = vec![0x80, 0];
                datagram.extend_from_slice(&(number as u16).to_be_bytes());
                datagram.extend_from_slice(&(number as u32 * FRAME_SAMPLES as u32).to_be_bytes());
                datagram.extend_from_slice(&[1, 2, 3, stream as u8]);
                datagram.extend(PcmuEncoder::new().encode(&samples));
                packets.push(Packet {
                    stream,
                    rtcp: false,
                    arrival_boot_ns: (1_100 + number * FRAME_MS) * MS,
                    source: ([192, 0, 2, 1], 4_000 + 2 * stream).into(),
                    datagram,
                });
                if let Some(said) = &mut self.said {
                    said[usize::from(stream)].extend_from_slice(&samples);
                }
            }
        }
        self.seal(1_200 + tenth * 100, &Body::Packets(packets));
    }

    fn seal(&mut self, boot_ms: u64, body: &Body) {
        let position = self.next();
        let bytes = self.sealer.seal(position, body);
        let boot_ns = boot_ms * MS;
        self.waiting.push(SessionRecord { kind: body.kind(), position, boot_ns, bytes });
    }

    fn next(&mut self) -> Position {
        self.position += 1;
        Position(self.position - 1)
    }

    /// The end of the call; its position.
    pub fn end(&mut self) -> Position {
        let position = self.next();
        let body = EndedBody {
            recording: recording(),
            wall_ms: WALL_MS + self.tenths as i64 * 100,
            boot_ns: (1_100 + self.tenths * 100) * MS,
            reason: "bye".to_owned(),
        };
        self.waiting.push(SessionRecord::ended(position, &body));
        position
    }

    /// Everything so far, in memory, and what was said.
    pub fn into_records(self) -> (Vec<SessionRecord>, Option<[Vec<i16>; 2]>) {
        (self.waiting, self.said)
    }

    pub fn cut(&mut self) -> Cut {
        let (first, through) = (Position(self.cut_from), Position(self.position - 1));
        self.cut_from = self.position;
        let name = SegmentName { journal: journal(), first, last: through, part: 0 };
        let mut writer = SegmentWriter::new(journal(), TenantId::default(), first, through, 0);
        for record in self.waiting.drain(..) {
            writer.push(session(), record);
        }
        let key = ObjectKey::segment(&TenantId::default(), name);
        Cut { key, bytes: writer.finish(), through }
    }
}

/// Stores a call of that length in `dir`, all but its last `open_secs`, which are given back as
/// segments; the last of them has the end.
pub async fn store(dir: &Path, seconds: u64, open_secs: u64) -> Result<(Vec<Cut>, Position)> {
    let engines = Embedded::open(dir)?;
    let mut call = Call::new(false)?;
    tell(&engines, Position(1), started()).await?;
    tell(&engines, Position(2), known()).await?;
    let mut open = Vec::new();
    let mut said = 0;
    while said < seconds {
        let next = SEGMENT_SECS.min(seconds - said);
        call.speak(next);
        said += next;
        if said + open_secs > seconds {
            open.push(call.cut());
        } else {
            put(&engines, call.cut()).await?;
        }
    }
    let ended = call.end();
    open.push(call.cut());
    Ok((open, ended))
}

/// Stores a segment and tells the index so.
pub async fn put(engines: &Embedded, cut: Cut) -> Result<()> {
    engines.objects().put(&cut.key, cut.bytes.into(), PutMode::IfAbsent).await?;
    tell(engines, cut.through, EventBody::Stored { through: cut.through }).await
}

pub async fn tell(engines: &Embedded, position: Position, body: EventBody) -> Result<()> {
    let event = RecordingEvent {
        version: VERSION,
        edge: EdgeId::new("edge-1")?,
        journal: journal(),
        epoch: 1,
        position,
        at: WallTime::from_unix_ms(WALL_MS),
        body,
    };
    engines.index().apply(&event).await?;
    Ok(())
}

fn started() -> EventBody {
    EventBody::Started {
        tenant: TenantId::default(),
        recording: recording(),
        session: session(),
        call_ids: vec!["a-long-call".to_owned()],
        flags: BTreeSet::new(),
    }
}

fn known() -> EventBody {
    EventBody::Metadata {
        tenant: TenantId::default(),
        recording: recording(),
        facts: Call::facts(),
        flags: BTreeSet::new(),
        document: None,
    }
}

pub fn ended(seconds: u64) -> EventBody {
    EventBody::Ended {
        tenant: TenantId::default(),
        recording: recording(),
        reason: "bye".to_owned(),
        duration_ms: seconds * 1_000,
        flags: BTreeSet::new(),
    }
}
