//! SIP over UDP (RFC 3261 §18).
//!
//! A SIPREC INVITE with metadata has 2.5 to 4 kB and arrives in fragments, which the kernel puts
//! together; the buffer takes the largest datagram there is.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::route::{Routes, canonical};

const LARGEST_DATAGRAM_BYTES: usize = 65_535;

/// Requests that may wait while a burst of calls is answered: about a thousand INVITEs.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Datagrams read before others get their turn.
const READS_PER_TURN: usize = 64;

#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    local: SocketAddr,
    routes: Routes,
    buffer: Vec<u8>,
}

impl Udp {
    /// Must be called within a runtime.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        // Asked for, not demanded: the kernel grants no more than net.core.rmem_max.
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.bind(&address.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        let local = socket.local_addr()?;
        let routes = Routes::new(local.ip());
        Ok(Self { socket, local, routes, buffer: vec![0; LARGEST_DATAGRAM_BYTES] })
    }

    pub fn local(&self) -> SocketAddr {
        self.local
    }

    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Hands on what is waiting: local address, peer, bytes.
    pub fn read(&mut self, mut each: impl FnMut(SocketAddr, SocketAddr, &[u8])) {
        for _ in 0..READS_PER_TURN {
            match self.socket.try_recv_from(&mut self.buffer) {
                Ok((length, peer)) => {
                    let peer = canonical(peer);
                    let local = SocketAddr::new(self.routes.towards(peer.ip()), self.local.port());
                    each(local, peer, &self.buffer[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error for an earlier datagram of ours. The transaction repeats it.
                Err(error) => tracing::debug!(%error, "SIP socket"),
            }
        }
    }

    /// A datagram that does not leave at once is lost, as it could be on the way: SIP repeats it.
    pub fn send(&self, peer: SocketAddr, bytes: &[u8]) {
        let peer = match (self.local, peer) {
            (SocketAddr::V6(_), SocketAddr::V4(peer)) => {
                SocketAddr::from((peer.ip().to_ipv6_mapped(), peer.port()))
            }
            _ => peer,
        };
        if let Err(error) = self.socket.try_send_to(bytes, peer) {
            tracing::debug!(%peer, bytes = bytes.len(), %error, "SIP datagram not sent");
        }
    }
}
