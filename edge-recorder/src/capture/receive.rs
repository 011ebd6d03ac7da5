//! Reads many datagrams from a socket in one system call, each with its arrival time.
//!
//! This is the only unsafe code of capture: recvmmsg(2) and the control messages it fills
//! (cmsg(3)). Everything that comes out of it is safe types.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use super::stream::Arrived;

/// Datagrams per call. A visit every 100 ms finds 5 packets of a G.711 stream; after a stall of
/// 2 s it finds 100, which is four calls.
const BATCH: usize = 32;

/// Audio fits an Ethernet frame. A longer datagram is cut, told as such, and not recorded.
const MAX_DATAGRAM_BYTES: usize = 2_048;

/// Room for a timespec and a u32 with their headers, with reserve.
const CONTROL_BYTES: usize = 128;

/// What one call found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    pub datagrams: usize,
    /// How many this socket has dropped since it was opened, because its buffer was full. Absent
    /// when the kernel said nothing: none so far.
    pub dropped_so_far: Option<u32>,
}

impl Received {
    /// Whether the socket may hold more.
    pub fn is_full(self) -> bool {
        self.datagrams == BATCH
    }
}

/// cmsghdr must be aligned; a byte array need not be.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// The buffers, made once and used for every socket, and the headers that point to them.
pub struct Receiver {
    data: Box<[[u8; MAX_DATAGRAM_BYTES]; BATCH]>,
    sources: Box<[libc::sockaddr_storage; BATCH]>,
    /// These two are referred to by `headers` alone.
    _control: Box<[Control; BATCH]>,
    _vectors: Box<[libc::iovec; BATCH]>,
    headers: Box<[libc::mmsghdr; BATCH]>,
}

// SAFETY: `headers` points into the other boxes, which belong to this value and stay where they
// are when it moves.
unsafe impl Send for Receiver {}

const SOURCE_BYTES: libc::socklen_t = size_of::<libc::sockaddr_storage>() as libc::socklen_t;

impl Default for Receiver {
    fn default() -> Self {
        // SAFETY: sockaddr_storage is plain bytes, for which zero is a valid value.
        let no_source: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut data = Box::new([[0; MAX_DATAGRAM_BYTES]; BATCH]);
        let mut sources = Box::new([no_source; BATCH]);
        let mut control = Box::new([Control([0; CONTROL_BYTES]); BATCH]);
        let mut vectors: Box<[libc::iovec; BATCH]> = Box::new(std::array::from_fn(|i| {
            libc::iovec { iov_base: data[i].as_mut_ptr().cast(), iov_len: MAX_DATAGRAM_BYTES }
        }));
        let headers = Box::new(std::array::from_fn(|i| {
            // SAFETY: msghdr is integers and pointers, for which zero is a valid value; musl has
            // private padding in it, so that it cannot be written as a literal.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = (&raw mut sources[i]).cast();
            header.msg_hdr.msg_namelen = SOURCE_BYTES;
            header.msg_hdr.msg_iov = &raw mut vectors[i];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control[i].0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            header
        }));
        Self { data, sources, _control: control, _vectors: vectors, headers }
    }
}

impl Receiver {
    /// Calls `each` for up to [`BATCH`] datagrams that are waiting. Never waits for one.
    pub fn receive(
        &mut self,
        socket: &UdpSocket,
        mut each: impl FnMut(Arrived<'_>),
    ) -> io::Result<Received> {
        let count = loop {
            // SAFETY: every header points to buffers of the lengths it names, which belong to
            // `self`. The timeout may be null.
            let result = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    BATCH as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            match usize::try_from(result) {
                Ok(count) => break count,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    match error.kind() {
                        io::ErrorKind::Interrupted => {}
                        io::ErrorKind::WouldBlock => return Ok(Received::default()),
                        _ => return Err(error),
                    }
                }
            }
        };
        let mut received = Received { datagrams: count, dropped_so_far: None };
        for (i, header) in self.headers.iter_mut().take(count).enumerate() {
            let notes = read_control(&header.msg_hdr);
            let truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            // The kernel wrote what it used; the next call must know how much there is.
            header.msg_hdr.msg_namelen = SOURCE_BYTES;
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
            received.dropped_so_far = notes.dropped_so_far.or(received.dropped_so_far);
            let Some(source) = read_address(&self.sources[i]) else { continue };
            let length = (header.msg_len as usize).min(MAX_DATAGRAM_BYTES);
            each(Arrived {
                bytes: &self.data[i][..length],
                source,
                wall_ns: notes.wall_ns,
                truncated,
            });
        }
        Ok(received)
    }
}

#[derive(Default)]
struct Notes {
    wall_ns: Option<u64>,
    dropped_so_far: Option<u32>,
}

/// What the kernel says about a datagram, beside its bytes.
fn read_control(header: &libc::msghdr) -> Notes {
    let mut notes = Notes::default();
    // SAFETY: `header` was filled by recvmmsg and its control buffer is alive; the CMSG macros
    // walk only as far as msg_controllen says. Data is read unaligned, at the type that the
    // kernel documents for each kind.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let time = data.cast::<libc::timespec>().read_unaligned();
                    let since_1970 = time.tv_sec * 1_000_000_000 + time.tv_nsec;
                    notes.wall_ns = u64::try_from(since_1970).ok();
                }
                (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                    notes.dropped_so_far = Some(data.cast::<u32>().read_unaligned());
                }
                _ => {}
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    notes
}

/// IPv4 callers of a dual-stack socket are told as IPv4.
fn read_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let storage: *const libc::sockaddr_storage = storage;
    // SAFETY: sockaddr_storage is large enough and aligned for every address type; which one it
    // holds is what ss_family says.
    let address = unsafe {
        match i32::from((*storage).ss_family) {
            libc::AF_INET => {
                let address = &*storage.cast::<libc::sockaddr_in>();
                let host = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                SocketAddr::from((host, u16::from_be(address.sin_port)))
            }
            libc::AF_INET6 => {
                let address = &*storage.cast::<libc::sockaddr_in6>();
                let host = Ipv6Addr::from(address.sin6_addr.s6_addr);
                SocketAddr::from((host, u16::from_be(address.sin6_port)))
            }
            _ => return None,
        }
    };
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::capture::ports::PortPool;
    use crate::journal::Moment;

    fn socket(port: u16) -> UdpSocket {
        let ports = format!("{port}-{}", port + 1).parse().unwrap();
        let mut pool = PortPool::new(Ipv4Addr::LOCALHOST.into(), ports, Duration::ZERO, 65_536, 0);
        pool.allocate(std::time::Instant::now()).unwrap().rtp
    }

    #[test]
    fn a_datagram_carries_the_time_of_its_arrival_and_not_of_its_reading() {
        let socket = socket(31_100);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Where this is the first socket that wants stamps, the kernel needs a moment to begin.
        std::thread::sleep(Duration::from_millis(200));
        let before = Moment::now().wall_ns;
        sender.send_to(b"one", socket.local_addr().unwrap()).unwrap();
        let after = Moment::now().wall_ns;
        std::thread::sleep(Duration::from_millis(50));
        let mut seen = Vec::new();
        let received = Receiver::default()
            .receive(&socket, |datagram| {
                seen.push((datagram.bytes.to_vec(), datagram.source, datagram.wall_ns));
            })
            .unwrap();
        assert_eq!(received.datagrams, 1);
        assert!(!received.is_full());
        let (bytes, source, wall_ns) = seen.pop().unwrap();
        assert_eq!((bytes.as_slice(), source), (b"one".as_slice(), sender.local_addr().unwrap()));
        let wall_ns = wall_ns.unwrap();
        assert!(before <= wall_ns && wall_ns <= after, "{before} {wall_ns} {after}");
    }

    #[test]
    fn an_empty_socket_is_not_an_error_and_a_long_datagram_is_told() {
        let socket = socket(31_102);
        let mut receiver = Receiver::default();
        assert_eq!(receiver.receive(&socket, |_| panic!("nothing was sent")).unwrap().datagrams, 0);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(&[7; MAX_DATAGRAM_BYTES + 1], socket.local_addr().unwrap()).unwrap();
        let mut truncated = false;
        receiver.receive(&socket, |datagram| truncated = datagram.truncated).unwrap();
        assert!(truncated);
    }

    #[test]
    fn what_the_socket_had_to_drop_is_counted() {
        let socket = socket(31_104);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..2_000 {
            sender.send_to(&[1; 1_000], socket.local_addr().unwrap()).unwrap();
        }
        let mut receiver = Receiver::default();
        let mut read = 0;
        loop {
            let received = receiver.receive(&socket, |_| {}).unwrap();
            read += received.datagrams;
            if !received.is_full() {
                break;
            }
        }
        assert!(read < 2_000, "the buffer of 64 kB held {read} datagrams of 1 kB");
        // The count travels with packets that arrive after the drop.
        sender.send_to(b"after", socket.local_addr().unwrap()).unwrap();
        let received = receiver.receive(&socket, |_| {}).unwrap();
        assert_eq!(received.dropped_so_far, Some(2_000 - read as u32));
    }
}
