//! What watching costs the watched servers, and what to leave out when that is too much: `model` turns
//! hits of probes into CPU time, `governor` holds that against the servers' own and decides. Nothing
//! here knows a clock, a file or a kernel.

mod governor;
mod model;

pub use governor::{Change, Governor, Sample, Verdict};
pub use model::{CostModel, Costs, Family, Hits, Optional, PROBES, Probe, Traps, Window};

/// What watching costs, for metrics.
#[derive(Debug, Clone, Default)]
pub struct Overhead {
    /// Over the CPU time of the processes that make handshakes; `None` where these do too little
    /// to tell.
    pub ratio: Option<f64>,
    /// So far, in the order of [`PROBES`].
    pub hits: [u64; PROBES.len()],
    /// CPU time so far, seconds, in the order of [`PROBES`].
    pub cost_seconds: [f64; PROBES.len()],
    /// In the order of [`Optional::ALL`].
    pub shed: [bool; Optional::ALL.len()],
}
