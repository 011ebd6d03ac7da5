//! A call of two streams, as its recorder would have journaled it.

// Each target uses a part of this.
#![allow(dead_code)]

use std::sync::Arc;

use media::Call;
use model::call::CallFacts;
use model::{Position, SessionId, TenantId};
use segment::{
    Body, Direction, Format, Opener, Packet, SealedKey, Sealer, SessionRecord, StartedBody,
    StreamInfo, TenantKeyPair,
};

pub const MS: u64 = 1_000_000;

/// Every codec that can be named.
pub const CODECS: [(&str, u32, u8); 15] = [
    ("PCMU", 8_000, 1),
    ("PCMA", 8_000, 1),
    ("G722", 8_000, 1),
    ("G726-16", 8_000, 1),
    ("G726-24", 8_000, 1),
    ("AAL2-G726-32", 8_000, 1),
    ("G726-40", 8_000, 1),
    ("G729", 8_000, 1),
    ("GSM", 8_000, 1),
    ("iLBC", 8_000, 1),
    ("opus", 48_000, 2),
    ("L16", 44_100, 2),
    ("CN", 8_000, 1),
    ("telephone-event", 8_000, 1),
    ("H264", 90_000, 1),
];

pub struct CallOf {
    keys: TenantKeyPair,
    session: SessionId,
    sealer: Sealer,
    sealed: SealedKey,
    records: Vec<SessionRecord>,
    position: u64,
}

impl CallOf {
    pub fn new() -> Self {
        let session = SessionId::at(1_700_000_000_000, [1; 10]);
        let keys = TenantKeyPair::from_bytes([3; 32]);
        let (sealer, sealed) = Sealer::new(session, &keys.public()).expect("a derived key");
        let started = StartedBody {
            recording: session.first_recording(),
            session,
            tenant: TenantId::default(),
            wall_ms: 1_700_000_000_000,
            boot_ns: 0,
            boot_id: [1; 16],
            epoch: 1,
            resumed: false,
        };
        let records = vec![SessionRecord::started(Position(1), &started)];
        let mut call = Self { keys, session, sealer, sealed, records, position: 1 };
        call.hold(0, false);
        call
    }

    /// What is negotiated, with or without sending.
    pub fn hold(&mut self, at_ms: u64, held: bool) {
        let formats = (96_u8..).zip(CODECS).map(|(payload_type, (encoding, rate, channels))| {
            let encoding = encoding.to_owned();
            Format { payload_type, encoding, clock_rate: rate, channels, fmtp: None }
        });
        let formats: Vec<Format> = formats.collect();
        let stream = |index: u16| StreamInfo {
            index,
            label: Some(index.to_string()),
            formats: formats.clone(),
            direction: if held { Direction::Inactive } else { Direction::SendOnly },
            removed: false,
            remote: None,
            local_port: 20_000,
            crypto: Vec::new(),
        };
        self.seal(at_ms * MS, &Body::Streams(vec![stream(0), stream(1)]));
    }

    pub fn receive(&mut self, packet: Packet) {
        let at = packet.arrival_boot_ns;
        self.seal(at, &Body::Packets(vec![packet]));
    }

    fn seal(&mut self, boot_ns: u64, body: &Body) {
        self.position += 1;
        let position = Position(self.position);
        let bytes = self.sealer.seal(position, body);
        self.records.push(SessionRecord { kind: body.kind(), position, boot_ns, bytes });
    }

    pub fn read(self) -> Call {
        let opener = Arc::new(Opener::new(&self.keys, self.session, &[self.sealed]));
        let recording = self.session.first_recording();
        let records = Box::new(self.records);
        Call::read(records, opener, self.session, recording, &CallFacts::default())
            .expect("its own key opens it")
    }
}
