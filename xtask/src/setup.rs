//! Installs what a verb needs and the machine lacks: Debian packages with apt-get (as root or by
//! sudo) and npm packages into the tree. On another system it says what to install.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{exists, output, run};
use crate::{aws_tools, wasm};

/// A program, and the Debian packages that bring it.
struct Need {
    program: &'static str,
    packages: &'static [&'static str],
}

const CMAKE: Need = Need { program: "cmake", packages: &["cmake"] };
const CC: Need = Need { program: "cc", packages: &["build-essential"] };
const NODE: Need = Need { program: "node", packages: &["nodejs", "npm"] };
const CHROMIUM: Need = Need { program: "chromium", packages: &["chromium", "fonts-dejavu-core"] };
const FIREFOX: Need = Need { program: "firefox-esr", packages: &["firefox-esr"] };
const SIPP: Need = Need { program: "sipp", packages: &["sip-tester"] };
const FFMPEG: Need = Need { program: "ffmpeg", packages: &["ffmpeg"] };
// What the scripts of an edge are made of.
const JQ: Need = Need { program: "jq", packages: &["jq"] };
const CURL: Need = Need { program: "curl", packages: &["curl"] };
const TSHARK: Need = Need { program: "tshark", packages: &["tshark"] };
// The plugins go with the tool: `srtpenc` is among the "bad" ones.
const GSTREAMER: Need = Need {
    program: "gst-launch-1.0",
    packages: &[
        "gstreamer1.0-tools",
        "gstreamer1.0-plugins-base",
        "gstreamer1.0-plugins-good",
        "gstreamer1.0-plugins-bad",
    ],
};

/// What compiling the workspace needs besides Rust: libopus and SQLite are built from source.
pub fn for_build() -> Result<()> {
    install(&[CC, CMAKE])
}

/// What compiling for the browser needs; nothing where rustup added the target.
pub fn for_site() -> Result<()> {
    if wasm::rustc_has_target() || wasm::web_rustc_is_ready() {
        return Ok(());
    }
    apt_install(&["rustc-web", "rust-web-src"])
}

/// What the tests need besides: two browsers, an independent SIP client, independent senders and
/// readers of media, emulators of AWS.
pub fn for_tests(root: &Path) -> Result<()> {
    install(&[NODE, CHROMIUM, FIREFOX, SIPP, FFMPEG, TSHARK, JQ, CURL, GSTREAMER])?;
    let browser = root.join("tests/browser");
    if !browser.join("node_modules/playwright-core").exists() {
        run(Command::new("npm").current_dir(&browser).args([
            "ci",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
        ]))?;
    }
    for_templates(root)
}

/// The linter of the templates of AWS, and its emulators.
pub fn for_templates(root: &Path) -> Result<()> {
    if !python_has_venv() {
        apt_install(&["python3", "python3-venv"])?;
    }
    aws_tools::install(root)
}

fn python_has_venv() -> bool {
    let import = Command::new("python3").args(["-c", "import venv, ensurepip"]).output();
    import.is_ok_and(|output| output.status.success())
}

fn install(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|need| !exists(need.program))
        .flat_map(|need| need.packages.iter().copied())
        .collect();
    if missing.is_empty() { Ok(()) } else { apt_install(&missing) }
}

fn apt_install(packages: &[&str]) -> Result<()> {
    if !exists("apt-get") {
        bail!("missing on this machine: {}. Install them and run again.", packages.join(", "));
    }
    // `apt-get update` first: a fresh machine has no package lists, or old ones.
    run(apt_get().args(["update", "-qq"]))?;
    run(apt_get().args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
}

fn apt_get() -> Command {
    let is_root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    let mut command = if is_root {
        Command::new("apt-get")
    } else {
        let mut command = Command::new("sudo");
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}
