//! `cargo xtask bench`: the benchmark, built as it is shipped.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{cargo, run, target_dir};
use crate::{failover, setup};

const PAGE: &str = "docs/reference/performance.md";
const BEGIN: &str = "<!-- begin: written by cargo xtask bench capture -->\n";
const RESULTS: &str = "bench/results";

/// `arguments` go to the program `bench` as they are: `capture --calls 1000`, `soak`, `--help`.
pub fn bench(root: &Path, arguments: &[String]) -> Result<()> {
    setup::for_build()?;
    run(cargo(root).args(["build", "--locked", "--release", "-p", "bench"]))?;
    let mut command = Command::new(target_dir().join("release/bench"));
    command.current_dir(root).args(arguments);
    let says_where = arguments.iter().any(|argument| argument.starts_with("--out"));
    if matches!(arguments.first().map(String::as_str), Some("capture" | "soak" | "media"))
        && !says_where
    {
        command.args(["--out", RESULTS]);
    }
    run(&mut command)?;
    if !says_where && arguments.first().is_some_and(|verb| verb == "capture") {
        let table = root.join(RESULTS).join("capture.md");
        let table = std::fs::read_to_string(table).context("read the table of results")?;
        failover::put_between(&root.join(PAGE), BEGIN, &table)?;
    }
    Ok(())
}
