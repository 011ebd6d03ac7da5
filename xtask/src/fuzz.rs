//! `cargo xtask fuzz`: every fuzz target of every crate, one after the other.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{exists, output, run};

/// Where fuzz crates lie.
const FUZZED: [&str; 4] = ["core/siprec", "core/segment", "core/media", "edge-recorder"];

pub fn fuzz(root: &Path, secs: u64) -> Result<()> {
    if !exists("cargo-fuzz") {
        run(Command::new("cargo").args(["install", "--locked", "cargo-fuzz"]))?;
    }
    let mut ran = 0;
    for dir in FUZZED {
        let dir = root.join(dir);
        if !dir.join("fuzz/Cargo.toml").exists() {
            bail!("{} has no fuzz crate", dir.display());
        }
        let targets = output(cargo_fuzz(&dir).arg("list"))?;
        for target in targets.lines() {
            let limit = format!("-max_total_time={secs}");
            // What is found goes into the first directory; the second is committed.
            let found = format!("fuzz/corpus/{target}");
            let seeds = format!("fuzz/seeds/{target}");
            std::fs::create_dir_all(dir.join(&found)).context("make a directory for a corpus")?;
            let mut command = cargo_fuzz(&dir);
            command.args(["run", target, &found]);
            if dir.join(&seeds).is_dir() {
                command.arg(&seeds);
            }
            run(command.args(["--", &limit, "-rss_limit_mb=2048"]))?;
            ran += 1;
        }
    }
    println!("{ran} fuzz targets ran for {secs} s each without a crash");
    Ok(())
}

fn cargo_fuzz(dir: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz"]).current_dir(dir);
    command
}
