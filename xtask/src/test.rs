//! `cargo xtask test`: every test, on any machine.
//!
//! The tests of the product from outside need the built binary, the built site and independent
//! peers (SIPp, ffmpeg, Chromium), the half for AWS needs emulators; all are set up first. A test
//! that cannot run here says why in a file that this verb reads, so that it counts as skipped and is
//! printed, never as passed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::{aws_tools, failover, package, run, setup, site, templates};

#[derive(Default)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

pub fn test(root: &Path, filter: Option<&str>) -> Result<()> {
    setup::for_build()?;
    setup::for_site()?;
    setup::for_tests(root)?;
    site::build(root, &run::site_dir(root))?;
    run::build_linekeeper(root)?;

    let skipped_file = run::target_dir().join("skipped-tests.txt");
    if skipped_file.exists() {
        fs::remove_file(&skipped_file).context("remove the list of skipped tests")?;
    }
    let survived_file = failover::empty_list()?;
    let mut command = run::cargo(root);
    command
        .args(["test", "--locked", "--workspace", "--no-fail-fast"])
        .env("LINEKEEPER_BIN", run::linekeeper())
        .env("LINEKEEPER_TEST_SITE", run::site_dir(root))
        .env("LINEKEEPER_AWS_TOOLS", aws_tools::bin())
        .env("LINEKEEPER_SKIPPED_TESTS", &skipped_file)
        .env("LINEKEEPER_SURVIVED_FAULTS", &survived_file)
        .stdout(Stdio::piped());
    if let Some(filter) = filter {
        command.arg("--").arg(filter);
    }
    let mut child = command.spawn().context("start cargo test")?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).lines() {
        let line = line.context("read what cargo test prints")?;
        println!("{line}");
        counts.add(&line);
    }
    let status = child.wait().context("wait for cargo test")?;
    if filter.is_none() {
        package::check_glibc(package::programs_in(&run::target_dir().join("debug")))?;
        for line in templates::deploy_on_emulators(root)?.lines() {
            println!("{line}");
            counts.add(line);
        }
    }

    let skipped = fs::read_to_string(&skipped_file).unwrap_or_default();
    let skipped: Vec<&str> = skipped.lines().collect();
    for line in &skipped {
        println!("skipped: {line}");
    }
    // Said before the counts, which stand last; tests that failed are the first thing to mend.
    let faults = match filter {
        None => failover::check(root, &skipped.join("\n")),
        Some(_) => Ok(()),
    };
    // A skipped test returned early, so the runner counted it as passed.
    let skipped = skipped.len() as u64;
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed.saturating_sub(skipped),
        counts.failed,
        skipped + counts.ignored
    );
    if !status.success() || counts.failed > 0 {
        bail!("tests failed");
    }
    if counts.passed == 0 {
        bail!("no test ran");
    }
    faults
}

impl Counts {
    /// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) =
            line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[test]
fn the_counts_of_several_binaries_are_added() {
    let mut counts = Counts::default();
    counts.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
    counts.add("test some::test ... ok");
    counts.add("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured");
    assert_eq!((counts.passed, counts.failed, counts.ignored), (15, 2, 1));
}
