//! From the records of a session to its lanes.

use std::collections::BTreeSet;

use model::call::CallFacts;
use model::recording::{Mark, MarkKind, flag};
use model::{Personal, RecordingId, SessionId, Track};
use segment::{Document, Opener, SealError, SessionRecord};

use crate::clock::AxisNs;
use crate::codec::{Codec, NARROW_HZ, WIDE_HZ};
use crate::intake::{Intake, Stream, span_label};
use crate::lanes::{Channel, Lane, PlacedRun};
use crate::marks::{self, Span};
use crate::quality::Quality;

/// A week. What lies further from the beginning of the call has a wrong time.
const LONGEST_CALL_NS: i64 = 7 * 24 * 3_600 * 1_000_000_000;

#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The wrong tenant key, erased keys, or an old release: building on would give silence.
    #[error("the records do not open")]
    Sealed(#[source] SealError),
}

/// A call, ready to be rendered.
#[derive(Debug)]
pub struct Assembled {
    /// Samples a second of every lane.
    pub sample_rate: u32,
    /// Samples of every lane.
    pub samples: u64,
    /// Participants' order: the first participant's stream is lane 0.
    pub lanes: Vec<Lane>,
    /// Everything that came to RTP ports, also what is on no lane.
    pub packets: u64,
    pub marks: Vec<Mark>,
    pub flags: BTreeSet<String>,
    /// Metadata documents as received.
    pub documents: Vec<Document>,
    /// Whether the end of the recording is among the records.
    pub ended: bool,
}

impl Assembled {
    pub fn duration_ms(&self) -> u64 {
        // Rounded up, so that no mark or track sticks out.
        (self.samples * 1_000).div_ceil(u64::from(self.sample_rate))
    }
}

/// Lays the packets of a session's `records`, which are in order of position, onto call time.
///
/// The session's first recording has all of its streams. One of a further communication session has
/// those that its facts name by their label, from its start to its end.
///
/// Holds in memory every payload and 48 bytes a packet: about 40 MB for an hour of one G.711 stream.
pub fn assemble(
    records: impl IntoIterator<Item = SessionRecord>,
    opener: &Opener,
    session: SessionId,
    recording: RecordingId,
    facts: &CallFacts,
) -> Result<Assembled, AssembleError> {
    let mut intake = Intake::new(session, recording);
    let is_first = recording == session.first_recording();
    for record in records {
        intake.take(&record, opener).map_err(AssembleError::Sealed)?;
    }
    let mut streams: Vec<(u16, Stream)> = std::mem::take(&mut intake.streams)
        .into_iter()
        .map(|((index, _), stream)| (index, stream))
        .filter(|(_, stream)| is_first || is_named(stream, facts))
        .collect();
    // Pictures are no lane of sound. Their packets are kept.
    let pictures = streams.extract_if(.., |(_, stream)| stream.is_video());
    let has_pictures = pictures.filter(|(_, stream)| !stream.runs.is_empty()).count() > 0;
    for run in streams.iter_mut().flat_map(|(_, stream)| &mut stream.runs) {
        run.settle();
    }
    // First participant first; streams of nobody known after, in the order of the offer.
    streams.sort_by_key(|(index, stream)| {
        (speakers(facts, &stream.label).first().copied().unwrap_or(usize::MAX), *index)
    });

    let extent = extent(&streams);
    let (zero, end) = extent.unwrap_or_else(|| {
        // Without media a call is as long as its dialog.
        let from = intake.started.unwrap_or(0);
        (from, intake.ended.unwrap_or(from).clamp(from, from.saturating_add(LONGEST_CALL_NS)))
    });
    let entries = || streams.iter().flat_map(|(_, s)| &s.runs).flat_map(|run| &run.entries);
    let is_wide = entries().any(|entry| entry.codec == Codec::G722);
    let sample_rate = if is_wide { WIDE_HZ } else { NARROW_HZ };
    let ns = i128::from(end - zero) * i128::from(sample_rate);
    let samples = u64::try_from((ns + 500_000_000) / 1_000_000_000).unwrap_or(0);

    let mut call = Assembled {
        sample_rate,
        samples,
        lanes: Vec::new(),
        packets: intake.packets,
        marks: Vec::new(),
        flags: BTreeSet::new(),
        documents: intake.documents,
        ended: intake.ended.is_some(),
    };
    if has_pictures {
        call.flag(flag::UNDECODED_TRACK);
    }
    if intake.interrupted {
        call.flag(flag::INTERRUPTED);
    }
    if intake.damaged > 0 {
        call.flag(flag::DAMAGED);
    }
    let duration_ms = call.duration_ms();
    let mut marks: Vec<Mark> = Vec::new();
    let whole_call = |span: &&Span| span.label.is_none();
    marks.extend(
        intake.spans.0.iter().filter(whole_call).map(|span| span.mark(zero, duration_ms, None)),
    );
    let pauses: Vec<(AxisNs, AxisNs)> = (intake.spans.0.iter())
        .filter(|span| span.kind == MarkKind::Pause)
        .map(|span| (span.from, span.to.unwrap_or(AxisNs::MAX)))
        .collect();
    let channels = channels(&streams, facts);
    for (track, ((index, stream), channel)) in streams.into_iter().zip(channels).enumerate() {
        let label = span_label(index, &stream.label);
        let told = intake.spans.0.iter().filter(|span| span.label.as_ref() == Some(&label));
        marks.extend(told.map(|span| span.mark(zero, duration_ms, Some(track))));
        let digits = stream.runs.iter().flat_map(marks::digits);
        marks.extend(digits.map(|span| span.mark(zero, duration_ms, Some(track))));
        call.add_lane(stream, channel, facts, zero, &pauses);
        let losses = call.lanes.last().map(|lane| marks::losses(&lane.runs)).unwrap_or_default();
        marks.extend(losses.iter().map(|span| span.mark(zero, duration_ms, Some(track))));
    }
    // A mark outside the media, as of a hold before the first packet, is of no use to a listener.
    marks.retain(|mark| mark.from_ms < mark.to_ms || is_moment(mark.kind));
    call.marks = marks::tidy(marks);
    Ok(call)
}

fn is_moment(kind: MarkKind) -> bool {
    matches!(kind, MarkKind::Dtmf | MarkKind::Join | MarkKind::Leave)
}

impl Assembled {
    fn flag(&mut self, flag: &str) {
        self.flags.insert(flag.to_owned());
    }

    fn add_lane(
        &mut self,
        stream: Stream,
        channel: Channel,
        facts: &CallFacts,
        zero: AxisNs,
        pauses: &[(AxisNs, AxisNs)],
    ) {
        let speakers = speakers(facts, &stream.label);
        if speakers.len() > 1 {
            self.flag(flag::MIXED);
        }
        let heard = stream.runs.iter().flat_map(|run| &run.entries);
        if heard.clone().any(|entry| entry.codec == Codec::Unknown) {
            self.flag(flag::UNDECODED_TRACK);
        }
        let quality = Quality::of(&stream, pauses);
        if quality.not_authentic > 0 {
            self.flag(flag::NOT_AUTHENTIC);
        }
        if quality.received == 0 && stream.sends {
            self.flag(flag::NO_PACKETS);
        }
        let codec = stream.codec();
        let party = speakers.first().and_then(|index| facts.participants.get(*index));
        let participant: Option<Personal<String>> =
            party.and_then(|party| party.aor.clone().or_else(|| party.name.clone()));
        let mut extents = stream.runs.iter().filter_map(|run| run.extent());
        let first = extents.next();
        let extent = first
            .map(|first| extents.fold(first, |(from, to), run| (from.min(run.0), to.max(run.1))));
        let duration_ms = extent.map_or(0, |(from, to)| (to.abs_diff(from) + 500_000) / 1_000_000);
        let within = |run: &PlacedRun| run.starts_before(self.samples);
        let mut runs: Vec<PlacedRun> = stream
            .runs
            .into_iter()
            .filter_map(|run| PlacedRun::new(run, zero, self.sample_rate))
            .filter(within)
            .collect();
        runs.sort_by_key(PlacedRun::start);
        let lane = Lane {
            track: Track {
                label: stream.label,
                participant,
                speakers,
                codec,
                packets_expected: quality.expected,
                packets_received: quality.received,
                packets_lost: quality.lost,
                duration_ms: duration_ms.min(self.duration_ms()),
            },
            quality,
            channel,
            runs,
            sample_rate: self.sample_rate,
            samples: self.samples,
        };
        if lane.is_silent() {
            self.flag(flag::SILENT_TRACK);
        }
        self.lanes.push(lane);
    }
}

fn is_named(stream: &Stream, facts: &CallFacts) -> bool {
    !stream.label.is_empty() && facts.streams.iter().any(|fact| fact.label == stream.label)
}

/// Indexes of the participants heard on a stream.
fn speakers(facts: &CallFacts, label: &str) -> Vec<usize> {
    let ids: BTreeSet<&str> = facts.speakers(label).map(|party| party.id.as_str()).collect();
    let parties = facts.participants.iter().enumerate();
    parties.filter(|(_, party)| ids.contains(party.id.as_str())).map(|(at, _)| at).collect()
}

/// First and last moment of media of any stream.
fn extent(streams: &[(u16, Stream)]) -> Option<(AxisNs, AxisNs)> {
    let extents =
        streams.iter().flat_map(|(_, stream)| &stream.runs).filter_map(|run| run.extent());
    let extents: Vec<(AxisNs, AxisNs)> = extents.collect();
    let zero = extents.iter().map(|(from, _)| *from).min()?;
    let latest = zero.saturating_add(LONGEST_CALL_NS);
    let end = extents.iter().map(|(_, to)| *to).filter(|to| *to <= latest).max();
    Some((zero, end.unwrap_or(zero)))
}

/// The first party is left, the second is right, further ones are in the centre. Streams of one
/// party, as before and after a transfer, are on one side.
fn channels(streams: &[(u16, Stream)], facts: &CallFacts) -> Vec<Channel> {
    let mut parties: Vec<Option<usize>> = Vec::new();
    let mut channels = Vec::new();
    for (_, stream) in streams {
        let party = speakers(facts, &stream.label).first().copied();
        let known = parties.iter().position(|held| held.is_some() && *held == party);
        let side = known.unwrap_or_else(|| {
            parties.push(party);
            parties.len() - 1
        });
        channels.push(match side {
            0 => Channel::Left,
            1 => Channel::Right,
            _ => Channel::Centre,
        });
    }
    channels
}
