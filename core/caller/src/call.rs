//! One call: INVITE until BYE (RFC 3261 §13, §14, §15).
//!
//! Each call is a task, since a recorder may ask or hang up at any time; [`Call`] is the handle
//! that steers it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use siprec::sdp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::body::{self, Ids, OfferLine};
use crate::dialog::{Dialog, Request};
use crate::endpoint::{ALLOW, Endpoint, Incoming};
use crate::message::{Message, Start};
use crate::pacer::Pacer;
use crate::plan::CallPlan;
use crate::report::{CallError, CallReport, EndedBy, Outcome, Progress};
use crate::rtp::{FRAME, RtpStream, StreamControl, Targets};
use crate::secure::OwnKey;
use crate::source::SourceId;

/// RFC 3261 §17.1.1.1
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// Frames that are due at the very end still get out before BYE.
const LAST_FRAMES: Duration = Duration::from_millis(60);

pub(crate) type Watcher = Arc<dyn Fn(Progress) + Send + Sync>;

/// Places calls by one plan through one socket or connection.
pub struct Caller {
    plan: Arc<CallPlan>,
    endpoint: Arc<Endpoint>,
    pacer: Pacer,
    watcher: Watcher,
}

impl Caller {
    /// Connects to the recorder. Needs a tokio runtime with time and IO.
    pub async fn connect(plan: CallPlan) -> Result<Self, CallError> {
        Self::connect_watched(plan, Arc::new(|_| {})).await
    }

    pub(crate) async fn connect_watched(
        plan: CallPlan,
        watcher: Watcher,
    ) -> Result<Self, CallError> {
        plan.check()?;
        let endpoint = Endpoint::open(&plan).await?;
        let pacer = Pacer::start().map_err(CallError::Pacer)?;
        Ok(Self { plan: Arc::new(plan), endpoint, pacer, watcher })
    }

    /// Begins a call. It ends after the seconds of the plan, or earlier by [`Call::hang_up`], by
    /// the recorder, or when its handle is dropped.
    pub fn call(&self, index: u32) -> Result<Call, CallError> {
        let local = self.endpoint.local();
        let dialog = Dialog::new(&self.plan, local)?;
        let mut streams = Vec::new();
        let mut lines = Vec::new();
        let max_frames = (self.plan.seconds / FRAME.as_secs_f64()).round() as u64;
        for number in 0..self.plan.streams {
            let source = SourceId::of(&self.plan, index, number);
            let opened = RtpStream::open(
                local.ip(),
                self.plan.codec,
                source,
                Some(max_frames),
                self.plan.srtp,
            )?;
            let label = self.plan.labels.then(|| (number + 1).to_string());
            lines.push((label, opened.1));
            streams.push(opened.0);
        }
        let (answered, watch_answered) = watch::channel(None);
        let (commands, receive_commands) = mpsc::channel(1);
        let call_id = dialog.call_id.clone();
        let task = Task {
            index,
            plan: Arc::clone(&self.plan),
            endpoint: Arc::clone(&self.endpoint),
            pacer: self.pacer.clone(),
            watcher: Arc::clone(&self.watcher),
            inbox: self.endpoint.register(&call_id),
            commands: receive_commands,
            ids: Ids::random()?,
            dialog,
            lines,
            streams: Some(streams),
            version: 0,
            held: false,
            unanswered_ack: None,
            peer_hung_up: false,
            snapshot_wanted: false,
            refresh: None,
        };
        let task = tokio::spawn(task.run(answered));
        Ok(Call { call_id, commands, answered: watch_answered, task })
    }
}

/// A call in progress. Dropping it hangs up.
pub struct Call {
    call_id: String,
    commands: mpsc::Sender<Command>,
    answered: watch::Receiver<Option<Outcome>>,
    task: JoinHandle<CallReport>,
}

enum Command {
    Reoffer { held: bool, rekey: bool, metadata: Option<String>, done: Done },
    HangUp,
}

type Done = oneshot::Sender<Outcome>;

impl Call {
    pub fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Waits for the final answer to the INVITE.
    pub async fn answered(&mut self) -> Outcome {
        let failed = || Outcome::Failed { problem: "the call broke off".to_owned() };
        match self.answered.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or_else(failed),
            Err(_) => failed(),
        }
    }

    /// Offers `a=inactive` and sends nothing (RFC 7866 §7.1.1.1).
    pub async fn hold(&self) -> Result<(), CallError> {
        self.reoffer(true, false, None).await
    }

    pub async fn resume(&self) -> Result<(), CallError> {
        self.reoffer(false, false, None).await
    }

    /// Offers new keys for the streams of an encrypted call (RFC 4568 §7.1.4), and uses them once
    /// they are answered.
    pub async fn rekey(&self) -> Result<(), CallError> {
        self.reoffer(false, true, None).await
    }

    /// A re-INVITE that changes nothing but the metadata, to this text.
    pub async fn send_metadata(&self, metadata: String) -> Result<(), CallError> {
        self.reoffer(false, false, Some(metadata)).await
    }

    async fn reoffer(
        &self,
        held: bool,
        rekey: bool,
        metadata: Option<String>,
    ) -> Result<(), CallError> {
        let (done, outcome) = oneshot::channel();
        let command = Command::Reoffer { held, rekey, metadata, done };
        self.commands.send(command).await.map_err(|_| CallError::Ended)?;
        match outcome.await.map_err(|_| CallError::Ended)? {
            Outcome::Answered => Ok(()),
            outcome => Err(CallError::Request { method: "INVITE", outcome }),
        }
    }

    /// Waits for the end of the call; its report is still to be had from [`Self::finished`].
    pub async fn ended(&mut self) {
        // The task holds the other end for as long as it runs.
        self.commands.closed().await;
    }

    /// Sends BYE now.
    pub async fn hang_up(self) -> Result<CallReport, CallError> {
        // Nobody is listening when the call has ended by itself, which is as good.
        let _ = self.commands.send(Command::HangUp).await;
        self.finished().await
    }

    /// Waits for the end of the call.
    pub async fn finished(self) -> Result<CallReport, CallError> {
        self.task.await.map_err(|_| CallError::Ended)
    }
}

struct Task {
    index: u32,
    plan: Arc<CallPlan>,
    endpoint: Arc<Endpoint>,
    pacer: Pacer,
    watcher: Watcher,
    inbox: mpsc::Receiver<Incoming>,
    commands: mpsc::Receiver<Command>,
    ids: Ids,
    dialog: Dialog,
    /// Label and sender of each m-line.
    lines: Vec<(Option<String>, StreamControl)>,
    /// Until the call is answered.
    streams: Option<Vec<RtpStream>>,
    version: u64,
    held: bool,
    /// Our last ACK, for when the answer to it is repeated: it was lost (§13.2.2.4).
    unanswered_ack: Option<(u32, Vec<u8>)>,
    peer_hung_up: bool,
    snapshot_wanted: bool,
    /// When to refresh the session (RFC 4028 §7.2), and how often.
    refresh: Option<(Instant, Duration)>,
}

impl Task {
    async fn run(mut self, answered: watch::Sender<Option<Outcome>>) -> CallReport {
        let index = self.index;
        let started = Instant::now();
        let outcome = self.offer(None).await;
        let answered_ms = match outcome {
            Outcome::Answered | Outcome::Refused { .. } => Some(millis(started.elapsed())),
            Outcome::Timeout | Outcome::Failed { .. } => None,
        };
        let begun = Instant::now();
        answered.send_replace(Some(outcome.clone()));
        let mut ended_by = None;
        if let (Outcome::Answered, Some(answered_ms)) = (&outcome, answered_ms) {
            (self.watcher)(Progress::Answered { index, answered_ms });
            self.pacer.begin(self.streams.take().unwrap_or_default());
            let by = self.talk(begun).await;
            (self.watcher)(Progress::Ended { index, by });
            ended_by = Some(by);
        } else {
            (self.watcher)(Progress::NotAnswered { index, outcome: outcome.clone() });
        }
        let duration_ms = if ended_by.is_some() { millis(begun.elapsed()) } else { 0 };
        self.endpoint.unregister(&self.dialog.call_id);
        let streams =
            self.lines.iter().map(|(label, control)| control.report(label.clone())).collect();
        CallReport {
            index,
            call_id: self.dialog.call_id.clone(),
            session_id: self.ids.session.clone(),
            outcome,
            answered_ms,
            duration_ms,
            ended_by,
            streams,
        }
    }

    /// From the answer to the end.
    async fn talk(&mut self, begun: Instant) -> EndedBy {
        let end = begun + Duration::from_secs_f64(self.plan.seconds) + LAST_FRAMES;
        loop {
            if self.peer_hung_up {
                self.stop();
                return EndedBy::Peer;
            }
            if std::mem::take(&mut self.snapshot_wanted) {
                // A complete document, at once (RFC 7866 §9.2).
                self.offer(None).await;
                continue;
            }
            let refresh_at = self.refresh.map_or(end, |(at, _)| at);
            tokio::select! {
                incoming = self.inbox.recv() => match incoming {
                    Some(incoming) => self.handle(incoming).await,
                    None => return self.bye().await,
                },
                command = self.commands.recv() => match command {
                    Some(Command::Reoffer { held, rekey, metadata, done }) => {
                        self.held = held;
                        if rekey && let Err(error) = self.draw_keys() {
                            let _ = done.send(Outcome::Failed { problem: error.to_string() });
                            continue;
                        }
                        // Whoever asked may have lost interest.
                        let _ = done.send(self.offer(metadata).await);
                    }
                    Some(Command::HangUp) | None => return self.bye().await,
                },
                () = sleep_until(refresh_at), if self.refresh.is_some() && refresh_at < end => {
                    self.refresh = self.refresh.map(|(_, every)| (Instant::now() + every, every));
                    self.offer(None).await;
                }
                () = sleep_until(end) => return self.bye().await,
            }
        }
    }

    /// Sends the INVITE, or a re-INVITE, and acts on its answer.
    async fn offer(&mut self, metadata: Option<String>) -> Outcome {
        self.version += 1;
        let lines: Vec<OfferLine> = self
            .lines
            .iter()
            .map(|(label, control)| OfferLine {
                port: control.port,
                label: label.clone(),
                held: self.held,
                crypto: control.own_key.as_ref().map(OwnKey::line),
            })
            .collect();
        let sdp = body::offer(&self.plan, self.endpoint.local(), self.version, &lines);
        let call_id = &self.dialog.call_id;
        let metadata =
            metadata.or_else(|| body::metadata(&self.plan, self.index, call_id, &self.ids));
        let (content_type, content) = body::assemble(&sdp, metadata.as_deref());
        let mut headers = ALLOW.to_owned();
        if self.plan.require {
            headers += "Require: siprec\r\n";
        }
        if let Some(secs) = self.plan.session_expires_secs {
            headers += &format!("Supported: timer\r\nSession-Expires: {secs}\r\n");
        }
        for (name, value) in &self.plan.headers {
            headers += &format!("{name}: {value}\r\n");
        }
        let request = match self.dialog.request("INVITE", &headers, Some((&content_type, &content)))
        {
            Ok(request) => request,
            Err(error) => return Outcome::Failed { problem: error.to_string() },
        };
        let answer = match self.transact(&request).await {
            Ok(answer) => answer,
            Err(outcome) => return outcome,
        };
        if let Start::Response { status, reason } = &answer.start
            && *status >= 300
        {
            let ack = self.dialog.ack_failure(&request, &answer);
            self.send(&ack).await;
            return Outcome::Refused { status: *status, reason: reason.clone() };
        }
        self.dialog.learn(&answer);
        match self.dialog.ack_success(request.cseq) {
            Ok(ack) => {
                self.send(&ack).await;
                self.unanswered_ack = Some((request.cseq, ack));
            }
            Err(error) => return Outcome::Failed { problem: error.to_string() },
        }
        self.note_session_timer(&answer);
        match self.apply(&answer) {
            Ok(()) => Outcome::Answered,
            Err(problem) => {
                self.bye().await;
                Outcome::Failed { problem }
            }
        }
    }

    /// New keys for every encrypted stream.
    fn draw_keys(&mut self) -> Result<(), CallError> {
        for (_, control) in &mut self.lines {
            if let Some(old) = &control.own_key {
                let suite = old.keying().suite;
                control.own_key = Some(OwnKey::random(suite, old.tag() + 1)?);
            }
        }
        Ok(())
    }

    /// Sends each stream where the answer wants it.
    fn apply(&mut self, answer: &Message) -> Result<(), String> {
        let answer = sdp::offer::parse(&answer.body).map_err(|error| error.to_string())?;
        if answer.media.len() != self.lines.len() {
            let (answered, offered) = (answer.media.len(), self.lines.len());
            return Err(format!("{answered} m-lines answer {offered}"));
        }
        for ((_, control), media) in self.lines.iter_mut().zip(&answer.media) {
            let receives =
                matches!(media.direction, sdp::Direction::RecvOnly | sdp::Direction::SendRecv);
            if let Some(own_key) = control.own_key.as_ref().filter(|_| !media.port_zero()) {
                control.agree(&own_key.answered_by(media)?);
            }
            let targets = media
                .address
                .filter(|_| receives && !self.held)
                .map(|rtp| Targets { rtp, rtcp: media.rtcp_address() });
            control.set_targets(targets);
        }
        Ok(())
    }

    fn note_session_timer(&mut self, answer: &Message) {
        let expires = answer.header("Session-Expires").unwrap_or_default();
        let ours = expires.to_ascii_lowercase().contains("refresher=uac");
        let secs = expires.split(';').next().and_then(|secs| secs.trim().parse::<u64>().ok());
        // At half time (RFC 4028 §7.2).
        self.refresh = secs.filter(|secs| ours && *secs > 0).map(|secs| {
            let every = Duration::from_millis(secs.saturating_mul(500).min(86_400_000));
            (Instant::now() + every, every)
        });
    }

    /// Sends a request until it is answered for good (§17.1).
    async fn transact(&mut self, request: &Request) -> Result<Message, Outcome> {
        let failed = |error: std::io::Error| Outcome::Failed { problem: error.to_string() };
        let hop = self.dialog.next_hop();
        self.endpoint.send(&request.bytes, hop).await.map_err(failed)?;
        let invite = request.method == "INVITE";
        let mut interval = T1;
        let mut again = Instant::now() + interval;
        let mut repeating = !self.endpoint.reliable();
        let mut give_up = Instant::now() + self.plan.answer_timeout;
        loop {
            tokio::select! {
                incoming = self.inbox.recv() => {
                    let Some(incoming) = incoming else { return Err(Outcome::Timeout) };
                    let status = incoming.message.status();
                    let status = status.filter(|_| {
                        incoming.message.cseq() == Some((request.cseq, request.method))
                    });
                    match status {
                        Some(100..=199) => {
                            // An INVITE is not repeated any more, and may ring.
                            repeating &= !invite;
                            interval = T2;
                            give_up = Instant::now() + self.plan.answer_timeout;
                        }
                        Some(_) => return Ok(incoming.message),
                        None => self.handle(incoming).await,
                    }
                }
                () = sleep_until(again), if repeating => {
                    self.endpoint.send(&request.bytes, hop).await.map_err(failed)?;
                    interval = if invite { interval * 2 } else { (interval * 2).min(T2) };
                    again = Instant::now() + interval;
                }
                () = sleep_until(give_up) => return Err(Outcome::Timeout),
            }
        }
    }

    /// What is not the answer that we wait for.
    async fn handle(&mut self, Incoming { message, from }: Incoming) {
        let Start::Request { method } = &message.start else {
            if let Some((cseq, "INVITE")) = message.cseq()
                && let Some((acked, ack)) = &self.unanswered_ack
                && cseq == *acked
            {
                let ack = ack.clone();
                self.send(&ack).await;
            }
            return;
        };
        let (status, reason, extra) = match method.as_str() {
            "ACK" => return,
            "BYE" => {
                self.peer_hung_up = true;
                (200, "OK", "")
            }
            "OPTIONS" => (200, "OK", ALLOW),
            "UPDATE" => {
                let wanted = b"requestsnapshot";
                self.snapshot_wanted |=
                    message.body.windows(wanted.len()).any(|window| window == wanted);
                (200, "OK", "")
            }
            "INFO" => (200, "OK", ""),
            // A recorder has nothing to offer to us.
            "INVITE" => (488, "Not Acceptable Here", ""),
            _ => (501, "Not Implemented", ALLOW),
        };
        let answer = message.response(status, reason, "caller", extra);
        // If it is lost, the request will be repeated.
        let _ = self.endpoint.send(&answer, from).await;
    }

    async fn bye(&mut self) -> EndedBy {
        self.stop();
        let Ok(request) = self.dialog.request("BYE", "", None) else {
            return EndedBy::UsUnconfirmed;
        };
        match self.transact(&request).await {
            Ok(answer) if matches!(answer.status(), Some(200..=299)) => EndedBy::Us,
            _ => EndedBy::UsUnconfirmed,
        }
    }

    fn stop(&self) {
        self.lines.iter().for_each(|(_, control)| control.stop());
    }

    /// For what is repeated by the other side's timers if it is lost.
    async fn send(&mut self, bytes: &[u8]) {
        let hop: Option<SocketAddr> = self.dialog.next_hop();
        if let Err(error) = self.endpoint.send(bytes, hop).await {
            tracing::debug!(%error, "send");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
