//! The templates in `infra/`: linted and held to rules, deployed on emulators of AWS, and run there.
//!
//! What is checked is in Python, in `tests/aws`, because linter and emulators are.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::aws_tools;
use crate::run::{self, run};

/// cfn-lint, and what the templates must be besides (`tests/aws/rules.py`).
pub fn check(root: &Path) -> Result<()> {
    run(&mut python(root, "check_templates.py"))
}

/// The edge on moto; data, app and alarms on ministack, and there the programs themselves, which must
/// be built. Gives what it found, as cargo's tests do; details are on stderr.
pub fn deploy_on_emulators(root: &Path) -> Result<String> {
    let found = python(root, "check_deployment.py")
        .env("LINEKEEPER_BINARIES", run::target_dir().join("debug"))
        .stderr(Stdio::inherit())
        .output();
    let found = found.context("start the deployment on emulators")?;
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    if !text.contains("test result: ") {
        bail!("the deployment on emulators ended with {} and no result", found.status);
    }
    Ok(text)
}

fn python(root: &Path, file: &str) -> Command {
    let mut command = Command::new(aws_tools::bin().join("python"));
    // Python would leave its compiled files between the sources.
    command.arg("-B").arg(root.join("tests/aws").join(file));
    command
}
