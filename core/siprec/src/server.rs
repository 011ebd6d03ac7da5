//! Every recording session on one address: routes messages to sessions and transactions.

use std::time::{Duration, Instant};

use crate::event::{Accepting, Event, Input, Refusal, SessionKey, Transmit};
use crate::session::DialogState;
use crate::stream::{MediaAddress, NegotiatedStream};

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
    pub recognition: Recognition,
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
    seed: [u8; 32],
    accepting: Accepting,
}

impl Srs {
    /// `seed` must be unpredictable: dialog tags are drawn from it (RFC 3261 §19.3).
    pub fn new(config: SrsConfig, seed: [u8; 32]) -> Self {
        Self { config, seed, accepting: Accepting::Yes }
    }

    /// Takes one input. Drain [`Self::poll_event`] and [`Self::poll_transmit`] after it.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        let _ = (now, input, &self.config, &self.seed);
    }

    /// Does what is due at `now`. Drain the outputs after it.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// When to call [`Self::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Answers [`Event::Offered`] or [`Event::Reoffered`].
    ///
    /// `media` has one entry per stream of the offer; `None`, or a missing entry, refuses
    /// that stream with port 0. If nothing that was offered is taken, the answer is 488.
    pub fn accept(&mut self, now: Instant, key: SessionKey, media: &[Option<MediaAddress>]) {
        let _ = (now, key, media);
    }

    /// Refuses [`Event::Offered`] (the session ends) or [`Event::Reoffered`] (it goes on as
    /// before).
    pub fn refuse(&mut self, now: Instant, key: SessionKey, why: Refusal) {
        let _ = (now, key, why);
    }

    /// Ends a session from our side: BYE, then [`Event::Ended`] without waiting for the
    /// response.
    pub fn hang_up(&mut self, now: Instant, key: SessionKey) {
        let _ = (now, key);
    }

    /// Asks the SRC whether the session still exists, with an OPTIONS in the dialog.
    ///
    /// For when no packet has come for a long time. No answer, or 481, ends the session.
    pub fn probe(&mut self, now: Instant, key: SessionKey) {
        let _ = (now, key);
    }

    /// Asks the SRC for complete metadata (RFC 7866 §9.2), if it takes UPDATE. It answers
    /// with a document of its own accord, or not at all; the session goes on either way.
    pub fn request_snapshot(&mut self, now: Instant, key: SessionKey) {
        let _ = (now, key);
    }

    /// Whether new calls are taken from now on.
    pub fn set_accepting(&mut self, accepting: Accepting) {
        self.accepting = accepting;
    }

    /// What to write down so that the session survives a restart.
    pub fn dialog_state(&self, key: SessionKey) -> Option<DialogState> {
        let _ = key;
        None
    }

    /// The streams of a session as last negotiated, in order of m-lines.
    pub fn streams(&self, key: SessionKey) -> Option<&[NegotiatedStream]> {
        let _ = key;
        None
    }

    /// Takes up a dialog of an earlier process. Emits no event.
    pub fn restore(&mut self, now: Instant, state: DialogState) -> SessionKey {
        let _ = (now, state);
        SessionKey(0)
    }

    /// The sessions that are waiting for an answer or live.
    pub fn session_count(&self) -> usize {
        0
    }
}
