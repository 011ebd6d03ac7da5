//! What is done with a packet, by whichever way it was taken from the network: is it the stream's,
//! is it to be kept, and is one missing before it.

use std::net::SocketAddr;

use model::SessionId;
use segment::PacketBatch;

use super::gate::{Datagram, Expected, Gate, Half, Kind};
use super::ports::PortPair;
use super::report::{Reporter, ToSend};
use super::stamps::Stamps;
use super::tally::Tally;
use super::{Rollover, Swept};

/// A packet as it came.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    pub bytes: &'a [u8],
    pub source: SocketAddr,
    /// When the kernel received it, in nanoseconds of CLOCK_REALTIME.
    pub wall_ns: Option<u64>,
    /// It was longer than what is kept of it.
    pub truncated: bool,
}

/// One m-line of a session.
pub struct Stream {
    pub session: SessionId,
    pub index: u16,
    pub gate: Gate,
    /// From when on it was paused or not, oldest first. What comes before the first was not read
    /// in time to matter.
    pauses: Vec<(u64, bool)>,
}

/// Changes of pause that are remembered, for packets that are read after they were made.
const PAUSES_REMEMBERED: usize = 16;

impl Stream {
    pub fn new(
        session: SessionId,
        index: u16,
        expected: Expected,
        cname: String,
        paused: bool,
        now_boot_ns: u64,
    ) -> Self {
        let gate = Gate::new(expected, Reporter::new(cname, now_boot_ns));
        Self { session, index, gate, pauses: vec![(0, paused)] }
    }

    /// What arrives from this moment on is recorded or not. What arrived before, and is read
    /// later, is treated as it would have been on arrival.
    pub fn set_paused(&mut self, boot_ns: u64, paused: bool) {
        if self.pauses.len() == PAUSES_REMEMBERED {
            self.pauses.remove(0);
        }
        self.pauses.push((boot_ns, paused));
    }

    fn is_paused_at(&self, boot_ns: u64) -> bool {
        let held = self.pauses.iter().rev().find(|(from, _)| *from <= boot_ns);
        // Older than all that is remembered: nobody knows, so nobody may hear it.
        held.is_none_or(|(_, paused)| *paused)
    }

    /// Adds a packet to the batch, or counts why not.
    pub fn take(
        &mut self,
        half: Half,
        arrived: &Arrived<'_>,
        stamps: &Stamps,
        batch: &mut PacketBatch,
        tally: &mut Tally,
    ) {
        if arrived.truncated {
            tally.reject("too_long");
            return;
        }
        let (bytes, source) = (arrived.bytes, arrived.source);
        let arrival_boot_ns = stamps.boot_ns(arrived.wall_ns);
        match self.gate.judge(&Datagram { bytes, source, half, arrival_boot_ns }) {
            Ok(_) if self.is_paused_at(arrival_boot_ns) => tally.reject("paused"),
            Ok(kind) => {
                tally.recorded += u64::from(half == Half::Rtp);
                batch.push(self.index, kind == Kind::Rtcp, arrival_boot_ns, source, bytes);
            }
            Err(reason) => tally.reject(reason),
        }
    }

    /// What a visit does after the packets are taken: counts, and the report that is due.
    pub fn look_after(
        &mut self,
        ports: &PortPair,
        now_boot_ns: u64,
        found: &mut Swept,
        tally: &mut Tally,
    ) {
        if let Some((ssrc, roc)) = self.gate.new_rollover() {
            let (session, stream) = (self.session, self.index);
            found.rollovers.push(Rollover { session, stream, ssrc, roc });
        }
        if let Some(report) = self.gate.report(now_boot_ns) {
            send(ports, &report, tally);
        }
        self.count(tally);
    }

    /// The goodbye, when the stream is closed.
    pub fn close(&mut self, ports: &PortPair, tally: &mut Tally) {
        if let Some(goodbye) = self.gate.farewell() {
            send(ports, &goodbye, tally);
        }
        self.count(tally);
    }

    fn count(&mut self, tally: &mut Tally) {
        tally.lost += self.gate.newly_lost();
        tally.not_authentic += self.gate.take_not_authentic();
    }
}

fn send(ports: &PortPair, report: &ToSend, tally: &mut Tally) {
    let socket = if report.from_rtp_port { &ports.rtp } else { &ports.rtcp };
    // Nothing hangs on a single report.
    tally.reports_sent += u64::from(socket.send_to(&report.bytes, report.to).is_ok());
}

#[cfg(test)]
fn stream() -> Stream {
    let session = SessionId::at(1, [1; 10]);
    Stream::new(session, 0, Expected::anything(), String::new(), false, 0)
}

#[test]
fn a_packet_that_is_read_late_is_heard_if_it_came_before_the_pause_or_after_it() {
    let mut stream = stream();
    stream.set_paused(100, true);
    stream.set_paused(200, false);
    assert_eq!([99, 100, 199, 200].map(|at| stream.is_paused_at(at)), [false, true, true, false]);
}

#[test]
fn many_pauses_are_not_remembered_for_ever_and_what_is_forgotten_is_not_heard() {
    let mut stream = stream();
    for at in 1..=100 {
        stream.set_paused(at, at % 2 == 1);
    }
    assert_eq!(stream.pauses.len(), PAUSES_REMEMBERED);
    assert!(stream.is_paused_at(5));
    assert!(!stream.is_paused_at(1_000));
}
