//! The two clocks of a record, read together.
//!
//! CLOCK_REALTIME is what people see and may step; CLOCK_BOOTTIME only rises, through suspend too,
//! until the machine starts again. A timeline is laid out by the second; the first is looked up.

use std::sync::OnceLock;

use model::WallTime;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub wall_ns: u64,
    pub boot_ns: u64,
}

impl Moment {
    pub fn now() -> Self {
        Self { wall_ns: read(libc::CLOCK_REALTIME), boot_ns: read(libc::CLOCK_BOOTTIME) }
    }

    pub fn wall(&self) -> WallTime {
        WallTime::from_unix_ms(i64::try_from(self.wall_ns / 1_000_000).unwrap_or(i64::MAX))
    }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the length of the call.
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(result, 0, "both clocks exist on every Linux since 2.6.39");
    // Before 1970 is 0: an unset clock must not become a time in the far future.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + time.tv_nsec as u64
}

/// Names this start of the machine; zeros where the kernel does not tell (no /proc).
pub fn boot_id() -> [u8; 16] {
    static BOOT_ID: OnceLock<[u8; 16]> = OnceLock::new();
    *BOOT_ID.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()
            .and_then(|text| uuid::Uuid::parse_str(text.trim()).ok())
            .map_or([0; 16], uuid::Uuid::into_bytes)
    })
}

#[test]
fn the_boot_clock_does_not_run_backwards() {
    let earlier = Moment::now();
    let later = Moment::now();
    assert!(later.boot_ns >= earlier.boot_ns);
    assert!(earlier.wall().unix_ms() > 1_577_836_800_000, "after 2020");
}
