//! Responses: those that open or change a session, and those that keep nothing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Instant;

use rand::RngExt;
use rsip::StatusCode;

use super::Srs;
use crate::event::{EndReason, Event, Refusal, SessionKey, Transport};
use crate::sdp::answer;
use crate::session::body::MetadataPart;
use crate::session::negotiation::{self, Offer};
use crate::session::{Answered, Arrival, Pending};
use crate::sip::address::SipUri;
use crate::sip::answer::UnackedAnswer;
use crate::sip::message::Message;
use crate::sip::request::Request;
use crate::sip::response::Response;
use crate::sip::timer::Terms;
use crate::sip::transaction::{Route, TransactionKey};
use crate::sip::via::Via;
use crate::stream::MediaAddress;

pub(super) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO, PRACK, MESSAGE";
pub(super) const SUPPORTED: &str = "timer, siprec";
pub(super) const ACCEPT: &str =
    "application/sdp, application/rs-metadata+xml, application/rs-metadata, multipart/mixed";

/// A response without a body of ours.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    pub reason: Option<&'static str>,
    pub headers: Vec<(&'static str, String)>,
}

impl Reply {
    pub fn new(status: StatusCode) -> Self {
        Self { status, reason: None, headers: Vec::new() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// 503: the SRC goes to the next recorder (RFC 3263 §4.3).
    pub fn unavailable(retry_after_secs: u32) -> Self {
        Self::new(StatusCode::ServiceUnavailable).with("Retry-After", retry_after_secs.to_string())
    }
}

/// A request with a 2xx on its way: where from, and which transaction.
pub(super) struct Asked<'a> {
    pub request: &'a Request,
    pub arrival: Arrival,
    pub key: TransactionKey,
}

/// The way back for a response to a request that came by `arrival` (RFC 3261 §18.2.2).
pub(super) fn response_route(arrival: &Arrival, via: &Via) -> Route {
    match arrival.route {
        Route::Datagram { local, peer } => {
            Route::Datagram { local, peer: via.response_address(peer) }
        }
        stream @ Route::Stream(_) => stream,
    }
}

impl Srs {
    /// Answers a request without keeping anything (RFC 3261 §8.2.7).
    pub(super) fn reply_stateless(
        &mut self,
        arrival: &Arrival,
        message: &Message,
        via: &Via,
        reply: Reply,
    ) {
        // The tag must be the same when the request comes again.
        let mut hasher = DefaultHasher::new();
        (self.tag_secret, message.header("call-id"), message.header("from"), via.branch())
            .hash(&mut hasher);
        let tag = format!("{:016x}", hasher.finish());
        let bytes = self.build(arrival, message, via, reply, &tag).into_bytes();
        self.send(response_route(arrival, via), bytes);
    }

    fn build(
        &self,
        arrival: &Arrival,
        message: &Message,
        via: &Via,
        reply: Reply,
        tag: &str,
    ) -> Response {
        let mut response = Response::new(message, via, arrival.peer, reply.status, Some(tag));
        if let Some(reason) = reply.reason {
            response = response.reason(reason);
        }
        for (name, value) in reply.headers {
            response = response.header(name, value);
        }
        response.header("Server", self.config.server.clone())
    }

    /// Answers a request of a session and remembers the answer.
    pub(super) fn reply(&mut self, now: Instant, key: SessionKey, asked: &Asked<'_>, reply: Reply) {
        let Some(session) = self.sessions.get(&key) else { return };
        let tag = session.state.dialog.local_tag.clone();
        let request = asked.request;
        let is_success = reply.status.code() < 300;
        let bytes =
            self.build(&asked.arrival, &request.message, &request.via, reply, &tag).into_bytes();
        if let Some(transaction) = self.transactions.get_mut(&asked.key) {
            transaction.answered(now, bytes.clone(), is_success);
        }
        self.schedule_transaction(&asked.key);
        self.send(response_route(&asked.arrival, &request.via), bytes);
    }

    /// Our Contact (RFC 7866 §6.2: with `+sip.srs`), at the address the peer sent to.
    pub(super) fn contact(&self, arrival: &Arrival, request_uri: &str) -> String {
        let host = match &self.config.advertised_host {
            Some(host) => host.clone(),
            None => match arrival.local.ip().to_canonical() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("[{ip}]"),
            },
        };
        let is_sips = SipUri::parse(request_uri).is_some_and(|uri| uri.secure);
        let scheme = if is_sips { "sips" } else { "sip" };
        let transport = match arrival.transport {
            Transport::Udp => "",
            // RFC 3261 §26.2.2: with `sips` the transport is TCP, secured.
            Transport::Tls if !is_sips => ";transport=tls",
            Transport::Tcp | Transport::Tls => ";transport=tcp",
        };
        format!("<{scheme}:linekeeper@{host}:{}{transport}>;+sip.srs", arrival.local.port())
    }

    pub(super) fn accept_pending(
        &mut self,
        now: Instant,
        key: SessionKey,
        media: &[Option<MediaAddress>],
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(pending) = session.pending.take() else { return };
        let local = pending.offer.usable_addresses(media);
        if let Some(refusal) = pending.offer.refusal(&local, pending.arrival.local.ip()) {
            let reply = Reply::new(refusal.status).with("Warning", refusal.warning);
            self.refuse_with(now, key, pending, reply);
            return;
        }
        let state = &mut session.state;
        let awaits_answer = matches!(pending.offer, Offer::Ours);
        let sdp = match pending.offer {
            Offer::Theirs(description) => {
                let draw = |key: &mut [u8]| self.rng.fill(key);
                let crypto = negotiation::own_crypto(&description, &state.crypto, draw);
                let mut sdp = answer::build(&description, &local, &crypto, &state.origin);
                if !state.local_sdp.is_empty() && sdp != state.local_sdp {
                    state.origin.version += 1;
                    sdp = answer::build(&description, &local, &crypto, &state.origin);
                }
                state.set_streams(negotiation::negotiated(&description, &local, &crypto));
                state.crypto = crypto;
                state.remote = description;
                self.events.push_back(Event::Media { key, streams: state.streams.clone() });
                sdp
            }
            Offer::Ours => {
                let addresses: Vec<_> = local.iter().copied().flatten().collect();
                answer::build_offer(&addresses, &state.origin)
            }
        };
        state.local = local;
        state.local_sdp.clone_from(&sdp);
        let asked = Asked { request: &pending.request, arrival: pending.arrival, key: pending.key };
        self.answer_ok(now, key, &asked, Some(sdp), pending.timer, awaits_answer);
        self.note_changes(key, pending.metadata);
    }

    /// The 200 to an INVITE or UPDATE.
    pub(super) fn answer_ok(
        &mut self,
        now: Instant,
        key: SessionKey,
        asked: &Asked<'_>,
        sdp: Option<Vec<u8>>,
        timer: Option<Terms>,
        awaits_answer: bool,
    ) {
        let request = asked.request;
        let is_invite = request.is(rsip::Method::Invite);
        let contact = self.contact(&asked.arrival, &request.uri);
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.state.timer = timer;
        session.refreshed = now;
        session.refresh_sent = false;
        let tag = session.state.dialog.local_tag.clone();
        let reply = Reply::new(StatusCode::OK)
            .with("Contact", contact)
            .with("Allow", ALLOW)
            .with("Supported", SUPPORTED);
        let mut response = self.build(&asked.arrival, &request.message, &request.via, reply, &tag);
        if is_invite {
            response = response.record_routes(&request.message).header("Accept", ACCEPT);
        }
        if let Some(terms) = timer {
            response = response.header("Session-Expires", terms.header());
            response = response.header("Require", "timer");
        }
        if let Some(sdp) = sdp {
            response = response.body("application/sdp", sdp);
        }
        let bytes = response.into_bytes();
        let route = response_route(&asked.arrival, &request.via);
        if let Some(session) = self.sessions.get_mut(&key) {
            let response_peer = match route {
                Route::Datagram { peer, .. } => peer,
                Route::Stream(_) => asked.arrival.peer,
            };
            session.remember(Answered {
                key: asked.key.clone(),
                is_invite,
                cseq: request.cseq,
                response: bytes.clone(),
                response_peer,
                acknowledged: !is_invite,
                awaits_answer,
            });
            if is_invite {
                session.unacked.push((request.cseq, UnackedAnswer::sent(now)));
            }
        }
        if let Some(transaction) = self.transactions.get_mut(&asked.key) {
            transaction.answered(now, bytes.clone(), true);
        }
        self.schedule_transaction(&asked.key);
        self.send(route, bytes);
    }

    /// Folds metadata, then reports first that the state changed and then what with.
    pub(super) fn note_changes(&mut self, key: SessionKey, metadata: Vec<MetadataPart>) {
        let reports = self.fold_metadata(key, metadata);
        self.events.push_back(Event::Changed { key });
        self.events.extend(reports);
    }

    pub(super) fn fold_metadata(
        &mut self,
        key: SessionKey,
        metadata: Vec<MetadataPart>,
    ) -> Vec<Event> {
        let Some(session) = self.sessions.get_mut(&key) else { return Vec::new() };
        let snapshot = &mut session.state.snapshot;
        let report = |part: MetadataPart| {
            let view = part.document.map(|document| {
                snapshot.fold(document);
                snapshot.clone()
            });
            Event::Metadata { key, document: part.bytes, content_type: part.content_type, view }
        };
        metadata.into_iter().map(report).collect()
    }

    pub(super) fn refuse_pending(&mut self, now: Instant, key: SessionKey, why: Refusal) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(pending) = session.pending.take() else { return };
        let own = pending.arrival.local.ip();
        let reply = match why {
            Refusal::Busy { retry_after_secs } => Reply::unavailable(retry_after_secs),
            Refusal::Forbidden => Reply::new(StatusCode::Forbidden),
            Refusal::NotAcceptable => {
                let why = negotiation::NotAcceptable::new(304, "Media type not available", own);
                Reply::new(why.status).with("Warning", why.warning)
            }
        };
        self.refuse_with(now, key, pending, reply);
    }

    fn refuse_with(&mut self, now: Instant, key: SessionKey, pending: Pending, reply: Reply) {
        let Pending { request, arrival, key: transaction, is_initial, metadata, .. } = pending;
        self.reply(now, key, &Asked { request: &request, arrival, key: transaction }, reply);
        if is_initial {
            self.end(key, EndReason::Refused);
        } else if !metadata.is_empty() {
            // The streams stay as they were; what was said about them is still true.
            self.note_changes(key, metadata);
        }
    }

    pub(super) fn say_trying(&mut self, key: SessionKey) {
        let Some(pending) = self.sessions.get(&key).and_then(|s| s.pending.as_ref()) else {
            return;
        };
        let Pending { request, arrival, .. } = pending;
        // RFC 3261 §8.2.6.1: an answer that carries no tag, and creates no dialog.
        let bytes =
            Response::new(&request.message, &request.via, arrival.peer, StatusCode::Trying, None)
                .into_bytes();
        let (route, transaction) = (response_route(arrival, &request.via), pending.key.clone());
        if let Some(transaction) = self.transactions.get_mut(&transaction) {
            transaction.provisional(bytes.clone());
        }
        self.send(route, bytes);
    }

    pub(super) fn repeat_answer(&mut self, key: SessionKey, cseq: u32) {
        let Some(session) = self.sessions.get(&key) else { return };
        let mut invites = session.state.answered.iter().filter(|answered| answered.is_invite);
        let Some(answered) = invites.find(|answered| answered.cseq == cseq) else { return };
        if let Some(route) = session.answer_route(answered) {
            let bytes = answered.response.clone();
            self.send(route, bytes);
        }
    }
}
