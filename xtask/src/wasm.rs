//! A cargo that can compile for wasm32, also where rustup cannot add the target.
//!
//! If the active rustc has the wasm standard library (`rustup target add wasm32-unknown-unknown`)
//! it is a plain cargo. Otherwise the standard library is built from source by Debian's
//! `rustc-web`, whose version matches the source in `rust-web-src`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run;

pub const TARGET: &str = "wasm32-unknown-unknown";

/// The compiler of Debian's `rustc-web`.
const WEB_RUSTC: &str = "/usr/bin/rustc";

/// Leptos needs at least this compiler.
const OLDEST: (u32, u32) = (1, 88);

/// Whether the active compiler has the standard library for wasm.
pub fn rustc_has_target() -> bool {
    sysroot("rustc").is_ok_and(|root| root.join("lib/rustlib").join(TARGET).join("lib").exists())
}

/// Whether Debian's compiler is there with the source of its standard library.
pub fn web_rustc_is_ready() -> bool {
    sysroot(WEB_RUSTC)
        .is_ok_and(|root| root.join("lib/rustlib/src/rust/library/std/Cargo.toml").exists())
}

/// `cargo <verb> … --target wasm32-unknown-unknown`, with what it takes on this machine.
///
/// The environment is set on this one child: a leaked `RUSTC` would rebuild every host crate
/// with the other compiler.
pub fn cargo(root: &Path, verb: &str) -> Result<Command> {
    let mut command = run::cargo(root);
    command.args([verb, "--locked", "--target", TARGET]);
    command.env("CARGO_TARGET_DIR", target_dir());
    if rustc_has_target() {
        return Ok(command);
    }
    if !web_rustc_is_ready() {
        bail!(
            "no compiler for {TARGET}: run `rustup target add {TARGET}`, or install Debian's \
             rustc-web and rust-web-src"
        );
    }
    let version = version(WEB_RUSTC)?;
    if version < OLDEST {
        bail!(
            "{WEB_RUSTC} is {}.{}, at least {}.{} is needed",
            version.0,
            version.1,
            OLDEST.0,
            OLDEST.1
        );
    }
    let lld = sysroot("rustc")?.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
    command
        .env("RUSTC", WEB_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", lld)
        .arg("-Zbuild-std=std,panic_abort");
    Ok(command)
}

/// Apart from the host's: the two compilers would throw away each other's work.
pub fn target_dir() -> PathBuf {
    run::target_dir().join("web")
}

fn sysroot(rustc: &str) -> Result<PathBuf> {
    let path = run::output(Command::new(rustc).args(["--print", "sysroot"]))?;
    Ok(PathBuf::from(path.trim()))
}

fn version(rustc: &str) -> Result<(u32, u32)> {
    let text = run::output(Command::new(rustc).arg("--version"))?;
    let number = text.split_whitespace().nth(1).unwrap_or_default();
    let mut parts = number.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err(anyhow::anyhow!("{text:?}")).context("read the version of rustc"),
    }
}
