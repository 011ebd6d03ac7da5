//! Lets a test say which fault it has injected and what came of it.
//!
//! `cargo xtask test` collects what was said and makes the table of `docs/design/failover.md` of
//! it, so that nothing stands there that no test has seen.

use std::fs::OpenOptions;
use std::io::Write;

/// Names the file for these lines; without it nothing is written.
pub const FILE_VARIABLE: &str = "LINEKEEPER_SURVIVED_FAULTS";

/// To be called at the end of a test: `fault` as the table names it, how it was `injected`, and
/// the `outcome` that the test has just asserted.
pub fn survived(fault: &str, injected: &str, outcome: &str) {
    let Some(file) = std::env::var_os(FILE_VARIABLE) else { return };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    let test = test.rsplit("::").next().unwrap_or(test);
    let line = format!("{fault}\t{injected}\t{outcome}\t{test}\n");
    // One write, because tests of several processes append to the same file.
    let opened = OpenOptions::new().create(true).append(true).open(file);
    let written = opened.and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("the list of survived faults can be written");
}
