//! Who may do what: strangers nothing, a trunk its calls, and nobody those of another.
//!
//! Constraints that tests hold:
//!
//! - A stranger's datagram gets no answer, so that nobody learns by it that a recorder is here,
//!   or sends us to a third party. On a connection, where both are known anyway, it gets 403, so
//!   that a misconfigured SBC says what is wrong; no more than [`STRANGERS_PER_SEC`].
//! - A request in a dialog counts only when it comes from the dialog's trunk.
//! - A password proves the connection it came by; a datagram proves nothing but itself.
//! - ACK and CANCEL cannot be challenged (RFC 3261 §22.1).

use std::net::IpAddr;
use std::time::Instant;

use rsip::{Method, StatusCode};

use super::Srs;
use super::answering::Reply;
use crate::event::{Counts, SessionKey};
use crate::session::Arrival;
use crate::sip::digest::{Account, Credentials, Denied};
use crate::sip::message::Message;
use crate::sip::rate::Bucket;
use crate::sip::request::Request;
use crate::sip::transaction::Route;
use crate::trunk::{Proof, Sender, Trunk, Trunks};

/// Answers to strangers. One of them may fill it; a misconfigured SBC still finds its 403.
const STRANGERS_PER_SEC: u32 = 10;
const STRANGERS_BURST: u32 = 50;

/// How a request relates to the trunks.
enum Standing {
    /// No trunks are configured.
    Anybody,
    Known(Admitted),
    /// One of them, if it knows the password.
    MustProve,
    Stranger,
}

/// Whose request it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Admitted {
    /// `None`: no trunks are configured.
    pub trunk: Option<String>,
    pub proof: Proof,
}

impl Srs {
    /// Replaces the trunks. Calls in progress go on; those of a trunk that is gone may be changed
    /// and ended only from the address they come from.
    pub fn set_trunks(&mut self, trunks: Trunks) {
        self.config.trunks = trunks;
        self.orphans = self
            .sessions
            .values()
            .filter(|session| self.is_orphan(session.state.trunk.as_deref()))
            .map(|session| session.state.dialog.peer.ip().to_canonical())
            .collect();
    }

    /// What was counted since the last time.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// The sessions of a trunk, of those that answer to none with `None`.
    pub fn sessions_of(&self, trunk: Option<&str>) -> usize {
        self.by_trunk.get(&trunk.map(str::to_owned)).copied().unwrap_or(0)
    }

    /// Its trunk, if it ever had one, is not configured any more.
    pub(super) fn is_orphan(&self, trunk: Option<&str>) -> bool {
        trunk.is_none_or(|name| self.config.trunks.find(name).is_none())
    }

    /// Whether nothing that comes from this address can be for us.
    pub(super) fn is_stranger(&self, ip: IpAddr) -> bool {
        !self.config.admit_strangers
            && !self.config.trunks.may_be_at(ip)
            && !self.orphans.contains(&ip.to_canonical())
    }

    pub(super) fn ignore_datagram(&mut self) {
        self.counts.silenced += 1;
    }

    /// A stranger on a connection: 403, or the end of it when there are too many.
    pub(super) fn turn_away(&mut self, now: Instant, arrival: &Arrival, message: Message) {
        let request = match Request::read(message) {
            Ok(request) if !request.is(Method::Ack) => request,
            Ok(_) | Err(_) => return self.ignore_datagram(),
        };
        self.refuse_stranger(now, arrival, &request);
    }

    fn refuse_stranger(&mut self, now: Instant, arrival: &Arrival, request: &Request) {
        let Route::Stream(conn) = arrival.route else { return self.ignore_datagram() };
        let bucket = self.strangers.get_or_insert_with(|| Bucket::new(now, STRANGERS_BURST));
        if bucket.take(now, STRANGERS_PER_SEC, STRANGERS_BURST) {
            self.counts.forbidden += 1;
            let reply = Reply::new(StatusCode::Forbidden);
            self.reply_stateless(arrival, &request.message, &request.via, reply);
        } else {
            self.ignore_datagram();
            self.close(conn);
        }
    }

    /// Whether a request outside dialogs is taken, and whose it is. If not, it was answered.
    pub(super) fn admit(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
    ) -> Option<Admitted> {
        match self.standing(arrival, None) {
            Standing::Anybody => Some(anybody(arrival)),
            Standing::Known(admitted) => Some(admitted),
            Standing::MustProve => self.prove(now, arrival, request, None),
            Standing::Stranger => {
                self.refuse_stranger(now, arrival, request);
                None
            }
        }
    }

    /// Whether a request in the dialog of this session is its trunk's. If not, it was answered.
    pub(super) fn admit_in_dialog(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
        key: SessionKey,
    ) -> bool {
        match self.standing_in_dialog(arrival, key) {
            Standing::Anybody | Standing::Known(_) => true,
            // A reliable provisional response was never sent, so PRACK changes nothing.
            Standing::MustProve if request.is(Method::PRack) => true,
            Standing::MustProve => {
                let trunk = self.sessions.get(&key).and_then(|s| s.state.trunk.clone());
                self.prove(now, arrival, request, trunk.as_deref()).is_some()
            }
            Standing::Stranger => {
                self.counts.foreign += 1;
                self.refuse_stranger(now, arrival, request);
                false
            }
        }
    }

    /// Whether an ACK or CANCEL may be for this session.
    pub(super) fn may_concern(&self, arrival: &Arrival, key: SessionKey) -> bool {
        !matches!(self.standing_in_dialog(arrival, key), Standing::Stranger)
    }

    fn standing_in_dialog(&self, arrival: &Arrival, key: SessionKey) -> Standing {
        let Some(session) = self.sessions.get(&key) else { return Standing::Anybody };
        let trunk = session.state.trunk.as_deref();
        if self.config.trunks.is_empty() || !self.is_orphan(trunk) {
            return self.standing(arrival, trunk);
        }
        let is_same_host =
            session.state.dialog.peer.ip().to_canonical() == arrival.peer.ip().to_canonical();
        if is_same_host { Standing::Anybody } else { Standing::Stranger }
    }

    /// `wanted`: the only trunk that counts.
    fn standing(&self, arrival: &Arrival, wanted: Option<&str>) -> Standing {
        let trunks = &self.config.trunks;
        if trunks.is_empty() {
            return Standing::Anybody;
        }
        let connection = match arrival.route {
            Route::Stream(conn) => self.connections.get(&conn),
            Route::Datagram { .. } => None,
        };
        let tls_names = connection.map(|c| c.tls_names.as_slice()).unwrap_or_default();
        let sender = Sender { ip: arrival.peer.ip(), tls_names };
        let mut standing = match wanted {
            None if self.config.admit_strangers => Standing::Anybody,
            _ => Standing::Stranger,
        };
        for trunk in trunks.candidates(&sender) {
            if wanted.is_some_and(|wanted| wanted != trunk.name) {
                continue;
            }
            let has_proved =
                connection.is_some_and(|c| c.proved.as_deref() == Some(trunk.name.as_str()));
            if trunk.account.is_none() || has_proved {
                return Standing::Known(admitted(trunk, arrival));
            }
            if matches!(standing, Standing::Stranger) {
                standing = Standing::MustProve;
            }
        }
        standing
    }

    /// Checks the password; challenges whoever does not know it.
    fn prove(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
        wanted: Option<&str>,
    ) -> Option<Admitted> {
        let trunks = self.config.trunks.clone();
        let tls_names = self.tls_names(arrival);
        let sender = Sender { ip: arrival.peer.ip(), tls_names: &tls_names };
        let candidates: Vec<(&Trunk, &Account)> = trunks
            .candidates(&sender)
            .filter(|trunk| wanted.is_none_or(|wanted| wanted == trunk.name))
            .filter_map(|trunk| Some((trunk, trunk.account.as_ref()?)))
            .collect();
        let mut stale = false;
        for value in request.message.headers("authorization") {
            let text = crate::sip::message::text_of(value);
            let Some(given) = Credentials::parse(&text, &self.config.realm) else { continue };
            let mut of_user = candidates.iter().filter(|(_, account)| account.user == given.user);
            let Some((trunk, account)) = of_user.next() else {
                self.counts.wrong_passwords += 1;
                continue;
            };
            match self.nonces.check(now, &given, account, &request.method.to_string()) {
                Ok(()) => {
                    if let Route::Stream(conn) = arrival.route
                        && let Some(connection) = self.connections.get_mut(&conn)
                    {
                        connection.proved = Some(trunk.name.clone());
                    }
                    return Some(admitted(trunk, arrival));
                }
                Err(Denied::Stale) => stale = true,
                Err(Denied::Wrong) => self.counts.wrong_passwords += 1,
            }
        }
        self.counts.challenged += 1;
        let number = self.random_number();
        let accounts = candidates.iter().map(|(_, account)| *account);
        let challenges = self.nonces.challenges(now, number, &self.config.realm, stale, accounts);
        let reply = challenges
            .into_iter()
            .fold(Reply::new(StatusCode::Unauthorized), |reply, challenge| {
                reply.with("WWW-Authenticate", challenge)
            });
        self.reply_stateless(arrival, &request.message, &request.via, reply);
        None
    }

    fn tls_names(&self, arrival: &Arrival) -> Vec<String> {
        match arrival.route {
            Route::Stream(conn) => {
                self.connections.get(&conn).map(|c| c.tls_names.clone()).unwrap_or_default()
            }
            Route::Datagram { .. } => Vec::new(),
        }
    }

    /// Whether there is room for one more session of this trunk; if not, after how many seconds
    /// it is worth another try.
    pub(super) fn check_room(&mut self, now: Instant, trunk: Option<&str>) -> Result<(), u32> {
        let trunks = self.config.trunks.clone();
        // Calls end all the time; a short wait is enough.
        const SHORTLY_SECS: u32 = 10;
        let reserved_for_others: usize = trunks
            .iter()
            .filter(|other| Some(other.name.as_str()) != trunk)
            .map(|other| {
                let reserved = usize::try_from(other.reserved_sessions).unwrap_or(usize::MAX);
                reserved.saturating_sub(self.sessions_of(Some(&other.name)))
            })
            .sum();
        if self.sessions.len().saturating_add(reserved_for_others) >= self.config.max_sessions {
            return Err(SHORTLY_SECS);
        }
        let Some(trunk) = trunk.and_then(|name| trunks.find(name)) else { return Ok(()) };
        let live = self.sessions_of(Some(&trunk.name));
        if trunk.max_sessions.is_some_and(|max| live >= max.get() as usize) {
            return Err(SHORTLY_SECS);
        }
        if let Some(per_sec) = trunk.max_new_per_sec {
            let burst = per_sec.get().saturating_mul(2);
            let bucket =
                self.rates.entry(trunk.name.clone()).or_insert_with(|| Bucket::new(now, burst));
            if !bucket.take(now, per_sec.get(), burst) {
                return Err(1);
            }
        }
        Ok(())
    }
}

fn anybody(arrival: &Arrival) -> Admitted {
    let is_stream = arrival.route.is_reliable();
    let proof = if is_stream { Proof::Connection } else { Proof::Datagram };
    Admitted { trunk: None, proof }
}

fn admitted(trunk: &Trunk, arrival: &Arrival) -> Admitted {
    let proof = trunk.proof(arrival.route.is_reliable());
    Admitted { trunk: Some(trunk.name.clone()), proof }
}
