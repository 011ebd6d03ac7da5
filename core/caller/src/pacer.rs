//! Sends a frame of every stream every 20 ms, all from one thread.
//!
//! Each frame is due at a time fixed when its stream began, not 20 ms after the one before. So
//! a late frame is followed by one on time, no stream drifts, and after any time the number of
//! packets sent is what it should be.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use crate::rtp::{FRAME, RtpStream};

/// The thread ends with the last stream after this is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Pacer {
    // Unbounded: one entry per call, taken at once.
    begin: mpsc::Sender<Vec<RtpStream>>,
}

impl Pacer {
    pub fn start() -> io::Result<Self> {
        let (begin, begun) = mpsc::channel();
        thread::Builder::new().name("rtp-sender".to_owned()).spawn(move || run(&begun))?;
        Ok(Self { begin })
    }

    /// Sends these from now on, in step with each other.
    pub fn begin(&self, streams: Vec<RtpStream>) {
        // The thread only ends when this sender is gone.
        let _ = self.begin.send(streams);
    }
}

fn run(begun: &mpsc::Receiver<Vec<RtpStream>>) {
    let mut slots: Vec<Option<RtpStream>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut due: BinaryHeap<Reverse<(Instant, usize)>> = BinaryHeap::new();
    loop {
        let next = due.peek().map(|Reverse((at, _))| *at);
        let streams = match next {
            None => match begun.recv() {
                Ok(streams) => streams,
                Err(mpsc::RecvError) => return,
            },
            Some(at) => {
                let wait = at.saturating_duration_since(Instant::now());
                match begun.recv_timeout(wait) {
                    Ok(streams) => streams,
                    Err(RecvTimeoutError::Timeout) => Vec::new(),
                    Err(RecvTimeoutError::Disconnected) => {
                        thread::sleep(wait);
                        Vec::new()
                    }
                }
            }
        };
        let now = Instant::now();
        for stream in streams {
            let slot = free.pop().unwrap_or_else(|| {
                slots.push(None);
                slots.len() - 1
            });
            slots[slot] = Some(stream);
            due.push(Reverse((now, slot)));
        }
        while let Some(&Reverse((at, slot))) = due.peek() {
            if at > Instant::now() {
                break;
            }
            due.pop();
            if slots[slot].as_mut().is_some_and(RtpStream::tick) {
                due.push(Reverse((at + FRAME, slot)));
            } else {
                slots[slot] = None;
                free.push(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::time::Duration;

    use siprec::rtp::{Packet, RtpHeader};

    use super::*;
    use crate::plan::Codec;
    use crate::rtp::Targets;
    use crate::source::SourceId;

    #[test]
    fn streams_are_sent_whole_in_step_and_with_what_their_source_says() {
        let local = Ipv4Addr::LOCALHOST.into();
        let sink = UdpSocket::bind((local, 0)).unwrap();
        sink.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let target = sink.local_addr().unwrap();
        let pacer = Pacer::start().unwrap();
        let mut controls = Vec::new();
        let mut streams = Vec::new();
        for seed in [1, 2] {
            let source = SourceId::Speech { seed };
            let opened = RtpStream::open(local, Codec::Pcmu, source, Some(10), None).unwrap();
            streams.push(opened.0);
            controls.push(opened.1);
            let targets = Targets { rtp: target, rtcp: None };
            controls.last_mut().unwrap().set_targets(Some(targets));
        }
        let begun = Instant::now();
        pacer.begin(streams);
        let mut packets = Vec::new();
        for _ in 0..20 {
            let mut buffer = [0; 2048];
            let (length, _) = sink.recv_from(&mut buffer).unwrap();
            packets.push(buffer[..length].to_vec());
        }
        assert!(begun.elapsed() >= FRAME * 9, "ten frames in {:?}", begun.elapsed());
        for control in &controls {
            let mine: Vec<RtpHeader<'_>> = packets
                .iter()
                .filter_map(|packet| match Packet::parse(packet) {
                    Ok(Packet::Rtp(header)) if header.ssrc == control.ssrc => Some(header),
                    _ => None,
                })
                .collect();
            assert_eq!(mine.len(), 10);
            // A packet arrives before its sender has counted it.
            let patience = Instant::now() + Duration::from_secs(2);
            while control.report(None).frames < 10 && Instant::now() < patience {
                std::thread::yield_now();
            }
            let report = control.report(None);
            assert_eq!((report.packets_sent, report.frames), (10, 10));
            assert!(report.first_sent_unix_ms.is_some());
            for (index, header) in mine.iter().enumerate() {
                assert_eq!(header.sequence, mine[0].sequence.wrapping_add(index as u16));
                assert_eq!(header.timestamp, mine[0].timestamp.wrapping_add(index as u32 * 160));
                assert_eq!(header.marker, index == 0);
                assert_eq!(header.payload_type, 0);
            }
            let sent: Vec<u8> = mine.iter().flat_map(|header| header.payload).copied().collect();
            let said = report.source.samples(1600).unwrap();
            assert_eq!(sent, crate::encode::Encoder::new(Codec::Pcmu).unwrap().encode(&said));
        }
    }

    #[test]
    fn on_hold_time_goes_on_and_afterwards_comes_a_marker() {
        let local = Ipv4Addr::LOCALHOST.into();
        let sink = UdpSocket::bind((local, 0)).unwrap();
        sink.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let rtp = sink.local_addr().unwrap();
        let source = SourceId::Speech { seed: 1 };
        let (mut stream, mut control) =
            RtpStream::open(local, Codec::Pcma, source, None, None).unwrap();
        let mut frames = Vec::new();
        for held in [false, true, true, false] {
            control.set_targets((!held).then_some(Targets { rtp, rtcp: None }));
            assert!(stream.tick());
            if !held {
                let mut buffer = [0; 2048];
                let (length, _) = sink.recv_from(&mut buffer).unwrap();
                let header = RtpHeader::parse(&buffer[..length]).unwrap();
                frames.push((header.sequence, header.timestamp, header.marker));
            }
        }
        let [first, second] = frames[..] else { panic!("{frames:?}") };
        assert_eq!(second.0, first.0.wrapping_add(1));
        assert_eq!(second.1, first.1.wrapping_add(480));
        assert!(first.2 && second.2);
        let report = control.report(None);
        assert_eq!((report.packets_sent, report.frames), (2, 4));
        control.stop();
        assert!(!stream.tick());
    }
}
