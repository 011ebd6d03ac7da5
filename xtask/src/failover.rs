//! The table of `docs/design/failover.md`: which faults a run of the tests has injected, and what
//! came of each.
//!
//! Tests say so in a file (`storage_ports::survived`). `cargo xtask test` holds the page to it: a
//! fault that stands there and that no test has survived fails the run. `cargo xtask failover`
//! writes the table anew from the last run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run;

const PAGE: &str = "docs/design/failover.md";
const BEGIN: &str = "<!-- begin: written by cargo xtask failover -->\n";
const END: &str = "<!-- end -->\n";

/// One fault, as the tests told it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Survived {
    injected: String,
    outcome: String,
    test: String,
}

fn list() -> PathBuf {
    run::target_dir().join("survived-faults.txt")
}

/// Where tests may append what they survive; empty now.
pub fn empty_list() -> Result<PathBuf> {
    let list = list();
    fs::create_dir_all(run::target_dir()).context("make the target directory")?;
    fs::write(&list, "").context("empty the list of survived faults")?;
    Ok(list)
}

/// Fails when the page promises what this run has not shown, or lacks what it has. A test that was
/// skipped on this machine shows nothing and is no reason to fail.
pub fn check(root: &Path, skipped: &str) -> Result<()> {
    let found = parse(&fs::read_to_string(list()).context("read the list of survived faults")?);
    let promised = parse_table(&page(root)?);
    let mut wrong = Vec::new();
    for (fault, test) in &promised {
        if !found.contains_key(fault) && !skipped.contains(test.as_str()) {
            wrong.push(format!("no test has survived {fault:?}, of which {test} should have told"));
        }
    }
    for fault in found.keys().filter(|fault| !promised.contains_key(*fault)) {
        wrong.push(format!("{fault:?} is missing"));
    }
    if !wrong.is_empty() {
        bail!("{PAGE} is not what the tests show (cargo xtask failover): {}", wrong.join("; "));
    }
    println!("failover: {} faults injected and survived, as {PAGE} says", found.len());
    Ok(())
}

/// Puts the results of the last run into the page.
pub fn write(root: &Path) -> Result<()> {
    let text = fs::read_to_string(list()).context("run `cargo xtask test` first")?;
    let found = parse(&text);
    if found.is_empty() {
        bail!("the last run of the tests tells of no fault: run `cargo xtask test` first");
    }
    put_between(&root.join(PAGE), BEGIN, &table(&found))
}

/// Replaces what stands in a page between the line `begin` and the end mark.
pub fn put_between(page: &Path, begin: &str, table: &str) -> Result<()> {
    let name = page.display();
    let text = fs::read_to_string(page).with_context(|| format!("read {name}"))?;
    let (head, rest) = text.split_once(begin).context("the page has a mark where it begins")?;
    let (_, tail) = rest.split_once(END).context("the page has a mark where it ends")?;
    let text = format!("{head}{begin}{table}{END}{tail}");
    fs::write(page, text).with_context(|| format!("write {name}"))
}

fn page(root: &Path) -> Result<String> {
    fs::read_to_string(root.join(PAGE)).with_context(|| format!("read {PAGE}"))
}

/// By fault. Tests that try many cases tell of each; the last one counts.
fn parse(list: &str) -> BTreeMap<String, Survived> {
    let mut found = BTreeMap::new();
    for line in list.lines() {
        let mut fields = line.split('\t').map(str::to_owned);
        let (Some(fault), Some(injected), Some(outcome), Some(test)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        found.insert(fault, Survived { injected, outcome, test });
    }
    found
}

fn table(found: &BTreeMap<String, Survived>) -> String {
    let mut table = "| fault | how it is injected | what came of it | test |\n".to_owned();
    table.push_str("| --- | --- | --- | --- |\n");
    for (fault, Survived { injected, outcome, test }) in found {
        table.push_str(&format!("| {fault} | {injected} | {outcome} | `{test}` |\n"));
    }
    table
}

/// Fault and test of each row.
fn parse_table(page: &str) -> BTreeMap<String, String> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && line.ends_with("` |"));
    rows.filter_map(|row| {
        let mut cells = row.trim_matches('|').split(" | ").map(str::trim);
        let (fault, test) = (cells.next()?, cells.last()?);
        Some((fault.to_owned(), test.trim_matches('`').to_owned()))
    })
    .collect()
}

#[test]
fn the_table_is_read_as_it_was_written_and_the_last_word_of_a_test_counts() {
    let list = "disk full\tfilled\tcase 1\ta_test\ndisk full\tfilled\tcase 2\ta_test\nnoise\n";
    let found = parse(list);
    assert_eq!(found["disk full"].outcome, "case 2");
    let page = table(&found);
    assert_eq!(parse_table(&page), BTreeMap::from([("disk full".to_owned(), "a_test".to_owned())]));
}
