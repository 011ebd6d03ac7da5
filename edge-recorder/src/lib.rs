//! Records SIPREC calls: everything that runs near the media.
//!
//! ```text
//!  SBC / PBX (SRC)
//!    │ SIP                    │ RTP
//!    ▼                        ▼
//!  signaling ──► session ──► capture        the recording half: a thread for SIP, one for RTP
//!                   │           │
//!                   ▼           ▼
//!                 journal ◄─────┘           one directory on this machine's disk
//!                   │
//!                   ├──► upload ──► object store      the delivering half
//!                   └──► announce ──► event queue
//! ```
//!
//! The two halves meet only at the journal. The recording half never waits for the delivering
//! half: with the object store, the queue and everything behind them away, calls are answered and
//! recorded until the disk is full, and then calls in progress are still recorded.

mod admin;
mod announce;
mod backoff;
mod capture;
mod commands;
pub mod config;
mod drain;
mod health;
mod health_port;
pub mod journal;
mod metrics;
mod policy;
mod recording;
mod route;
mod service;
mod session;
mod signaling;
mod signals;
mod upload;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use storage_ports::{EventQueue, ObjectStore};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use admin::Admin;
use announce::AnnounceConfig;
use commands::Commands;
use config::{Config, ConfigError};
use health::Health;
use journal::{Deliver, Journal, JournalConfig, JournalError, JournalHandle, Moment};
use policy::PolicyReader;
use recording::Recording;
use signaling::ListenError;
use upload::UploadConfig;

pub use capture::ring::IngressDrop;
pub use drain::Shutdown;
pub use signals::Signals;

/// How long the delivering half may finish its work after the last call has ended.
const DELIVERY_LIMIT: Duration = Duration::from_secs(60);

/// How long the last commit may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Commands that may wait for the recording half, which takes them at once.
const CONTROLS_WAITING: usize = 16;

/// File descriptors for everything but RTP and SIP connections.
const OTHER_FILES: u64 = 256;

/// What a recorder needs of the outside.
#[derive(Clone)]
pub struct Engines {
    pub objects: Arc<dyn ObjectStore>,
    /// To the indexer.
    pub events: Arc<dyn EventQueue>,
    /// To this recorder.
    pub commands: Arc<dyn EventQueue>,
}

/// Where a started recorder listens. Ports that were configured as 0 are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// UDP and TCP.
    pub sip: SocketAddr,
    pub sips: Option<SocketAddr>,
    pub admin: SocketAddr,
}

/// Why a recorder could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the configuration cannot be used")]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("open the journal")]
    Journal(#[from] JournalError),
    #[error("start the recording threads")]
    Threads(#[source] std::io::Error),
    #[error("no random numbers from the operating system")]
    Random,
    /// The next start resumes the calls in progress.
    #[error("{0}; start again to go on with the calls in progress")]
    Died(&'static str),
}

/// Records until `shutdown` says otherwise. `ready` is told once calls can come.
pub async fn run(
    config: Config,
    engines: Engines,
    shutdown: Shutdown,
    ready: oneshot::Sender<Ready>,
) -> Result<(), RunError> {
    config.check()?;
    let metrics_handle = metrics::install();
    raise_file_limit(&config);
    let admin_listener = admin::listen(config.admin.listen).await?;
    let admin_local = admin_listener
        .local_addr()
        .map_err(|source| ListenError::new(config.admin.listen, "HTTP", "admin.listen", source))?;
    let health_listener = match &config.admin.health {
        None => None,
        Some(port) => Some(health_port::listen(port).await?),
    };
    let (journal, recovered) = open_journal(&config).await?;
    let handle = journal.handle();
    let health = Health::default();
    let drain_deadline = Duration::from_secs(config.admin.drain_deadline_secs);
    let mut tasks = Tasks::default();
    tasks.spawn(admin::serve(
        admin_listener,
        Admin {
            health: health.clone(),
            metrics: metrics_handle.clone(),
            shutdown: shutdown.clone(),
            drain_deadline,
        },
    ));
    if let Some((listener, tls)) = health_listener {
        tasks.spawn(tls.clone().watch_files("health"));
        tasks.spawn(health_port::serve(listener, tls, health.clone()));
    }
    tasks.spawn(service::feed_watchdog(health.clone()));

    let policy_reader = PolicyReader::open(
        engines.objects.clone(),
        config.edge.tenant.clone(),
        &config.journal.dir,
    )
    .await;
    let mut policy = policy_reader.watch();
    let policy_changed = policy_reader.changed();
    tasks.spawn(policy_reader.run());
    if !recovered.live.is_empty() {
        // Their audio cannot be sealed without the key; new calls could be refused meanwhile.
        tokio::select! {
            _ = policy.wait_for(Option::is_some) => {}
            () = shutdown.asked() => return Ok(()),
        }
    }

    let (controls, control_inbox) = mpsc::channel(CONTROLS_WAITING);
    let recording = Recording {
        config: config.clone(),
        journal: handle.clone(),
        policy,
        health,
        shutdown: shutdown.clone(),
        live: recovered.live,
        controls: control_inbox,
    };
    let (listening, recording) = recording.start()?;
    let deliver = watch::Sender::new(Deliver::GoOn);
    let delivery = start_delivery(&config, &engines, &handle, &deliver);
    tasks.spawn(tell_metrics(handle.clone(), metrics_handle));
    tasks.spawn(
        Commands::new(
            engines.commands.clone(),
            handle.clone(),
            controls,
            shutdown.clone(),
            drain_deadline,
            policy_changed,
        )
        .run(),
    );
    let outcome = match listening.await {
        Ok(local) => {
            service::ready();
            // Nobody may wait for it.
            let _ = ready.send(Ready { sip: local.sip, sips: local.sips, admin: admin_local });
            recording.await
        }
        Err(_) => recording.await,
    };
    let outcome = outcome.unwrap_or(Err(RunError::Died("the recording thread has died")));
    service::stopping();
    finish(outcome.is_ok(), &shutdown, &deliver, delivery).await;
    drop(tasks);
    tokio::task::spawn_blocking(move || {
        if !journal.close(CLOSE_LIMIT) {
            tracing::error!("the journal could not be synced");
        }
    })
    .await
    .map_err(|_| RunError::Died("the journal has died"))?;
    outcome.map(|left| {
        tracing::info!(calls_to_resume = left, "stopped");
    })
}

fn raise_file_limit(config: &Config) {
    let connections = u64::from(config.sip.max_connections.get());
    let wanted = u64::from(config.rtp.ports.pairs()) * 2 + connections + OTHER_FILES;
    match capture::ports::raise_file_limit(wanted) {
        Ok(limit) if limit.allowed < wanted => {
            let streams = limit.allowed.saturating_sub(connections + OTHER_FILES) / 2;
            tracing::warn!(
                allowed = limit.allowed,
                wanted,
                streams,
                "the limit of open files allows fewer streams than rtp.ports: raise it (LimitNOFILE, ulimit -n)"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

/// Reads and syncs files, which takes a while after a crash.
async fn open_journal(config: &Config) -> Result<(Journal, journal::Recovered), RunError> {
    let dir = config.journal.dir.clone();
    let clamp = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let journal_config = JournalConfig {
        commit: Duration::from_millis(config.journal.commit_ms.get().into()),
        buffer_bytes: clamp(config.journal.buffer_bytes.get()),
        file_bytes: config.journal.file_bytes.get(),
        min_free_bytes: config.journal.min_free_bytes,
        on_sync: Some(metrics::sync_observer()),
        ..JournalConfig::new(config.edge.name.clone())
    };
    let opened = tokio::task::spawn_blocking(move || Journal::open(&dir, journal_config)).await;
    let (journal, recovered) = opened.map_err(|_| RunError::Died("the journal has died"))??;
    for damage in &recovered.damage {
        tracing::error!(?damage, "the journal is damaged here, what is around it is kept");
    }
    tracing::info!(
        journal = %recovered.journal_id,
        epoch = recovered.epoch,
        calls_to_resume = recovered.live.len(),
        "journal open"
    );
    Ok((journal, recovered))
}

fn start_delivery(
    config: &Config,
    engines: &Engines,
    journal: &JournalHandle,
    deliver: &watch::Sender<Deliver>,
) -> Vec<JoinHandle<()>> {
    let upload_config = UploadConfig {
        segment: Duration::from_secs(config.journal.segment_secs.get().into()),
        bytes_per_sec: config.journal.upload_bytes_per_sec,
        ..UploadConfig::default()
    };
    let objects = engines.objects.clone();
    let events = engines.events.clone();
    vec![
        tokio::spawn(upload::run(journal.clone(), objects, upload_config, deliver.subscribe())),
        tokio::spawn(announce::run(
            journal.clone(),
            events,
            AnnounceConfig::default(),
            deliver.subscribe(),
        )),
    ]
}

/// After a drain everything is delivered before the process goes; otherwise the next start does.
async fn finish(
    drained: bool,
    shutdown: &Shutdown,
    deliver: &watch::Sender<Deliver>,
    delivery: Vec<JoinHandle<()>>,
) {
    let at_once = !drained || shutdown.wish() == drain::Wish::Now;
    deliver.send_replace(if at_once { Deliver::Stop } else { Deliver::Finish });
    let everything = async {
        for task in delivery {
            let _ = task.await;
        }
    };
    tokio::pin!(everything);
    let in_time = tokio::select! {
        done = timeout(DELIVERY_LIMIT, &mut everything) => done.is_ok(),
        () = shutdown.asked_now(), if !at_once => false,
    };
    if !in_time {
        tracing::warn!("not everything was delivered, the next start goes on");
        deliver.send_replace(Deliver::Stop);
        let _ = timeout(CLOSE_LIMIT, everything).await;
    }
}

/// Positions and upkeep of histograms, for as long as it is polled.
async fn tell_metrics(
    journal: JournalHandle,
    handle: metrics_exporter_prometheus::PrometheusHandle,
) {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut filling = metrics::Filling::default();
    loop {
        tick.tick().await;
        metrics::tell_positions(&journal.positions(), Moment::now().wall());
        metrics::tell_disk(filling.seconds_left(journal.room(), std::time::Instant::now()));
        handle.run_upkeep();
    }
}

/// Tasks that end with the recorder, however it ends.
#[derive(Default)]
struct Tasks(Vec<JoinHandle<()>>);

impl Tasks {
    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.push(tokio::spawn(task));
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}
