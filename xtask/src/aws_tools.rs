//! Emulators of AWS and the linter of its templates, for tests: nothing of them is shipped.
//!
//! They lie in the shared target directory, all programs in one `bin`: the packages of
//! `tests/aws/requirements.txt` in a virtual environment of Python, and dynoxide, an emulator of
//! DynamoDB, compiled by cargo. Both are pinned, and installed anew when a pin changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{self, run};

const REQUIREMENTS: &str = "tests/aws/requirements.txt";
const DYNOXIDE: &str = "3.2.0";

/// Where the programs lie.
pub fn bin() -> PathBuf {
    dir().join("bin")
}

fn dir() -> PathBuf {
    run::target_dir().join("aws-tools")
}

/// Installs them, unless they are there. Needs `python3` with its `venv`.
pub fn install(root: &Path) -> Result<()> {
    let requirements = fs::read_to_string(root.join(REQUIREMENTS)).context(REQUIREMENTS)?;
    let wanted = format!("{requirements}dynoxide {DYNOXIDE}\n");
    let installed = dir().join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|is| is == wanted) {
        return Ok(());
    }
    if dir().exists() {
        fs::remove_dir_all(dir()).context("remove the old tools")?;
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(dir()))?;
    run(Command::new(bin().join("pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"])
        .arg(root.join(REQUIREMENTS)))?;
    install_dynoxide(root)?;
    fs::write(installed, wanted).context("note what is installed")
}

fn install_dynoxide(root: &Path) -> Result<()> {
    let build = dir().join("build");
    run(run::cargo(root)
        .args(["install", "--locked", "--quiet", "--debug", "--root"])
        .arg(dir())
        // Without its import of data and its server for assistants: half the time to compile.
        .args(["--no-default-features", "--features", "native-sqlite,http-server,cli"])
        .args(["dynoxide-rs", "--version", DYNOXIDE])
        .env("CARGO_TARGET_DIR", &build)
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_DEV_DEBUG", "false"))?;
    fs::remove_dir_all(build).context("remove what compiling dynoxide left")
}
