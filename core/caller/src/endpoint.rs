//! The one socket or connection that all calls share, as they do at a session border controller.
//!
//! A connection that breaks is made again for the next message: a recorder that is restarted
//! must find the BYE of a call that it was restarted in.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::message::{Message, Start, Taken, take};
use crate::plan::{CallPlan, Transport};
use crate::report::CallError;
use crate::tls;

/// For connecting, and for getting rid of a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// A call gets a handful of messages. What does not fit is lost, as on UDP, and repeated.
const INBOX: usize = 64;

/// A message for a call.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub message: Message,
    /// Where an answer goes; `None`: back through the connection.
    pub from: Option<SocketAddr>,
}

pub(crate) struct Endpoint {
    target: SocketAddr,
    local: SocketAddr,
    calls: StdMutex<HashMap<String, mpsc::Sender<Incoming>>>,
    wire: Wire,
}

enum Wire {
    Udp { socket: UdpSocket, reader: StdMutex<Option<AbortHandle>> },
    Stream { tls: Option<(TlsConnector, ServerName<'static>)>, link: Mutex<Option<Link>> },
}

/// A connection. Dropping it closes both directions.
struct Link {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Cleared by the reader at the end of the stream.
    alive: Arc<AtomicBool>,
    reader: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Self::Udp { reader, .. } = self
            && let Some(reader) = reader.get_mut().unwrap_or_else(PoisonError::into_inner).take()
        {
            reader.abort();
        }
    }
}

impl Endpoint {
    pub async fn open(plan: &CallPlan) -> Result<Arc<Self>, CallError> {
        let target = plan.target;
        let connecting = |source| CallError::Connect { target, source };
        let ip = local_ip(target).map_err(connecting)?;
        let calls = StdMutex::default();
        if plan.transport == Transport::Udp {
            let address = SocketAddr::new(ip, 0);
            let binding = |source| CallError::Bind { address, source };
            let socket = UdpSocket::bind(address).await.map_err(binding)?;
            let local = socket.local_addr().map_err(binding)?;
            let wire = Wire::Udp { socket, reader: StdMutex::default() };
            let endpoint = Arc::new(Self { target, local, calls, wire });
            let reader = tokio::spawn(read_datagrams(Arc::downgrade(&endpoint))).abort_handle();
            if let Wire::Udp { reader: slot, .. } = &endpoint.wire {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
            }
            return Ok(endpoint);
        }
        let tls = match plan.transport {
            Transport::Tls => Some((tls::connector(&plan.tls)?, tls::server_name(&plan.host())?)),
            _ => None,
        };
        let (stream, local) = connect(target, tls.as_ref()).await.map_err(connecting)?;
        let wire = Wire::Stream { tls, link: Mutex::default() };
        let endpoint = Arc::new(Self { target, local, calls, wire });
        if let Wire::Stream { link, .. } = &endpoint.wire {
            *link.lock().await = Some(endpoint.link(stream));
        }
        Ok(endpoint)
    }

    /// What to put into `Via` and `Contact`. On a connection that was made again, its first.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub fn reliable(&self) -> bool {
        matches!(self.wire, Wire::Stream { .. })
    }

    /// Messages with this Call-ID, from now until the receiver is dropped and
    /// [`Self::unregister`] is called.
    pub fn register(&self, call_id: &str) -> mpsc::Receiver<Incoming> {
        let (sender, receiver) = mpsc::channel(INBOX);
        self.lock_calls().insert(call_id.to_owned(), sender);
        receiver
    }

    pub fn unregister(&self, call_id: &str) {
        self.lock_calls().remove(call_id);
    }

    /// `to` matters on UDP only.
    pub async fn send(self: &Arc<Self>, bytes: &[u8], to: Option<SocketAddr>) -> io::Result<()> {
        match &self.wire {
            Wire::Udp { socket, .. } => {
                socket.send_to(bytes, to.unwrap_or(self.target)).await.map(drop)
            }
            Wire::Stream { tls, link } => {
                let mut link = link.lock().await;
                if link.as_ref().is_none_or(|link| !link.alive.load(Ordering::Relaxed)) {
                    *link = None;
                    let (stream, _) = connect(self.target, tls.as_ref()).await?;
                    *link = Some(self.link(stream));
                }
                let Some(Link { writer, .. }) = link.as_mut() else { unreachable!("set above") };
                let written = timeout(PATIENCE, async {
                    writer.write_all(bytes).await?;
                    writer.flush().await
                });
                let result = written.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                if result.is_err() {
                    // Perhaps half a message went out; nothing can follow it.
                    *link = None;
                }
                result
            }
        }
    }

    fn link(self: &Arc<Self>, stream: Box<dyn Stream>) -> Link {
        let (reader, writer) = tokio::io::split(stream);
        let alive = Arc::new(AtomicBool::new(true));
        let endpoint = Arc::downgrade(self);
        let reading = tokio::spawn(read_stream(endpoint, reader, Arc::clone(&alive)));
        Link { writer: Box::new(writer), alive, reader: reading.abort_handle() }
    }

    fn lock_calls(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::Sender<Incoming>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dispatch(self: &Arc<Self>, message: Message, from: Option<SocketAddr>) {
        let call = message.header("Call-ID").and_then(|id| self.lock_calls().get(id).cloned());
        if let Some(call) = call {
            // A full inbox: see `INBOX`.
            let _ = call.try_send(Incoming { message, from });
            return;
        }
        // Nothing we started; a recorder may ask whether we are alive.
        if let Start::Request { method } = &message.start {
            let answer = match method.as_str() {
                "ACK" => return,
                "OPTIONS" => message.response(200, "OK", "caller", ALLOW),
                _ => message.response(481, "Call/Transaction Does Not Exist", "caller", ""),
            };
            // If it is lost, the question will be repeated.
            let _ = self.send(&answer, from).await;
        }
    }
}

pub(crate) const ALLOW: &str = "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO\r\n";

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(
    target: SocketAddr,
    tls: Option<&(TlsConnector, ServerName<'static>)>,
) -> io::Result<(Box<dyn Stream>, SocketAddr)> {
    let connecting = async {
        let tcp = TcpStream::connect(target).await?;
        tcp.set_nodelay(true)?;
        let local = tcp.local_addr()?;
        let stream: Box<dyn Stream> = match tls {
            Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await?),
            None => Box::new(tcp),
        };
        Ok((stream, local))
    };
    timeout(PATIENCE, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The address from which the system would send to `target`.
pub(crate) fn local_ip(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = std::net::UdpSocket::bind((any, 0))?;
    // Sends nothing.
    probe.connect(target)?;
    Ok(probe.local_addr()?.ip())
}

async fn read_datagrams(endpoint: Weak<Endpoint>) {
    let mut buffer = vec![0; 65_536];
    // The endpoint aborts this task when it goes.
    while let Some(endpoint) = endpoint.upgrade() {
        let Wire::Udp { socket, .. } = &endpoint.wire else { return };
        // Not longer than this, so that the endpoint is not held for ever.
        match timeout(Duration::from_millis(200), socket.recv_from(&mut buffer)).await {
            Ok(Ok((length, from))) => {
                if let Some(message) = Message::parse(&buffer[..length]) {
                    endpoint.dispatch(message, Some(from)).await;
                }
            }
            // E.g. port unreachable for an earlier packet.
            Ok(Err(error)) => tracing::debug!(%error, "receive"),
            Err(_) => {}
        }
    }
}

async fn read_stream(
    endpoint: Weak<Endpoint>,
    mut reader: impl AsyncRead + Unpin,
    alive: Arc<AtomicBool>,
) {
    let mut stream = Vec::new();
    let mut buffer = vec![0; 16_384];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => stream.extend_from_slice(&buffer[..length]),
        }
        let taken = loop {
            match take(&mut stream) {
                Taken::Message(message) => match endpoint.upgrade() {
                    Some(endpoint) => endpoint.dispatch(message, None).await,
                    None => return,
                },
                other => break other,
            }
        };
        if taken == Taken::Broken {
            tracing::warn!("connection carries something that is not SIP");
            break;
        }
    }
    alive.store(false, Ordering::Relaxed);
}
