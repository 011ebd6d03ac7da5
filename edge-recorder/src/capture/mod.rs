//! Takes RTP off the network, outside tokio: waking up once per packet is most of the cost of
//! receiving audio, and a recorder has no need for low latency.
//!
//! Promises:
//!
//! - Capture waits for nobody. When the recording half does not take its batches, packets stay
//!   in the sockets or in the ring, which hold seconds of audio.
//! - A packet's time is the kernel's time of its arrival, on the boot clock, and a step of the
//!   wall clock does not move it ([`stamps`]).
//! - What arrived before a pause, an end or a shutdown is delivered; what arrives while paused is
//!   dropped and counted, and is never written anywhere.
//! - Only the source of a stream is recorded; see [`gate`] and [`latch`].
//! - The SRC hears that somebody listens; see [`report`].
//!
//! Two engines, chosen at start: [`sweep`] visits a socket per port and can run anywhere,
//! [`ring`] reads what the kernel has copied into shared memory and needs capabilities.

pub mod gate;
pub mod kept;
mod latch;
pub mod ports;
mod receive;
pub mod report;
pub mod ring;
mod stamps;
mod stream;
mod sweep;
mod tally;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::mpsc as std_mpsc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use metrics::counter;
use model::SessionId;
use segment::PacketBatch;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::config::CaptureMode;
use gate::Expected;
use ports::PortPair;
use ring::Ring;
use sweep::Sweep;

/// Time between visits. The journal commits as often, so visiting more often would not make
/// audio durable sooner.
pub const EVERY: Duration = Duration::from_millis(100);

/// Visits that may wait for the recording half: 2 s of them. When they do not suffice, packets
/// wait where the kernel put them.
pub const VISITS_WAITING: usize = 20;

/// Streams that one thread of the sweep looks after: 100,000 packets a second, for which it needs
/// a fifth of a processor.
const STREAMS_PER_THREAD: usize = 2_000;

/// What capture is told.
#[derive(Debug)]
pub enum Order {
    /// Record what arrives on these ports as stream `stream` of `session`; if `paused`, not yet.
    Open {
        session: SessionId,
        stream: u16,
        ports: PortPair,
        expected: Box<Expected>,
        /// Our name in its reports.
        cname: String,
        paused: bool,
    },
    /// What was agreed about a stream.
    Expect {
        session: SessionId,
        stream: u16,
        expected: Box<Expected>,
    },
    /// Deliver what has arrived, then drop what comes next, on these streams.
    Pause {
        session: SessionId,
        streams: Vec<u16>,
    },
    Resume {
        session: SessionId,
        streams: Vec<u16>,
    },
    /// Deliver what has arrived and close the ports of one stream.
    CloseStream {
        session: SessionId,
        stream: u16,
    },
    /// The same for all streams; answered by [`Closed`].
    Close {
        session: SessionId,
    },
}

impl Order {
    fn session(&self) -> SessionId {
        match self {
            Self::Open { session, .. }
            | Self::Expect { session, .. }
            | Self::Pause { session, .. }
            | Self::Resume { session, .. }
            | Self::CloseStream { session, .. }
            | Self::Close { session } => *session,
        }
    }
}

/// What one visit found.
#[derive(Debug, Default)]
pub struct Swept {
    pub batches: Vec<Batch>,
    pub closed: Vec<Closed>,
    pub rollovers: Vec<Rollover>,
}

impl Swept {
    fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.closed.is_empty() && self.rollovers.is_empty()
    }
}

/// How far the source of an encrypted stream has counted; for whoever goes on with it after us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollover {
    pub session: SessionId,
    pub stream: u16,
    pub ssrc: u32,
    pub roc: u32,
}

/// Packets of one session, in order of arrival per stream.
#[derive(Debug)]
pub struct Batch {
    pub session: SessionId,
    pub packets: PacketBatch,
}

/// Ports that are closed now. Everything that had arrived on them was delivered before.
#[derive(Debug)]
pub struct Closed {
    pub session: SessionId,
    /// The even ones.
    pub ports: Vec<u16>,
    /// No stream of the session is open any more.
    pub whole_session: bool,
}

/// One way of taking packets from the network.
trait Engine: Send {
    /// Takes what has arrived.
    fn visit(&mut self, found: &mut Swept);

    fn carry_out(&mut self, order: Order, found: &mut Swept);

    /// The last visit: nothing is carried out after it.
    fn visit_last(&mut self, found: &mut Swept) {
        self.visit(found);
    }
}

/// Tells capture what to do. Dropping it stops capture.
#[derive(Debug)]
pub struct Capture {
    mode: CaptureMode,
    threads: Vec<Thread>,
    most_threads: usize,
    /// Which thread a session is with, and how many streams it has.
    placed: HashMap<SessionId, (usize, usize)>,
    /// For threads that are started later; `None` after `stop`.
    output: Option<mpsc::Sender<Swept>>,
}

#[derive(Debug)]
struct Thread {
    orders: std_mpsc::Sender<Order>,
    streams: usize,
}

impl Capture {
    /// Starts the best engine that `mode` and the machine allow. `bind` is where calls are told
    /// to send. The receiver ends when capture has.
    pub fn start(mode: CaptureMode, bind: IpAddr) -> io::Result<(Self, mpsc::Receiver<Swept>)> {
        let (output, inbox) = mpsc::channel(VISITS_WAITING);
        let ring = match mode {
            CaptureMode::Sweep => None,
            CaptureMode::Auto | CaptureMode::Ring => match Ring::open(bind) {
                Ok(ring) => Some(ring),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    if mode == CaptureMode::Ring {
                        tracing::warn!(error, "no ring capture here, sweep is used instead");
                    } else {
                        tracing::info!(error, "no ring capture here, sweep is used");
                    }
                    None
                }
            },
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut capture = Self {
            mode: if ring.is_some() { CaptureMode::Ring } else { CaptureMode::Sweep },
            threads: Vec::new(),
            // A ring is one; the kernel has done the work of finding out whose a packet is.
            most_threads: if ring.is_some() { 1 } else { cores },
            placed: HashMap::new(),
            output: Some(output),
        };
        match ring {
            Some(ring) => capture.start_thread(ring)?,
            None => capture.start_thread(Sweep::default())?,
        }
        let every_ms = EVERY.as_millis();
        tracing::info!(engine = ?capture.mode, every_ms, "capture started");
        Ok((capture, inbox))
    }

    /// The engine that runs.
    #[cfg(test)]
    pub fn mode(&self) -> CaptureMode {
        self.mode
    }

    fn start_thread(&mut self, engine: impl Engine + 'static) -> io::Result<()> {
        let Some(output) = self.output.clone() else { return Ok(()) };
        let (orders, inbox) = std_mpsc::channel();
        let thread = std::thread::Builder::new().name("capture".to_owned());
        thread.spawn(move || run(engine, &inbox, &output))?;
        self.threads.push(Thread { orders, streams: 0 });
        Ok(())
    }

    pub fn order(&mut self, order: Order) {
        let session = order.session();
        let known = self.placed.get(&session).copied();
        let index = known.map_or_else(|| self.place(), |(thread, _)| thread);
        let Some(thread) = self.threads.get_mut(index) else { return };
        match &order {
            Order::Open { .. } => {
                self.placed.entry(session).or_insert((index, 0)).1 += 1;
                thread.streams += 1;
            }
            Order::CloseStream { .. } => {
                if let Some((_, streams)) = self.placed.get_mut(&session) {
                    *streams = streams.saturating_sub(1);
                    thread.streams = thread.streams.saturating_sub(1);
                }
            }
            Order::Close { .. } => {
                if let Some((_, streams)) = self.placed.remove(&session) {
                    thread.streams = thread.streams.saturating_sub(streams);
                }
            }
            Order::Expect { .. } | Order::Pause { .. } | Order::Resume { .. } => {}
        }
        // Nobody is there when the thread died, which the loop that takes its batches sees.
        let _ = thread.orders.send(order);
    }

    /// The thread for a new session: the first that has room, one more while there are
    /// processors, else the least busy one.
    fn place(&mut self) -> usize {
        let has_room = |thread: &Thread| thread.streams < STREAMS_PER_THREAD;
        if let Some(found) = self.threads.iter().position(has_room) {
            return found;
        }
        if self.threads.len() < self.most_threads {
            match self.start_thread(Sweep::default()) {
                Ok(()) => {
                    tracing::info!(threads = self.threads.len(), "capture has another thread");
                    return self.threads.len() - 1;
                }
                Err(error) => tracing::warn!(%error, "capture gets no other thread"),
            }
        }
        let least = self.threads.iter().enumerate().min_by_key(|(_, thread)| thread.streams);
        least.map_or(0, |(index, _)| index)
    }

    /// Capture visits all streams a last time and ends.
    pub fn stop(&mut self) {
        self.threads.clear();
        self.output = None;
    }
}

/// Until the sender of the orders is dropped or nobody takes what we deliver.
fn run(mut engine: impl Engine, orders: &std_mpsc::Receiver<Order>, output: &mpsc::Sender<Swept>) {
    let mut found = Swept::default();
    let mut stalled: Option<Instant> = None;
    let mut next = Instant::now() + EVERY;
    while !output.is_closed() {
        let wait = next.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            if is_taken(output, &mut stalled) {
                engine.visit(&mut found);
                deliver(output, &mut found);
            }
            // After a stall one visit finds everything; there is nothing to catch up on.
            next = (next + EVERY).max(Instant::now());
            continue;
        }
        match orders.recv_timeout(wait) {
            Ok(order) => {
                engine.carry_out(order, &mut found);
                if !found.closed.is_empty() {
                    deliver(output, &mut found);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    engine.visit_last(&mut found);
    // Nothing comes after this, so here waiting harms nobody.
    let _ = output.blocking_send(found);
}

/// Whether the recording half takes what is delivered.
fn is_taken(output: &mpsc::Sender<Swept>, stalled: &mut Option<Instant>) -> bool {
    if output.capacity() == 0 {
        if stalled.is_none() {
            tracing::warn!("the recorder does not take packets, they wait with the kernel");
            *stalled = Some(Instant::now());
        }
        counter!("linekeeper_capture_stalled_sweeps_total").increment(1);
        return false;
    }
    if let Some(since) = stalled.take() {
        let stalled_ms = since.elapsed().as_millis();
        tracing::warn!(stalled_ms, "the recorder takes packets again");
    }
    true
}

fn deliver(output: &mpsc::Sender<Swept>, found: &mut Swept) {
    if found.is_empty() {
        return;
    }
    match output.try_send(std::mem::take(found)) {
        Ok(()) | Err(TrySendError::Closed(_)) => {}
        Err(TrySendError::Full(swept)) => *found = swept,
    }
}

#[cfg(test)]
mod tests;
