//! Takes RTP off the network, outside tokio: waking up once per packet is most of the cost of
//! receiving audio, and a recorder has no need for low latency.
//!
//! Promises:
//!
//! - Capture waits for nobody. When the recording half does not take its batches, packets stay
//!   in the sockets, whose buffers hold about 5 s of a G.711 stream.
//! - A packet's time is the kernel's time of its arrival, on the boot clock.
//! - What arrived before a pause, an end or a shutdown is delivered; what arrives while paused is
//!   dropped and counted, and is never written anywhere.
//! - Only the source of a stream is recorded; see [`gate`] and [`latch`].
//! - The SRC hears that somebody listens; see [`report`].

pub mod gate;
mod latch;
pub mod ports;
mod receive;
pub mod report;
mod sweep;

use std::sync::mpsc as std_mpsc;

use model::SessionId;
use segment::Packet;
use tokio::sync::mpsc;

use crate::config::CaptureMode;
use gate::Expected;
use ports::PortPair;

/// Sweeps that may wait for the recording half: 2 s of them. When they do not suffice, packets
/// wait in their sockets.
const SWEEPS_WAITING: usize = 20;

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

/// What one visit of the sockets found.
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
    pub packets: Vec<Packet>,
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

/// Tells capture what to do. Dropping it stops capture.
#[derive(Debug)]
pub struct Capture {
    orders: Option<std_mpsc::Sender<Order>>,
}

impl Capture {
    /// Starts the thread. The receiver ends when capture has.
    pub fn start(mode: CaptureMode) -> std::io::Result<(Self, mpsc::Receiver<Swept>)> {
        match mode {
            CaptureMode::Auto | CaptureMode::Sweep => {}
            CaptureMode::Ring => {
                tracing::warn!("this build has no ring capture, using sweep");
            }
        }
        let (orders, order_inbox) = std_mpsc::channel();
        let (swept, swept_inbox) = mpsc::channel(SWEEPS_WAITING);
        let thread = std::thread::Builder::new().name("capture".to_owned());
        thread.spawn(move || sweep::Sweep::new(order_inbox, swept).run())?;
        tracing::info!(engine = "sweep", every_ms = sweep::EVERY.as_millis(), "capture started");
        Ok((Self { orders: Some(orders) }, swept_inbox))
    }

    pub fn order(&self, order: Order) {
        // Nobody is there after `stop`, or when the thread died, which the loop that takes its
        // batches sees.
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
    }

    /// Capture visits all sockets a last time and ends.
    pub fn stop(&mut self) {
        self.orders = None;
    }
}
