//! `linekeeper verify` names what was changed behind its back, and nothing else.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LINEKEEPER: &str = env!("CARGO_BIN_EXE_linekeeper");

/// Ends with the test, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn verify(data: &Path, what: &str) -> Output {
    Command::new(LINEKEEPER).args(["verify", what, "--data-dir"]).arg(data).output().unwrap()
}

fn files_named(dir: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_named(&path, name, found);
        } else if path.file_name().is_some_and(|file| file == name) {
            found.push(path);
        }
    }
}

fn the_file_named(dir: &Path, name: &str) -> PathBuf {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut found = Vec::new();
        files_named(dir, name, &mut found);
        if let Some(path) = found.pop() {
            return path;
        }
        assert!(Instant::now() < deadline, "no {name} after a minute");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn one_changed_bit_is_found_in_the_file_that_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let child = Command::new(LINEKEEPER)
        .args(["run", "--json", "--sip", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .args(["--admin", "127.0.0.1:0", "--rtp-address", "127.0.0.1", "--data-dir"])
        .arg(&data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let mut line = String::new();
    BufReader::new(running.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    let sip = ready["sip"].as_str().unwrap();
    let call = Command::new(LINEKEEPER).args(["call", sip, "--seconds", "1"]).output().unwrap();
    assert!(call.status.success(), "{}", String::from_utf8_lossy(&call.stdout));

    // The index is told last; `verify` waits for nobody.
    let audio = the_file_named(&data.join("objects"), "audio.webm");
    let packets = the_file_named(&data.join("objects"), "packets");
    let deadline = Instant::now() + Duration::from_secs(60);
    while String::from_utf8_lossy(&verify(&data, "--all").stdout).contains("not built yet") {
        assert!(Instant::now() < deadline, "the call is not built after a minute");
        std::thread::sleep(Duration::from_millis(100));
    }
    let good = verify(&data, "--all");
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stdout));

    for (path, named) in [(&audio, "audio.webm"), (&packets, "packets")] {
        let whole = fs::read(path).unwrap();
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        fs::write(path, &changed).unwrap();
        let output = verify(&data, "--all");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        let wrong: Vec<&str> = text.lines().filter(|line| line.starts_with("WRONG")).collect();
        assert!(!wrong.is_empty() && wrong.iter().all(|line| line.contains(named)), "{text}");
        fs::write(path, &whole).unwrap();
    }
    assert!(verify(&data, "--all").status.success());
    let audit = verify(&data, "--audit");
    assert!(!audit.status.success());
    assert!(String::from_utf8_lossy(&audit.stderr).contains("no audit log yet"));
}
