//! One outgoing RTP stream (RFC 3550): sockets, packets, sender reports.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use siprec::rtp::rtcp::{self, Rtcp, SenderInfo};
use siprec::rtp::srtp::{Keying, Receiver, Sender, Suite};

use crate::encode::Encoder;
use crate::plan::Codec;
use crate::report::{CallError, Reports, StreamReport};
use crate::secure::OwnKey;
use crate::source::{FRAME_SAMPLES, Source, SourceId};

pub(crate) const FRAME: Duration = Duration::from_millis(20);

/// Five seconds between reports (RFC 3550 §6.2).
const FRAMES_PER_REPORT: u64 = 250;

/// Reports of the recorder are looked for once in a second.
const FRAMES_PER_LOOK: u64 = 50;

/// Where a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Targets {
    pub rtp: SocketAddr,
    pub rtcp: Option<SocketAddr>,
}

/// The sending half; lives in the pacer.
#[derive(Debug)]
pub(crate) struct RtpStream {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    codec: Codec,
    encoder: Encoder,
    source: Source,
    /// Of an encrypted stream.
    sender: Option<Sender>,
    ssrc: u32,
    sequence: u16,
    first_timestamp: u32,
    max_frames: Option<u64>,
    /// Whether the next packet is the first after silence.
    marker: bool,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// `None`: on hold. Time goes on, and what is said meanwhile is not heard.
    targets: Mutex<Option<Targets>>,
    stopped: AtomicBool,
    packets: AtomicU64,
    frames: AtomicU64,
    /// 0 before the first packet.
    first_sent_unix_ms: AtomicU64,
    /// Keys of the newest answer, for the frames from now on.
    new_key: Mutex<Option<Keying>>,
    heard: Mutex<Heard>,
}

/// What came back.
#[derive(Debug, Default)]
struct Heard {
    /// Of an encrypted stream, once it is answered.
    receiver: Option<Receiver>,
    reports: Reports,
}

/// The steering half. Dropping it stops the stream.
#[derive(Debug)]
pub(crate) struct StreamControl {
    shared: Arc<Shared>,
    pub ssrc: u32,
    pub port: u16,
    /// What we protect the stream with, as offered last.
    pub own_key: Option<OwnKey>,
    codec: Codec,
    source_id: SourceId,
    /// The last that was set, for the report.
    remote: Option<SocketAddr>,
}

impl RtpStream {
    /// Binds a pair of ports, even for RTP and odd for RTCP (RFC 3550 §11), and opens the source.
    pub fn open(
        local: IpAddr,
        codec: Codec,
        source_id: SourceId,
        max_frames: Option<u64>,
        srtp: Option<Suite>,
    ) -> Result<(Self, StreamControl), CallError> {
        let (rtp, rtcp) = bind_pair(local)
            .map_err(|source| CallError::Bind { address: SocketAddr::new(local, 0), source })?;
        let local_address = rtp.local_addr();
        let port = local_address
            .map_err(|source| CallError::Bind { address: SocketAddr::new(local, 0), source })?
            .port();
        let random = getrandom::u64().map_err(CallError::Random)?;
        let ssrc = getrandom::u32().map_err(CallError::Random)?;
        let shared = Arc::new(Shared::default());
        let own_key = srtp.map(|suite| OwnKey::random(suite, 1)).transpose()?;
        let sender = own_key.as_ref().map(|key| Sender::new(key.keying()));
        // Random starts (RFC 3550 §5.1), so that wraps happen where they may; under encryption only
        // where they cannot be missed (RFC 4568 §6.4).
        let sequence = if sender.is_some() { random as u16 & 0x7fff } else { random as u16 };
        let stream = Self {
            rtp,
            rtcp,
            codec,
            encoder: Encoder::new(codec)?,
            source: source_id.open()?,
            sender,
            ssrc,
            sequence,
            first_timestamp: (random >> 32) as u32,
            max_frames,
            marker: true,
            shared: Arc::clone(&shared),
        };
        let remote = None;
        Ok((stream, StreamControl { shared, ssrc, port, own_key, codec, source_id, remote }))
    }

    /// Sends the next frame, or lets it pass on hold. False when the stream is over.
    pub fn tick(&mut self) -> bool {
        let frame = self.shared.frames.load(Ordering::Relaxed);
        if self.shared.stopped.load(Ordering::Relaxed)
            || self.max_frames.is_some_and(|max_frames| frame >= max_frames)
        {
            return false;
        }
        let mut samples = [0; FRAME_SAMPLES];
        self.source.read(&mut samples);
        let targets = *lock(&self.shared.targets);
        let timestamp = self
            .first_timestamp
            .wrapping_add((frame as u32).wrapping_mul(self.codec.ticks_per_frame()));
        if let (Some(keying), Some(sender)) = (lock(&self.shared.new_key).take(), &mut self.sender)
        {
            *sender = sender.with_keys(&keying);
        }
        if frame % FRAMES_PER_LOOK == FRAMES_PER_LOOK / 2 {
            self.shared.listen(&self.rtcp, self.ssrc);
        }
        // Codecs that remember what was said before must not miss what is said on hold.
        let payload = self.encoder.encode(&samples);
        match targets {
            Some(targets) => {
                self.send_frame(&payload, timestamp, targets.rtp);
                if frame.is_multiple_of(FRAMES_PER_REPORT)
                    && let Some(rtcp) = targets.rtcp
                {
                    self.send_report(timestamp, rtcp);
                }
            }
            None => self.marker = true,
        }
        self.shared.frames.store(frame + 1, Ordering::Relaxed);
        true
    }

    fn send_frame(&mut self, payload: &[u8], timestamp: u32, target: SocketAddr) {
        let marker = if self.marker { 0x80 } else { 0 };
        let mut packet = Vec::with_capacity(12 + payload.len() + 32);
        packet.extend([0x80, marker | self.codec.payload_type()]);
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend(payload);
        if let Some(sender) = &mut self.sender {
            // It has the header that was just written.
            let _ = sender.seal_rtp(&mut packet);
        }
        // Counted as lost on the way, like any other packet, when the system refuses it.
        self.sequence = self.sequence.wrapping_add(1);
        self.marker = false;
        if self.rtp.send_to(&packet, target).is_ok() {
            self.shared.packets.fetch_add(1, Ordering::Relaxed);
            let first = &self.shared.first_sent_unix_ms;
            if first.load(Ordering::Relaxed) == 0 {
                first.store(unix_time().as_millis() as u64, Ordering::Relaxed);
            }
        }
    }

    fn send_report(&mut self, timestamp: u32, target: SocketAddr) {
        /// Seconds from 1900 to 1970 (RFC 3550 §4).
        const NTP_TO_UNIX_SECS: u64 = 2_208_988_800;
        let now = unix_time();
        let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
        let packets = self.shared.packets.load(Ordering::Relaxed) as u32;
        let info = SenderInfo {
            ntp: (now.as_secs() + NTP_TO_UNIX_SECS) << 32 | fraction,
            rtp_timestamp: timestamp,
            packets,
            octets: packets.wrapping_mul(FRAME_SAMPLES as u32),
        };
        let mut report = rtcp::sender_report(self.ssrc, &info, "caller");
        if let Some(sender) = &mut self.sender {
            // It is a whole report.
            let _ = sender.seal_rtcp(&mut report);
        }
        // Nothing hangs on a single report.
        let _ = self.rtcp.send_to(&report, target);
    }
}

impl StreamControl {
    /// Sends there from the next frame on; `None` is hold.
    pub fn set_targets(&mut self, targets: Option<Targets>) {
        self.remote = targets.map(|targets| targets.rtp).or(self.remote);
        *lock(&self.shared.targets) = targets;
    }

    /// What the recorder protects its reports with. From the next frame on, ours are protected with
    /// [`Self::own_key`].
    pub fn agree(&self, theirs: &Keying) {
        *lock(&self.shared.new_key) = self.own_key.as_ref().map(|own| own.keying().clone());
        lock(&self.shared.heard).receiver.get_or_insert_default().add_keys(theirs);
    }

    pub fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }

    pub fn report(&self, label: Option<String>) -> StreamReport {
        let first_sent_unix_ms = self.shared.first_sent_unix_ms.load(Ordering::Relaxed);
        StreamReport {
            label,
            ssrc: self.ssrc,
            codec: self.codec,
            source: self.source_id.clone(),
            remote: self.remote,
            packets_sent: self.shared.packets.load(Ordering::Relaxed),
            frames: self.shared.frames.load(Ordering::Relaxed),
            first_sent_unix_ms: (first_sent_unix_ms != 0).then_some(first_sent_unix_ms),
            reports: lock(&self.shared.heard).reports,
        }
    }
}

impl Shared {
    /// Takes the reports that have come.
    fn listen(&self, socket: &UdpSocket, ssrc: u32) {
        let mut heard = lock(&self.heard);
        let mut buffer = [0; 2_048];
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            let compound = match &mut heard.receiver {
                None => Ok(buffer[..length].to_vec()),
                Some(receiver) => receiver.open_rtcp(&buffer[..length]),
            };
            let packets = compound.map(|compound| rtcp::parse(&compound)).unwrap_or_default();
            if packets.is_empty() {
                heard.reports.unreadable += 1;
            }
            for packet in packets {
                match packet {
                    Rtcp::ReceiverReport { blocks, .. } | Rtcp::SenderReport { blocks, .. } => {
                        heard.reports.received += 1;
                        if let Some(block) = blocks.iter().find(|block| block.ssrc == ssrc) {
                            heard.reports.lost = block.cumulative_lost.into();
                        }
                    }
                    Rtcp::Bye { .. } => heard.reports.goodbye = true,
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for StreamControl {
    fn drop(&mut self) {
        self.stop();
    }
}

fn unix_time() -> Duration {
    // A clock before 1970 is reported as 1970 rather than stop the call.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn bind_pair(local: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    // Half of all free ports are odd, and some even ones have a neighbour in use.
    for _ in 0..100 {
        let rtp = UdpSocket::bind((local, 0))?;
        let port = rtp.local_addr()?.port();
        if port % 2 == 0
            && let Ok(rtcp) = UdpSocket::bind((local, port + 1))
        {
            rtcp.set_nonblocking(true)?;
            return Ok((rtp, rtcp));
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free pair of ports"))
}
