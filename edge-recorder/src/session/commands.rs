//! Pause, resume and stop, by command.

use std::collections::BTreeSet;
use std::time::Instant;

use model::RecordingId;
use model::command::CommandBody;
use model::recording::MarkKind;
use segment::SealedMark;
use siprec::{SessionKey, Srs};

use super::{Control, Recorder};
use crate::capture::Order;
use crate::journal::Moment;

impl Recorder {
    pub fn control(&mut self, now: Instant, srs: &mut Srs, control: Control) {
        let Control::Command { body, answer } = control;
        let outcome = match body {
            CommandBody::Pause { recording } => self.pause(srs, recording, true),
            CommandBody::Resume { recording } => self.pause(srs, recording, false),
            CommandBody::Stop { recording } => self.stop(now, srs, recording),
            CommandBody::Drain | CommandBody::PolicyChanged => {
                Err("not a command about a recording".to_owned())
            }
        };
        // Whoever asked may have stopped waiting.
        let _ = answer.send(outcome);
    }

    fn find(&self, recording: RecordingId) -> Result<SessionKey, String> {
        self.calls
            .iter()
            .find(|(_, call)| call.recordings().contains(&recording))
            .map(|(key, _)| *key)
            .ok_or_else(|| format!("recording {recording} is not in progress here"))
    }

    fn pause(&mut self, srs: &Srs, recording: RecordingId, pause: bool) -> Result<(), String> {
        let key = self.find(recording)?;
        let Some(call) = self.calls.get_mut(&key) else { return Ok(()) };
        let changed = if pause {
            call.story.paused.insert(recording)
        } else {
            call.story.paused.remove(&recording)
        };
        if !changed {
            return Ok(());
        }
        let session = call.session();
        tracing::info!(%session, %recording, pause, "pause by command");
        let mark = SealedMark { kind: MarkKind::Pause, label: None, begins: pause, detail: None };
        let written = call.mark(&self.parts.journal, Moment::now(), recording, mark);
        self.apply_pause(key);
        self.journaled(session, "pause", written.map(|_| ()));
        // A restart must not make audible what was paused.
        self.save_dialog(srs, key);
        Ok(())
    }

    /// Tells capture which streams to leave out. Also after streams were added, or told to belong
    /// to another recording.
    pub(super) fn apply_pause(&mut self, key: SessionKey) {
        let Some(call) = self.calls.get(&key) else { return };
        let session = call.session();
        let paused = call.paused_streams();
        let open: BTreeSet<u16> = call.story.streams.keys().copied().collect();
        let going_on: Vec<u16> = open.difference(&paused).copied().collect();
        let paused: Vec<u16> = paused.into_iter().collect();
        self.parts.capture.order(Order::Pause { session, streams: paused });
        self.parts.capture.order(Order::Resume { session, streams: going_on });
    }

    fn stop(&mut self, now: Instant, srs: &mut Srs, recording: RecordingId) -> Result<(), String> {
        let key = self.find(recording)?;
        let Some(call) = self.calls.get_mut(&key) else { return Ok(()) };
        if recording == call.session().first_recording() {
            srs.hang_up(now, key);
        } else {
            let end = call.end_record(Moment::now(), recording, "stopped", false);
            call.story.communications.end(recording);
            call.story.paused.remove(&recording);
            self.unwritten.push_back(end);
            self.write_ends();
            self.apply_pause(key);
            self.save_dialog(srs, key);
        }
        Ok(())
    }
}
