//! What the tests of this crate seal and write: always the same bytes.

use std::convert::Infallible;

use model::recording::MarkKind;
use model::{JournalId, Position, SessionId, TenantId};
use rand::{TryCryptoRng, TryRng};

use crate::{
    Body, ClockBody, Direction, Document, EndedBody, Format, Packet, PacketsHeader, PacketsWriter,
    SealedKey, SealedMark, Sealer, SegmentWriter, SessionRecord, StartedBody, StreamInfo,
    TenantKeyPair,
};

/// Counts instead of drawing. Keys made with it are for tests alone.
pub struct Counting(pub u8);

impl TryRng for Counting {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = self.0;
            self.0 = self.0.wrapping_mul(5).wrapping_add(1);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counting {}

pub fn tenant() -> TenantKeyPair {
    TenantKeyPair::from_bytes([42; 32])
}

pub fn session(number: u8) -> SessionId {
    SessionId::at(1_700_000_000_000, [number; 10])
}

pub fn journal() -> JournalId {
    JournalId::at(1_690_000_000_000, [200; 10])
}

pub fn started() -> StartedBody {
    StartedBody {
        recording: session(1).first_recording(),
        session: session(1),
        tenant: TenantId::default(),
        wall_ms: 1_700_000_000_000,
        boot_ns: 5_000_000_000,
        boot_id: [8; 16],
        epoch: 3,
        resumed: false,
    }
}

pub fn ended() -> EndedBody {
    EndedBody {
        recording: session(1).first_recording(),
        wall_ms: 1_700_000_060_000,
        boot_ns: 65_000_000_000,
        reason: "bye".to_owned(),
    }
}

pub fn packets() -> Body {
    let packet = |stream: u16, rtcp, at_ms: u64, source: &str| Packet {
        stream,
        rtcp,
        arrival_boot_ns: 5_000_000_000 + at_ms * 1_000_000,
        source: source.parse().expect("the addresses below are addresses"),
        datagram: vec![0x80, 0, 0, at_ms as u8, stream as u8],
    };
    Body::Packets(vec![
        packet(0, false, 20, "192.0.2.1:4000"),
        packet(1, false, 21, "[2001:db8::1]:4002"),
        packet(0, true, 19, "192.0.2.1:4001"),
    ])
}

pub fn bodies() -> Vec<Body> {
    let format = Format {
        payload_type: 8,
        encoding: "PCMA".to_owned(),
        clock_rate: 8_000,
        channels: 1,
        fmtp: None,
    };
    let stream = StreamInfo {
        index: 0,
        label: Some("96".to_owned()),
        formats: vec![format],
        direction: Direction::SendOnly,
        removed: false,
        remote: Some("192.0.2.1:4000".parse().expect("an address")),
        local_port: 20_000,
        crypto: vec!["1 AES_CM_128_HMAC_SHA1_80 inline:secret".into()],
    };
    let document = Document {
        received_wall_ms: 1_700_000_000_100,
        content_type: "application/rs-metadata+xml".to_owned(),
        bytes: b"<recording><name>Ana</name></recording>".to_vec(),
    };
    let mark = SealedMark {
        kind: MarkKind::Gap,
        label: None,
        begins: true,
        detail: Some("recorder restarted".to_owned()),
    };
    vec![Body::Streams(vec![stream]), Body::Metadata(document), packets(), Body::Mark(mark)]
}

pub fn sealer(number: u8) -> (Sealer, SealedKey) {
    Sealer::with_rng(session(number), &tenant().public(), &mut Counting(number))
        .expect("the sample tenant has a public key")
}

/// Every kind of record once.
pub fn records(number: u8) -> Vec<SessionRecord> {
    let at = |offset: u64| Position(u64::from(number) * 100 + offset);
    let (mut sealer, key) = sealer(number);
    let clock = ClockBody {
        wall_ns: 1_700_000_000_000_000_000,
        boot_ns: 5_000_000_001,
        boot_id: [8; 16],
        epoch: 3,
    };
    let mut records = vec![
        SessionRecord::started(at(0), &started()),
        SessionRecord::key(at(1), 5_000_000_000, &key),
        SessionRecord::clock(at(2), &clock),
    ];
    for (position, body) in (3..).map(at).zip(bodies()) {
        let bytes = sealer.seal(position, &body);
        let kind = body.kind();
        records.push(SessionRecord { kind, position, boot_ns: 6_000_000_000, bytes });
    }
    records.push(SessionRecord::ended(at(7), &ended()));
    records
}

pub fn segment_writer() -> SegmentWriter {
    SegmentWriter::new(journal(), TenantId::default(), Position(100), Position(399), 0)
}

pub fn segment() -> Vec<u8> {
    let mut writer = segment_writer();
    for number in [1, 2, 3] {
        for record in records(number) {
            writer.push(session(number), record);
        }
    }
    writer.finish()
}

pub fn packets_header() -> PacketsHeader {
    PacketsHeader {
        recording: session(1).first_recording(),
        session: session(1),
        journal: journal(),
    }
}

pub fn packets_object() -> Vec<u8> {
    let mut writer = PacketsWriter::new(&packets_header());
    for record in records(1) {
        writer.push(&record);
    }
    writer.finish()
}
