//! What both engines promise. Those of the ring run where the machine can have one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use segment::Packet;

use super::ports::{PortPair, PortPool};
use super::*;
use crate::journal::Moment;

/// Each test and engine has ports of its own, because tests run side by side.
fn pair(host: IpAddr, port: u16) -> PortPair {
    let range = format!("{port}-{}", port + 1).parse().unwrap();
    let mut pool = PortPool::new(host, range, Duration::ZERO, 425_984, 0);
    pool.allocate(Instant::now()).unwrap()
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub fn rtp_packet(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(7u32.to_be_bytes());
    packet.extend([0xff; 160]);
    packet
}

fn session(n: u8) -> SessionId {
    SessionId::at(1, [n; 10])
}

/// Capture with one open stream, and where that is sent to.
struct Scene {
    capture: Capture,
    inbox: mpsc::Receiver<Swept>,
    target: SocketAddr,
    sender: UdpSocket,
}

/// Runs a test on each engine that this machine can have, on ports from `port` on.
fn on_each_engine(port: u16, test: impl Fn(CaptureMode, u16)) {
    test(CaptureMode::Sweep, port);
    match Ring::open(V4) {
        Ok(_) => test(CaptureMode::Ring, port + 2),
        Err(error) => skipped("the ring's half of a test of capture", &error),
    }
}

/// A test that cannot run here says so in the file that `cargo xtask test` reads.
fn skipped(what: &str, why: &dyn std::error::Error) {
    use std::io::Write;
    let Some(path) = std::env::var_os("LINEKEEPER_SKIPPED_TESTS") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    writeln!(file.unwrap(), "{what}: {why}").unwrap();
}

fn open(session: SessionId, stream: u16, ports: PortPair, offered: Option<SocketAddr>) -> Order {
    let expected = Box::new(Expected { rtp: offered, ..Expected::anything() });
    Order::Open { session, stream, ports, expected, cname: String::new(), paused: false }
}

fn open_on(mode: CaptureMode, host: IpAddr, port: u16, offered: Option<SocketAddr>) -> Scene {
    let (mut capture, inbox) = Capture::start(mode, host).unwrap();
    assert_eq!(capture.mode(), mode);
    let ports = pair(host, port);
    let target = ports.rtp.local_addr().unwrap();
    capture.order(open(session(1), 3, ports, offered));
    // A ring hears a port from the moment that the order is carried out.
    std::thread::sleep(Duration::from_millis(200));
    Scene { capture, inbox, target, sender: UdpSocket::bind((host, 0)).unwrap() }
}

impl Scene {
    fn say(&self, sequence: u16) {
        self.sender.send_to(&rtp_packet(sequence), self.target).unwrap();
    }

    /// Stops capture; everything that it delivers until it has ended.
    fn rest(mut self) -> (Vec<Packet>, Vec<Closed>) {
        drop(self.capture);
        let (mut packets, mut closed) = (Vec::new(), Vec::new());
        while let Some(swept) = self.inbox.blocking_recv() {
            for batch in swept.batches {
                let segment::Body::Packets(found) = batch.packets.to_body() else { unreachable!() };
                packets.extend(found);
            }
            closed.extend(swept.closed);
        }
        (packets, closed)
    }
}

fn datagrams(packets: &[Packet]) -> Vec<Vec<u8>> {
    packets.iter().map(|packet| packet.datagram.clone()).collect()
}

#[test]
fn what_came_before_capture_knew_of_the_port_is_heard_and_in_order() {
    on_each_engine(31_260, |mode, port| {
        let (mut capture, inbox) = Capture::start(mode, V4).unwrap();
        let ports = pair(V4, port);
        let target = ports.rtp.local_addr().unwrap();
        let sender = UdpSocket::bind((V4, 0)).unwrap();
        for sequence in 0..50 {
            sender.send_to(&rtp_packet(sequence), target).unwrap();
        }
        capture.order(open(session(1), 3, ports, None));
        std::thread::sleep(Duration::from_millis(200));
        let scene = Scene { capture, inbox, target, sender };
        for sequence in 50..100 {
            scene.say(sequence);
        }
        let (packets, _) = scene.rest();
        let said: Vec<_> = (0..100).map(rtp_packet).collect();
        assert_eq!(datagrams(&packets), said, "{mode:?}");
    });
}

#[test]
fn two_seconds_in_which_nobody_takes_anything_lose_no_packet() {
    on_each_engine(31_200, |mode, port| {
        let scene = open_on(mode, V4, port, None);
        let before = Moment::now().boot_ns;
        for burst in 0..8u16 {
            for sequence in burst * 100..(burst + 1) * 100 {
                scene.say(sequence);
            }
            std::thread::sleep(Duration::from_millis(300));
        }
        let after = Moment::now().boot_ns;
        let (packets, _) = scene.rest();
        assert_eq!(packets.len(), 800, "{mode:?}");
        let mut newest = before;
        for (sequence, packet) in (0u16..).zip(&packets) {
            assert_eq!(packet.datagram, rtp_packet(sequence));
            assert_eq!((packet.stream, packet.rtcp), (3, false));
            assert!(packet.arrival_boot_ns >= newest && packet.arrival_boot_ns <= after);
            newest = packet.arrival_boot_ns;
        }
    });
}

#[test]
fn what_arrived_before_the_end_is_delivered_and_then_the_port_is_free() {
    on_each_engine(31_210, |mode, port| {
        let mut scene = open_on(mode, V4, port, None);
        scene.say(1);
        scene.capture.order(Order::Close { session: session(1) });
        let target = scene.target;
        let (packets, closed) = scene.rest();
        assert_eq!(datagrams(&packets), [rtp_packet(1)], "{mode:?}");
        assert_eq!(closed.len(), 1);
        assert_eq!(
            (closed[0].ports.as_slice(), closed[0].whole_session),
            ([port].as_slice(), true)
        );
        UdpSocket::bind(target).expect("the port is free");
    });
}

#[test]
fn what_is_said_while_paused_is_not_delivered() {
    on_each_engine(31_220, |mode, port| {
        let mut scene = open_on(mode, V4, port, None);
        // Long enough for the thread to take an order, shorter than the next visit may be.
        let taken = || std::thread::sleep(Duration::from_millis(30));
        scene.say(1);
        taken();
        scene.capture.order(Order::Pause { session: session(1), streams: vec![3] });
        taken();
        scene.say(2);
        taken();
        scene.capture.order(Order::Resume { session: session(1), streams: vec![3] });
        taken();
        scene.say(3);
        taken();
        assert_eq!(datagrams(&scene.rest().0), [rtp_packet(1), rtp_packet(3)], "{mode:?}");
    });
}

#[test]
fn a_stranger_is_not_recorded() {
    on_each_engine(31_230, |mode, port| {
        let caller = UdpSocket::bind("127.0.0.1:0").unwrap();
        let scene = open_on(mode, V4, port, Some(caller.local_addr().unwrap()));
        caller.send_to(&rtp_packet(1), scene.target).unwrap();
        let mut strange = rtp_packet(2);
        // A sender of its own.
        strange[11] = 8;
        scene.sender.send_to(&strange, scene.target).unwrap();
        caller.send_to(b"not rtp at all", scene.target).unwrap();
        let (packets, _) = scene.rest();
        assert_eq!(packets.len(), 1, "{mode:?}");
        assert_eq!(packets[0].source, caller.local_addr().unwrap());
    });
}

#[test]
fn calls_over_ipv6_are_heard() {
    on_each_engine(31_240, |mode, port| {
        let scene = open_on(mode, Ipv6Addr::LOCALHOST.into(), port, None);
        scene.say(1);
        let (packets, _) = scene.rest();
        assert_eq!(datagrams(&packets), [rtp_packet(1)], "{mode:?}");
        assert!(packets[0].source.is_ipv6());
    });
}

#[test]
fn rtcp_is_told_from_rtp_and_belongs_to_the_same_stream() {
    on_each_engine(31_250, |mode, port| {
        let scene = open_on(mode, V4, port, None);
        scene.say(1);
        let mut report = vec![0x80, 200, 0, 6];
        report.extend([0; 24]);
        let rtcp = SocketAddr::new(V4, port + 1);
        scene.sender.send_to(&report, rtcp).unwrap();
        let (packets, _) = scene.rest();
        let kinds: Vec<_> = packets.iter().map(|packet| (packet.stream, packet.rtcp)).collect();
        assert_eq!(kinds, [(3, false), (3, true)], "{mode:?}");
    });
}

#[test]
fn nothing_of_one_call_is_in_the_next_on_the_same_port() {
    on_each_engine(31_260, |mode, port| {
        let mut scene = open_on(mode, V4, port, None);
        scene.say(1);
        scene.capture.order(Order::Close { session: session(1) });
        // What comes between the calls is in neither.
        std::thread::sleep(Duration::from_millis(300));
        scene.say(2);
        scene.capture.order(open(session(2), 0, pair(V4, port), None));
        std::thread::sleep(Duration::from_millis(200));
        scene.say(3);
        let mut heard = Vec::new();
        drop(scene.capture);
        while let Some(swept) = scene.inbox.blocking_recv() {
            for batch in swept.batches {
                let numbers = batch.packets.iter().map(|packet| packet.datagram[3]);
                heard.extend(numbers.map(|number| (batch.session, number)));
            }
        }
        assert_eq!(heard, [(session(1), 1), (session(2), 3)], "{mode:?}");
    });
}

#[test]
fn sessions_go_to_another_thread_when_one_has_enough() {
    let (mut capture, _inbox) = Capture::start(CaptureMode::Sweep, V4).unwrap();
    capture.most_threads = 2;
    capture.threads[0].streams = STREAMS_PER_THREAD - 1;
    let place = |capture: &mut Capture, n: u8, port| {
        let (ports, session) = (pair(V4, port), session(n));
        capture.order(open(session, 0, ports, None));
        capture.placed[&session].0
    };
    assert_eq!(place(&mut capture, 1, 31_280), 0);
    assert_eq!(place(&mut capture, 2, 31_282), 1);
    capture.order(Order::Close { session: session(1) });
    assert_eq!(place(&mut capture, 3, 31_284), 0, "there is room again");
    assert_eq!(capture.threads.len(), 2);
}
