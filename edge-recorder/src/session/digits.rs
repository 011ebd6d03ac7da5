//! Digits that an SRC tells by INFO, in the two bodies that are in use: `application/dtmf-relay`
//! with a line `Signal=5`, and `application/dtmf` with the digit alone.

use model::recording::MarkKind;
use segment::SealedMark;
use siprec::SessionKey;

use super::Recorder;
use crate::journal::Moment;

impl Recorder {
    /// Marks a digit on the recordings of the call that are not paused: a card number that is
    /// typed must be kept out as one that is spoken.
    pub(super) fn told_by_info(&mut self, key: SessionKey, content_type: &str, body: &[u8]) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let session = call.session();
        let Some(digit) = digit(content_type, body) else {
            tracing::debug!(%session, content_type, bytes = body.len(), "INFO not used");
            return;
        };
        let at = Moment::now();
        let mut written = Ok(());
        for recording in call.recordings() {
            if call.story.paused.contains(&recording) {
                continue;
            }
            let detail = Some(digit.to_string());
            let mark = SealedMark { kind: MarkKind::Dtmf, label: None, begins: true, detail };
            written = written.and(call.mark(&self.parts.journal, at, recording, mark).map(|_| ()));
        }
        self.journaled(session, "digit", written);
    }
}

fn digit(content_type: &str, body: &[u8]) -> Option<char> {
    let body = std::str::from_utf8(body).ok()?;
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let signal = if essence.eq_ignore_ascii_case("application/dtmf-relay") {
        body.lines()
            .filter_map(|line| line.split_once(['=', ':']))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("signal"))
            .map(|(_, value)| value)?
    } else if essence.eq_ignore_ascii_case("application/dtmf") {
        body
    } else {
        return None;
    };
    match signal.trim() {
        // Some write the event's number (RFC 4733 §3.2, table 3).
        "10" => Some('*'),
        "11" => Some('#'),
        signal => {
            let mut chars = signal.chars();
            let digit = chars.next()?.to_ascii_uppercase();
            let is_one = chars.next().is_none() && "0123456789*#ABCD".contains(digit);
            is_one.then_some(digit)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_is_read_from_either_body() {
        let relay = "application/dtmf-relay";
        assert_eq!(digit(relay, b"Signal=5\r\nDuration=160\r\n"), Some('5'));
        assert_eq!(digit(relay, b"Duration = 160\nsignal : *"), Some('*'));
        assert_eq!(digit(relay, b"Signal=11"), Some('#'));
        assert_eq!(digit("Application/DTMF-Relay; charset=utf-8", b"Signal= d\r\n"), Some('D'));
        assert_eq!(digit("application/dtmf", b" 7\r\n"), Some('7'));
    }

    #[test]
    fn what_is_no_digit_is_none() {
        let relay = "application/dtmf-relay";
        let bodies: [&[u8]; 6] =
            [b"", b"5", b"Signal=", b"Signal=55", b"Signal=!", b"Signal=\xff\xfe"];
        for body in bodies {
            assert_eq!(digit(relay, body), None, "{body:?}");
        }
        assert_eq!(digit("text/plain", b"5"), None);
        assert_eq!(digit("", b"5"), None);
    }
}
