//! `edge-recorder`: the recorder on EC2, over S3 and SQS.
//!
//! What it is told by its configuration file, `--config FILE`, is about this machine; what the
//! deployment gives it (bucket, queues) comes by the environment. Credentials are the instance's.
//!
//! SIGTERM drains: no new calls, and the process ends when the last one has, or at a deadline. SIGINT
//! syncs and ends at once; the next start goes on with the live calls. The exit code is 0 after either, 1
//! when it could not start or had to stop, 2 for wrong arguments.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use edge_recorder::config::Config;
use edge_recorder::{Engines, Shutdown, Signals};
use storage_aws::AwsClients;
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

/// Records SIPREC calls to S3 and SQS.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// TOML; see docs/reference/config.md
    #[arg(long, value_name = "FILE", env = "LINEKEEPER_CONFIG")]
    config: PathBuf,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("edge-recorder: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> Result<(), Failure> {
    let filter = std::env::var("LINEKEEPER_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&filter)
        .map_err(|error| format!("LINEKEEPER_LOG={filter:?} is not a log filter: {error}"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .json()
        .flatten_event(true)
        .init();
    let config = Config::load(&arguments.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(record(config));
    // Threads that still wait for a disk do not hold the process up.
    runtime.shutdown_background();
    outcome
}

async fn record(config: Config) -> Result<(), Failure> {
    let aws = AwsClients::from_env().await?;
    let engines = Engines {
        objects: Arc::new(aws.objects()?),
        events: Arc::new(aws.events()?),
        commands: Arc::new(aws.own_commands()?),
    };
    let shutdown = Shutdown::new();
    let drain_deadline = Duration::from_secs(config.admin.drain_deadline_secs);
    tokio::spawn(Signals::listen()?.obey(shutdown.clone(), drain_deadline));
    let (ready, is_ready) = oneshot::channel::<edge_recorder::Ready>();
    tokio::spawn(async move {
        if let Ok(listening) = is_ready.await {
            // For scripts, which may have closed it: calls are recorded all the same.
            let line = format!(
                "{{\"event\":\"ready\",\"sip\":\"{}\",\"sips\":{},\"admin\":\"http://{}\"}}",
                listening.sip,
                listening.sips.map_or("null".to_owned(), |sips| format!("\"{sips}\"")),
                listening.admin
            );
            let mut out = std::io::stdout();
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    });
    Ok(edge_recorder::run(config, engines, shutdown, ready).await?)
}

/// An error and its causes on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {}", error.to_string().trim());
        cause = error.source();
    }
    text
}
