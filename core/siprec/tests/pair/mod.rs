//! An SRC and an [`Srs`] on a simulated network and clock.
//!
//! The SRC is as dumb as a test needs it: it writes whole messages and keeps the dialog's
//! tags. The shell is the simplest that works: it gives every usable stream a port. Time
//! moves only in [`Pair::advance`], and everything sent is kept with the time it was sent.

#![allow(dead_code, reason = "each story uses its own part of the harness")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use siprec::sip::message::{Message, StartLine};
use siprec::{
    ConnId, Direction, EndReason, Event, Input, MediaAddress, NegotiatedStream, OfferedStream,
    SessionKey, Srs, SrsConfig, Transmit, Transport,
};

pub const SRS: &str = "192.0.2.50:5060";
pub const SRC: &str = "192.0.2.1:5060";

/// A message from the SRS as the SRC got it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Since the story began.
    pub at: Duration,
    pub message: Message,
    pub text: String,
}

impl Received {
    pub fn status(&self) -> u16 {
        match self.message.start {
            StartLine::Response { status } => status,
            StartLine::Request { .. } => panic!("a request: {}", self.text),
        }
    }

    pub fn header(&self, name: &str) -> String {
        self.message.text(name).map(|text| text.into_owned()).unwrap_or_default()
    }

    pub fn is_request(&self, method: &str) -> bool {
        self.text.starts_with(&format!("{method} "))
    }

    pub fn body(&self) -> String {
        String::from_utf8_lossy(&self.message.body).into_owned()
    }

    pub fn to_tag(&self) -> String {
        let to = self.header("to");
        to.split_once(";tag=").map(|(_, tag)| tag.to_owned()).unwrap_or_default()
    }
}

pub struct Pair {
    pub srs: Srs,
    pub now: Instant,
    start: Instant,
    pub transport: Transport,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    conn: u64,
    pub inbox: VecDeque<Received>,
    pub closed: Vec<ConnId>,
    pub raw_out: Vec<u8>,
    pub events: Vec<Event>,
    /// Whether offers are accepted at once.
    pub answers: bool,
    next_port: u16,
    /// The addresses of the session's m-lines.
    pub media: Vec<Option<MediaAddress>>,
    /// What the network loses on its way to the SRC.
    pub lose: Box<dyn FnMut(&Message) -> bool>,
    pub call: Call,
}

/// What the SRC knows of its dialog.
#[derive(Clone, Debug)]
pub struct Call {
    pub call_id: String,
    pub cseq: u32,
    pub branch: u32,
    pub to_tag: Option<String>,
}

impl Pair {
    pub fn udp() -> Self {
        Self::new(Transport::Udp, SrsConfig::default())
    }

    pub fn tcp() -> Self {
        Self::new(Transport::Tcp, SrsConfig::default())
    }

    #[expect(clippy::disallowed_methods, reason = "the one instant that all others follow from")]
    pub fn new(transport: Transport, config: SrsConfig) -> Self {
        let now = Instant::now();
        let mut pair = Self {
            srs: Srs::new(config, [7; 32]),
            now,
            start: now,
            transport,
            local: SRS.parse().expect("an address"),
            peer: SRC.parse().expect("an address"),
            conn: 0,
            inbox: VecDeque::new(),
            closed: Vec::new(),
            raw_out: Vec::new(),
            events: Vec::new(),
            answers: true,
            next_port: 20_000,
            media: Vec::new(),
            lose: Box::new(|_| false),
            call: Call { call_id: "call-1".to_owned(), cseq: 1, branch: 0, to_tag: None },
        };
        pair.connect();
        pair
    }

    /// Opens a (new) connection; datagrams need none.
    pub fn connect(&mut self) {
        if self.transport != Transport::Udp {
            self.conn += 1;
            let conn = ConnId(self.conn);
            let Self { transport, local, peer, .. } = *self;
            self.srs.handle_input(self.now, Input::Connected { conn, transport, local, peer });
        }
    }

    pub fn disconnect(&mut self) {
        self.srs.handle_input(self.now, Input::Disconnected { conn: ConnId(self.conn) });
        self.drain();
    }

    /// Replaces the SRS by one that knows only what was written down.
    pub fn restart(&mut self) -> SessionKey {
        let key = self.key();
        let state = self.srs.dialog_state(key).expect("a live session");
        self.srs = Srs::new(SrsConfig::default(), [8; 32]);
        let key = self.srs.restore(self.now, state);
        self.connect();
        key
    }

    /// The session of the last event that names one.
    pub fn key(&self) -> SessionKey {
        let key = |event: &Event| match event {
            Event::Offered { key, .. } | Event::Established { key } => Some(*key),
            _ => None,
        };
        self.events.iter().rev().find_map(key).expect("a session")
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        let Self { local, peer, .. } = *self;
        let bytes = text.as_ref();
        let input = match self.transport {
            Transport::Udp => Input::Datagram { local, peer, bytes },
            Transport::Tcp | Transport::Tls => Input::Stream { conn: ConnId(self.conn), bytes },
        };
        self.srs.handle_input(self.now, input);
        self.drain();
    }

    pub fn drain(&mut self) {
        loop {
            while let Some(event) = self.srs.poll_event() {
                let offer = match &event {
                    Event::Offered { key, offer, .. } => {
                        self.media.clear();
                        Some((*key, offer.clone()))
                    }
                    Event::Reoffered { key, offer } => Some((*key, offer.clone())),
                    _ => None,
                };
                self.events.push(event);
                if let Some((key, offer)) = offer.filter(|_| self.answers) {
                    self.accept(key, &offer);
                }
            }
            let Some(transmit) = self.srs.poll_transmit() else { break };
            self.deliver(transmit);
        }
    }

    pub fn accept(&mut self, key: SessionKey, offer: &[OfferedStream]) {
        self.media.resize(offer.len().max(self.media.len()), None);
        for stream in offer {
            let slot = &mut self.media[stream.index];
            if stream.usable && slot.is_none() {
                *slot =
                    Some(MediaAddress { rtp: SocketAddr::new(self.local.ip(), self.next_port) });
                self.next_port += 2;
            }
            if !stream.usable {
                *slot = None;
            }
        }
        self.srs.accept(self.now, key, &self.media.clone());
    }

    fn deliver(&mut self, transmit: Transmit) {
        let bytes = match transmit {
            Transmit::Datagram { peer, bytes, .. } => {
                assert_eq!(peer.ip(), self.peer.ip(), "sent to somebody else");
                bytes
            }
            Transmit::Stream { conn, bytes } => {
                assert_eq!(conn, ConnId(self.conn), "sent on a connection that is gone");
                bytes
            }
            Transmit::Close { conn } => return self.closed.push(conn),
        };
        self.raw_out.extend_from_slice(&bytes);
        let Some(message) = Message::from_datagram(&bytes) else {
            assert_eq!(bytes, b"\r\n", "neither a message nor a pong");
            return;
        };
        assert_eq!(message.body_problem, None);
        if !(self.lose)(&message) {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            self.inbox.push_back(Received { at: self.now - self.start, message, text });
        }
    }

    /// Lets time pass; every deadline on the way is kept to the nanosecond.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.srs.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.srs.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// A request of the SRC's dialog with a new branch and CSeq. `headers` are whole lines.
    pub fn request(&mut self, method: &str, headers: &str, body: &str) -> String {
        self.call.branch += 1;
        if method != "ACK" && method != "CANCEL" {
            self.call.cseq += 1;
        }
        self.request_again(method, headers, body)
    }

    /// The same with the branch and CSeq of the last one: a retransmission, a CANCEL.
    pub fn request_again(&self, method: &str, headers: &str, body: &str) -> String {
        let Call { call_id, cseq, branch, to_tag } = &self.call;
        let transport = match self.transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        };
        let tag = to_tag.as_ref().map(|tag| format!(";tag={tag}")).unwrap_or_default();
        let peer = self.peer;
        format!(
            "{method} sip:srs@{} SIP/2.0\r\nVia: SIP/2.0/{transport} {peer};branch=z9hG4bK-{call_id}-{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:src@{peer}>;tag=src\r\nTo: <sip:srs@{}>{tag}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.local,
            self.local,
            body.len()
        )
    }

    pub fn contact(&self) -> String {
        format!("Contact: <sip:src@{}>;+sip.src\r\n", self.peer)
    }

    /// The INVITE of RFC 7866 §6: two labelled streams and metadata. CSeq starts at 2, as that
    /// of OpenSIPS does.
    pub fn siprec_invite(&mut self) -> String {
        let headers = format!(
            "{}Require: siprec\r\nAllow: INVITE, ACK, BYE, UPDATE\r\n\
             Content-Type: multipart/mixed;boundary=b\r\n",
            self.contact()
        );
        self.request("INVITE", &headers, &multipart(&two_streams("sendonly"), METADATA))
    }

    /// An INVITE with plain SDP.
    pub fn invite(&mut self, extra: &str, sdp: &str) -> String {
        let headers = format!("{}Content-Type: application/sdp\r\n{extra}", self.contact());
        self.request("INVITE", &headers, sdp)
    }

    /// Sends the INVITE, acknowledges the 200, and gives it back.
    pub fn establish(&mut self) -> Received {
        let invite = self.siprec_invite();
        self.send(invite);
        let ok = self.one();
        assert_eq!(ok.status(), 200, "{}", ok.text);
        self.call.to_tag = Some(ok.to_tag());
        self.ack("", "");
        ok
    }

    pub fn ack(&mut self, headers: &str, body: &str) {
        let ack = self.request("ACK", headers, body);
        self.send(ack);
    }

    /// The only message that came since the last look.
    #[track_caller]
    pub fn one(&mut self) -> Received {
        let all = self.all();
        assert_eq!(all.len(), 1, "{all:#?}");
        all.into_iter().next().expect("one")
    }

    /// The messages that came since the last look.
    pub fn all(&mut self) -> Vec<Received> {
        self.inbox.drain(..).collect()
    }

    #[track_caller]
    pub fn status_of(&mut self, request: &str) -> u16 {
        self.send(request);
        self.one().status()
    }

    pub fn ended(&self) -> Option<EndReason> {
        self.events.iter().find_map(|event| match event {
            Event::Ended { reason, .. } => Some(*reason),
            _ => None,
        })
    }

    /// What is recorded now.
    pub fn streams(&self) -> Vec<NegotiatedStream> {
        let streams = |event: &Event| match event {
            Event::Media { streams, .. } => Some(streams.clone()),
            _ => None,
        };
        self.events.iter().rev().find_map(streams).unwrap_or_default()
    }

    pub fn directions(&self) -> Vec<Direction> {
        self.streams().iter().map(|stream| stream.direction).collect()
    }

    /// The names of the events since the last look.
    pub fn event_names(&mut self) -> Vec<&'static str> {
        self.events.drain(..).map(|event| name(&event)).collect()
    }
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Offered { .. } => "offered",
        Event::Reoffered { .. } => "reoffered",
        Event::Media { .. } => "media",
        Event::Metadata { view: Ok(_), .. } => "metadata",
        Event::Metadata { view: Err(_), .. } => "bad metadata",
        Event::Changed { .. } => "changed",
        Event::Established { .. } => "established",
        Event::Info { .. } => "info",
        Event::ProbeUnanswered { .. } => "probe unanswered",
        Event::Ended { .. } => "ended",
    }
}

/// Two streams with labels as rtpengine and CUBE write them, the version never changing.
pub fn two_streams(direction: &str) -> String {
    format!(
        "v=0\r\no=SRC 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
         m=audio 12240 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=label:0\r\n\
         a={direction}\r\nm=audio 22456 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\n\
         a=label:16777227\r\na={direction}\r\n"
    )
}

pub const METADATA: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
    <recording xmlns='urn:ietf:params:xml:ns:recording:1'><datamode>complete</datamode>\
    <session session_id=\"c2Vzc2lvbi0xMjM0NTY3ODk=\"/>\
    <participant participant_id=\"cGFydGljaXBhbnQtYWxpY2U=\">\
    <nameID aor=\"sip:alice@example.com\"/></participant>\
    <stream stream_id=\"c3RyZWFtLTEyMzQ1Njc4OTA=\" session_id=\"c2Vzc2lvbi0xMjM0NTY3ODk=\">\
    <label>0</label></stream>\
    <participantstreamassoc participant_id=\"cGFydGljaXBhbnQtYWxpY2U=\">\
    <send>c3RyZWFtLTEyMzQ1Njc4OTA=</send></participantstreamassoc></recording>";

pub fn multipart(sdp: &str, metadata: &str) -> String {
    format!(
        "--b\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n\
         --b\r\nContent-Type: application/rs-metadata+xml\r\n\
         Content-Disposition: recording-session\r\n\r\n{metadata}\r\n--b--\r\n"
    )
}

/// The m-lines of a description.
pub fn m_lines(sdp: &str) -> Vec<&str> {
    sdp.lines().filter(|line| line.starts_with("m=")).collect()
}

/// How often a line stands in a description.
pub fn count(sdp: &str, line: &str) -> usize {
    sdp.lines().filter(|other| *other == line).count()
}
