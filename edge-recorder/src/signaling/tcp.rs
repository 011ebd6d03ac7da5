//! SIP over TCP and TLS (RFC 3261 §18): connections as streams of bytes, nothing more.
//!
//! Each connection is one task with two bounded sides. What comes in waits in the peer's own
//! socket while the recorder is busy. What goes out waits in a queue; a peer that does not read
//! fills it and is disconnected, which costs it the connection and nobody else anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use siprec::{ConnId, Transport};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::route::canonical;

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

/// What all listeners share.
#[derive(Clone, Debug)]
pub struct Connections {
    inbox: mpsc::Sender<FromPeer>,
    next: Arc<AtomicU64>,
    room: Arc<Semaphore>,
}

impl Connections {
    pub fn new(max_connections: usize, inbox: mpsc::Sender<FromPeer>) -> Self {
        Self { inbox, next: Arc::default(), room: Arc::new(Semaphore::new(max_connections)) }
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
pub async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, connections: Connections) {
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
        let Ok(room) = connections.room.clone().try_acquire_owned() else {
            tracing::warn!(%peer, "a SIP connection was closed: sip.max_connections are open");
            continue;
        };
        let conn = ConnId(connections.next.fetch_add(1, Ordering::Relaxed));
        let inbox = connections.inbox.clone();
        let tls = tls.clone();
        tokio::spawn(async move {
            let _room = room;
            if let Err(error) = serve(stream, peer, conn, tls, inbox).await {
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
            carry(stream, FromPeer::connected(conn, Transport::Tcp, local, peer), inbox).await;
        }
        Some(tls) => {
            let stream = timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await??;
            carry(stream, FromPeer::connected(conn, Transport::Tls, local, peer), inbox).await;
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
    ) -> (ConnId, Self, mpsc::Receiver<Vec<u8>>) {
        let (outbox, queue) = mpsc::channel(QUEUED_MESSAGES);
        (conn, Self::Connected { conn, transport, local, peer, outbox }, queue)
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
