//! `linekeeper`: a call recorder as one process on one machine.
//!
//! | command | file |
//! | --- | --- |
//! | `run` | `run.rs`: recorder, workers, API and site |
//! | `call` | `call.rs`: places calls, as an SBC would |
//! | `export` | `export.rs`: one recording as a file |
//! | `verify` | `verify.rs`: reads everything again |
//! | `user` | `user.rs`: accounts and whose addresses are whose |
//! | `group` | `group.rs`: who manages whose calls |
//!
//! Answers go to standard output, logs and errors to standard error. The exit code is 0 when it
//! was done, 1 when it could not be or when something is wrong, 2 for wrong arguments.

mod arguments;
mod call;
mod config;
mod data_dir;
mod export;
mod group;
mod listen;
mod run;
mod site;
mod user;
mod verify;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use arguments::{Arguments, Command, LogFormat};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("linekeeper: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes on one line, without saying the same twice.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string().trim().to_owned();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(told.trim()) {
            text = format!("{text}: {}", told.trim());
        }
        cause = error.source();
    }
    text
}

fn start(arguments: Arguments) -> Result<ExitCode> {
    let config = config::File::load(arguments.config.as_deref())?;
    let log = arguments.log_format.or(config.log_format).unwrap_or_default();
    // Commands answer and end; only `run` has a story to tell.
    let filter = if matches!(arguments.command, Command::Run(_)) { "info" } else { "warn" };
    let format = match log {
        LogFormat::Text => lambdas::telemetry::Format::Text,
        LogFormat::Json => lambdas::telemetry::Format::Json,
    };
    lambdas::telemetry::init(format, filter)?;
    let data_dir = config::data_dir(arguments.data_dir, &config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the async runtime")?;
    let code = runtime.block_on(async {
        match arguments.command {
            Command::Run(flags) => run::run(config::settings(data_dir, *flags, config)?).await,
            Command::Call(call) => call::call(*call).await,
            Command::Export(export) => export::export(&data_dir, export).await,
            Command::Verify(verify) => verify::verify(&data_dir, verify).await,
            Command::User(user) => user::user(&data_dir, user).await,
            Command::Group(group) => group::group(&data_dir, group).await,
        }
    });
    // Threads that still wait for a disk or a terminal do not hold the process up.
    runtime.shutdown_background();
    code
}

#[test]
fn an_error_says_each_thing_once() {
    let inner = anyhow::anyhow!("address in use");
    let error = inner.context("listen on 127.0.0.1:1: address in use").context("start");
    assert_eq!(chain(error.as_ref()), "start: listen on 127.0.0.1:1: address in use");
}
