//! `cargo xtask site`: the browser application as files that any web server can serve.
//!
//! - Every file but the page and the icon carries a hash of its bytes in its name, so that it can
//!   be cached for ever. The page names them, and is written last.
//! - Each file lies there three times: as it is, as `.br` and as `.gz`.
//! - What a first visit downloads is measured, and too much of it fails the build.
//! - No download: the binding generator is a library of this very program, in the same lockfile.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use wasm_bindgen_cli_support::Bindgen;

use crate::{run, wasm};

/// The most that the module may weigh, compressed: 1 s on a 3 Mbit/s line.
const WASM_LIMIT_BYTES: usize = 350_000;

/// The most that everything else a first visit needs may weigh together, compressed.
const REST_LIMIT_BYTES: usize = 25_000;

/// Small before fast; see the root `Cargo.toml`.
const PROFILE: &str = "wasm-release";

/// Leptos then passes views between components as trait objects and not as one type the size of
/// the page, which would be compiled again for every nesting.
const FLAGS: &str = "--cfg erase_components";

/// Compiles `frontend` and writes the site to `out`.
pub fn build(root: &Path, out: &Path) -> Result<()> {
    run::run(
        wasm::cargo(root, "build")?
            .args(["-p", "frontend", "--profile", PROFILE])
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", FLAGS),
    )?;
    let module = wasm::target_dir().join(wasm::TARGET).join(PROFILE).join("frontend.wasm");
    let (wasm, glue) = bind(&module)?;

    fs::create_dir_all(out).with_context(|| format!("create {}", out.display()))?;
    let source = root.join("frontend");
    let mut site = Site { out, written: BTreeSet::new(), wasm_bytes: 0, rest_bytes: 0 };
    let wasm_name = site.hashed("app", "wasm", &wasm)?;
    let glue_name = site.hashed("app", "js", glue.as_bytes())?;
    let boot_name = site.hashed("boot", "js", &read(&source.join("boot.js"))?)?;
    let style_name = site.hashed("style", "css", &styles(&source.join("style"))?)?;
    site.write("favicon.svg", &read(&source.join("favicon.svg"))?)?;

    let page = String::from_utf8(read(&source.join("index.html"))?).context("index.html")?;
    let page = fill(
        &page,
        &[
            ("{{wasm}}", &wasm_name),
            ("{{glue}}", &glue_name),
            ("{{boot}}", &boot_name),
            ("{{style}}", &style_name),
        ],
    )?;
    site.write("index.html", page.as_bytes())?;
    site.remove_former()?;
    site.weigh()
}

/// The module as the browser takes it, and the JavaScript that joins the two.
fn bind(module: &Path) -> Result<(Vec<u8>, String)> {
    let mut output = Bindgen::new()
        .input_path(module)
        .web(true)?
        .typescript(false)
        // Without these three the module stays megabytes and names a file that is not there.
        .omit_default_module_path(true)
        .remove_name_section(true)
        .remove_producers_section(true)
        .generate_output()
        .with_context(|| format!("bind {}", module.display()))?;
    let brought = output.snippets().iter().filter(|(_, scripts)| !scripts.is_empty());
    let brought: Vec<&String> =
        brought.map(|(name, _)| name).chain(output.local_modules().keys()).collect();
    ensure!(brought.is_empty(), "JavaScript that would be a further request: {brought:?}");
    let glue = output.js().to_owned();
    Ok((output.wasm_mut().emit_wasm(), glue))
}

/// All style sheets as one, in the order of their names.
fn styles(dir: &Path) -> Result<Vec<u8>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut all = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|it| it == "css")) {
        all.extend(read(path)?);
    }
    Ok(all)
}

/// Replaces each placeholder; one that is missing would be a page that does not start.
fn fill(page: &str, names: &[(&str, &str)]) -> Result<String> {
    let mut page = page.to_owned();
    for (placeholder, name) in names {
        ensure!(page.contains(placeholder), "index.html has no {placeholder}");
        page = page.replace(placeholder, name);
    }
    ensure!(!page.contains("{{"), "index.html has a placeholder that nothing fills");
    Ok(page)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

/// The directory being written.
struct Site<'a> {
    out: &'a Path,
    written: BTreeSet<String>,
    wasm_bytes: usize,
    rest_bytes: usize,
}

impl Site<'_> {
    fn hashed(&mut self, stem: &str, extension: &str, bytes: &[u8]) -> Result<String> {
        let hash = Sha256::digest(bytes);
        let hash: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{stem}-{hash}.{extension}");
        self.write(&name, bytes)?;
        Ok(name)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let brotli = brotli(bytes)?;
        if name.ends_with(".wasm") {
            self.wasm_bytes += brotli.len();
        } else {
            self.rest_bytes += brotli.len();
        }
        println!("{name:<26} {:>9} bytes {:>9} brotli", bytes.len(), brotli.len());
        self.put(format!("{name}.br"), &brotli)?;
        self.put(format!("{name}.gz"), &gzip(bytes)?)?;
        self.put(name.to_owned(), bytes)
    }

    fn put(&mut self, name: String, bytes: &[u8]) -> Result<()> {
        let path = self.out.join(&name);
        // By renaming, so that a server that is running never serves half a file.
        let unfinished = self.out.join(format!("{name}.new"));
        fs::write(&unfinished, bytes).with_context(|| format!("write {}", path.display()))?;
        fs::rename(&unfinished, &path).with_context(|| format!("write {}", path.display()))?;
        self.written.insert(name);
        Ok(())
    }

    /// Removes what an earlier build left, and only that: `--out` may be anybody's directory.
    fn remove_former(&self) -> Result<()> {
        for entry in fs::read_dir(self.out)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_ours = ["app-", "boot-", "style-"].iter().any(|stem| name.starts_with(stem));
            if is_ours && !self.written.contains(&name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn weigh(&self) -> Result<()> {
        println!(
            "a first visit: {} bytes of wasm, {} bytes of everything else, compressed",
            self.wasm_bytes, self.rest_bytes
        );
        ensure!(self.wasm_bytes <= WASM_LIMIT_BYTES, "the module is over {WASM_LIMIT_BYTES} bytes");
        ensure!(
            self.rest_bytes <= REST_LIMIT_BYTES,
            "page, style and scripts are over {REST_LIMIT_BYTES} bytes"
        );
        Ok(())
    }
}

fn brotli(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut compressed = Vec::new();
    // Quality 11 and the largest window that every browser accepts.
    let mut writer = brotli::CompressorWriter::new(&mut compressed, 64 * 1024, 11, 22);
    writer.write_all(bytes)?;
    drop(writer);
    Ok(compressed)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes)?;
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_without_a_placeholder_is_not_built() {
        let names = [("{{glue}}", "app-1.js")];
        assert_eq!(fill("<a {{glue}} {{glue}}>", &names).unwrap(), "<a app-1.js app-1.js>");
        assert!(fill("<a>", &names).is_err());
        assert!(fill("{{glue}} {{other}}", &names).is_err());
    }

    #[test]
    fn what_is_compressed_comes_back_the_same() {
        use std::io::Read;

        let bytes: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        let mut unpacked = Vec::new();
        brotli::Decompressor::new(&*brotli(&bytes).unwrap(), 4096)
            .read_to_end(&mut unpacked)
            .unwrap();
        assert!(unpacked == bytes);
        unpacked.clear();
        flate2::read::GzDecoder::new(&*gzip(&bytes).unwrap()).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == bytes);
    }

    #[test]
    fn a_former_build_is_removed_and_other_files_stay() {
        let dir = std::env::temp_dir().join(format!("linekeeper-site-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("app-000000000000.js"), "old").unwrap();
        fs::write(dir.join("notes.txt"), "mine").unwrap();
        let mut site = Site { out: &dir, written: BTreeSet::new(), wasm_bytes: 0, rest_bytes: 0 };
        let name = site.hashed("app", "js", b"new").unwrap();
        site.remove_former().unwrap();
        assert!(dir.join(&name).exists());
        assert!(dir.join(format!("{name}.br")).exists());
        assert!(dir.join("notes.txt").exists());
        assert!(!dir.join("app-000000000000.js").exists());
        fs::remove_dir_all(&dir).unwrap();
    }
}
