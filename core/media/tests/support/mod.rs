//! A call as an edge would have journaled it, made packet by packet.

// Each test file uses a part of this.
#![allow(dead_code)]

use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;

use audio_codec::Encoder as _;
use audio_codec::g722::G722Encoder;
use audio_codec::pcma::PcmaEncoder;
use audio_codec::pcmu::PcmuEncoder;
use media::{Call as Recorded, ReadError};
use model::call::{CallFacts, Party, StreamFact};
use model::{Position, RecordingId, SessionId, TenantId};
use segment::{
    Body, Direction, EndedBody, Format, Opener, Packet, SealedKey, SealedMark, Sealer,
    SessionRecord, StartedBody, StreamInfo, TenantKeyPair,
};

pub const FRAME_MS: u64 = 20;
pub const FRAME: usize = 160;
const MS: u64 = 1_000_000;
/// The boot clock when the INVITE came.
pub const BOOT_NS: u64 = 77_000_000_000_000;
const WALL_MS: i64 = 1_700_000_000_000;

pub struct Call {
    pub session: SessionId,
    pub keys: TenantKeyPair,
    pub sealed_keys: Vec<SealedKey>,
    pub records: Vec<SessionRecord>,
    pub facts: CallFacts,
    sealer: Sealer,
    position: u64,
    boot_id: [u8; 16],
    /// What is added to the milliseconds of a test to get this boot's clock.
    boot_ns: u64,
    epoch: u64,
}

/// One RTP packet on its way.
#[derive(Clone, Debug)]
pub struct Rtp {
    pub stream: u16,
    pub payload_type: u8,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
    pub payload: Vec<u8>,
    pub arrival_ms: u64,
}

impl Call {
    pub fn new() -> Self {
        let session = SessionId::at(WALL_MS as u64, [1; 10]);
        let keys = TenantKeyPair::from_bytes([3; 32]);
        let (sealer, key) = Sealer::new(session, &keys.public()).unwrap();
        let mut call = Self {
            session,
            keys,
            sealed_keys: vec![key],
            records: Vec::new(),
            facts: CallFacts::default(),
            sealer,
            position: 10,
            boot_id: [1; 16],
            boot_ns: BOOT_NS,
            epoch: 1,
        };
        call.started(0, session.first_recording(), false);
        call
    }

    /// Two people, the first named by the metadata on `labels[0]`.
    pub fn of_two(labels: [&str; 2]) -> Self {
        let mut call = Self::new();
        call.party("ana", "sip:ana@example.com", labels[0]);
        call.party("ben", "sip:ben@example.com", labels[1]);
        call
    }

    pub fn party(&mut self, id: &str, aor: &str, label: &str) {
        self.facts.participants.push(Party {
            id: id.to_owned(),
            aor: Some(aor.into()),
            ..Party::default()
        });
        let senders = vec![id.to_owned()];
        self.facts.streams.push(StreamFact { label: label.to_owned(), senders });
    }

    pub fn started(&mut self, at_ms: u64, recording: RecordingId, resumed: bool) {
        let body = StartedBody {
            recording,
            session: self.session,
            tenant: TenantId::default(),
            wall_ms: WALL_MS + at_ms as i64,
            boot_ns: self.boot(at_ms),
            boot_id: self.boot_id,
            epoch: self.epoch,
            resumed,
        };
        let position = self.next();
        self.records.push(SessionRecord::started(position, &body));
    }

    pub fn ended(&mut self, at_ms: u64, recording: RecordingId) {
        let body = EndedBody {
            recording,
            wall_ms: WALL_MS + at_ms as i64,
            boot_ns: self.boot(at_ms),
            reason: "bye".to_owned(),
        };
        let position = self.next();
        self.records.push(SessionRecord::ended(position, &body));
    }

    /// The recorder comes back, on the same boot or, with `reboot`, on another.
    pub fn restart(&mut self, at_ms: u64, reboot: bool) {
        let (sealer, key) = Sealer::new(self.session, &self.keys.public()).unwrap();
        self.sealer = sealer;
        self.sealed_keys.push(key);
        self.epoch += 1;
        if reboot {
            self.boot_id[0] += 1;
            // The new boot clock had counted 5 s at `at_ms`.
            self.boot_ns = (5_000 * MS).wrapping_sub(at_ms * MS);
        }
        self.started(at_ms, self.session.first_recording(), true);
    }

    pub fn negotiate(&mut self, at_ms: u64, streams: &[StreamInfo]) {
        self.seal(at_ms, &Body::Streams(streams.to_vec()));
    }

    pub fn mark(&mut self, at_ms: u64, mark: SealedMark) {
        self.seal(at_ms, &Body::Mark(mark));
    }

    /// Journals packets in batches of 100 ms, in order of arrival.
    pub fn receive(&mut self, mut packets: Vec<Rtp>) {
        packets.sort_by_key(|packet| packet.arrival_ms);
        for batch in packets.chunk_by(|a, b| a.arrival_ms / 100 == b.arrival_ms / 100) {
            let at_ms = batch.last().map_or(0, |packet| packet.arrival_ms);
            let sent = batch.iter().map(|rtp| Packet {
                stream: rtp.stream,
                rtcp: false,
                arrival_boot_ns: self.boot(rtp.arrival_ms),
                source: ([192, 0, 2, 1], 4_000 + 2 * rtp.stream).into(),
                datagram: rtp.datagram(),
            });
            let body = Body::Packets(sent.collect());
            self.seal(at_ms, &body);
        }
    }

    pub fn seal(&mut self, at_ms: u64, body: &Body) {
        let position = self.next();
        let bytes = self.sealer.seal(position, body);
        let boot_ns = self.boot(at_ms);
        self.records.push(SessionRecord { kind: body.kind(), position, boot_ns, bytes });
    }

    pub fn opener(&self) -> Opener {
        Opener::new(&self.keys, self.session, &self.sealed_keys)
    }

    pub fn try_assemble(&self, recording: RecordingId) -> Result<Recorded, ReadError> {
        let (records, opener) = (Box::new(self.records.clone()), Arc::new(self.opener()));
        let mut read = Recorded::read(records, opener, self.session, recording, &self.facts)?;
        let peaks = read.peaks()?;
        read.plan.hear(peaks.heard());
        Ok(read)
    }

    pub fn assemble(&self) -> Recorded {
        self.try_assemble(self.session.first_recording()).unwrap()
    }

    fn next(&mut self) -> Position {
        self.position += 3;
        Position(self.position)
    }

    fn boot(&self, at_ms: u64) -> u64 {
        self.boot_ns.wrapping_add(at_ms * MS)
    }
}

impl Rtp {
    pub fn datagram(&self) -> Vec<u8> {
        let mut out = vec![0x80, self.payload_type];
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(&self.payload);
        out
    }
}

pub fn stream(index: u16, label: Option<&str>) -> StreamInfo {
    let format = |payload_type, encoding: &str| Format {
        payload_type,
        encoding: encoding.to_owned(),
        clock_rate: 8_000,
        channels: 1,
        fmtp: None,
    };
    StreamInfo {
        index,
        label: label.map(str::to_owned),
        formats: vec![
            format(0, "PCMU"),
            format(8, "PCMA"),
            format(9, "G722"),
            format(4, "G723"),
            format(18, "G729"),
            format(101, "telephone-event"),
        ],
        direction: Direction::SendOnly,
        removed: false,
        remote: None,
        local_port: 20_000 + 2 * index,
        crypto: Vec::new(),
    }
}

/// Something like speech: never periodic, never silent for long, unlike any other `voice`.
pub fn speech(voice: u32, ms: u64) -> Vec<i16> {
    let mut noise = voice.wrapping_mul(2_654_435_761) | 1;
    let mut low = 0.0_f32;
    (0..ms * 8)
        .map(|n| {
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            low = 0.9 * low + 0.1 * (noise as i32 >> 16) as f32;
            // 350 Hz and up: an encoder for speech filters what no telephone carries.
            let hum = (n as f32 * (0.2 + voice as f32 * 0.077)).sin() * 4_000.0;
            (low * 0.6 + hum) as i16
        })
        .collect()
}

/// `samples` as packets of 20 ms that take 5 ms to arrive.
pub fn packetize(stream: u16, ssrc: u32, samples: &[i16], from_ms: u64) -> Vec<Rtp> {
    packets(stream, ssrc, 0, &PcmuEncoder::new().encode(samples), from_ms)
}

pub fn packetize_pcma(stream: u16, ssrc: u32, samples: &[i16], from_ms: u64) -> Vec<Rtp> {
    packets(stream, ssrc, 8, &PcmaEncoder::new().encode(samples), from_ms)
}

/// `samples` at 16 kHz.
pub fn packetize_g722(stream: u16, ssrc: u32, samples: &[i16], from_ms: u64) -> Vec<Rtp> {
    packets(stream, ssrc, 9, &G722Encoder::new().encode(samples), from_ms)
}

fn packets(stream: u16, ssrc: u32, payload_type: u8, coded: &[u8], from_ms: u64) -> Vec<Rtp> {
    (0..)
        .zip(coded.chunks(FRAME))
        .map(|(number, payload)| Rtp {
            stream,
            payload_type,
            // Both wrap within the first second.
            sequence: 65_500_u16.wrapping_add(number as u16),
            timestamp: (u32::MAX - 3_000).wrapping_add(number * FRAME as u32),
            ssrc,
            payload: payload.to_vec(),
            arrival_ms: from_ms + u64::from(number) * FRAME_MS + 5,
        })
        .collect()
}

/// Pearson's correlation of two pieces of the same length.
pub fn correlation(sent: &[i16], got: &[i16]) -> f64 {
    assert_eq!(sent.len(), got.len());
    let mean = |samples: &[i16]| {
        samples.iter().map(|sample| f64::from(*sample)).sum::<f64>() / samples.len() as f64
    };
    let (mean_sent, mean_got) = (mean(sent), mean(got));
    let (mut both, mut of_sent, mut of_got) = (0.0, 0.0, 0.0);
    for (sent, got) in sent.iter().zip(got) {
        let (sent, got) = (f64::from(*sent) - mean_sent, f64::from(*got) - mean_got);
        both += sent * got;
        of_sent += sent * sent;
        of_got += got * got;
    }
    both / (of_sent * of_got).sqrt().max(1.0)
}

/// Asserts that `got` is `sent`, to the sample.
#[track_caller]
pub fn assert_same(sent: &[i16], got: &[i16]) {
    let likeness = correlation(sent, got);
    assert!(likeness > 0.99, "correlation {likeness}");
}

/// The samples of one lane.
pub fn pcm(call: &Recorded, lane: usize) -> Vec<i16> {
    call.lane(lane).unwrap()
}

/// `None` where a tool is not installed; then the test counts as skipped (`cargo xtask test`).
pub fn tool(name: &str) -> Option<Command> {
    if Command::new(name).arg("-version").output().is_ok() {
        return Some(Command::new(name));
    }
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    println!("skipped: {test}: {name} is not installed");
    if let Some(list) = std::env::var_os("LINEKEEPER_SKIPPED_TESTS") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
        writeln!(list, "{test}: {name} is not installed").unwrap();
    }
    None
}

pub fn file(bytes: &[u8], suffix: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}
