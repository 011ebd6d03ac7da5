//! `cargo xtask check`: what a machine can hold true about the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, output, run};
use crate::{setup, templates, wasm};

pub fn check(root: &Path) -> Result<()> {
    setup::for_build()?;
    run(cargo(root).args(["fmt", "--all", "--check"]))?;
    links(root)?;
    module_edges(root)?;
    who_depends_on_whom(root)?;
    no_aws_in_standalone(root)?;
    licences(root)?;
    setup::for_templates(root)?;
    templates::check(root)?;
    run(cargo(root).args(["clippy", "--locked", "--workspace"]).args([
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))?;
    setup::for_site()?;
    // The vocabulary and the protocol must stay free of IO: the browser's compiler proves it.
    run(wasm::cargo(root, "check")?.args(["-p", "model", "-p", "siprec"]))?;
    println!(
        "check: formatting, edges, dependencies, licences, templates, lints and wasm builds are in order"
    );
    Ok(())
}

/// What each half of the recorder is made of.
const RECORDING: [&str; 3] = ["signaling", "session", "capture"];
const DELIVERING: [&str; 2] = ["upload", "announce"];

/// The recording and the delivering half of `edge-recorder` meet only at the journal: no file of
/// one may name a module of the other.
fn module_edges(root: &Path) -> Result<()> {
    let src = root.join("edge-recorder/src");
    let mut broken = Vec::new();
    let mut seen = BTreeSet::new();
    for path in rust_files(&src)? {
        let relative = path.strip_prefix(&src).expect("listed below src");
        let module = relative
            .iter()
            .next()
            .map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned())
            .unwrap_or_default();
        let forbidden: &[&str] = if RECORDING.contains(&module.as_str()) {
            &DELIVERING
        } else if DELIVERING.contains(&module.as_str()) {
            &RECORDING
        } else if module == "journal" {
            &["signaling", "session", "capture", "upload", "announce"]
        } else {
            continue;
        };
        seen.insert(module);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let named = modules_named(&text);
        for name in forbidden.iter().filter(|name| named.contains(**name)) {
            broken.push(format!("{} names {name}", path.display()));
        }
    }
    // A renamed module must not turn the check off.
    for module in RECORDING.iter().chain(&DELIVERING).chain(&["journal"]) {
        if !seen.contains(*module) {
            bail!("edge-recorder has no module {module}: the check of its halves needs changing");
        }
    }
    if !broken.is_empty() {
        bail!("halves of edge-recorder that may meet only at the journal:\n{}", broken.join("\n"));
    }
    Ok(())
}

/// The modules of its own crate that a file names: `crate::a`, `super::a`, `crate::{a, b::c}`.
fn modules_named(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .flat_map(|line| line.split("//").next().unwrap_or_default().chars())
        .filter(|c| !c.is_whitespace())
        .collect();
    let mut named = BTreeSet::new();
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let rest = &code[at + root.len()..];
            match rest.strip_prefix('{') {
                Some(group) => named.extend(heads_of_group(group)),
                None => named.extend(head_of_path(rest)),
            }
        }
    }
    named
}

/// The first segment of each path of `a::b,c::{d,e},f}`, up to the brace that closes it.
fn heads_of_group(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut begins = true;
    for (at, c) in group.char_indices() {
        if begins {
            heads.extend(head_of_path(&group[at..]));
        }
        begins = c == ',' && depth == 0;
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
    }
    heads
}

fn head_of_path(path: &str) -> Option<String> {
    let head: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!head.is_empty()).then_some(head)
}

/// Which of the workspace's crates each crate may use (`ARCHITECTURE.md`).
const MAY_USE: [(&str, &[&str]); 12] = [
    ("model", &[]),
    ("siprec", &[]),
    ("segment", &["model"]),
    ("caller", &["siprec"]),
    ("media", &["model", "segment", "siprec"]),
    ("storage-ports", &["model"]),
    ("storage-embedded", &["model", "storage-ports"]),
    ("storage-aws", &["model", "storage-ports"]),
    // `storage-aws` for their binaries only, behind a feature.
    ("edge-recorder", &["model", "segment", "siprec", "storage-aws", "storage-ports"]),
    ("lambdas", &["media", "model", "segment", "storage-aws", "storage-ports"]),
    ("frontend", &["model"]),
    (
        "standalone",
        &[
            "caller",
            "edge-recorder",
            "lambdas",
            "media",
            "model",
            "segment",
            "storage-embedded",
            "storage-ports",
        ],
    ),
];

/// Crates that must stay usable without an async runtime.
const WITHOUT_RUNTIME: [&str; 4] = ["model", "siprec", "segment", "media"];

fn who_depends_on_whom(root: &Path) -> Result<()> {
    let metadata = output(
        cargo(root).args(["metadata", "--locked", "--no-deps"]).args(["--format-version", "1"]),
    )?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cargo metadata")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let ours: BTreeSet<&str> =
        packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut broken = Vec::new();
    for (name, may_use) in MAY_USE {
        let package =
            packages.iter().find(|package| package["name"] == name).with_context(|| {
                format!("no crate {name}: the check of dependencies needs changing")
            })?;
        // `kind` is null for what the crate itself uses, not its tests.
        let uses = package["dependencies"].as_array().into_iter().flatten();
        for used in uses.filter(|used| used["kind"].is_null()) {
            let used = used["name"].as_str().unwrap_or_default();
            let runtime = used == "tokio" && WITHOUT_RUNTIME.contains(&name);
            if runtime || (ours.contains(used) && !may_use.contains(&used)) {
                broken.push(format!("{name} uses {used}"));
            }
        }
    }
    if !broken.is_empty() {
        bail!("crates that ARCHITECTURE.md keeps apart:\n{}", broken.join("\n"));
    }
    Ok(())
}

/// Every link from one page to another, or to a file, leads somewhere.
fn links(root: &Path) -> Result<()> {
    let pages = output(Command::new("git").current_dir(root).args(["ls-files", "*.md"]))?;
    let mut broken = Vec::new();
    for page in pages.lines() {
        let path = root.join(page);
        let text = fs::read_to_string(&path).with_context(|| page.to_owned())?;
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains("://");
            if !elsewhere && !path.with_file_name(file).exists() {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    if !broken.is_empty() {
        bail!("links that lead nowhere:\n{}", broken.join("\n"));
    }
    Ok(())
}

fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The one-machine build compiles no AWS SDK. Asked for the package alone, because a workspace
/// build unifies features.
fn no_aws_in_standalone(root: &Path) -> Result<()> {
    let tree = output(
        cargo(root)
            .args(["tree", "--locked", "-p", "standalone"])
            .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"]),
    )?;
    let aws: Vec<&str> = tree
        .lines()
        .filter(|line| line.starts_with("aws-sdk") || line.starts_with("aws-config"))
        .collect();
    if !aws.is_empty() {
        bail!("standalone depends on an AWS SDK: {}", aws.join(", "));
    }
    Ok(())
}

/// Every licence of what is shipped is one that `deny.toml` allows, and no banned crate is used.
fn licences(root: &Path) -> Result<()> {
    let deny = fs::read_to_string(root.join("deny.toml")).context("read deny.toml")?;
    let deny: toml::Table = toml::from_str(&deny).context("deny.toml")?;
    let allowed = strings(&deny["licenses"]["allow"]);
    let banned: BTreeSet<&str> = tables(&deny["bans"]["deny"])
        .filter_map(|entry| entry.get("crate").and_then(toml::Value::as_str))
        .collect();
    let tree =
        output(cargo(root).args(["tree", "--locked", "--workspace", "--target", "all"]).args([
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}|{l}",
        ]))?;
    let mut refused = BTreeSet::new();
    for line in tree.lines() {
        let Some((package, licence)) = line.trim_end_matches(" (*)").split_once('|') else {
            continue;
        };
        let name = package.split(' ').next().unwrap_or_default();
        let clarified = tables(&deny["licenses"]["clarify"])
            .find(|entry| entry.get("crate").and_then(toml::Value::as_str) == Some(name))
            .and_then(|entry| entry.get("expression").and_then(toml::Value::as_str));
        let licence = clarified.unwrap_or(licence);
        if banned.contains(name) || !is_allowed(licence, &allowed) {
            refused.insert(format!("{package}: {licence:?}"));
        }
    }
    if !refused.is_empty() {
        let refused: Vec<String> = refused.into_iter().collect();
        bail!("dependencies that deny.toml does not allow:\n{}", refused.join("\n"));
    }
    Ok(())
}

fn strings(value: &toml::Value) -> BTreeSet<&str> {
    value.as_array().into_iter().flatten().filter_map(toml::Value::as_str).collect()
}

fn tables(value: &toml::Value) -> impl Iterator<Item = &toml::Table> {
    value.as_array().into_iter().flatten().filter_map(toml::Value::as_table)
}

/// An SPDX expression of `OR` and `AND` without nesting deeper than one pair of parentheses,
/// which is all that crates use; `/` is the old spelling of `OR`.
fn is_allowed(licence: &str, allowed: &BTreeSet<&str>) -> bool {
    let licence = licence.replace('/', " OR ");
    if licence.trim().is_empty() {
        return false;
    }
    let one_of = |choice: &str| {
        choice.split(" OR ").any(|name| allowed.contains(name.trim_matches([' ', '(', ')'])))
    };
    if licence.contains('(') {
        // (A OR B) AND C: every factor needs an allowed choice.
        return licence.split(" AND ").all(one_of);
    }
    licence
        .split(" OR ")
        .any(|choice| choice.split(" AND ").all(|name| allowed.contains(name.trim())))
}

#[test]
fn a_choice_needs_one_allowed_licence_and_a_sum_needs_all() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0", "ISC"]);
    for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "ISC AND MIT", "(MIT OR X) AND ISC"] {
        assert!(is_allowed(good, &allowed), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(X OR Y) AND MIT"] {
        assert!(!is_allowed(bad, &allowed), "{bad}");
    }
}

#[test]
fn a_module_is_seen_however_it_is_named() {
    let named = modules_named(
        "use crate::upload::Cut; // crate::capture\nuse crate::{\n    announce,\n    \
         journal::{reader, session},\n};\nfn f() { super::health::ok() }",
    );
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    assert_eq!(named, ["announce", "health", "journal", "upload"]);
}
