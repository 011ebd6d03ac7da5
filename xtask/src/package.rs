//! `cargo xtask package`: a release as it is deployed, the same bytes wherever it is made from the
//! same sources by the same compiler.
//!
//! ```text
//! functions/NAME.zip            `bootstrap`, for each function of Lambda
//! edge/linekeeper-edge.tar.gz   edge-recorder, linekeeper, and what edge-recorder/dist has
//! site/                         the browser application
//! SHA256SUMS                    of all of them
//! ```
//!
//! Paths of this machine are kept out of the programs, and times out of the archives. What a program needs of
//! glibc is read from it: Lambda and Amazon Linux 2023 have 2.34, the machine that builds may have a later one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::run::{self, output, run};
use crate::{setup, site};

/// The functions, by the names that `infra/app.yaml` gives their bundles.
const FUNCTIONS: &[&str] = &["indexer", "finalizer", "reaper", "retention", "api", "setup"];
/// What runs on an edge.
const EDGE_PROGRAMS: &[&str] = &["edge-recorder", "linekeeper"];
const EDGE_FILES: &str = "edge-recorder/dist";
/// Of Amazon Linux 2023.
const GLIBC: (u32, u32) = (2, 34);
/// A larger bundle starts later, and tells that something came in that nobody wanted.
const MAX_FUNCTION_BYTES: u64 = 12 << 20;

pub fn package(root: &Path, out: &Path) -> Result<()> {
    setup::for_build()?;
    setup::for_site()?;
    let programs = build(root)?;
    check_glibc(programs_in(&programs))?;
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("empty {}", out.display()))?;
    }
    for dir in ["functions", "edge"] {
        fs::create_dir_all(out.join(dir)).context("make the directory of the release")?;
    }
    for function in FUNCTIONS {
        let bundle = bundle(&fs::read(programs.join(function)).context(*function)?)?;
        if bundle.len() as u64 > MAX_FUNCTION_BYTES {
            bail!("{function}.zip has {} bytes: at most {MAX_FUNCTION_BYTES}", bundle.len());
        }
        fs::write(out.join(format!("functions/{function}.zip")), bundle)?;
    }
    pack_edge(root, &programs, &out.join("edge/linekeeper-edge.tar.gz"))?;
    site::build(root, &out.join("site"))?;
    let sums = sums(out)?;
    fs::write(out.join("SHA256SUMS"), &sums).context("write SHA256SUMS")?;
    println!("{sums}a release in {}", out.display());
    Ok(())
}

/// Compiles the programs, without a trace of where.
fn build(root: &Path) -> Result<PathBuf> {
    let target = run::target_dir().join("package");
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let places = [(root, "."), (home.as_path(), "cargo"), (target.as_path(), "target")];
    let rust = places.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    let c = places.map(|(from, to)| format!("-ffile-prefix-map={}={to}", from.display()));
    run(run::cargo(root)
        .args(["build", "--release", "--locked"])
        .args(["-p", "lambdas", "-p", "edge-recorder", "-p", "standalone"])
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_ENCODED_RUSTFLAGS", rust.join("\x1f"))
        .env("CFLAGS", c.join(" "))
        .env("CXXFLAGS", c.join(" "))
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols"))?;
    Ok(target.join("release"))
}

/// Everything of a release that is compiled for a machine of AWS.
pub fn programs_in(dir: &Path) -> impl Iterator<Item = PathBuf> + use<'_> {
    FUNCTIONS.iter().chain(EDGE_PROGRAMS).map(|name| dir.join(name))
}

/// Refuses programs that would not start on Amazon Linux 2023.
pub fn check_glibc(programs: impl Iterator<Item = PathBuf>) -> Result<()> {
    let mut wrong = Vec::new();
    for program in programs {
        let shown = program.display();
        let versions =
            output(Command::new("readelf").args(["--version-info", "--wide"]).arg(&program))?;
        match newest_glibc(&versions) {
            None => bail!("{shown}: readelf tells of no glibc"),
            Some((major, minor)) if (major, minor) > GLIBC => {
                wrong.push(format!("{shown} needs glibc {major}.{minor}"));
            }
            Some(_) => {}
        }
    }
    if !wrong.is_empty() {
        bail!("Amazon Linux 2023 has glibc {}.{}: {}", GLIBC.0, GLIBC.1, wrong.join(", "));
    }
    Ok(())
}

/// The newest version that readelf names.
fn newest_glibc(text: &str) -> Option<(u32, u32)> {
    let named = text.split("GLIBC_").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let mut parts = rest[..end].split('.').map(str::parse);
        Some((parts.next()?.ok()?, parts.next()?.ok()?))
    });
    named.max()
}

/// A zip with the program as `bootstrap`, as Lambda wants it.
fn bundle(program: &[u8]) -> Result<Vec<u8>> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o755);
    zip.start_file("bootstrap", options).context("begin a bundle")?;
    zip.write_all(program).context("write a bundle")?;
    Ok(zip.finish().context("end a bundle")?.into_inner())
}

fn pack_edge(root: &Path, programs: &Path, out: &Path) -> Result<()> {
    // What is left here of another time would go with it.
    let files = programs.join("edge-files");
    if files.exists() {
        fs::remove_dir_all(&files).context("remove what was packed before")?;
    }
    fs::create_dir(&files).context("make a directory to pack")?;
    for name in EDGE_PROGRAMS {
        fs::copy(programs.join(name), files.join(name)).context(*name)?;
    }
    for entry in fs::read_dir(root.join(EDGE_FILES)).context(EDGE_FILES)? {
        let entry = entry.context(EDGE_FILES)?;
        fs::copy(entry.path(), files.join(entry.file_name())).context(EDGE_FILES)?;
    }
    let tar = out.with_extension("");
    run(Command::new("tar")
        .args(["--create", "--sort=name", "--format=ustar", "--mtime=@0"])
        .args(["--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"])
        .arg("--file")
        .arg(&tar)
        .arg("--directory")
        .arg(&files)
        .arg("."))?;
    // Without the time and the name that gzip would keep.
    run(Command::new("gzip").args(["--force", "--no-name", "--best"]).arg(&tar))
}

/// SHA-256 of every file below `dir`, in order of path, as `sha256sum` writes them.
fn sums(dir: &Path) -> Result<String> {
    let mut paths = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() { dirs.push(path) } else { paths.push(path) }
        }
    }
    paths.sort();
    let mut text = String::new();
    for path in paths {
        let hash = Sha256::digest(fs::read(&path).with_context(|| path.display().to_string())?);
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = path.strip_prefix(dir).expect("it was found there");
        text += &format!("{hash}  {}\n", name.display());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_newest_glibc_is_found_by_number_and_not_by_letter() {
        let text = "0x0010: Name: GLIBC_2.9  Flags: none\n Name: GLIBC_2.34 \n Name: GLIBC_2.2.5\n";
        assert_eq!(newest_glibc(text), Some((2, 34)));
        assert_eq!(newest_glibc("Name: GCC_3.0"), None);
    }

    #[test]
    fn a_bundle_is_the_same_each_time_and_holds_a_bootstrap_that_may_run() {
        let made = bundle(b"program").unwrap();
        assert_eq!(made, bundle(b"program").unwrap());
        let mut zip = zip::ZipArchive::new(std::io::Cursor::new(made)).unwrap();
        let entry = zip.by_name("bootstrap").unwrap();
        assert_eq!(entry.unix_mode().map(|mode| mode & 0o777), Some(0o755));
    }

    /// Template, sources and release name the same programs and files.
    #[test]
    fn what_the_templates_install_is_what_is_packed() {
        let root = run::root();
        let app = fs::read_to_string(root.join("infra/app.yaml")).unwrap();
        let bundles: BTreeSet<_> = app
            .split("/functions/")
            .skip(1)
            .filter_map(|rest| rest.split_once(".zip").map(|(name, _)| name))
            .collect();
        assert_eq!(bundles, FUNCTIONS.iter().copied().collect());
        for function in FUNCTIONS {
            assert!(root.join(format!("lambdas/src/bin/{function}.rs")).exists(), "{function}");
        }
        let edge = fs::read_to_string(root.join("infra/edge.yaml")).unwrap();
        let install = edge.lines().find(|line| line.contains("install -m 0755 edge-recorder"));
        let installed = install.unwrap().split_whitespace().skip(3);
        let installed = installed.filter(|word| !word.starts_with('/'));
        for name in installed {
            let is_packed =
                EDGE_PROGRAMS.contains(&name) || root.join(EDGE_FILES).join(name).exists();
            assert!(is_packed, "{name}");
        }
        let enabled = edge.lines().find(|line| line.contains("systemctl enable --now"));
        for unit in enabled.unwrap().split_whitespace().skip(3) {
            let made_there = format!("every {}", unit.trim_end_matches(".timer"));
            let is_there = root.join(EDGE_FILES).join(unit).exists() || edge.contains(&made_there);
            assert!(is_there, "{unit}");
        }
    }
}
