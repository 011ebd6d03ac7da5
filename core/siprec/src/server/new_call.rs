//! Requests outside a dialog: new calls, OPTIONS, and what has no business here.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rsip::{Method, StatusCode};

use super::admission::Admitted;
use super::answering::{ACCEPT, ALLOW, Reply, SUPPORTED};
use super::{Recognition, Srs};
use crate::event::{Accepting, Event, InviteInfo, Oddity, SessionKey};
use crate::metadata::Snapshot;
use crate::metadata::headers::is_correlating;
use crate::sdp::{Origin, SessionDescription, offer};
use crate::session::body::Body;
use crate::session::negotiation::{NotAcceptable, Offer};
use crate::session::{Arrival, DialogState, Pending, Session};
use crate::sip::dialog::Dialog;
use crate::sip::message::{Message, Method as AnyMethod, text_of};
use crate::sip::request::Request;
use crate::sip::timer::{self, Negotiation, Terms};
use crate::sip::transaction::{ServerTransaction, TransactionKey};

/// How long an INVITE may wait without a 100 (RFC 3261 §17.2.1).
const TRYING_AFTER: Duration = Duration::from_millis(200);

/// Option tags that are no obstacle in `Require`: those we implement, and those that ask
/// nothing of a UAS that sends no provisional responses.
const UNDERSTOOD: [&str; 5] = ["siprec", "timer", "100rel", "histinfo", "record-aware"];

impl Srs {
    pub(super) fn out_of_dialog(
        &mut self,
        now: Instant,
        arrival: Arrival,
        request: Request,
        key: TransactionKey,
        admitted: Admitted,
    ) {
        let reply = match &request.method {
            AnyMethod::Known(Method::Invite) => match self.check_new_call(now, &request, &admitted)
            {
                Ok((body, timer)) => {
                    let read = (body, timer);
                    return self.offer_new_call(now, arrival, request, key, admitted, read);
                }
                Err(reply) => reply,
            },
            AnyMethod::Known(Method::Options) => check_scheme(&request)
                .and_then(|()| check_extensions(&request.message))
                .map_or_else(|refusal| refusal, |()| self.options_reply()),
            AnyMethod::Known(Method::Bye | Method::Info | Method::Update | Method::PRack) => {
                Reply::new(StatusCode::CallTransactionDoesNotExist)
            }
            AnyMethod::Known(_) => Reply::new(StatusCode::MethodNotAllowed).with("Allow", ALLOW),
            AnyMethod::Other(_) => Reply::new(StatusCode::NotImplemented).with("Allow", ALLOW),
        };
        self.reply_stateless(&arrival, &request.message, &request.via, reply);
    }

    /// 200 when new calls are welcome, else 503, by which SRCs choose a recorder.
    fn options_reply(&self) -> Reply {
        let reply = match self.accepting {
            Accepting::Yes => Reply::new(StatusCode::OK),
            Accepting::No { retry_after_secs } => Reply::unavailable(retry_after_secs),
        };
        reply.with("Allow", ALLOW).with("Accept", ACCEPT).with("Supported", SUPPORTED)
    }

    fn check_new_call(
        &mut self,
        now: Instant,
        invite: &Request,
        admitted: &Admitted,
    ) -> Result<(Body, Option<Terms>), Reply> {
        check_scheme(invite)?;
        let dialogs = self.by_call_id.get(&invite.call_id).into_iter().flatten();
        let mut dialogs = dialogs.filter_map(|key| self.sessions.get(key));
        if dialogs.any(|session| session.state.dialog.is_merged_with(invite)) {
            return Err(Reply::new(StatusCode::LoopDetected));
        }
        if let Accepting::No { retry_after_secs } = self.accepting {
            return Err(Reply::unavailable(retry_after_secs));
        }
        check_extensions(&invite.message)?;
        let body = read_body(&invite.message)?;
        let trunk = admitted.trunk.as_deref();
        if !self.is_recognised(&invite.message, &body, trunk) {
            return Err(Reply::new(StatusCode::ExtensionRequired).with("Require", "siprec"));
        }
        let timer = self.negotiate_timer(&invite.message)?;
        // Last, so that only a call that would be taken counts.
        self.check_room(now, trunk).map_err(|retry_after_secs| {
            self.counts.over_limit += 1;
            Reply::unavailable(retry_after_secs)
        })?;
        Ok((body, timer))
    }

    /// Whether the INVITE is for a recording session, by the policy.
    fn is_recognised(&self, invite: &Message, body: &Body, trunk: Option<&str>) -> bool {
        let has_tag = has_siprec_tag(invite);
        let has_param = has_src_param(invite);
        let trunk = trunk.and_then(|name| self.config.trunks.find(name));
        match trunk.map_or(self.config.recognition, |trunk| trunk.recognition) {
            Recognition::Strict => invite.has_option("require", "siprec") && has_param,
            Recognition::StandardOrMetadata => has_tag || has_param || !body.metadata.is_empty(),
            Recognition::AnyInvite => true,
        }
    }

    pub(super) fn negotiate_timer(&self, message: &Message) -> Result<Option<Terms>, Reply> {
        let config = &self.config;
        let can_refresh = message.has_option("allow", "UPDATE");
        let (minimum, default) = (config.min_session_expires, config.session_expires);
        match timer::negotiate(message, minimum, default, can_refresh) {
            Negotiation::None => Ok(None),
            Negotiation::Agreed(terms) => Ok(Some(terms)),
            Negotiation::TooShort { min_secs } => {
                let status = StatusCode::SessionIntervalTooSmall;
                Err(Reply::new(status).with("Min-SE", min_secs.to_string()))
            }
        }
    }

    fn offer_new_call(
        &mut self,
        now: Instant,
        arrival: Arrival,
        request: Request,
        transaction: TransactionKey,
        admitted: Admitted,
        (body, timer): (Body, Option<Terms>),
    ) {
        let offer = match read_offer(&arrival, &body) {
            Ok(offer) => offer,
            Err(reply) => {
                return self.reply_stateless(&arrival, &request.message, &request.via, reply);
            }
        };
        let key = self.new_key();
        let event = Event::Offered {
            key,
            invite: invite_info(&arrival, &request, &offer, &body, &admitted),
            offer: offer.streams(),
        };
        let had_metadata = !body.metadata.is_empty();
        let metadata = body.metadata_or_headers(&request.message);
        let labels_implied = !had_metadata
            && metadata.iter().any(|part| {
                part.document.as_ref().is_ok_and(|document| !document.streams.is_empty())
            });
        let tag = self.random_token();
        let state = DialogState {
            dialog: Dialog::from_invite(
                &request,
                tag,
                arrival.transport,
                arrival.local,
                arrival.peer,
            ),
            origin: Origin {
                // A number that also fits the signed 64 bits some peers read it into.
                session_id: self.random_number() >> 1,
                version: 1,
                address: arrival.local.ip().to_canonical(),
            },
            remote: SessionDescription::default(),
            local_sdp: Vec::new(),
            local: Vec::new(),
            crypto: Vec::new(),
            streams: Vec::new(),
            snapshot: Snapshot::default(),
            timer: None,
            allows_update: request.message.has_option("allow", "UPDATE"),
            labels_implied,
            trunk: admitted.trunk,
            answered: Vec::new(),
        };
        let mut session = Session::restored(now, state);
        session.heard_on(&arrival);
        let route = super::answering::response_route(&arrival, &request.via);
        let waiting = ServerTransaction::new(&request, key, route);
        self.transactions.insert(transaction.clone(), waiting);
        session.pending = Some(Pending {
            request,
            arrival,
            key: transaction,
            offer,
            metadata,
            timer,
            is_initial: true,
            trying_at: Some(now + TRYING_AFTER),
        });
        self.insert_session(key, session);
        self.schedule_session(key);
        self.events.push_back(event);
    }

    /// The offer of a re-INVITE or UPDATE waits for the shell.
    pub(super) fn offer_again(&mut self, now: Instant, key: SessionKey, mut pending: Pending) {
        let Some(session) = self.sessions.get_mut(&key) else { return };
        let is_invite = pending.request.is(Method::Invite);
        pending.trying_at = is_invite.then(|| now + TRYING_AFTER);
        self.events.push_back(Event::Reoffered { key, offer: pending.offer.streams() });
        session.pending = Some(pending);
    }
}

/// Refuses a Request-URI that is not for SIP (RFC 3261 §8.2.2.1).
fn check_scheme(request: &Request) -> Result<(), Reply> {
    let scheme = request.uri.split(':').next().unwrap_or_default();
    let is_known = ["sip", "sips", "tel"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    is_known.then_some(()).ok_or_else(|| Reply::new(StatusCode::UnsupportedUriScheme))
}

/// Refuses what a request requires and we lack (RFC 3261 §8.2.2.3).
pub(super) fn check_extensions(message: &Message) -> Result<(), Reply> {
    let unknown: Vec<_> = message
        .list("require")
        .into_iter()
        .filter(|tag| !UNDERSTOOD.iter().any(|known| tag.eq_ignore_ascii_case(known)))
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Reply::new(StatusCode::BadExtension).with("Unsupported", unknown.join(", ")))
}

/// The body, unless all of it is in a form that we do not know (RFC 3261 §8.2.3).
pub(super) fn read_body(message: &Message) -> Result<Body, Reply> {
    let unsupported = Reply::new(StatusCode::UnsupportedMediaType).with("Accept", ACCEPT);
    let encoding = message.text("content-encoding");
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(unsupported.with("Accept-Encoding", "identity"));
    }
    let body = Body::read(message);
    if body.has_unknown_required && body.sdp.is_none() && body.metadata.is_empty() {
        return Err(unsupported);
    }
    Ok(body)
}

/// The offer in a body, ours to make if there is none.
pub(super) fn read_offer(arrival: &Arrival, body: &Body) -> Result<Offer, Reply> {
    let Some(sdp) = &body.sdp else { return Ok(Offer::Ours) };
    offer::parse(sdp).map(Offer::Theirs).map_err(|_| {
        let own = arrival.local.ip();
        let why = NotAcceptable::new(399, "Session description cannot be read", own);
        Reply::new(why.status).with("Warning", why.warning)
    })
}

fn has_siprec_tag(invite: &Message) -> bool {
    invite.has_option("require", "siprec") || invite.has_option("supported", "siprec")
}

/// `+sip.src` in the Contact, or `src` as AudioCodes and BroadWorks write it; behind the
/// brackets, or inside them as Avaya does.
fn has_src_param(invite: &Message) -> bool {
    invite.list("contact").iter().any(|contact| {
        contact.split([';', '>']).skip(1).any(|param| {
            let name = param.split('=').next().unwrap_or_default().trim();
            name.eq_ignore_ascii_case("+sip.src") || name.eq_ignore_ascii_case("src")
        })
    })
}

fn invite_info(
    arrival: &Arrival,
    invite: &Request,
    offer: &Offer,
    body: &Body,
    admitted: &Admitted,
) -> InviteInfo {
    let message = &invite.message;
    let mut oddities = BTreeSet::new();
    if !(message.has_option("require", "siprec") && has_src_param(message)) {
        oddities.insert(Oddity::NoSiprecTag);
    }
    match offer {
        Offer::Ours => {
            oddities.insert(Oddity::NoOffer);
        }
        Offer::Theirs(description) => {
            let mut recordable = description.media.iter().filter(|media| media.is_recordable());
            if recordable.any(|media| media.label.is_none()) {
                oddities.insert(Oddity::NoLabel);
            }
        }
    }
    if body.metadata.is_empty() {
        oddities.insert(Oddity::NoMetadata);
    }
    if body.metadata.iter().any(|part| part.document.is_err()) {
        oddities.insert(Oddity::MetadataError);
    }
    let correlating = message.headers.iter().filter(|header| is_correlating(&header.name));
    InviteInfo {
        peer: arrival.peer,
        transport: arrival.transport,
        call_id: invite.call_id.clone(),
        from_uri: invite.from.uri.clone(),
        to_uri: invite.to.uri.clone(),
        user_agent: message.text("user-agent").map(|text| text.into_owned()),
        trunk: admitted.trunk.clone(),
        proof: admitted.proof,
        oddities,
        headers: correlating
            .map(|header| (header.written_name.clone(), text_of(&header.value).into_owned()))
            .collect(),
    }
}
