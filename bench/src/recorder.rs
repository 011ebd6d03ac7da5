//! The recorder as a process of its own, with everything on and the embedded engines.
//!
//! It says where it listens in one line of JSON. A line on its input, or the end of it, drains it:
//! it exits when the last call has ended and everything is stored and announced.

use std::io::BufRead;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use edge_recorder::config::{CaptureMode, Config};
use edge_recorder::{Engines, Shutdown};
use model::object_key::ObjectKey;
use segment::TenantKeyPair;
use storage_embedded::Embedded;
use storage_ports::{ObjectStore, PutMode};
use tokio::sync::oneshot;

use crate::proof;

/// Enough for 10,000 calls of two streams, and clear of the ports that the kernel gives out.
const PORTS: &str = "20000-59999";

pub fn run(dir: &Path, capture: CaptureMode) -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("warn"))
        .with_writer(std::io::stderr)
        .init();
    tokio::runtime::Runtime::new().context("start the runtime")?.block_on(record(dir, capture))
}

async fn record(dir: &Path, capture: CaptureMode) -> Result<()> {
    let engines = Embedded::open(dir)?;
    let keys = TenantKeyPair::generate().context("make the tenant's key")?;
    std::fs::write(dir.join(proof::KEY_NAME), keys.to_bytes()).context("keep the tenant's key")?;
    let policy = serde_json::json!({
        "version": 1,
        "revision": 1,
        "tenants": [{"tenant": "default", "public_key": keys.public().to_string()}],
    });
    let policy = policy.to_string().into_bytes().into();
    engines.objects().put(&ObjectKey::policy(), policy, PutMode::Replace).await?;

    let mut config = Config::new(dir.join(proof::JOURNAL_NAME));
    config.sip.listen = "127.0.0.1:0".parse()?;
    config.admin.listen = "127.0.0.1:0".parse()?;
    config.rtp.ports = PORTS.parse().map_err(anyhow::Error::msg)?;
    config.rtp.capture = capture;
    let shutdown = Shutdown::new();
    let told = shutdown.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().lines().next();
        told.drain(Duration::from_secs(60));
    });
    let (ready, ready_inbox) = oneshot::channel();
    let engines = Engines {
        objects: engines.objects(),
        events: engines.events(),
        commands: engines.commands(&config.edge.name),
    };
    let running = tokio::spawn(edge_recorder::run(config, engines, shutdown, ready));
    if let Ok(ready) = ready_inbox.await {
        println!("{}", serde_json::json!({"sip": ready.sip, "admin": ready.admin}));
    }
    Ok(running.await??)
}
