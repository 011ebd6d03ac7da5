//! `cargo xtask bench`: the benchmark, built as it is shipped.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::run::{cargo, run, target_dir};
use crate::setup;

/// `arguments` go to the program `bench` as they are: `capture --calls 1000`, `soak`, `--help`.
pub fn bench(root: &Path, arguments: &[String]) -> Result<()> {
    setup::for_build()?;
    run(cargo(root).args(["build", "--locked", "--release", "-p", "bench"]))?;
    let mut command = Command::new(target_dir().join("release/bench"));
    command.current_dir(root).args(arguments);
    let says_where = arguments.iter().any(|argument| argument.starts_with("--out"));
    if matches!(arguments.first().map(String::as_str), Some("capture" | "soak")) && !says_where {
        command.args(["--out", "bench/results"]);
    }
    run(&mut command)
}
