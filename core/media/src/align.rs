//! Where the media of a run lies on the call's axis, through drifting clocks and a network that
//! delays as it likes. `docs/design/time.md` explains it with a drawing.
//!
//! - **By sender reports** (RFC 3550 §6.4.1), where they come: each ties a timestamp to the
//!   sender's NTP clock, and streams of one sender share that clock. So streams lie right beside
//!   each other however different their ways through the network were.
//! - **By arrival**, elsewhere: a network only ever adds delay, so the fastest packets tell the
//!   truth. What remains unknown is how much even the fastest were delayed.
//! - Clocks drift by up to [`MAX_DRIFT_NS_PER_SECOND`], so a place is not one offset but a line
//!   through the fastest packets, which no packet may lie below.
//! - Audio is stretched to follow only when it is off by more than [`UNNOTICED_NS`]: most calls
//!   are too short for that and come out sample by sample as they were sent.

use std::collections::BTreeMap;

use crate::clock::AxisNs;
use crate::run::MAX_DRIFT_NS_PER_SECOND;

const SECOND_NS: i64 = 1_000_000_000;
/// Off by less than this, audio is left as it is.
const UNNOTICED_NS: i64 = 1_000_000;
/// The beginning of a run is laid by the fastest packet within this; drift is below 2.5 ms then.
const SETTLE_NS: i64 = 10 * SECOND_NS;
/// Reports further apart than this, as over a hold, leave too much to guess between them.
const MAX_REPORT_GAP_NS: i64 = 600 * SECOND_NS;
/// And the first and last further from either end of the run, outside of them.
const MAX_REPORT_END_NS: i64 = 60 * SECOND_NS;
/// A sender whose reports contradict each other by more has a clock that was set meanwhile.
const MAX_REPORT_STEP_NS: i64 = 100_000_000;
/// Streams of one clock cannot seem further apart than ways through one network differ.
const SAME_CLOCK_NS: i64 = 150_000_000;

/// How the place of a run was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Reports,
    Arrival,
}

/// Media time to axis: what is added, at some media times, and straight lines between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    knots: Vec<(i64, i64)>,
    pub method: Method,
    /// How far it may be off, as far as the packets tell.
    pub error_ns: i64,
}

impl Placement {
    pub fn axis(&self, media_ns: i64) -> AxisNs {
        media_ns.saturating_add(self.offset(media_ns))
    }

    fn offset(&self, media_ns: i64) -> i64 {
        at(&self.knots, media_ns).unwrap_or(0)
    }

    /// What is added around a moment of the axis.
    pub fn offset_at(&self, axis: AxisNs) -> i64 {
        let near = axis.saturating_sub(self.knots.first().map_or(0, |knot| knot.1));
        self.offset(axis.saturating_sub(self.offset(near)))
    }
}

/// What one run tells about its place.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// Of each second of media the packet with the least delay: media time, arrival minus media.
    fastest: BTreeMap<i64, (i64, i64)>,
    /// Media time and the sender's NTP time minus it.
    reports: Vec<(i64, i64)>,
}

impl Observed {
    pub fn packet(&mut self, media_ns: i64, transit_ns: i64) {
        let fastest =
            self.fastest.entry(media_ns.div_euclid(SECOND_NS)).or_insert((media_ns, transit_ns));
        if transit_ns < fastest.1 {
            *fastest = (media_ns, transit_ns);
        }
    }

    pub fn report(&mut self, media_ns: i64, ntp_ns: i64) {
        self.reports.push((media_ns, ntp_ns.saturating_sub(media_ns)));
    }

    fn ends(&self) -> Option<(i64, i64)> {
        let (first, _) = self.fastest.first_key_value()?.1;
        let (last, _) = self.fastest.last_key_value()?.1;
        Some((*first, *last))
    }

    /// NTP minus media time along the run; `Err` where reports contradict each other, `None` where
    /// there are too few.
    fn ntp(&self) -> Result<Option<Vec<(i64, i64)>>, ClockTrouble> {
        let mut reports = self.reports.clone();
        reports.sort_unstable();
        reports.dedup_by_key(|report| report.0);
        let Some((first, last)) = self.ends() else { return Ok(None) };
        let (Some(first_told), Some(last_told)) = (reports.first(), reports.last()) else {
            return Ok(None);
        };
        let is_close =
            |pair: &[(i64, i64)]| pair[1].0.saturating_sub(pair[0].0) <= MAX_REPORT_GAP_NS;
        if first_told.0.saturating_sub(first) > MAX_REPORT_END_NS
            || last.saturating_sub(last_told.0) > MAX_REPORT_END_NS
            || !reports.windows(2).all(is_close)
        {
            return Ok(None);
        }
        let steps = |pair: &[(i64, i64)]| pair[1].1.abs_diff(pair[0].1);
        if reports.windows(2).any(|pair| steps(pair) > MAX_REPORT_STEP_NS as u64) {
            return Err(ClockTrouble);
        }
        Ok(Some(smoothed(&reports)))
    }
}

/// A sender's NTP clock was set during the call, or its reports are nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClockTrouble;

/// Lays the runs of a call beside each other. `trouble`: reports came that cannot be used.
pub(crate) fn place(runs: &[&Observed]) -> (Vec<Placement>, bool) {
    let mut trouble = false;
    let mut ntp: Vec<Option<Vec<(i64, i64)>>> = runs
        .iter()
        .map(|run| {
            run.ntp().unwrap_or_else(|ClockTrouble| {
                trouble = true;
                None
            })
        })
        .collect();
    // Arrival minus NTP time of each run: what its clock is away from ours, plus the least delay.
    let offsets: Vec<Vec<(AxisNs, i64)>> = runs
        .iter()
        .zip(&ntp)
        .map(|(run, ntp)| ntp.as_ref().map_or_else(Vec::new, |ntp| clock_offsets(run, ntp)))
        .collect();
    let least: Vec<Option<i64>> =
        offsets.iter().map(|points| points.iter().map(|point| point.1).min()).collect();
    let of_first = least.iter().flatten().next().copied();
    for (ntp, least) in ntp.iter_mut().zip(&least) {
        let is_apart = least
            .zip(of_first)
            .is_some_and(|(least, first)| least.abs_diff(first) > SAME_CLOCK_NS as u64);
        if is_apart {
            *ntp = None;
            trouble = true;
        }
    }
    let shared = offsets.into_iter().zip(&ntp).filter(|(_, ntp)| ntp.is_some());
    let mut shared: Vec<(AxisNs, i64)> = shared.flat_map(|(points, _)| points).collect();
    shared.sort_unstable();
    envelope(&mut shared);
    let placed = runs.iter().zip(ntp);
    let placed = placed.map(|(run, ntp)| match ntp {
        Some(ntp) => by_reports(run, &ntp, &shared),
        None => by_arrival(run),
    });
    (placed.collect(), trouble)
}

fn clock_offsets(run: &Observed, ntp: &[(i64, i64)]) -> Vec<(AxisNs, i64)> {
    let offset = |(media_ns, transit_ns): &(i64, i64)| {
        let ntp = at(ntp, *media_ns).unwrap_or(0);
        (media_ns.saturating_add(*transit_ns), transit_ns.saturating_sub(ntp))
    };
    run.fastest.values().map(offset).collect()
}

fn by_reports(run: &Observed, ntp: &[(i64, i64)], shared: &[(AxisNs, i64)]) -> Placement {
    let points = run.fastest.values().map(|(media_ns, transit_ns)| {
        let ntp = at(ntp, *media_ns).unwrap_or(0);
        let axis = media_ns.saturating_add(*transit_ns);
        (*media_ns, ntp.saturating_add(at(shared, axis).unwrap_or(0)))
    });
    let points: Vec<(i64, i64)> = points.collect();
    let mut reports = run.reports.clone();
    reports.sort_unstable();
    let apart = reports.iter().map(|(media_ns, told)| {
        let apart = at(ntp, *media_ns).unwrap_or(*told).abs_diff(*told);
        i64::try_from(apart).unwrap_or(i64::MAX)
    });
    let error_ns = apart.max().unwrap_or(0).saturating_add(UNNOTICED_NS);
    // The first point, not the least: reports do not scatter as arrivals do.
    let start = points.first().map_or(0, |point| point.1);
    Placement { knots: follow(&points, start), method: Method::Reports, error_ns }
}

fn by_arrival(run: &Observed) -> Placement {
    let seen: Vec<(i64, i64)> = run.fastest.values().copied().collect();
    let mut points = seen.clone();
    envelope(&mut points);
    let begin = points.first().map_or(0, |point| point.0);
    let settled = points.iter().take_while(|point| point.0.saturating_sub(begin) <= SETTLE_NS);
    let start = settled.map(|point| point.1).min().unwrap_or(0);
    let mut above: Vec<i64> =
        seen.iter().zip(&points).map(|(seen, point)| seen.1.saturating_sub(point.1)).collect();
    above.sort_unstable();
    let typical = above.get(above.len() / 2).copied().unwrap_or(0);
    let error_ns = typical.saturating_add(UNNOTICED_NS);
    Placement { knots: follow(&points, start), method: Method::Arrival, error_ns }
}

/// Lowers each point to where the others, at the greatest drift, allow it to lie.
fn envelope(points: &mut [(i64, i64)]) {
    let drift = |from: i64, to: i64| {
        let ms = to.saturating_sub(from) / 1_000_000;
        ms.saturating_mul(MAX_DRIFT_NS_PER_SECOND / 1_000)
    };
    for index in 1..points.len() {
        let (before, value) = points[index - 1];
        let most = value.saturating_add(drift(before, points[index].0));
        points[index].1 = points[index].1.min(most);
    }
    for index in (1..points.len()).rev() {
        let (after, value) = points[index];
        let most = value.saturating_add(drift(points[index - 1].0, after));
        points[index - 1].1 = points[index - 1].1.min(most);
    }
}

/// Follows the points from `start` on, moving only when it is off by more than is noticed.
fn follow(points: &[(i64, i64)], start: i64) -> Vec<(i64, i64)> {
    let mut knots = Vec::new();
    let mut held = start;
    let mut before = None;
    for (at, value) in points {
        if let Some(before) = before
            && value.abs_diff(held) > UNNOTICED_NS as u64
        {
            knots.push((before, held));
            knots.push((*at, *value));
            held = *value;
        }
        before = Some(*at);
    }
    if knots.is_empty() {
        knots.push((0, held));
    }
    knots.dedup();
    knots
}

/// The median of five, fewer at either end: some senders take their two clocks at different times.
fn smoothed(reports: &[(i64, i64)]) -> Vec<(i64, i64)> {
    (0..reports.len())
        .map(|index| {
            let side = index.min(reports.len() - 1 - index).min(2);
            let mut near: Vec<i64> =
                reports[index - side..=index + side].iter().map(|report| report.1).collect();
            near.sort_unstable();
            (reports[index].0, near[side])
        })
        .collect()
}

/// The value at `x` of straight lines between points, flat outside of them.
fn at(points: &[(i64, i64)], x: i64) -> Option<i64> {
    let after = points.partition_point(|point| point.0 <= x);
    let (Some(before), Some(next)) = (after.checked_sub(1), points.get(after)) else {
        return points.get(after.saturating_sub(1)).map(|point| point.1);
    };
    let before = points[before];
    let part = i128::from(x) - i128::from(before.0);
    let whole = i128::from(next.0) - i128::from(before.0);
    let rise = i128::from(next.1) - i128::from(before.1);
    i64::try_from(i128::from(before.1) + rise * part / whole.max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// A stream of packets every 20 ms whose clock runs `ppm` fast, with the delays given.
    fn stream(ppm: i64, seconds: i64, delay_ns: impl Fn(i64) -> i64) -> Observed {
        let mut observed = Observed::default();
        for packet in 0..seconds * 50 {
            let true_ns = packet * 20 * MS;
            let media_ns = true_ns + true_ns / 1_000_000 * ppm;
            let arrival = true_ns + delay_ns(packet);
            observed.packet(media_ns, arrival - media_ns);
        }
        observed
    }

    fn report(observed: &mut Observed, ppm: i64, seconds: i64, clock_ns: i64) {
        for at in (0..seconds).step_by(5) {
            let true_ns = at * SECOND_NS;
            observed.report(true_ns + true_ns / 1_000_000 * ppm, true_ns + clock_ns);
        }
    }

    /// Something between 0 and 80 ms.
    fn jitter(packet: i64) -> i64 {
        (packet.wrapping_mul(2_654_435_761) >> 7).rem_euclid(80 * MS)
    }

    /// Greatest difference, over the run, between where media lies and where it was spoken.
    fn worst(placement: &Placement, ppm: i64, seconds: i64, delay_ns: i64) -> i64 {
        (0..seconds * 10)
            .map(|tenth| {
                let true_ns = tenth * 100 * MS;
                let axis = placement.axis(true_ns + true_ns / 1_000_000 * ppm);
                (axis - true_ns - delay_ns).abs()
            })
            .max()
            .unwrap()
    }

    #[test]
    fn an_hour_of_drift_and_jitter_is_followed_by_arrival() {
        for ppm in [-100, 0, 100] {
            let observed = stream(ppm, 3_600, |packet| 30 * MS + jitter(packet));
            let (placed, trouble) = place(&[&observed]);
            assert!(!trouble);
            assert_eq!(placed[0].method, Method::Arrival);
            let worst = worst(&placed[0], ppm, 3_600, 30 * MS);
            assert!(worst <= 5 * MS, "{ppm} ppm: {worst} ns");
        }
    }

    #[test]
    fn reports_lay_streams_right_though_their_ways_differ() {
        let mut fast = stream(100, 3_600, |packet| 10 * MS + jitter(packet));
        let mut slow = stream(-100, 3_600, |packet| 70 * MS + jitter(packet + 7));
        report(&mut fast, 100, 3_600, 1_234 * SECOND_NS);
        report(&mut slow, -100, 3_600, 1_234 * SECOND_NS);
        let (placed, trouble) = place(&[&fast, &slow]);
        assert!(!trouble);
        for (placement, ppm) in placed.iter().zip([100, -100]) {
            assert_eq!(placement.method, Method::Reports);
            let worst = worst(placement, ppm, 3_600, 10 * MS);
            assert!(worst <= 5 * MS, "{ppm} ppm: {worst} ns");
        }
    }

    #[test]
    fn a_stream_of_another_clock_is_laid_by_arrival_and_told() {
        let mut one = stream(0, 60, |_| 10 * MS);
        let mut other = stream(0, 60, |_| 20 * MS);
        report(&mut one, 0, 60, 0);
        report(&mut other, 0, 60, 3 * SECOND_NS);
        let (placed, trouble) = place(&[&one, &other]);
        assert!(trouble);
        assert_eq!([placed[0].method, placed[1].method], [Method::Reports, Method::Arrival]);
        assert!(worst(&placed[1], 0, 60, 20 * MS) <= 2 * MS);
    }

    #[test]
    fn a_clock_that_is_set_in_mid_call_is_not_believed() {
        let mut observed = stream(0, 60, |_| 10 * MS);
        report(&mut observed, 0, 30, 0);
        observed.report(35 * SECOND_NS, 38 * SECOND_NS);
        let (placed, trouble) = place(&[&observed]);
        assert!(trouble);
        assert_eq!(placed[0].method, Method::Arrival);
    }

    #[test]
    fn reports_that_stop_leave_it_to_arrival() {
        let mut observed = stream(50, 600, |_| 10 * MS);
        report(&mut observed, 50, 100, 0);
        let (placed, trouble) = place(&[&observed]);
        assert!(!trouble);
        assert_eq!(placed[0].method, Method::Arrival);
        assert!(worst(&placed[0], 50, 600, 10 * MS) <= 5 * MS);
    }

    #[test]
    fn a_short_call_is_laid_by_its_fastest_packet_and_not_stretched() {
        let observed = stream(0, 5, |packet| if packet == 180 { 0 } else { 3 * MS });
        let (placed, _) = place(&[&observed]);
        assert_eq!(placed[0].axis(0), placed[0].axis(SECOND_NS) - SECOND_NS);
        assert!(placed[0].axis(0) <= MS);
    }

    #[test]
    fn extreme_times_do_no_harm() {
        let mut observed = Observed::default();
        observed.packet(i64::MAX, i64::MIN);
        observed.packet(i64::MIN, i64::MAX);
        observed.report(i64::MIN, i64::MAX);
        observed.report(i64::MAX, i64::MIN);
        let (placed, _) = place(&[&observed, &Observed::default()]);
        assert_eq!(placed.len(), 2);
        _ = placed[0].axis(0);
    }
}
