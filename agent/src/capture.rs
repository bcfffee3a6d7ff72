//! Starts a capture: loads the kernel half, attaches what the configuration asks for and the host
//! allows, and hands out the pipeline. What cannot be had is said once, with the way out.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    num::NonZeroU32,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    thread::JoinHandle,
};

use thiserror::Error;

use crate::{
    config::{CaptureConfig, values::Demand},
    core::{
        fingerprint::Fingerprinter,
        inference::Inference,
        tracker::{Limits, Tracker},
    },
    explain::explain,
    host::{
        btf::{self, TaskOffsets},
        kubernetes::{self, KubernetesError},
        libraries::{self, Finder, LibraryFile},
        pods::PodTable,
        process::ProcessTable,
    },
    overhead::Inputs,
    pipeline::{Pipeline, Watched},
    probe::{
        self, AttachError, CgroupError, KernelHalf, LibraryEvents, LibraryProbes, LoadError,
        LoadOptions, lacks_symbol,
    },
    source::{recording::Recorder, ring::EventRing},
    tap::Tap,
    watch::{self, Notice, Primitives, Report, Scope, Windows},
};

/// Why a capture cannot start.
#[derive(Debug, Error)]
pub enum CaptureError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error("nothing could be attached; {0}")]
    Nothing(String),
    #[error(
        "cannot read the library {path}: {source}\n--library takes the path of a libssl that exists on this host",
        path = path.display()
    )]
    Library { path: PathBuf, source: io::Error },
    #[error(
        "cannot probe the library {path}: {reason}\n--library takes the path of a libssl that exports SSL_do_handshake; leave it out to probe every libssl in use",
        path = path.display()
    )]
    Probe { path: PathBuf, reason: String },
    #[error("cannot write the recording {path}: {source}", path = path.display())]
    Recording { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
}

/// Takes what the watcher tells, for metrics.
pub type Reporter = Box<dyn FnMut(&Report) + Send>;

/// A capture that is running.
pub struct Capture {
    pub pipeline: Pipeline,
    /// The taps that are attached.
    pub taps: Vec<Tap>,
    /// Library files that are probed at start.
    pub libraries: usize,
    /// The pods of this node, where Kubernetes tells of them.
    pub pods: Option<Arc<PodTable>>,
    watcher: Watcher,
}

/// The thread that holds the kernel half. Dropping it detaches everything.
pub struct Watcher {
    notices: Sender<Notice>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Loads and attaches. When it returns, everything that can be attached is.
    ///
    /// # Errors
    /// [`CaptureError`] when a tap that was asked for by name cannot work, or none can.
    pub fn start(config: &CaptureConfig, mut report: Reporter) -> Result<Self, CaptureError> {
        let scope = Scope {
            libraries: named_libraries(&config.libraries)?,
            finder: Finder::new(Path::new("/proc")),
            calls: Windows::new(config.handshake_calls),
            primitives: Primitives::new(config.primitives),
        };
        let recorder = recorder(config)?;
        let library = config.taps.library() != Demand::No;
        let mut half = KernelHalf::load(LoadOptions {
            ring_bytes: config.ring_bytes,
            library_tap: library,
            responses: config.responses,
            task: library.then(task_offsets).flatten(),
            established: established_offset(),
        })?;
        let ring = EventRing::new(half.take_events()?);
        let stats = Arc::new(half.take_stats()?);

        let pods = kubernetes::follow(&config.kubernetes)?;
        let mut taps = Vec::new();
        let mut reasons = Vec::new();
        let cgroup = attach_cgroup_taps(&mut half, config, &mut taps, &mut reasons)?;
        let inputs = Inputs {
            hits: half.take_hits()?,
            stats: Arc::clone(&stats),
            cgroup,
            limit: config.max_overhead.ratio(),
        };
        let mut probes = None;
        if library {
            match attach_library_tap(&mut half, config, scope.calls.is_open_at_start()) {
                Ok(loaded) => {
                    taps.push(Tap::Library);
                    probes = Some(loaded);
                }
                Err(error) => left_out(config.taps.library(), error.into(), &mut reasons)?,
            }
        }
        if taps.is_empty() {
            return Err(CaptureError::Nothing(reasons.join("\n")));
        }

        let mut attached = 0;
        let mut tell = move |event: Report| {
            if let Report::Library(event) = &event {
                log_library(event);
            }
            report(&event);
        };
        if let Some(probes) = &mut probes {
            for event in probes.update(&mut half, watch::scan(&scope), true) {
                // A file that was named must be right; one that was found may be anything.
                match event {
                    LibraryEvents::Failed(file, error) if !scope.libraries.is_empty() => {
                        return Err(CaptureError::Probe {
                            path: file.path_in_process,
                            reason: error.reason(),
                        });
                    }
                    event => {
                        attached += usize::from(matches!(event, LibraryEvents::Attached(_)));
                        tell(Report::Library(event));
                    }
                }
            }
        }
        if let Some(probes) = &mut probes
            && scope.calls.is_open_at_start()
            && config.primitives >= 100
        {
            scope.primitives.switch(&mut half, probes, true);
        }
        let primitives_since = scope.primitives.since();
        let (notices, inbox) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("libraries".into())
            .spawn(move || {
                watch::follow(half, probes, &scope, inputs, &inbox, tell);
            })
            .map_err(CaptureError::Thread)?;
        let limits = Limits {
            handshake_timeout_ns: u64::try_from(config.handshake_timeout.as_nanos())
                .unwrap_or(u64::MAX),
            ..Limits::default()
        };
        let fingerprinter = Fingerprinter::new(config.fingerprint_salt.as_bytes());
        let mut tracker = Tracker::new(limits, fingerprinter);
        if config.check_weak_keys {
            tracker.check_weak_keys();
        }
        Ok(Self {
            pipeline: Pipeline {
                ring,
                stats,
                tracker,
                primitives_since,
                inference: Inference::default(),
                processes: ProcessTable::new("/proc").with_pods(pods.clone()),
                watcher: Watched::new(notices.clone()),
                recorder,
            },
            taps,
            libraries: attached,
            pods,
            watcher: Watcher {
                notices,
                thread: Some(thread),
            },
        })
    }

    /// The pipeline, and what keeps the probes attached until it is dropped.
    pub fn into_parts(self) -> (Pipeline, Watcher) {
        (self.pipeline, self.watcher)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.notices.send(Notice::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the library watcher panicked");
        }
    }
}

/// Where the kernel keeps the on-CPU time of threads.
fn task_offsets() -> Option<TaskOffsets> {
    TaskOffsets::of_this_kernel()
        .inspect_err(|error| {
            log::warn!("{error}\nCPU time of handshakes will not be known");
        })
        .ok()
}

/// Where the kernel keeps when a connection was established.
fn established_offset() -> Option<u32> {
    btf::established_offset()
        .inspect_err(|error| log::debug!("{error}\nthe socket tap tells instead"))
        .ok()
}

/// The cgroup whose packets are watched, if any.
fn attach_cgroup_taps(
    half: &mut KernelHalf,
    config: &CaptureConfig,
    taps: &mut Vec<Tap>,
    reasons: &mut Vec<String>,
) -> Result<Option<OwnedFd>, CaptureError> {
    let wire = config.taps.wire();
    let socket = config.taps.socket();
    if wire == Demand::No && socket == Demand::No {
        return Ok(None);
    }
    let cgroup = match probe::open_cgroup(config.cgroup.as_deref()) {
        Ok(cgroup) => cgroup,
        // A directory that was named must be right.
        Err(error) if config.cgroup.is_some() => return Err(error.into()),
        Err(error) => {
            left_out(wire, error.into(), reasons)?;
            return Ok(None);
        }
    };
    if wire != Demand::No {
        match half.attach_wire(cgroup.as_fd()) {
            Ok(()) => taps.push(Tap::Wire),
            Err(error) => left_out(wire, error.into(), reasons)?,
        }
    }
    // Where the wire tap finds the time of establishment in the socket, nothing need run for it.
    if socket != Demand::No && !(taps.contains(&Tap::Wire) && half.reads_established()) {
        match half.attach_socket(cgroup.as_fd()) {
            Ok(()) => taps.push(Tap::Socket),
            Err(error) => left_out(socket, error.into(), reasons)?,
        }
    }
    Ok(Some(cgroup))
}

fn attach_library_tap(
    half: &mut KernelHalf,
    config: &CaptureConfig,
    watches_calls: bool,
) -> Result<LibraryProbes, AttachError> {
    let pids = config
        .pids
        .iter()
        .copied()
        .filter_map(NonZeroU32::new)
        .collect();
    let probes = LibraryProbes::load(half, pids, watches_calls)?;
    if let Err(error) = half.attach_exec() {
        log::warn!(
            "{}\nnew programs are found by the scan every 30 s instead",
            explain(&error)
        );
    }
    Ok(probes)
}

/// Reports a tap that cannot be attached; an error when the user insists on it.
fn left_out(
    demand: Demand,
    error: CaptureError,
    reasons: &mut Vec<String>,
) -> Result<(), CaptureError> {
    if demand == Demand::Required {
        return Err(error);
    }
    let reason = explain(&error);
    log::warn!("{reason}");
    reasons.push(reason);
    Ok(())
}

/// Files named with `--library`, as a scan would describe them.
fn named_libraries(paths: &[PathBuf]) -> Result<Vec<LibraryFile>, CaptureError> {
    paths
        .iter()
        .map(|path| {
            libraries::named(path).map_err(|source| CaptureError::Library {
                path: path.clone(),
                source,
            })
        })
        .collect()
}

fn recorder(
    config: &CaptureConfig,
) -> Result<Option<Recorder<Box<dyn Write + Send>>>, CaptureError> {
    let Some(path) = &config.record_events else {
        return Ok(None);
    };
    File::create(path)
        .and_then(|file| Recorder::new(Box::new(BufWriter::new(file)) as Box<dyn Write + Send>))
        .map(Some)
        .map_err(|source| CaptureError::Recording {
            path: path.clone(),
            source,
        })
}

fn log_library(event: &LibraryEvents) {
    match event {
        LibraryEvents::Attached(file) => {
            log::info!(
                "attached to {} ({} processes)",
                file.path_in_process.display(),
                file.pids.len()
            );
        }
        LibraryEvents::Detached(file) => {
            log::info!(
                "detached from {}, which nobody uses any more",
                file.path_in_process.display()
            );
        }
        LibraryEvents::Failed(file, error) if lacks_symbol(error) => {
            log::debug!("{} has no SSL_do_handshake", file.path_in_process.display());
        }
        LibraryEvents::Failed(file, error) => {
            log::warn!("{}: {}", file.path_in_process.display(), explain(error));
        }
    }
}
