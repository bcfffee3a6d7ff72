//! Puts the embedded object into the kernel, with the globals and map sizes of this host.

use agent_common::{config, stats};
use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf},
    programs::ProgramError,
};
use aya_log::EbpfLogger;
use thiserror::Error;

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
}

/// The kernel half, loaded and not yet attached. Dropping it detaches and unloads everything; the
/// kernel does the same when this process dies in any way, since nothing is pinned.
pub struct KernelHalf {
    pub(super) ebpf: Ebpf,
    /// What the programs have to say (aya-log). It holds a map that they refer to, so it must
    /// live until the last of them is loaded.
    log: Option<EbpfLogger<&'static dyn log::Log>>,
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
        let mut refused = None;
        for (netns_cookie, current_pid) in features {
            let mut ebpf = load_object(options, netns_cookie, current_pid)?;
            match load_wire_programs(&mut ebpf) {
                Ok(()) => return Ok(Self::new(ebpf)),
                Err(error) => refused.get_or_insert(error),
            };
        }
        Err(refused.unwrap_or(LoadError::Missing("wire_ingress")))
    }

    fn new(mut ebpf: Ebpf) -> Self {
        let log = match EbpfLogger::init(&mut ebpf) {
            Ok(log) => Some(log),
            Err(error) => {
                log::debug!("what the kernel half logs will not be seen: {error}");
                None
            }
        };
        Self { ebpf, log }
    }

    /// Passes on what the programs logged since the last call.
    pub fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Forgets which threads are inside a handshake call: nobody tells any more when they leave.
    pub(super) fn forget_calls(&mut self) {
        let Some(map) = self.ebpf.map_mut("TASKS") else {
            return;
        };
        let tasks: Result<HashMap<_, u64, u64>, _> = map.try_into();
        if let Ok(mut tasks) = tasks {
            let inside: Vec<u64> = tasks.keys().filter_map(Result::ok).collect();
            for task in inside {
                // It may have been evicted meanwhile.
                let _ = tasks.remove(&task);
            }
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
        let map = self
            .ebpf
            .take_map("STATS")
            .ok_or(LoadError::Missing("map STATS"))?;
        let counters = PerCpuArray::try_from(map).map_err(|source| LoadError::Map {
            name: "STATS",
            source,
        })?;
        Ok(KernelStats { counters })
    }
}

impl KernelStats {
    /// The counters of `agent_common::stats`, summed over the processors.
    ///
    /// # Errors
    /// [`LoadError::Map`] when the kernel does not answer.
    pub fn read(&self) -> Result<[u64; stats::COUNT as usize], LoadError> {
        let mut sums = [0; stats::COUNT as usize];
        for (index, sum) in (0_u32..).zip(&mut sums) {
            let values = self
                .counters
                .get(&index, 0)
                .map_err(|source| LoadError::Map {
                    name: "STATS",
                    source,
                })?;
            *sum = values.iter().sum();
        }
        Ok(sums)
    }
}

fn load_object(options: LoadOptions, netns_cookie: u8, current_pid: u8) -> Result<Ebpf, LoadError> {
    let library_tap = u8::from(options.library_tap);
    let wakeup_bytes = u64::from(options.ring_bytes) / 4;
    EbpfLoader::new()
        .override_global(config::NETNS_COOKIE, &netns_cookie, true)
        .override_global(config::CURRENT_PID, &current_pid, true)
        .override_global(config::LIBRARY_TAP, &library_tap, true)
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
fn refused_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}
