//! A recorder of a few lines around [`siprec::Srs`], on loopback, over UDP and TCP at once.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use siprec::{
    Accepting, ConnId, Direction, Event, Input, MediaAddress, SessionKey, Srs, SrsConfig, Transmit,
    Transport,
};

/// What the recorder noticed.
#[derive(Debug, Default)]
pub struct Noticed {
    /// The datagrams of each m-line of each session, in order of arrival.
    pub rtp: BTreeMap<(u64, usize), Vec<Vec<u8>>>,
    /// The directions of all streams of a session, at each change.
    pub directions: Vec<Vec<Direction>>,
    /// Who was said to be heard on label 1 and 2, by the last readable metadata.
    pub speakers: [Vec<String>; 2],
    pub unreadable_metadata: usize,
    pub ended: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Conduct {
    /// Refuses every call with 503.
    pub busy: bool,
    /// Says BYE this long after the answer is acknowledged.
    pub hang_up_after: Option<Duration>,
    /// Closes TCP connections this long after they were accepted.
    pub close_after: Option<Duration>,
}

pub struct Recorder {
    pub address: SocketAddr,
    noticed: Arc<Mutex<Noticed>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    pub fn start(conduct: Conduct) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            // The TCP port of the same number may be in use by a test beside this one.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let noticed = Arc::new(Mutex::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut srs = Srs::new(SrsConfig::default(), [7; 32]);
        if conduct.busy {
            srs.set_accepting(Accepting::No { retry_after_secs: 1 });
        }
        let shell = Shell {
            address,
            conduct,
            srs,
            udp,
            tcp,
            links: BTreeMap::new(),
            next_link: 0,
            media: BTreeMap::new(),
            hang_up: Vec::new(),
            noticed: Arc::clone(&noticed),
        };
        let stopping = Arc::clone(&stop);
        let thread = std::thread::spawn(move || shell.run(&stopping));
        Self { address, noticed, stop, thread: Some(thread) }
    }

    pub fn noticed<T>(&self, look: impl FnOnce(&Noticed) -> T) -> T {
        look(&self.noticed.lock().unwrap())
    }

    /// Waits until `look` is true of what was noticed.
    pub async fn until(&self, what: &str, look: impl Fn(&Noticed) -> bool) {
        for _ in 0..500 {
            if self.noticed(&look) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within 5 s: {what}; {:?}", self.noticed(|noticed| format!("{noticed:?}")));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the recorder panicked");
        }
    }
}

struct Shell {
    address: SocketAddr,
    conduct: Conduct,
    srs: Srs,
    udp: UdpSocket,
    tcp: TcpListener,
    links: BTreeMap<u64, (TcpStream, Instant)>,
    next_link: u64,
    media: BTreeMap<(u64, usize), UdpSocket>,
    hang_up: Vec<(Instant, SessionKey)>,
    noticed: Arc<Mutex<Noticed>>,
}

impl Shell {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            self.read(now);
            if self.srs.poll_timeout().is_some_and(|at| at <= now) {
                self.srs.handle_timeout(now);
            }
            while let Some(at) = self.hang_up.iter().position(|(at, _)| *at <= now) {
                let (_, key) = self.hang_up.remove(at);
                self.srs.hang_up(now, key);
            }
            self.drain(now);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn read(&mut self, now: Instant) {
        let mut buffer = [0; 65_536];
        while let Ok((length, peer)) = self.udp.recv_from(&mut buffer) {
            let bytes = &buffer[..length];
            self.srs.handle_input(now, Input::Datagram { local: self.address, peer, bytes });
        }
        while let Ok((stream, peer)) = self.tcp.accept() {
            stream.set_nonblocking(true).unwrap();
            let conn = ConnId(self.next_link);
            self.next_link += 1;
            self.links.insert(conn.0, (stream, now));
            let (transport, local) = (Transport::Tcp, self.address);
            self.srs.handle_input(now, Input::Connected { conn, transport, local, peer });
        }
        let mut gone = Vec::new();
        for (link, (stream, accepted)) in &mut self.links {
            let conn = ConnId(*link);
            match stream.read(&mut buffer) {
                Ok(0) => gone.push(conn),
                Ok(length) => {
                    self.srs.handle_input(now, Input::Stream { conn, bytes: &buffer[..length] });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => gone.push(conn),
            }
            if self.conduct.close_after.is_some_and(|after| *accepted + after <= now) {
                gone.push(conn);
            }
        }
        for conn in gone {
            if self.links.remove(&conn.0).is_some() {
                self.srs.handle_input(now, Input::Disconnected { conn });
            }
        }
        let mut noticed = self.noticed.lock().unwrap();
        for (stream, socket) in &self.media {
            while let Ok((length, _)) = socket.recv_from(&mut buffer) {
                noticed.rtp.entry(*stream).or_default().push(buffer[..length].to_vec());
            }
        }
    }

    fn drain(&mut self, now: Instant) {
        loop {
            let mut idle = true;
            while let Some(event) = self.srs.poll_event() {
                idle = false;
                self.handle(now, event);
            }
            while let Some(transmit) = self.srs.poll_transmit() {
                idle = false;
                match transmit {
                    Transmit::Datagram { peer, bytes, .. } => {
                        self.udp.send_to(&bytes, peer).unwrap();
                    }
                    Transmit::Stream { conn, bytes } => {
                        if let Some((stream, _)) = self.links.get_mut(&conn.0) {
                            // A few kilobytes always fit into the buffer of the system.
                            stream.write_all(&bytes).unwrap();
                        }
                    }
                    Transmit::Close { conn } => {
                        self.links.remove(&conn.0);
                    }
                }
            }
            if idle {
                return;
            }
        }
    }

    fn handle(&mut self, now: Instant, event: Event) {
        let noticed = Arc::clone(&self.noticed);
        let mut noticed = noticed.lock().unwrap();
        match event {
            Event::Offered { key, offer, .. } | Event::Reoffered { key, offer } => {
                let media: Vec<_> = offer
                    .iter()
                    .map(|stream| {
                        let socket = self.media.entry((key.0, stream.index)).or_insert_with(|| {
                            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                            socket.set_nonblocking(true).unwrap();
                            socket
                        });
                        stream.usable.then(|| MediaAddress { rtp: socket.local_addr().unwrap() })
                    })
                    .collect();
                self.srs.accept(now, key, &media);
            }
            Event::Media { streams, .. } => {
                noticed.directions.push(streams.iter().map(|stream| stream.direction).collect());
            }
            Event::Metadata { view: Ok(view), .. } => {
                noticed.speakers = ["1", "2"].map(|label| {
                    let speakers = view.speakers(&siprec::metadata::Label(label.to_owned()));
                    speakers.map(|speaker| speaker.name().unwrap_or("?").to_owned()).collect()
                });
            }
            Event::Metadata { view: Err(_), .. } => noticed.unreadable_metadata += 1,
            Event::Established { key } => {
                self.hang_up.extend(self.conduct.hang_up_after.map(|after| (now + after, key)));
            }
            Event::Ended { reason, .. } => noticed.ended.push(format!("{reason:?}")),
            Event::Changed { .. } | Event::Info { .. } | Event::ProbeUnanswered { .. } => {}
        }
    }
}
