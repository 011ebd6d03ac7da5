//! The ring: the kernel copies every packet of a call into memory that we share with it, and a
//! packet costs us neither a system call nor a socket.
//!
//! Needs Linux 6.6 and CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF. Whether all of it works is tried at
//! start with a packet of our own; where it does not, the sweep is used, and the log says why.
//!
//! - Sockets stay bound: they keep the ports ours, and hold what came before the ring heard of the
//!   port, which is read once. After that nothing arrives at them, because what the ring has copied
//!   is dropped at ingress. When this process dies, both are gone.
//! - Only ports that a call has now are copied and dropped; two recorders on one machine do not
//!   disturb each other.
//! - What the kernel's stack would have refused is refused here: fragments are put together,
//!   checksums are checked unless the card has done it.

mod bpf;
pub mod datagram;
mod ingress;
mod socket;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use model::SessionId;
use segment::PacketBatch;

use super::gate::Half;
use super::ports::PortPair;
use super::receive::Receiver;
use super::stamps::Stamps;
use super::stream::{Arrived, Stream};
use super::tally::Tally;
use super::{Batch, Closed, Engine, Order, Swept};
use bpf::{PortSet, Wanted};
use datagram::Udp;
pub use ingress::IngressDrop;
use socket::{Checksum, RingSocket};

/// A packet may be in the ring and not be ours yet for as long as the kernel keeps a block open;
/// twice that, for a timer that is late.
const HANDED_OVER_AFTER: Duration = Duration::from_millis(20);

/// Calls of recvmmsg for what a socket holds when its call begins.
const READS_OF_A_SOCKET: usize = 16;

/// How often we look for interfaces that are new.
const FOLLOW_EVERY_VISITS: u32 = 50;

/// Why there is no ring on this machine.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    #[error("{what}: needs Linux 6.6 and the capabilities NET_RAW, NET_ADMIN and BPF")]
    Kernel {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the self-check of the ring: {problem}")]
    SelfCheck { problem: &'static str },
    #[error("the self-check of the ring")]
    SelfCheckSocket(#[source] io::Error),
}

pub struct Ring {
    socket: RingSocket,
    drop: IngressDrop,
    wanted: Wanted,
    streams: Streams,
    stamps: Stamps,
    tally: Tally,
    /// Streams that close as soon as all that had arrived for them is ours.
    closing: Vec<Closing>,
    /// Ports that the ring hears since the last visit, and since when.
    opened: Vec<(u16, u64)>,
    receiver: Receiver,
    visits: u32,
}

struct Closing {
    session: SessionId,
    /// `None`: all of them.
    stream: Option<u16>,
    at: Instant,
}

impl Ring {
    /// `bind` is where calls are told to send; unspecified: any address of this machine.
    pub fn open(bind: IpAddr) -> Result<Self, RingError> {
        let kernel = |what| move |source| RingError::Kernel { what, source };
        let ports = PortSet::new().map_err(kernel("make a map of ports"))?;
        let addresses = if bind.is_unspecified() { Vec::new() } else { vec![bind] };
        let wanted = Wanted { ports, addresses };
        let mut socket = RingSocket::open(&wanted).map_err(kernel("open a packet ring"))?;
        let drop = IngressDrop::attach(&wanted).map_err(kernel("attach the ingress drop"))?;
        self_check(&mut socket, &wanted, bind)?;
        Ok(Self {
            socket,
            drop,
            wanted,
            streams: Streams::default(),
            stamps: Stamps::default(),
            tally: Tally::default(),
            closing: Vec::new(),
            opened: Vec::new(),
            receiver: Receiver::default(),
            visits: 0,
        })
    }

    fn read(&mut self, found: &mut Swept) {
        self.stamps.visit();
        let Self { socket, streams, stamps, tally, opened, receiver, .. } = self;
        // Before the ring: it is older.
        for (port, since_boot_ns) in opened.drain(..) {
            streams.read_sockets(port, since_boot_ns, receiver, stamps, tally);
        }
        socket.read(|frame| {
            let Some(udp) = Udp::parse(frame.bytes, frame.checksum == Checksum::Unknown) else {
                tally.reject("not_udp");
                return;
            };
            if udp.is_damaged() {
                tally.reject("checksum");
                return;
            }
            let arrived = Arrived {
                bytes: udp.payload,
                source: udp.source,
                wall_ns: Some(frame.wall_ns),
                truncated: frame.truncated,
            };
            streams.take(udp.target.port(), &arrived, stamps, tally);
        });
        match self.socket.newly_dropped() {
            Ok(dropped) => self.tally.dropped_by_kernel += dropped,
            Err(error) => tracing::warn!(%error, "the ring does not tell what it dropped"),
        }
        self.streams.deliver(self.stamps.boot_ns(None), found, &mut self.tally);
        self.tally.tell();
    }

    fn want(&self, port: u16) {
        for port in [port, port + 1] {
            if let Err(error) = self.wanted.ports.insert(port) {
                tracing::error!(port, %error, "nothing is heard on an RTP port");
            }
        }
    }

    fn unwant(&self, port: u16) {
        for port in [port, port + 1] {
            if let Err(error) = self.wanted.ports.remove(port) {
                tracing::warn!(port, %error, "an RTP port stays closed to others");
            }
        }
    }

    fn close_due(&mut self, now: Instant, found: &mut Swept) {
        let (due, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.closing).into_iter().partition(|closing| closing.at <= now);
        self.closing = waiting;
        for Closing { session, stream, .. } in due {
            let (closed, whole_session) = self.streams.close(session, stream, &mut self.tally);
            closed.iter().for_each(|ports| self.unwant(ports.port));
            let ports = closed.iter().map(|ports| ports.port).collect();
            found.closed.push(Closed { session, ports, whole_session });
        }
    }
}

impl Engine for Ring {
    fn visit(&mut self, found: &mut Swept) {
        // Before the reading, or what came in between would be left behind.
        let now = Instant::now();
        self.read(found);
        self.close_due(now, found);
        self.visits += 1;
        if self.visits.is_multiple_of(FOLLOW_EVERY_VISITS) {
            match self.drop.follow() {
                Ok(0) => {}
                Ok(new) => tracing::info!(new, "ring capture follows new interfaces"),
                Err(error) => tracing::error!(%error, "ring capture of a new interface failed"),
            }
        }
    }

    fn visit_last(&mut self, found: &mut Swept) {
        // What comes from now on goes to the sockets, which may outlive this process.
        let ports = self.streams.slots.iter().flatten().map(|slot| slot.ports.port);
        ports.for_each(|port| self.unwant(port));
        std::thread::sleep(HANDED_OVER_AFTER);
        self.read(found);
        self.close_due(Instant::now() + HANDED_OVER_AFTER, found);
    }

    fn carry_out(&mut self, order: Order, _found: &mut Swept) {
        match order {
            Order::Open { session, stream, ports, expected, cname, paused } => {
                self.stamps.visit();
                let now = self.stamps.boot_ns(None);
                self.want(ports.port);
                let stream = Stream::new(session, stream, *expected, cname, paused, now);
                self.opened.push((ports.port, now));
                self.streams.open(stream, ports);
            }
            Order::Expect { session, stream, expected } => {
                self.streams.each_of(session, |known| {
                    if known.index == stream {
                        known.gate.expect((*expected).clone());
                    }
                });
            }
            Order::Pause { session, streams } => self.set_paused(session, &streams, true),
            Order::Resume { session, streams } => self.set_paused(session, &streams, false),
            Order::CloseStream { session, stream } => self.close_soon(session, Some(stream)),
            Order::Close { session } => self.close_soon(session, None),
        }
    }
}

impl Ring {
    fn set_paused(&mut self, session: SessionId, indexes: &[u16], paused: bool) {
        self.stamps.visit();
        let from = self.stamps.boot_ns(None);
        self.streams.each_of(session, |known| {
            if indexes.contains(&known.index) {
                known.set_paused(from, paused);
            }
        });
    }

    fn close_soon(&mut self, session: SessionId, stream: Option<u16>) {
        let at = Instant::now() + HANDED_OVER_AFTER;
        self.closing.push(Closing { session, stream, at });
    }
}

/// Streams by port and by session.
struct Streams {
    /// By port: index into `slots` and one more; 0: nobody's.
    by_port: Box<[u32]>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    sessions: HashMap<SessionId, Session>,
}

struct Slot {
    stream: Stream,
    ports: PortPair,
}

#[derive(Default)]
struct Session {
    slots: Vec<usize>,
    packets: PacketBatch,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            by_port: vec![0; 1 << 16].into(),
            slots: Vec::new(),
            free: Vec::new(),
            sessions: HashMap::new(),
        }
    }
}

impl Streams {
    fn open(&mut self, stream: Stream, ports: PortPair) {
        let session = stream.session;
        let even = usize::from(ports.port);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Slot { stream, ports });
        self.by_port[even] = slot as u32 + 1;
        self.by_port[even + 1] = slot as u32 + 1;
        self.sessions.entry(session).or_default().slots.push(slot);
    }

    fn take(&mut self, port: u16, arrived: &Arrived<'_>, stamps: &Stamps, tally: &mut Tally) {
        let index = self.by_port[usize::from(port)];
        let slot = (index as usize).checked_sub(1).and_then(|slot| self.slots[slot].as_mut());
        let Some(Slot { stream, .. }) = slot else {
            tally.reject("no_call");
            return;
        };
        let Some(session) = self.sessions.get_mut(&stream.session) else { return };
        let half = if port.is_multiple_of(2) { Half::Rtp } else { Half::Rtcp };
        stream.take(half, arrived, stamps, &mut session.packets, tally);
    }

    /// What came between the binding of the sockets and the ring's hearing of their ports.
    fn read_sockets(
        &mut self,
        port: u16,
        since_boot_ns: u64,
        receiver: &mut Receiver,
        stamps: &Stamps,
        tally: &mut Tally,
    ) {
        let index = self.by_port[usize::from(port)] as usize;
        let slot = index.checked_sub(1).and_then(|slot| self.slots[slot].as_mut());
        // Closed again already.
        let Some(Slot { stream, ports }) = slot else { return };
        let Some(session) = self.sessions.get_mut(&stream.session) else { return };
        for (half, socket) in [(Half::Rtp, &ports.rtp), (Half::Rtcp, &ports.rtcp)] {
            let before = session.packets.len();
            for _ in 0..READS_OF_A_SOCKET {
                let received = receiver.receive(socket, |arrived| {
                    stream.take(half, &arrived, stamps, &mut session.packets, tally);
                });
                match received {
                    Ok(received) if received.is_full() => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(port, %error, "an RTP socket could not be read");
                        break;
                    }
                }
            }
            // The kernel stamps the first packets of the first call when they are read (see the sweep).
            session.packets.cap_arrivals(before, since_boot_ns);
        }
    }

    fn deliver(&mut self, now_boot_ns: u64, found: &mut Swept, tally: &mut Tally) {
        for (id, session) in &mut self.sessions {
            if !session.packets.is_empty() {
                let packets = std::mem::take(&mut session.packets);
                found.batches.push(Batch { session: *id, packets });
            }
        }
        for Slot { stream, ports } in self.slots.iter_mut().flatten() {
            stream.look_after(ports, now_boot_ns, found, tally);
        }
    }

    fn each_of(&mut self, session: SessionId, mut each: impl FnMut(&mut Stream)) {
        for slot in self.sessions.get(&session).into_iter().flat_map(|session| &session.slots) {
            if let Some(Slot { stream, .. }) = &mut self.slots[*slot] {
                each(stream);
            }
        }
    }

    /// The ports that are closed, and whether the session has no others.
    fn close(
        &mut self,
        session: SessionId,
        stream: Option<u16>,
        tally: &mut Tally,
    ) -> (Vec<PortPair>, bool) {
        let Some(held) = self.sessions.get_mut(&session) else { return (Vec::new(), true) };
        let mut closed = Vec::new();
        let (slots, by_port, free) = (&mut self.slots, &mut self.by_port, &mut self.free);
        held.slots.retain(|slot| {
            let is_meant = |held: &mut Slot| stream.is_none_or(|index| held.stream.index == index);
            let Some(Slot { mut stream, ports }) = slots[*slot].take_if(is_meant) else {
                return true;
            };
            stream.close(&ports, tally);
            by_port[usize::from(ports.port)] = 0;
            by_port[usize::from(ports.port) + 1] = 0;
            free.push(*slot);
            closed.push(ports);
            false
        });
        let whole_session = held.slots.is_empty();
        if whole_session {
            self.sessions.remove(&session);
        }
        (closed, whole_session)
    }
}

/// A packet to ourselves must be in the ring and must not arrive at the socket it is sent to.
fn self_check(ring: &mut RingSocket, wanted: &Wanted, bind: IpAddr) -> Result<(), RingError> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let here = if bind.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { bind };
    let socket = |source| RingError::SelfCheckSocket(source);
    let target = UdpSocket::bind((here, 0)).map_err(socket)?;
    target.set_read_timeout(Some(Duration::from_millis(50))).map_err(socket)?;
    let address = target.local_addr().map_err(socket)?;
    let sender = UdpSocket::bind((here, 0)).map_err(socket)?;
    let port = address.port();
    wanted.ports.insert(port).map_err(socket)?;
    // Unlike what anybody else sends to that port meanwhile.
    let mark: [u8; 16] = std::array::from_fn(|at| (at as u8) ^ (port as u8));
    sender.send_to(&mark, address).map_err(socket)?;
    let mut seen = false;
    let begun = Instant::now();
    while !seen && begun.elapsed() < PATIENCE {
        ring.read(|frame| {
            let udp = Udp::parse(frame.bytes, frame.checksum == Checksum::Unknown);
            seen |= udp.is_some_and(|udp| udp.payload == mark && !udp.is_damaged());
        });
        std::thread::sleep(Duration::from_millis(2));
    }
    let arrived = target.recv(&mut [0; 16]).is_ok();
    wanted.ports.remove(port).map_err(socket)?;
    match (seen, arrived) {
        (true, false) => Ok(()),
        (false, _) => Err(RingError::SelfCheck { problem: "our own packet is not in the ring" }),
        (true, true) => Err(RingError::SelfCheck { problem: "our own packet was not dropped" }),
    }
}
