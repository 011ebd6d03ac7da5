//! An API over the embedded engines in a directory of its own, asked in process.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use lambdas::api::{self, ApiState, Arrival, MediaBy, SignedParts};
use model::access::Role;
use model::attribution::{Address, Assignment, Group, Term};
use model::call::{CallFacts, Party};
use model::index::Finalized;
use model::object_key::{ObjectKey, Output};
use model::recording::{Mark, MarkKind, Track};
use model::{
    EdgeId, EventBody, GroupId, JournalId, Position, RecordingEvent, RecordingId, SessionId,
    TenantId, UserId, WallTime,
};
use segment::{
    Direction, Document, Format, Packet, PacketsHeader, PacketsWriter, Sealer, SessionRecord,
    StreamInfo, TenantKeyPair,
};
use storage_embedded::Embedded;
use storage_ports::{Account, EventQueue, PutMode};
use tower::ServiceExt;

pub const PASSWORD: &str = "correct horse battery";

/// One API and what lies under it.
pub struct Api {
    pub router: Router,
    pub state: ApiState,
    pub engines: Embedded,
    /// Logins whose password was changed.
    pub changed: Arc<Mutex<Vec<UserId>>>,
    _dir: tempfile::TempDir,
}

/// What came back.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts an error of this status and code, with a message and the id that the header has.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> String {
        let body = self.json();
        let text = |name: &str| body["error"][name].as_str().unwrap_or("").to_owned();
        assert_eq!((self.status.as_u16(), text("code").as_str()), (status, code), "{body}");
        assert_eq!(text("request_id"), self.header("x-request-id"), "{body}");
        assert!(!text("request_id").is_empty() && !text("message").is_empty(), "{body}");
        text("message")
    }
}

impl Api {
    pub async fn new() -> Self {
        Self::with(MediaBy::Api).await
    }

    pub async fn with(media_by: MediaBy) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engines = Embedded::open(dir.path()).unwrap();
        let changed = Arc::new(Mutex::new(Vec::new()));
        let signer = engines.objects().signer().clone();
        let queue: Arc<dyn EventQueue> = engines.events();
        let state = ApiState {
            index: engines.index(),
            accounts: engines.accounts(),
            objects: engines.objects(),
            media_by,
            verify_signed_url: Some(Arc::new(move |parts: &SignedParts, now| {
                let SignedParts { key, expires, content_type, signature } = parts;
                signer.verify_signature(key, *expires, content_type, signature, now).is_ok()
            })),
            queues: Arc::from([("events".to_owned(), queue)]),
            commands: Arc::new({
                let engines = engines.clone();
                move |edge| Some(engines.commands(edge) as Arc<dyn EventQueue>)
            }),
            keys: Arc::new(TenantKeyPair::generate().unwrap()),
            clock: Arc::new(now),
            password_changed: Arc::new({
                let changed = changed.clone();
                move |login| changed.lock().unwrap().push(login.clone())
            }),
            throttle: Arc::default(),
            renders: Arc::default(),
        };
        let api = Self { router: api::router(state.clone()), state, engines, changed, _dir: dir };
        for role in Role::ALL {
            api.add_account(role.as_str(), role, TenantId::default()).await;
        }
        // Every call of these tests is of this desk, unless it says otherwise.
        let desk = Group {
            name: GroupId::new("desk").unwrap(),
            managers: BTreeSet::from([UserId::new("supervisor").unwrap()]),
            members: Vec::new(),
            addresses: vec![owned("agent")],
        };
        api.state.accounts.put_group(&TenantId::default(), &desk).await.unwrap();
        api
    }

    /// Gives addresses to a user, for all times.
    pub async fn assign(&self, login: &str, addresses: &[&str]) {
        let login = UserId::new(login).unwrap();
        let held = self.state.accounts.account(&login).await.unwrap().unwrap();
        let addresses = addresses.iter().map(|address| owned(address)).collect();
        self.state.accounts.update_account(&Account { addresses, ..held }).await.unwrap();
    }

    pub async fn add_account(&self, login: &str, role: Role, tenant: TenantId) {
        let account = Account {
            login: UserId::new(login).unwrap(),
            tenant,
            role,
            password_hash: api::password::hash(PASSWORD.to_owned()).await.unwrap(),
            must_change_password: true,
            disabled: false,
            addresses: Vec::new(),
        };
        assert!(self.state.accounts.add_account(&account).await.unwrap());
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Asks with these headers and nothing else.
    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(method, path, headers, Body::empty())).await
    }

    pub async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: serde_json::Value,
    ) -> Answer {
        let mut headers = headers.to_vec();
        headers.push(("content-type", "application/json"));
        self.send(request(Method::POST, path, &headers, Body::from(body.to_string()))).await
    }

    /// `Authorization` of a user, signed in by token.
    pub async fn bearer(&self, login: &str) -> String {
        let body = serde_json::json!({"login": login, "password": PASSWORD, "token": true});
        let answer = self.post("/v1/session", &[], body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("set-cookie"), "");
        format!("Bearer {}", answer.json()["token"].as_str().unwrap())
    }

    /// Asks as this user.
    pub async fn get_as(&self, login: &str, path: &str) -> Answer {
        let bearer = self.bearer(login).await;
        self.ask(Method::GET, path, &[("authorization", &bearer)]).await
    }
}

pub fn request(method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

/// As a listener with TLS hands requests on.
pub fn over_https(mut request: Request<Body>) -> Request<Body> {
    request.extensions_mut().insert(Arrival { https: true, peer: None });
    request
}

/// An address that was somebody's always.
pub fn owned(address: &str) -> Assignment {
    Assignment { address: Address::new(address).unwrap(), term: Term::default() }
}

pub fn now() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    WallTime::from_unix_ms(since.as_millis() as i64)
}

/// `name=value` of a `Set-Cookie` header.
pub fn cookie_pair(answer: &Answer) -> String {
    answer.header(header::SET_COOKIE.as_str()).split(';').next().unwrap().to_owned()
}

/// A call that events tell of, one after the other.
pub struct Call {
    pub id: RecordingId,
    pub edge: EdgeId,
    pub journal: JournalId,
    pub tenant: TenantId,
    position: u64,
}

impl Call {
    /// A call in progress, with one metadata document, on its own edge.
    pub async fn started(api: &Api, n: u8, tenant: TenantId) -> Self {
        Self::started_of(api, n, tenant, "sip:agent@example.com").await
    }

    /// A call in progress in which this address takes part.
    pub async fn started_of(api: &Api, n: u8, tenant: TenantId, aor: &str) -> Self {
        let unix_ms = now().unix_ms() as u64 - 60_000 + u64::from(n) * 1_000;
        let session = SessionId::at(unix_ms, [n; 10]);
        let mut call = Self {
            id: session.first_recording(),
            edge: EdgeId::new(format!("edge-{n}")).unwrap(),
            journal: JournalId::at(unix_ms, [n; 10]),
            tenant,
            position: 0,
        };
        let (tenant, recording) = (call.tenant.clone(), call.id);
        let call_ids = vec![format!("call-{n}@sbc")];
        let flags = BTreeSet::new();
        call.tell(api, EventBody::Started { tenant, recording, session, call_ids, flags }).await;
        let party = |id: &str, name: &str, aor: &str| Party {
            id: id.to_owned(),
            name: Some(name.into()),
            aor: Some(aor.into()),
            number: None,
            role: None,
        };
        let facts = CallFacts {
            participants: vec![
                party("p1", "Eva Novák", "sip:+14155550100@example.com"),
                party("p2", &format!("Agent {n}"), aor),
            ],
            ..CallFacts::default()
        };
        let tenant = call.tenant.clone();
        let document = Some("<recording xmlns='urn:ietf:params:xml:ns:recording:1'/>".to_owned());
        let flags = BTreeSet::new();
        call.tell(api, EventBody::Metadata { tenant, recording, facts, flags, document }).await;
        call
    }

    pub async fn tell(&mut self, api: &Api, body: EventBody) {
        self.position += 1;
        let event = RecordingEvent {
            version: model::event::VERSION,
            edge: self.edge.clone(),
            journal: self.journal,
            epoch: 1,
            position: Position(self.position),
            at: now(),
            body,
        };
        api.state.index.apply(&event).await.unwrap();
    }

    /// Metadata says by which ids the call is known elsewhere.
    pub async fn known_as(&mut self, api: &Api, ids: &[&str]) {
        let (tenant, recording, flags) = (self.tenant.clone(), self.id, BTreeSet::new());
        let call_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let facts = CallFacts { call_ids, ..CallFacts::default() };
        let document = Some("<recording/>".to_owned());
        self.tell(api, EventBody::Metadata { tenant, recording, facts, flags, document }).await;
    }

    /// One more document, which only the packets object has.
    pub async fn large_document(&mut self, api: &Api) {
        let (tenant, recording, flags) = (self.tenant.clone(), self.id, BTreeSet::new());
        let (facts, document) = (CallFacts::default(), None);
        self.tell(api, EventBody::Metadata { tenant, recording, facts, flags, document }).await;
    }

    pub async fn ended(&mut self, api: &Api) {
        let (tenant, recording) = (self.tenant.clone(), self.id);
        let (reason, duration_ms, flags) = ("bye".to_owned(), 5_000, BTreeSet::new());
        self.tell(api, EventBody::Ended { tenant, recording, reason, duration_ms, flags }).await;
    }

    /// Puts outputs into the store and tells the index, as the finaliser does.
    pub async fn built(&mut self, api: &Api, audio: &'static [u8], peaks: &str) {
        let sealed_keys = self.store_packets(api).await;
        for (output, bytes) in [
            (Output::Webm, Bytes::from_static(audio)),
            (Output::Peaks, Bytes::from(peaks.to_owned())),
        ] {
            let key = ObjectKey::output(&self.tenant, self.id, 1, output);
            api.state.objects.put(&key, bytes, PutMode::IfAbsent).await.unwrap();
        }
        let through = Position(self.position);
        self.tell(api, EventBody::Stored { through }).await;
        let track = |label: &str| Track {
            label: label.to_owned(),
            participant: None,
            speakers: vec![],
            codec: "PCMU".to_owned(),
            packets_expected: 250,
            packets_received: 250,
            packets_lost: 0,
            duration_ms: 5_000,
            alignment: None,
        };
        let key_pressed = Mark {
            kind: MarkKind::Dtmf,
            from_ms: 1_000,
            to_ms: 1_100,
            track: Some(0),
            detail: Some("7".to_owned()),
        };
        let built = Finalized {
            generation: 1,
            through,
            complete: true,
            duration_ms: 5_000,
            tracks: vec![track("1"), track("2")],
            packets: Some(500),
            marks: vec![key_pressed],
            flags: BTreeSet::new(),
            sha256: "00".repeat(32),
            sealed_keys,
        };
        assert!(api.state.index.finalized(&self.tenant, self.id, built).await.unwrap());
    }

    /// The original: a second of two G.711 streams and a document too large for an event.
    /// Returns its sealed keys.
    async fn store_packets(&self, api: &Api) -> Vec<String> {
        let session = SessionId(self.id.0);
        let (mut sealer, key) = Sealer::new(session, &api.state.keys.public()).unwrap();
        let header = PacketsHeader { recording: self.id, session, journal: self.journal };
        let mut object = PacketsWriter::new(&header);
        let streams = [0, 1].map(|index| StreamInfo {
            index,
            label: Some((index + 1).to_string()),
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
            crypto: vec![],
        });
        let document = Document {
            received_wall_ms: 1_700_000_000_000,
            content_type: "application/rs-metadata".to_owned(),
            bytes: LARGE_DOCUMENT.as_bytes().to_vec(),
        };
        let packets = (0..50_u16).flat_map(|n| [(n, 0), (n, 1)]).map(|(n, stream)| Packet {
            stream,
            rtcp: false,
            arrival_boot_ns: 1_000_000_000 + u64::from(n) * 20_000_000,
            source: "192.0.2.1:5004".parse().unwrap(),
            datagram: rtp(n, stream),
        });
        let bodies = [
            segment::Body::Streams(streams.to_vec()),
            segment::Body::Metadata(document),
            segment::Body::Packets(packets.collect()),
        ];
        for (position, body) in (1..).map(Position).zip(bodies) {
            let bytes = sealer.seal(position, &body);
            let (kind, boot_ns) = (body.kind(), 2_000_000_000);
            assert!(object.push(&SessionRecord { kind, position, boot_ns, bytes }));
        }
        let key_of = ObjectKey::packets(&self.tenant, self.id);
        let object = Bytes::from(object.finish());
        api.state.objects.put(&key_of, object, PutMode::Replace).await.unwrap();
        vec![key.to_string()]
    }
}

/// Larger than what an event may carry would be; what matters is that the index has no text.
pub const LARGE_DOCUMENT: &str = "<recording>only in the packets object</recording>";

/// An RTP packet (RFC 3550 §5.1) of 20 ms: the first stream is loud, the second silent.
fn rtp(n: u16, stream: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend_from_slice(&n.to_be_bytes());
    packet.extend_from_slice(&(u32::from(n) * 160).to_be_bytes());
    packet.extend_from_slice(&(7 + u32::from(stream)).to_be_bytes());
    // In μ-law 0xFF is 0 and 0x80 the largest value.
    let sample = if stream == 0 { 0x80 } else { 0xFF };
    packet.resize(12 + 160, sample);
    packet
}
