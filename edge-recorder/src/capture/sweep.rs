//! The sweep: one thread visits every RTP socket ten times a second.
//!
//! Measured against a tokio task per stream it costs a third of the CPU per packet, because
//! neither the kernel nor we wake up for single packets. The 100 ms are also the journal's
//! commit, so visiting more often would not make audio durable sooner.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver as Orders, RecvTimeoutError};
use std::time::{Duration, Instant};

use metrics::counter;
use model::SessionId;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use super::gate::{self, Gate, Half, Kind};
use super::ports::PortPair;
use super::receive::{Datagram, Receiver};
use super::report::{Reporter, ToSend};
use super::{Batch, Closed, Order, Rollover, Swept};
use crate::journal::Moment;

pub const EVERY: Duration = Duration::from_millis(100);

/// Calls of recvmmsg per socket and visit: 512 packets, ten seconds of audio. A flood on one port
/// must not keep us from the others.
const READS_PER_VISIT: usize = 16;

pub struct Sweep {
    orders: Orders<Order>,
    output: Sender<Swept>,
    receiver: Receiver,
    sessions: HashMap<SessionId, Vec<Stream>>,
    /// Not delivered yet.
    pending: Swept,
    /// Since when the recording half takes nothing.
    stalled: Option<Instant>,
}

/// One m-line's sockets.
struct Stream {
    index: u16,
    ports: PortPair,
    gate: Gate,
    paused: bool,
    kernel_drops: [u32; 2],
}

impl Sweep {
    pub fn new(orders: Orders<Order>, output: Sender<Swept>) -> Self {
        Self {
            orders,
            output,
            receiver: Receiver::default(),
            sessions: HashMap::new(),
            pending: Swept::default(),
            stalled: None,
        }
    }

    /// Until the sender of the orders is dropped or nobody takes what we deliver.
    pub fn run(mut self) {
        let mut next = Instant::now() + EVERY;
        while !self.output.is_closed() {
            let wait = next.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                self.sweep();
                // After a stall one visit finds everything; there is nothing to catch up on.
                next = (next + EVERY).max(Instant::now());
                continue;
            }
            match self.orders.recv_timeout(wait) {
                Ok(order) => self.carry_out(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.visit_all();
        // Nothing comes after this, so here waiting harms nobody.
        let _ = self.output.blocking_send(std::mem::take(&mut self.pending));
    }

    fn sweep(&mut self) {
        if self.output.capacity() == 0 {
            if self.stalled.is_none() {
                tracing::warn!("the recorder does not take packets, they wait in their sockets");
                self.stalled = Some(Instant::now());
            }
            counter!("linekeeper_capture_stalled_sweeps_total").increment(1);
            return;
        }
        if let Some(since) = self.stalled.take() {
            tracing::warn!(
                stalled_ms = since.elapsed().as_millis(),
                "the recorder takes packets again"
            );
        }
        self.visit_all();
        self.deliver();
    }

    fn visit_all(&mut self) {
        let clock = read_clocks();
        for (session, streams) in &mut self.sessions {
            let mut packets = Vec::new();
            for stream in streams {
                stream.visit(&mut self.receiver, clock, &mut packets);
                if let Some((ssrc, roc)) = stream.gate.new_rollover() {
                    let (session, stream) = (*session, stream.index);
                    self.pending.rollovers.push(Rollover { session, stream, ssrc, roc });
                }
                if let Some(report) = stream.gate.report(clock.boot_ns) {
                    stream.send(&report);
                }
            }
            if !packets.is_empty() {
                self.pending.batches.push(Batch { session: *session, packets });
            }
        }
    }

    fn deliver(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        match self.output.try_send(std::mem::take(&mut self.pending)) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(swept)) => self.pending = swept,
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Open { session, stream, ports, expected, cname, paused } => {
                let reporter = Reporter::new(cname, Moment::now().boot_ns);
                let stream = Stream {
                    index: stream,
                    ports,
                    gate: Gate::new(*expected, reporter),
                    paused,
                    kernel_drops: [0; 2],
                };
                self.sessions.entry(session).or_default().push(stream);
            }
            Order::Expect { session, stream, expected } => {
                let streams = self.sessions.get_mut(&session).into_iter().flatten();
                for stream in streams.filter(|known| known.index == stream) {
                    stream.gate.expect((*expected).clone());
                }
            }
            Order::Pause { session, streams } => self.set_paused(session, &streams, true),
            Order::Resume { session, streams } => self.set_paused(session, &streams, false),
            Order::CloseStream { session, stream } => {
                self.close(session, |known| known.index == stream);
            }
            Order::Close { session } => self.close(session, |_| true),
        }
    }

    /// What has arrived so far is treated as it would have been on arrival.
    fn set_paused(&mut self, session: SessionId, indexes: &[u16], paused: bool) {
        let clock = read_clocks();
        let mut packets = Vec::new();
        for stream in self.sessions.get_mut(&session).into_iter().flatten() {
            if indexes.contains(&stream.index) {
                stream.visit(&mut self.receiver, clock, &mut packets);
                stream.paused = paused;
            }
        }
        if !packets.is_empty() {
            self.pending.batches.push(Batch { session, packets });
        }
    }

    fn close(&mut self, session: SessionId, which: impl Fn(&Stream) -> bool) {
        let clock = read_clocks();
        let streams = self.sessions.remove(&session).unwrap_or_default();
        let (closing, staying): (Vec<_>, Vec<_>) = streams.into_iter().partition(|s| which(s));
        let whole_session = staying.is_empty();
        if !whole_session {
            self.sessions.insert(session, staying);
        }
        let mut packets = Vec::new();
        let mut ports = Vec::new();
        for mut stream in closing {
            stream.visit(&mut self.receiver, clock, &mut packets);
            if let Some(goodbye) = stream.gate.farewell() {
                stream.send(&goodbye);
            }
            ports.push(stream.ports.port);
        }
        if !packets.is_empty() {
            self.pending.batches.push(Batch { session, packets });
        }
        self.pending.closed.push(Closed { session, ports, whole_session });
        self.deliver();
    }
}

impl Stream {
    fn visit(
        &mut self,
        receiver: &mut Receiver,
        clock: Moment,
        packets: &mut Vec<segment::Packet>,
    ) {
        for half in [Half::Rtp, Half::Rtcp] {
            self.read(half, receiver, clock, packets);
        }
        let lost = self.gate.newly_lost();
        if lost > 0 {
            counter!("linekeeper_rtp_lost_packets_total").increment(lost);
        }
        let not_authentic = self.gate.take_not_authentic();
        if not_authentic > 0 {
            counter!("linekeeper_srtp_not_authentic_packets_total").increment(not_authentic);
        }
    }

    fn send(&self, report: &ToSend) {
        let socket = if report.from_rtp_port { &self.ports.rtp } else { &self.ports.rtcp };
        // Nothing hangs on a single report.
        if socket.send_to(&report.bytes, report.to).is_ok() {
            counter!("linekeeper_rtcp_reports_sent_total").increment(1);
        }
    }

    fn read(
        &mut self,
        half: Half,
        receiver: &mut Receiver,
        clock: Moment,
        packets: &mut Vec<segment::Packet>,
    ) {
        let before = packets.len();
        for _ in 0..READS_PER_VISIT {
            let Self { index, ports, gate, paused, kernel_drops } = self;
            let (socket, drops) = match half {
                Half::Rtp => (&ports.rtp, &mut kernel_drops[0]),
                Half::Rtcp => (&ports.rtcp, &mut kernel_drops[1]),
            };
            let result = receiver.receive(socket, |datagram| {
                match judge(&datagram, half, clock, gate, *paused) {
                    Ok((rtcp, arrival_boot_ns)) => packets.push(segment::Packet {
                        stream: *index,
                        rtcp,
                        arrival_boot_ns,
                        source: datagram.source,
                        datagram: datagram.bytes.to_vec(),
                    }),
                    Err(reason) => {
                        counter!("linekeeper_rtp_rejected_packets_total", "reason" => reason)
                            .increment(1);
                    }
                }
            });
            match result {
                Ok(received) => {
                    if let Some(so_far) = received.dropped_so_far {
                        // The kernel's count wraps at 32 bits.
                        let new = so_far.wrapping_sub(std::mem::replace(drops, so_far));
                        counter!("linekeeper_rtp_kernel_dropped_packets_total")
                            .increment(u64::from(new));
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
        let read = &mut packets[before..];
        order_stamps(read);
        if matches!(half, Half::Rtp) {
            counter!("linekeeper_rtp_packets_total").increment(read.len() as u64);
        }
    }
}

/// A socket gives packets in the order in which they came, so none came after one read later.
///
/// The kernel stamps a packet when it is read, instead of when it arrived, if the packet came
/// while stamping was being switched on: the first packets of the first call.
fn order_stamps(packets: &mut [segment::Packet]) {
    let mut latest = u64::MAX;
    for packet in packets.iter_mut().rev() {
        latest = latest.min(packet.arrival_boot_ns);
        packet.arrival_boot_ns = latest;
    }
}

/// Both clocks, read so close together that they are of one moment.
///
/// On a busy machine this thread may lose its processor between the two readings, which would
/// shift a whole visit's packets by as much. A few tries find two readings without that.
fn read_clocks() -> Moment {
    const CLOSE_ENOUGH_NS: u64 = 20_000;
    const TRIES: usize = 5;
    let mut best: Option<(u64, Moment)> = None;
    for _ in 0..TRIES {
        let before = Moment::now();
        let moment = Moment::now();
        let apart_ns = moment.boot_ns.saturating_sub(before.boot_ns);
        if best.is_none_or(|(least_ns, _)| apart_ns < least_ns) {
            best = Some((apart_ns, moment));
        }
        if apart_ns < CLOSE_ENOUGH_NS {
            break;
        }
    }
    best.map_or_else(Moment::now, |(_, moment)| moment)
}

/// The boot time of a stamp of the wall clock, given both clocks at the start of the visit.
///
/// A stamp may be a little later than that: packets come while we visit. One that is much later
/// was made before the wall clock was stepped back, and is taken for the visit's own time.
fn boot_ns_of(clock: Moment, wall_ns: u64) -> u64 {
    const LONGEST_VISIT_NS: u64 = 1_000_000_000;
    if wall_ns > clock.wall_ns.saturating_add(LONGEST_VISIT_NS) {
        return clock.boot_ns;
    }
    clock.boot_ns.saturating_add(wall_ns).saturating_sub(clock.wall_ns)
}

/// Whether a datagram is recorded: if it is RTCP and when it arrived, or why not.
fn judge(
    datagram: &Datagram<'_>,
    half: Half,
    clock: Moment,
    gate: &mut Gate,
    paused: bool,
) -> Result<(bool, u64), gate::Reason> {
    if datagram.truncated {
        return Err("too_long");
    }
    let arrival_boot_ns =
        datagram.wall_ns.map_or(clock.boot_ns, |wall_ns| boot_ns_of(clock, wall_ns));
    let (bytes, source) = (datagram.bytes, datagram.source);
    let kind = gate.judge(&gate::Datagram { bytes, source, half, arrival_boot_ns })?;
    if paused { Err("paused") } else { Ok((kind == Kind::Rtcp, arrival_boot_ns)) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::super::{Capture, ports::PortPool};
    use super::*;
    use crate::capture::gate::Expected;
    use crate::config::CaptureMode;

    fn rtp_packet(sequence: u16) -> Vec<u8> {
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend((u32::from(sequence) * 160).to_be_bytes());
        packet.extend(7u32.to_be_bytes());
        packet.extend([0xff; 160]);
        packet
    }

    fn pair(port: u16) -> PortPair {
        let range = format!("{port}-{}", port + 1).parse().unwrap();
        let mut pool = PortPool::new(Ipv4Addr::LOCALHOST.into(), range, Duration::ZERO, 425_984, 0);
        pool.allocate(Instant::now()).unwrap()
    }

    fn session(n: u8) -> SessionId {
        SessionId::at(1, [n; 10])
    }

    /// Everything that capture delivers until it has ended.
    fn rest(mut inbox: tokio::sync::mpsc::Receiver<Swept>) -> (Vec<segment::Packet>, Vec<Closed>) {
        let (mut packets, mut closed) = (Vec::new(), Vec::new());
        while let Some(swept) = inbox.blocking_recv() {
            packets.extend(swept.batches.into_iter().flat_map(|batch| batch.packets));
            closed.extend(swept.closed);
        }
        (packets, closed)
    }

    #[test]
    fn two_seconds_in_which_nobody_takes_anything_lose_no_packet() {
        let (capture, inbox) = Capture::start(CaptureMode::Sweep).unwrap();
        let ports = pair(31_200);
        let target = ports.rtp.local_addr().unwrap();
        capture.order(Order::Open {
            session: session(1),
            stream: 3,
            ports,
            expected: Box::new(Expected::anything()),
            cname: String::new(),
            paused: false,
        });
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let before = Moment::now().boot_ns;
        for burst in 0..8u16 {
            for sequence in burst * 100..(burst + 1) * 100 {
                sender.send_to(&rtp_packet(sequence), target).unwrap();
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        let after = Moment::now().boot_ns;
        drop(capture);
        let (packets, _) = rest(inbox);
        assert_eq!(packets.len(), 800);
        let mut newest = before;
        for (sequence, packet) in (0u16..).zip(&packets) {
            assert_eq!(packet.datagram, rtp_packet(sequence));
            assert_eq!((packet.stream, packet.rtcp), (3, false));
            assert!(packet.arrival_boot_ns >= newest && packet.arrival_boot_ns <= after);
            newest = packet.arrival_boot_ns;
        }
    }

    #[test]
    fn what_arrived_before_the_end_is_delivered_and_then_the_port_is_free() {
        let (capture, inbox) = Capture::start(CaptureMode::Sweep).unwrap();
        let ports = pair(31_202);
        let target = ports.rtp.local_addr().unwrap();
        capture.order(Order::Open {
            session: session(1),
            stream: 0,
            ports,
            expected: Box::new(Expected::anything()),
            cname: String::new(),
            paused: false,
        });
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.send_to(&rtp_packet(1), target).unwrap();
        capture.order(Order::Close { session: session(1) });
        drop(capture);
        let (packets, closed) = rest(inbox);
        assert_eq!(packets.len(), 1);
        assert_eq!(closed.len(), 1);
        assert_eq!(
            (closed[0].ports.as_slice(), closed[0].whole_session),
            ([31_202].as_slice(), true)
        );
        UdpSocket::bind(target).expect("the port is free");
    }

    #[test]
    fn what_is_said_while_paused_is_not_delivered() {
        let (capture, inbox) = Capture::start(CaptureMode::Sweep).unwrap();
        let ports = pair(31_204);
        let target = ports.rtp.local_addr().unwrap();
        capture.order(Order::Open {
            session: session(1),
            stream: 0,
            ports,
            expected: Box::new(Expected::anything()),
            cname: String::new(),
            paused: false,
        });
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let say = |sequence| {
            sender.send_to(&rtp_packet(sequence), target).unwrap();
        };
        // Long enough for the thread to take an order, shorter than the next visit may be.
        let taken = || std::thread::sleep(Duration::from_millis(30));
        say(1);
        capture.order(Order::Pause { session: session(1), streams: vec![0] });
        taken();
        say(2);
        taken();
        capture.order(Order::Resume { session: session(1), streams: vec![0] });
        taken();
        say(3);
        taken();
        drop(capture);
        let (packets, _) = rest(inbox);
        let said: Vec<_> = packets.into_iter().map(|packet| packet.datagram).collect();
        assert_eq!(said, [rtp_packet(1), rtp_packet(3)]);
    }

    #[test]
    fn a_stranger_is_not_recorded() {
        let (capture, inbox) = Capture::start(CaptureMode::Sweep).unwrap();
        let ports = pair(31_206);
        let target = ports.rtp.local_addr().unwrap();
        let caller = UdpSocket::bind("127.0.0.1:0").unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        let offered = Some(caller.local_addr().unwrap());
        capture.order(Order::Open {
            session: session(1),
            stream: 0,
            ports,
            expected: Box::new(Expected { rtp: offered, ..Expected::anything() }),
            cname: String::new(),
            paused: false,
        });
        caller.send_to(&rtp_packet(1), target).unwrap();
        let mut strange = rtp_packet(2);
        // A sender of its own.
        strange[11] = 8;
        stranger.send_to(&strange, target).unwrap();
        caller.send_to(b"not rtp at all", target).unwrap();
        drop(capture);
        let (packets, _) = rest(inbox);
        assert_eq!(packets.len(), 1);
        assert_eq!(packets[0].source, caller.local_addr().unwrap());
    }

    #[test]
    fn a_packet_that_was_stamped_when_it_was_read_came_before_those_after_it() {
        let packet = |arrival_boot_ns| segment::Packet {
            stream: 0,
            rtcp: false,
            arrival_boot_ns,
            source: ([192, 0, 2, 1], 4000).into(),
            datagram: Vec::new(),
        };
        let mut packets: Vec<_> = [900, 100, 200, 850, 300].into_iter().map(packet).collect();
        order_stamps(&mut packets);
        let stamps: Vec<_> = packets.iter().map(|packet| packet.arrival_boot_ns).collect();
        assert_eq!(stamps, [100, 100, 200, 300, 300]);
    }

    #[test]
    fn a_stamp_becomes_boot_time_by_its_distance_from_now() {
        let clock = Moment { wall_ns: 50_000_000_000, boot_ns: 9_000_000_000 };
        assert_eq!(boot_ns_of(clock, 49_900_000_000), 8_900_000_000);
        assert_eq!(boot_ns_of(clock, 50_000_001_000), 9_000_001_000);
        assert_eq!(boot_ns_of(clock, 90_000_000_000), 9_000_000_000, "the clock was set back");
        assert_eq!(boot_ns_of(clock, 0), 0);
    }
}
