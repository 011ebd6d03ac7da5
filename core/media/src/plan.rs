//! What a survey comes to: the streams of a call as lanes on call time, with their places, marks,
//! flags and counts. Everything but the sound.
//!
//! - Call time begins with the earliest media of any stream and ends with the latest: it is as
//!   long as what was sent, not as the SIP dialog.
//! - The first party is left, the second right, further ones in the centre.

use std::collections::BTreeSet;

use model::call::CallFacts;
use model::recording::{Alignment, AlignmentMethod, Mark, MarkKind, flag};
use model::{Personal, Track};
use segment::Document;

use crate::align::{self, Method, Placement};
use crate::clock::AxisNs;
use crate::codec::NARROW_HZ;
use crate::marks::{self, LaidRun, Span};
use crate::peaks::Heard;
use crate::quality::{Hole, Quality};
use crate::survey::{CodecSeen, InOrder, StreamFacts, Survey};

/// A week. What lies further from the beginning of the call has a wrong time.
const LONGEST_CALL_NS: i64 = 7 * 24 * 3_600 * 1_000_000_000;

/// Where a lane is heard in a stereo file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Left,
    Right,
    /// On both sides: third and further parties.
    Centre,
}

/// One stream on call time.
#[derive(Debug)]
pub struct Lane {
    pub track: Track,
    pub quality: Quality,
    pub channel: Channel,
    /// Something of it can be decoded.
    pub(crate) is_decoded: bool,
    pub(crate) stream: usize,
    /// Each of its runs; `None` for one that is not heard.
    pub(crate) runs: Vec<Option<PlacedRun>>,
}

/// A run on the axis, from its first sample to its last.
#[derive(Debug)]
pub(crate) struct PlacedRun {
    pub place: Placement,
    pub from: AxisNs,
    pub to: AxisNs,
}

/// A call, ready to be rendered.
#[derive(Debug)]
pub struct Plan {
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
    /// Where call time begins.
    pub(crate) zero: AxisNs,
}

impl Plan {
    pub fn duration_ms(&self) -> u64 {
        // Rounded up, so that no mark or track sticks out.
        (self.samples * 1_000).div_ceil(u64::from(self.sample_rate))
    }

    fn flag(&mut self, flag: &str) {
        self.flags.insert(flag.to_owned());
    }

    /// Takes into account what only hearing the call could tell, lane by lane.
    pub fn hear(&mut self, heard: &[Heard]) {
        let mut silent = 0;
        for (lane, heard) in self.lanes.iter_mut().zip(heard) {
            lane.quality.silence_ratio = Some((heard.silence_ratio() * 1e3).round() / 1e3);
            silent += usize::from(lane.is_decoded && heard.is_silent());
        }
        let voices = self.lanes.iter().zip(heard);
        let voices = voices.filter(|(lane, heard)| lane.is_decoded && !heard.is_silent()).count();
        let absent = self.lanes.iter().filter(|lane| lane.quality.received == 0).count();
        if silent > 0 {
            self.flag(flag::SILENT_TRACK);
        }
        if voices == 1 && self.lanes.len() > 1 && silent + absent + 1 == self.lanes.len() {
            self.flag(flag::ONE_WAY_AUDIO);
        }
    }
}

/// A stream and what its runs tell.
struct Laid<'a> {
    number: usize,
    stream: &'a StreamFacts,
    runs: Vec<InOrder>,
    places: Vec<Option<Placement>>,
    speakers: Vec<usize>,
}

impl Laid<'_> {
    /// Beginning and end of a run on the axis.
    fn extent(&self, run: usize) -> Option<(AxisNs, AxisNs)> {
        let (first, last) = self.runs.get(run)?.extent?;
        let (facts, place) = (self.stream.runs.get(run)?, self.places.get(run)?.as_ref()?);
        Some((place.axis(facts.ns(first)), place.axis(facts.ns(last))))
    }

    fn extents(&self) -> impl Iterator<Item = (AxisNs, AxisNs)> {
        (0..self.runs.len()).filter_map(|run| self.extent(run))
    }
}

impl Survey {
    /// Lays out what was read so far.
    ///
    /// The session's first recording has all of its streams. One of a further communication
    /// session has those that its facts name by their label, from its start to its end.
    pub fn plan(&self, facts: &CallFacts) -> Plan {
        let (mut streams, trouble) = self.lay(facts);
        // First participant first; streams of nobody known after, in the order of the offer.
        streams.sort_by_key(|laid| {
            (laid.speakers.first().copied().unwrap_or(usize::MAX), laid.stream.index, laid.number)
        });
        let (zero, end) = self.extent(&streams);
        let rates = streams.iter().map(|laid| laid.stream.call_rate());
        let sample_rate = rates.max().unwrap_or(NARROW_HZ);
        let ns = i128::from(end - zero) * i128::from(sample_rate);
        let samples = u64::try_from((ns + 500_000_000) / 1_000_000_000).unwrap_or(0);
        let mut plan = Plan {
            sample_rate,
            samples,
            lanes: Vec::new(),
            packets: self.router.packets,
            marks: Vec::new(),
            flags: BTreeSet::new(),
            documents: self.facts.documents.clone(),
            ended: self.router.ended.is_some(),
            zero,
        };
        for (is_so, flag) in [
            (self.router.interrupted, flag::INTERRUPTED),
            (self.facts.damaged > 0, flag::DAMAGED),
            (trouble, flag::CLOCK_TROUBLE),
            (self.has_pictures(), flag::UNDECODED_TRACK),
        ] {
            if is_so {
                plan.flag(flag);
            }
        }
        let spans = &self.facts.spans.0;
        let duration_ms = plan.duration_ms();
        let mut marks: Vec<Mark> = Vec::new();
        let of_all = spans.iter().filter(|span| span.label.is_none());
        marks.extend(of_all.map(|span| span.mark(zero, duration_ms, None)));
        let pauses = spans.iter().filter(|span| span.kind == MarkKind::Pause);
        let pauses: Vec<(AxisNs, AxisNs)> =
            pauses.map(|span| (span.from, span.to.unwrap_or(AxisNs::MAX))).collect();
        let channels = channels(&streams);
        for (track, (laid, channel)) in streams.into_iter().zip(channels).enumerate() {
            let label = Some(laid.stream.span_label());
            let told = spans.iter().filter(|span| span.label == label).cloned();
            let of_lane =
                told.chain(digits(&laid)).chain(marks::gaps(&laid_runs(&laid), zero, end));
            marks.extend(of_lane.map(|span| span.mark(zero, duration_ms, Some(track))));
            plan.add_lane(laid, channel, facts, &pauses);
        }
        // A mark outside the media, as of a hold before the first packet, is of no use to a listener.
        marks.retain(|mark| mark.from_ms < mark.to_ms || is_moment(mark.kind));
        plan.marks = marks::tidy(marks);
        plan
    }

    /// Pictures are no lane of sound. Their packets are kept.
    fn has_pictures(&self) -> bool {
        self.facts.streams.iter().any(|stream| stream.is_video() && !stream.runs.is_empty())
    }

    fn lay(&self, facts: &CallFacts) -> (Vec<Laid<'_>>, bool) {
        let named = |stream: &StreamFacts| {
            !stream.label.is_empty() && facts.streams.iter().any(|f| f.label == stream.label)
        };
        let streams = self.facts.streams.iter().enumerate();
        let streams = streams.filter(|(_, stream)| !stream.is_video());
        let streams: Vec<_> =
            streams.filter(|(_, stream)| self.is_first() || named(stream)).collect();
        let observed: Vec<_> =
            streams.iter().flat_map(|(_, stream)| &stream.runs).map(|run| &run.observed).collect();
        let (places, trouble) = align::place(&observed);
        let mut places = places.into_iter();
        let laid = streams.into_iter().map(|(number, stream)| Laid {
            number,
            stream,
            runs: stream.runs.iter().map(|run| run.settled()).collect(),
            places: places.by_ref().take(stream.runs.len()).map(Some).collect(),
            speakers: speakers(facts, &stream.label),
        });
        (laid.collect(), trouble)
    }

    /// Beginning and end of the call.
    fn extent(&self, streams: &[Laid<'_>]) -> (AxisNs, AxisNs) {
        let extents = || streams.iter().flat_map(Laid::extents);
        let Some(zero) = extents().map(|(from, _)| from).min() else {
            // Without media a call is as long as its dialog.
            let from = self.router.started.unwrap_or(0);
            let latest = from.saturating_add(LONGEST_CALL_NS);
            return (from, self.router.ended.unwrap_or(from).clamp(from, latest));
        };
        let latest = zero.saturating_add(LONGEST_CALL_NS);
        let end = extents().map(|(_, to)| to).filter(|to| *to <= latest).max();
        (zero, end.unwrap_or(zero).max(zero))
    }
}

impl Plan {
    fn add_lane(
        &mut self,
        mut laid: Laid<'_>,
        channel: Channel,
        facts: &CallFacts,
        pauses: &[(AxisNs, AxisNs)],
    ) {
        let stream = laid.stream;
        let quality = Quality::of(stream, &holes(&laid), pauses);
        let is_decoded = stream.codecs.iter().any(|seen| matches!(seen, CodecSeen::Decoded { .. }));
        for (is_so, flag) in [
            (laid.speakers.len() > 1, flag::MIXED),
            (stream.codecs.contains(&CodecSeen::Undecoded), flag::UNDECODED_TRACK),
            (stream.is_of_wrong_codec(), flag::WRONG_CODEC),
            (quality.received == 0 && stream.sends, flag::NO_PACKETS),
            (quality.not_authentic > 0, flag::NOT_AUTHENTIC),
        ] {
            if is_so {
                self.flag(flag);
            }
        }
        let party = laid.speakers.first().and_then(|index| facts.participants.get(*index));
        let participant: Option<Personal<String>> =
            party.and_then(|party| party.aor.clone().or_else(|| party.name.clone()));
        let mut extents = laid.extents();
        let first = extents.next();
        let extent = first
            .map(|first| extents.fold(first, |(from, to), run| (from.min(run.0), to.max(run.1))));
        let duration_ms = extent.map_or(0, |(from, to)| (to.abs_diff(from) + 500_000) / 1_000_000);
        let duration_ns = self.samples as i128 * 1_000_000_000 / i128::from(self.sample_rate);
        let runs: Vec<Option<PlacedRun>> = (0..laid.runs.len())
            .map(|run| {
                let (from, to) = laid.extent(run)?;
                let start = i128::from(from.saturating_sub(self.zero));
                let place = laid.places[run].take()?;
                (0..=duration_ns).contains(&start).then_some(PlacedRun { place, from, to })
            })
            .collect();
        let alignment = alignment(&runs);
        self.lanes.push(Lane {
            track: Track {
                label: stream.label.clone(),
                participant,
                codec: stream.codec(),
                packets_expected: quality.expected,
                packets_received: quality.received,
                packets_lost: quality.lost,
                duration_ms: duration_ms.min(self.duration_ms()),
                alignment,
                speakers: laid.speakers,
            },
            quality,
            channel,
            is_decoded,
            stream: laid.number,
            runs,
        });
    }
}

/// The weakest method of any run, and the greatest error.
fn alignment(runs: &[Option<PlacedRun>]) -> Option<Alignment> {
    let heard = || runs.iter().flatten().map(|run| &run.place);
    let error_ns = heard().map(|place| place.error_ns).max()?;
    let method = if heard().all(|place| place.method == Method::Reports) {
        AlignmentMethod::SenderReports
    } else {
        AlignmentMethod::Arrival
    };
    let within_ms = u32::try_from(error_ns.max(0) / 1_000_000 + 1).unwrap_or(u32::MAX);
    Some(Alignment { method, within_ms })
}

/// Where packets of a stream are missing, on the axis.
fn holes(laid: &Laid<'_>) -> Vec<Hole> {
    let mut holes = Vec::new();
    for (index, (run, facts)) in laid.runs.iter().zip(&laid.stream.runs).enumerate() {
        let Some(Some(place)) = laid.places.get(index) else { continue };
        let on_axis = |ticks| place.axis(facts.ns(ticks));
        if let (Some(before), Some((first, _))) = (facts.before, run.extent)
            && before.lost > 0
        {
            holes.push(Hole { from: before.since, to: on_axis(first), packets: before.lost });
        }
        holes.extend(run.holes.iter().map(|hole| Hole {
            from: on_axis(hole.from),
            to: on_axis(hole.to),
            packets: hole.packets,
        }));
    }
    holes
}

fn laid_runs(laid: &Laid<'_>) -> Vec<LaidRun> {
    let runs = (0..laid.runs.len()).filter_map(|index| {
        let (from, to) = laid.extent(index)?;
        let (facts, place) = (laid.stream.runs.get(index)?, laid.places.get(index)?.as_ref()?);
        let on_axis = |ticks| place.axis(facts.ns(ticks));
        let holes = laid.runs.get(index)?.holes.iter();
        Some(LaidRun {
            ssrc: facts.ssrc,
            from,
            to,
            lost_before: facts.before.map_or(0, |before| before.lost),
            holes: holes.map(|hole| (on_axis(hole.from), on_axis(hole.to))).collect(),
        })
    });
    let mut runs: Vec<LaidRun> = runs.collect();
    runs.sort_by_key(|run| run.from);
    runs
}

fn digits(laid: &Laid<'_>) -> impl Iterator<Item = Span> {
    laid.runs.iter().enumerate().flat_map(move |(index, run)| {
        run.digits.iter().filter_map(move |digit| {
            let (facts, place) = (laid.stream.runs.get(index)?, laid.places.get(index)?.as_ref()?);
            Some(Span {
                kind: MarkKind::Dtmf,
                from: place.axis(facts.ns(digit.from)),
                to: Some(place.axis(facts.ns(digit.to))),
                label: None,
                detail: Some(digit.digit.to_string()),
            })
        })
    })
}

fn is_moment(kind: MarkKind) -> bool {
    matches!(kind, MarkKind::Dtmf | MarkKind::Join | MarkKind::Leave)
}

/// Indexes of the participants heard on a stream.
fn speakers(facts: &CallFacts, label: &str) -> Vec<usize> {
    let ids: BTreeSet<&str> = facts.speakers(label).map(|party| party.id.as_str()).collect();
    let parties = facts.participants.iter().enumerate();
    parties.filter(|(_, party)| ids.contains(party.id.as_str())).map(|(at, _)| at).collect()
}

/// Streams of one party, as before and after a transfer, are on one side.
fn channels(streams: &[Laid<'_>]) -> Vec<Channel> {
    let mut parties: Vec<Option<usize>> = Vec::new();
    let mut channels = Vec::new();
    for laid in streams {
        let party = laid.speakers.first().copied();
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
