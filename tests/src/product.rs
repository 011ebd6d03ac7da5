//! A running `linekeeper`, with its own data directory and ports of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::manager::ServiceManager;
use crate::{bin_dir, wait_until};

pub struct Product {
    child: Child,
    pub http: String,
    pub sip: SocketAddr,
    pub admin: String,
    token: String,
    data: DataDir,
}

/// The data directory, which outlives a process that is killed.
pub struct DataDir {
    dir: TempDir,
}

impl DataDir {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("linekeeper-").tempdir();
        Self { dir: dir.expect("a temporary directory can be made") }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Default for DataDir {
    fn default() -> Self {
        Self::new()
    }
}

/// The binary under test.
pub fn linekeeper() -> PathBuf {
    std::env::var_os("LINEKEEPER_BIN").map_or_else(|| bin_dir().join("linekeeper"), PathBuf::from)
}

/// Runs a command of the binary to its end.
pub fn command(arguments: &[&str]) -> Output {
    Command::new(linekeeper())
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}: build it first", linekeeper().display()))
}

impl Product {
    pub fn start() -> Self {
        Self::start_in(DataDir::new(), &[])
    }

    /// Ports are the system's choice, except where `extra` says otherwise.
    pub fn start_in(data: DataDir, extra: &[&str]) -> Self {
        Self::start_on(data, "127.0.0.1:0", extra)
    }

    pub fn start_on(data: DataDir, sip: &str, extra: &[&str]) -> Self {
        Self::launch(Command::new(linekeeper()), data, sip, extra)
    }

    /// As a service of somebody who keeps its sockets over a restart.
    pub fn start_under(manager: &ServiceManager, data: DataDir, sip: &str) -> Self {
        Self::launch(manager.service(), data, sip, &[])
    }

    /// With everything logged that can be.
    pub fn start_traced(extra: &[&str]) -> Self {
        let mut command = Command::new(linekeeper());
        command.env("LINEKEEPER_LOG", "trace");
        Self::launch(command, DataDir::new(), "127.0.0.1:0", extra)
    }

    fn launch(mut command: Command, data: DataDir, sip: &str, extra: &[&str]) -> Self {
        command.args(["run", "--json", "--sip", sip, "--http", "127.0.0.1:0"]);
        command.args(["--admin", "127.0.0.1:0", "--rtp-address", "127.0.0.1"]).args(extra);
        command.arg("--data-dir").arg(data.path());
        if let Some(site) = std::env::var_os("LINEKEEPER_TEST_SITE") {
            command.arg("--site").arg(site);
        }
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(data.path().join("test.log"))
            .expect("the log can be written");
        command.stdout(Stdio::piped()).stderr(log).stdin(Stdio::null());
        let mut child = command.spawn().expect("linekeeper starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("stdout can be read");
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            let log = fs::read_to_string(data.path().join("test.log")).unwrap_or_default();
            panic!("linekeeper is not ready: {line:?}\n{log}")
        });
        let text = |name: &str| ready[name].as_str().expect(name).to_owned();
        let (http, admin) = (text("http"), text("admin"));
        let sip = text("sip").parse().expect("an address");
        let mut product = Self { child, http, sip, admin, token: String::new(), data };
        product.token = product.sign_in("admin", &product.password());
        product
    }

    /// The first administrator's password.
    pub fn password(&self) -> String {
        let file = self.data.path().join("admin-password");
        fs::read_to_string(file).expect("a first start writes a password").trim().to_owned()
    }

    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.data.path().join("test.log")).unwrap_or_default()
    }

    fn sign_in(&self, login: &str, password: &str) -> String {
        let body = json!({"login": login, "password": password, "token": true});
        let (status, answer) = self.post("/v1/session", &body);
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().expect("a token was asked for").to_owned()
    }

    fn agent() -> ureq::Agent {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)));
        config.build().into()
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = Self::agent()
            .post(format!("{}{path}", self.http))
            .header("authorization", format!("Bearer {}", self.token))
            .send_json(body);
        let mut answer = answer.expect("the API answers");
        let status = answer.status().as_u16();
        (status, answer.body_mut().read_json().unwrap_or(Value::Null))
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        let (status, bytes) = self.get_bytes(path);
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub fn get_bytes(&self, path: &str) -> (u16, Vec<u8>) {
        let answer = Self::agent()
            .get(format!("{}{path}", self.http))
            .header("authorization", format!("Bearer {}", self.token))
            .call();
        let mut answer = answer.expect("the API answers");
        let mut bytes = Vec::new();
        answer.body_mut().as_reader().read_to_end(&mut bytes).expect("the body can be read");
        (answer.status().as_u16(), bytes)
    }

    /// Some seconds of a call in progress.
    pub fn live_piece(&self, id: &str, from_ms: u64) -> LivePiece {
        let path = format!("/v1/recordings/{id}/audio?live=1&from_ms={from_ms}");
        let answer = Self::agent()
            .get(format!("{}{path}", self.http))
            .header("authorization", format!("Bearer {}", self.token))
            .call();
        let mut answer = answer.expect("the API answers");
        let number = |name: &str| {
            let text = answer.headers().get(name)?.to_str().ok()?;
            text.parse::<u64>().ok()
        };
        let (from_ms, next_from_ms) =
            (number("linekeeper-from-ms"), number("linekeeper-next-from-ms"));
        let is_in_progress = number("linekeeper-in-progress") == Some(1);
        let status = answer.status().as_u16();
        let mut webm = Vec::new();
        answer.body_mut().as_reader().read_to_end(&mut webm).expect("the body can be read");
        LivePiece {
            status,
            from_ms: from_ms.unwrap_or(0),
            next_from_ms: next_from_ms.unwrap_or(0),
            is_in_progress,
            webm: (status == 200).then_some(webm),
        }
    }

    pub fn metrics(&self) -> String {
        let mut answer = ureq::get(format!("{}/metrics", self.admin)).call().expect("metrics");
        answer.body_mut().read_to_string().expect("metrics are text")
    }

    pub fn recordings(&self) -> Vec<Value> {
        let (status, list) = self.get("/v1/recordings?limit=1000");
        assert_eq!(status, 200, "{list}");
        list["recordings"].as_array().expect("a list").clone()
    }

    /// The recording that carries this id, once it has this status.
    pub fn wait_for(&self, call_id: &str, status: &str) -> Value {
        let mut seen = Value::Null;
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(&format!("{call_id} to be {status}"), Duration::from_secs(60), || {
                let recordings = self.recordings();
                let found = recordings.into_iter().find(|recording| has_id(recording, call_id));
                seen = found.clone().unwrap_or(Value::Null);
                found.filter(|recording| recording["status"] == status)
            })
        }));
        found.unwrap_or_else(|_| panic!("{call_id} is not {status}: {seen}\n{}", self.log()))
    }

    /// The WAV file of a recording, as `linekeeper export` writes it.
    pub fn export_wav(&self, id: &str) -> crate::audio::Wav {
        crate::audio::Wav::read(&self.export(id, "wav"))
    }

    /// A recording in another format, as `linekeeper export` writes it.
    pub fn export(&self, id: &str, format: &str) -> Vec<u8> {
        let out = self.data.path().join(format!("{id}.{format}"));
        let output = self.command(&["export", id, "--format", format, "--out", path(&out)]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(out).expect("the export was written")
    }

    /// A command of the binary on this data directory.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--data-dir", path(self.data.path())]);
        command(&arguments)
    }

    /// Everything that was recorded re-reads with every checksum right.
    pub fn verify_all(&self) {
        let output = self.command(&["verify", "--all"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}\n{errors}\n{}", self.log());
    }

    /// kill -9. The data directory stays.
    pub fn kill(mut self) -> DataDir {
        self.signal(libc::SIGKILL);
        self.child.wait().expect("a killed process ends");
        std::mem::take(&mut self.data)
    }

    /// SIGINT: sync and exit at once; a next start goes on with the live calls.
    pub fn interrupt(mut self) -> DataDir {
        self.signal(libc::SIGINT);
        let status = self.child.wait().expect("an interrupted process ends");
        assert!(status.success(), "SIGINT: {status}\n{}", self.log());
        std::mem::take(&mut self.data)
    }

    fn signal(&self, signal: i32) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a pid fits");
        // SAFETY: kill takes two integers and touches no memory of ours.
        let result = unsafe { libc::kill(pid, signal) };
        assert_eq!(result, 0, "signal {signal} to {pid}");
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the API has of a call in progress from some time on.
pub struct LivePiece {
    pub status: u16,
    pub from_ms: u64,
    pub next_from_ms: u64,
    pub is_in_progress: bool,
    pub webm: Option<Vec<u8>>,
}

pub fn has_id(recording: &Value, call_id: &str) -> bool {
    recording["id"] == call_id
        || recording["call_ids"].as_array().is_some_and(|ids| ids.iter().any(|id| id == call_id))
}

pub fn has_flag(recording: &Value, flag: &str) -> bool {
    recording["flags"].as_array().is_some_and(|flags| flags.iter().any(|held| held == flag))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}
