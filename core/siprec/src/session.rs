//! One recording session: what is agreed, what waits for the shell, what waits for the SRC.
//!
//! The rules for its requests are in [`crate::server`], which also owns the transactions.

use std::net::SocketAddr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::event::{ConnId, Transport};
use crate::metadata::{Snapshot, headers};
use crate::sdp::{Crypto, Origin, SessionDescription};
use crate::sip::answer::UnackedAnswer;
use crate::sip::dialog::Dialog;
use crate::sip::request::Request;
use crate::sip::timer::Terms;
use crate::sip::transaction::{Route, TransactionKey};
use crate::stream::NegotiatedStream;

pub(crate) mod body;
pub(crate) mod negotiation;

use body::MetadataPart;
use negotiation::Offer;

/// Everything needed to go on with a session after a restart. Opaque but for what can be
/// asked; meant to be written down as it is.
#[derive(Clone, Serialize, Deserialize)]
pub struct DialogState {
    pub(crate) dialog: Dialog,
    pub(crate) origin: Origin,
    /// What the SRC said last: its offer, or its answer to ours.
    pub(crate) remote: SessionDescription,
    /// What we said last.
    pub(crate) local_sdp: Vec<u8>,
    /// Where we listen, one entry per m-line.
    pub(crate) local: Vec<Option<SocketAddr>>,
    /// Our own keys, one entry per m-line.
    #[serde(default)]
    pub(crate) crypto: Vec<Option<Crypto>>,
    pub(crate) streams: Vec<NegotiatedStream>,
    pub(crate) snapshot: Snapshot,
    pub(crate) timer: Option<Terms>,
    /// The SRC takes UPDATE.
    pub(crate) allows_update: bool,
    /// Headers told who is heard where, by number of m-line: those without label have one then.
    #[serde(default)]
    pub(crate) labels_implied: bool,
    /// The trunk that may change and end it.
    #[serde(default)]
    pub(crate) trunk: Option<String>,
    /// The last INVITE and the last UPDATE, for when they come again.
    pub(crate) answered: Vec<Answered>,
}

/// A request that we answered with 2xx.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Answered {
    pub key: TransactionKey,
    pub is_invite: bool,
    pub cseq: u32,
    pub response: Vec<u8>,
    /// Where the response goes over UDP.
    pub response_peer: SocketAddr,
    pub acknowledged: bool,
    /// The response has our offer, the ACK will have the answer.
    pub awaits_answer: bool,
}

/// The response has our SRTP keys in it.
impl std::fmt::Debug for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answered")
            .field("cseq", &self.cseq)
            .field("is_invite", &self.is_invite)
            .field("acknowledged", &self.acknowledged)
            .field("awaits_answer", &self.awaits_answer)
            .finish_non_exhaustive()
    }
}

impl DialogState {
    pub fn call_id(&self) -> &str {
        &self.dialog.call_id
    }

    pub(crate) fn set_streams(&mut self, mut streams: Vec<NegotiatedStream>) {
        if self.labels_implied {
            for stream in &mut streams {
                stream.label.get_or_insert_with(|| headers::implied_label(stream.index));
            }
        }
        self.streams = streams;
    }

    /// The streams as last negotiated, in order of m-lines: the ports to open again.
    pub fn streams(&self) -> &[NegotiatedStream] {
        &self.streams
    }

    /// The trunk that it came from.
    pub fn trunk(&self) -> Option<&str> {
        self.trunk.as_deref()
    }

    /// The metadata so far.
    pub fn metadata(&self) -> &Snapshot {
        &self.snapshot
    }
}

/// Prints nothing that identifies a person.
impl std::fmt::Debug for DialogState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DialogState")
            .field("call_id", &self.dialog.call_id)
            .field("streams", &self.streams.len())
            .field("timer", &self.timer)
            .finish_non_exhaustive()
    }
}

/// Where a request came from and its response goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub route: Route,
    pub transport: Transport,
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

/// A request that waits for the shell to accept or refuse.
#[derive(Debug)]
pub(crate) struct Pending {
    pub request: Request,
    pub arrival: Arrival,
    pub key: TransactionKey,
    pub offer: Offer,
    pub metadata: Vec<MetadataPart>,
    pub timer: Option<Terms>,
    /// The INVITE of a new call.
    pub is_initial: bool,
    /// When to say 100, unless that was said or is not called for.
    pub trying_at: Option<Instant>,
}

/// A session from its INVITE to its end.
#[derive(Debug)]
pub(crate) struct Session {
    pub state: DialogState,
    /// The connection its requests come over, while that is open.
    pub conn: Option<ConnId>,
    pub pending: Option<Pending>,
    /// Our answers that were not acknowledged, by CSeq.
    pub unacked: Vec<(u32, UnackedAnswer)>,
    /// When the session timer was last started.
    pub refreshed: Instant,
    /// We have asked for a refresh since.
    pub refresh_sent: bool,
}

/// What a session wants when its time has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Say 100.
    Trying,
    /// The answer with this CSeq again.
    SendAgain(u32),
    /// Nobody acknowledged our answer.
    NoAck,
    /// Nobody refreshed the session.
    Expired,
    /// It is on us to refresh.
    Refresh,
}

impl Session {
    /// Takes up a session of an earlier process.
    pub fn restored(now: Instant, state: DialogState) -> Self {
        let unacked = state
            .answered
            .iter()
            .filter(|answered| answered.is_invite && !answered.acknowledged)
            .map(|answered| (answered.cseq, UnackedAnswer::sent(now)))
            .collect();
        Self { state, conn: None, pending: None, unacked, refreshed: now, refresh_sent: false }
    }

    /// Whether our 2xx made it a session.
    pub fn is_live(&self) -> bool {
        !self.state.answered.is_empty()
    }

    /// Our offer is with the SRC.
    pub fn awaits_answer(&self) -> bool {
        self.state.answered.iter().any(|answered| answered.awaits_answer)
    }

    /// How to reach the SRC with a response of ours to be repeated.
    pub fn answer_route(&self, answered: &Answered) -> Option<Route> {
        match self.state.dialog.transport {
            Transport::Udp => Some(Route::Datagram {
                local: self.state.dialog.local,
                peer: answered.response_peer,
            }),
            Transport::Tcp | Transport::Tls => self.conn.map(Route::Stream),
        }
    }

    /// How to reach the SRC with a request. `None` while it is not connected.
    pub fn request_route(&self) -> Option<Route> {
        match self.state.dialog.transport {
            Transport::Udp => Some(Route::Datagram {
                local: self.state.dialog.local,
                peer: self.state.dialog.next_hop(),
            }),
            Transport::Tcp | Transport::Tls => self.conn.map(Route::Stream),
        }
    }

    /// The peer was heard on this path; what we send next goes back on it.
    pub fn heard_on(&mut self, arrival: &Arrival) {
        self.state.dialog.transport = arrival.transport;
        self.state.dialog.local = arrival.local;
        self.state.dialog.peer = arrival.peer;
        self.conn = match arrival.route {
            Route::Stream(conn) => Some(conn),
            Route::Datagram { .. } => None,
        };
    }

    /// Keeps the newest answer to an INVITE and to another request, and those INVITEs that
    /// still wait for their ACK.
    pub fn remember(&mut self, answered: Answered) {
        let is_invite = answered.is_invite;
        self.state.answered.retain(|old| {
            old.is_invite != is_invite || (is_invite && !old.acknowledged && !old.awaits_answer)
        });
        self.state.answered.push(answered);
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let trying = self.pending.as_ref().and_then(|pending| pending.trying_at);
        let unacked = self.unacked.iter().map(|(_, answer)| answer.poll_timeout());
        unacked.chain(trying).chain(self.expiry()).chain(self.refresh()).min()
    }

    fn expiry(&self) -> Option<Instant> {
        Some(self.state.timer?.expiry(self.refreshed))
    }

    fn refresh(&self) -> Option<Instant> {
        self.state.timer?.refresh(self.refreshed).filter(|_| !self.refresh_sent)
    }

    /// One thing that is due, and notes that it is done.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Due> {
        use crate::sip::answer::Action;
        for (cseq, answer) in &mut self.unacked {
            match answer.handle_timeout(now) {
                Some(Action::SendAgain) => return Some(Due::SendAgain(*cseq)),
                Some(Action::GiveUp) => return Some(Due::NoAck),
                None => {}
            }
        }
        if self.expiry().is_some_and(|at| now >= at) {
            return Some(Due::Expired);
        }
        if self.refresh().is_some_and(|at| now >= at) {
            self.refresh_sent = true;
            return Some(Due::Refresh);
        }
        let pending = self.pending.as_mut()?;
        if pending.trying_at.is_some_and(|at| now >= at) {
            pending.trying_at = None;
            return Some(Due::Trying);
        }
        None
    }
}
