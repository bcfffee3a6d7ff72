//! `resumetry doctor`: what this host allows, what is missing and how to get it, and what will
//! therefore be seen.
//!
//! [`Facts::gather`] reads the host and judges nothing; [`evaluate`] judges and reads nothing.

use std::fs;
use std::path::Path;

use agent_common::user::clock_is_synchronised;
use serde::Serialize;

use super::cgroup::{self, Root};
use super::libraries::{self, Finder, LibraryFile};

mod text;
mod tickets;

pub use text::render;
pub use tickets::Tickets;

/// Ring buffer, CAP_BPF and cgroup links: 5.8 has them all.
const MIN_KERNEL: (u32, u32) = (5, 8);
/// From here on a filter can tell network namespaces apart (bpf_get_netns_cookie for cgroup_skb).
const NETNS_KERNEL: (u32, u32) = (6, 15);
/// First kernel that places uprobes for CAP_SYS_ADMIN only (kernel/events/core.c,
/// `perf_uprobe_event_init`).
const STRICT_UPROBES_KERNEL: (u32, u32) = (6, 16);

/// Bits of include/uapi/linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_PTRACE: u32 = 19;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What was found on this host.
#[derive(Clone, Debug)]
pub struct Facts {
    /// As uname(2) has it, such as `6.1.0-18-amd64`.
    pub kernel: String,
    /// /sys/kernel/btf/vmlinux is there.
    pub btf: bool,
    /// The cgroup2 hierarchy, or why there is none.
    pub cgroup: Result<Root, String>,
    /// CapEff of this process; `None` when it could not be read.
    pub capabilities: Option<u64>,
    /// Capabilities count for the kernel only in the host's user namespace.
    pub initial_user_namespace: bool,
    /// The kernel offers uprobes as a perf event source.
    pub uprobes: bool,
    /// Kernel lockdown is at `confidentiality`, which forbids reading memory from BPF.
    pub confidential: bool,
    /// This process sees the process ids of the host.
    pub host_pids: bool,
    /// As the kernel says; `None` where it does not.
    pub clock_synchronised: Option<bool>,
    pub libraries: Vec<Library>,
    /// Processes whose maps could not be read.
    pub unreadable_processes: usize,
}

/// A libssl in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Library {
    /// As its processes see it.
    pub path: String,
    pub inode: u64,
    /// Such as `OpenSSL 3.0.19`.
    pub version: Option<String>,
    pub processes: usize,
    /// Deleted or replaced on disk, but still in use.
    pub deleted: bool,
    pub tickets: Tickets,
}

impl Facts {
    /// Reads the host. What cannot be read counts as not there.
    pub fn gather() -> Self {
        let proc_root = Path::new("/proc");
        let text = |path: &str| {
            fs::read(path).map_or_else(
                |_| String::new(),
                |bytes| String::from_utf8_lossy(&bytes).trim().to_owned(),
            )
        };
        let scan = Finder::new(proc_root).scan().unwrap_or_default();
        Self {
            kernel: text("/proc/sys/kernel/osrelease"),
            btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
            cgroup: cgroup::locate(proc_root).map_err(|error| error.to_string()),
            capabilities: effective_capabilities(&text("/proc/self/status")),
            initial_user_namespace: is_initial_user_namespace(&text("/proc/self/uid_map")),
            uprobes: Path::new("/sys/bus/event_source/devices/uprobe/type").exists(),
            confidential: text("/sys/kernel/security/lockdown").contains("[confidentiality]"),
            // PROC_PID_INIT_INO of include/linux/proc_ns.h is 0xEFFFFFFC.
            host_pids: fs::read_link("/proc/self/ns/pid")
                .map_or(true, |link| link == Path::new("pid:[4026531836]")),
            clock_synchronised: clock_is_synchronised(),
            libraries: scan.libraries.iter().map(Library::from).collect(),
            unreadable_processes: scan.unreadable,
        }
    }

    /// CAP_SYS_ADMIN stands for CAP_BPF, CAP_PERFMON and, to BPF, CAP_NET_ADMIN
    /// (include/linux/capability.h, kernel/bpf/syscall.c), not for CAP_SYS_PTRACE.
    fn capable(&self, capability: u32) -> bool {
        let has = |bit: u32| self.capabilities.is_some_and(|set| set & (1 << bit) != 0);
        has(capability) || (capability != CAP_SYS_PTRACE && has(CAP_SYS_ADMIN))
    }

    /// From Linux 6.16 on `perf_event_open` places uprobes for CAP_SYS_ADMIN only; older kernels may
    /// have that change too, which shows when it is tried.
    fn lacks_right_to_uprobes(&self) -> bool {
        let is_strict =
            kernel_version(&self.kernel).is_some_and(|version| version >= STRICT_UPROBES_KERNEL);
        is_strict && !self.capable(CAP_SYS_ADMIN)
    }
}

impl From<&LibraryFile> for Library {
    fn from(file: &LibraryFile) -> Self {
        Self {
            path: file.path_in_process.to_string_lossy().into_owned(),
            inode: file.inode,
            version: libraries::detect_version(file),
            processes: file.pids.len(),
            deleted: file.deleted,
            tickets: Tickets::of(&file.path),
        }
    }
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(value.trim(), 16).ok()
}

/// user_namespaces(7): the initial one maps every id to itself.
fn is_initial_user_namespace(uid_map: &str) -> bool {
    uid_map.is_empty()
        || uid_map
            .split_ascii_whitespace()
            .eq(["0", "0", "4294967295"])
}

/// Major and minor number of a kernel release.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Ok,
    /// Works, but less is seen.
    Limited,
    Missing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub id: &'static str,
    pub state: State,
    pub detail: String,
    /// The way out, where there is something to get out of.
    pub fix: Option<String>,
}

/// Which taps can work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TapsPossible {
    pub wire: bool,
    pub library: bool,
    pub socket: bool,
}

/// The verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub checks: Vec<Check>,
    pub taps: TapsPossible,
    pub libraries: Vec<Library>,
    /// What will be seen, and what not, in sentences.
    pub seen: Vec<String>,
}

impl Report {
    /// 0 when at least the wire tap can work, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.taps.wire)
    }

    /// One JSON object and a line feed.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// Judges what was found.
pub fn evaluate(facts: &Facts) -> Report {
    let checks = vec![
        kernel(facts),
        capabilities(facts),
        cgroup2(facts),
        btf(facts),
        uprobes(facts),
        processes(facts),
        libssl(facts),
        clock(facts),
    ];
    let missing = |id: &str| {
        checks
            .iter()
            .any(|check| check.id == id && check.state == State::Missing)
    };
    let bpf = !missing("kernel") && facts.initial_user_namespace && facts.capable(CAP_BPF);
    let tracing =
        bpf && facts.capable(CAP_PERFMON) && !facts.confidential && !facts.lacks_right_to_uprobes();
    // Both attach to a cgroup.
    let cgroup = bpf && facts.capable(CAP_NET_ADMIN) && !missing("cgroup2");
    let taps = TapsPossible {
        wire: cgroup,
        library: tracing && !missing("uprobes"),
        socket: cgroup,
    };
    let seen = seen(facts, taps);
    Report {
        checks,
        taps,
        libraries: facts.libraries.clone(),
        seen,
    }
}

fn ok(id: &'static str, detail: impl Into<String>) -> Check {
    Check {
        id,
        state: State::Ok,
        detail: detail.into(),
        fix: None,
    }
}

fn not_ok(
    id: &'static str,
    state: State,
    detail: impl Into<String>,
    fix: impl Into<String>,
) -> Check {
    Check {
        id,
        state,
        detail: detail.into(),
        fix: Some(fix.into()),
    }
}

fn kernel(facts: &Facts) -> Check {
    let release = &facts.kernel;
    match kernel_version(release) {
        None => not_ok(
            "kernel",
            State::Limited,
            "its version cannot be read",
            "mount it: mount -t proc proc /proc",
        ),
        Some(version) if version < MIN_KERNEL => not_ok(
            "kernel",
            State::Missing,
            format!("{release} is older than {}.{}", MIN_KERNEL.0, MIN_KERNEL.1),
            "boot a newer kernel (Debian: apt install linux-image-amd64); this one lacks the BPF ring buffer",
        ),
        Some(version) if version < NETNS_KERNEL => ok(
            "kernel",
            format!(
                "{release}; before {}.{} containers with equal addresses are not told apart",
                NETNS_KERNEL.0, NETNS_KERNEL.1
            ),
        ),
        Some(_) => ok("kernel", release),
    }
}

/// Ages of tickets are computed with it, here and at the servers.
fn clock(facts: &Facts) -> Check {
    match facts.clock_synchronised {
        Some(false) => not_ok(
            "clock",
            State::Limited,
            "the kernel says that it is not synchronised, which ages of tickets rest on",
            "start a time service: timedatectl set-ntp true (with chrony, its `rtcsync` tells the kernel)",
        ),
        _ => ok("clock", "synchronised, as far as the kernel tells"),
    }
}

fn capabilities(facts: &Facts) -> Check {
    if !facts.initial_user_namespace {
        return not_ok(
            "capabilities",
            State::Missing,
            "this process is in a user namespace, where capabilities do not reach the kernel's BPF",
            "run on the host, or in a container without user namespace (--userns=host)",
        );
    }
    let lacking: Vec<&str> = [
        (CAP_BPF, "CAP_BPF (every tap)"),
        (CAP_NET_ADMIN, "CAP_NET_ADMIN (wire and socket tap)"),
        (CAP_PERFMON, "CAP_PERFMON (library tap)"),
        (
            CAP_SYS_PTRACE,
            "CAP_SYS_PTRACE (libraries and names of other users' processes)",
        ),
    ]
    .iter()
    .filter(|(capability, _)| !facts.capable(*capability))
    .map(|(_, name)| *name)
    .collect();
    if lacking.is_empty() && facts.lacks_right_to_uprobes() {
        return not_ok(
            "capabilities",
            State::Limited,
            "lacking CAP_SYS_ADMIN (library tap, from Linux 6.16 on)",
            "grant it as well, or do without reasons from inside the library and CPU time",
        );
    }
    if lacking.is_empty() {
        return ok("capabilities", "BPF, NET_ADMIN, PERFMON and SYS_PTRACE");
    }
    let essential = !facts.capable(CAP_BPF) || !facts.capable(CAP_NET_ADMIN);
    let state = if essential {
        State::Missing
    } else {
        State::Limited
    };
    not_ok(
        "capabilities",
        state,
        format!("lacking {}", lacking.join(", ")),
        "run as root (sudo resumetry …), or: setcap \
         cap_bpf,cap_net_admin,cap_perfmon,cap_sys_ptrace+ep /path/to/resumetry",
    )
}

fn cgroup2(facts: &Facts) -> Check {
    match &facts.cgroup {
        Ok(Root {
            path,
            whole_host: true,
        }) => ok("cgroup2", path.to_string_lossy()),
        Ok(Root {
            path,
            whole_host: false,
        }) => not_ok(
            "cgroup2",
            State::Limited,
            format!(
                "{} is this container's part only, not the host",
                path.display()
            ),
            "share the host's process ids and cgroups with the container (--pid=host \
             --cgroupns=host), or mount the host's /sys/fs/cgroup and name it with --cgroup",
        ),
        Err(error) => {
            // The error says both, cause first.
            let (cause, way_out) = error.split_once("; ").unwrap_or((error, "mount cgroup2"));
            not_ok("cgroup2", State::Missing, cause, way_out)
        }
    }
}

fn btf(facts: &Facts) -> Check {
    if facts.btf {
        return ok("btf", "/sys/kernel/btf/vmlinux");
    }
    not_ok(
        "btf",
        State::Limited,
        "/sys/kernel/btf/vmlinux is not there: offsets of kernel structures are not known",
        "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions ship since about 2021",
    )
}

fn uprobes(facts: &Facts) -> Check {
    if facts.confidential {
        return not_ok(
            "uprobes",
            State::Missing,
            "kernel lockdown is at `confidentiality`, which forbids probes",
            "boot with lockdown=integrity or less",
        );
    }
    if facts.uprobes {
        return ok("uprobes", "offered by the kernel");
    }
    not_ok(
        "uprobes",
        State::Missing,
        "/sys/bus/event_source/devices/uprobe is not there",
        "boot a kernel with CONFIG_UPROBE_EVENTS=y, and mount /sys",
    )
}

fn processes(facts: &Facts) -> Check {
    if !facts.host_pids {
        return not_ok(
            "processes",
            State::Limited,
            "this process sees only its container's processes",
            "share the host's process ids with the container (--pid=host, hostPID: true)",
        );
    }
    match facts.unreadable_processes {
        0 => ok("processes", "all of this host can be read"),
        count => not_ok(
            "processes",
            State::Limited,
            format!("{count} cannot be read, so their libraries are not known"),
            "run as root, or with CAP_SYS_PTRACE; some sandboxes deny it even to root",
        ),
    }
}

fn libssl(facts: &Facts) -> Check {
    let in_use: usize = facts
        .libraries
        .iter()
        .map(|library| library.processes)
        .sum();
    match facts.libraries.len() {
        0 => ok("libssl", "no process has it loaded now"),
        files => ok(
            "libssl",
            format!("{} in {}", plural(files, "file"), processes_of(in_use)),
        ),
    }
}

fn plural(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

fn processes_of(count: usize) -> String {
    if count == 1 {
        "1 process".to_owned()
    } else {
        format!("{count} processes")
    }
}

fn seen(facts: &Facts, taps: TapsPossible) -> Vec<String> {
    let mut seen = Vec::new();
    let whole_host = facts.cgroup.as_ref().is_ok_and(|root| root.whole_host);
    seen.push(match (taps.wire, whole_host) {
        (true, true) => "Every TLS handshake over TCP on this host, as server and as client, \
                         whatever its TLS library: what was offered, accepted, and how long it took."
            .to_owned(),
        (true, false) => "TLS handshakes over TCP of this container only, whatever their TLS \
                          library; not those of the host."
            .to_owned(),
        (false, _) => "No handshakes on the wire: the wire tap cannot work here.".to_owned(),
    });
    seen.push(match (taps.library, facts.libraries.len()) {
        (true, 0) => "The exact end of OpenSSL handshakes, once a process loads libssl.".to_owned(),
        (true, files) => format!(
            "The exact end of OpenSSL handshakes, through {}, and those loaded later.",
            plural(files, "library file")
        ),
        (false, _) => "Ends of handshakes as the wire shows them: the library tap cannot work \
                       here."
            .to_owned(),
    });
    seen.push(match taps.socket {
        true => "How long clients wait between TCP connection and ClientHello.".to_owned(),
        false => "Not how long clients wait between TCP connection and ClientHello: the socket \
                  tap cannot work here."
            .to_owned(),
    });
    seen
}

#[cfg(test)]
mod tests;
