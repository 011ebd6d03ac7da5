//! Starts and ends the recording half: sockets, capture, the SIP loop.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use siprec::{Srs, SrsConfig};
use tokio::sync::{mpsc, oneshot, watch};

use crate::RunError;
use crate::capture::Capture;
use crate::capture::kept::Kept;
use crate::capture::ports::PortPool;
use crate::config::{Config, Strangers};
use crate::drain::Shutdown;
use crate::health::Health;
use crate::journal::{JournalHandle, LiveSession};
use crate::policy::Policy;
use crate::route::Routes;
use crate::session::{Control, Door, Parts, Recorder, Settings};
use crate::signaling::{Listeners, Signaling, Stopped};

/// What the recording half is made of.
pub struct Recording {
    pub config: Config,
    pub journal: JournalHandle,
    pub policy: watch::Receiver<Option<Policy>>,
    pub health: Health,
    pub shutdown: Shutdown,
    /// Calls of the process before.
    pub live: Vec<LiveSession>,
    pub controls: mpsc::Receiver<Control>,
}

/// Where it listens.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    pub sip: SocketAddr,
    pub sips: Option<SocketAddr>,
}

/// How many calls the next start has to resume, or why recording ended.
pub type Outcome = Result<usize, RunError>;

impl Recording {
    /// Starts a thread with a runtime of its own. The first receiver is told when calls can come,
    /// and is dropped if they never can; the second when recording is over.
    pub fn start(
        self,
    ) -> Result<(oneshot::Receiver<Listening>, oneshot::Receiver<Outcome>), RunError> {
        let (listening, listening_inbox) = oneshot::channel();
        let (over, over_inbox) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(RunError::Threads)?;
        std::thread::Builder::new()
            .name("signaling".to_owned())
            .spawn(move || {
                let outcome = runtime.block_on(self.run(listening));
                // The port must be free before anybody hears that we are gone.
                drop(runtime);
                let _ = over.send(outcome);
            })
            .map_err(RunError::Threads)?;
        Ok((listening_inbox, over_inbox))
    }

    async fn run(mut self, listening: oneshot::Sender<Listening>) -> Outcome {
        let config = &self.config;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| RunError::Random)?;
        let mut srs = Srs::new(srs_config(config), seed);
        let listeners = Listeners::open(&config.sip)?;
        let local = Listening { sip: listeners.local(), sips: listeners.tls_local() };
        let bind = config.rtp_bind();
        let (capture, mut swept) =
            Capture::start(config.rtp.capture, bind).map_err(RunError::Threads)?;
        let ports = PortPool::new(
            bind,
            config.rtp.ports,
            Duration::from_secs(config.rtp.quarantine_secs.into()),
            config.rtp.receive_buffer_bytes,
            u32::from_le_bytes([seed[0], seed[1], seed[2], seed[3]]),
        )
        .kept_by(Kept::from_service_manager());
        let settings = Settings {
            tenant: config.edge.tenant.clone(),
            trunks: config.sip.trunks.clone(),
            realm: config.sip.realm.clone(),
            retry_after_secs: config.sip.retry_after_secs,
            rtp_address: config.rtp.address,
            packets_per_sec: config.rtp.packets_per_sec.get(),
            unknown_codecs: config.rtp.unknown_codecs,
        };
        let door = Door::default();
        let parts = Parts {
            journal: self.journal.clone(),
            capture,
            ports,
            routes: Routes::new(bind),
            policy: self.policy.clone(),
            door: door.clone(),
            health: self.health.clone(),
            shutdown: self.shutdown.clone(),
        };
        let mut recorder = Recorder::new(settings, parts);
        let now = Instant::now();
        recorder.renew_trunks(&mut srs);
        recorder.resume(now, &mut srs, std::mem::take(&mut self.live));
        // From here on OPTIONS and INVITE are answered as the state of things is.
        recorder.tick(now, &mut srs);
        let signaling = Signaling::start(listeners, srs, door);
        let _ = listening.send(local);

        let stopped = signaling.run(&mut recorder, &mut swept, &mut self.controls).await;
        recorder.stop_capture();
        while let Some(last) = swept.recv().await {
            recorder.swept(last);
        }
        let left = recorder.finish();
        match stopped {
            Stopped::AsAsked => Ok(left),
            Stopped::CaptureDied => Err(RunError::Died("capture has died")),
        }
    }
}

fn srs_config(config: &Config) -> SrsConfig {
    SrsConfig {
        server: concat!("Linekeeper/", env!("CARGO_PKG_VERSION")).to_owned(),
        advertised_host: config.sip.advertised_host.clone(),
        admit_strangers: config.sip.strangers == Strangers::Record,
        realm: config.sip.realm.clone(),
        // One stream each, at the least; ports are what really runs out.
        max_sessions: config.rtp.ports.pairs() as usize,
        ..SrsConfig::default()
    }
}
