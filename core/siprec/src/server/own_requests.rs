//! The requests that we send: BYE, and OPTIONS or UPDATE to hear whether the SRC is there.

use std::time::Instant;

use rand::RngExt;
use rsip::{Method, StatusCode};

use super::Srs;
use super::answering::{ACCEPT, SUPPORTED};
use crate::event::{EndReason, Event, SessionKey};
use crate::session::Arrival;
use crate::sip::client::{ClientTransaction, Purpose};
use crate::sip::message::Message;
use crate::sip::transaction::Route;
use crate::sip::via::Via;

/// RFC 7866 §9.2 and its schema in §9.2.1: asks for complete metadata.
const SNAPSHOT_REQUEST: &[u8] = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n\
    <requestsnapshot xmlns='urn:ietf:params:xml:ns:recording:1'>\r\n\
    <requestreason xml:lang=\"en\">recorder restarted</requestreason>\r\n\
    </requestsnapshot>\r\n";

impl Srs {
    pub(super) fn say_bye(&mut self, now: Instant, key: SessionKey) {
        self.send_own_request(now, key, Purpose::Bye);
    }

    /// False when it cannot be sent: no such session, no way to its SRC, or not understood there.
    pub(super) fn send_own_request(
        &mut self,
        now: Instant,
        key: SessionKey,
        purpose: Purpose,
    ) -> bool {
        let branch = format!("z9hG4bK{}", self.random_token());
        let Some(session) = self.sessions.get(&key).filter(|session| session.is_live()) else {
            return false;
        };
        let Some(route) = session.request_route() else { return false };
        let needs_update = matches!(purpose, Purpose::Refresh | Purpose::Snapshot);
        if needs_update && !session.state.allows_update {
            return false;
        }
        let dialog = &session.state.dialog;
        let (local, peer, transport) = (dialog.local, dialog.peer, dialog.transport);
        let contact = self.contact(&Arrival { route, transport, local, peer }, "");
        let terms = session.state.timer;
        let common = format!("Contact: {contact}\r\nSupported: {SUPPORTED}\r\n");
        let (method, headers, body): (_, String, &[u8]) = match purpose {
            Purpose::Bye => (Method::Bye, String::new(), b""),
            Purpose::Probe => (Method::Options, format!("{common}Accept: {ACCEPT}\r\n"), b""),
            Purpose::Refresh => {
                let secs = terms.map_or(0, |terms| terms.interval_secs);
                // In this request we are the UAC (RFC 4028 §7.4).
                let headers = format!("{common}Session-Expires: {secs};refresher=uac\r\n");
                (Method::Update, headers, b"")
            }
            Purpose::Snapshot => {
                let headers = format!(
                    "{common}Require: siprec\r\nContent-Disposition: recording-session\r\n\
                     Content-Type: application/rs-metadata+xml\r\n"
                );
                (Method::Update, headers, SNAPSHOT_REQUEST)
            }
        };
        let headers = format!("{headers}User-Agent: {}\r\n", self.config.server);
        let Some(session) = self.sessions.get_mut(&key) else { return false };
        let bytes = session.state.dialog.request(method, &branch, &headers, body);
        self.transmit_own_request(now, key, purpose, route, branch, bytes);
        if purpose != Purpose::Bye {
            // Our CSeq went up.
            self.events.push_back(Event::Changed { key });
        }
        true
    }

    fn transmit_own_request(
        &mut self,
        now: Instant,
        key: SessionKey,
        purpose: Purpose,
        route: Route,
        branch: String,
        bytes: Vec<u8>,
    ) {
        let transaction = ClientTransaction::sent(now, key, purpose, route, bytes.clone());
        self.own_requests.insert(branch.clone(), transaction);
        self.schedule_own_request(&branch);
        self.send(route, bytes);
    }

    /// Matches a response by the branch of our Via (RFC 3261 §17.1.3).
    pub(super) fn on_response(&mut self, now: Instant, status: u16, response: &Message) {
        let Some((via, _)) = response.text("via").and_then(|value| Via::parse(&value)) else {
            return;
        };
        let Some(branch) = via.branch() else { return };
        let Some(transaction) = self.own_requests.get_mut(branch) else { return };
        if status < 200 {
            transaction.provisional();
        } else {
            self.own_request_done(now, branch, Some(status));
        }
        self.schedule_own_request(branch);
    }

    /// `status` is `None` when nobody answered, which counts as 408 (RFC 3261 §8.1.3.1).
    pub(super) fn own_request_done(&mut self, now: Instant, branch: &str, status: Option<u16>) {
        let Some(transaction) = self.own_requests.remove(branch) else { return };
        let key = transaction.session;
        let not_there = StatusCode::CallTransactionDoesNotExist.code();
        let reason = match (transaction.purpose, status) {
            (Purpose::Bye, _) => return,
            // The session goes on without; many SRCs do not know the request.
            (Purpose::Snapshot, status) if status != Some(not_there) => return,
            (_, Some(status)) if status == not_there => EndReason::Gone,
            // Some SRCs know no OPTIONS in a dialog, so that silence to one proves nothing.
            (Purpose::Probe, None | Some(408)) => {
                self.events.push_back(Event::ProbeUnanswered { key });
                return;
            }
            (_, None | Some(408)) => EndReason::Timeout,
            (Purpose::Refresh, Some(200..=299)) => {
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.refreshed = now;
                    session.refresh_sent = false;
                }
                return self.schedule_session(key);
            }
            _ => return,
        };
        // RFC 3261 §12.2.1.2: after 481 or 408 the dialog is terminated, with a BYE.
        self.say_bye(now, key);
        self.end(key, reason);
    }

    pub(super) fn random_number(&mut self) -> u64 {
        self.rng.random()
    }
}
