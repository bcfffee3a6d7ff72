//! The library tap: keeps a probe in every TLS library file that some process maps.
//!
//! A uprobe belongs to an inode, so one attachment serves every process that maps the file, those
//! started later included. A library that a package upgrade replaced is a new inode and is found
//! by the next scan, while old processes keep the old one.

use std::{
    collections::{HashMap, HashSet},
    fs,
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
    load::{KernelHalf, refused_permission},
    primitives,
};
use crate::{
    explain::explain,
    host::{
        libraries::LibraryFile,
        openssl::{self, Layout, Machine, PrimitivePlace, ReadError},
    },
    tap::Tap,
};

/// The programs where the handshake's state machine begins and ends.
const BEGIN: &str = "machine_begin";
const END: &str = "machine_end";

/// The function whose calls make a handshake, where the state machine below it is not found.
/// `SSL_accept` and `SSL_connect` jump to it, and `SSL_read` does not.
const SYMBOL: &str = openssl::HANDSHAKE;

/// The programs at its two ends. They are at the foot of the stack that OpenSSL may switch
/// (`openssl/machine.rs`), so that a probe at the return is safe here.
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
    /// Whether calls of the handshake function are watched at the moment, unless they may not be.
    watches_calls: bool,
    /// Groups that are left out.
    shed: HashSet<Group>,
    /// Whether cryptographic primitives are timed at the moment, where calls are watched.
    times_primitives: bool,
    /// Whether the kernel takes the programs in the state machine.
    reads_state: bool,
    /// Whether the kernel takes the programs that read what became of a ticket or session ID.
    reads_tickets: bool,
    /// The same of those that time primitives.
    reads_primitives: bool,
}

/// Probes that are switched off and on together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// On calls of the handshake function.
    Calls,
    /// On decisions on tickets and session IDs.
    Tickets,
}

#[derive(Debug)]
struct Attached {
    file: LibraryFile,
    /// The handshake's state machine in the file, where it is watched.
    machine: Option<Machine>,
    /// Where it has cryptography done.
    places: Vec<PrimitivePlace>,
    calls: Vec<Link>,
    tickets: Vec<Link>,
    primitives: Vec<Link>,
    /// They were taken out, and are to be attached again when the file is found.
    tickets_due: bool,
    unused_scans: u32,
}

/// An attached program.
pub(super) type Link = (&'static str, UProbeLinkId);

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
        let reads_state = load_all(
            half,
            [BEGIN, END],
            "time the handshake",
            "on-CPU time of handshakes stays unknown",
        )?;
        let reads_tickets = load_all(
            half,
            [TICKET, LOOKUP],
            "tell why an offer was refused",
            "reasons are inferred from the wire instead",
        )?;
        let reads_primitives = load_all(
            half,
            [primitives::BEGIN, primitives::END],
            "time cryptographic primitives",
            "their CPU time stays unknown",
        )?;
        Ok(Self {
            reads_primitives,
            processes,
            watches_calls,
            reads_state,
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
            if let Some(mut attached) = self.attached.remove(&id) {
                attached.unused_scans = 0;
                // The process through which it was reached may have ended.
                attached.file = file;
                self.complete(half, &mut attached);
                self.attached.insert(id, attached);
                continue;
            }
            match self.attach(half, &file) {
                Ok(attached) => {
                    events.push(LibraryEvents::Attached(file));
                    self.attached.insert(id, attached);
                }
                // The process through which it was reached has ended; others are found by a later scan.
                Err(error) if fs::metadata(&file.path).is_err() => log::debug!("{error}"),
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
        let layout = openssl::inspect_file(&file.path);
        let machine = match &layout {
            Ok(layout) => layout.machine.clone().map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = &machine {
            log::info!(
                "{}: handshakes are not timed, and those that SSL_read drives not watched: {reason}",
                file.path_in_process.display()
            );
        }
        let machine = machine.ok().filter(|_| self.reads_state);
        let places = match layout.as_ref().map(|layout| &layout.primitives) {
            // Without the state machine nobody knows which handshake they belong to.
            Ok(Ok(places)) if machine.is_some() => places.clone(),
            Ok(Err(reason)) => {
                log::info!(
                    "{}: its cryptographic primitives are not timed: {reason}",
                    file.path_in_process.display()
                );
                Vec::new()
            }
            _ => Vec::new(),
        };
        // Also where calls are not watched at the moment: it shows whether they can be.
        let mut calls = self.attach_calls(half, file, machine.as_ref())?;
        if !self.wants_calls() {
            leave_calls(half, std::mem::take(&mut calls));
        }
        Ok(Attached {
            file: file.clone(),
            machine,
            calls,
            tickets: self.attach_tickets(half, file, layout),
            tickets_due: false,
            primitives: self.attach_primitives(half, file, &places),
            places,
            unused_scans: 0,
        })
    }

    fn attach_calls(
        &self,
        half: &mut KernelHalf,
        file: &LibraryFile,
        machine: Option<&Machine>,
    ) -> Result<Vec<Link>, AttachError> {
        // Ends first: a beginning without its end would leave the thread marked.
        let places: Vec<(&'static str, Option<u64>)> = match machine {
            Some(machine) => {
                let ends = machine.ends.iter().map(|end| (END, Some(*end)));
                ends.chain([(BEGIN, Some(machine.begin))]).collect()
            }
            None => vec![(RETURN, None), (ENTER, None)],
        };
        let mut links = Vec::new();
        for scope in self.scopes() {
            for (program, offset) in &places {
                let point = UProbeAttachPoint {
                    location: offset.map_or(
                        UProbeAttachLocation::Symbol(SYMBOL),
                        UProbeAttachLocation::AbsoluteOffset,
                    ),
                    cookie: machine.map(|machine| machine.site.to_cookie()),
                };
                match attach_one(half, program, point, &file.path, scope) {
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
    fn attach_tickets(
        &self,
        half: &mut KernelHalf,
        file: &LibraryFile,
        layout: Result<Layout, ReadError>,
    ) -> Vec<Link> {
        let mut links = Vec::new();
        if !self.reads_tickets || self.shed.contains(&Group::Tickets) {
            return links;
        }
        let layout = match layout {
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
            if self.wants_calls() {
                self.complete(half, each);
            } else {
                primitives::detach(half, std::mem::take(&mut each.primitives));
                leave_calls(half, std::mem::take(&mut each.calls));
            }
        }
        self.attached = attached;
    }

    /// Begins or ends timing cryptographic primitives, in every library. Says whether they are timed
    /// from now on.
    pub fn time_primitives(&mut self, half: &mut KernelHalf, times: bool) -> bool {
        self.times_primitives = times;
        let mut attached = std::mem::take(&mut self.attached);
        for each in attached.values_mut() {
            primitives::detach(half, std::mem::take(&mut each.primitives));
            each.primitives = self.attach_primitives(half, &each.file, &each.places);
        }
        self.attached = attached;
        self.times_all()
    }

    fn wants_primitives(&self) -> bool {
        self.times_primitives && self.reads_primitives && self.wants_calls()
    }

    /// Whether every library's primitives are timed, as far as their places are known.
    pub fn times_all(&self) -> bool {
        let mut attached = self.attached.values();
        self.wants_primitives()
            && attached.all(|each| each.places.is_empty() || !each.primitives.is_empty())
    }

    fn attach_primitives(
        &self,
        half: &mut KernelHalf,
        file: &LibraryFile,
        places: &[PrimitivePlace],
    ) -> Vec<Link> {
        if self.wants_primitives() {
            primitives::attach(half, file, places, &self.scopes())
        } else {
            Vec::new()
        }
    }

    fn wants_calls(&self) -> bool {
        self.watches_calls && !self.shed.contains(&Group::Calls)
    }

    /// Attaches what a library lacks by now.
    fn complete(&self, half: &mut KernelHalf, attached: &mut Attached) {
        if self.wants_calls() && attached.calls.is_empty() {
            match self.attach_calls(half, &attached.file, attached.machine.as_ref()) {
                Ok(links) => attached.calls = links,
                // The last process that gave access to the file may have ended.
                Err(error) => log::debug!("{error}"),
            }
        }
        if attached.tickets_due {
            attached.tickets_due = false;
            attached.tickets = self.attach_tickets(
                half,
                &attached.file,
                openssl::inspect_file(&attached.file.path),
            );
        }
    }

    /// Leaves a group out, in every library.
    pub fn shed(&mut self, half: &mut KernelHalf, group: Group) {
        self.shed.insert(group);
        match group {
            Group::Calls => self.watch_calls(half, self.watches_calls),
            Group::Tickets => {
                for each in self.attached.values_mut() {
                    detach(half, std::mem::take(&mut each.tickets));
                    each.tickets_due = false;
                }
            }
        }
    }

    /// Takes a group in again; the next `update` attaches it, since the processes through which
    /// libraries were reached may have ended.
    pub fn restore(&mut self, group: Group) {
        self.shed.remove(&group);
        if group == Group::Tickets {
            for each in self.attached.values_mut() {
                each.tickets_due = true;
            }
        }
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
                primitives::detach(half, attached.primitives);
                leave_calls(half, attached.calls);
                detach(half, attached.tickets);
                events.push(LibraryEvents::Detached(attached.file));
            }
        }
    }
}

/// Loads programs that need the cookie of an attachment, or none of them.
fn load_all(
    half: &mut KernelHalf,
    programs: [&'static str; 2],
    what: &str,
    instead: &str,
) -> Result<bool, AttachError> {
    for program in programs {
        let probe: &mut UProbe = half.program(Tap::Library, program)?;
        if let Err(error) = probe.load() {
            log::warn!(
                "this kernel refuses the probes that {what} (they need Linux 5.15): {}\n{instead}",
                explain(&error)
            );
            return Ok(false);
        }
    }
    Ok(true)
}

/// Says why something is not probed in a library.
fn from_the_wire(file: &LibraryFile, what: &str, reason: &dyn std::error::Error) {
    log::info!(
        "{}: why {what} are refused is inferred from the wire: {reason}",
        file.path_in_process.display()
    );
}

pub(super) fn attach_one<'a>(
    half: &mut KernelHalf,
    program: &'static str,
    point: impl Into<UProbeAttachPoint<'a>>,
    path: &Path,
    scope: UProbeScope,
) -> Result<Link, AttachError> {
    let probe: &mut UProbe = half.program(Tap::Library, program)?;
    let link = probe.attach(point, path, scope).map_err(|source| {
        if refused_permission(&source) {
            AttachError::Uprobe { program, source }
        } else {
            failed(Tap::Library, program)(source)
        }
    })?;
    Ok((program, link))
}

/// Ends watching calls. Entries first: who is inside then still leaves through the return probe.
fn leave_calls(half: &mut KernelHalf, links: Vec<Link>) {
    let (entries, returns) = links
        .into_iter()
        .partition(|(program, _)| [BEGIN, ENTER].contains(program));
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
