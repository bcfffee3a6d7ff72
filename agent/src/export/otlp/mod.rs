//! Pushes metrics and, when asked, one log record a handshake to an OTLP receiver.
//!
//! It runs beside the pipeline and never holds it up: metrics are read from the [`State`] as a scrape
//! does, handshakes pass through a queue of fixed length. A receiver that is away costs what does not
//! fit, and that is counted.

mod client;
mod counters;
mod logs;
mod metrics;
mod names;
mod resource;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ahash::RandomState;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};

use super::{State, metrics as own};
use crate::config::otlp::OtlpConfig;
use crate::config::values::{AddressMask, Label};
use crate::core::record::{Handshake, Process};
use client::{Client, Payload, Refusal, Retry};
use counters::{Loss, Signal};
use logs::Entry;
use metrics::{Batch, Starts};
use resource::Identity;

pub use counters::Counters;

/// Handshakes that wait for the receiver; each takes about a kilobyte.
const QUEUE: usize = 8_192;

/// Log records of one request: some 1.5 MB before compression.
const RECORDS_PER_REQUEST: usize = 512;

/// How long a log record waits for others to go with.
const LINGER: Duration = Duration::from_secs(1);

/// How often the queue is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Times between attempts grow from the first to the second.
const BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// What is still to be sent when the agent ends has so long.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    #[error(
        "cannot read the certificates of authorities of --otlp-ca, {path}: {message}",
        path = path.display()
    )]
    Authority { path: PathBuf, message: String },
    #[error(
        "this host has no certificates of authorities to verify the OTLP receiver by; name a file of \
         them with --otlp-ca, or install the package ca-certificates"
    )]
    NoAuthorities,
    #[error("cannot set up TLS for OTLP: {0}")]
    Tls(String),
}

/// What runs, until [`Otlp::finish`].
pub struct Otlp {
    logs: Option<LogQueue>,
    stop: watch::Sender<Option<Instant>>,
    tasks: Vec<JoinHandle<()>>,
}

/// Takes handshakes for the receiver.
#[derive(Clone, Debug)]
pub struct LogQueue {
    queue: mpsc::Sender<Entry>,
    counters: Arc<Counters>,
}

impl LogQueue {
    /// Puts in a copy; never waits. What does not fit is counted as lost.
    pub fn push(&self, handshake: &Handshake, process: Option<&Process>, wall_offset_ns: i128) {
        let Ok(place) = self.queue.try_reserve() else {
            self.counters.lost(Signal::Logs, Loss::QueueFull, 1);
            return;
        };
        place.send(Entry {
            handshake: handshake.clone(),
            process: process.cloned(),
            wall_offset_ns,
        });
    }
}

impl Otlp {
    /// Starts to send. `labels` are the constant labels of the agent.
    ///
    /// # Errors
    /// [`OtlpError`], before anything runs.
    pub fn start(
        config: &OtlpConfig,
        labels: &[Label],
        client_address: AddressMask,
        state: &Arc<State>,
        runtime: &Runtime,
    ) -> Result<Self, OtlpError> {
        let client = Client::new(config)?;
        let counters = state.count_otlp();
        let node = rustix::system::uname();
        let attributes = config.attributes.iter();
        let identity = Identity::new(
            &node.nodename().to_string_lossy(),
            labels
                .iter()
                .map(|label| (label.name.as_str(), label.value.as_str()))
                .chain(attributes.map(|one| (one.name.as_str(), one.value.as_str()))),
        );
        let (stop, stop_receiver) = watch::channel(None);
        let sender = |signal| Sender {
            client: client.clone(),
            counters: Arc::clone(&counters),
            stop: stop_receiver.clone(),
            signal,
            complained: false,
        };
        let mut tasks = vec![runtime.spawn(send_metrics(
            sender(Signal::Metrics),
            Arc::clone(state),
            identity.clone(),
            config.interval,
        ))];
        let mut logs = None;
        if config.logs {
            let (queue, entries) = mpsc::channel(QUEUE);
            logs = Some(LogQueue {
                queue,
                counters: Arc::clone(&counters),
            });
            tasks.push(runtime.spawn(send_logs(
                sender(Signal::Logs),
                entries,
                identity,
                client_address,
            )));
        }
        Ok(Self { logs, stop, tasks })
    }

    /// Where handshakes go, when records were asked for.
    pub fn logs(&self) -> Option<LogQueue> {
        self.logs.clone()
    }

    /// Sends what is left, for a few seconds at most.
    pub async fn finish(self) {
        drop(self.logs);
        self.stop.send_replace(Some(Instant::now() + FAREWELL));
        for task in self.tasks {
            if task.await.is_err() {
                log::error!("the OTLP exporter panicked");
            }
        }
    }
}

/// Sends requests of one signal, again and again where that may help.
struct Sender {
    client: Client,
    counters: Arc<Counters>,
    stop: Stop,
    signal: Signal,
    /// The receiver's last failure was logged.
    complained: bool,
}

impl Sender {
    /// Tries until the receiver took `payload`, or does not want it, or `deadline` or the farewell's end
    /// has come.
    async fn deliver(&mut self, payload: Payload, items: u64, deadline: Option<Instant>) {
        let mut backoff = BACKOFF;
        let mut ending = self.stop.borrow().is_some();
        let loss = loop {
            let refusal = tokio::select! {
                answer = self.client.send(&payload) => match answer {
                    Ok(receipt) => {
                        let rejected = receipt.rejected.min(items);
                        self.counters.sent(self.signal, items - rejected);
                        self.counters.lost(self.signal, Loss::Rejected, rejected);
                        self.recovered(rejected, &receipt.message);
                        return;
                    }
                    Err(refusal) => refusal,
                },
                () = past(deadline) => break Loss::Undelivered,
                () = gone(self.stop.clone()) => break Loss::Undelivered,
            };
            self.counters.failed(self.signal);
            self.complain(&refusal);
            let wait = match refusal.retry {
                Retry::Never => break Loss::Rejected,
                Retry::After(wait) => wait,
                Retry::Later => jittered(backoff),
            };
            backoff = (backoff * 2).min(MAX_BACKOFF);
            tokio::select! {
                () = sleep(wait) => {}
                () = past(deadline) => break Loss::Undelivered,
                () = gone(self.stop.clone()) => break Loss::Undelivered,
                // There is little time left: at once.
                _ = farewell(self.stop.clone()), if !ending => ending = true,
            }
        };
        self.counters.lost(self.signal, loss, items);
    }

    /// Says once that the receiver does not take what is sent, and once that it does again.
    fn complain(&mut self, refusal: &Refusal) {
        let signal = self.signal.as_str();
        if self.complained {
            log::debug!("OTLP {signal}: {refusal}");
        } else {
            log::warn!("the OTLP receiver does not take {signal}: {refusal}");
            self.complained = true;
        }
    }

    fn recovered(&mut self, rejected: u64, message: &str) {
        let signal = self.signal.as_str();
        if rejected > 0 && !self.complained {
            log::warn!("the OTLP receiver rejected {rejected} items of {signal}: {message}");
            self.complained = true;
        } else if rejected == 0 && self.complained {
            log::info!("the OTLP receiver takes {signal} again");
            self.complained = false;
        }
    }
}

async fn past(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Until when what is left may be sent; `None` while the agent runs.
type Stop = watch::Receiver<Option<Instant>>;

/// Waits until the agent ends; until when what is left may be sent.
async fn farewell(mut stop: Stop) -> Instant {
    match stop.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(until)) => *until,
        // The exporter was dropped without a farewell.
        _ => Instant::now(),
    }
}

/// Waits until nothing may be sent any more.
async fn gone(stop: Stop) {
    sleep_until(farewell(stop).await).await;
}

/// Between half of it and all: agents that lost the same receiver do not come back at once.
fn jittered(wait: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 512;
    wait / 2 + wait * u32::try_from(random).unwrap_or(0) / 1_024
}

fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0))
}

async fn send_metrics(
    mut sender: Sender,
    state: Arc<State>,
    identity: Identity,
    interval: Duration,
) {
    let mut starts = Starts::new(unix_ns());
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending = false;
    while !ending {
        let deadline = tokio::select! {
            tick = ticks.tick() => tick + interval,
            until = farewell(sender.stop.clone()) => {
                ending = true;
                until
            }
        };
        let now_ns = unix_ns();
        let families = match own::families(&state) {
            Ok(families) => families,
            Err(error) => {
                log::error!("cannot make metrics for OTLP: {error}");
                continue;
            }
        };
        for Batch { request, points } in
            metrics::requests(&families, &identity, &mut starts, now_ns)
        {
            // Totals of a minute ago are of no use any more.
            sender
                .deliver(Payload::Metrics(request), points, Some(deadline))
                .await;
        }
    }
}

async fn send_logs(
    mut sender: Sender,
    mut entries: mpsc::Receiver<Entry>,
    identity: Identity,
    client_address: AddressMask,
) {
    while let Some(first) = entries.recv().await {
        let linger_until = Instant::now() + LINGER;
        while entries.len() + 1 < RECORDS_PER_REQUEST
            && Instant::now() < linger_until
            && sender.stop.borrow().is_none()
        {
            sleep(LOOK).await;
        }
        let mut batch = vec![first];
        while batch.len() < RECORDS_PER_REQUEST
            && let Ok(entry) = entries.try_recv()
        {
            batch.push(entry);
        }
        let request = logs::request(&batch, &identity, client_address, unix_ns());
        sender
            .deliver(Payload::Logs(request), batch.len() as u64, None)
            .await;
    }
}
