//! What leaves the agent: metrics, the built-in page, and the JSON behind it.
//!
//! The pipeline writes into one [`State`]; whoever exports reads a copy of it. Nothing here knows
//! where records come from.

mod compression;
mod held;
mod judge;
mod live;
pub mod metrics;
mod metrics_overhead;
mod metrics_self;
pub mod otlp;
mod page;
mod process;
mod quota;
pub mod server;
mod view;
pub mod web;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::core::aggregate::{AggregateConfig, Aggregator, Quota};
use crate::core::findings::Limits;
use crate::core::overhead::Overhead;
use crate::core::record::{Handshake, Process};
use crate::tap::Tap;
use judge::Judged;
use live::Live;
use metrics_self::SelfMetrics;
use view::Moment;

pub use metrics_self::{EventLoss, HandshakeLoss};

/// Whether the agent sees handshakes yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Everything that can be attached is.
    Ready,
    /// Not (yet, or any more), and why.
    NotReady(String),
}

/// All that is exported, written by the pipeline and read at each scrape.
///
/// Totals are absolute: a source that keeps its own count (the kernel does) sets it as it stands.
#[derive(Debug)]
pub struct State {
    aggregator: Mutex<Aggregator>,
    own: Mutex<SelfMetrics>,
    /// Added to CLOCK_MONOTONIC it gives Unix time, nanoseconds.
    wall_offset_ns: Mutex<i128>,
    readiness: Mutex<Readiness>,
    /// Constant labels of every `tls_*` metric (`--label`).
    labels: Vec<(String, String)>,
    /// What was sent by OTLP; empty where nothing is.
    otlp: OnceLock<Arc<otlp::Counters>>,
    /// What good practice is held against.
    limits: Limits,
    findings: Mutex<Judged>,
    /// As the kernel says of the host's clock.
    clock_synchronised: Mutex<Option<bool>>,
    live: Live,
    /// CLOCK_MONOTONIC at the latest look at it, nanoseconds; 0 before the first.
    now_ns: AtomicU64,
    /// At the first.
    started_ns: AtomicU64,
}

impl State {
    pub fn new(config: AggregateConfig, labels: Vec<(String, String)>) -> Self {
        State {
            aggregator: Mutex::new(Aggregator::new(config)),
            own: Mutex::new(SelfMetrics::default()),
            wall_offset_ns: Mutex::new(0),
            readiness: Mutex::new(Readiness::NotReady("still attaching".into())),
            labels,
            otlp: OnceLock::new(),
            limits: Limits::default(),
            findings: Mutex::default(),
            clock_synchronised: Mutex::new(None),
            live: Live::default(),
            now_ns: AtomicU64::new(0),
            started_ns: AtomicU64::new(0),
        }
    }

    /// The same, with other limits of good practice.
    #[must_use]
    pub fn judging_by(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Counts one finished handshake.
    pub fn record(&self, handshake: &Handshake, service: Option<&str>, now_ns: u64) {
        lock(&self.aggregator).record(handshake, service, now_ns);
    }

    /// Counts one finished handshake of a process, where that is known.
    pub fn record_of(&self, handshake: &Handshake, process: Option<&Process>, now_ns: u64) {
        let service = process.and_then(|process| process.service.as_deref());
        let pod = process.and_then(|process| process.pod.as_ref());
        lock(&self.aggregator).record_in(handshake, service, pod, now_ns);
    }

    /// The aggregator itself, to enter many records under one lock. Hold it briefly: a scrape
    /// waits for it, and it for a scrape's copy of a family (less than a millisecond).
    pub fn aggregator(&self) -> MutexGuard<'_, Aggregator> {
        lock(&self.aggregator)
    }

    /// Removes idle series; once in a few seconds is enough.
    pub fn expire(&self, now_ns: u64) {
        lock(&self.aggregator).expire(now_ns);
    }

    /// Quota per server name and role, busiest first.
    fn quotas(&self) -> Vec<Quota> {
        let mut handshakes = Vec::new();
        {
            let aggregator = lock(&self.aggregator);
            aggregator.samples(&aggregator.names(), |set| &set.handshakes, &mut handshakes);
        }
        Quota::of(&handshakes)
    }

    /// Events that `tap` submitted so far.
    pub fn set_events(&self, tap: Tap, total: u64) {
        lock(&self.own).set_events(tap, total);
    }

    /// Events of `tap` that were lost so far.
    pub fn set_events_lost(&self, tap: Tap, reason: EventLoss, total: u64) {
        lock(&self.own).set_events_lost(tap, reason, total);
    }

    /// Handshakes of which `tap` could describe `described`, of `counted` seen in the kernel.
    /// Leave out those still in progress.
    pub fn set_coverage(&self, tap: Tap, described: u64, counted: u64) {
        lock(&self.own).set_coverage(tap, described, counted);
    }

    /// Handshakes that were seen but could not be described so far.
    pub fn set_handshakes_lost(&self, reason: HandshakeLoss, total: u64) {
        lock(&self.own).set_handshakes_lost(reason, total);
    }

    /// ClientHellos of DTLS since the start.
    pub fn set_dtls_hellos(&self, total: u64) {
        lock(&self.own).set_dtls_hellos(total);
    }

    /// Replaces the list of attached library files: one `(library, version)` for each.
    pub fn set_libraries(&self, attached: impl IntoIterator<Item = (String, String)>) {
        lock(&self.own).set_libraries(attached);
    }

    /// Pods of this node that are known, and how often the API could not be read.
    pub fn set_pods(&self, known: usize, failures: u64) {
        lock(&self.own).set_pods(known, failures);
    }

    /// What watching costs.
    pub fn set_overhead(&self, overhead: Overhead) {
        lock(&self.own).set_overhead(overhead);
    }

    /// When `probe` last fired, Unix time in seconds.
    pub fn set_probe_hit(&self, probe: &str, unix_seconds: f64) {
        lock(&self.own).set_probe_hit(probe, unix_seconds);
    }

    /// What to add to CLOCK_MONOTONIC to get Unix time, nanoseconds.
    pub fn set_wall_offset(&self, offset_ns: i128) {
        *lock(&self.wall_offset_ns) = offset_ns;
    }

    fn wall_offset_ns(&self) -> i128 {
        *lock(&self.wall_offset_ns)
    }

    /// What time it is: CLOCK_MONOTONIC, nanoseconds. Whoever reads the state reads none.
    pub fn set_now(&self, now_ns: u64) {
        self.now_ns.store(now_ns, Ordering::Relaxed);
        // Fails each time but the first.
        let _ = self
            .started_ns
            .compare_exchange(0, now_ns, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn moment(&self) -> Moment {
        Moment {
            now_ns: self.now_ns.load(Ordering::Relaxed),
            started_ns: self.started_ns.load(Ordering::Relaxed),
            offset_ns: self.wall_offset_ns(),
        }
    }

    /// Whether the kernel says that the host's clock is synchronised.
    pub fn set_clock_synchronised(&self, synchronised: Option<bool>) {
        *lock(&self.clock_synchronised) = synchronised;
    }

    /// Passes a record on to those who look on, as `write` makes it.
    pub fn show(&self, write: impl FnOnce() -> Option<String>) {
        self.live.show(self.now_ns.load(Ordering::Relaxed), write);
    }

    /// Ends what is shown to those who look on: nothing more will come.
    pub fn end_show(&self) {
        self.live.end();
    }

    pub fn set_readiness(&self, readiness: Readiness) {
        *lock(&self.readiness) = readiness;
    }

    pub fn readiness(&self) -> Readiness {
        lock(&self.readiness).clone()
    }

    /// Where the OTLP exporter counts; from now on `/metrics` shows it.
    fn count_otlp(&self) -> Arc<otlp::Counters> {
        Arc::clone(self.otlp.get_or_init(Arc::default))
    }

    fn own(&self) -> SelfMetrics {
        lock(&self.own).clone()
    }
}

/// Counters stay usable after a panic elsewhere: none of them is left half-written in a way that
/// could be unsound, and a scrape that fails would hide the panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
