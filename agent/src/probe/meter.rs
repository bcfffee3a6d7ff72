//! How often probes ran, and how long: the counters of the kernel half, and the kernel's own
//! account of each program.

use std::os::fd::OwnedFd;

use agent_common::hits;
use aya::{
    maps::{MapData, PerCpuArray},
    sys::{Stats, SyscallError, enable_stats},
};

use super::load::{KernelHalf, LoadError};

/// The counters of `agent_common::hits`.
pub struct HitCounters {
    counters: PerCpuArray<MapData, u64>,
}

impl HitCounters {
    /// Summed over the processors.
    ///
    /// # Errors
    /// [`LoadError::Map`] when the kernel does not answer.
    pub fn read(&self) -> Result<[u64; hits::COUNT as usize], LoadError> {
        super::load::read_sums(&self.counters, "HITS")
    }
}

impl KernelHalf {
    /// Takes the counters; only the first call gets them.
    ///
    /// # Errors
    /// [`LoadError::Missing`] on a second call.
    pub fn take_hits(&mut self) -> Result<HitCounters, LoadError> {
        let counters = self.take_counters("HITS", "map HITS")?;
        Ok(HitCounters { counters })
    }

    /// Time that these programs ran while the kernel measured it, nanoseconds (`run_time_ns` of
    /// `bpf_prog_info`). Programs that are not loaded took none.
    pub fn run_time_ns(&self, programs: &[&str]) -> u64 {
        programs
            .iter()
            .filter_map(|name| self.ebpf.program(name)?.info().ok())
            .map(|info| u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX))
            .sum()
    }
}

/// Makes the kernel measure the run time of every BPF program on this host until the result is
/// dropped; it costs each of their runs two readings of a clock (`BPF_ENABLE_STATS`, 5.8).
///
/// # Errors
/// The kernel's reason; the call needs CAP_SYS_ADMIN.
pub fn measure_runs() -> Result<OwnedFd, SyscallError> {
    enable_stats(Stats::RunTime)
}
