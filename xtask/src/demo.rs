//! `cargo xtask demo`: the README's first command. From a fresh clone to a call that plays in the
//! browser, with nothing to configure.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{run, setup, site};

/// How long the demo calls are: long enough to hear, short enough to wait for.
const CALL_SECS: u32 = 12;
const CALLS: u32 = 3;

pub fn demo(root: &Path, no_wait: bool) -> Result<()> {
    let started = Instant::now();
    setup::for_build()?;
    setup::for_site()?;
    site::build(root, &run::site_dir(root))?;
    run::build_linekeeper(root)?;

    let mut recorder = Recorder::start(root)?;
    eprintln!("placing {CALLS} calls of {CALL_SECS} s …");
    run::run(Command::new(run::linekeeper()).args([
        "call",
        &recorder.sip,
        "--calls",
        &CALLS.to_string(),
        "--seconds",
        &CALL_SECS.to_string(),
    ]))?;
    let playable = recorder.wait_for_a_playable_call()?;
    println!();
    println!("Linekeeper is running, and {playable} recorded calls can be played.");
    println!("  Open      {}", recorder.http);
    println!("  Sign in   admin");
    println!("  Password  {}", recorder.password);
    println!("  Took      {} s from the start of this command", started.elapsed().as_secs());
    println!();
    println!(
        "Send it a call of your own by SIPREC at sip:{}, or place another one with",
        recorder.sip
    );
    println!("  {} call {}", run::linekeeper().display(), recorder.sip);
    if no_wait {
        return recorder.stop();
    }
    println!("Ctrl-C ends it; what was recorded stays in {}.", recorder.data_dir.display());
    let status = recorder.child.wait().context("wait for linekeeper")?;
    if !status.success() {
        bail!("linekeeper run ended with {status}");
    }
    Ok(())
}

/// The running product.
struct Recorder {
    child: Child,
    http: String,
    sip: String,
    password: String,
    data_dir: PathBuf,
}

impl Recorder {
    fn start(root: &Path) -> Result<Self> {
        let data_dir = root.join("demo-data");
        let port = |wanted: u16| if is_free(wanted) { wanted } else { 0 };
        let mut child = Command::new(run::linekeeper())
            .args(["run", "--json"])
            .arg("--data-dir")
            .arg(&data_dir)
            .arg("--site")
            .arg(run::site_dir(root))
            // Loopback: a demo does not open a machine to the network.
            .args(["--sip", &format!("127.0.0.1:{}", port(5060))])
            .args(["--http", &format!("127.0.0.1:{}", port(8080))])
            .args(["--admin", "127.0.0.1:0", "--rtp-address", "127.0.0.1"])
            .stdout(Stdio::piped())
            .spawn()
            .context("start linekeeper run")?;
        let mut ready = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut ready).context("read what linekeeper says")?;
        if ready.is_empty() {
            bail!("linekeeper run ended at once: its message is above");
        }
        let ready: Value = serde_json::from_str(&ready).with_context(|| ready.clone())?;
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        let password = fs::read_to_string(data_dir.join("admin-password")).context(
            "no first password is left in demo-data: sign in with the one you chose, or delete \
             demo-data to begin anew",
        );
        let password = match password {
            Ok(password) => password.trim().to_owned(),
            Err(error) => {
                let _ = child.kill();
                return Err(error);
            }
        };
        Ok(Self { child, http: text("http"), sip: text("sip"), password, data_dir })
    }

    /// Waits until the API lists a playable recording; returns how many there are.
    fn wait_for_a_playable_call(&self) -> Result<usize> {
        let sign_in =
            serde_json::json!({"login": "admin", "password": self.password, "token": true});
        let session: Value = ureq::post(format!("{}/v1/session", self.http))
            .send_json(&sign_in)
            .context("sign in")?
            .body_mut()
            .read_json()
            .context("read the answer to the sign-in")?;
        let bearer = format!("Bearer {}", session["token"].as_str().unwrap_or_default());
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let list: Value = ureq::get(format!("{}/v1/recordings", self.http))
                .header("authorization", &bearer)
                .call()
                .context("list the recordings")?
                .body_mut()
                .read_json()
                .context("read the list of recordings")?;
            let rows = list["recordings"].as_array().map_or(&[][..], Vec::as_slice);
            let playable = rows.iter().filter(|row| row["status"] == "stored").count();
            if playable >= CALLS as usize {
                return Ok(playable);
            }
            if Instant::now() > deadline {
                bail!("no call became playable within 60 s: {list}");
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    fn stop(&mut self) -> Result<()> {
        run::run(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let status = self.child.wait().context("wait for linekeeper")?;
        if !status.success() {
            bail!("linekeeper run ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Recorder {
    /// An error on the way must not leave a recorder behind.
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn is_free(port: u16) -> bool {
    let address = ("127.0.0.1", port);
    std::net::TcpListener::bind(address).is_ok() && std::net::UdpSocket::bind(address).is_ok()
}
