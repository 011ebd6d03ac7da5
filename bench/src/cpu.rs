//! CPU time, to the nanosecond: of this thread, and of another process.
//!
//! The clocks of the scheduler, not the ticks of `/proc/PID/stat`, which are 10 ms.

use std::io;
use std::time::Duration;

/// What this thread has used so far.
pub fn of_this_thread() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID).expect("every thread has a CPU clock")
}

/// What a process, all its threads together, has used so far.
pub fn of_process(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is valid for the length of the call.
    let error = unsafe { libc::clock_getcpuclockid(pid, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    read(clock)
}

fn read(clock: libc::clockid_t) -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the length of the call.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// A line of `/proc/PID/status` or of `/proc/meminfo`, in bytes.
pub fn kib_line(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Descriptors that a process has open.
pub fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

#[test]
fn work_is_counted_to_the_thread_and_the_process_that_did_it() {
    let (thread, process) = (of_this_thread(), of_process(std::process::id()).unwrap());
    let mut sum = 0_u64;
    while of_this_thread() - thread < Duration::from_millis(20) {
        sum = std::hint::black_box(sum.wrapping_add(1));
    }
    assert!(of_process(std::process::id()).unwrap() - process >= Duration::from_millis(20));
}

#[test]
fn this_process_has_memory_and_descriptors() {
    assert!(kib_line("/proc/self/status", "VmRSS").unwrap() > 1 << 20);
    assert!(kib_line("/proc/meminfo", "Slab").unwrap() > 0);
    assert!(descriptors(std::process::id()).unwrap() >= 3);
}
