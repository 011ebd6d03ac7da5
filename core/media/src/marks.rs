//! What happened when: marks of the recorder, holds, losses and digits, as spans of call time.

use model::recording::{Mark, MarkKind};

use crate::clock::AxisNs;
use crate::render::CONCEALED_MS;

/// Between two different sources nobody can tell silence from loss; shorter is how they change.
const UNEXPLAINED_MS: u64 = 1_000;
/// Shorter is silence that a sender suppresses, or how streams begin and end.
const NO_MEDIA_MS: u64 = 2_000;

/// A span of the call, on the axis until call time is known.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub kind: MarkKind,
    pub from: AxisNs,
    /// `None`: until the end of the call.
    pub to: Option<AxisNs>,
    pub label: Option<String>,
    pub detail: Option<String>,
}

impl Span {
    /// In call time, which begins at `zero`.
    pub fn mark(&self, zero: AxisNs, duration_ms: u64, track: Option<usize>) -> Mark {
        let ms = |at: AxisNs| at.saturating_sub(zero).max(0) as u64 / 1_000_000;
        let from_ms = ms(self.from).min(duration_ms);
        let to_ms = self.to.map_or(duration_ms, ms).clamp(from_ms, duration_ms);
        Mark { kind: self.kind, from_ms, to_ms, track, detail: self.detail.clone() }
    }
}

/// Joins beginnings and ends as they are journaled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans(pub Vec<Span>);

impl Spans {
    pub fn tell(
        &mut self,
        at: AxisNs,
        kind: MarkKind,
        label: Option<String>,
        begins: bool,
        detail: Option<String>,
    ) {
        let of_this = |span: &Span| span.kind == kind && span.label == label;
        if matches!(kind, MarkKind::Dtmf | MarkKind::Join | MarkKind::Leave) {
            self.0.push(Span { kind, from: at, to: Some(at), label, detail });
        } else if let Some(open) =
            self.0.iter().rposition(|span| of_this(span) && span.to.is_none())
        {
            // A beginning that is told twice, as after a restart, is one beginning.
            if !begins {
                self.0[open].to = Some(at);
            }
        } else if begins {
            self.0.push(Span { kind, from: at, to: None, label, detail });
        } else if !self.0.iter().any(of_this) {
            // It began before the recording did.
            self.0.push(Span { kind, from: AxisNs::MIN, to: Some(at), label, detail });
        }
    }
}

/// What a run lies on the axis, for [`gaps`].
#[derive(Clone, Debug)]
pub(crate) struct LaidRun {
    pub ssrc: u32,
    pub from: AxisNs,
    pub to: AxisNs,
    /// Packets lost between this run and the one before it of its source.
    pub lost_before: u64,
    /// Beginning and end of each loss within.
    pub holes: Vec<(AxisNs, AxisNs)>,
}

/// Where a stream has nothing to be heard though it should: losses longer than what is concealed,
/// and times without media. `runs` are in order of their beginning.
pub(crate) fn gaps(runs: &[LaidRun], zero: AxisNs, end: AxisNs) -> Vec<Span> {
    let gap = |from, to, detail: &str| Span {
        kind: MarkKind::Gap,
        from,
        to: Some(to),
        label: None,
        detail: Some(detail.to_owned()),
    };
    let longer =
        |from: AxisNs, to: AxisNs, ms: u64| to.saturating_sub(from) > ms as i64 * 1_000_000;
    let mut gaps = Vec::new();
    let (Some(first), Some(last)) = (runs.first(), runs.iter().map(|run| run.to).max()) else {
        return gaps;
    };
    if longer(zero, first.from, NO_MEDIA_MS) {
        gaps.push(gap(zero, first.from, "no media yet"));
    }
    for (from, to) in runs.iter().flat_map(|run| &run.holes) {
        if longer(*from, *to, CONCEALED_MS) {
            gaps.push(gap(*from, *to, "loss"));
        }
    }
    for pair in runs.windows(2) {
        let [before, after] = pair else { continue };
        let (from, to) = (before.to, after.from);
        let same_source = before.ssrc == after.ssrc;
        if same_source && after.lost_before > 0 && longer(from, to, CONCEALED_MS) {
            gaps.push(gap(from, to, "loss"));
        } else if same_source && longer(from, to, NO_MEDIA_MS) {
            gaps.push(gap(from, to, "no media"));
        } else if !same_source && longer(from, to, UNEXPLAINED_MS) {
            gaps.push(gap(from, to, "no media between two sources"));
        }
    }
    if longer(last, end, NO_MEDIA_MS) {
        gaps.push(gap(last, end, "no more media"));
    }
    gaps
}

/// Digits pressed on a stream (RFC 4733 §2.3): all packets of one event carry its timestamp.
#[derive(Clone, Debug, Default)]
pub(crate) struct Digits(Vec<Digit>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digit {
    pub digit: char,
    /// Ticks of the run.
    pub from: i64,
    pub to: i64,
}

impl Digits {
    /// Takes the payload of a named event.
    pub fn take(&mut self, timestamp: i64, payload: [u8; 4]) {
        let [event, _, high, low] = payload;
        let Some(digit) = digit(event) else { return };
        let to = timestamp.saturating_add(i64::from(u16::from_be_bytes([high, low])));
        match self.0.last_mut() {
            Some(held) if held.from == timestamp => held.to = held.to.max(to),
            _ => self.0.push(Digit { digit, from: timestamp, to }),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Digit> {
        self.0.iter()
    }
}

/// RFC 4733 §3.2, table 3.
fn digit(event: u8) -> Option<char> {
    b"0123456789*#ABCD".get(usize::from(event)).map(|digit| char::from(*digit))
}

/// Sorts, joins what overlaps and is told twice, and leaves out losses that something explains: a
/// hold, a pause, a restart of the recorder.
pub(crate) fn tidy(mut marks: Vec<Mark>) -> Vec<Mark> {
    marks.sort_by(|a, b| {
        (a.kind, a.track, a.from_ms, a.to_ms).cmp(&(b.kind, b.track, b.from_ms, b.to_ms))
    });
    let mut joined: Vec<Mark> = Vec::new();
    for mark in marks {
        let is_span = matches!(mark.kind, MarkKind::Hold | MarkKind::Pause | MarkKind::Gap);
        match joined.last_mut() {
            Some(last)
                if is_span
                    && (last.kind, last.track) == (mark.kind, mark.track)
                    && mark.from_ms <= last.to_ms =>
            {
                last.to_ms = last.to_ms.max(mark.to_ms);
                last.detail = last.detail.take().or(mark.detail);
            }
            Some(last) if *last == mark => {}
            _ => joined.push(mark),
        }
    }
    let explains = |by: &Mark, gap: &Mark| {
        let over = by.to_ms.min(gap.to_ms).saturating_sub(by.from_ms.max(gap.from_ms));
        let is_wider = by.kind != MarkKind::Gap || (by.track.is_none() && gap.track.is_some());
        is_wider
            && matches!(by.kind, MarkKind::Hold | MarkKind::Pause | MarkKind::Gap)
            && (by.track.is_none() || by.track == gap.track)
            // Media time and arrival differ a little, so a part at either end may stick out.
            && over * 2 >= gap.to_ms - gap.from_ms
    };
    let is_explained = |mark: &Mark| {
        mark.kind == MarkKind::Gap && joined.iter().any(|other| explains(other, mark))
    };
    let mut kept: Vec<Mark> = joined.iter().filter(|mark| !is_explained(mark)).cloned().collect();
    kept.sort_by_key(|mark| (mark.from_ms, mark.to_ms, mark.kind, mark.track));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(kind: MarkKind, from_ms: u64, to_ms: u64, track: Option<usize>) -> Mark {
        Mark { kind, from_ms, to_ms, track, detail: None }
    }

    #[test]
    fn a_loss_within_a_hold_is_the_hold() {
        let hold = mark(MarkKind::Hold, 1_000, 5_000, Some(0));
        let inside = mark(MarkKind::Gap, 990, 4_990, Some(0));
        let other_track = mark(MarkKind::Gap, 990, 4_990, Some(1));
        let outside = mark(MarkKind::Gap, 8_000, 9_000, Some(0));
        let tidied = tidy(vec![inside, outside.clone(), other_track.clone(), hold.clone()]);
        assert_eq!(tidied, [other_track, hold, outside]);
    }

    #[test]
    fn what_is_told_twice_is_one_mark() {
        let told = vec![
            mark(MarkKind::Hold, 1_000, 3_000, Some(0)),
            mark(MarkKind::Hold, 2_000, 4_000, Some(0)),
            mark(MarkKind::Dtmf, 100, 200, Some(0)),
            mark(MarkKind::Dtmf, 100, 200, Some(0)),
            mark(MarkKind::Dtmf, 150, 250, Some(0)),
        ];
        let expected = [
            mark(MarkKind::Dtmf, 100, 200, Some(0)),
            mark(MarkKind::Dtmf, 150, 250, Some(0)),
            mark(MarkKind::Hold, 1_000, 4_000, Some(0)),
        ];
        assert_eq!(tidy(told), expected);
    }

    #[test]
    fn a_gap_does_not_explain_itself() {
        let gap = mark(MarkKind::Gap, 0, 100, None);
        assert_eq!(tidy(vec![gap.clone()]), [gap]);
    }

    #[test]
    fn beginnings_and_ends_are_joined_and_may_be_missing() {
        let mut spans = Spans::default();
        spans.tell(5, MarkKind::Hold, None, false, None);
        spans.tell(10, MarkKind::Pause, None, true, None);
        spans.tell(11, MarkKind::Pause, None, true, None);
        spans.tell(20, MarkKind::Pause, None, false, None);
        spans.tell(21, MarkKind::Pause, None, false, None);
        spans.tell(30, MarkKind::Pause, None, true, None);
        let told: Vec<_> = spans.0.iter().map(|span| (span.kind, span.from, span.to)).collect();
        let expected = [
            (MarkKind::Hold, AxisNs::MIN, Some(5)),
            (MarkKind::Pause, 10, Some(20)),
            (MarkKind::Pause, 30, None),
        ];
        assert_eq!(told, expected);
    }
}
