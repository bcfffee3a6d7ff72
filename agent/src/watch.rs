//! Follows the host's TLS libraries in a thread of its own: walking /proc and attaching probes may
//! take long on a busy host, and must never hold up the reading of events.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use crate::{
    core::overhead::Overhead,
    host::libraries::{Finder, LibraryFile},
    overhead::{Inputs, Meter},
    pipeline::monotonic_ns,
    probe::{KernelHalf, LibraryEvents, LibraryProbes},
};

/// A started program is looked at after these delays: the dynamic loader maps its libraries soon
/// after exec, others are opened while it reads its configuration.
const LOOKS: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(500),
    Duration::from_secs(3),
];

/// A full scan finds what those looks missed, and what nobody uses any more.
const FULL_SCAN: Duration = Duration::from_secs(30);

/// Started programs waiting for a look; beyond this the full scan has to find them.
const MAX_PENDING: usize = 1024;

/// Length of a round of watching calls of the handshake function and leaving it alone.
const ROUND: Duration = Duration::from_secs(10);

/// When calls of the handshake function are watched: a share of each round, at its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Windows {
    open: Duration,
}

impl Windows {
    /// `share` is in per cent; 0 is never, 100 is always.
    pub fn new(share: u8) -> Self {
        Self {
            open: ROUND * u32::from(share.min(100)) / 100,
        }
    }

    /// Whether calls are watched from the start.
    pub fn is_open_at_start(self) -> bool {
        self.open >= ROUND
    }

    /// How long the state that begins now lasts; `None` where it does not change.
    fn length(self, open: bool) -> Option<Duration> {
        if self.open.is_zero() || self.open >= ROUND {
            return None;
        }
        Some(if open { self.open } else { ROUND - self.open })
    }
}

/// What the watcher is told.
#[derive(Debug)]
pub enum Notice {
    /// This process replaced its image.
    Started(u32),
    /// This process makes handshakes.
    Shakes(u32),
    /// Detach everything and end.
    Stop,
}

/// What the watcher tells.
#[derive(Debug)]
pub enum Report {
    Library(LibraryEvents),
    Overhead(Overhead),
}

/// Where libraries are looked for.
#[derive(Debug)]
pub struct Scope {
    /// Only these files (`--library`); empty means every library in use.
    pub libraries: Vec<LibraryFile>,
    /// Finds those in use.
    pub finder: Finder,
    /// When calls of the handshake function are watched.
    pub calls: Windows,
    /// In which of those windows cryptographic primitives are timed as well.
    pub primitives: Primitives,
}

/// In which windows cryptographic primitives are timed, and since when they are.
#[derive(Debug, Clone, Default)]
pub struct Primitives {
    /// Per cent of the windows.
    share: u8,
    /// CLOCK_MONOTONIC, nanoseconds; 0 while they are not.
    since_ns: Arc<AtomicU64>,
}

impl Primitives {
    pub fn new(share: u8) -> Self {
        Self {
            share: share.min(100),
            since_ns: Arc::default(),
        }
    }

    /// Where to look since when primitives are timed in every library; 0: they are not.
    pub fn since(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.since_ns)
    }

    /// Whether they are timed in window `number`, so that the share comes out in the long run.
    fn are_due(&self, number: u64) -> bool {
        let of_first = |count: u64| count * u64::from(self.share) / 100;
        of_first(number + 1) > of_first(number)
    }

    /// Attaches or detaches. What is under way then is not timed as a whole.
    pub fn switch(&self, half: &mut KernelHalf, probes: &mut LibraryProbes, on: bool) {
        self.since_ns.store(0, Ordering::SeqCst);
        if probes.time_primitives(half, on) {
            self.since_ns.store(monotonic_ns(), Ordering::SeqCst);
        }
    }

    /// A library was attached meanwhile, and what it did before was not timed.
    fn begin_anew(&self, probes: &LibraryProbes) {
        if self.since_ns.load(Ordering::SeqCst) != 0 {
            let now_ns = if probes.times_all() {
                monotonic_ns()
            } else {
                0
            };
            self.since_ns.store(now_ns, Ordering::SeqCst);
        }
    }
}

/// Runs until [`Notice::Stop`] comes or every sender is gone, and then detaches everything. The first full scan is done by the
/// caller before this starts, so that "ready" means attached.
pub fn follow(
    mut half: KernelHalf,
    mut probes: Option<LibraryProbes>,
    scope: &Scope,
    inputs: Inputs,
    notices: &Receiver<Notice>,
    mut report: impl FnMut(Report),
) {
    let mut meter = Meter::new(inputs, &mut half, probes.is_some());
    let mut pending: BTreeMap<(Instant, u32), usize> = BTreeMap::new();
    let mut full_scan = Instant::now() + FULL_SCAN;
    let mut watches_calls = scope.calls.is_open_at_start();
    let mut windows = 0;
    let mut switch = scope
        .calls
        .length(watches_calls)
        .map(|length| Instant::now() + length);
    loop {
        half.flush_log();
        let due = pending.first_key_value().map(|((when, _), _)| *when);
        let next = [due, switch, Some(meter.due())]
            .into_iter()
            .flatten()
            .fold(full_scan, Ord::min);
        match notices.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Notice::Started(pid)) => {
                if pending.len() < MAX_PENDING {
                    pending.insert((Instant::now() + LOOKS[0], pid), 0);
                }
                continue;
            }
            Ok(Notice::Shakes(pid)) => {
                meter.note(pid);
                continue;
            }
            Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Some((overhead, restored)) = meter.step(&mut half, probes.as_mut()) {
            if let Some(probes) = probes.as_mut().filter(|_| restored) {
                for event in probes.update(&mut half, scan(scope), true) {
                    report(Report::Library(event));
                }
            }
            report(Report::Overhead(overhead));
        }
        let now = Instant::now();
        let Some(probes) = &mut probes else {
            // Without the library tap this thread only keeps the other taps attached.
            full_scan = now + FULL_SCAN;
            pending.clear();
            switch = None;
            continue;
        };
        if switch.is_some_and(|when| now >= when) {
            watches_calls = !watches_calls;
            if !watches_calls {
                scope.primitives.switch(&mut half, probes, false);
            }
            probes.watch_calls(&mut half, watches_calls);
            if watches_calls {
                let due = scope.primitives.are_due(windows);
                windows += 1;
                if due {
                    scope.primitives.switch(&mut half, probes, true);
                }
            }
            switch = scope.calls.length(watches_calls).map(|length| now + length);
            continue;
        }
        let (found, complete) = if now >= full_scan {
            full_scan = now + FULL_SCAN;
            (scan(scope), true)
        } else {
            (look(&mut pending, now, scope), false)
        };
        let events = probes.update(&mut half, found, complete);
        if events
            .iter()
            .any(|event| matches!(event, LibraryEvents::Attached(_)))
        {
            scope.primitives.begin_anew(probes);
        }
        for event in events {
            report(Report::Library(event));
        }
    }
}

/// Every library file of the scope that is in use now.
pub fn scan(scope: &Scope) -> Vec<LibraryFile> {
    if scope.libraries.is_empty() {
        match scope.finder.scan() {
            Ok(scan) => scan.libraries,
            Err(error) => {
                log::warn!("cannot look for TLS libraries in /proc: {error}");
                Vec::new()
            }
        }
    } else {
        scope.libraries.clone()
    }
}

/// The libraries of the programs whose look is due; plans their next look.
fn look(
    pending: &mut BTreeMap<(Instant, u32), usize>,
    now: Instant,
    scope: &Scope,
) -> Vec<LibraryFile> {
    let mut found = Vec::new();
    while let Some(entry) = pending.first_entry() {
        let (when, pid) = *entry.key();
        if when > now {
            break;
        }
        let look = entry.remove() + 1;
        if scope.libraries.is_empty() {
            // A process that has ended, or may not be looked at, has nothing to attach to.
            found.extend(scope.finder.scan_process(pid).unwrap_or_default());
        }
        if let Some(delay) = LOOKS.get(look) {
            pending.insert((now + *delay, pid), look);
        }
    }
    found
}
