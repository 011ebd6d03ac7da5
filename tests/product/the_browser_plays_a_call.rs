//! The pages in a real browser: signing in, finding a call, playing it; and what axe-core says.

use std::path::Path;
use std::process::{Command, Stdio};

use e2e::product::{Product, linekeeper};

#[test]
fn a_browser_signs_in_finds_the_call_and_plays_it() {
    let browser = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let chromium = Command::new("chromium").arg("--version").stdout(Stdio::null()).status();
    if chromium.is_err() || !browser.join("node_modules").exists() {
        e2e::skip(
            "a_browser_signs_in_finds_the_call_and_plays_it",
            "no chromium, or npm ci not run",
        );
        return;
    }
    if std::env::var_os("LINEKEEPER_TEST_SITE").is_none() {
        e2e::skip("a_browser_signs_in_finds_the_call_and_plays_it", "the site is not built");
        return;
    }
    let product = Product::start();
    let sip = product.sip.to_string();
    let placed = Command::new(linekeeper())
        .args(["call", &sip, "--calls", "2", "--seconds", "8"])
        .output()
        .expect("linekeeper call starts");
    assert!(placed.status.success(), "{}", String::from_utf8_lossy(&placed.stderr));
    e2e::wait_until("two stored calls", std::time::Duration::from_secs(30), || {
        let stored = product.recordings().iter().filter(|row| row["status"] == "stored").count();
        (stored == 2).then_some(())
    });
    // Kept where a person can look at them after the run.
    let shots = e2e::bin_dir().join("screenshots");
    let output = Command::new("node")
        .arg(browser.join("journey.mjs"))
        .env("BASE_URL", &product.http)
        .env("LOGIN", "admin")
        .env("PASSWORD", product.password())
        .env("SIP", &sip)
        .env("LINEKEEPER_BIN", linekeeper())
        .env("OUT", &shots)
        .output()
        .expect("node starts");
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        product.log()
    );
}
