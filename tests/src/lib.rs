//! Runs the product as its users do: starts the binary, talks SIP, RTP and HTTP to it.
//!
//! `LINEKEEPER_BIN` names the binary; without it, the one beside the test binary is taken, which
//! `cargo build -p standalone` puts there.

pub mod audio;
pub mod calls;
pub mod manager;
pub mod product;
pub mod raw_call;
pub mod sipp;
pub mod tshark;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Says that a test cannot run on this machine, and why. `cargo xtask test` counts and prints it.
pub fn skip(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
    if let Some(file) = std::env::var_os("LINEKEEPER_SKIPPED_TESTS") {
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
        let mut file = opened.expect("the list of skipped tests can be written");
        writeln!(file, "{test}: {why}").expect("the list of skipped tests can be written");
    }
}

/// Where cargo puts binaries, seen from a test binary in `deps/`.
pub fn bin_dir() -> PathBuf {
    let mut dir = std::env::current_exe().expect("a running test has a path");
    dir.pop();
    if dir.ends_with("deps") {
        dir.pop();
    }
    dir
}

/// Asks again and again until there is an answer. Panics with what was waited for.
pub fn wait_until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
