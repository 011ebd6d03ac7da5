//! Sends the media of many calls: per stream a G.711 packet of 172 bytes every 20 ms.
//!
//! Streams are spread over the 20 ms in slots of one millisecond, so that packets arrive as those
//! of independent calls do and not all at once. The streams of a slot leave by two sockets, one
//! for each side of the calls, in one sendmmsg(2) each: what remains of the generator's own cost
//! is the kernel's work for a packet, of which the receiving half is part of the measurement.
//!
//! A slot that is late is sent late and never left out: the number of packets is what was paid
//! for.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cpu;

const SLOTS: usize = 20;
const SLOT: Duration = Duration::from_millis(1);
const RTP_HEADER_BYTES: usize = 12;
/// 20 ms of G.711.
const PACKET_BYTES: usize = RTP_HEADER_BYTES + 160;
const SAMPLES: u32 = 160;

/// What one stream was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub ssrc: u32,
    pub first_sequence: u16,
    pub packets: u64,
}

/// How much was sent, and what the sending cost, at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub packets: u64,
    pub cpu: Duration,
    /// The latest that a slot was sent.
    pub latest: Duration,
}

enum Order {
    Begin { call: u32, targets: [SocketAddrV4; 2] },
    End { call: u32 },
}

pub struct Generator {
    orders: Option<mpsc::Sender<Order>>,
    sample: Arc<Mutex<Sample>>,
    /// By slot, what the two sides of its calls are sent from.
    sources: Vec<[SocketAddr; 2]>,
    thread: Option<JoinHandle<Vec<Sent>>>,
}

impl Generator {
    pub fn start() -> Result<Self> {
        let mut slots = Vec::new();
        let mut sources = Vec::new();
        for _ in 0..SLOTS {
            let sides = [Side::open()?, Side::open()?];
            sources.push([sides[0].socket.local_addr()?, sides[1].socket.local_addr()?]);
            slots.push(sides);
        }
        let (orders, inbox) = mpsc::channel();
        let sample = Arc::new(Mutex::new(Sample::default()));
        let published = Arc::clone(&sample);
        let thread = std::thread::Builder::new()
            .name("generator".to_owned())
            .spawn(move || run(slots, &inbox, &published))?;
        Ok(Self { orders: Some(orders), sample, sources, thread: Some(thread) })
    }

    /// Where the two streams of this call will come from.
    pub fn sources(&self, call: u32) -> [SocketAddr; 2] {
        self.sources[call as usize % SLOTS]
    }

    pub fn begin(&self, call: u32, targets: [SocketAddr; 2]) -> Result<()> {
        let v4 = |target| match target {
            SocketAddr::V4(target) => Ok(target),
            SocketAddr::V6(_) => Err(anyhow::anyhow!("the generator speaks IPv4: {target}")),
        };
        self.order(Order::Begin { call, targets: [v4(targets[0])?, v4(targets[1])?] })
    }

    /// The call is sent nothing any more once [`Self::sample`] has moved.
    pub fn end(&self, call: u32) -> Result<()> {
        self.order(Order::End { call })
    }

    fn order(&self, order: Order) -> Result<()> {
        let orders = self.orders.as_ref().context("the generator was stopped")?;
        orders.send(order).context("the generator has died")
    }

    pub fn sample(&self) -> Sample {
        *self.sample.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops; what was sent, stream by stream.
    pub fn stop(mut self) -> Vec<Sent> {
        self.orders = None;
        let thread = self.thread.take().expect("taken here only");
        thread.join().expect("the generator has nothing that panics")
    }
}

fn run(
    mut slots: Vec<[Side; 2]>,
    orders: &mpsc::Receiver<Order>,
    published: &Mutex<Sample>,
) -> Vec<Sent> {
    let mut ended = Vec::new();
    let mut sample = Sample::default();
    let mut due = Instant::now();
    'sending: loop {
        for slot in 0..SLOTS {
            due += SLOT;
            loop {
                match orders.try_recv() {
                    Ok(Order::Begin { call, targets }) => {
                        for (side, target) in slots[call as usize % SLOTS].iter_mut().zip(targets) {
                            side.begin(call, target);
                        }
                    }
                    Ok(Order::End { call }) => {
                        for side in &mut slots[call as usize % SLOTS] {
                            ended.extend(side.end(call));
                        }
                    }
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => break 'sending,
                }
            }
            let now = Instant::now();
            match due.checked_duration_since(now) {
                Some(early) => std::thread::sleep(early),
                None => sample.latest = sample.latest.max(now - due),
            }
            for side in &mut slots[slot] {
                sample.packets += side.send();
            }
            sample.cpu = cpu::of_this_thread();
            *published.lock().unwrap_or_else(PoisonError::into_inner) = sample;
        }
    }
    for side in slots.iter_mut().flatten() {
        let calls: Vec<u32> = side.calls.clone();
        ended.extend(calls.into_iter().filter_map(|call| side.end(call)));
    }
    ended
}

/// One side of the calls of one slot.
struct Side {
    socket: UdpSocket,
    calls: Vec<u32>,
    packets: Vec<[u8; PACKET_BYTES]>,
    targets: Vec<libc::sockaddr_in>,
    sent: HashMap<u32, Sent>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers in `vectors` and `headers` point into the other vectors of the same value,
// whose buffers do not move with it.
unsafe impl Send for Side {}

/// No two streams of a process have the same.
static NEXT_SSRC: AtomicU32 = AtomicU32::new(1);

impl Side {
    fn open() -> Result<Self> {
        // Not the recorder's address: the ports that it hands out are its own.
        let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).context("open a source")?;
        Ok(Self {
            socket,
            calls: Vec::new(),
            packets: Vec::new(),
            targets: Vec::new(),
            sent: HashMap::new(),
            vectors: Vec::new(),
            headers: Vec::new(),
        })
    }

    fn begin(&mut self, call: u32, target: SocketAddrV4) {
        let ssrc = NEXT_SSRC.fetch_add(1, Ordering::Relaxed);
        // Anywhere, so that some wrap.
        let first_sequence = (ssrc.wrapping_mul(40_503) >> 8) as u16;
        let mut packet = [0; PACKET_BYTES];
        packet[0] = 0x80;
        packet[2..4].copy_from_slice(&first_sequence.to_be_bytes());
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        for (at, byte) in packet[RTP_HEADER_BYTES..].iter_mut().enumerate() {
            *byte = (ssrc as usize + at * 7) as u8;
        }
        self.calls.push(call);
        self.packets.push(packet);
        self.targets.push(libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: target.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(*target.ip()).to_be() },
            sin_zero: [0; 8],
        });
        self.sent.insert(call, Sent { ssrc, first_sequence, packets: 0 });
        self.lay_out();
    }

    fn end(&mut self, call: u32) -> Option<Sent> {
        let at = self.calls.iter().position(|held| *held == call)?;
        self.calls.swap_remove(at);
        let packet = self.packets.swap_remove(at);
        self.targets.swap_remove(at);
        self.lay_out();
        let mut sent = self.sent.remove(&call)?;
        // The packet holds the number of the next one.
        let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        sent.packets = u64::from(timestamp / SAMPLES);
        Some(sent)
    }

    fn lay_out(&mut self) {
        self.vectors.clear();
        self.vectors.extend(self.packets.iter_mut().map(|packet| libc::iovec {
            iov_base: packet.as_mut_ptr().cast(),
            iov_len: PACKET_BYTES,
        }));
        self.headers.clear();
        self.headers.extend(self.vectors.iter_mut().zip(&mut self.targets).map(
            |(vector, target)| {
                // SAFETY: mmsghdr is integers and pointers, for which zero is a valid value.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_name = (&raw mut *target).cast();
                header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header
            },
        ));
    }

    /// The next packet of every stream; how many.
    fn send(&mut self) -> u64 {
        let mut from = 0;
        while from < self.headers.len() {
            let rest = &mut self.headers[from..];
            // SAFETY: every header points to a packet and an address of the lengths it names;
            // `lay_out` has made them after the last change of either.
            let count = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    0,
                )
            };
            match usize::try_from(count) {
                Ok(count) => from += count,
                // A port that is closed already answers the packet before this one (ICMP). The
                // packet is sent again, which is what a counter that is right asks for.
                Err(_) => std::thread::yield_now(),
            }
        }
        for packet in &mut self.packets {
            let sequence = u16::from_be_bytes([packet[2], packet[3]]).wrapping_add(1);
            packet[2..4].copy_from_slice(&sequence.to_be_bytes());
            let at = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
            packet[4..8].copy_from_slice(&at.wrapping_add(SAMPLES).to_be_bytes());
        }
        self.headers.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_is_sent_whole_and_counted_right() {
        let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
        sink.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let target = sink.local_addr().unwrap();
        // All the while: a socket holds few packets.
        let reader = std::thread::spawn(move || {
            let mut found: HashMap<u32, Vec<u16>> = HashMap::new();
            let mut buffer = [0; 2_048];
            while let Ok(length) = sink.recv(&mut buffer) {
                assert_eq!(length, PACKET_BYTES);
                let ssrc = u32::from_be_bytes(buffer[8..12].try_into().unwrap());
                found.entry(ssrc).or_default().push(u16::from_be_bytes([buffer[2], buffer[3]]));
            }
            found
        });
        let generator = Generator::start().unwrap();
        for call in 0..10 {
            generator.begin(call, [target; 2]).unwrap();
        }
        while generator.sample().packets < 200 {
            std::thread::sleep(Duration::from_millis(10));
        }
        generator.end(7).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let total = generator.sample();
        let sent = generator.stop();
        assert_eq!(sent.len(), 20);
        assert!(total.cpu > Duration::ZERO, "{total:?}");
        let found = reader.join().unwrap();
        for Sent { ssrc, first_sequence, packets } in sent {
            let expected: Vec<u16> =
                (0..packets).map(|n| first_sequence.wrapping_add(n as u16)).collect();
            assert_eq!(found[&ssrc], expected);
        }
    }
}
