//! Routes requests, and answers those inside a dialog.

use std::time::Instant;

use rsip::{Method, StatusCode};

use super::Srs;
use super::answering::{ACCEPT, ALLOW, Asked, Reply, SUPPORTED};
use super::new_call::{check_extensions, read_body, read_offer};
use crate::event::{EndReason, Event, SessionKey};
use crate::sdp::offer;
use crate::session::body::Body;
use crate::session::negotiation::{self, Offer};
use crate::session::{Arrival, DialogState, Pending};
use crate::sip::message::{Message, Method as AnyMethod};
use crate::sip::request::{Refusal, Request, Unusable};
use crate::sip::transaction::{ServerTransaction, TransactionKey};

/// An honest SRC has one INVITE at a time; each that is not acknowledged keeps an answer.
const MAX_UNACKED: usize = 4;

impl Srs {
    pub(super) fn on_request(&mut self, now: Instant, arrival: Arrival, message: Message) {
        let request = match Request::read(message) {
            Ok(request) => request,
            Err(Unusable::Answer(refusal)) => {
                let Refusal { via, message, status, reason } = *refusal;
                let reply = Reply { reason: Some(reason), ..Reply::new(status) };
                let reply = if reply.status == StatusCode::NotImplemented {
                    reply.with("Allow", ALLOW)
                } else {
                    reply
                };
                return self.reply_stateless(&arrival, &message, &via, reply);
            }
            Err(Unusable::Ignore) => {
                self.counts.unreadable += 1;
                return;
            }
        };
        let key = TransactionKey::of(&request);
        if request.is(Method::Ack) {
            self.on_ack(now, &arrival, &request, &key);
        } else if let Some(transaction) = self.transactions.get(&key) {
            let session = transaction.session;
            if let Some(bytes) = transaction.retransmitted().map(<[u8]>::to_vec) {
                self.send(super::answering::response_route(&arrival, &request.via), bytes);
            }
            if self.may_concern(&arrival, session) {
                self.heard(session, &arrival);
            }
        } else if request.is(Method::Cancel) {
            self.on_cancel(now, arrival, &request);
        } else if request.to_tag().is_none() {
            if let Some(admitted) = self.admit(now, &arrival, &request) {
                self.out_of_dialog(now, arrival, request, key, admitted);
            }
        } else if let Some(session) = self.find_dialog(&request) {
            if self.admit_in_dialog(now, &arrival, &request, session) {
                self.in_dialog(now, session, arrival, request, key);
                self.schedule_session(session);
            }
        } else if self.admit(now, &arrival, &request).is_some() {
            let reply = Reply::new(StatusCode::CallTransactionDoesNotExist);
            self.reply_stateless(&arrival, &request.message, &request.via, reply);
        }
    }

    fn find_dialog(&self, request: &Request) -> Option<SessionKey> {
        let keys = self.by_call_id.get(&request.call_id)?;
        let is_its = |key: &&SessionKey| {
            self.sessions.get(key).is_some_and(|session| session.state.dialog.matches(request))
        };
        keys.iter().find(is_its).copied()
    }

    fn heard(&mut self, key: SessionKey, arrival: &Arrival) {
        if let Some(session) = self.sessions.get_mut(&key) {
            session.heard_on(arrival);
        }
    }

    fn on_ack(&mut self, now: Instant, arrival: &Arrival, ack: &Request, invite: &TransactionKey) {
        if let Some(transaction) = self.transactions.get_mut(invite) {
            transaction.acknowledged(now);
            self.schedule_transaction(invite);
        }
        let dialog = self.find_dialog(ack).filter(|key| self.may_concern(arrival, *key));
        let Some(key) = dialog else { return };
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.unacked.retain(|(cseq, _)| *cseq != ack.cseq);
        let mut invites = session.state.answered.iter_mut().filter(|answered| answered.is_invite);
        let Some(answered) = invites.find(|a| a.cseq == ack.cseq && !a.acknowledged) else {
            return;
        };
        answered.acknowledged = true;
        let awaited_answer = std::mem::take(&mut answered.awaits_answer);
        let is_first = session.state.dialog.made_by(ack.cseq);
        session.heard_on(arrival);
        let body = Body::read(&ack.message);
        if awaited_answer {
            let answer = body.sdp.as_deref().and_then(|sdp| offer::parse(sdp).ok());
            let state = &mut session.state;
            let streams = match answer {
                Some(answer) => {
                    let streams = negotiation::negotiated(&answer, &state.local, &state.crypto);
                    state.remote = answer;
                    streams
                }
                None => negotiation::unanswered(&state.local_sdp, &state.local),
            };
            state.set_streams(streams);
            self.events.push_back(Event::Media { key, streams: state.streams.clone() });
        }
        if is_first {
            self.events.push_back(Event::Established { key });
        }
        self.note_changes(key, body.metadata);
        self.schedule_session(key);
    }

    /// RFC 3261 §9.2.
    fn on_cancel(&mut self, now: Instant, arrival: Arrival, cancel: &Request) {
        let invite = TransactionKey::cancelled_by(cancel);
        let Some(transaction) = self.transactions.get(&invite) else {
            let reply = Reply::new(StatusCode::CallTransactionDoesNotExist);
            return self.reply_stateless(&arrival, &cancel.message, &cancel.via, reply);
        };
        let (key, is_waiting) = (transaction.session, transaction.is_waiting());
        if !self.may_concern(&arrival, key) {
            self.counts.foreign += 1;
            return;
        }
        let asked = Asked { request: cancel, arrival, key: TransactionKey::of(cancel) };
        if self.sessions.contains_key(&key) {
            self.reply(now, key, &asked, Reply::new(StatusCode::OK));
        } else {
            let reply = Reply::new(StatusCode::OK);
            self.reply_stateless(&arrival, &cancel.message, &cancel.via, reply);
        }
        // Once answered, an INVITE cannot be cancelled; the SRC will ACK it and say BYE.
        if is_waiting {
            self.terminate_pending(now, key, EndReason::Cancelled);
        }
    }

    /// Answers what waits for the shell with 487; a call that is not yet one ends with it.
    fn terminate_pending(&mut self, now: Instant, key: SessionKey, reason: EndReason) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let Some(Pending { request, arrival, key: transaction, is_initial, .. }) =
            session.pending.take()
        else {
            return;
        };
        let asked = Asked { request: &request, arrival, key: transaction };
        self.reply(now, key, &asked, Reply::new(StatusCode::RequestTerminated));
        if is_initial {
            self.end(key, reason);
        } else {
            self.schedule_session(key);
        }
    }

    fn in_dialog(
        &mut self,
        now: Instant,
        key: SessionKey,
        arrival: Arrival,
        request: Request,
        transaction: TransactionKey,
    ) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.heard_on(&arrival);
        if !session.state.dialog.take_cseq(&request) {
            // RFC 3261 §12.2.2: out of order, and no retransmission that we know.
            let reply = Reply::new(StatusCode::ServerInternalError);
            return self.reply_stateless(&arrival, &request.message, &request.via, reply);
        }
        let route = super::answering::response_route(&arrival, &request.via);
        let entry = ServerTransaction::new(&request, key, route);
        self.transactions.insert(transaction.clone(), entry);
        let asked = Asked { request: &request, arrival, key: transaction };
        let reply = match &request.method {
            AnyMethod::Known(Method::Invite | Method::Update) => {
                match self.check_change(key, &request) {
                    Ok(pending) => return self.change(now, key, asked, pending),
                    Err(reply) => reply,
                }
            }
            AnyMethod::Known(Method::Bye) => return self.on_bye(now, key, &asked),
            AnyMethod::Known(Method::Info | Method::Message) => self.on_info(key, &request),
            AnyMethod::Known(Method::Options) => Reply::new(StatusCode::OK)
                .with("Contact", self.contact(&arrival, &request.uri))
                .with("Allow", ALLOW)
                .with("Accept", ACCEPT)
                .with("Supported", SUPPORTED),
            // We send no reliable provisional response, so there is none to acknowledge; a
            // peer that believes otherwise is better off with a 200 (RFC 3262 §3).
            AnyMethod::Known(Method::PRack) => Reply::new(StatusCode::OK),
            AnyMethod::Known(_) => Reply::new(StatusCode::MethodNotAllowed).with("Allow", ALLOW),
            AnyMethod::Other(_) => Reply::new(StatusCode::NotImplemented).with("Allow", ALLOW),
        };
        self.reply(now, key, &asked, reply);
    }

    /// Whether a re-INVITE or UPDATE can be processed now (RFC 3261 §14.2, RFC 3311 §5.2).
    fn check_change(&mut self, key: SessionKey, request: &Request) -> Result<Change, Reply> {
        let retry_after_secs = self.random_number() % 11;
        let Some(session) = self.sessions.get_mut(&key) else {
            return Err(Reply::new(StatusCode::CallTransactionDoesNotExist));
        };
        if session.pending.is_some() || session.unacked.len() >= MAX_UNACKED {
            let reply = Reply::new(StatusCode::ServerInternalError);
            return Err(reply.with("Retry-After", retry_after_secs.to_string()));
        }
        let body = read_body(&request.message)?;
        if session.awaits_answer() && (body.sdp.is_some() || request.is(Method::Invite)) {
            return Err(Reply::new(StatusCode::RequestPending));
        }
        check_extensions(&request.message)?;
        if request.message.header("allow").is_some() {
            session.state.allows_update = request.message.has_option("allow", "UPDATE");
        }
        let timer = self.negotiate_timer(&request.message)?;
        Ok(Change { body, timer })
    }

    fn change(&mut self, now: Instant, key: SessionKey, asked: Asked<'_>, change: Change) {
        let Change { body, timer } = change;
        let request = asked.request;
        let offer = match read_offer(&asked.arrival, &body) {
            Ok(offer) => offer,
            Err(reply) => return self.reply(now, key, &asked, reply),
        };
        let Some(session) = self.sessions.get_mut(&key) else { return };
        session.state.dialog.refresh_target(request);
        // A re-INVITE without metadata leaves it as it was; Cisco's has it in headers again.
        let by_headers = session.state.labels_implied && request.is(Method::Invite);
        let metadata =
            if by_headers { body.metadata_or_headers(&request.message) } else { body.metadata };
        match offer {
            Offer::Theirs(_) => {
                let pending = Pending {
                    request: request.clone(),
                    arrival: asked.arrival,
                    key: asked.key,
                    offer,
                    metadata,
                    timer,
                    is_initial: false,
                    trying_at: None,
                };
                return self.offer_again(now, key, pending);
            }
            Offer::Ours if request.is(Method::Invite) => {
                let state = &mut session.state;
                let offer = |state: &DialogState| {
                    let DialogState { remote, local, crypto, origin, .. } = state;
                    negotiation::offer_again(remote, local, crypto, origin)
                };
                let mut sdp = offer(state);
                if sdp != state.local_sdp {
                    state.origin.version += 1;
                    sdp = offer(state);
                }
                state.local_sdp.clone_from(&sdp);
                self.answer_ok(now, key, &asked, Some(sdp), timer, true);
            }
            // An UPDATE without SDP changes only the timer, the Contact or the metadata.
            Offer::Ours => self.answer_ok(now, key, &asked, None, timer, false),
        }
        self.note_changes(key, metadata);
    }

    fn on_bye(&mut self, now: Instant, key: SessionKey, asked: &Asked<'_>) {
        self.terminate_pending(now, key, EndReason::Bye);
        // Ribbon closes the story of the call in its BYE.
        let body = Body::read(&asked.request.message);
        let reports = self.fold_metadata(key, body.metadata);
        self.events.extend(reports);
        self.reply(now, key, asked, Reply::new(StatusCode::OK));
        self.end(key, EndReason::Bye);
    }

    fn on_info(&mut self, key: SessionKey, request: &Request) -> Reply {
        let body = Body::read(&request.message);
        if body.metadata.is_empty() {
            let content_type = request.message.text("content-type").unwrap_or_default();
            self.events.push_back(Event::Info {
                key,
                content_type: content_type.into_owned(),
                body: request.message.body.clone(),
            });
        } else {
            self.note_changes(key, body.metadata);
        }
        Reply::new(StatusCode::OK)
    }
}

/// A change of the session that can be made.
struct Change {
    body: Body,
    timer: Option<crate::sip::timer::Terms>,
}
