//! Lays the kernel's stamps, which are of the wall clock, onto the boot clock.
//!
//! The two clocks are compared at every visit. Between two visits the wall clock may have been
//! stepped, by an hour even; then a packet may carry a stamp of before the step or of after it.
//! Which one is told by where each would put the packet: only one of them is possible.

use std::time::Duration;

use crate::journal::Moment;

/// Packets come while a visit goes on, so a stamp may be later than its begin.
const LONGEST_VISIT_NS: i128 = 1_000_000_000;

/// A change of the wall clock against the boot clock, from one visit to the next, that is a step
/// and not the slow correction of a clock that runs wrong (0.05 % at most, adjtimex(2)).
const STEP_NS: i128 = 5_000_000;

/// How long packets with stamps of before a step may still be found in sockets.
const REMEMBERED: Duration = Duration::from_secs(30);

/// Both clocks at this visit, and at the one before a step.
#[derive(Debug)]
pub struct Stamps {
    now: Moment,
    stepped: Option<Step>,
}

#[derive(Debug)]
struct Step {
    /// The last visit before it.
    before: Moment,
    seen_boot_ns: u64,
}

/// How far the wall clock is ahead.
fn ahead_ns(clocks: Moment) -> i128 {
    i128::from(clocks.wall_ns) - i128::from(clocks.boot_ns)
}

impl Default for Stamps {
    fn default() -> Self {
        Self { now: read_clocks(), stepped: None }
    }
}

impl Stamps {
    /// A visit begins.
    pub fn visit(&mut self) {
        self.visit_at(read_clocks());
    }

    fn visit_at(&mut self, now: Moment) {
        let before = std::mem::replace(&mut self.now, now);
        let step_ns = ahead_ns(now) - ahead_ns(before);
        if step_ns.abs() > STEP_NS {
            tracing::warn!(step_ms = (step_ns / 1_000_000) as i64, "the wall clock was stepped");
            self.stepped = Some(Step { before, seen_boot_ns: now.boot_ns });
        }
        let old = REMEMBERED.as_nanos() as u64;
        if self.stepped.as_ref().is_some_and(|step| now.boot_ns - step.seen_boot_ns > old) {
            self.stepped = None;
        }
    }

    /// When a packet with this stamp arrived; without a stamp, now.
    pub fn boot_ns(&self, wall_ns: Option<u64>) -> u64 {
        let Some(wall_ns) = wall_ns.map(i128::from) else { return self.now.boot_ns };
        let latest = i128::from(self.now.boot_ns) + LONGEST_VISIT_NS;
        let mut at = wall_ns - ahead_ns(self.now);
        if let Some(step) = &self.stepped {
            // A stamp of after the step cannot lie before the last visit that was before it.
            let is_possible = at >= i128::from(step.before.boot_ns) && at <= latest;
            if !is_possible {
                at = wall_ns - ahead_ns(step.before);
            }
        }
        if at > latest { self.now.boot_ns } else { u64::try_from(at).unwrap_or(0) }
    }
}

/// Both clocks, read so close together that they are of one moment.
///
/// On a busy machine this thread may lose its processor between the two readings, which would
/// shift a whole visit's packets by as much. A few tries find two readings without that.
fn read_clocks() -> Moment {
    const CLOSE_ENOUGH_NS: u64 = 20_000;
    const TRIES: usize = 5;
    let mut best: Option<(u64, Moment)> = None;
    for _ in 0..TRIES {
        let before = Moment::now();
        let moment = Moment::now();
        let apart_ns = moment.boot_ns.saturating_sub(before.boot_ns);
        if best.is_none_or(|(least_ns, _)| apart_ns < least_ns) {
            best = Some((apart_ns, moment));
        }
        if apart_ns < CLOSE_ENOUGH_NS {
            break;
        }
    }
    best.map_or_else(Moment::now, |(_, moment)| moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const HOUR: u64 = 3_600_000 * MS;

    fn at(wall_ns: u64, boot_ns: u64) -> Moment {
        Moment { wall_ns, boot_ns }
    }

    #[test]
    fn a_stamp_becomes_boot_time_by_its_distance_from_now() {
        let stamps = Stamps { now: at(50_000 * MS, 9_000 * MS), stepped: None };
        assert_eq!(stamps.boot_ns(Some(49_900 * MS)), 8_900 * MS);
        assert_eq!(stamps.boot_ns(Some(50_001 * MS)), 9_001 * MS);
        assert_eq!(stamps.boot_ns(Some(90_000 * MS)), 9_000 * MS, "nothing comes from the future");
        assert_eq!(stamps.boot_ns(Some(0)), 0);
        assert_eq!(stamps.boot_ns(None), 9_000 * MS);
    }

    #[test]
    fn a_step_of_an_hour_shifts_no_packet_on_either_side_of_it() {
        for (forward, wall) in [(true, 10 * HOUR), (false, 10 * HOUR)] {
            let stepped = if forward { wall + HOUR } else { wall - HOUR };
            let mut stamps = Stamps { now: at(wall, 9_000 * MS), stepped: None };
            // The step came 40 ms after the last visit.
            stamps.visit_at(at(stepped + 100 * MS, 9_100 * MS));
            for (stamp, boot_ns) in [
                (wall + 10 * MS, 9_010 * MS),
                (wall - 3_000 * MS, 6_000 * MS),
                (stepped + 60 * MS, 9_060 * MS),
                (stepped + 101 * MS, 9_101 * MS),
            ] {
                assert_eq!(stamps.boot_ns(Some(stamp)), boot_ns, "forward: {forward}");
            }
            // What waited in a socket meanwhile.
            stamps.visit_at(at(stepped + 200 * MS, 9_200 * MS));
            assert_eq!(stamps.boot_ns(Some(wall + 30 * MS)), 9_030 * MS);
            assert_eq!(stamps.boot_ns(Some(stepped + 150 * MS)), 9_150 * MS);
        }
        storage_ports::survived::survived(
            "wall clock stepped by an hour, forward and back",
            "packets stamped before and after the step are read in the visit after it and later",
            "every packet is where it was said, to the nanosecond",
        );
    }

    #[test]
    fn a_clock_that_is_corrected_slowly_was_not_stepped() {
        let mut stamps = Stamps { now: at(50_000 * MS, 9_000 * MS), stepped: None };
        stamps.visit_at(at(50_101 * MS, 9_100 * MS));
        assert!(stamps.stepped.is_none());
    }
}
