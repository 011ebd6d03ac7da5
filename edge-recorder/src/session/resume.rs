//! Goes on with the calls of the process before this one.
//!
//! A restart is not the end of a call: the SRC goes on sending to the same ports and knows
//! nothing of it. The dialog, the ports and the story come from the journal; the data key is new,
//! because the old one was known to the old process only; the time between is marked as a gap.

use std::time::Instant;

use model::recording::flag;
use segment::Sealer;
use siprec::Srs;

use super::call::{Call, SAVED_VERSION, Saved, Story, at_wall};
use super::{Recorder, agreed, terms};
use crate::capture::Order;
use crate::capture::gate::Expected;
use crate::capture::ports::Reopened;
use crate::journal::{AppendError, AppendRecord, LiveSession, Moment, SessionTag};

impl Recorder {
    /// Goes on with `live`. To be called before the first input, while the policy is known.
    pub fn resume(&mut self, now: Instant, srs: &mut Srs, live: Vec<LiveSession>) {
        for session in live {
            let id = session.session;
            match self.resume_one(now, srs, session) {
                Ok(true) => {}
                Ok(false) => tracing::warn!(session = %id, "call ended with the restart"),
                Err(error) => tracing::error!(session = %id, %error, "call not resumed"),
            }
        }
        self.parts.ports.all_are_reopened();
        self.write_ends();
        self.tell_calls();
    }

    /// False when the call cannot go on and was ended.
    fn resume_one(
        &mut self,
        now: Instant,
        srs: &mut Srs,
        live: LiveSession,
    ) -> Result<bool, AppendError> {
        let at = Moment::now();
        let tenant_key =
            self.parts.policy.borrow().as_ref().and_then(|policy| policy.key(&live.tenant));
        let made = tenant_key.and_then(|key| Sealer::new(live.session, &key).ok());
        let Some((sealer, sealed_key)) = made else {
            // Left as it is: the next start may have a key.
            tracing::error!(session = %live.session, "no data key for a call in progress");
            return Ok(true);
        };
        let tag = SessionTag {
            session: live.session,
            recording: live.session.first_recording(),
            tenant: live.tenant.clone(),
        };
        let saved = live.dialog.as_deref().and_then(read_saved);
        let resumable = saved.is_some();
        let (dialog, mut story) = match saved {
            Some(saved) => (Some(saved.dialog), saved.story),
            None => (None, Story::default()),
        };
        story.flags.insert(flag::INTERRUPTED.to_owned());
        let key = dialog.map(|dialog| srs.restore(now, dialog));
        // Without a dialog there is no session in `srs`; the call is only ended.
        let mut call = Call::new(key.unwrap_or(siprec::SessionKey(u64::MAX)), tag, sealer, story);
        call.last_heard = now;
        call.probed_at = now;
        let ago_ns = |wall| i128::from(at.wall().ms_since(wall)) * 1_000_000;
        for (recording, began) in &live.recordings {
            // By the wall clock, because the machine may have been started anew.
            let began = i128::from(at.boot_ns) - ago_ns(began.started_at);
            let began = i64::try_from(began).unwrap_or(i64::MIN);
            call.began_boot_ns.insert(*recording, began);
        }
        if !resumable {
            self.end_all(call, at, "interrupted");
            return Ok(false);
        }

        call.negotiated = srs.streams(call.key).map(<[_]>::to_vec).unwrap_or_default();
        if let Err(error) = self.write_resumption(&mut call, at, &live, sealed_key.to_bytes()) {
            // Nothing could be recorded of it: the SRC is told, so that it goes elsewhere.
            srs.give_up(now, call.key);
            self.end_all(call, at, "interrupted");
            return Err(error);
        }
        call.signaling = srs.peer(call.key).map(|peer| peer.ip());
        let told = self.reopen_ports(&mut call);
        self.journaled(live.session, "the end of a gap", told);
        let key = call.key;
        tracing::info!(
            session = %live.session,
            away_ms = at.wall().ms_since(live.last_wall),
            streams = call.story.streams.len(),
            "call resumed"
        );
        self.keys.insert(live.session, key);
        self.calls.insert(key, call);
        self.apply_pause(key);
        self.save_dialog(srs, key);
        // The SRC may have hung up while nobody listened. Over TCP it cannot be asked before it
        // connects again; if neither that nor audio comes, the call is closed as a silent one.
        srs.probe(now, key);
        Ok(true)
    }

    /// That the call goes on, with which key and streams, and what is missing.
    fn write_resumption(
        &self,
        call: &mut Call,
        at: Moment,
        live: &LiveSession,
        sealed_key: Vec<u8>,
    ) -> Result<(), AppendError> {
        let journal = &self.parts.journal;
        for recording in live.recordings.keys() {
            // Its start was announced by the process before; a second one would move it.
            call.started(journal, at, *recording, true, None)?;
        }
        journal.append(&call.tag, at, AppendRecord::Key { body: sealed_key })?;
        call.gap_begins(journal, at_wall(at, live.last_wall), at)?;
        call.streams(journal, at)?;
        Ok(())
    }

    /// The ports that the SRC sends to. Where they were open all the time, the gap lasts until the
    /// first packet that waits in them; else until now.
    fn reopen_ports(&mut self, call: &mut Call) -> Result<(), AppendError> {
        let session = call.session();
        let terms = terms(&self.settings, &self.parts.journal, call);
        let negotiated = &call.negotiated;
        let paused = call.paused_streams();
        let ports = &mut self.parts.ports;
        let capture = &mut self.parts.capture;
        let mut were_open = !call.story.streams.is_empty();
        call.story.streams.retain(|index, stream| {
            let known = negotiated.iter().find(|known| known.index == usize::from(*index));
            match ports.reopen(stream.port) {
                Ok(Reopened { pair, was_open }) => {
                    were_open &= was_open;
                    let expected =
                        known.map(|known| agreed::by_answer(known, Some(stream), &terms));
                    let expected = Box::new(expected.unwrap_or_else(Expected::anything));
                    capture.order(Order::Open {
                        session,
                        stream: *index,
                        ports: pair,
                        expected,
                        cname: agreed::cname(session),
                        paused: paused.contains(index),
                    });
                    true
                }
                Err(error) => {
                    tracing::error!(%session, error = %error, "a stream of a resumed call is lost");
                    were_open = false;
                    false
                }
            }
        });
        if were_open {
            return Ok(());
        }
        call.gap_ends(&self.parts.journal, None)
    }
}

fn read_saved(plain: &[u8]) -> Option<Saved> {
    match parse_saved(plain) {
        Ok(saved) => Some(saved),
        Err(error) => {
            tracing::error!(%error, "a saved dialog cannot be read");
            None
        }
    }
}

/// Why a saved dialog cannot be read, without anything that stands in it: names and numbers of
/// people do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unreadable {
    #[error("its version is {found}, and this recorder reads {SAVED_VERSION}")]
    Version { found: u64 },
    #[error("{category:?} error in line {line}, column {column}")]
    Json { category: serde_json::error::Category, line: usize, column: usize },
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        // The error's own text quotes the values that it does not like.
        Self::Json { category: error.classify(), line: error.line(), column: error.column() }
    }
}

fn parse_saved(plain: &[u8]) -> Result<Saved, Unreadable> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u64,
    }
    let Versioned { version } = serde_json::from_slice(plain)?;
    if version != u64::from(SAVED_VERSION) {
        return Err(Unreadable::Version { found: version });
    }
    Ok(serde_json::from_slice(plain)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(plain: &str) -> String {
        parse_saved(plain.as_bytes()).err().expect("unreadable").to_string()
    }

    #[test]
    fn a_dialog_of_another_version_is_known_by_its_version_alone() {
        let text = complaint("{\"version\":7,\"who\":\"sip:ana@example.com\"}");
        assert!(text.contains("version is 7"), "{text}");
    }

    #[test]
    fn what_is_wrong_with_a_saved_dialog_is_told_without_quoting_it() {
        for plain in [
            "{\"version\":1,\"dialog\":\"sip:ana@example.com\"}",
            "{\"version\":\"sip:ana@example.com\"}",
            "{\"version\":1,\"sip:ana@example.com",
        ] {
            let quoted = serde_json::from_str::<Saved>(plain).err().expect("unreadable");
            let text = complaint(plain);
            assert!(!text.contains("ana"), "{text}");
            assert!(text.contains(&format!("line {}", quoted.line())), "{text}");
        }
    }
}
