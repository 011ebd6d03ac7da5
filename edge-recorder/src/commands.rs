//! Takes commands from this edge's queue and answers each with an event.
//!
//! Promises, each a test:
//!
//! - A command that is too old is not carried out: "pause" must not come true an hour later,
//!   when the edge is back.
//! - A command that comes twice is carried out once.
//! - What cannot be read goes to the dead-letter queue, with the reason.
//! - A command leaves the queue only when its outcome is in the journal.
//!
//! Nothing on the recording path waits for this.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use model::EventBody;
use model::command::{Command, CommandBody, VERSION};
use model::id::CommandId;
use storage_ports::{Delivery, EventQueue};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::drain::Shutdown;
use crate::journal::{JournalHandle, Moment};
use crate::session::Control;

/// A command is shown as failed after a second; nobody expects it to work after a minute.
const OLDEST_MS: u64 = 60_000;

/// The longest that a queue may wait for a first message.
const POLL: Duration = Duration::from_secs(20);

const RETRY: Duration = Duration::from_secs(1);

/// How long the recording half may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// Outcomes remembered, to answer commands that come again.
const REMEMBERED: usize = 1_000;

/// Done or not, and why.
type Outcome = (bool, String);

pub struct Commands {
    queue: Arc<dyn EventQueue>,
    journal: JournalHandle,
    recorder: mpsc::Sender<Control>,
    shutdown: Shutdown,
    drain_deadline: Duration,
    policy_changed: Arc<Notify>,
    outcomes: Outcomes,
}

impl Commands {
    pub fn new(
        queue: Arc<dyn EventQueue>,
        journal: JournalHandle,
        recorder: mpsc::Sender<Control>,
        shutdown: Shutdown,
        drain_deadline: Duration,
        policy_changed: Arc<Notify>,
    ) -> Self {
        let outcomes = Outcomes::default();
        Self { queue, journal, recorder, shutdown, drain_deadline, policy_changed, outcomes }
    }

    /// For as long as it is polled.
    pub async fn run(mut self) {
        loop {
            match self.queue.receive(10, POLL).await {
                Ok(deliveries) => {
                    for delivery in deliveries {
                        self.take(delivery).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the command queue cannot be read, will try again");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn take(&mut self, delivery: Delivery) {
        let command = match parse(&delivery.body) {
            Ok(command) => command,
            Err(reason) => {
                tracing::warn!(reason, "a command could not be read");
                if let Err(error) = self.queue.dead_letter(&delivery, &reason).await {
                    tracing::warn!(%error, "command not put aside");
                }
                return;
            }
        };
        let (ok, detail) = match self.outcomes.known.get(&command.id) {
            Some(outcome) => outcome.clone(),
            None => self.carry_out(&command).await,
        };
        tracing::info!(command = %command.id, ok, detail, "command");
        self.outcomes.remember(command.id, (ok, detail.clone()));
        let done = EventBody::CommandDone { command: command.id, ok, detail };
        let synced = match self.journal.append_event(Moment::now().wall(), done) {
            Ok(position) => self.journal.sync(position).await,
            Err(error) => Err(error),
        };
        // Without an answer in the journal the command stays in the queue and comes again.
        let done = match synced {
            Ok(()) => self.queue.acknowledge(&delivery.receipt).await,
            Err(_) => self.queue.retry(&delivery.receipt, RETRY).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "the command queue did not take our answer");
        }
    }

    async fn carry_out(&self, command: &Command) -> Outcome {
        let age_ms = Moment::now().wall().ms_since(command.at);
        if age_ms > OLDEST_MS {
            return (false, format!("given {} s ago, too long to be meant now", age_ms / 1_000));
        }
        match &command.body {
            CommandBody::PolicyChanged => {
                self.policy_changed.notify_one();
                (true, String::new())
            }
            CommandBody::Drain => {
                self.shutdown.drain(self.drain_deadline);
                (true, String::new())
            }
            CommandBody::Pause { .. } | CommandBody::Resume { .. } | CommandBody::Stop { .. } => {
                let (answer, answered) = oneshot::channel();
                let control = Control::Command { body: command.body.clone(), answer };
                if self.recorder.try_send(control).is_err() {
                    return (false, "the recorder is busy or stopping".to_owned());
                }
                match timeout(ANSWER_LIMIT, answered).await {
                    Ok(Ok(Ok(()))) => (true, String::new()),
                    Ok(Ok(Err(why))) => (false, why),
                    Ok(Err(_)) => (false, "the recorder is stopping".to_owned()),
                    Err(_) => (false, "the recorder did not answer in time".to_owned()),
                }
            }
        }
    }
}

#[derive(Default)]
struct Outcomes {
    known: HashMap<CommandId, Outcome>,
    order: VecDeque<CommandId>,
}

impl Outcomes {
    fn remember(&mut self, id: CommandId, outcome: Outcome) {
        if self.known.insert(id, outcome).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

fn parse(body: &str) -> Result<Command, String> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    let malformed = |error: serde_json::Error| format!("not a command: {error}");
    let Versioned { version } = serde_json::from_str(body).map_err(malformed)?;
    if version > VERSION {
        return Err(format!("command version {version} is newer than {VERSION}: upgrade the edge"));
    }
    serde_json::from_str(body).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use model::WallTime;

    use super::*;

    #[test]
    fn a_command_is_read_and_what_is_not_one_is_told() {
        let id = CommandId::at(1, [1; 10]);
        let at = WallTime::default();
        let command = Command { version: VERSION, id, at, body: CommandBody::Drain };
        let text = serde_json::to_string(&command).unwrap();
        assert_eq!(parse(&text).unwrap().id, id);
        assert!(parse("{}").unwrap_err().starts_with("not a command"));
        let newer = text.replace("\"version\":1", "\"version\":2");
        assert!(parse(&newer).unwrap_err().contains("upgrade"));
    }

    #[test]
    fn outcomes_are_remembered_within_bounds() {
        let mut outcomes = Outcomes::default();
        for n in 0..=(REMEMBERED as u64) {
            let id = CommandId::at(n, [0; 10]);
            outcomes.remember(id, (true, String::new()));
            outcomes.remember(id, (true, String::new()));
        }
        assert_eq!((outcomes.known.len(), outcomes.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!outcomes.known.contains_key(&CommandId::at(0, [0; 10])));
    }
}
