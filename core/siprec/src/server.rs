//! Every recording session on one address: routes messages to sessions and transactions.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::event::{
    Accepting, ConnId, Counts, EndReason, Event, Input, Refusal, SessionKey, Transmit, Transport,
};
use crate::session::{Arrival, DialogState, Due, Session};
use crate::sip::client::{self, ClientTransaction, Purpose};
use crate::sip::deadlines::Deadlines;
use crate::sip::digest::Nonces;
use crate::sip::framing::{Frame, Framer};
use crate::sip::message::{Message, StartLine};
use crate::sip::rate::Bucket;
use crate::sip::transaction::{self, Route, ServerTransaction, TransactionKey};
use crate::stream::{MediaAddress, NegotiatedStream};
use crate::trunk::Trunks;

mod admission;
mod answering;
mod in_dialog;
mod new_call;
mod own_requests;

/// A message that has begun to arrive on a connection must end within this time.
const PARTIAL_MESSAGE_TIMEOUT: Duration = Duration::from_secs(32);

/// On a new connection something must be said within this time.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(32);

/// Which INVITEs are taken for recording sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recognition {
    /// Only what RFC 7866 §6.2 allows: `siprec` option tag and `+sip.src`. Others get 421.
    Strict,
    /// Any sign of SIPREC: an option tag, a Contact parameter or a metadata part.
    StandardOrMetadata,
    /// Any INVITE: one real INVITE in six breaks the rule.
    #[default]
    AnyInvite,
}

/// Settings of an [`Srs`].
#[derive(Clone, Debug)]
pub struct SrsConfig {
    /// Product and version for the `Server` header (RFC 3261 §20.35).
    pub server: String,
    /// The host in our Contact when peers cannot use the address they sent to (behind NAT):
    /// a name, an IPv4 address or a bracketed IPv6 address.
    pub advertised_host: Option<String>,
    /// For peers that are no trunk, while there are none.
    pub recognition: Recognition,
    /// Who may record here; nobody else as soon as there is one.
    pub trunks: Trunks,
    /// Whether peers that are no trunk may record all the same.
    pub admit_strangers: bool,
    /// The realm of digest authentication.
    pub realm: String,
    /// The shortest session timer we take, and 422 below it (RFC 4028 §4: at least 90 s).
    pub min_session_expires: Duration,
    /// The session timer when the SRC supports timers and asks for none (RFC 4028 §4
    /// recommends 1800 s).
    pub session_expires: Duration,
    /// Head and body of one message on a stream; longer ones are answered 513.
    pub max_message_bytes: usize,
    /// Calls at the same time; more are answered 503.
    pub max_sessions: usize,
}

impl Default for SrsConfig {
    fn default() -> Self {
        Self {
            server: "Linekeeper".to_owned(),
            advertised_host: None,
            recognition: Recognition::default(),
            trunks: Trunks::default(),
            admit_strangers: false,
            realm: "linekeeper".to_owned(),
            min_session_expires: Duration::from_secs(90),
            session_expires: Duration::from_secs(1800),
            max_message_bytes: 256 * 1024,
            max_sessions: 10_000,
        }
    }
}

/// A Session Recording Server: all its dialogs and transactions, and what they wait for.
#[derive(Debug)]
pub struct Srs {
    config: SrsConfig,
    accepting: Accepting,
    /// Draws tags, branches and `o=` ids.
    rng: StdRng,
    /// For the tags of answers that are given without keeping anything.
    tag_secret: u64,
    connections: HashMap<ConnId, Connection>,
    sessions: HashMap<SessionKey, Session>,
    /// One Call-ID may have several dialogs.
    by_call_id: HashMap<String, Vec<SessionKey>>,
    /// How many sessions each trunk has.
    by_trunk: HashMap<Option<String>, usize>,
    /// Where sessions come from that answer to no trunk.
    orphans: HashSet<IpAddr>,
    /// New sessions by trunk.
    rates: HashMap<String, Bucket>,
    /// Answers to strangers.
    strangers: Option<Bucket>,
    nonces: Nonces,
    counts: Counts,
    next_key: u64,
    transactions: HashMap<TransactionKey, ServerTransaction>,
    /// Requests of our own, by branch.
    own_requests: HashMap<String, ClientTransaction>,
    deadlines: Deadlines<Timer>,
    events: VecDeque<Event>,
    transmits: VecDeque<Transmit>,
}

#[derive(Debug)]
struct Connection {
    framer: Framer,
    transport: Transport,
    local: SocketAddr,
    peer: SocketAddr,
    /// What its client certificate is called.
    tls_names: Vec<String>,
    /// The trunk whose password came over it.
    proved: Option<String>,
    /// A message or a ping came over it.
    heard: bool,
    /// When a message that has begun, or the first one, must be complete.
    partial_until: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Timer {
    Connection(ConnId),
    Session(SessionKey),
    Transaction(TransactionKey),
    OwnRequest(String),
}

impl Srs {
    /// `seed` must be unpredictable: dialog tags are drawn from it (RFC 3261 §19.3).
    pub fn new(config: SrsConfig, seed: [u8; 32]) -> Self {
        let mut rng = StdRng::from_seed(seed);
        let mut nonce_secret = [0; 32];
        rng.fill(&mut nonce_secret);
        Self {
            config,
            accepting: Accepting::Yes,
            tag_secret: rng.random(),
            rng,
            connections: HashMap::new(),
            sessions: HashMap::new(),
            by_call_id: HashMap::new(),
            by_trunk: HashMap::new(),
            orphans: HashSet::new(),
            rates: HashMap::new(),
            strangers: None,
            nonces: Nonces::new(nonce_secret),
            counts: Counts::default(),
            next_key: 0,
            transactions: HashMap::new(),
            own_requests: HashMap::new(),
            deadlines: Deadlines::default(),
            events: VecDeque::new(),
            transmits: VecDeque::new(),
        }
    }

    /// Takes one input. Drain [`Self::poll_event`] and [`Self::poll_transmit`] after it.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        match input {
            Input::Datagram { local, peer, bytes } => {
                // Not even read: a flood of strangers must cost next to nothing.
                if self.is_stranger(peer.ip()) {
                    return self.ignore_datagram();
                }
                let route = Route::Datagram { local, peer };
                let arrival = Arrival { route, transport: Transport::Udp, local, peer };
                match Message::from_datagram(bytes) {
                    Some(message) => self.on_message(now, arrival, message),
                    None if bytes.trim_ascii().is_empty() => {}
                    None => self.counts.unreadable += 1,
                }
            }
            Input::Connected { conn, transport, local, peer } => {
                let framer = Framer::new(self.config.max_message_bytes);
                let partial_until = Some(now + FIRST_MESSAGE_TIMEOUT);
                let connection = Connection {
                    framer,
                    transport,
                    local,
                    peer,
                    tls_names: Vec::new(),
                    proved: None,
                    heard: false,
                    partial_until,
                };
                self.connections.insert(conn, connection);
                self.deadlines.set(&Timer::Connection(conn), partial_until);
            }
            Input::Certificate { conn, names } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.tls_names = names.to_vec();
                }
            }
            Input::Stream { conn, bytes } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.framer.push(bytes);
                    self.read_frames(now, conn);
                }
            }
            Input::Disconnected { conn } => self.forget_connection(conn),
        }
    }

    /// Does what is due at `now`. Drain the outputs after it.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.deadlines.pop_due(now) {
            match timer {
                Timer::Connection(conn) => self.give_up_partial_message(now, conn),
                Timer::Session(key) => self.session_timeout(now, key),
                Timer::Transaction(key) => self.transaction_timeout(now, key),
                Timer::OwnRequest(branch) => self.own_request_timeout(now, branch),
            }
        }
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.earliest()
    }

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Answers [`Event::Offered`] or [`Event::Reoffered`].
    ///
    /// `media` has one entry per stream of the offer; `None`, or a missing entry, refuses
    /// that stream with port 0. If nothing that was offered is taken, the answer is 488.
    pub fn accept(&mut self, now: Instant, key: SessionKey, media: &[Option<MediaAddress>]) {
        self.accept_pending(now, key, media);
        self.schedule_session(key);
    }

    /// Refuses [`Event::Offered`] (the session ends) or [`Event::Reoffered`] (it goes on as
    /// before).
    pub fn refuse(&mut self, now: Instant, key: SessionKey, why: Refusal) {
        self.refuse_pending(now, key, why);
        self.schedule_session(key);
    }

    /// Ends a session from our side: BYE, then [`Event::Ended`] without waiting for the
    /// response. A call that is not answered yet is refused instead.
    pub fn hang_up(&mut self, now: Instant, key: SessionKey) {
        match self.sessions.get(&key) {
            Some(session) if session.is_live() => {
                self.say_bye(now, key);
                self.end(key, EndReason::HungUp);
            }
            Some(_) => self.refuse(now, key, Refusal::Busy { retry_after_secs: 0 }),
            None => {}
        }
    }

    /// Asks the SRC whether the session still exists, with an OPTIONS in the dialog.
    ///
    /// For when no packet has come for a long time. 481 ends the session; no answer is reported
    /// as [`Event::ProbeUnanswered`]. False when there is no way to ask: the SRC's connection is
    /// gone, and it has not made another.
    pub fn probe(&mut self, now: Instant, key: SessionKey) -> bool {
        self.send_own_request(now, key, Purpose::Probe)
    }

    /// Ends a session whose SRC neither sends nor answers, with a BYE if there is a way to send
    /// one (RFC 3261 §12.2.1.2).
    pub fn give_up(&mut self, now: Instant, key: SessionKey) {
        if self.sessions.get(&key).is_some_and(|session| session.is_live()) {
            self.say_bye(now, key);
            self.end(key, EndReason::Gone);
        }
    }

    /// Asks the SRC for complete metadata (RFC 7866 §9.2), if it takes UPDATE. It answers
    /// with a document of its own accord, or not at all; the session goes on either way.
    pub fn request_snapshot(&mut self, now: Instant, key: SessionKey) {
        self.send_own_request(now, key, Purpose::Snapshot);
    }

    /// Whether new calls are taken from now on.
    pub fn set_accepting(&mut self, accepting: Accepting) {
        self.accepting = accepting;
    }

    /// What to write down so that the session survives a restart. `None` until accepted.
    pub fn dialog_state(&self, key: SessionKey) -> Option<DialogState> {
        self.sessions.get(&key).filter(|session| session.is_live()).map(|s| s.state.clone())
    }

    /// The streams of a session as last negotiated, in order of m-lines.
    pub fn streams(&self, key: SessionKey) -> Option<&[NegotiatedStream]> {
        self.sessions.get(&key).map(|session| session.state.streams.as_slice())
    }

    /// Where the SRC's signaling comes from.
    pub fn peer(&self, key: SessionKey) -> Option<SocketAddr> {
        self.sessions.get(&key).map(|session| session.state.dialog.peer)
    }

    /// Takes up a dialog of an earlier process. Emits no event.
    ///
    /// Over TCP and TLS the SRC is expected to connect again; until it does, nothing can be
    /// sent to it. The session timer starts anew, so that the time we were down does not
    /// count against the SRC.
    pub fn restore(&mut self, now: Instant, state: DialogState) -> SessionKey {
        let key = self.new_key();
        for answered in &state.answered {
            let route = Route::Datagram { local: state.dialog.local, peer: answered.response_peer };
            let response = answered.response.clone();
            let transaction =
                ServerTransaction::restored(now, key, route, answered.is_invite, response);
            self.transactions.insert(answered.key.clone(), transaction);
            self.schedule_transaction(&answered.key);
        }
        if self.is_orphan(state.trunk.as_deref()) {
            self.orphans.insert(state.dialog.peer.ip().to_canonical());
        }
        self.insert_session(key, Session::restored(now, state));
        self.schedule_session(key);
        key
    }

    /// The sessions that are waiting for an answer or live.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    fn read_frames(&mut self, now: Instant, conn: ConnId) {
        let mut progress = false;
        loop {
            let Some(connection) = self.connections.get_mut(&conn) else { return };
            let Some(frame) = connection.framer.next_frame() else { break };
            progress = true;
            self.on_frame(now, conn, frame);
        }
        self.watch_partial_message(now, conn, progress);
    }

    fn on_frame(&mut self, now: Instant, conn: ConnId, frame: Frame) {
        let Some(connection) = self.connections.get(&conn) else { return };
        let Connection { transport, local, peer, .. } = *connection;
        let is_stranger = self.is_stranger(peer.ip());
        match frame {
            Frame::Message(message) => {
                let arrival = Arrival { route: Route::Stream(conn), transport, local, peer };
                if is_stranger {
                    self.turn_away(now, &arrival, message);
                } else {
                    self.on_message(now, arrival, message);
                }
            }
            Frame::Ping => {
                self.transmits.push_back(Transmit::Stream { conn, bytes: b"\r\n".to_vec() });
            }
            Frame::Lost => {
                self.counts.unreadable += 1;
                self.close(conn);
            }
        }
    }

    fn close(&mut self, conn: ConnId) {
        self.transmits.push_back(Transmit::Close { conn });
        self.forget_connection(conn);
    }

    /// A message that trickles in for ever must not keep its buffer.
    fn watch_partial_message(&mut self, now: Instant, conn: ConnId, progress: bool) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.heard |= progress;
        connection.partial_until = match connection.partial_until {
            _ if !connection.framer.is_partial() && connection.heard => None,
            Some(until) if !progress => Some(until),
            _ => Some(now + PARTIAL_MESSAGE_TIMEOUT),
        };
        self.deadlines.set(&Timer::Connection(conn), connection.partial_until);
    }

    fn give_up_partial_message(&mut self, now: Instant, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        connection.partial_until = None;
        let frame = connection.framer.give_up();
        self.on_frame(now, conn, frame);
        self.read_frames(now, conn);
    }

    fn forget_connection(&mut self, conn: ConnId) {
        self.connections.remove(&conn);
        self.deadlines.set(&Timer::Connection(conn), None);
        for session in self.sessions.values_mut().filter(|s| s.conn == Some(conn)) {
            session.conn = None;
        }
    }

    fn on_message(&mut self, now: Instant, arrival: Arrival, message: Message) {
        match message.start {
            StartLine::Request { .. } => self.on_request(now, arrival, message),
            StartLine::Response { status } => self.on_response(now, status, &message),
        }
    }

    fn session_timeout(&mut self, now: Instant, key: SessionKey) {
        while let Some(session) = self.sessions.get_mut(&key) {
            match session.handle_timeout(now) {
                Some(Due::Trying) => self.say_trying(key),
                Some(Due::SendAgain(cseq)) => self.repeat_answer(key, cseq),
                Some(Due::Refresh) => {
                    self.send_own_request(now, key, Purpose::Refresh);
                }
                Some(Due::NoAck) => {
                    self.say_bye(now, key);
                    self.end(key, EndReason::NoAck);
                }
                Some(Due::Expired) => {
                    self.say_bye(now, key);
                    self.end(key, EndReason::Timeout);
                }
                None => break,
            }
        }
        self.schedule_session(key);
    }

    fn transaction_timeout(&mut self, now: Instant, key: TransactionKey) {
        let Some(transaction) = self.transactions.get_mut(&key) else { return };
        match transaction.handle_timeout(now) {
            transaction::Due::Nothing => {}
            transaction::Due::SendAgain => {
                let route = transaction.route;
                let bytes = transaction.retransmitted().map(<[u8]>::to_vec);
                if let Some(bytes) = bytes {
                    self.send(route, bytes);
                }
            }
            transaction::Due::Forget => {
                self.transactions.remove(&key);
            }
        }
        self.schedule_transaction(&key);
    }

    fn own_request_timeout(&mut self, now: Instant, branch: String) {
        let Some(request) = self.own_requests.get_mut(&branch) else { return };
        match request.handle_timeout(now) {
            client::Due::Nothing => {}
            client::Due::SendAgain => {
                let (route, bytes) = (request.route, request.bytes.clone());
                self.send(route, bytes);
            }
            client::Due::TimedOut => self.own_request_done(now, &branch, None),
        }
        self.schedule_own_request(&branch);
    }

    fn schedule_session(&mut self, key: SessionKey) {
        let at = self.sessions.get(&key).and_then(Session::poll_timeout);
        self.deadlines.set(&Timer::Session(key), at);
    }

    fn schedule_transaction(&mut self, key: &TransactionKey) {
        let at = self.transactions.get(key).and_then(ServerTransaction::poll_timeout);
        self.deadlines.set(&Timer::Transaction(key.clone()), at);
    }

    fn schedule_own_request(&mut self, branch: &str) {
        let at = self.own_requests.get(branch).map(ClientTransaction::poll_timeout);
        self.deadlines.set(&Timer::OwnRequest(branch.to_owned()), at);
    }

    fn new_key(&mut self) -> SessionKey {
        self.next_key += 1;
        SessionKey(self.next_key)
    }

    fn insert_session(&mut self, key: SessionKey, session: Session) {
        let call_id = session.state.dialog.call_id.clone();
        *self.by_trunk.entry(session.state.trunk.clone()).or_default() += 1;
        self.by_call_id.entry(call_id).or_default().push(key);
        self.sessions.insert(key, session);
    }

    /// Reports the end of a session and forgets it. Its transactions answer for a while yet.
    fn end(&mut self, key: SessionKey, reason: EndReason) {
        let Some(session) = self.sessions.remove(&key) else { return };
        let call_id = &session.state.dialog.call_id;
        if let Some(keys) = self.by_call_id.get_mut(call_id) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.by_call_id.remove(call_id);
            }
        }
        if let Some(count) = self.by_trunk.get_mut(&session.state.trunk) {
            *count = count.saturating_sub(1);
        }
        self.deadlines.set(&Timer::Session(key), None);
        self.events.push_back(Event::Ended { key, reason });
    }

    fn send(&mut self, route: Route, bytes: Vec<u8>) {
        match route {
            Route::Datagram { local, peer } => {
                self.transmits.push_back(Transmit::Datagram { local, peer, bytes });
            }
            // A connection that is gone takes what was meant for it along.
            Route::Stream(conn) if self.connections.contains_key(&conn) => {
                self.transmits.push_back(Transmit::Stream { conn, bytes });
            }
            Route::Stream(_) => {}
        }
    }

    fn random_token(&mut self) -> String {
        format!("{:016x}", self.random_number())
    }
}
