//! Pairs of UDP ports for streams: RTP on an even port, RTCP on the odd one after it
//! (RFC 3550 §11).
//!
//! Promises, each a test:
//!
//! - A pair is bound before it is named in an SDP answer, so the first packet finds a socket.
//! - Pairs are given out in turn, and one that was in use rests for the quarantine time: late
//!   packets of one call cannot land in the next.
//! - A port that another program holds is passed over.
//! - A pair that the service manager has kept open over a restart is taken as it is; see
//!   [`kept`](super::kept).
//! - When none is left the answer is an error at once, which becomes a 503.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::kept::Kept;
use crate::config::PortRange;

/// The sockets of one stream.
#[derive(Debug)]
pub struct PortPair {
    /// The even port.
    pub port: u16,
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
}

#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Calls end or the operator widens `rtp.ports`.
    #[error("no pair of RTP ports is free: {in_use} in use, {resting} resting, of {pairs}")]
    Exhausted { in_use: usize, resting: usize, pairs: u32 },
    /// Mostly the limit of open files.
    #[error("open a socket for RTP port {port}")]
    Socket { port: u16, source: io::Error },
}

/// Hands out pairs. Not shared: the recording half owns it.
#[derive(Debug)]
pub struct PortPool {
    bind: IpAddr,
    range: PortRange,
    quarantine: Duration,
    receive_buffer_bytes: usize,
    /// Index of the pair to try next.
    next: u32,
    in_use: HashSet<u16>,
    /// Even port → when it may be used again.
    resting: HashMap<u16, Instant>,
    kept: Kept,
}

/// A pair that a call had before a restart.
#[derive(Debug)]
pub struct Reopened {
    pub pair: PortPair,
    /// It was open all the time, so what came meanwhile is in it.
    pub was_open: bool,
}

impl PortPool {
    /// `start` decides which pair comes first. A random one keeps a restarted recorder from
    /// reusing at once the ports to which callers may still be sending.
    pub fn new(
        bind: IpAddr,
        range: PortRange,
        quarantine: Duration,
        receive_buffer_bytes: u32,
        start: u32,
    ) -> Self {
        Self {
            bind,
            range,
            quarantine,
            receive_buffer_bytes: receive_buffer_bytes as usize,
            next: start % range.pairs().max(1),
            in_use: HashSet::new(),
            resting: HashMap::new(),
            kept: Kept::default(),
        }
    }

    /// With sockets that outlive this process.
    pub fn kept_by(self, kept: Kept) -> Self {
        Self { kept, ..self }
    }

    pub fn allocate(&mut self, now: Instant) -> Result<PortPair, PortError> {
        self.resting.retain(|_, until| *until > now);
        let pairs = self.range.pairs();
        for _ in 0..pairs {
            let offset = self.next * 2;
            self.next = (self.next + 1) % pairs;
            let port = u16::try_from(self.range.first_even() + offset)
                .expect("pairs() counts only pairs that end at or before the last port");
            if self.in_use.contains(&port) || self.resting.contains_key(&port) {
                continue;
            }
            match self.open(port) {
                Ok(pair) => {
                    self.in_use.insert(port);
                    self.kept.keep(&pair);
                    return Ok(pair);
                }
                // Somebody else's, for as long as we rest our own.
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    self.resting.insert(port, now + self.quarantine);
                }
                Err(source) => return Err(PortError::Socket { port, source }),
            }
        }
        Err(PortError::Exhausted { in_use: self.in_use.len(), resting: self.resting.len(), pairs })
    }

    /// Opens the very pair that a call had before a restart, if it is not open still.
    pub fn reopen(&mut self, port: u16) -> Result<Reopened, PortError> {
        let at = |port| SocketAddr::new(self.bind, port);
        let (rtp, rtcp) = (at(port), at(port + 1));
        let reopened = match self.kept.take(rtp, rtcp) {
            Some(pair) => Reopened { pair, was_open: true },
            None => {
                let pair = self.open(port).map_err(|source| PortError::Socket { port, source })?;
                self.kept.keep(&pair);
                Reopened { pair, was_open: false }
            }
        };
        self.in_use.insert(port);
        Ok(reopened)
    }

    /// All calls of the process before have their ports: what is left is nobody's.
    pub fn all_are_reopened(&mut self) {
        let sockets = self.kept.discard_rest();
        if sockets > 0 {
            tracing::warn!(sockets, "sockets of the process before that no call wants are closed");
        }
    }

    /// How many pairs there are.
    pub fn pairs(&self) -> usize {
        self.range.pairs() as usize
    }

    /// Pairs that cannot be had now: in use or resting.
    pub fn taken(&self) -> usize {
        self.in_use.len() + self.resting.len()
    }

    /// The sockets of this pair are closed. It rests, then it can be had again.
    pub fn release(&mut self, port: u16, now: Instant) {
        if self.in_use.remove(&port) {
            self.kept.forget(port);
            self.resting.insert(port, now + self.quarantine);
        }
    }

    fn open(&self, port: u16) -> io::Result<PortPair> {
        // An odd port without its even one is of no use, so the even one is tried first.
        let rtp = self.open_socket(port)?;
        let rtcp = self.open_socket(port + 1)?;
        Ok(PortPair { port, rtp, rtcp })
    }

    fn open_socket(&self, port: u16) -> io::Result<UdpSocket> {
        let address = SocketAddr::new(self.bind, port);
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if self.bind.is_ipv6() {
            // [::] serves IPv4 callers too.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        // Asked for, not demanded: the kernel grants no more than net.core.rmem_max.
        socket.set_recv_buffer_size(self.receive_buffer_bytes)?;
        request_timestamps(&socket)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    }
}

/// Asks for the arrival time of each packet, in nanoseconds, and for the count of those that the
/// socket had to drop (SO_TIMESTAMPNS and SO_RXQ_OVFL, see socket(7)).
fn request_timestamps(socket: &Socket) -> io::Result<()> {
    for option in [libc::SO_TIMESTAMPNS, libc::SO_RXQ_OVFL] {
        let on: libc::c_int = 1;
        // SAFETY: the descriptor is open, and `on` is an int of the length that is passed.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// What is left for sockets after raising the limit of open files as far as is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimit {
    pub allowed: u64,
    pub wanted: u64,
}

/// Raises the soft limit of open files to `wanted`, or to the hard limit if that is lower.
///
/// Every stream takes two sockets; the usual soft limit of 1,024 would end recording at about
/// 250 calls of two streams.
pub fn raise_file_limit(wanted: u64) -> io::Result<FileLimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the duration of the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < wanted && limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = wanted.min(limit.rlim_max);
        // SAFETY: `limit` is a valid rlimit for the duration of the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(FileLimit { allowed: limit.rlim_cur, wanted })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Each test has its own ports, because tests run side by side.
    fn pool(ports: &str) -> PortPool {
        PortPool::new(
            Ipv4Addr::LOCALHOST.into(),
            ports.parse().unwrap(),
            Duration::from_secs(10),
            65_536,
            0,
        )
    }

    #[test]
    fn rtp_is_even_and_rtcp_is_the_next_port() {
        let mut pool = pool("31001-31009");
        let pair = pool.allocate(Instant::now()).unwrap();
        assert_eq!(pair.port % 2, 0);
        assert_eq!(pair.rtp.local_addr().unwrap().port(), pair.port);
        assert_eq!(pair.rtcp.local_addr().unwrap().port(), pair.port + 1);
    }

    #[test]
    fn a_port_rests_after_a_call() {
        let mut pool = pool("31010-31011");
        let now = Instant::now();
        let pair = pool.allocate(now).unwrap();
        let port = pair.port;
        assert!(matches!(pool.allocate(now), Err(PortError::Exhausted { in_use: 1, .. })));
        drop(pair);
        pool.release(port, now);
        let early = pool.allocate(now + Duration::from_secs(9));
        assert!(matches!(early, Err(PortError::Exhausted { resting: 1, .. })), "{early:?}");
        assert_eq!(pool.allocate(now + Duration::from_secs(11)).unwrap().port, port);
    }

    #[test]
    fn a_port_that_another_program_holds_is_passed_over() {
        let _theirs = UdpSocket::bind("127.0.0.1:31021").unwrap();
        let mut pool = pool("31020-31023");
        assert_eq!(pool.allocate(Instant::now()).unwrap().port, 31_022);
    }

    #[test]
    fn a_restarted_recorder_gets_its_ports_back_and_does_not_give_them_out_again() {
        let mut pool = pool("31030-31031");
        let _pair = pool.reopen(31_030).unwrap();
        assert!(pool.allocate(Instant::now()).is_err());
    }

    #[test]
    fn the_file_limit_is_raised_as_far_as_it_goes_and_never_lowered() {
        let before = raise_file_limit(0).unwrap().allowed;
        let after = raise_file_limit(u64::MAX).unwrap();
        assert!(after.allowed >= before);
        assert_eq!(raise_file_limit(1).unwrap().allowed, after.allowed);
    }
}
