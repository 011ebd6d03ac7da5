//! Another browser than the one that the pages are tested in: it decodes, plays and seeks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use e2e::calls::{place, plan};
use e2e::product::Product;
use serde_json::Value;

const SECONDS: f64 = 8.0;

/// Plays a second, seeks, plays on, decodes the whole, and tells.
const PAGE: &str = r#"<!doctype html><title>a recording</title>
<audio id="audio" muted preload="metadata" src="/audio.webm"></audio>
<script>
const audio = document.getElementById("audio");
const happens = (name) => new Promise((resolve) => audio.addEventListener(name, resolve, { once: true }));
const passes = async (seconds) => {
  while (audio.currentTime < seconds) await new Promise((resolve) => setTimeout(resolve, 50));
};
(async () => {
  const told = {};
  try {
    if (audio.readyState < 1) await happens("loadedmetadata");
    told.duration = audio.duration;
    await audio.play();
    await passes(1);
    const sought = happens("seeked");
    audio.currentTime = 5;
    await sought;
    told.sought = audio.currentTime;
    await passes(6);
    const file = await (await fetch("/audio.webm")).arrayBuffer();
    const decoded = await new OfflineAudioContext(2, 1, 8000).decodeAudioData(file);
    told.channels = decoded.numberOfChannels;
    told.decoded = decoded.duration;
    const loudest = (side) => decoded.getChannelData(side).reduce((most, it) => Math.max(most, Math.abs(it)), 0);
    told.loudest = [loudest(0), loudest(1)];
  } catch (error) {
    told.error = String(error);
  }
  fetch("/told", { method: "POST", body: JSON.stringify(told) });
})();
</script>"#;

/// Plays without being clicked, and reaches nothing but this machine.
const PREFERENCES: &str = r#"user_pref("media.autoplay.default", 0);
user_pref("media.autoplay.blocking_policy", 0);
user_pref("network.proxy.type", 1);
user_pref("network.proxy.http", "127.0.0.1");
user_pref("network.proxy.http_port", 9);
user_pref("network.proxy.ssl", "127.0.0.1");
user_pref("network.proxy.ssl_port", 9);
user_pref("network.proxy.no_proxies_on", "127.0.0.1");
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
"#;

#[test]
fn firefox_decodes_plays_and_seeks_a_recording() {
    let firefox = Command::new("firefox-esr").arg("--version").stdout(Stdio::null()).status();
    if firefox.is_err() {
        e2e::skip("firefox_decodes_plays_and_seeks_a_recording", "no firefox-esr");
        return;
    }
    let product = Product::start();
    let reports = place(plan(product.sip, SECONDS));
    let recording = product.wait_for(&reports[0].call_id, "stored");
    let webm = product.export(recording["id"].as_str().expect("an id"), "webm");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, told) = mpsc::channel();
    let webm = Arc::new(webm);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (webm, tell) = (webm.clone(), tell.clone());
            std::thread::spawn(move || answer(stream, &webm, &tell));
        }
    });
    let profile = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(profile.path().join("user.js"), PREFERENCES).expect("a profile");
    let mut browser = Command::new("firefox-esr")
        .args(["--headless", "--no-remote", "--profile"])
        .arg(profile.path())
        .arg(format!("http://{address}/"))
        .env("HOME", profile.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("firefox starts");
    let told = told.recv_timeout(Duration::from_secs(90));
    browser.kill().expect("it can be ended");
    browser.wait().expect("it ends");
    let told: Value = told.expect("the page tells what it heard");

    let close = |name: &str, to: f64, by: f64| {
        let found = told[name].as_f64().unwrap_or(f64::NAN);
        assert!((found - to).abs() <= by, "{name}: {told}");
    };
    close("duration", SECONDS, 0.1);
    close("sought", 5.0, 0.05);
    close("decoded", SECONDS, 0.1);
    assert_eq!(told["channels"], 2, "{told}");
    for side in 0..2 {
        assert!(told["loudest"][side].as_f64().is_some_and(|it| it > 0.05), "{told}");
    }
}

/// The page, the recording in ranges, and what the page tells.
fn answer(stream: TcpStream, webm: &[u8], tell: &mpsc::Sender<Value>) {
    let mut reader = BufReader::new(&stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_ascii_lowercase());
    }
    let field = |name: &str| head.iter().find_map(|line| line.strip_prefix(name));
    let request = head.first().map_or("", String::as_str);
    let (status, kind, extra, body) = if request.starts_with("post") {
        let length = field("content-length: ").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_ok()
            && let Ok(told) = serde_json::from_slice(&body)
        {
            let _ = tell.send(told);
        }
        ("204 No Content", "text/plain", String::new(), &[][..])
    } else if request.contains("/audio.webm") {
        let from = field("range: bytes=").and_then(|range| range.split('-').next()?.parse().ok());
        let from: usize = from.unwrap_or(0).min(webm.len() - 1);
        let range = format!("Content-Range: bytes {from}-{}/{}\r\n", webm.len() - 1, webm.len());
        let (status, extra) = match field("range: ") {
            Some(_) => ("206 Partial Content", range),
            None => ("200 OK", String::new()),
        };
        (status, "audio/webm", extra, &webm[from..])
    } else {
        ("200 OK", "text/html", String::new(), PAGE.as_bytes())
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nAccept-Ranges: bytes\r\n\
         {extra}Connection: close\r\n\r\n",
        body.len()
    );
    // A browser that has enough hangs up.
    let _ = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(body));
}
