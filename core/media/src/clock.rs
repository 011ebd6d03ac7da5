//! One time axis for a call, in nanoseconds, whatever happened to the machine meanwhile.
//!
//! Within one boot the axis is the boot clock, which never steps. A reboot starts a new boot
//! clock; the only thing that two boots have in common is the wall clock, so the axis goes on by
//! the wall time that passed between the last pair of clock readings before and the first after.

use segment::BootId;

/// Nanoseconds on the axis. Zero is the first boot's; only differences mean anything.
pub(crate) type AxisNs = i64;

/// An SRC gives up within minutes. A longer reboot is a wall clock that was set.
const LONGEST_REBOOT_NS: i64 = 3_600 * 1_000_000_000;

#[derive(Clone, Debug, Default)]
pub(crate) struct CallClock {
    boot: Option<Reading>,
    /// What is added to the boot clock.
    offset_ns: i64,
    newest: AxisNs,
}

/// Both clocks at one moment of one boot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub boot_id: BootId,
    pub wall_ns: i64,
    pub boot_ns: u64,
}

impl CallClock {
    /// Takes a pair of clock readings into account.
    pub fn read(&mut self, reading: Reading) {
        if let Some(before) = self.boot
            && before.boot_id != reading.boot_id
        {
            let passed = reading.wall_ns.saturating_sub(before.wall_ns);
            let now = self
                .at(before.boot_ns)
                .saturating_add(passed)
                .clamp(self.newest, self.newest.saturating_add(LONGEST_REBOOT_NS));
            self.offset_ns = now.saturating_sub(signed(reading.boot_ns));
        }
        self.boot = Some(reading);
        self.axis(reading.boot_ns);
    }

    /// Where a boot time of the current boot lies on the axis.
    pub fn axis(&mut self, boot_ns: u64) -> AxisNs {
        let at = self.at(boot_ns);
        self.newest = self.newest.max(at);
        at
    }

    fn at(&self, boot_ns: u64) -> AxisNs {
        signed(boot_ns).saturating_add(self.offset_ns)
    }
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn reading(boot: u8, wall_secs: i64, boot_secs: u64) -> Reading {
        let boot_ns = boot_secs * SECOND as u64;
        Reading { boot_id: [boot; 16], wall_ns: wall_secs * SECOND, boot_ns }
    }

    #[test]
    fn within_a_boot_a_step_of_the_wall_clock_changes_nothing() {
        let mut clock = CallClock::default();
        clock.read(reading(1, 1_000, 50));
        clock.read(reading(1, 9_000, 60));
        assert_eq!(clock.axis(70 * SECOND as u64), 70 * SECOND);
    }

    #[test]
    fn a_reboot_takes_the_time_that_the_wall_clock_says() {
        let mut clock = CallClock::default();
        clock.read(reading(1, 1_000, 5_000));
        clock.axis(5_010 * SECOND as u64);
        // 40 s after the last reading; the new boot clock has counted 20 s.
        clock.read(reading(2, 1_040, 20));
        assert_eq!(clock.axis(20 * SECOND as u64), 5_040 * SECOND);
        assert_eq!(clock.axis(21 * SECOND as u64), 5_041 * SECOND);
    }

    #[test]
    fn time_does_not_run_backwards_over_a_reboot_and_not_for_years() {
        let mut clock = CallClock::default();
        clock.read(reading(1, 1_000, 100));
        clock.axis(110 * SECOND as u64);
        clock.read(reading(2, 10, 3));
        assert_eq!(clock.axis(3 * SECOND as u64), 110 * SECOND);
        clock.read(reading(3, 999_999_999, 1));
        assert_eq!(clock.axis(SECOND as u64), 110 * SECOND + LONGEST_REBOOT_NS);
        let extreme = |boot_id, wall_ns| Reading { boot_id, wall_ns, boot_ns: u64::MAX };
        clock.read(extreme([4; 16], i64::MIN));
        clock.read(extreme([5; 16], i64::MAX));
    }
}
