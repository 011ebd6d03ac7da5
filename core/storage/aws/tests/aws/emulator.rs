//! Emulators of AWS on this machine, one process each, ended with the test that started it.
//!
//! `cargo xtask test` installs them and names them in the environment. A test without its emulator
//! says that it is skipped.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider};
use storage_aws::{AwsClients, DynamoIndex, create_table};

/// Emulates DynamoDB.
pub const DYNOXIDE: &str = "dynoxide";
/// Emulates S3, SQS, DynamoDB and more.
pub const MINISTACK: &str = "ministack";
/// Emulates S3 with its locks.
pub const MOTO: &str = "moto_server";
/// Where their programs lie.
const TOOLS: &str = "LINEKEEPER_AWS_TOOLS";

pub const TABLE: &str = "linekeeper";
const START: Duration = Duration::from_secs(60);

pub struct Emulator {
    child: Child,
    pub port: u16,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Emulator {
    /// `None` where the test is skipped.
    pub fn start(name: &'static str, test: &str) -> Option<Self> {
        let program = tools(test)?.join(name);
        let port = free_port();
        let mut command = Command::new(program);
        if name == DYNOXIDE {
            command.args(["--host", "127.0.0.1", "--log", "quiet", "--port", &port.to_string()]);
        } else if name == MOTO {
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        } else {
            // It listens on every address unless told otherwise.
            command
                .env("BIND_HOST", "127.0.0.1")
                .env("GATEWAY_PORT", port.to_string())
                .env("MINISTACK_HOST", "127.0.0.1");
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut emulator = Self { child: child.spawn().expect("the emulator starts"), port };
        let deadline = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = emulator.child.try_wait().expect("its state can be asked");
            assert!(ended.is_none(), "{name} ended at once: {ended:?}");
            assert!(Instant::now() < deadline, "{name} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(emulator)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("a bound socket has an address").port()
}

fn skip(test: &str, why: &str) {
    eprintln!("skipped: {test}: {why}");
    if let Some(list) = std::env::var_os("LINEKEEPER_SKIPPED_TESTS") {
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(list);
        let mut list = opened.expect("the list of skipped tests can be written");
        writeln!(list, "{test}: {why}").expect("the list of skipped tests can be written");
    }
}

/// Clients of whatever listens at `url`.
pub fn clients(url: &str) -> AwsClients {
    let credentials = Credentials::new("test", "test", None, None, "test");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(url)
        .build();
    AwsClients::new(&config)
}

/// A DynamoDB of its own, with an empty table.
pub async fn index(test: &str) -> Option<(Emulator, DynamoIndex)> {
    let emulator = Emulator::start(DYNOXIDE, test)?;
    let clients = clients(&emulator.url());
    create_table(clients.dynamodb(), TABLE).await.expect("the table is made");
    Some((emulator, DynamoIndex::new(clients.dynamodb().clone(), TABLE)))
}

/// `None`, and a line for whoever counts the tests, when this machine does not have them.
fn tools(test: &str) -> Option<PathBuf> {
    let tools = std::env::var_os(TOOLS).filter(|path| !path.is_empty());
    if tools.is_none() {
        skip(test, &format!("{TOOLS} does not say where emulators are"));
    }
    tools.map(PathBuf::from)
}
