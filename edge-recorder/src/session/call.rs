//! One recording session in progress: what it records, and how it writes that into the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use model::numbering::NumberingPlan;
use model::recording::MarkKind;
use model::trunk::Network;
use model::{EventBody, Position, RecordingId, SessionId, WallTime};
use segment::{
    Body, Direction, EndedBody, Format, PacketBatch, SealedMark, Sealer, SessionRecord,
    StartedBody, StreamInfo,
};
use serde::{Deserialize, Serialize};
use siprec::{NegotiatedStream, SessionKey, Snapshot};

use super::assurance::Assurance;
use super::facts::Communications;
use super::refused::Refused;
use crate::journal::{
    AppendError, AppendRecord, JournalHandle, Moment, SealedKind, SessionTag, boot_id,
};

/// Packets of one record. A commit of an ordinary call has 2 kB; a flood must not make one record
/// that is larger than a journal takes.
const MAX_RECORD_BYTES: usize = 1 << 20;

/// What is said of a gap that a restart has left.
const RESTARTED: &str = "recorder restarted";

/// A recorder that is back has read the sockets of its calls within this time.
const WAITS_FOR_AUDIO: Duration = Duration::from_secs(1);

/// What has to survive a restart, beside the SIP dialog. Journaled sealed under the local key.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Story {
    /// By index of the m-line.
    pub streams: BTreeMap<u16, StreamPorts>,
    pub communications: Communications,
    pub snapshot: Snapshot,
    pub metadata_seen: bool,
    /// What was odd so far; told again with the end.
    pub flags: BTreeSet<String>,
    /// Headers of the INVITE by which the call can be found.
    pub headers: Vec<(String, String)>,
    pub paused: BTreeSet<RecordingId>,
    /// m-lines that are on hold.
    pub held: BTreeSet<u16>,
    /// Where it comes from.
    #[serde(default)]
    pub trunk: Option<String>,
    /// Of that trunk, when the call began.
    #[serde(default)]
    pub numbering: Option<NumberingPlan>,
    /// Where that trunk's audio may come from. Empty: from anywhere.
    #[serde(default)]
    pub media_sources: Vec<Network>,
}

/// Where a stream is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamPorts {
    /// The even port.
    pub port: u16,
    /// What our SDP answer names.
    pub advertised: SocketAddr,
    /// Of an encrypted stream: its source, and how often its numbers have begun anew.
    #[serde(default)]
    pub rollover: Option<(u32, u32)>,
}

/// A snapshot that the journal keeps for the next start.
#[derive(Serialize, Deserialize)]
pub struct Saved {
    pub version: u8,
    pub dialog: siprec::DialogState,
    pub story: Story,
}

pub const SAVED_VERSION: u8 = 1;

pub struct Call {
    pub key: SessionKey,
    pub tag: SessionTag,
    pub story: Story,
    pub negotiated: Vec<NegotiatedStream>,
    /// Who signals.
    pub signaling: Option<IpAddr>,
    /// What a restart needs has changed, and not with the dialog.
    pub unsaved: bool,
    /// When each recording that has not ended began, on the boot clock of this boot; before it,
    /// when the machine was started anew during the call.
    pub began_boot_ns: BTreeMap<RecordingId, i64>,
    pub last_heard: Instant,
    /// When the SRC was last asked whether the call still exists.
    pub probed_at: Instant,
    refused: Refused,
    assurance: Assurance,
    /// The call was interrupted, and what came meanwhile may be in its sockets: when we were back.
    gap_until: Option<Moment>,
    sealer: Sealer,
}

impl Call {
    pub fn new(key: SessionKey, tag: SessionTag, sealer: Sealer, story: Story) -> Self {
        Self {
            key,
            tag,
            story,
            negotiated: Vec::new(),
            signaling: None,
            unsaved: false,
            began_boot_ns: BTreeMap::new(),
            last_heard: Instant::now(),
            probed_at: Instant::now(),
            refused: Refused::default(),
            assurance: Assurance::default(),
            gap_until: None,
            sealer,
        }
    }

    pub fn session(&self) -> SessionId {
        self.tag.session
    }

    pub fn tag_of(&self, recording: RecordingId) -> SessionTag {
        SessionTag { recording, ..self.tag.clone() }
    }

    /// Recordings of this session that have not ended.
    pub fn recordings(&self) -> Vec<RecordingId> {
        let first = self.tag.session.first_recording();
        std::iter::once(first).chain(self.story.communications.further()).collect()
    }

    /// Recordings whose end is to be written: also those that the journal has and the story does
    /// not, because a crash came between the two.
    pub fn unended(&self) -> BTreeSet<RecordingId> {
        self.recordings().into_iter().chain(self.began_boot_ns.keys().copied()).collect()
    }

    /// Whether silence means that something is wrong: neither hold nor a pause explains it.
    pub fn expects_audio(&self) -> bool {
        let on_hold = self.story.held.len() >= self.story.streams.len();
        !on_hold && self.story.paused.is_empty()
    }

    /// A recording begins, or goes on in this process. Told to the cloud when `event` is.
    pub fn started(
        &mut self,
        journal: &JournalHandle,
        at: Moment,
        recording: RecordingId,
        resumed: bool,
        event: Option<EventBody>,
    ) -> Result<Position, AppendError> {
        let body = StartedBody {
            recording,
            session: self.tag.session,
            tenant: self.tag.tenant.clone(),
            wall_ms: at.wall().unix_ms(),
            boot_ns: at.boot_ns,
            boot_id: boot_id(),
            epoch: journal.epoch(),
            resumed,
        };
        let body = SessionRecord::started(Position(0), &body).bytes;
        let record = AppendRecord::Started { body, event };
        let position = journal.append(&self.tag_of(recording), at, record)?;
        let began = i64::try_from(at.boot_ns).unwrap_or(i64::MAX);
        self.began_boot_ns.entry(recording).or_insert(began);
        Ok(position)
    }

    /// The end of one recording, as a record that can be written later if the journal is full.
    pub fn end_record(
        &mut self,
        at: Moment,
        recording: RecordingId,
        reason: &str,
        session_over: bool,
    ) -> (SessionTag, Moment, AppendRecord) {
        let body = EndedBody {
            recording,
            wall_ms: at.wall().unix_ms(),
            boot_ns: at.boot_ns,
            reason: reason.to_owned(),
        };
        let event = EventBody::Ended {
            tenant: self.tag.tenant.clone(),
            recording,
            reason: reason.to_owned(),
            duration_ms: self.duration_ms(recording, at),
            flags: self.story.flags.clone(),
        };
        self.began_boot_ns.remove(&recording);
        let record = AppendRecord::Ended {
            body: SessionRecord::ended(Position(0), &body).bytes,
            event: Some(event),
            session_over,
        };
        (self.tag_of(recording), at, record)
    }

    fn duration_ms(&self, recording: RecordingId, at: Moment) -> u64 {
        let now = i64::try_from(at.boot_ns).unwrap_or(i64::MAX);
        let began = self.began_boot_ns.get(&recording).copied().unwrap_or(now);
        u64::try_from(now.saturating_sub(began) / 1_000_000).unwrap_or(0)
    }

    /// Packets as they came. Returns how many could not be journaled, and why; when the journal
    /// takes packets again, what is missing becomes a gap on the time line.
    pub fn packets(
        &mut self,
        journal: &JournalHandle,
        now: Moment,
        mut packets: PacketBatch,
    ) -> Result<(), (usize, AppendError)> {
        packets.sort_by_arrival();
        packets.iter().for_each(|packet| self.assurance.packet(&packet));
        self.last_heard = Instant::now();
        if self.gap_until.is_some() {
            let first = packets.arrivals_boot_ns(0..packets.len()).map(|(first, _)| first);
            // The journal is full, then, and this is tried again with the next packets.
            let _ = self.gap_ends(journal, first.map(|first| at_boot_ns(now, first)));
        }
        let mut refused: Option<(usize, AppendError)> = None;
        let mut from = 0;
        while from < packets.len() {
            let range = from..from + packets.fitting(from, MAX_RECORD_BYTES);
            from = range.end;
            let arrived =
                packets.arrivals_boot_ns(range.clone()).unwrap_or((now.boot_ns, now.boot_ns));
            let (count, sealer) = (range.len(), &mut self.sealer);
            let appended =
                journal.append_packets(&self.tag, at_boot_ns(now, arrived.1), |position, out| {
                    sealer.seal_packets(position, &packets, range, out);
                });
            if let Err(error) = appended {
                self.refused.add(count, arrived.0, arrived.1);
                let before = refused.map_or(0, |(count, _)| count);
                refused = Some((before + count, error));
            }
        }
        if refused.is_none() {
            // Its own refusal is no loss: it is tried again with the next packets.
            let _ = self.tell_refused(journal, now);
        }
        refused.map_or(Ok(()), Err)
    }

    /// Tells what is odd about the sound of this call if that has changed, after `time` has passed.
    pub fn listen(&mut self, journal: &JournalHandle, at: Moment, time: Duration) {
        self.assurance.passed(time, !self.story.paused.is_empty());
        let Some(flags) = self.assurance.changed().cloned() else { return };
        tracing::info!(session = %self.session(), ?flags, "how the call sounds");
        for recording in self.recordings() {
            let tenant = self.tag.tenant.clone();
            let event = EventBody::Heard { tenant, recording, flags: flags.clone() };
            if let Err(error) = journal.append_event(at.wall(), event) {
                // No loss: the recording tells when it is built.
                tracing::debug!(%recording, %error, "not told how the call sounds");
            }
        }
    }

    /// The recorder was away from `from` on and is back at `until`; what it has missed is not known
    /// before [`Self::gap_ends`].
    pub fn gap_begins(
        &mut self,
        journal: &JournalHandle,
        from: Moment,
        until: Moment,
    ) -> Result<(), AppendError> {
        self.mark_gap(journal, from, true, RESTARTED)?;
        self.gap_until = Some(until);
        Ok(())
    }

    /// The gap of a restart, if there is one, has lasted until the first packet that is `heard`, or
    /// until the recorder was back.
    pub fn gap_ends(
        &mut self,
        journal: &JournalHandle,
        heard: Option<Moment>,
    ) -> Result<(), AppendError> {
        let Some(back) = self.gap_until else { return Ok(()) };
        let at = heard.filter(|heard| heard.boot_ns < back.boot_ns).unwrap_or(back);
        self.mark_gap(journal, at, false, RESTARTED)?;
        self.gap_until = None;
        Ok(())
    }

    /// Nothing has been heard for so long that there was nothing in the sockets.
    pub fn has_waited_for_audio(&self, now: Moment) -> bool {
        self.gap_until.is_some_and(|back| {
            now.boot_ns.saturating_sub(back.boot_ns) > WAITS_FOR_AUDIO.as_nanos() as u64
        })
    }

    /// One end of a gap, in every recording of this session.
    fn mark_gap(
        &mut self,
        journal: &JournalHandle,
        at: Moment,
        begins: bool,
        detail: &str,
    ) -> Result<(), AppendError> {
        for recording in self.unended() {
            let mark = SealedMark {
                kind: MarkKind::Gap,
                label: None,
                begins,
                detail: Some(detail.to_owned()),
            };
            self.mark(journal, at, recording, mark)?;
        }
        Ok(())
    }

    /// Marks what the journal had no room for, as a gap in each recording.
    pub fn tell_refused(
        &mut self,
        journal: &JournalHandle,
        now: Moment,
    ) -> Result<(), AppendError> {
        let refused = self.refused;
        if refused.packets == 0 {
            return Ok(());
        }
        for (boot_ns, begins) in [(refused.from_boot_ns, true), (refused.to_boot_ns, false)] {
            self.mark_gap(journal, at_boot_ns(now, boot_ns), begins, &refused.detail())?;
        }
        self.refused = Refused::default();
        let session = self.session();
        tracing::error!(%session, packets = refused.packets, "audio was lost, the gap is marked");
        Ok(())
    }

    /// What was negotiated, effective from now.
    pub fn streams(
        &mut self,
        journal: &JournalHandle,
        at: Moment,
    ) -> Result<Position, AppendError> {
        self.assurance.negotiated(&self.negotiated);
        let body = Body::Streams(self.negotiated.iter().map(stream_info).collect());
        self.seal(journal, at, SealedKind::Streams, None, &body)
    }

    /// A metadata document for one recording.
    pub fn metadata(
        &mut self,
        journal: &JournalHandle,
        at: Moment,
        recording: RecordingId,
        document: segment::Document,
    ) -> Result<Position, AppendError> {
        let story = &self.story;
        let facts = story.communications.facts(
            self.tag.session,
            recording,
            &story.snapshot,
            &story.headers,
            story.numbering.as_ref(),
        );
        let text = std::str::from_utf8(&document.bytes).ok();
        let event = EventBody::Metadata {
            tenant: self.tag.tenant.clone(),
            recording,
            facts,
            flags: story.flags.clone(),
            document: text
                .filter(|text| text.len() <= model::event::MAX_DOCUMENT_BYTES)
                .map(str::to_owned),
        };
        let tag = self.tag_of(recording);
        let body = Body::Metadata(document);
        let sealer = &mut self.sealer;
        journal.append_sealed(&tag, at, SealedKind::Metadata, Some(event), |position| {
            sealer.seal(position, &body)
        })
    }

    /// Something to show on the time line of one recording.
    pub fn mark(
        &mut self,
        journal: &JournalHandle,
        at: Moment,
        recording: RecordingId,
        mark: SealedMark,
    ) -> Result<Position, AppendError> {
        let event = EventBody::Mark {
            tenant: self.tag.tenant.clone(),
            recording,
            mark: mark.kind,
            label: mark.label.clone(),
            begins: mark.begins,
            detail: mark.detail.clone(),
        };
        let tag = self.tag_of(recording);
        let body = Body::Mark(mark);
        let sealer = &mut self.sealer;
        journal.append_sealed(&tag, at, SealedKind::Mark, Some(event), |position| {
            sealer.seal(position, &body)
        })
    }

    /// Marks begin or end of hold on the streams whose direction changed.
    pub fn mark_holds(&mut self, journal: &JournalHandle, at: Moment) -> Result<(), AppendError> {
        let mut held = BTreeSet::new();
        let mut labels = BTreeMap::new();
        for stream in self.negotiated.iter().filter(|stream| !stream.removed) {
            let Ok(index) = u16::try_from(stream.index) else { continue };
            labels.insert(index, stream.label.clone());
            if stream.direction == siprec::Direction::Inactive {
                held.insert(index);
            }
        }
        let before = std::mem::replace(&mut self.story.held, held.clone());
        for index in before.symmetric_difference(&held) {
            let label = labels.get(index).cloned().flatten();
            let begins = held.contains(index);
            for recording in self.recordings() {
                if self.has_stream(recording, label.as_deref()) {
                    let mark = SealedMark {
                        kind: MarkKind::Hold,
                        label: label.clone(),
                        begins,
                        detail: None,
                    };
                    self.mark(journal, at, recording, mark)?;
                }
            }
        }
        Ok(())
    }

    pub fn has_stream(&self, recording: RecordingId, label: Option<&str>) -> bool {
        let story = &self.story;
        story.communications.has_stream(self.tag.session, recording, &story.snapshot, label)
    }

    /// m-lines that must not be recorded, because a recording that they belong to is paused. Where
    /// two recordings share a stream, the one that may not be heard decides.
    pub fn paused_streams(&self) -> BTreeSet<u16> {
        self.story
            .streams
            .keys()
            .copied()
            .filter(|index| {
                let label = self
                    .negotiated
                    .iter()
                    .find(|stream| stream.index == usize::from(*index))
                    .and_then(|stream| stream.label.as_deref());
                self.story.paused.iter().any(|recording| self.has_stream(*recording, label))
            })
            .collect()
    }

    pub fn seal(
        &mut self,
        journal: &JournalHandle,
        at: Moment,
        kind: SealedKind,
        event: Option<EventBody>,
        body: &Body,
    ) -> Result<Position, AppendError> {
        let sealer = &mut self.sealer;
        journal.append_sealed(&self.tag, at, kind, event, |position| sealer.seal(position, body))
    }
}

/// Both clocks at a moment of which the boot time is known, given both clocks now.
pub fn at_boot_ns(now: Moment, boot_ns: u64) -> Moment {
    let ago_ns = now.boot_ns.saturating_sub(boot_ns);
    Moment { wall_ns: now.wall_ns.saturating_sub(ago_ns), boot_ns: boot_ns.min(now.boot_ns) }
}

/// Both clocks at a moment of which the wall time is known. The boot time is below zero, which is
/// told as zero, for what happened before the machine was started.
pub fn at_wall(now: Moment, wall: WallTime) -> Moment {
    let ago_ns = now.wall().ms_since(wall).saturating_mul(1_000_000);
    Moment {
        wall_ns: now.wall_ns.saturating_sub(ago_ns),
        boot_ns: now.boot_ns.saturating_sub(ago_ns),
    }
}

fn stream_info(stream: &NegotiatedStream) -> StreamInfo {
    StreamInfo {
        index: u16::try_from(stream.index).unwrap_or(u16::MAX),
        label: stream.label.clone(),
        formats: stream
            .formats
            .iter()
            .map(|format| Format {
                payload_type: format.payload_type,
                encoding: format.encoding.clone(),
                clock_rate: format.clock_rate,
                channels: format.channels,
                fmtp: format.fmtp.clone(),
            })
            .collect(),
        direction: match stream.direction {
            siprec::Direction::SendRecv => Direction::SendRecv,
            siprec::Direction::SendOnly => Direction::SendOnly,
            siprec::Direction::RecvOnly => Direction::RecvOnly,
            siprec::Direction::Inactive => Direction::Inactive,
        },
        removed: stream.removed,
        remote: stream.remote,
        local_port: stream.local.map_or(0, |local| local.port()),
        // What the SRC protects its packets with. Ours protects only what we send.
        crypto: stream.srtp.iter().map(|keys| keys.theirs.to_line().into()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_that_the_story_does_not_know_ends_too_and_only_once() {
        let session = SessionId::at(1_700_000_000_000, [1; 10]);
        let recording = session.first_recording();
        let tag = SessionTag { session, recording, tenant: model::TenantId::default() };
        let key = segment::TenantKeyPair::generate().unwrap().public();
        let (sealer, _) = Sealer::new(session, &key).unwrap();
        let mut call = Call::new(SessionKey(1), tag, sealer, Story::default());
        let unknown = session.further_recording("cs-2");
        call.began_boot_ns.insert(unknown, 1_000_000_000);
        assert_eq!(call.recordings(), [recording]);
        assert_eq!(call.unended(), BTreeSet::from([recording, unknown]));
        let at = Moment { wall_ns: 9_000_000_000, boot_ns: 3_000_000_000 };
        let (tag, _, record) = call.end_record(at, unknown, "bye", false);
        assert_eq!(tag.recording, unknown);
        let AppendRecord::Ended { event: Some(EventBody::Ended { duration_ms, .. }), .. } = record
        else {
            panic!("{record:?}");
        };
        assert_eq!(duration_ms, 2_000);
        assert_eq!(call.unended(), BTreeSet::from([recording]));
    }

    #[test]
    fn a_moment_in_the_past_has_both_clocks() {
        let now = Moment { wall_ns: 5_000_000_000, boot_ns: 2_000_000_000 };
        assert_eq!(
            at_boot_ns(now, 1_500_000_000),
            Moment { wall_ns: 4_500_000_000, boot_ns: 1_500_000_000 }
        );
        assert_eq!(
            at_wall(now, WallTime::from_unix_ms(4_000)),
            Moment { wall_ns: 4_000_000_000, boot_ns: 1_000_000_000 }
        );
        assert_eq!(at_wall(now, WallTime::from_unix_ms(1_000)).boot_ns, 0);
    }
}
