//! Follows the host's TLS libraries in a thread of its own: walking /proc and attaching probes may
//! take long on a busy host, and must never hold up the reading of events.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use crate::{
    host::libraries::{self, LibraryFile},
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

/// What the watcher is told.
#[derive(Debug)]
pub enum Notice {
    /// This process replaced its image.
    Started(u32),
    /// Detach everything and end.
    Stop,
}

/// Where libraries are looked for.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Only these files (`--library`); empty means every library in use.
    pub libraries: Vec<LibraryFile>,
}

/// Runs until [`Notice::Stop`] comes or every sender is gone, and then detaches everything. The first full scan is done by the
/// caller before this starts, so that "ready" means attached.
pub fn follow(
    mut half: KernelHalf,
    mut probes: Option<LibraryProbes>,
    scope: &Scope,
    notices: &Receiver<Notice>,
    mut report: impl FnMut(LibraryEvents),
) {
    let mut pending: BTreeMap<(Instant, u32), usize> = BTreeMap::new();
    let mut full_scan = Instant::now() + FULL_SCAN;
    loop {
        half.flush_log();
        let next = pending
            .first_key_value()
            .map_or(full_scan, |((when, _), _)| full_scan.min(*when));
        match notices.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Notice::Started(pid)) => {
                if pending.len() < MAX_PENDING {
                    pending.insert((Instant::now() + LOOKS[0], pid), 0);
                }
                continue;
            }
            Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        let Some(probes) = &mut probes else {
            // Without the library tap this thread only keeps the other taps attached.
            full_scan = now + FULL_SCAN;
            pending.clear();
            continue;
        };
        let (found, complete) = if now >= full_scan {
            full_scan = now + FULL_SCAN;
            (scan(scope), true)
        } else {
            (look(&mut pending, now, scope), false)
        };
        for event in probes.update(&mut half, found, complete) {
            report(event);
        }
    }
}

/// Every library file of the scope that is in use now.
pub fn scan(scope: &Scope) -> Vec<LibraryFile> {
    if scope.libraries.is_empty() {
        match libraries::scan(Path::new("/proc")) {
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
            found.extend(libraries::scan_process(Path::new("/proc"), pid).unwrap_or_default());
        }
        if let Some(delay) = LOOKS.get(look) {
            pending.insert((now + *delay, pid), look);
        }
    }
    found
}
