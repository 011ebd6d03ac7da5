//! The sweep: a thread visits every RTP socket ten times a second.
//!
//! Measured against a tokio task per stream it costs a third of the CPU per packet, because
//! neither the kernel nor we wake up for single packets.

use std::collections::HashMap;

use model::SessionId;
use segment::PacketBatch;

use super::gate::Half;
use super::ports::PortPair;
use super::receive::Receiver;
use super::stamps::Stamps;
use super::stream::Stream;
use super::tally::Tally;
use super::{Batch, Closed, Engine, Order, Swept};

/// Calls of recvmmsg per socket and visit: 512 packets, ten seconds of audio. A flood on one port
/// must not keep us from the others.
const READS_PER_VISIT: usize = 16;

/// RTCP comes every few seconds and its socket is mostly empty; looking into it costs as much as
/// taking a packet. What the kernel stamps is not later for being read later.
const RTCP_EVERY_VISITS: u64 = 10;

#[derive(Default)]
pub struct Sweep {
    receiver: Receiver,
    stamps: Stamps,
    tally: Tally,
    visits: u64,
    sessions: HashMap<SessionId, Vec<Socketed>>,
}

/// One m-line and its sockets.
struct Socketed {
    stream: Stream,
    ports: PortPair,
    kernel_drops: [u32; 2],
}

/// What a visit works with, beside the stream.
struct Visit<'a> {
    receiver: &'a mut Receiver,
    stamps: &'a Stamps,
    tally: &'a mut Tally,
}

impl Engine for Sweep {
    fn visit(&mut self, found: &mut Swept) {
        self.visits += 1;
        // Not all in the same visit.
        let turn = self.visits % RTCP_EVERY_VISITS;
        self.visit_all(found, |ports| u64::from(ports.port / 2) % RTCP_EVERY_VISITS == turn);
    }

    fn visit_last(&mut self, found: &mut Swept) {
        self.visit_all(found, |_| true);
    }

    fn carry_out(&mut self, order: Order, found: &mut Swept) {
        match order {
            Order::Open { session, stream, ports, expected, cname, paused } => {
                let now = self.stamps.boot_ns(None);
                let stream = Stream::new(session, stream, *expected, cname, paused, now);
                let opened = Socketed { stream, ports, kernel_drops: [0; 2] };
                self.sessions.entry(session).or_default().push(opened);
            }
            Order::Expect { session, stream, expected } => {
                let known = self.sessions.get_mut(&session).into_iter().flatten();
                for known in known.filter(|known| known.stream.index == stream) {
                    known.stream.gate.expect((*expected).clone());
                }
            }
            Order::Pause { session, streams } => self.set_paused(session, &streams, true, found),
            Order::Resume { session, streams } => self.set_paused(session, &streams, false, found),
            Order::CloseStream { session, stream } => {
                self.close(session, |known| known.index == stream, found);
            }
            Order::Close { session } => self.close(session, |_| true, found),
        }
    }
}

impl Sweep {
    fn visit_all(&mut self, found: &mut Swept, rtcp_too: impl Fn(&PortPair) -> bool) {
        self.stamps.visit();
        let Self { receiver, stamps, tally, sessions, .. } = self;
        let mut visit = Visit { receiver, stamps, tally };
        for (session, streams) in sessions {
            let mut packets = PacketBatch::default();
            for stream in streams {
                let rtcp_too = rtcp_too(&stream.ports);
                stream.visit(&mut visit, rtcp_too, &mut packets);
                let Socketed { stream, ports, .. } = stream;
                stream.look_after(ports, visit.stamps.boot_ns(None), found, visit.tally);
            }
            if !packets.is_empty() {
                found.batches.push(Batch { session: *session, packets });
            }
        }
        self.tally.tell();
    }

    /// What has arrived so far is treated as it would have been on arrival.
    fn set_paused(&mut self, session: SessionId, indexes: &[u16], paused: bool, found: &mut Swept) {
        self.stamps.visit();
        let from = self.stamps.boot_ns(None);
        let Self { receiver, stamps, tally, sessions, .. } = self;
        let mut visit = Visit { receiver, stamps, tally };
        let mut packets = PacketBatch::default();
        for known in sessions.get_mut(&session).into_iter().flatten() {
            if indexes.contains(&known.stream.index) {
                known.visit(&mut visit, true, &mut packets);
                known.stream.set_paused(from, paused);
            }
        }
        if !packets.is_empty() {
            found.batches.push(Batch { session, packets });
        }
    }

    fn close(&mut self, session: SessionId, which: impl Fn(&Stream) -> bool, found: &mut Swept) {
        self.stamps.visit();
        let streams = self.sessions.remove(&session).unwrap_or_default();
        let (closing, staying): (Vec<_>, Vec<_>) =
            streams.into_iter().partition(|known| which(&known.stream));
        let whole_session = staying.is_empty();
        if !whole_session {
            self.sessions.insert(session, staying);
        }
        let Self { receiver, stamps, tally, .. } = self;
        let mut visit = Visit { receiver, stamps, tally };
        let mut packets = PacketBatch::default();
        let mut ports = Vec::new();
        for mut known in closing {
            known.visit(&mut visit, true, &mut packets);
            known.stream.close(&known.ports, visit.tally);
            ports.push(known.ports.port);
        }
        if !packets.is_empty() {
            found.batches.push(Batch { session, packets });
        }
        found.closed.push(Closed { session, ports, whole_session });
    }
}

impl Socketed {
    fn visit(&mut self, visit: &mut Visit<'_>, rtcp_too: bool, packets: &mut PacketBatch) {
        self.read(Half::Rtp, visit, packets);
        if rtcp_too {
            self.read(Half::Rtcp, visit, packets);
        }
    }

    fn read(&mut self, half: Half, visit: &mut Visit<'_>, packets: &mut PacketBatch) {
        let Self { stream, ports, kernel_drops } = self;
        let Visit { receiver, stamps, tally } = visit;
        let (socket, drops) = match half {
            Half::Rtp => (&ports.rtp, &mut kernel_drops[0]),
            Half::Rtcp => (&ports.rtcp, &mut kernel_drops[1]),
        };
        let before = packets.len();
        for _ in 0..READS_PER_VISIT {
            let result = receiver.receive(socket, |arrived| {
                stream.take(half, &arrived, stamps, packets, tally);
            });
            match result {
                Ok(received) => {
                    if let Some(so_far) = received.dropped_so_far {
                        // The kernel's count wraps at 32 bits.
                        let new = so_far.wrapping_sub(std::mem::replace(drops, so_far));
                        tally.dropped_by_kernel += u64::from(new);
                    }
                    if !received.is_full() {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(port = ports.port, %error, "an RTP socket could not be read");
                    break;
                }
            }
        }
        // A socket gives packets in the order in which they came, so none came after one read
        // later. The kernel stamps a packet when it is read, instead of when it arrived, if it
        // came while stamping was being switched on: the first packets of the first call.
        packets.cap_arrivals(before, u64::MAX);
    }
}
