//! The finaliser over the embedded engines: a call is built from what its edge stored, whatever
//! happens meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lambdas::finalizer::{self, Ahead, Outcome, Retired, retire_segments};
use lambdas::listening::{Listeners, PIECE_MS};
use lambdas::original::Original;
use lambdas::worker::BuildRequest;
use model::call::{CallFacts, Party, StreamFact};
use model::event::VERSION;
use model::object_key::{
    ObjectKey, Output, SegmentName, minutes_prefix, recording_prefix, segments_prefix,
};
use model::recording::{Status, flag};
use model::{
    EdgeId, EventBody, JournalId, Position, RecordingEvent, RecordingId, SessionId, TenantId,
    WallTime,
};
use segment::{
    Body, Direction, EndedBody, Format, Packet, PacketsReader, Sealer, SegmentWriter,
    SessionRecord, StartedBody, StreamInfo, TenantKeyPair,
};
use storage_embedded::Embedded;
use storage_ports::faulty::{Fail, Faults, Faulty, Loss};
use storage_ports::survived::survived;
use storage_ports::{EventQueue, Message, ObjectStore, PutMode, RecordingIndex};

const MS: u64 = 1_000_000;
const WALL_MS: i64 = 1_795_334_400_000;

struct Cloud {
    _dir: tempfile::TempDir,
    engines: Embedded,
    keys: Arc<TenantKeyPair>,
    tenant: TenantId,
    journal: JournalId,
}

/// An edge that records one call after the other into one journal.
struct Edge<'a> {
    cloud: &'a Cloud,
    position: u64,
    /// First position that is in no segment yet.
    cut_from: u64,
    waiting: Vec<(SessionId, SessionRecord)>,
}

struct Call {
    session: SessionId,
    recording: RecordingId,
    sealer: Sealer,
    packets: u16,
}

impl Cloud {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engines = Embedded::open(dir.path()).unwrap();
        let keys = Arc::new(TenantKeyPair::generate().unwrap());
        let journal = JournalId::at(1, [1; 10]);
        Self { _dir: dir, engines, keys, tenant: TenantId::default(), journal }
    }

    fn edge(&self) -> Edge<'_> {
        Edge { cloud: self, position: 1, cut_from: 1, waiting: Vec::new() }
    }

    async fn build(&self, recording: RecordingId) -> Outcome {
        self.build_with(&*self.engines.objects(), recording).await.unwrap()
    }

    async fn build_with(
        &self,
        objects: &dyn ObjectStore,
        recording: RecordingId,
    ) -> Result<Outcome, finalizer::FinalizeError> {
        let index = self.engines.index();
        finalizer::build(&*index, objects, &self.keys, &self.tenant, recording).await
    }

    async fn retire(&self) -> Retired {
        let (index, objects) = (self.engines.index(), self.engines.objects());
        retire_segments(&*index, &*objects, &self.tenant, self.journal).await.unwrap()
    }

    async fn status(&self, recording: RecordingId) -> Status {
        let found = self.engines.index().state(&self.tenant, recording).await.unwrap();
        let (state, journal) = found.unwrap();
        state.status(&journal)
    }

    async fn finalized(&self, recording: RecordingId) -> model::index::Finalized {
        let found = self.engines.index().state(&self.tenant, recording).await.unwrap();
        found.unwrap().0.finalized.unwrap()
    }

    async fn get(&self, key: &ObjectKey) -> Bytes {
        self.engines.objects().get(key).await.unwrap()
    }

    async fn segments(&self) -> Vec<ObjectKey> {
        let prefix = segments_prefix(&self.tenant, self.journal);
        let listed = self.engines.objects().list(&prefix).await.unwrap();
        listed.into_iter().map(|meta| meta.key).collect()
    }

    /// Checks that the index, the manifest and every part agree.
    async fn assert_is_whole(&self, recording: RecordingId) {
        let built = self.finalized(recording).await;
        let key = ObjectKey::output(&self.tenant, recording, built.generation, Output::Manifest);
        let manifest_bytes = self.get(&key).await;
        assert_eq!(media::manifest::sha256_hex(&manifest_bytes), built.sha256);
        let manifest: serde_json::Value = serde_json::from_slice(&manifest_bytes).unwrap();
        let parts = manifest["parts"].as_array().unwrap();
        assert_eq!(parts.len(), 4, "packets, audio, waveform, overview");
        // A copy of the recording's folder, as anyone has it who downloads it.
        let folder = tempfile::tempdir().unwrap();
        let generation = folder.path().join(format!("g{}", built.generation));
        std::fs::create_dir(&generation).unwrap();
        for part in parts {
            let key = ObjectKey::parse(part["key"].as_str().unwrap()).unwrap();
            let bytes = self.get(&key).await;
            assert_eq!(part["sha256"], media::manifest::sha256_hex(&bytes));
            assert_eq!(part["bytes"], bytes.len());
            let prefix = model::object_key::recording_prefix(&self.tenant, recording);
            let name = key.as_str().strip_prefix(&prefix).unwrap();
            std::fs::write(folder.path().join(name), &bytes).unwrap();
        }
        std::fs::write(generation.join("manifest.json"), &manifest_bytes).unwrap();
        let sums = ObjectKey::output(&self.tenant, recording, built.generation, Output::Sums);
        std::fs::write(generation.join("SHA256SUMS"), self.get(&sums).await).unwrap();
        assert!(are_sums_right(&generation));
        std::fs::write(generation.join("audio.webm"), b"another").unwrap();
        assert!(!are_sums_right(&generation));
        assert_eq!(manifest["complete"], built.complete);
        assert_eq!(manifest["duration_ms"], built.duration_ms);
    }

    /// The first lane, from the packets object alone.
    async fn samples(&self, recording: RecordingId) -> Vec<u8> {
        let found = self.engines.index().state(&self.tenant, recording).await.unwrap();
        let (held, built) = (found.unwrap().0, self.finalized(recording).await);
        let bytes = Original::bytes(&*self.engines.objects(), &held).await.unwrap();
        let original = Original::open(&bytes, &self.keys, &held, &built).unwrap();
        original.wav(Some(0)).unwrap().split_off(44)
    }
}

/// What `sha256sum` alone says of a build's folder.
fn are_sums_right(generation: &std::path::Path) -> bool {
    let mut sha256sum = std::process::Command::new("sha256sum");
    let checked = sha256sum.args(["--check", "--strict", "SHA256SUMS"]).current_dir(generation);
    checked.output().expect("coreutils are everywhere").status.success()
}

impl Edge<'_> {
    fn next(&mut self) -> Position {
        self.position += 1;
        Position(self.position - 1)
    }

    async fn tell(&self, position: Position, body: EventBody) {
        let event = RecordingEvent {
            version: VERSION,
            edge: EdgeId::new("edge-1").unwrap(),
            journal: self.cloud.journal,
            epoch: 1,
            position,
            at: WallTime::from_unix_ms(WALL_MS),
            body,
        };
        self.cloud.engines.index().apply(&event).await.unwrap();
    }

    async fn start(&mut self, number: u8) -> Call {
        let cloud = self.cloud;
        let session = SessionId::at(WALL_MS as u64, [number; 10]);
        let recording = session.first_recording();
        let (sealer, key) = Sealer::new(session, &cloud.keys.public()).unwrap();
        let position = self.next();
        let body = StartedBody {
            recording,
            session,
            tenant: cloud.tenant.clone(),
            wall_ms: WALL_MS,
            boot_ns: 1_000 * MS,
            boot_id: [1; 16],
            epoch: 1,
            resumed: false,
        };
        self.waiting.push((session, SessionRecord::started(position, &body)));
        let key = SessionRecord::key(self.next(), 1_000 * MS, &key);
        self.waiting.push((session, key));
        let mut call = Call { session, recording, sealer, packets: 0 };
        let format = |payload_type, encoding: &str| Format {
            payload_type,
            encoding: encoding.to_owned(),
            clock_rate: 8_000,
            channels: 1,
            fmtp: None,
        };
        let stream = StreamInfo {
            index: 0,
            label: Some("96".to_owned()),
            formats: vec![format(0, "PCMU")],
            direction: Direction::SendOnly,
            removed: false,
            remote: None,
            local_port: 20_000,
            crypto: Vec::new(),
        };
        self.seal(&mut call, 1_000, &Body::Streams(vec![stream]));
        let (tenant, flags) = (cloud.tenant.clone(), BTreeSet::new());
        let call_ids = vec![format!("call-{number}")];
        let body = EventBody::Started { tenant, recording, session, call_ids, flags };
        self.tell(position, body).await;
        let party = Party { id: "ana".to_owned(), ..Party::default() };
        let stream = StreamFact { label: "96".to_owned(), senders: vec!["ana".to_owned()] };
        let facts =
            CallFacts { participants: vec![party], streams: vec![stream], ..CallFacts::default() };
        let (tenant, flags) = (cloud.tenant.clone(), BTreeSet::new());
        let body = EventBody::Metadata { tenant, recording, facts, flags, document: None };
        let position = self.next();
        self.tell(position, body).await;
        call
    }

    fn seal(&mut self, call: &mut Call, boot_ms: u64, body: &Body) {
        let position = self.next();
        let bytes = call.sealer.seal(position, body);
        let boot_ns = boot_ms * MS;
        let record = SessionRecord { kind: body.kind(), position, boot_ns, bytes };
        self.waiting.push((call.session, record));
    }

    /// Half a second of audio, different in every packet.
    fn speak(&mut self, call: &mut Call) {
        let packets = (0..25).map(|_| {
            let number = call.packets;
            call.packets += 1;
            let mut datagram = vec![0x80, 0];
            datagram.extend_from_slice(&number.to_be_bytes());
            datagram.extend_from_slice(&(u32::from(number) * 160).to_be_bytes());
            datagram.extend_from_slice(&[1, 2, 3, 4]);
            datagram.extend((0..160).map(|n| (n as u16).wrapping_mul(number + 3) as u8));
            Packet {
                stream: 0,
                rtcp: false,
                arrival_boot_ns: (1_100 + u64::from(number) * 20) * MS,
                source: ([192, 0, 2, 1], 4_000).into(),
                datagram,
            }
        });
        let packets: Vec<Packet> = packets.collect();
        let boot_ms = 1_100 + u64::from(call.packets) * 20;
        self.seal(call, boot_ms, &Body::Packets(packets));
    }

    async fn end(&mut self, call: &Call) {
        let position = self.next();
        let body = EndedBody {
            recording: call.recording,
            wall_ms: WALL_MS + 5_000,
            boot_ns: 9_000 * MS,
            reason: "bye".to_owned(),
        };
        self.waiting.push((call.session, SessionRecord::ended(position, &body)));
        let body = EventBody::Ended {
            tenant: self.cloud.tenant.clone(),
            recording: call.recording,
            reason: "bye".to_owned(),
            duration_ms: 8_000,
            flags: BTreeSet::new(),
        };
        self.tell(position, body).await;
    }

    /// Cuts, uploads and tells.
    async fn store(&mut self) {
        let (journal, tenant) = (self.cloud.journal, self.cloud.tenant.clone());
        let (first, last) = (Position(self.cut_from), Position(self.position - 1));
        self.cut_from = self.position;
        let mut writer = SegmentWriter::new(journal, tenant.clone(), first, last, 0);
        for (session, record) in self.waiting.drain(..) {
            writer.push(session, record);
        }
        let key = ObjectKey::segment(&tenant, SegmentName { journal, first, last, part: 0 });
        let objects = self.cloud.engines.objects();
        objects.put(&key, writer.finish().into(), PutMode::IfAbsent).await.unwrap();
        self.tell(last, EventBody::Stored { through: last }).await;
    }

    /// The edge is heard of, or by its dead-man's message found dead.
    async fn beat(&self, seq: u64, dead_man: bool) {
        let position = Position(self.position - 1);
        let stored_through = Position(self.cut_from - 1);
        let body = EventBody::Beat { seq, stored_through, live: vec![], dead_man };
        self.tell(position, body).await;
    }
}

#[tokio::test]
async fn a_call_that_ended_is_built_once() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    edge.speak(&mut call);
    assert_eq!(cloud.build(call.recording).await, Outcome::NotNeeded);
    edge.store().await;
    edge.speak(&mut call);
    edge.end(&call).await;
    assert_eq!(cloud.build(call.recording).await, Outcome::NotNeeded, "not stored yet");
    edge.store().await;
    assert_eq!(cloud.build(call.recording).await, Outcome::Built { generation: 1, complete: true });
    assert_eq!(cloud.status(call.recording).await, Status::Stored);
    let built = cloud.finalized(call.recording).await;
    assert_eq!((built.duration_ms, built.tracks.len()), (1_000, 1));
    assert_eq!(built.tracks[0].packets_received, 50);
    assert_eq!(built.flags, BTreeSet::new());
    assert_eq!(built.sealed_keys.len(), 1);
    cloud.assert_is_whole(call.recording).await;
    assert_eq!(cloud.build(call.recording).await, Outcome::NotNeeded);
    let unknown = RecordingId::at(1, [9; 10]);
    assert_eq!(cloud.build(unknown).await, Outcome::NotNeeded);
}

#[tokio::test]
async fn the_packets_object_holds_the_call_and_no_key() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    let mut other = edge.start(2).await;
    edge.speak(&mut call);
    edge.speak(&mut other);
    edge.end(&call).await;
    edge.store().await;
    cloud.build(call.recording).await;
    let packets = cloud.get(&ObjectKey::packets(&cloud.tenant, call.recording)).await;
    let reader = PacketsReader::open(&packets).unwrap();
    assert_eq!((reader.header.session, reader.header.journal), (call.session, cloud.journal));
    let records: Vec<_> = reader.map(Result::unwrap).collect();
    assert_eq!(records.len(), 4, "started, streams, packets, ended");
    assert!(records.iter().all(|record| record.kind != segment::RecordKind::Key));
}

#[tokio::test]
async fn a_build_that_dies_at_any_write_is_made_good_by_the_next() {
    for loss in [Loss::Request, Loss::Answer] {
        // Packets object, audio, waveform, overview, manifest, checksums.
        for survived in 0..6 {
            let cloud = Cloud::new();
            let mut edge = cloud.edge();
            let mut call = edge.start(1).await;
            edge.speak(&mut call);
            edge.end(&call).await;
            edge.store().await;
            let faults = Faults::default();
            let objects: Arc<dyn ObjectStore> = cloud.engines.objects();
            let objects = Faulty::new(objects, faults.clone());
            faults.only(Some("put"));
            faults.fail(Fail::EveryKth(survived + 1), loss);
            let died = cloud.build_with(&objects, call.recording).await;
            assert!(died.is_err(), "{loss:?} after {survived}: {died:?}");
            assert_eq!(cloud.status(call.recording).await, Status::Finalizing);
            faults.heal();
            let built = cloud.build_with(&objects, call.recording).await.unwrap();
            assert_eq!(built, Outcome::Built { generation: 1, complete: true });
            cloud.assert_is_whole(call.recording).await;
        }
    }
}

#[tokio::test]
async fn two_builds_at_once_leave_one_whole_recording() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    edge.speak(&mut call);
    edge.end(&call).await;
    edge.store().await;
    let (one, other) = tokio::join!(cloud.build(call.recording), cloud.build(call.recording));
    assert!([&one, &other].iter().any(|o| matches!(o, Outcome::Built { .. })), "{one:?} {other:?}");
    cloud.assert_is_whole(call.recording).await;
    assert_eq!(cloud.status(call.recording).await, Status::Stored);
}

#[tokio::test]
async fn outputs_of_another_build_are_never_replaced() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    edge.speak(&mut call);
    edge.end(&call).await;
    edge.store().await;
    let taken = ObjectKey::output(&cloud.tenant, call.recording, 1, Output::Webm);
    let objects = cloud.engines.objects();
    objects.put(&taken, Bytes::from_static(b"other"), PutMode::IfAbsent).await.unwrap();
    assert_eq!(cloud.build(call.recording).await, Outcome::Built { generation: 2, complete: true });
    assert_eq!(cloud.get(&taken).await, b"other".as_slice());
    cloud.assert_is_whole(call.recording).await;
}

#[tokio::test]
async fn a_dead_edge_leaves_a_playable_part_and_its_return_the_whole() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    edge.speak(&mut call);
    edge.store().await;
    edge.beat(1, false).await;
    edge.beat(1, true).await;
    assert_eq!(cloud.status(call.recording).await, Status::Partial);
    assert_eq!(
        cloud.build(call.recording).await,
        Outcome::Built { generation: 1, complete: false }
    );
    assert_eq!(cloud.finalized(call.recording).await.duration_ms, 500);
    cloud.assert_is_whole(call.recording).await;
    assert_eq!(cloud.build(call.recording).await, Outcome::NotNeeded, "nothing new");
    assert_eq!(cloud.retire().await, Retired { deleted: 0, kept: 1 });

    edge.beat(2, false).await;
    edge.speak(&mut call);
    edge.end(&call).await;
    edge.store().await;
    assert_eq!(cloud.build(call.recording).await, Outcome::Built { generation: 2, complete: true });
    assert_eq!(cloud.finalized(call.recording).await.duration_ms, 1_000);
    cloud.assert_is_whole(call.recording).await;
    survived(
        "edge back later with its disk",
        "a call is taken for dead and built, then its edge returns and stores the rest",
        "first playable as far as it goes, then complete",
    );
}

#[tokio::test]
async fn a_segment_goes_when_all_its_calls_are_stored_and_not_before() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut short = edge.start(1).await;
    let mut long = edge.start(2).await;
    edge.speak(&mut short);
    edge.speak(&mut long);
    edge.end(&short).await;
    edge.store().await;
    cloud.build(short.recording).await;
    assert_eq!(cloud.retire().await, Retired { deleted: 0, kept: 1 }, "one call goes on");

    edge.speak(&mut long);
    edge.store().await;
    edge.end(&long).await;
    edge.store().await;
    assert_eq!(cloud.retire().await, Retired { deleted: 0, kept: 3 }, "not built yet");
    let before = cloud.samples(short.recording).await;
    cloud.build(long.recording).await;

    let packets = ObjectKey::packets(&cloud.tenant, long.recording);
    let held = cloud.get(&packets).await;
    let objects = cloud.engines.objects();
    objects.delete(&packets).await.unwrap();
    assert_eq!(cloud.retire().await, Retired { deleted: 0, kept: 3 }, "its packets are gone");
    objects.put(&packets, held.slice(..held.len() - 1), PutMode::Replace).await.unwrap();
    assert_eq!(cloud.retire().await, Retired { deleted: 0, kept: 3 }, "its packets are cut short");
    objects.put(&packets, held, PutMode::Replace).await.unwrap();
    assert_eq!(cloud.retire().await, Retired { deleted: 3, kept: 0 });
    assert_eq!(cloud.segments().await, []);
    assert_eq!(cloud.samples(short.recording).await, before);
    assert_eq!(cloud.samples(long.recording).await.len(), 2 * 8_000);
}

#[tokio::test]
async fn a_segment_with_a_call_that_the_index_does_not_know_stays() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    edge.speak(&mut call);
    edge.end(&call).await;
    let stranger = SessionId::at(1, [77; 10]);
    let (mut sealer, _) = Sealer::new(stranger, &cloud.keys.public()).unwrap();
    let position = edge.next();
    let body = Body::Packets(Vec::new());
    let bytes = sealer.seal(position, &body);
    let record = SessionRecord { kind: body.kind(), position, boot_ns: 0, bytes };
    edge.waiting.push((stranger, record));
    edge.store().await;
    cloud.build(call.recording).await;
    assert_eq!(cloud.retire().await, Retired { deleted: 0, kept: 1 });
}

#[tokio::test]
async fn a_further_communication_session_is_built_from_the_segments_of_its_session() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    edge.speak(&mut call);
    edge.store().await;
    // The key and what was negotiated lie in the segment before.
    let further = call.session.further_recording("cs-2");
    let position = edge.next();
    let body = StartedBody {
        recording: further,
        session: call.session,
        tenant: cloud.tenant.clone(),
        wall_ms: WALL_MS + 600,
        boot_ns: 1_600 * MS,
        boot_id: [1; 16],
        epoch: 1,
        resumed: false,
    };
    edge.waiting.push((call.session, SessionRecord::started(position, &body)));
    let (tenant, session, flags) = (cloud.tenant.clone(), call.session, BTreeSet::new());
    let body = EventBody::Started { tenant, recording: further, session, call_ids: vec![], flags };
    edge.tell(position, body).await;
    let stream = StreamFact { label: "96".to_owned(), senders: vec![] };
    let facts = CallFacts { streams: vec![stream], ..CallFacts::default() };
    let (tenant, flags) = (cloud.tenant.clone(), BTreeSet::new());
    let body = EventBody::Metadata { tenant, recording: further, facts, flags, document: None };
    let position = edge.next();
    edge.tell(position, body).await;
    edge.speak(&mut call);
    let first = call.recording;
    edge.end(&call).await;
    edge.store().await;
    cloud.build(first).await;
    assert_eq!(cloud.retire().await.deleted, 0, "the other recording of the session goes on");
    call.recording = further;
    edge.end(&call).await;
    edge.store().await;
    assert_eq!(cloud.build(further).await, Outcome::Built { generation: 1, complete: true });
    assert_eq!(cloud.finalized(first).await.duration_ms, 1_000);
    assert_eq!(cloud.finalized(further).await.duration_ms, 500);
}

#[tokio::test]
async fn a_further_recording_that_is_told_of_when_the_segments_are_gone_is_built_all_the_same() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    edge.speak(&mut call);
    edge.store().await;
    let further = call.session.further_recording("cs-2");
    let began = edge.next();
    let body = StartedBody {
        recording: further,
        session: call.session,
        tenant: cloud.tenant.clone(),
        wall_ms: WALL_MS + 600,
        boot_ns: 1_600 * MS,
        boot_id: [1; 16],
        epoch: 1,
        resumed: false,
    };
    edge.waiting.push((call.session, SessionRecord::started(began, &body)));
    let facts_at = edge.next();
    edge.speak(&mut call);
    let first = call.recording;
    edge.end(&call).await;
    call.recording = further;
    edge.end(&call).await;
    edge.store().await;
    cloud.build(first).await;
    assert_eq!(cloud.retire().await, Retired { deleted: 2, kept: 0 });

    let (tenant, session, flags) = (cloud.tenant.clone(), call.session, BTreeSet::new());
    let body = EventBody::Started { tenant, recording: further, session, call_ids: vec![], flags };
    edge.tell(began, body).await;
    let stream = StreamFact { label: "96".to_owned(), senders: vec![] };
    let facts = CallFacts { streams: vec![stream], ..CallFacts::default() };
    let (tenant, flags) = (cloud.tenant.clone(), BTreeSet::new());
    let body = EventBody::Metadata { tenant, recording: further, facts, flags, document: None };
    edge.tell(facts_at, body).await;
    assert_eq!(cloud.build(further).await, Outcome::Built { generation: 1, complete: true });
    let built = cloud.finalized(further).await;
    assert_eq!((built.duration_ms, built.tracks[0].packets_received), (500, 25));
    assert_eq!(built.flags, BTreeSet::new());
    cloud.assert_is_whole(further).await;
}

#[tokio::test]
async fn a_damaged_segment_costs_its_audio_only_and_is_kept() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    for _ in 0..3 {
        edge.speak(&mut call);
        edge.store().await;
    }
    edge.end(&call).await;
    edge.store().await;
    let damaged = &cloud.segments().await[1];
    let mut bytes = cloud.get(damaged).await.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let objects = cloud.engines.objects();
    objects.put(damaged, bytes.into(), PutMode::Replace).await.unwrap();
    assert_eq!(cloud.build(call.recording).await, Outcome::Built { generation: 1, complete: true });
    let built = cloud.finalized(call.recording).await;
    assert!(built.flags.contains(flag::DAMAGED));
    assert_eq!((built.duration_ms, built.tracks[0].packets_lost), (1_500, 25));
    assert_eq!(cloud.retire().await.deleted, 0);
}

#[tokio::test]
async fn a_cut_that_was_made_twice_is_heard_once() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    edge.speak(&mut call);
    let again = edge.waiting.clone();
    edge.store().await;
    edge.end(&call).await;
    edge.waiting.splice(0..0, again);
    edge.store().await;
    cloud.build(call.recording).await;
    let built = cloud.finalized(call.recording).await;
    assert_eq!((built.duration_ms, built.tracks[0].packets_received), (500, 25));
}

#[tokio::test]
async fn the_wrong_tenant_key_builds_nothing() {
    let mut cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    edge.speak(&mut call);
    edge.end(&call).await;
    edge.store().await;
    cloud.keys = Arc::new(TenantKeyPair::generate().unwrap());
    let objects = cloud.engines.objects();
    assert!(cloud.build_with(&*objects, call.recording).await.is_err());
    let prefix = recording_prefix(&cloud.tenant, call.recording);
    assert_eq!(objects.list(&prefix).await.unwrap(), []);
}

#[tokio::test]
async fn requests_from_the_queue_are_built_and_nonsense_is_put_aside() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    edge.speak(&mut call);
    edge.end(&call).await;
    edge.store().await;
    let queue = cloud.engines.finalize();
    let request = BuildRequest { tenant: cloud.tenant.clone(), recording: call.recording };
    let nonsense = Message::now("build everything".to_owned());
    queue.send(&[nonsense, Message::now(request.to_json())]).await.unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let worker = tokio::spawn(finalizer::run(
        cloud.engines.index(),
        cloud.engines.finalize(),
        cloud.engines.objects(),
        cloud.keys.clone(),
        stopped,
    ));
    let done = async {
        while queue.depth().await.unwrap().waiting > 0
            || cloud.status(call.recording).await != Status::Stored
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), done).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().dead_letters, 1);
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(10), worker).await.unwrap().unwrap();
}

/// Eleven and a half minutes, of which a recorder has stored all and told of no end.
async fn long_call(edge: &mut Edge<'_>) -> Call {
    let call = edge.start(1).await;
    spoken_long(edge, call).await
}

async fn spoken_long(edge: &mut Edge<'_>, mut call: Call) -> Call {
    for half_second in 1..=1_380 {
        edge.speak(&mut call);
        if half_second % 120 == 0 {
            edge.store().await;
        }
    }
    edge.store().await;
    call
}

#[tokio::test]
async fn a_long_call_is_encoded_while_it_lasts_to_the_same_file() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let call = long_call(&mut edge).await;
    let (index, objects) = (cloud.engines.index(), cloud.engines.objects());
    let mut ahead = Ahead::default();
    let mut advance = async |minutes: i64| {
        let now = WallTime::from_unix_ms(WALL_MS + minutes * 60_000);
        let (keys, tenant) = (&cloud.keys, &cloud.tenant);
        ahead.advance(&*index, &*objects, keys, tenant, now, None).await.unwrap()
    };
    assert_eq!(advance(5).await, 0, "a short call is not worth it");
    let made = advance(12).await;
    assert!((9..=11).contains(&made), "{made}");
    assert_eq!(advance(12).await, 0, "nothing new");
    let minutes = minutes_prefix(&cloud.tenant, call.recording);
    let kept: Vec<_> =
        objects.list(&minutes).await.unwrap().into_iter().map(|meta| meta.key).collect();
    assert_eq!(kept.len() as u64, made);

    edge.end(&call).await;
    edge.store().await;
    // What was damaged is made again; the others need not be.
    objects.put(&kept[0], Bytes::from_static(b"?"), PutMode::Replace).await.unwrap();
    let mut changed = objects.get(&kept[1]).await.unwrap().to_vec();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    objects.put(&kept[1], changed.into(), PutMode::Replace).await.unwrap();
    assert_eq!(cloud.build(call.recording).await, Outcome::Built { generation: 1, complete: true });
    cloud.assert_is_whole(call.recording).await;
    assert_eq!(objects.list(&minutes).await.unwrap(), [], "they are in the recording now");

    let other = Cloud::new();
    let mut edge = other.edge();
    let call_again = long_call(&mut edge).await;
    edge.end(&call_again).await;
    edge.store().await;
    other.build(call_again.recording).await;
    let audio = async |cloud: &Cloud, call: &Call| {
        let key = ObjectKey::output(&cloud.tenant, call.recording, 1, Output::Webm);
        cloud.get(&key).await
    };
    let (ahead, at_once) = (audio(&cloud, &call).await, audio(&other, &call_again).await);
    assert!(ahead == at_once, "{} and {} bytes", ahead.len(), at_once.len());
}

#[tokio::test]
async fn a_call_that_cannot_be_read_keeps_no_other_from_being_encoded_ahead() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut unreadable = edge.start(1).await;
    // Its packets are sealed for somebody else.
    let stranger = TenantKeyPair::generate().unwrap();
    let (sealer, key) = Sealer::new(unreadable.session, &stranger.public()).unwrap();
    let key = SessionRecord::key(edge.next(), 1_000 * MS, &key);
    edge.waiting.push((unreadable.session, key));
    unreadable.sealer = sealer;
    edge.speak(&mut unreadable);
    let good = edge.start(2).await;
    let good = spoken_long(&mut edge, good).await;
    let (index, objects) = (cloud.engines.index(), cloud.engines.objects());
    let now = WallTime::from_unix_ms(WALL_MS + 12 * 60_000);
    let (keys, tenant) = (&cloud.keys, &cloud.tenant);
    let made = Ahead::default().advance(&*index, &*objects, keys, tenant, now, None).await.unwrap();
    assert!((9..=11).contains(&made), "{made}");
    for (call, expected) in [(&unreadable, 0), (&good, made)] {
        let prefix = minutes_prefix(&cloud.tenant, call.recording);
        assert_eq!(objects.list(&prefix).await.unwrap().len() as u64, expected);
    }
}

#[tokio::test]
async fn a_build_without_time_left_goes_on_in_the_next() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let call = long_call(&mut edge).await;
    edge.end(&call).await;
    edge.store().await;
    let (index, objects) = (cloud.engines.index(), cloud.engines.objects());
    let mut attempts = 0;
    loop {
        attempts += 1;
        // Gets somewhere between nowhere and a minute further; each attempt a little more.
        let until = std::time::Instant::now() + Duration::from_millis(100 * attempts);
        let (keys, tenant) = (&cloud.keys, &cloud.tenant);
        let built =
            finalizer::build_until(&*index, &*objects, keys, tenant, call.recording, Some(until));
        match built.await {
            Ok(outcome) => {
                assert_eq!(outcome, Outcome::Built { generation: 1, complete: true });
                break;
            }
            Err(finalizer::FinalizeError::OutOfTime) => assert!(attempts < 600),
            Err(error) => panic!("{error:?}"),
        }
    }
    cloud.assert_is_whole(call.recording).await;
    let minutes = minutes_prefix(&cloud.tenant, call.recording);
    assert_eq!(objects.list(&minutes).await.unwrap(), []);
}

#[tokio::test]
async fn a_call_in_progress_is_heard_piece_by_piece() {
    let cloud = Cloud::new();
    let mut edge = cloud.edge();
    let mut call = edge.start(1).await;
    for _ in 0..30 {
        edge.speak(&mut call);
    }
    edge.store().await;
    let listeners = Listeners::default();
    let (recording, session) = (call.recording, call.session);
    let piece = async |from_ms: Option<u64>| {
        let found = cloud.engines.index().state(&cloud.tenant, recording).await.unwrap();
        let (objects, state) = (cloud.engines.objects(), found.unwrap().0);
        listeners.piece(&*objects, &cloud.keys, &state, session, from_ms).await.unwrap()
    };
    let first = piece(Some(0)).await;
    assert_eq!((first.from_ms, first.next_from_ms), (0, PIECE_MS));
    let second = piece(Some(first.next_from_ms)).await;
    assert_eq!(second.from_ms, PIECE_MS);
    assert!((14_000..15_000).contains(&second.next_from_ms), "{}", second.next_from_ms);
    assert!(first.webm.is_some() && second.webm.is_some());
    let nothing_new = piece(Some(second.next_from_ms)).await;
    assert_eq!((nothing_new.next_from_ms, nothing_new.webm), (second.next_from_ms, None));
    let newest = piece(None).await;
    assert_eq!(newest.next_from_ms, second.next_from_ms);
    assert!(newest.from_ms > 8_000, "{}", newest.from_ms);

    // Heard as soon as its segment is stored, and not before.
    for _ in 0..10 {
        edge.speak(&mut call);
    }
    assert_eq!(piece(Some(second.next_from_ms)).await.webm, None);
    edge.store().await;
    let third = piece(Some(second.next_from_ms)).await;
    assert!((19_000..20_000).contains(&third.next_from_ms) && third.webm.is_some());
    let back = piece(Some(3_000)).await;
    assert_eq!(back.next_from_ms, 13_000);
    assert!(back.webm.is_some());
}
