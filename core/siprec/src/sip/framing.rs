//! Cuts a TCP or TLS stream into messages (RFC 3261 §18.3) and survives what is between them.
//!
//! # Promises
//!
//! - The chunks in which bytes arrive make no difference.
//! - Bytes that are no message are skipped up to the next line that starts one; messages
//!   before and after them are read.
//! - A head or body larger than its limit is never buffered.
//! - A double CRLF is a ping and is reported, so that it can be answered (RFC 5626 §3.5.1).

use super::message::{BodyProblem, ContentLength, Message, StartLine, head_end};

/// A head above this is not SIP; the largest real ones are a few kB.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// A body above the limit, but below this, is skipped so that the connection stays usable.
const MAX_SKIPPED_BYTES: usize = 16 * 1024 * 1024;

/// What was found in the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole message, or the head of one whose body could not be had: see
    /// [`Message::body_problem`].
    Message(Message),
    /// The peer wants a CRLF.
    Ping,
    /// The stream makes no sense any more; close it.
    Lost,
}

/// Where the next byte belongs.
#[derive(Debug)]
enum State {
    /// Between messages, or in a head.
    Head,
    /// A head is read, this many bytes of body are to come.
    Body {
        message: Message,
        length: usize,
    },
    /// In a body that is too large to keep.
    Skip {
        remaining: usize,
    },
    /// Looking for a line that starts a message.
    Resync,
    Lost,
}

/// The reader of one connection.
#[derive(Debug)]
pub struct Framer {
    buffer: Vec<u8>,
    /// `buffer` up to here is consumed.
    start: usize,
    /// `buffer` up to here was searched for the end of the head.
    searched: usize,
    /// Line ends seen since the last message, as far as a ping needs them.
    line_ends: u8,
    state: State,
    /// Since the last message bytes were skipped that are none.
    after_garbage: bool,
    max_message_bytes: usize,
}

impl Framer {
    pub fn new(max_message_bytes: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            line_ends: 0,
            state: State::Head,
            after_garbage: false,
            max_message_bytes,
        }
    }

    /// Takes bytes as they come. Call [`Self::next_frame`] until it has no more.
    pub fn push(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Lost) {
            return;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start.min(self.searched);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a message has begun and not ended.
    pub fn is_partial(&self) -> bool {
        match self.state {
            State::Head | State::Resync => self.start < self.buffer.len(),
            State::Body { .. } | State::Skip { .. } => true,
            State::Lost => false,
        }
    }

    /// Gives up waiting for the rest of a message.
    ///
    /// Its `Content-Length` was probably too large, so that what follows was taken for its
    /// body: the head is reported as truncated and the rest is searched for messages.
    pub fn give_up(&mut self) -> Frame {
        match std::mem::replace(&mut self.state, State::Resync) {
            State::Body { mut message, .. } => {
                message.body_problem = Some(BodyProblem::Truncated);
                Frame::Message(message)
            }
            _ => {
                self.state = State::Lost;
                self.buffer = Vec::new();
                self.start = 0;
                Frame::Lost
            }
        }
    }

    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            match &mut self.state {
                State::Lost => return None,
                State::Skip { remaining } => {
                    let skipped = (*remaining).min(self.buffer.len() - self.start);
                    *remaining -= skipped;
                    self.start += skipped;
                    if *remaining > 0 {
                        return None;
                    }
                    self.begin_head(State::Head);
                }
                State::Body { length, .. } => {
                    let length = *length;
                    if self.buffer.len() - self.start < length {
                        return None;
                    }
                    return Some(self.finish_body(length));
                }
                State::Resync => match self.find_start_line() {
                    true => self.begin_head(State::Head),
                    false => return self.lost_if_endless(),
                },
                State::Head => {
                    if self.skip_line_ends() {
                        return Some(Frame::Ping);
                    }
                    match head_end(&self.buffer, self.searched.max(self.start)) {
                        Some(end) => {
                            if let Some(frame) = self.finish_head(end) {
                                return Some(frame);
                            }
                        }
                        None => {
                            // The empty line may be cut in two: step back over its first half.
                            self.searched = self.buffer.len().saturating_sub(3).max(self.start);
                            return self.lost_if_endless();
                        }
                    }
                }
            }
        }
    }

    fn begin_head(&mut self, state: State) {
        self.state = state;
        self.searched = self.start;
        self.line_ends = 0;
    }

    fn lost_if_endless(&mut self) -> Option<Frame> {
        if self.buffer.len() - self.start <= MAX_HEAD_BYTES {
            return None;
        }
        self.state = State::Lost;
        self.buffer = Vec::new();
        self.start = 0;
        Some(Frame::Lost)
    }

    /// Consumes line ends before a message; true for every second one.
    fn skip_line_ends(&mut self) -> bool {
        while let Some(byte) = self.buffer.get(self.start) {
            match byte {
                b'\r' => self.start += 1,
                b'\n' => {
                    self.start += 1;
                    self.line_ends += 1;
                    if self.line_ends == 2 {
                        self.line_ends = 0;
                        return true;
                    }
                }
                _ => {
                    self.line_ends = 0;
                    return false;
                }
            }
        }
        false
    }

    /// The head is `buffer[start..end]`. `None` when there is no message in it, or its body
    /// is still to come.
    fn finish_head(&mut self, end: usize) -> Option<Frame> {
        if self.after_garbage {
            self.start += start_line_within(&self.buffer[self.start..end]).unwrap_or(0);
        }
        let Some(mut message) = Message::from_head(&self.buffer[self.start..end]) else {
            // Whatever this block is, a message may begin in the middle of it.
            self.state = State::Resync;
            self.after_garbage = true;
            return None;
        };
        self.start = end;
        self.after_garbage = false;
        match message.content_length() {
            ContentLength::Bytes(0) => {}
            ContentLength::Bytes(length) if length <= self.max_message_bytes => {
                self.state = State::Body { message, length };
                return None;
            }
            ContentLength::Bytes(length) if length <= MAX_SKIPPED_BYTES => {
                message.body_problem = Some(BodyProblem::TooLarge);
                self.state = State::Skip { remaining: length };
                return Some(Frame::Message(message));
            }
            ContentLength::Bytes(_) | ContentLength::Bad => {
                message.body_problem = Some(BodyProblem::BadLength);
                self.state = State::Resync;
                self.after_garbage = true;
                return Some(Frame::Message(message));
            }
            // Nothing but its own type tells that there is a body.
            ContentLength::Absent if message.header("content-type").is_some() => {
                message.body_problem = Some(BodyProblem::MissingLength);
                self.state = State::Resync;
                self.after_garbage = true;
                return Some(Frame::Message(message));
            }
            ContentLength::Absent => {}
        }
        self.begin_head(State::Head);
        Some(Frame::Message(message))
    }

    fn finish_body(&mut self, length: usize) -> Frame {
        let body = self.buffer[self.start..self.start + length].to_vec();
        self.start += length;
        let state = std::mem::replace(&mut self.state, State::Head);
        self.begin_head(State::Head);
        match state {
            State::Body { mut message, .. } => {
                message.body = body;
                Frame::Message(message)
            }
            _ => unreachable!("called in State::Body only"),
        }
    }

    /// Moves `start` to the next line that starts a message, or is empty, so that one may
    /// follow. Without such a line, to the last one, which may be incomplete.
    fn find_start_line(&mut self) -> bool {
        loop {
            let rest = &self.buffer[self.start..];
            let Some(end) = rest.iter().position(|b| *b == b'\n') else { return false };
            if matches!(&rest[..end], [] | b"\r") {
                return true;
            }
            if let Some(offset) = start_line_within(&rest[..=end]) {
                self.start += offset;
                return true;
            }
            self.start += end + 1;
        }
    }
}

/// The methods of requests that may follow what could not be read.
const METHODS: [&[u8]; 14] = [
    b"INVITE",
    b"ACK",
    b"BYE",
    b"CANCEL",
    b"OPTIONS",
    b"UPDATE",
    b"INFO",
    b"PRACK",
    b"MESSAGE",
    b"NOTIFY",
    b"REFER",
    b"SUBSCRIBE",
    b"PUBLISH",
    b"REGISTER",
];

/// Where in its first line `bytes` begins a message.
///
/// A body whose length was not told runs into the next message without a line end between them,
/// and `v=0OPTIONS` reads as a method of its own: so a known method wins over the whole line.
fn start_line_within(bytes: &[u8]) -> Option<usize> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let known = (0..line.len()).find(|at| {
        let rest = &line[*at..];
        METHODS
            .iter()
            .any(|method| rest.strip_prefix(*method).is_some_and(|rest| rest.starts_with(b" ")))
            && StartLine::read(rest).is_some()
    });
    known.or_else(|| StartLine::read(line).map(|_| 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "INFO sip:x SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 4\r\n\r\nbody";
    const BYE: &str = "BYE sip:x SIP/2.0\r\nCall-ID: 2\r\nContent-Length: 0\r\n\r\n";

    /// What the frames are, in words.
    fn frames(framer: &mut Framer) -> Vec<String> {
        std::iter::from_fn(|| framer.next_frame())
            .map(|frame| match frame {
                Frame::Message(message) => {
                    let StartLine::Request { method, .. } = &message.start else {
                        return "response".to_owned();
                    };
                    match message.body_problem {
                        None => format!("{method}/{}", message.body.len()),
                        Some(problem) => format!("{method} {problem:?}"),
                    }
                }
                Frame::Ping => "ping".to_owned(),
                Frame::Lost => "lost".to_owned(),
            })
            .collect()
    }

    fn all_at_once(text: &str) -> Vec<String> {
        let mut framer = Framer::new(1000);
        framer.push(text.as_bytes());
        frames(&mut framer)
    }

    fn byte_by_byte(text: &str) -> Vec<String> {
        let mut framer = Framer::new(1000);
        text.bytes()
            .flat_map(|byte| {
                framer.push(&[byte]);
                frames(&mut framer)
            })
            .collect()
    }

    #[test]
    fn chunks_make_no_difference() {
        for (text, expected) in [
            (format!("{INFO}{BYE}{INFO}"), vec!["INFO/4", "BYE/0", "INFO/4"]),
            (format!("\r\n{BYE}\r\n\r\n{BYE}"), vec!["BYE/0", "ping", "BYE/0"]),
            ("\r\n\r\n\r\n\r\n".to_owned(), vec!["ping", "ping"]),
            (BYE.replace('\r', ""), vec!["BYE/0"]),
            (format!("garbage\r\n\r\n{BYE}"), vec!["BYE/0"]),
            (format!("%&/()\r\nmore: of it\r\n{BYE}\0\0\r\n\r\n{INFO}"), vec!["BYE/0", "INFO/4"]),
            ("SIP/2.0 200 OK\r\nl: 0\r\n\r\n".to_owned(), vec!["response"]),
        ] {
            assert_eq!(all_at_once(&text), expected, "{text:?}");
            assert_eq!(byte_by_byte(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_bad_length_costs_one_message() {
        for bad in ["-1", "abc", "4\r\nContent-Length: 5", "99999999999999999999", "999999999"] {
            let broken = INFO.replace("Length: 4", &format!("Length: {bad}"));
            let text = format!("{broken}\r\n{BYE}");
            assert_eq!(all_at_once(&text), ["INFO BadLength", "BYE/0"], "{bad}");
            assert_eq!(byte_by_byte(&text), ["INFO BadLength", "BYE/0"], "{bad}");
        }
    }

    #[test]
    fn a_body_without_a_length_costs_one_message() {
        let text = format!("INFO sip:x SIP/2.0\r\nc: application/sdp\r\n\r\nv=0\r\n{BYE}");
        assert_eq!(all_at_once(&text), ["INFO MissingLength", "BYE/0"]);
    }

    #[test]
    fn what_is_glued_to_garbage_is_read() {
        let text = format!("INVITE \r\nVia x\r\nContent-Length: 4\r\n\r\nbody{BYE}{INFO}");
        assert_eq!(all_at_once(&text), ["BYE/0", "INFO/4"]);
        assert_eq!(byte_by_byte(&text), ["BYE/0", "INFO/4"]);
        let text = format!("{}\r\nv=0\r\na=label:1{BYE}", INFO.replace("Length: 4", "Length: x"));
        assert_eq!(all_at_once(&text), ["INFO BadLength", "BYE/0"]);
        // Without garbage before it, an unknown method is what it says.
        let text = format!("body{BYE}");
        assert_eq!(all_at_once(&text), ["bodyBYE/0"]);
    }

    #[test]
    fn a_body_above_the_limit_is_skipped() {
        let large = INFO.replace("Length: 4", "Length: 5000").replace("body", &"x".repeat(5000));
        let text = format!("{large}{BYE}");
        assert_eq!(all_at_once(&text), ["INFO TooLarge", "BYE/0"]);
        assert_eq!(byte_by_byte(&text), ["INFO TooLarge", "BYE/0"]);
    }

    #[test]
    fn a_length_that_swallows_the_next_message_is_undone_when_it_never_fills() {
        let mut framer = Framer::new(1000);
        framer.push(format!("{}\r\n{BYE}", INFO.replace("Length: 4", "Length: 400")).as_bytes());
        assert_eq!(frames(&mut framer), [""; 0]);
        assert!(framer.is_partial());
        let Frame::Message(message) = framer.give_up() else { panic!("a message") };
        assert_eq!(message.body_problem, Some(BodyProblem::Truncated));
        assert_eq!(frames(&mut framer), ["BYE/0"]);
        assert!(!framer.is_partial());
    }

    #[test]
    fn an_endless_head_is_lost_without_being_kept() {
        let mut framer = Framer::new(1000);
        framer.push(b"INFO sip:x SIP/2.0\r\n");
        let mut seen = Vec::new();
        for _ in 0..100 {
            framer.push(&[b'a'; 1000]);
            seen.extend(frames(&mut framer));
        }
        assert_eq!(seen, ["lost"]);
        assert!(framer.buffer.is_empty());
    }
}
