//! SIP over TCP and TLS (RFC 3261 §18): connections as streams of bytes, nothing more.
//!
//! Each connection is one task with two bounded sides. What comes in waits in the peer's own
//! socket while the recorder is busy. What goes out waits in a queue; a peer that does not read
//! fills it and is disconnected, which costs it the connection and nobody else anything.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use metrics::counter;
use siprec::{ConnId, Transport};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::tls::{self, Tls};
use crate::route::canonical;
use crate::session::Door;

/// Messages to one peer that may wait. A peer has a handful under way unless it stopped reading.
const QUEUED_MESSAGES: usize = 64;

/// Chunks from all connections that may wait for the loop. Full: their tasks wait, then the
/// peers' sockets fill, then the peers wait.
pub const QUEUED_CHUNKS: usize = 256;

const CHUNK_BYTES: usize = 16 * 1024;
const BACKLOG: i32 = 1_024;
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// A vanished peer is noticed after about three minutes.
const KEEPALIVE: Duration = Duration::from_secs(120);

/// What happens on connections.
#[derive(Debug)]
pub enum FromPeer {
    Connected {
        conn: ConnId,
        transport: Transport,
        local: SocketAddr,
        peer: SocketAddr,
        /// In its client certificate.
        tls_names: Vec<String>,
        outbox: mpsc::Sender<Vec<u8>>,
    },
    Bytes {
        conn: ConnId,
        bytes: Vec<u8>,
    },
    Disconnected {
        conn: ConnId,
    },
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub connections: usize,
    /// From one address that is of no trunk.
    pub per_address: usize,
}

/// Of all connections, those from addresses that are no trunk's, while there are trunks. They can
/// only be told that they are strangers.
fn room_for_strangers(connections: usize) -> usize {
    (connections / 8).max(1)
}

/// What all listeners share.
#[derive(Clone, Debug)]
pub struct Connections {
    inbox: mpsc::Sender<FromPeer>,
    next: Arc<AtomicU64>,
    door: Door,
    room: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    per_address: usize,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The place that an open connection takes, until it is dropped.
struct Seat {
    _room: OwnedSemaphorePermit,
    _among_strangers: Option<OwnedSemaphorePermit>,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_address = lock(&self.by_address);
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Connections {
    pub fn new(limits: Limits, door: Door, inbox: mpsc::Sender<FromPeer>) -> Self {
        Self {
            inbox,
            next: Arc::default(),
            door,
            room: Arc::new(Semaphore::new(limits.connections)),
            strangers: Arc::new(Semaphore::new(room_for_strangers(limits.connections))),
            per_address: limits.per_address,
            by_address: Arc::default(),
        }
    }

    /// Room for one more from this address, or which limit stands against it.
    fn seat(&self, address: IpAddr) -> Result<Seat, &'static str> {
        let (has_trunks, may_be_trunk) = {
            let trunks = self.door.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            (!trunks.is_empty(), trunks.may_be_at(address))
        };
        let is_trunk = has_trunks && may_be_trunk;
        let among_strangers = if may_be_trunk {
            None
        } else {
            Some(self.strangers.clone().try_acquire_owned().map_err(|_| "strangers")?)
        };
        let mut by_address = lock(&self.by_address);
        let count = by_address.get(&address).copied().unwrap_or(0);
        if !is_trunk && count >= self.per_address {
            return Err("per_address");
        }
        let room = self.room.clone().try_acquire_owned().map_err(|_| "all")?;
        by_address.insert(address, count + 1);
        Ok(Seat {
            _room: room,
            _among_strangers: among_strangers,
            by_address: self.by_address.clone(),
            address,
        })
    }
}

/// Must be called within a runtime.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restarted recorder must not wait for the old connections' TIME_WAIT. On Linux this does
    // not let two processes listen at once.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections for as long as somebody listens to `connections`.
pub async fn accept(listener: TcpListener, tls: Option<Tls>, connections: Connections) {
    while !connections.inbox.is_closed() {
        let (stream, peer) = match listener.accept().await {
            Ok((stream, peer)) => (stream, canonical(peer)),
            Err(error) => {
                // Out of file descriptors, mostly. Those who wait stay in the backlog.
                tracing::warn!(%error, "a SIP connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let seat = match connections.seat(peer.ip()) {
            Ok(seat) => seat,
            Err(limit) => {
                // Not a line for each: this is what a flood looks like.
                counter!("linekeeper_sip_connections_refused_total", "limit" => limit).increment(1);
                tracing::debug!(%peer, limit, "a SIP connection was closed: too many are open");
                continue;
            }
        };
        let conn = ConnId(connections.next.fetch_add(1, Ordering::Relaxed));
        let inbox = connections.inbox.clone();
        let acceptor = tls.as_ref().map(Tls::acceptor);
        tokio::spawn(async move {
            let _seat = seat;
            if let Err(error) = serve(stream, peer, conn, acceptor, inbox).await {
                tracing::debug!(%peer, %error, "SIP connection");
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    conn: ConnId,
    tls: Option<TlsAcceptor>,
    inbox: mpsc::Sender<FromPeer>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    let local = canonical(stream.local_addr()?);
    match tls {
        None => {
            let connected = FromPeer::connected(conn, Transport::Tcp, local, peer, Vec::new());
            carry(stream, connected, inbox).await;
        }
        Some(tls) => {
            let stream = timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await??;
            let names = tls::client_names(stream.get_ref().1);
            let connected = FromPeer::connected(conn, Transport::Tls, local, peer, names);
            carry(stream, connected, inbox).await;
        }
    }
    Ok(())
}

impl FromPeer {
    fn connected(
        conn: ConnId,
        transport: Transport,
        local: SocketAddr,
        peer: SocketAddr,
        tls_names: Vec<String>,
    ) -> (ConnId, Self, mpsc::Receiver<Vec<u8>>) {
        let (outbox, queue) = mpsc::channel(QUEUED_MESSAGES);
        (conn, Self::Connected { conn, transport, local, peer, tls_names, outbox }, queue)
    }
}

/// Carries bytes both ways until the peer or the loop has had enough.
async fn carry(
    stream: impl AsyncRead + AsyncWrite,
    (conn, connected, mut queue): (ConnId, FromPeer, mpsc::Receiver<Vec<u8>>),
    inbox: mpsc::Sender<FromPeer>,
) {
    if inbox.send(connected).await.is_err() {
        return;
    }
    let (mut reader, mut writer) = tokio::io::split(stream);
    let read = async {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let bytes = match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(length) => buffer[..length].to_vec(),
            };
            if inbox.send(FromPeer::Bytes { conn, bytes }).await.is_err() {
                break;
            }
        }
    };
    let write = async {
        while let Some(bytes) = queue.recv().await {
            match timeout(WRITE_LIMIT, writer.write_all(&bytes)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
        let _ = timeout(WRITE_LIMIT, writer.shutdown()).await;
    };
    tokio::pin!(write);
    tokio::select! {
        () = read => {
            // The peer says no more but may still read. When the loop hears of it, it drops the
            // queue's other end, and the answers that are in it still leave.
            let _ = inbox.send(FromPeer::Disconnected { conn }).await;
            write.await;
        }
        () = &mut write => {
            let _ = inbox.send(FromPeer::Disconnected { conn }).await;
        }
    }
}
