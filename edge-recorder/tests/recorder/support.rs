//! A site with one recorder, and an SRC that is simple enough to trust.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use edge_recorder::config::Config;
use edge_recorder::{Engines, Ready, RunError, Shutdown};
use model::command::{Command, CommandBody};
use model::id::CommandId;
use model::object_key::ObjectKey;
use model::{EventBody, RecordingEvent, SessionId, TenantId, WallTime};
use segment::{Body, Opener, Packet, RecordKind, SegmentReader, SessionRecord, TenantKeyPair};
use storage_embedded::Embedded;
use storage_ports::{EventQueue, Message, ObjectStore, PutMode};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long anything may take that should take a second or two. The machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A data directory, its engines and its tenant's key.
pub struct Site {
    pub dir: TempDir,
    pub engines: Embedded,
    pub keys: TenantKeyPair,
    pub config: Config,
}

impl Site {
    pub async fn new() -> Self {
        let site = Self::without_policy();
        site.put_policy().await;
        site
    }

    pub fn without_policy() -> Self {
        // Below the ports that the kernel gives out by itself; each site has its own.
        static NEXT_PORT: AtomicU16 = AtomicU16::new(12_000);
        let first = NEXT_PORT.fetch_add(100, Ordering::Relaxed);
        let dir = tempfile::tempdir().unwrap();
        let engines = Embedded::open(dir.path()).unwrap();
        let mut config = Config::new(dir.path().join("journal"));
        config.sip.listen = "127.0.0.1:0".parse().unwrap();
        config.admin.listen = "127.0.0.1:0".parse().unwrap();
        config.rtp.ports = format!("{first}-{}", first + 99).parse().unwrap();
        config.journal.segment_secs = 1.try_into().unwrap();
        config.journal.min_free_bytes = 0;
        config.journal.file_bytes = (1 << 20).try_into().unwrap();
        Self { dir, engines, keys: TenantKeyPair::generate().unwrap(), config }
    }

    pub async fn put_policy(&self) {
        let policy = serde_json::json!({
            "version": 1,
            "revision": 1,
            "tenants": [{"tenant": "default", "public_key": self.keys.public().to_string()}],
        });
        let body = policy.to_string().into_bytes().into();
        self.engines.objects().put(&ObjectKey::policy(), body, PutMode::Replace).await.unwrap();
    }

    pub fn engines(&self) -> Engines {
        Engines {
            objects: self.engines.objects(),
            events: self.engines.events(),
            commands: self.engines.commands(&self.config.edge.name),
        }
    }

    pub async fn start(&self) -> Running {
        self.try_start(self.config.clone()).await.expect("the recorder starts")
    }

    pub async fn try_start(&self, config: Config) -> Result<Running, RunError> {
        let shutdown = Shutdown::new();
        let (ready, ready_inbox) = oneshot::channel();
        let run = edge_recorder::run(config, self.engines(), shutdown.clone(), ready);
        let task = tokio::spawn(run);
        match timeout(PATIENCE, ready_inbox).await.expect("the recorder starts in time") {
            Ok(ready) => Ok(Running { ready, shutdown, task }),
            Err(_) => {
                Err(task.await.unwrap().expect_err("a recorder that is not ready has failed"))
            }
        }
    }

    /// Gives a command and waits for its outcome.
    pub async fn command(&self, events: &mut Events, body: CommandBody) -> (bool, String) {
        let id = new_command_id();
        self.send_command(id, now(), body).await;
        events.outcome(id).await
    }

    pub async fn send_command(&self, id: CommandId, at: WallTime, body: CommandBody) {
        let command = Command { version: model::command::VERSION, id, at, body };
        let text = serde_json::to_string(&command).unwrap();
        let queue = self.engines.commands(&self.config.edge.name);
        queue.send(&[Message::now(text)]).await.unwrap();
    }

    pub fn events(&self) -> Events {
        Events { queue: self.engines.events(), seen: Vec::new() }
    }

    /// Everything of a session that is in the object store, opened: records by position.
    pub async fn stored(&self, session: SessionId) -> Stored {
        let objects = self.engines.objects();
        let mut records: BTreeMap<u64, SessionRecord> = BTreeMap::new();
        let prefix = format!("t/{}/segments/", TenantId::default());
        for object in objects.list(&prefix).await.unwrap() {
            let bytes = objects.get(&object.key).await.unwrap();
            let reader = SegmentReader::verify(&bytes).expect("a segment in the store is whole");
            let Some(entry) = reader.find(session) else { continue };
            let range = entry.range();
            let slice = &bytes[range.start as usize..range.end as usize];
            for record in entry.records(slice).unwrap() {
                records.insert(record.position.0, record);
            }
        }
        let keys: Vec<_> = records
            .values()
            .filter(|record| record.kind == RecordKind::Key)
            .map(|record| record.as_key().unwrap())
            .collect();
        let opener = Opener::new(&self.keys, session, &keys);
        let bodies = records
            .values()
            .filter(|record| record.kind.is_sealed())
            .map(|record| opener.open(record.position, &record.bytes).expect("it opens"))
            .collect();
        Stored { keys: keys.len(), records: records.into_values().collect(), bodies }
    }
}

/// What the object store has of a session.
pub struct Stored {
    pub keys: usize,
    pub records: Vec<SessionRecord>,
    pub bodies: Vec<Body>,
}

impl Stored {
    /// RTP of the stream with this m-line index, in order of journaling.
    pub fn rtp(&self, stream: u16) -> Vec<&Packet> {
        self.bodies
            .iter()
            .filter_map(|body| match body {
                Body::Packets(packets) => Some(packets),
                _ => None,
            })
            .flatten()
            .filter(|packet| packet.stream == stream && !packet.rtcp)
            .collect()
    }

    pub fn datagrams(&self, stream: u16) -> Vec<Vec<u8>> {
        self.rtp(stream).into_iter().map(|packet| packet.datagram.clone()).collect()
    }
}

/// The event queue, and what came out of it so far.
pub struct Events {
    queue: Arc<storage_embedded::SqliteQueue>,
    pub seen: Vec<RecordingEvent>,
}

impl Events {
    /// Reads until `find` finds something, in what was seen before too.
    pub async fn wait_for<T>(
        &mut self,
        what: &str,
        find: impl Fn(&RecordingEvent) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = self.seen.iter().find_map(&find) {
                return found;
            }
            assert!(Instant::now() < deadline, "waited for {what} in {:#?}", self.seen);
            for delivery in self.queue.receive(10, Duration::from_millis(500)).await.unwrap() {
                self.seen.push(RecordingEvent::from_json(&delivery.body).unwrap());
                self.queue.acknowledge(&delivery.receipt).await.unwrap();
            }
        }
    }

    /// What became of a command.
    pub async fn outcome(&mut self, id: CommandId) -> (bool, String) {
        self.wait_for("the command's outcome", |event| match &event.body {
            EventBody::CommandDone { command, ok, detail } if *command == id => {
                Some((*ok, detail.clone()))
            }
            _ => None,
        })
        .await
    }

    /// The session of the call with this Call-ID.
    pub async fn session(&mut self, call_id: &str) -> SessionId {
        self.wait_for("a start", |event| match &event.body {
            EventBody::Started { session, call_ids, .. } if call_ids[0] == call_id => {
                Some(*session)
            }
            _ => None,
        })
        .await
    }

    /// The end of a session's first recording, once all of it is in the object store.
    pub async fn stored_end(&mut self, session: SessionId) -> RecordingEvent {
        let recording = session.first_recording();
        let ended = self
            .wait_for("an end", |event| match &event.body {
                EventBody::Ended { recording: ended, .. } if *ended == recording => {
                    Some(event.clone())
                }
                _ => None,
            })
            .await;
        self.wait_for("the end to be stored", |event| match &event.body {
            EventBody::Stored { through } if *through >= ended.position => Some(()),
            _ => None,
        })
        .await;
        ended
    }
}

/// A recorder that runs.
pub struct Running {
    pub ready: Ready,
    pub shutdown: Shutdown,
    pub task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    pub async fn stop(self) {
        self.shutdown.now();
        self.exited().await;
    }

    pub async fn exited(self) {
        let outcome = timeout(PATIENCE, self.task).await.expect("the recorder exits in time");
        outcome.unwrap().expect("the recorder exits without an error");
    }

    /// Status and body of an answer of the admin port.
    pub async fn http(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.ready.admin).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
        (status, body)
    }

    /// The value of a metric, with its labels as they are rendered; 0 when it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.http("GET", "/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits until a metric, which may be shared with other recorders, has risen above `before`.
    pub async fn wait_for_metric(&self, name: &str, before: f64) -> f64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.metric(name).await;
            if value > before {
                return value;
            }
            assert!(Instant::now() < deadline, "{name} is still {value}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub async fn wait_for_health(&self, status: u16) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (found, body) = self.http("GET", "/healthz").await;
            if found == status {
                return body;
            }
            assert!(Instant::now() < deadline, "health is {found}: {body}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A recording client with one call and two streams.
pub struct Src {
    wire: Wire,
    target: SocketAddr,
    local: SocketAddr,
    transport: &'static str,
    pub call_id: String,
    to: String,
    cseq: u32,
    pub media: [UdpSocket; 2],
    /// Where the recorder wants the streams.
    pub targets: Vec<SocketAddr>,
    sequence: [u16; 2],
}

/// A SIP response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Src {
    pub async fn udp(target: SocketAddr) -> Self {
        Self::udp_from("127.0.0.1", target).await
    }

    /// From another address of this machine: every 127.x.y.z is one.
    pub async fn udp_from(ip: &str, target: SocketAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).await.unwrap();
        socket.connect(target).await.unwrap();
        let local = socket.local_addr().unwrap();
        Self::new(Wire::Udp(socket), target, local, "UDP").await
    }

    pub async fn tcp(target: SocketAddr) -> Self {
        let stream = TcpStream::connect(target).await.unwrap();
        let local = stream.local_addr().unwrap();
        Self::new(Wire::Tcp(stream), target, local, "TCP").await
    }

    async fn new(
        wire: Wire,
        target: SocketAddr,
        local: SocketAddr,
        transport: &'static str,
    ) -> Self {
        let media = [
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
            UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        ];
        Self {
            wire,
            target,
            local,
            transport,
            call_id: format!("call-{:x}@src.example.com", rand_u64()),
            to: "<sip:recorder@example.com>".to_owned(),
            cseq: 0,
            media,
            targets: Vec::new(),
            sequence: [65_530, 100],
        }
    }

    pub fn metadata(&self) -> String {
        METADATA.to_owned()
    }

    /// An offer of two streams, in these directions.
    pub fn sdp(&self, directions: [&str; 2]) -> String {
        let mut sdp = "v=0\r\no=src 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            .to_owned();
        for ((socket, direction), label) in self.media.iter().zip(directions).zip(LABELS) {
            let port = socket.local_addr().unwrap().port();
            sdp += &format!(
                "m=audio {port} RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n\
                 a=rtpmap:101 telephone-event/8000\r\na={direction}\r\na=label:{label}\r\n"
            );
        }
        sdp
    }

    /// Places the call with SDP and, if given, metadata. Acknowledges a 200.
    pub async fn invite(&mut self, metadata: Option<&str>) -> Answer {
        let sdp = self.sdp(["sendonly"; 2]);
        let (content_type, body) = match metadata {
            None => ("application/sdp".to_owned(), sdp),
            Some(metadata) => (
                "multipart/mixed;boundary=part".to_owned(),
                format!(
                    "--part\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--part\r\n\
                     Content-Type: application/rs-metadata+xml\r\n\
                     Content-Disposition: recording-session\r\n\r\n{metadata}\r\n--part--\r\n"
                ),
            ),
        };
        self.send_invite(&content_type, &body).await
    }

    /// INVITE, new or again, and the ACK of a 200.
    pub async fn send_invite(&mut self, content_type: &str, body: &str) -> Answer {
        let extra = format!("Require: siprec\r\nContent-Type: {content_type}\r\n");
        let answer = self.request("INVITE", &extra, body).await;
        if answer.status == 200 {
            self.targets = answer.media();
            self.send("ACK", "", "").await;
        }
        answer
    }

    /// UPDATE with metadata alone.
    pub async fn update(&mut self, metadata: &str) -> Answer {
        let extra = "Content-Type: application/rs-metadata+xml\r\n\
                     Content-Disposition: recording-session\r\n";
        self.request("UPDATE", extra, metadata).await
    }

    pub async fn bye(&mut self) -> Answer {
        self.request("BYE", "", "").await
    }

    pub async fn request(&mut self, method: &str, extra: &str, body: &str) -> Answer {
        self.cseq += 1;
        self.send(method, extra, body).await;
        loop {
            let answer = timeout(PATIENCE, self.receive()).await.expect("an answer in time");
            if answer.status >= 200
                && answer.head.contains(&format!("CSeq: {} {method}", self.cseq))
            {
                // Only an INVITE makes a dialog.
                if let Some(to) = answer.header("To").filter(|_| method == "INVITE") {
                    self.to = to.to_owned();
                }
                return answer;
            }
        }
    }

    /// Waits for a request of the recorder, and answers it with this status line.
    pub async fn answer_request(&mut self, method: &str, status: &str) {
        let request = loop {
            let found = timeout(PATIENCE, self.receive()).await.expect("a request in time");
            if found.head.starts_with(&format!("{method} ")) {
                break found.head;
            }
        };
        let (_, headers) = request.split_once("\r\n").unwrap();
        self.send_raw(format!("SIP/2.0 {status}\r\n{headers}\r\n\r\n").as_bytes()).await;
    }

    async fn send(&mut self, method: &str, extra: &str, body: &str) {
        let Self { local, transport, target, call_id, to, cseq, .. } = self;
        let branch = format!("z9hG4bK{:x}", rand_u64());
        // A new call is not part of the dialog before.
        let message = format!(
            "{method} sip:recorder@{target} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch={branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:src@example.com>;tag=src\r\nTo: {to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:src@{local};transport={}>;+sip.src\r\n{extra}Content-Length: {}\r\n\r\n{body}",
            transport.to_lowercase(),
            body.len(),
        );
        match &mut self.wire {
            Wire::Udp(socket) => {
                socket.send(message.as_bytes()).await.unwrap();
            }
            Wire::Tcp(stream) => stream.write_all(message.as_bytes()).await.unwrap(),
        }
    }

    /// Sends bytes that may be anything.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Udp(socket) => {
                socket.send(bytes).await.unwrap();
            }
            Wire::Tcp(stream) => stream.write_all(bytes).await.unwrap(),
        }
    }

    async fn receive(&mut self) -> Answer {
        match &mut self.wire {
            Wire::Udp(socket) => {
                let mut buffer = vec![0; 65_535];
                let length = socket.recv(&mut buffer).await.unwrap();
                let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                Answer::new(head.to_owned(), body.to_owned())
            }
            Wire::Tcp(stream) => {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap().trim().to_owned();
                let mut answer = Answer::new(head, String::new());
                let length =
                    answer.header("Content-Length").map_or(0, |text| text.parse().unwrap());
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                answer.body = String::from_utf8(body).unwrap();
                answer
            }
        }
    }

    /// A request in this call as somebody would write it who had listened.
    pub fn forge(&self, method: &str) -> String {
        let Self { target, local, call_id, to, cseq, .. } = self;
        format!(
            "{method} sip:recorder@{target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK{:x}\r\nMax-Forwards: 70\r\n\
             From: <sip:src@example.com>;tag=src\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {} {method}\r\nContent-Length: 0\r\n\r\n",
            rand_u64(),
            cseq + 1,
        )
    }

    /// Whether anything came back that was not read, over UDP.
    pub fn was_answered(&self) -> bool {
        let Wire::Udp(socket) = &self.wire else { panic!("asked over UDP only") };
        socket.try_recv(&mut [0; 65_535]).is_ok()
    }

    /// The recorder was started again elsewhere, or on the same port: UDP does not care, TCP
    /// connects anew.
    pub async fn reconnect(&mut self) {
        if let Wire::Tcp(stream) = &mut self.wire {
            *stream = TcpStream::connect(self.target).await.unwrap();
            self.local = stream.local_addr().unwrap();
        }
    }

    /// Sends `count` packets on both streams, 20 ms of audio each, faster than they would come.
    /// Returns the datagrams per stream.
    pub async fn speak(&mut self, count: u16) -> [Vec<Vec<u8>>; 2] {
        let mut said = [Vec::new(), Vec::new()];
        for _ in 0..count {
            for (stream, said) in said.iter_mut().enumerate() {
                said.push(self.say(stream).await);
            }
            sleep(Duration::from_millis(2)).await;
        }
        said
    }

    /// Sends that many packets of one stream.
    pub async fn speak_on(&mut self, stream: usize, count: u16) {
        for _ in 0..count {
            self.say(stream).await;
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn say(&mut self, stream: usize) -> Vec<u8> {
        let packet = rtp_packet(self.sequence[stream], stream as u8);
        self.sequence[stream] = self.sequence[stream].wrapping_add(1);
        self.media[stream].send_to(&packet, self.targets[stream]).await.unwrap();
        packet
    }
}

pub const LABELS: [&str; 2] = ["16777227", "a_leg"];

/// Ana is listed second and heard on the first stream.
const METADATA: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1">
  <datamode>complete</datamode>
  <session session_id="cs-1"><sipSessionID>sip-session-77</sipSessionID></session>
  <participant participant_id="p-bob"><nameID aor="sip:bob@example.com"><name>Bob Marker-Smith</name></nameID></participant>
  <participant participant_id="p-ana"><nameID aor="sip:ana@example.com"><name>Ana</name></nameID></participant>
  <stream stream_id="s-1" session_id="cs-1"><label>16777227</label></stream>
  <stream stream_id="s-2" session_id="cs-1"><label>a_leg</label></stream>
  <participantstreamassoc participant_id="p-ana"><send>s-1</send><recv>s-2</recv></participantstreamassoc>
  <participantstreamassoc participant_id="p-bob"><send>s-2</send><recv>s-1</recv></participantstreamassoc>
</recording>"#;

/// The metadata of two calls at once, with the call that each stream belongs to.
pub fn two_calls(owners: [&str; 2]) -> String {
    let mut metadata =
        METADATA.replace("</session>", "</session>\n  <session session_id=\"cs-2\"></session>");
    for (number, owner) in (1..).zip(owners) {
        metadata = metadata.replace(
            &format!("stream_id=\"s-{number}\" session_id=\"cs-1\""),
            &format!("stream_id=\"s-{number}\" session_id=\"{owner}\""),
        );
    }
    metadata
}

/// Compares datagrams and, where they differ, says which sequence numbers were expected and found.
#[track_caller]
pub fn assert_said(found: &[Vec<u8>], said: &[Vec<u8>]) {
    let sequences = |datagrams: &[Vec<u8>]| -> Vec<u16> {
        datagrams.iter().map(|bytes| u16::from_be_bytes([bytes[2], bytes[3]])).collect()
    };
    assert_eq!(sequences(found), sequences(said), "sequence numbers found and said");
    assert!(found == said, "payloads differ");
}

/// 20 ms of PCMU that nobody else sends.
pub fn rtp_packet(sequence: u16, stream: u8) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    // As SIPp does: the same SSRC on every stream.
    packet.extend(7u32.to_be_bytes());
    packet.extend(
        [b"SPOKEN-A"[..].repeat(20), b"SPOKEN-B"[..].repeat(20)][usize::from(stream)].iter(),
    );
    packet
}

impl Answer {
    fn new(head: String, body: String) -> Self {
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        Self { status: status.unwrap_or(0), head, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// Address of each m-line of an SDP answer.
    pub fn media(&self) -> Vec<SocketAddr> {
        let host = self.body.lines().find_map(|line| line.strip_prefix("c=IN IP4 "));
        let host = host.expect("an address in the answer").trim();
        self.body
            .lines()
            .filter_map(|line| line.strip_prefix("m=audio "))
            .map(|line| format!("{host}:{}", line.split(' ').next().unwrap()).parse().unwrap())
            .collect()
    }

    pub fn labels(&self) -> Vec<&str> {
        self.body.lines().filter_map(|line| line.strip_prefix("a=label:")).map(str::trim).collect()
    }
}

/// Trunks that are known by address alone.
pub fn trunks(networks: &[&str]) -> model::trunk::Trunks {
    serde_json::from_value(serde_json::json!(networks)).unwrap()
}

pub fn now() -> WallTime {
    edge_recorder::journal::Moment::now().wall()
}

fn rand_u64() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

pub fn new_command_id() -> CommandId {
    let number = rand_u64();
    CommandId(uuid::Uuid::from_u64_pair(number, !number))
}
