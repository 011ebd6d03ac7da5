//! Which of our addresses a peer sees.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Peers remembered. A flood of made-up sources must not fill memory; forgetting costs one
/// system call each.
const MAX_ROUTES: usize = 4_096;

/// Finds and remembers, per peer, the local address from which the kernel would send to it.
///
/// A socket bound to all interfaces does not say on which of them a datagram came in, while SIP
/// and SDP must name one address.
#[derive(Debug)]
pub struct Routes {
    /// What the socket is bound to.
    bound: IpAddr,
    known: HashMap<IpAddr, IpAddr>,
}

impl Routes {
    pub fn new(bound: IpAddr) -> Self {
        Self { bound, known: HashMap::new() }
    }

    /// `bound` itself unless that is all interfaces. Loopback when there is no route at all.
    pub fn towards(&mut self, peer: IpAddr) -> IpAddr {
        if !self.bound.is_unspecified() {
            return self.bound;
        }
        if let Some(local) = self.known.get(&peer) {
            return *local;
        }
        if self.known.len() >= MAX_ROUTES {
            self.known.clear();
        }
        let local = look_up(peer).unwrap_or(match peer {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
        self.known.insert(peer, local);
        local
    }
}

/// Connecting a UDP socket sends nothing; it makes the kernel choose a route.
fn look_up(peer: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match peer {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Any port but 0 will do: the discard port.
    socket.connect((peer, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// An IPv4 peer of a dual-stack socket as the IPv4 peer it is.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_on_this_machine_sees_loopback() {
        let mut routes = Routes::new(Ipv4Addr::UNSPECIFIED.into());
        assert_eq!(routes.towards(Ipv4Addr::LOCALHOST.into()), IpAddr::from(Ipv4Addr::LOCALHOST));
    }

    #[test]
    fn a_socket_bound_to_one_address_has_no_other() {
        let bound: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(Routes::new(bound).towards(Ipv4Addr::LOCALHOST.into()), bound);
    }

    #[test]
    fn a_flood_of_peers_does_not_fill_memory() {
        let mut routes = Routes::new(Ipv4Addr::UNSPECIFIED.into());
        for peer in 0..=(MAX_ROUTES as u32) {
            routes.towards(Ipv4Addr::from_bits(0x7f00_0001 + peer).into());
        }
        assert!(routes.known.len() <= MAX_ROUTES);
    }
}
