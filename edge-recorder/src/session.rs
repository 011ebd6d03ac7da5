//! Protocol events become recordings: the only module that knows `siprec` and `model`.
//!
//! Promises, each a test:
//!
//! - A call is answered only when its start, its key and its dialog are in the journal's buffer
//!   and its ports are bound.
//! - A call that cannot be kept is refused at once with 503, so that its SRC tries another
//!   recorder; it is never answered and lost.
//! - What arrived before the end of a call is in the journal before the end is.
//! - What is odd about a call is a flag on its recording and no reason to refuse it.
//!
//! ```text
//! Offered ─► ports, ids, journal: Started, Key ─► accept ─► Media ─► journal: Streams, Mark(hold)
//! Changed ─► journal: Dialog            Metadata ─► journal: Metadata, one per recording
//! packets ─► journal: Packets           Ended ─► capture closes ─► journal: Ended
//! ```

mod agreed;
mod assurance;
mod call;
mod commands;
mod digits;
mod facts;
mod offers;
mod refused;
mod resume;
mod trunks;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use metrics::{counter, gauge};
use model::command::CommandBody;
use model::recording::flag;
use model::trunk::Trunks;
use model::{EventBody, RecordingId, SessionId, TenantId};
use siprec::metadata::MetadataError;
use siprec::{Accepting, EndReason, Event, NegotiatedStream, SessionKey, Snapshot, Srs};
use tokio::sync::{oneshot, watch};

use crate::capture::ports::PortPool;
use crate::capture::{Capture, Order, Swept, VISITS_WAITING};
use crate::drain::{Shutdown, Wish};
use crate::health::{Health, Unable};
use crate::journal::{AppendError, AppendRecord, JournalHandle, Moment, SessionTag};
use crate::metrics::tell_capacity;
use crate::policy::Policy;
use crate::route::Routes;
use call::Call;
use facts::Change;
pub use trunks::Door;

/// Without packets for this long on a stream that should have some, we ask the SRC whether the
/// call still exists. Some never say BYE, and have no session timer.
const PROBE_AFTER: Duration = Duration::from_secs(60);

/// For how long after its BYE a call may go on sending.
const LINGER_AT_MOST: Duration = Duration::from_secs(30);

/// After its BYE a call is over when it has been quiet for this long. Most are at once, and their
/// recordings should not have to wait.
const QUIET: Duration = Duration::from_millis(500);

/// Packets may have been under way for this long when the BYE overtook them.
const UNDER_WAY_NS: u64 = 500_000_000;

/// How often it is looked whether calls sound as they should.
const LISTEN_EVERY: Duration = Duration::from_secs(1);

/// What the recording half is asked to do by others.
#[derive(Debug)]
pub enum Control {
    Command { body: CommandBody, answer: oneshot::Sender<Result<(), String>> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    GoOn,
    Stop,
}

/// What the recorder is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    pub tenant: TenantId,
    /// Of the configuration.
    pub trunks: Trunks,
    pub realm: String,
    pub retry_after_secs: u32,
    /// What SDP answers name, when it is not where the sockets are bound.
    pub rtp_address: Option<IpAddr>,
    /// Of one stream; more are not recorded.
    pub packets_per_sec: u32,
    /// Whether a stream is taken of which no codec is known to us.
    pub unknown_codecs: bool,
}

/// The parts that a recorder works with.
pub struct Parts {
    pub journal: JournalHandle,
    pub capture: Capture,
    pub ports: PortPool,
    pub routes: Routes,
    pub policy: watch::Receiver<Option<Policy>>,
    pub door: Door,
    pub health: Health,
    pub shutdown: Shutdown,
}

pub struct Recorder {
    settings: Settings,
    parts: Parts,
    calls: HashMap<SessionKey, Call>,
    keys: HashMap<SessionId, SessionKey>,
    /// Over, but for what is still in their sockets.
    ending: HashMap<SessionId, Ending>,
    /// Ends that the journal had no room for. Losing one would lose a call.
    unwritten: VecDeque<(SessionTag, Moment, AppendRecord)>,
    accepting: Option<bool>,
    /// Those in force: of the configuration and of the policy.
    trunks: Option<Trunks>,
    journal_full: bool,
    listened_at: Instant,
}

fn terms(settings: &Settings, journal: &JournalHandle, call: &Call) -> agreed::Terms {
    agreed::Terms {
        signaling: call.signaling,
        epoch: journal.epoch(),
        packets_per_sec: settings.packets_per_sec,
        sources: call.story.media_sources.clone(),
    }
}

struct Ending {
    call: Call,
    at: Moment,
    reason: &'static str,
    /// Since when its ports stay open for what still comes; `None` once they are to be closed.
    lingers_since: Option<Instant>,
}

impl Recorder {
    pub fn new(settings: Settings, parts: Parts) -> Self {
        Self {
            settings,
            parts,
            calls: HashMap::new(),
            keys: HashMap::new(),
            ending: HashMap::new(),
            unwritten: VecDeque::new(),
            accepting: None,
            trunks: None,
            journal_full: false,
            listened_at: Instant::now(),
        }
    }

    /// Takes one protocol event. Offers are answered before this returns.
    pub fn event(&mut self, now: Instant, srs: &mut Srs, event: Event) {
        match event {
            Event::Offered { key, invite, offer } => self.offered(now, srs, key, invite, &offer),
            Event::Reoffered { key, offer } => self.reoffered(now, srs, key, &offer),
            Event::Media { key, streams } => self.media(key, streams),
            Event::Metadata { key, document, content_type, view } => {
                self.metadata(key, document, content_type, view);
                // After the dialog, which was saved before its metadata was known here.
                self.save_dialog(srs, key);
            }
            Event::Changed { key } => self.save_dialog(srs, key),
            Event::Established { key } => {
                if let Some(call) = self.calls.get(&key) {
                    tracing::debug!(session = %call.session(), "acknowledged");
                }
            }
            Event::Info { key, content_type, body } => {
                self.told_by_info(key, &content_type, &body);
            }
            Event::ProbeUnanswered { key } => self.probe_unanswered(now, srs, key),
            Event::Ended { key, reason } => self.ended(now, key, reason),
        }
    }

    /// The streams as negotiated: what to record from now on.
    fn media(&mut self, key: SessionKey, streams: Vec<NegotiatedStream>) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let session = call.session();
        let at = Moment::now();
        for stream in &streams {
            let Ok(index) = u16::try_from(stream.index) else { continue };
            if stream.removed {
                if call.story.streams.remove(&index).is_some() {
                    self.parts.capture.order(Order::CloseStream { session, stream: index });
                }
            } else {
                let terms = terms(&self.settings, &self.parts.journal, call);
                let ports = call.story.streams.get(&index);
                let expected = Box::new(agreed::by_answer(stream, ports, &terms));
                self.parts.capture.order(Order::Expect { session, stream: index, expected });
            }
        }
        call.negotiated = streams;
        let mut written = call.streams(&self.parts.journal, at).map(|_| ());
        written = written.and(call.mark_holds(&self.parts.journal, at));
        self.journaled(session, "streams", written);
        self.apply_pause(key);
    }

    fn metadata(
        &mut self,
        key: SessionKey,
        document: Vec<u8>,
        content_type: String,
        view: Result<Snapshot, MetadataError>,
    ) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let session = call.session();
        let at = Moment::now();
        // Headers that take its place do not make it SIPREC.
        call.story.metadata_seen |= content_type != siprec::metadata::headers::CONTENT_TYPE;
        let mut changes = Vec::new();
        match view {
            Ok(snapshot) => {
                changes = call.story.communications.update(session, &snapshot);
                call.story.snapshot = snapshot;
            }
            Err(error) => {
                tracing::warn!(%session, %error, "metadata kept but not understood");
                call.story.flags.insert(flag::METADATA_ERROR.to_owned());
            }
        }
        let began: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Began(recording) => Some(*recording),
                Change::Ended(_) => None,
            })
            // A crash may have kept us from saving that it began, but not from beginning it.
            .filter(|recording| !call.began_boot_ns.contains_key(recording))
            .collect();
        let mut written = Ok(());
        for recording in began {
            written = written.and(begin(call, &self.parts.journal, at, recording, Vec::new()));
        }
        for recording in call.recordings() {
            let document = segment::Document {
                received_wall_ms: at.wall().unix_ms(),
                content_type: content_type.clone(),
                bytes: document.clone(),
            };
            let journal = &self.parts.journal;
            written = written.and(call.metadata(journal, at, recording, document).map(|_| ()));
        }
        for change in changes {
            if let Change::Ended(recording) = change {
                call.story.paused.remove(&recording);
                self.unwritten.push_back(call.end_record(at, recording, "bye", false));
                tracing::info!(%session, %recording, "recording ended");
            }
        }
        self.journaled(session, "metadata", written);
        self.write_ends();
        // A stream may belong to another recording now.
        self.apply_pause(key);
    }

    /// Writes down what a restart needs. Called before what follows from the change is sent.
    fn save_dialog(&mut self, srs: &Srs, key: SessionKey) {
        let (Some(call), Some(dialog)) = (self.calls.get(&key), srs.dialog_state(key)) else {
            return;
        };
        let session = call.session();
        let saved = call::Saved { version: call::SAVED_VERSION, dialog, story: call.story.clone() };
        let plain = match serde_json::to_vec(&saved) {
            Ok(plain) => plain,
            Err(error) => {
                tracing::error!(%session, %error, "dialog not saved: a restart would end the call");
                return;
            }
        };
        let written =
            self.parts.journal.append(&call.tag, Moment::now(), AppendRecord::Dialog { plain });
        self.journaled(session, "dialog", written.map(|_| ()));
    }

    fn ended(&mut self, now: Instant, key: SessionKey, reason: EndReason) {
        let Some(mut call) = self.calls.remove(&key) else { return };
        let session = call.session();
        self.keys.remove(&session);
        if !call.story.metadata_seen {
            call.story.flags.insert(flag::NO_METADATA.to_owned());
        }
        if reason == EndReason::NoAck {
            call.story.flags.insert(flag::NO_ACK.to_owned());
        }
        let lingers_since = (reason == EndReason::Bye).then_some(now);
        let reason = reason_text(reason);
        tracing::info!(%session, reason, "session ended");
        if lingers_since.is_none() {
            self.parts.capture.order(Order::Close { session });
        }
        let ending = Ending { call, at: Moment::now(), reason, lingers_since };
        self.ending.insert(session, ending);
        self.tell_calls();
    }

    /// Whether capture's findings are taken now. While the journal has no room they are not, for as
    /// long as they can wait: a disk that stalls costs nothing before every buffer is full.
    pub fn takes_packets(&self, visits_waiting: usize) -> bool {
        visits_waiting >= VISITS_WAITING || self.parts.journal.has_room()
    }

    /// Journals what capture found, and ends the calls whose sockets are empty and closed.
    pub fn swept(&mut self, swept: Swept) {
        let now = Moment::now();
        let mut lost = 0;
        for batch in swept.batches {
            let live = self.keys.get(&batch.session).and_then(|key| self.calls.get_mut(key));
            let ending = self.ending.get_mut(&batch.session).map(|ending| {
                let over_boot_ns = ending.at.boot_ns.saturating_add(UNDER_WAY_NS);
                if batch.packets.iter().any(|packet| packet.arrival_boot_ns > over_boot_ns) {
                    ending.call.story.flags.insert(flag::MEDIA_AFTER_BYE.to_owned());
                }
                &mut ending.call
            });
            // Capture knows no session that we did not open, and closes it before we forget it.
            let Some(call) = live.or(ending) else { continue };
            if let Err((count, error)) = call.packets(&self.parts.journal, now, batch.packets) {
                lost += count;
                if !self.journal_full {
                    tracing::error!(session = %batch.session, %error, "audio is being lost");
                }
            }
        }
        if lost > 0 {
            counter!("linekeeper_journal_dropped_packets_total").increment(lost as u64);
        } else if self.journal_full {
            tracing::warn!("the journal takes packets again");
        }
        self.journal_full = lost > 0;
        for rolled in swept.rollovers {
            let key = self.keys.get(&rolled.session);
            let Some(call) = key.and_then(|key| self.calls.get_mut(key)) else { continue };
            if let Some(stream) = call.story.streams.get_mut(&rolled.stream) {
                stream.rollover = Some((rolled.ssrc, rolled.roc));
                call.unsaved = true;
            }
        }
        for closed in swept.closed {
            for port in closed.ports {
                self.parts.ports.release(port, Instant::now());
            }
            if closed.whole_session
                && let Some(ending) = self.ending.remove(&closed.session)
            {
                self.write_end(ending);
            }
        }
    }

    fn write_end(&mut self, ending: Ending) {
        let Ending { call, at, reason, .. } = ending;
        self.end_all(call, at, reason);
        self.write_ends();
    }

    /// Makes the ends of a session's recordings, for [`Self::write_ends`].
    fn end_all(&mut self, mut call: Call, at: Moment, reason: &str) {
        let told = call.gap_ends(&self.parts.journal, None);
        self.journaled(call.session(), "the end of a gap", told);
        let told = call.tell_refused(&self.parts.journal, at);
        self.journaled(call.session(), "what was lost", told);
        // The first recording last, because its end ends the session.
        let first = call.session().first_recording();
        for recording in call.unended().into_iter().filter(|recording| *recording != first) {
            self.unwritten.push_back(call.end_record(at, recording, reason, false));
        }
        self.unwritten.push_back(call.end_record(at, first, reason, true));
    }

    fn write_ends(&mut self) {
        while let Some((tag, at, record)) = self.unwritten.pop_front() {
            if let Err(error) = self.parts.journal.append(&tag, at, record.clone()) {
                tracing::error!(recording = %tag.recording, %error, "end not journaled, will retry");
                self.unwritten.push_front((tag, at, record));
                return;
            }
        }
    }

    /// Looks after everything that no input causes.
    pub fn tick(&mut self, now: Instant, srs: &mut Srs) -> Flow {
        self.renew_trunks(srs);
        self.tell_counts(srs);
        let unable = self.unable();
        let accepting = unable.is_none();
        if self.parts.health.set(unable.clone()) {
            match &unable {
                Some(why) => tracing::warn!(%why, "new calls are refused"),
                None => tracing::info!("new calls are accepted"),
            }
        }
        if self.accepting != Some(accepting) {
            self.accepting = Some(accepting);
            srs.set_accepting(if accepting {
                Accepting::Yes
            } else {
                Accepting::No { retry_after_secs: self.settings.retry_after_secs }
            });
        }
        if !self.unwritten.is_empty() {
            self.write_ends();
        }
        let calls = self.calls.iter_mut();
        let unsaved: Vec<SessionKey> = calls
            .filter_map(|(key, call)| std::mem::take(&mut call.unsaved).then_some(*key))
            .collect();
        for key in unsaved {
            self.save_dialog(srs, key);
        }
        self.end_gaps();
        self.listen(now);
        self.probe_silent_calls(now, srs);
        self.close_quiet_calls(now);
        self.tell_calls();
        match self.parts.shutdown.wish() {
            Wish::GoOn => Flow::GoOn,
            Wish::Now => Flow::Stop,
            Wish::Drain { until } => {
                let idle =
                    self.calls.is_empty() && self.ending.is_empty() && self.unwritten.is_empty();
                if idle || now >= until { Flow::Stop } else { Flow::GoOn }
            }
        }
    }

    /// Whether the calls sound as they should.
    fn listen(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.listened_at);
        if passed < LISTEN_EVERY {
            return;
        }
        self.listened_at = now;
        let at = Moment::now();
        for call in self.calls.values_mut() {
            call.listen(&self.parts.journal, at, passed);
        }
    }

    /// Ends the gaps of resumed calls in whose sockets nothing was.
    fn end_gaps(&mut self) {
        let now = Moment::now();
        for call in self.calls.values_mut().filter(|call| call.has_waited_for_audio(now)) {
            if let Err(error) = call.gap_ends(&self.parts.journal, None) {
                tracing::warn!(session = %call.session(), %error, "the end of a gap, will retry");
            }
        }
    }

    /// Closes the ports of calls that said BYE and have nothing more to say.
    fn close_quiet_calls(&mut self, now: Instant) {
        for (session, ending) in &mut self.ending {
            let Some(since) = ending.lingers_since else { continue };
            let quiet_since = since.max(ending.call.last_heard);
            if now.saturating_duration_since(quiet_since) >= QUIET
                || now.saturating_duration_since(since) >= LINGER_AT_MOST
            {
                ending.lingers_since = None;
                self.parts.capture.order(Order::Close { session: *session });
            }
        }
    }

    /// Why a new call cannot be taken now.
    fn unable(&self) -> Option<Unable> {
        match self.parts.shutdown.wish() {
            Wish::GoOn => {}
            Wish::Drain { .. } => return Some(Unable::Draining),
            Wish::Now => return Some(Unable::Stopping),
        }
        if self.parts.policy.borrow().is_none() {
            return Some(Unable::NoTenantKey { tenant: self.settings.tenant.clone() });
        }
        self.parts.journal.can_accept().err().map(Unable::Journal)
    }

    fn probe_silent_calls(&mut self, now: Instant, srs: &mut Srs) {
        for call in self.calls.values_mut() {
            let silent = now.saturating_duration_since(call.last_heard) >= PROBE_AFTER;
            if silent && call.expects_audio() {
                tracing::warn!(session = %call.session(), "no audio, asking whether it still exists");
                call.last_heard = now;
                call.probed_at = now;
                if !srs.probe(now, call.key) {
                    tracing::warn!(session = %call.session(), "its connection is gone, too: closed");
                    srs.give_up(now, call.key);
                }
            }
        }
    }

    /// An SRC that does not know OPTIONS in a dialog may leave them unanswered: as long as it can
    /// be heard, or needs not be, its call goes on.
    fn probe_unanswered(&mut self, now: Instant, srs: &mut Srs, key: SessionKey) {
        let Some(call) = self.calls.get(&key) else { return };
        let session = call.session();
        if call.last_heard > call.probed_at || !call.expects_audio() {
            tracing::info!(%session, "does not answer OPTIONS, goes on");
        } else {
            tracing::warn!(%session, "neither heard nor answering: closed");
            srs.give_up(now, key);
        }
    }

    fn tell_calls(&self) {
        gauge!("linekeeper_calls_active").set(self.calls.len() as f64);
        let pairs = self.parts.ports.pairs();
        // A call has one stream at the least.
        tell_capacity("calls", self.calls.len(), pairs);
        tell_capacity("ports", self.parts.ports.taken(), pairs);
    }

    fn journaled(&self, session: SessionId, what: &str, written: Result<(), AppendError>) {
        if let Err(error) = written {
            tracing::error!(%session, what, %error, "not journaled");
        }
    }

    /// Ends capture, which delivers what has arrived. Take all of it, then [`Self::finish`].
    pub fn stop_capture(&mut self) {
        self.parts.capture.stop();
    }

    /// Writes the ends that came with the shutdown. Calls in progress stay as they are: the next
    /// start goes on with them. Returns how many.
    pub fn finish(mut self) -> usize {
        let ending: Vec<_> = self.ending.drain().map(|(_, ending)| ending).collect();
        for ending in ending {
            self.write_end(ending);
        }
        self.calls.len()
    }
}

/// A recording begins within a session.
fn begin(
    call: &mut Call,
    journal: &JournalHandle,
    at: Moment,
    recording: RecordingId,
    call_ids: Vec<String>,
) -> Result<(), AppendError> {
    let event = EventBody::Started {
        tenant: call.tag.tenant.clone(),
        recording,
        session: call.session(),
        call_ids,
        flags: call.story.flags.clone(),
    };
    call.started(journal, at, recording, false, Some(event))?;
    tracing::info!(session = %call.session(), %recording, "recording started");
    Ok(())
}

fn reason_text(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Bye => "bye",
        EndReason::Cancelled => "cancelled",
        EndReason::NoAck => "no_ack",
        EndReason::HungUp => "stopped",
        EndReason::Timeout => "timeout",
        EndReason::Gone => "gone",
        EndReason::Refused => "refused",
    }
}
