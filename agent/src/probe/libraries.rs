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

use agent_common::site::TicketSite;
use aya::programs::{
    ProgramError, UProbe,
    uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLinkId, UProbeScope},
};

use super::{
    attach::{AttachError, failed},
    load::KernelHalf,
};
use crate::{
    explain::explain,
    host::{libraries::LibraryFile, openssl},
    tap::Tap,
};

/// The function whose calls make a handshake. `SSL_accept` and `SSL_connect` jump to it.
const SYMBOL: &str = "SSL_do_handshake";

/// The programs at its two ends.
const ENTER: &str = "handshake_enter";
const RETURN: &str = "handshake_return";

/// The program at the end of ticket decryption.
const TICKET: &str = "ticket_decided";

/// The program at the return of the lookup in the server's cache.
const LOOKUP: &str = "session_looked_up";

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
    /// Whether calls of the handshake function are watched at the moment.
    watches_calls: bool,
    /// Whether the kernel takes the programs that read what became of a ticket or session ID.
    reads_tickets: bool,
}

#[derive(Debug)]
struct Attached {
    file: LibraryFile,
    calls: Vec<Link>,
    tickets: Vec<Link>,
    unused_scans: u32,
}

/// An attached program.
type Link = (&'static str, UProbeLinkId);

impl LibraryProbes {
    /// Loads the programs; nothing is attached yet. With `watches_calls`, calls of the handshake
    /// function are watched in every library from its attachment on.
    ///
    /// # Errors
    /// [`AttachError::Program`] with the kernel's reason.
    pub fn load(
        half: &mut KernelHalf,
        processes: Vec<NonZeroU32>,
        watches_calls: bool,
    ) -> Result<Self, AttachError> {
        for program in [ENTER, RETURN] {
            let probe: &mut UProbe = half.program(Tap::Library, program)?;
            probe.load().map_err(failed(Tap::Library, program))?;
        }
        let mut reads_tickets = true;
        for program in [TICKET, LOOKUP] {
            let probe: &mut UProbe = half.program(Tap::Library, program)?;
            if let Err(error) = probe.load() {
                log::warn!(
                    "this kernel refuses the probe that tells why an offer was refused (it needs \
                     Linux 5.15): {}\nreasons are inferred from the wire instead",
                    explain(&error)
                );
                reads_tickets = false;
                break;
            }
        }
        Ok(Self {
            processes,
            watches_calls,
            reads_tickets,
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
                // The process through which it was reached may have ended.
                attached.file = file;
                continue;
            }
            match self.attach(half, &file) {
                Ok(attached) => {
                    events.push(LibraryEvents::Attached(file));
                    self.attached.insert(id, attached);
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

    fn attach(&self, half: &mut KernelHalf, file: &LibraryFile) -> Result<Attached, AttachError> {
        // Also where calls are not watched at the moment: it shows whether they can be.
        let mut calls = self.attach_calls(half, file)?;
        if !self.watches_calls {
            leave_calls(half, std::mem::take(&mut calls));
        }
        Ok(Attached {
            file: file.clone(),
            calls,
            tickets: self.attach_tickets(half, file),
            unused_scans: 0,
        })
    }

    fn attach_calls(
        &self,
        half: &mut KernelHalf,
        file: &LibraryFile,
    ) -> Result<Vec<Link>, AttachError> {
        let mut links = Vec::new();
        for scope in self.scopes() {
            // The return probe first: an entry without its return would leave the thread marked.
            for program in [RETURN, ENTER] {
                match attach_one(half, program, SYMBOL, &file.path, scope) {
                    Ok(link) => links.push(link),
                    Err(error) => {
                        detach(half, links);
                        return Err(error);
                    }
                }
            }
        }
        Ok(links)
    }

    /// Where this library decides on tickets and session IDs; none where that is not known.
    fn attach_tickets(&self, half: &mut KernelHalf, file: &LibraryFile) -> Vec<Link> {
        let mut links = Vec::new();
        if !self.reads_tickets {
            return links;
        }
        let layout = match openssl::inspect_file(&file.path) {
            Ok(layout) => layout,
            Err(error) => {
                from_the_wire(file, "offers", &error);
                return links;
            }
        };
        match &layout.tickets {
            Ok(tickets) => {
                let points = tickets
                    .probes
                    .iter()
                    .map(|probe| (probe.offset, probe.site));
                links.extend(self.attach_sites(half, TICKET, points, file));
            }
            Err(error) => from_the_wire(file, "tickets", error),
        }
        match &layout.lookup {
            Ok(probe) => {
                let point = [(probe.offset, probe.site)].into_iter();
                links.extend(self.attach_sites(half, LOOKUP, point, file));
            }
            Err(error) => from_the_wire(file, "session IDs", error),
        }
        links
    }

    /// All of the sites or, as half of them would make half of the refusals look like none, none.
    fn attach_sites(
        &self,
        half: &mut KernelHalf,
        program: &'static str,
        sites: impl Iterator<Item = (u64, TicketSite)> + Clone,
        file: &LibraryFile,
    ) -> Vec<Link> {
        let mut links = Vec::new();
        for scope in self.scopes() {
            for (offset, site) in sites.clone() {
                let point = UProbeAttachPoint {
                    location: UProbeAttachLocation::AbsoluteOffset(offset),
                    cookie: Some(site.to_cookie()),
                };
                match attach_one(half, program, point, &file.path, scope) {
                    Ok(link) => links.push(link),
                    Err(error) => {
                        log::warn!("{}: {error}", file.path_in_process.display());
                        detach(half, links);
                        return Vec::new();
                    }
                }
            }
        }
        links
    }

    fn scopes(&self) -> Vec<UProbeScope> {
        if self.processes.is_empty() {
            return vec![UProbeScope::AllProcesses];
        }
        self.processes
            .iter()
            .copied()
            .map(UProbeScope::OneProcess)
            .collect()
    }

    /// Begins or ends watching calls of the handshake function, in every library.
    pub fn watch_calls(&mut self, half: &mut KernelHalf, watches: bool) {
        self.watches_calls = watches;
        let mut attached = std::mem::take(&mut self.attached);
        for each in attached.values_mut() {
            if !watches {
                leave_calls(half, std::mem::take(&mut each.calls));
            } else if each.calls.is_empty() {
                match self.attach_calls(half, &each.file) {
                    Ok(links) => each.calls = links,
                    // The last process that gave access to the file may have ended.
                    Err(error) => log::debug!("{error}"),
                }
            }
        }
        self.attached = attached;
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
                leave_calls(half, attached.calls);
                detach(half, attached.tickets);
                events.push(LibraryEvents::Detached(attached.file));
            }
        }
    }
}

/// Says why something is not probed in a library.
fn from_the_wire(file: &LibraryFile, what: &str, reason: &dyn std::error::Error) {
    log::info!(
        "{}: why {what} are refused is inferred from the wire: {reason}",
        file.path_in_process.display()
    );
}

fn attach_one<'a>(
    half: &mut KernelHalf,
    program: &'static str,
    point: impl Into<UProbeAttachPoint<'a>>,
    path: &Path,
    scope: UProbeScope,
) -> Result<Link, AttachError> {
    let probe: &mut UProbe = half.program(Tap::Library, program)?;
    let link = probe
        .attach(point, path, scope)
        .map_err(failed(Tap::Library, program))?;
    Ok((program, link))
}

/// Ends watching calls. Entries first: who is inside then still leaves through the return probe.
fn leave_calls(half: &mut KernelHalf, links: Vec<Link>) {
    let (entries, returns) = links
        .into_iter()
        .partition(|(program, _)| *program == ENTER);
    detach(half, entries);
    detach(half, returns);
    half.forget_calls();
}

fn detach(half: &mut KernelHalf, links: Vec<Link>) {
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
