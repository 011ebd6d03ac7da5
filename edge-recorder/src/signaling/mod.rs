//! The loop around [`siprec::Srs`]: the only SIP sockets and the only SIP clock.
//!
//! Nothing is decided here. Bytes and the time go in, what comes out is handed to the
//! [`Recorder`] or sent. Events are handed on before anything is sent, so that a dialog is in the
//! journal's buffer before its 200 leaves.
//!
//! The loop runs on a thread of its own, with a runtime of its own: a busy upload or web server
//! in the same process must not delay an answer.

mod tcp;
pub mod tls;
mod udp;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use siprec::{ConnId, Input, Srs, Transmit};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use crate::capture::Swept;
use crate::config::SipConfig;
use crate::session::{Control, Door, Flow, Recorder};
use tcp::{Connections, FromPeer, Limits};
use tls::Tls;
pub use tls::TlsError;
use udp::Udp;

/// How often the recorder looks at health, drain and deadlines of its own.
const TICK: Duration = Duration::from_millis(250);

/// Why the SIP sockets could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{address} ({transport}) is in use by another process: stop it, or change {key}")]
    InUse { address: SocketAddr, transport: &'static str, key: &'static str },
    #[error("listen on {address} ({transport}), from {key}")]
    Listen {
        address: SocketAddr,
        transport: &'static str,
        key: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("set up TLS")]
    Tls(#[from] TlsError),
}

impl ListenError {
    pub(crate) fn new(
        address: SocketAddr,
        transport: &'static str,
        key: &'static str,
        source: io::Error,
    ) -> Self {
        if source.kind() == io::ErrorKind::AddrInUse {
            Self::InUse { address, transport, key }
        } else {
            Self::Listen { address, transport, key, source }
        }
    }
}

/// Open SIP sockets on which nobody answers yet.
pub struct Listeners {
    udp: Udp,
    tcp: TcpListener,
    tls: Option<(TcpListener, Tls)>,
    limits: Limits,
}

impl Listeners {
    /// Must be called within the runtime that will run the loop.
    pub fn open(config: &SipConfig) -> Result<Self, ListenError> {
        const KEY: &str = "sip.listen";
        let (udp, tcp) = open_both(config.listen)?;
        let tls = match (&config.tls, config.tls_listen) {
            (Some(tls), Some(address)) => {
                let acceptor = Tls::new(tls)?;
                let listener = tcp::listen(address)
                    .map_err(|error| ListenError::new(address, "TLS", "sip.tls_listen", error))?;
                Some((listener, acceptor))
            }
            _ => None,
        };
        tracing::info!(address = %udp.local(), key = KEY, "listening for SIP over UDP and TCP");
        let limits = Limits {
            connections: config.max_connections.get() as usize,
            per_address: config.max_connections_per_address.get() as usize,
        };
        Ok(Self { udp, tcp, tls, limits })
    }

    /// UDP and TCP.
    pub fn local(&self) -> SocketAddr {
        self.udp.local()
    }

    pub fn tls_local(&self) -> Option<SocketAddr> {
        self.tls.as_ref().and_then(|(listener, _)| listener.local_addr().ok())
    }
}

/// The same port twice. When the kernel is to choose it (port 0), its choice for UDP may be taken
/// for TCP; then another one is tried.
fn open_both(address: SocketAddr) -> Result<(Udp, TcpListener), ListenError> {
    const KEY: &str = "sip.listen";
    const TRIES: u32 = 16;
    let mut tries = 0;
    loop {
        tries += 1;
        let udp = Udp::bind(address).map_err(|e| ListenError::new(address, "UDP", KEY, e))?;
        let same = SocketAddr::new(address.ip(), udp.local().port());
        match tcp::listen(same) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error)
                if address.port() == 0
                    && error.kind() == io::ErrorKind::AddrInUse
                    && tries < TRIES => {}
            Err(error) => return Err(ListenError::new(same, "TCP", KEY, error)),
        }
    }
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    AsAsked,
    CaptureDied,
}

/// The sockets, the state machine and the connections.
pub struct Signaling {
    srs: Srs,
    udp: Udp,
    peers: mpsc::Receiver<FromPeer>,
    outboxes: HashMap<ConnId, mpsc::Sender<Vec<u8>>>,
}

impl Signaling {
    /// Starts to accept connections. Must be called within the runtime that runs the loop.
    pub fn start(listeners: Listeners, srs: Srs, door: Door) -> Self {
        let (inbox, peers) = mpsc::channel(tcp::QUEUED_CHUNKS);
        let connections = Connections::new(listeners.limits, door, inbox);
        tokio::spawn(tcp::accept(listeners.tcp, None, connections.clone()));
        if let Some((listener, acceptor)) = listeners.tls {
            tokio::spawn(acceptor.clone().watch_files("SIP"));
            tokio::spawn(tcp::accept(listener, Some(acceptor), connections));
        }
        Self { srs, udp: listeners.udp, peers, outboxes: HashMap::new() }
    }

    /// Until the recorder has had enough, or capture has ended.
    pub async fn run(
        mut self,
        recorder: &mut Recorder,
        swept: &mut mpsc::Receiver<Swept>,
        control: &mut mpsc::Receiver<Control>,
    ) -> Stopped {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.drain(recorder);
            let deadline = self.srs.poll_timeout();
            let takes_packets = recorder.takes_packets(swept.len());
            tokio::select! {
                readable = self.udp.readable() => match readable {
                    Ok(()) => self.read_datagrams(recorder),
                    Err(error) => tracing::error!(%error, "the SIP socket cannot be read"),
                },
                Some(from_peer) = self.peers.recv() => self.take(from_peer),
                swept = swept.recv(), if takes_packets => match swept {
                    Some(swept) => recorder.swept(swept),
                    None => return Stopped::CaptureDied,
                },
                Some(control) = control.recv() => {
                    recorder.control(Instant::now(), &mut self.srs, control);
                }
                () = sleep_until(deadline.unwrap_or_else(far_away).into()) => {
                    self.srs.handle_timeout(Instant::now());
                }
                _ = tick.tick() => {
                    if recorder.tick(Instant::now(), &mut self.srs) == Flow::Stop {
                        self.drain(recorder);
                        return Stopped::AsAsked;
                    }
                }
            }
        }
    }

    fn read_datagrams(&mut self, recorder: &mut Recorder) {
        let Self { srs, udp, .. } = self;
        // Each datagram's events are handed on before the next is read, as if they came apart.
        let mut outgoing = Vec::new();
        udp.read(|local, peer, bytes| {
            srs.handle_input(Instant::now(), Input::Datagram { local, peer, bytes });
            hand_on(srs, recorder, &mut outgoing);
        });
        for transmit in outgoing {
            self.send(transmit);
        }
    }

    fn take(&mut self, from_peer: FromPeer) {
        let now = Instant::now();
        match from_peer {
            FromPeer::Connected { conn, transport, local, peer, tls_names, outbox } => {
                self.outboxes.insert(conn, outbox);
                self.srs.handle_input(now, Input::Connected { conn, transport, local, peer });
                if !tls_names.is_empty() {
                    self.srs.handle_input(now, Input::Certificate { conn, names: &tls_names });
                }
            }
            // What arrives after we closed the connection is nobody's any more.
            FromPeer::Bytes { conn, bytes } if self.outboxes.contains_key(&conn) => {
                self.srs.handle_input(now, Input::Stream { conn, bytes: &bytes });
            }
            FromPeer::Bytes { .. } => {}
            FromPeer::Disconnected { conn } => {
                if self.outboxes.remove(&conn).is_some() {
                    self.srs.handle_input(now, Input::Disconnected { conn });
                }
            }
        }
    }

    /// Hands on and sends everything that follows from the last input.
    fn drain(&mut self, recorder: &mut Recorder) {
        let mut outgoing = Vec::new();
        hand_on(&mut self.srs, recorder, &mut outgoing);
        for transmit in outgoing {
            self.send(transmit);
        }
    }

    fn send(&mut self, transmit: Transmit) {
        match transmit {
            Transmit::Datagram { peer, bytes, .. } => self.udp.send(peer, &bytes),
            Transmit::Stream { conn, bytes } => {
                let Some(outbox) = self.outboxes.get(&conn) else { return };
                if outbox.try_send(bytes).is_err() {
                    tracing::warn!(conn = conn.0, "a SIP peer does not read, disconnecting it");
                    self.outboxes.remove(&conn);
                    self.srs.handle_input(Instant::now(), Input::Disconnected { conn });
                }
            }
            Transmit::Close { conn } => {
                self.outboxes.remove(&conn);
            }
        }
    }
}

/// Hands all events on, and collects what is to be sent after them. Answering an event may cause
/// further events, so this goes on until there is nothing of either.
fn hand_on(srs: &mut Srs, recorder: &mut Recorder, outgoing: &mut Vec<Transmit>) {
    loop {
        let mut quiet = true;
        while let Some(event) = srs.poll_event() {
            recorder.event(Instant::now(), srs, event);
            quiet = false;
        }
        while let Some(transmit) = srs.poll_transmit() {
            outgoing.push(transmit);
            quiet = false;
        }
        if quiet {
            return;
        }
    }
}

/// A time that a select can wait for when there is no deadline.
fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}
