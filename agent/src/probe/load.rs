//! Puts the embedded object into the kernel, with the globals and map sizes of this host.

use agent_common::{call::Call, config, stats};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, RingBuf},
    programs::ProgramError,
};
use aya_log::EbpfLogger;
use thiserror::Error;

use crate::host::btf::{ClockOffsets, TaskOffsets, have_same_clocks};

/// The compiled kernel half, put here by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/resumetry.bpf.o"));

const WIRE_PROGRAMS: [&str; 2] = ["wire_ingress", "wire_egress"];

/// Why the kernel half could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    #[error(
        "the kernel refused to load Resumetry's programs: {source}\n\
         run as root, or grant the binary CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_PTRACE \
         (`resumetry doctor` shows which is missing)"
    )]
    Privilege { source: Box<EbpfError> },
    #[error(
        "cannot load Resumetry's programs into this kernel: {source}\n\
         Linux 5.10 or newer is needed; `resumetry doctor` shows what this kernel offers"
    )]
    Object { source: Box<EbpfError> },
    #[error(
        "the kernel refused to load Resumetry's program {program}: {source}\n\
         without permission: run as root, or grant CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN \
         (`resumetry doctor` shows which is missing)"
    )]
    Program {
        program: &'static str,
        source: ProgramError,
    },
    #[error("the embedded object lacks {0}; this binary was built wrongly")]
    Missing(&'static str),
    #[error("cannot use map {name}: {source}")]
    Map {
        name: &'static str,
        source: MapError,
    },
}

/// What user space chooses before loading.
#[derive(Debug, Clone, Copy)]
pub struct LoadOptions {
    /// Size of the ring buffer, bytes; a power of two of at least a page.
    pub ring_bytes: u32,
    /// Whether the library tap will be attached.
    pub library_tap: bool,
    /// Share of the connections that are followed to their first response, percent.
    pub responses: u8,
    /// Where on-CPU times of tasks are.
    pub task: Option<TaskOffsets>,
    /// Where a socket keeps when it was established (`established_offset`), bytes.
    pub established: Option<u32>,
}

/// The kernel half, loaded and not yet attached. Dropping it detaches and unloads everything; the
/// kernel does the same when this process dies in any way, since nothing is pinned.
pub struct KernelHalf {
    pub(super) ebpf: Ebpf,
    /// What the programs have to say (aya-log). It holds a map that they refer to, so it must
    /// live until the last of them is loaded.
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    /// Whether the wire tap reads from sockets when they were established.
    reads_established: bool,
}

/// The counters of the kernel half, readable from any thread.
pub struct KernelStats {
    counters: PerCpuArray<MapData, u64>,
}

impl KernelHalf {
    /// Loads the object with as many kernel features as this kernel grants.
    ///
    /// # Errors
    /// [`LoadError`], see its texts.
    pub fn load(options: LoadOptions) -> Result<Self, LoadError> {
        // Helpers that a kernel does not offer to cgroup_skb make the verifier refuse the program;
        // there is no other way to ask than to try.
        let features = [(1_u8, 1_u8), (0, 1), (1, 0), (0, 0)];
        let established = options.established.map(Some).into_iter().chain([None]);
        let mut refused = None;
        for established in established {
            let options = LoadOptions {
                established,
                ..options
            };
            for (netns_cookie, current_pid) in features {
                let mut ebpf = load_object(options, netns_cookie, current_pid)?;
                match load_wire_programs(&mut ebpf) {
                    Ok(()) => return Ok(Self::new(ebpf, established.is_some())),
                    Err(error) => refused.get_or_insert(error),
                };
            }
        }
        Err(refused.unwrap_or(LoadError::Missing("wire_ingress")))
    }

    fn new(mut ebpf: Ebpf, reads_established: bool) -> Self {
        let log = match EbpfLogger::init(&mut ebpf) {
            Ok(log) => Some(log),
            Err(error) => {
                log::debug!("what the kernel half logs will not be seen: {error}");
                None
            }
        };
        Self {
            ebpf,
            log,
            reads_established,
        }
    }

    /// Whether the wire tap knows by itself when a connection was established, so that the socket tap
    /// is not needed.
    pub fn reads_established(&self) -> bool {
        self.reads_established
    }

    /// Passes on what the programs logged since the last call.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Forgets which threads are inside a handshake call, and which was their last: nobody tells any
    /// more when they leave.
    pub(super) fn forget_calls(&mut self) {
        if let Some(map) = self.ebpf.map_mut("CALLS")
            && let Ok(mut calls) = Array::<_, u64>::try_from(map)
        {
            // Else packets are looked up in vain, which costs a little.
            let _ = calls.set(0, 0, 0);
        }
        let Some(map) = self.ebpf.map_mut("TASKS") else {
            return;
        };
        let tasks: Result<HashMap<_, u64, Call>, _> = map.try_into();
        if let Ok(mut tasks) = tasks {
            let inside: Vec<u64> = tasks.keys().filter_map(Result::ok).collect();
            for task in inside {
                // It may have been evicted meanwhile.
                let _ = tasks.remove(&task);
            }
        }
    }

    /// Tells the programs what a trap takes, nanoseconds.
    pub(super) fn set_trap_ns(&mut self, trap_ns: u64) {
        let Some(map) = self.ebpf.map_mut("TRAP") else {
            return;
        };
        let set = Array::<_, u64>::try_from(map).and_then(|mut trap| trap.set(0, trap_ns, 0));
        if let Err(error) = set {
            log::debug!("the time of a trap stays in that of primitives: {error}");
        }
    }

    /// Takes the ring buffer; only the first call gets it.
    ///
    /// # Errors
    /// [`LoadError::Missing`] on a second call.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, LoadError> {
        let map = self
            .ebpf
            .take_map("EVENTS")
            .ok_or(LoadError::Missing("map EVENTS"))?;
        RingBuf::try_from(map).map_err(|source| LoadError::Map {
            name: "EVENTS",
            source,
        })
    }

    /// Takes the counters; only the first call gets them.
    ///
    /// # Errors
    /// [`LoadError::Missing`] on a second call.
    pub fn take_stats(&mut self) -> Result<KernelStats, LoadError> {
        let counters = self.take_counters("STATS", "map STATS")?;
        Ok(KernelStats { counters })
    }

    pub(super) fn take_counters(
        &mut self,
        name: &'static str,
        missing: &'static str,
    ) -> Result<PerCpuArray<MapData, u64>, LoadError> {
        let map = self
            .ebpf
            .take_map(name)
            .ok_or(LoadError::Missing(missing))?;
        PerCpuArray::try_from(map).map_err(|source| LoadError::Map { name, source })
    }
}

impl KernelStats {
    /// The counters of `agent_common::stats`, summed over the processors.
    ///
    /// # Errors
    /// [`LoadError::Map`] when the kernel does not answer.
    pub fn read(&self) -> Result<[u64; stats::COUNT as usize], LoadError> {
        read_sums(&self.counters, "STATS")
    }
}

/// The first `N` counters, summed over the processors.
pub(super) fn read_sums<const N: usize>(
    counters: &PerCpuArray<MapData, u64>,
    name: &'static str,
) -> Result<[u64; N], LoadError> {
    let mut sums = [0; N];
    for (index, sum) in (0_u32..).zip(&mut sums) {
        let values = counters
            .get(&index, 0)
            .map_err(|source| LoadError::Map { name, source })?;
        *sum = values.iter().sum();
    }
    Ok(sums)
}

fn load_object(options: LoadOptions, netns_cookie: u8, current_pid: u8) -> Result<Ebpf, LoadError> {
    let library_tap = u8::from(options.library_tap);
    let wakeup_bytes = u64::from(options.ring_bytes) / 4;
    let followed_share = share_of_all(options.responses);
    let (sum_exec_runtime, exec_start) = options
        .task
        .map_or((0, 0), |task| (task.sum_exec_runtime, task.exec_start));
    let clocks = options.task.and_then(|task| task.clocks);
    let clock = |offset: fn(ClockOffsets) -> u32| clocks.map_or(0, offset);
    let run_queue = clock(|clocks| clocks.run_queue);
    let processor_queue = clock(|clocks| clocks.processor_queue);
    let (own_clock, clock_task) = (
        clock(|clocks| clocks.clock),
        clock(|clocks| clocks.clock_task),
    );
    let established = options.established.unwrap_or(0);
    let same_clocks = u8::from(have_same_clocks());
    EbpfLoader::new()
        .override_global(config::RUN_QUEUE, &run_queue, true)
        .override_global(config::PROCESSOR_QUEUE, &processor_queue, true)
        .override_global(config::CLOCK, &own_clock, true)
        .override_global(config::CLOCK_TASK, &clock_task, true)
        .override_global(config::SAME_CLOCKS, &same_clocks, true)
        .override_global(config::NETNS_COOKIE, &netns_cookie, true)
        .override_global(config::CURRENT_PID, &current_pid, true)
        .override_global(config::LIBRARY_TAP, &library_tap, true)
        .override_global(config::SUM_EXEC_RUNTIME, &sum_exec_runtime, true)
        .override_global(config::EXEC_START, &exec_start, true)
        .override_global(config::ESTABLISHED, &established, true)
        .override_global(config::FOLLOWED_SHARE, &followed_share, true)
        .override_global(config::WAKEUP_BYTES, &wakeup_bytes, true)
        .map_max_entries("EVENTS", options.ring_bytes)
        .load(OBJECT)
        .map_err(|error| {
            let source = Box::new(error);
            if refused_permission(source.as_ref()) {
                LoadError::Privilege { source }
            } else {
                LoadError::Object { source }
            }
        })
}

/// Percent as a share of 2^32; 100 and more is all.
fn share_of_all(percent: u8) -> u32 {
    u32::try_from(u64::from(percent) * (1 << 32) / 100).unwrap_or(u32::MAX)
}

fn load_wire_programs(ebpf: &mut Ebpf) -> Result<(), LoadError> {
    for program in WIRE_PROGRAMS {
        let loaded: &mut aya::programs::CgroupSkb = ebpf
            .program_mut(program)
            .ok_or(LoadError::Missing(program))?
            .try_into()
            .map_err(|source| LoadError::Program { program, source })?;
        loaded
            .load()
            .map_err(|source| LoadError::Program { program, source })?;
    }
    Ok(())
}

/// True when EPERM or EACCES stands anywhere in the chain of causes.
pub(super) fn refused_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}
