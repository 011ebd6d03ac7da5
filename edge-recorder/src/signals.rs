//! What signals mean: SIGTERM drains, SIGINT syncs and goes; a second one of either goes at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::drain::Shutdown;

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From here on a signal no longer ends the process by itself.
    pub fn listen() -> std::io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { terminate, interrupt })
    }

    /// Turns signals into wishes, for as long as it is polled.
    pub async fn obey(mut self, shutdown: Shutdown, drain_deadline: Duration) {
        let first = self.next().await;
        if first == SignalKind::interrupt() {
            tracing::info!("SIGINT: syncing and stopping; the next start goes on with live calls");
            shutdown.now();
        } else {
            tracing::info!("SIGTERM: stopping when the last call has ended; again: at once");
            shutdown.drain(drain_deadline);
            self.next().await;
            tracing::info!("second signal: syncing and stopping");
            shutdown.now();
        }
        // Whoever asks once more does not want to wait for a disk that hangs. What is journaled
        // and synced is safe anyway; the exit code says that it was not clean.
        self.next().await;
        std::process::exit(130);
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}
