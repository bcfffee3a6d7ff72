//! The library tap: keeps a probe in every TLS library file that some process maps.
//!
//! A uprobe belongs to an inode, so one attachment serves every process that maps the file, those
//! started later included. A library that a package upgrade replaced is a new inode and is found
//! by the next scan, while old processes keep the old one.

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU32,
    path::Path,
};

use aya::programs::{
    ProgramError, UProbe,
    uprobe::{UProbeLinkId, UProbeScope},
};

use super::{
    attach::{AttachError, failed},
    load::KernelHalf,
};
use crate::{host::libraries::LibraryFile, tap::Tap};

/// The function whose calls make a handshake. `SSL_accept` and `SSL_connect` jump to it.
const SYMBOL: &str = "SSL_do_handshake";

/// The programs at its two ends.
const ENTER: &str = "handshake_enter";
const RETURN: &str = "handshake_return";

/// Scans in a row in which nobody maps a library before its probes are taken out.
const UNUSED_SCANS: u32 = 3;

/// Device, as /proc/PID/maps tells it, and inode number.
type FileId = (String, u64);

/// What changed in one round.
#[derive(Debug)]
pub enum LibraryEvents {
    Attached(LibraryFile),
    Detached(LibraryFile),
    Failed(LibraryFile, AttachError),
}

/// Attached probes, by library file.
#[derive(Debug, Default)]
pub struct LibraryProbes {
    attached: HashMap<FileId, Attached>,
    /// Files that cannot be probed, so that each is reported once.
    failed: HashSet<FileId>,
    /// Processes to which the tap is restricted; empty means all.
    processes: Vec<NonZeroU32>,
}

#[derive(Debug)]
struct Attached {
    file: LibraryFile,
    links: Vec<(&'static str, UProbeLinkId)>,
    unused_scans: u32,
}

impl LibraryProbes {
    /// Loads the programs; nothing is attached yet.
    ///
    /// # Errors
    /// [`AttachError::Program`] with the kernel's reason.
    pub fn load(half: &mut KernelHalf, processes: Vec<NonZeroU32>) -> Result<Self, AttachError> {
        for program in [ENTER, RETURN] {
            let probe: &mut UProbe = half.program(Tap::Library, program)?;
            probe.load().map_err(failed(Tap::Library, program))?;
        }
        Ok(Self {
            processes,
            ..Self::default()
        })
    }

    /// Attaches to what a scan found and is not attached yet. With `complete`, the scan saw every
    /// process: a file that it lacks is unused, and its probes are taken out after a while.
    pub fn update(
        &mut self,
        half: &mut KernelHalf,
        found: Vec<LibraryFile>,
        complete: bool,
    ) -> Vec<LibraryEvents> {
        let mut events = Vec::new();
        let mut seen = HashSet::new();
        for file in found {
            let id = (file.device.clone(), file.inode);
            seen.insert(id.clone());
            if self.failed.contains(&id) {
                continue;
            }
            if let Some(attached) = self.attached.get_mut(&id) {
                attached.unused_scans = 0;
                continue;
            }
            match self.attach(half, &file) {
                Ok(links) => {
                    events.push(LibraryEvents::Attached(file.clone()));
                    self.attached.insert(
                        id,
                        Attached {
                            file,
                            links,
                            unused_scans: 0,
                        },
                    );
                }
                Err(error) => {
                    self.failed.insert(id);
                    events.push(LibraryEvents::Failed(file, error));
                }
            }
        }
        if complete {
            self.failed.retain(|id| seen.contains(id));
            self.detach_unused(half, &seen, &mut events);
        }
        events
    }

    fn attach(
        &self,
        half: &mut KernelHalf,
        file: &LibraryFile,
    ) -> Result<Vec<(&'static str, UProbeLinkId)>, AttachError> {
        let scopes: Vec<UProbeScope> = if self.processes.is_empty() {
            vec![UProbeScope::AllProcesses]
        } else {
            self.processes
                .iter()
                .copied()
                .map(UProbeScope::OneProcess)
                .collect()
        };
        let mut links = Vec::new();
        for scope in scopes {
            // The return probe first: an entry without its return would leave the thread marked.
            for program in [RETURN, ENTER] {
                match attach_one(half, program, &file.path, scope) {
                    Ok(link) => links.push((program, link)),
                    Err(error) => {
                        detach(half, links);
                        return Err(error);
                    }
                }
            }
        }
        Ok(links)
    }

    fn detach_unused(
        &mut self,
        half: &mut KernelHalf,
        seen: &HashSet<FileId>,
        events: &mut Vec<LibraryEvents>,
    ) {
        let mut unused = Vec::new();
        for (id, attached) in &mut self.attached {
            if seen.contains(id) {
                attached.unused_scans = 0;
            } else {
                attached.unused_scans += 1;
                if attached.unused_scans >= UNUSED_SCANS {
                    unused.push(id.clone());
                }
            }
        }
        for id in unused {
            if let Some(attached) = self.attached.remove(&id) {
                detach(half, attached.links);
                events.push(LibraryEvents::Detached(attached.file));
            }
        }
    }
}

fn attach_one(
    half: &mut KernelHalf,
    program: &'static str,
    path: &Path,
    scope: UProbeScope,
) -> Result<UProbeLinkId, AttachError> {
    let probe: &mut UProbe = half.program(Tap::Library, program)?;
    probe
        .attach(SYMBOL, path, scope)
        .map_err(failed(Tap::Library, program))
}

fn detach(half: &mut KernelHalf, links: Vec<(&'static str, UProbeLinkId)>) {
    for (program, link) in links {
        let detached: Result<(), AttachError> =
            half.program(Tap::Library, program)
                .and_then(|probe: &mut UProbe| {
                    probe.detach(link).map_err(failed(Tap::Library, program))
                });
        if let Err(error) = detached {
            log::warn!("{error}");
        }
    }
}

/// True when the library has no `SSL_do_handshake`: it is no OpenSSL, and nothing is wrong.
pub fn lacks_symbol(error: &AttachError) -> bool {
    matches!(
        error,
        AttachError::Program {
            source: ProgramError::UProbeError(_),
            ..
        }
    )
}
