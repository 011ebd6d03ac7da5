//! What an operator or a client gets wrong is named, with what to do, and never a panic.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use e2e::product::{DataDir, Product, linekeeper};
use serde_json::json;

/// Runs `linekeeper run` where it must refuse to start; returns its exit code and message.
fn refused(arguments: &[&str]) -> (i32, String) {
    let mut child = Command::new(linekeeper())
        .arg("run")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("linekeeper starts");
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().expect("the child is ours").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("it can be killed");
            panic!("linekeeper started with {arguments:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let Output { status, stderr, .. } = child.wait_with_output().expect("it has ended");
    let message = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!message.contains("panicked"), "{message}");
    (status.code().expect("it ended by itself"), message)
}

const PORTS: [&str; 6] =
    ["--sip", "127.0.0.1:0", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

#[test]
fn a_misspelt_config_key_is_named() {
    let data = DataDir::new();
    let config = data.path().join("linekeeper.toml");
    fs::write(&config, "[journal]\nsegment_sec = 5\n").expect("written");
    let config = config.to_str().expect("UTF-8");
    let (code, message) = refused(&["--config", config]);
    assert_ne!(code, 0);
    assert!(message.contains("segment_sec") && message.contains(config), "{message}");
}

#[test]
fn a_port_in_use_is_named() {
    let data = DataDir::new();
    let dir = data.path().to_str().expect("UTF-8");
    let sip = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = sip.local_addr().expect("bound").to_string();
    let arguments =
        ["--data-dir", dir, "--sip", &address, "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let (code, message) = refused(&arguments);
    assert!(code != 0 && message.contains(&address) && message.contains("in use"), "{message}");

    let http = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = http.local_addr().expect("bound").to_string();
    let arguments =
        ["--data-dir", dir, "--http", &address, "--sip", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let (code, message) = refused(&arguments);
    assert!(code != 0 && message.contains(&address) && message.contains("in use"), "{message}");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let data = DataDir::new();
    // A file in its place: not even root can make a directory below it.
    let file = data.path().join("file");
    fs::write(&file, "").expect("written");
    let dir = file.join("data");
    let dir = dir.to_str().expect("UTF-8");
    let mut arguments = vec!["--data-dir", dir];
    arguments.extend(PORTS);
    let (code, message) = refused(&arguments);
    assert!(code != 0 && message.contains(dir), "{message}");
}

#[test]
fn a_second_process_on_one_data_directory_is_refused() {
    let product = Product::start();
    let dir = product.data_dir().to_str().expect("UTF-8");
    let mut arguments = vec!["--data-dir", dir];
    arguments.extend(PORTS);
    let (code, message) = refused(&arguments);
    assert!(code != 0 && message.contains(dir), "{message}");
}

#[test]
fn the_api_says_what_was_wrong_and_what_to_do() {
    let product = Product::start();
    let url = |path: &str| format!("{}{path}", product.http);
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let agent: ureq::Agent = config.build().into();

    let answer = agent.get(url("/v1/recordings")).call().expect("answered");
    assert_eq!(answer.status(), 401);
    let wrong = json!({"login": "admin", "password": "wrong"});
    let (status, error) = product.post("/v1/session", &wrong);
    assert_eq!(status, 401, "{error}");
    assert!(error["error"]["message"].as_str().is_some_and(|text| text.len() > 10), "{error}");

    let unknown = "/v1/recordings/01890000-0000-7000-8000-000000000000";
    assert_eq!(product.get(unknown).0, 404);
    assert_eq!(product.get("/v1/recordings/nonsense").0, 404);
    for (query, named) in [
        ("cursor=nonsense", "cursor"),
        ("from=yesterday", "from"),
        ("limit=0", "limit"),
        ("limit=many", "limit"),
        ("status=lost", "status"),
        ("min_seconds=-1", "min_seconds"),
    ] {
        let (status, error) = product.get(&format!("/v1/recordings?{query}"));
        assert_eq!(status, 400, "{query}: {error}");
        let message = error["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(named), "{query}: {message}");
    }
}

#[test]
fn an_unknown_recording_is_not_exported() {
    let product = Product::start();
    let id = "01890000-0000-7000-8000-000000000000";
    let out = product.data_dir().join("x.wav");
    let out = out.to_str().expect("UTF-8");
    let output = product.command(&["export", id, "--format", "wav", "--out", out]);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains(id), "{message}");
    assert!(!std::path::Path::new(out).exists());
}
