//! What leaves the agent: metrics, the built-in page, and the JSON behind it.
//!
//! The pipeline writes into one [`State`]; whoever exports reads a copy of it. Nothing here knows
//! where records come from.

pub mod metrics;
mod metrics_self;
mod page;
mod process;
pub mod server;

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::core::aggregate::{AggregateConfig, Aggregator, Snapshot};
use crate::core::record::Handshake;
use crate::tap::Tap;
use metrics_self::SelfMetrics;

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
}

impl State {
    pub fn new(config: AggregateConfig, labels: Vec<(String, String)>) -> Self {
        State {
            aggregator: Mutex::new(Aggregator::new(config)),
            own: Mutex::new(SelfMetrics::default()),
            wall_offset_ns: Mutex::new(0),
            readiness: Mutex::new(Readiness::NotReady("still attaching".into())),
            labels,
        }
    }

    /// Counts one finished handshake.
    pub fn record(&self, handshake: &Handshake, service: Option<&str>, now_ns: u64) {
        lock(&self.aggregator).record(handshake, service, now_ns);
    }

    /// The aggregator itself, to enter many records under one lock. Hold it briefly: a scrape
    /// waits for it, and it for a scrape's copy (less than a millisecond).
    pub fn aggregator(&self) -> MutexGuard<'_, Aggregator> {
        lock(&self.aggregator)
    }

    /// Removes idle series; once in a few seconds is enough.
    pub fn expire(&self, now_ns: u64) {
        lock(&self.aggregator).expire(now_ns);
    }

    /// A copy of all series, sorted.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = lock(&self.aggregator).snapshot();
        snapshot.sort();
        snapshot
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

    /// Replaces the list of attached library files: one `(library, version)` for each.
    pub fn set_libraries(&self, attached: impl IntoIterator<Item = (String, String)>) {
        lock(&self.own).set_libraries(attached);
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

    pub fn set_readiness(&self, readiness: Readiness) {
        *lock(&self.readiness) = readiness;
    }

    pub fn readiness(&self) -> Readiness {
        lock(&self.readiness).clone()
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
