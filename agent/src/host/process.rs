//! Which process serves a connection: its executable, its systemd unit, its container.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pods::PodTable;
use crate::core::record::{Process, ProcessId};

/// How long an answer is used without another look. A pid is not reused that fast on any sane
/// host (pid_max is at least 32768), and what replaces its image has no connections yet.
const FRESH: Duration = Duration::from_secs(1);

/// How long after it was last seen a process that ended is still known: records of its last
/// connections come later than its end, as at each reload of a server.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Processes remembered at the same time; the one that was looked at longest ago goes first.
const CAPACITY: usize = 4_096;

/// A bounded memory of processes, filled as they are asked for.
#[derive(Debug)]
pub struct ProcessTable {
    root: PathBuf,
    /// Where Kubernetes runs here.
    pods: Option<Arc<PodTable>>,
    capacity: usize,
    entries: HashMap<ProcessId, Entry>,
}

#[derive(Debug)]
struct Entry {
    process: Arc<Process>,
    checked: Instant,
}

impl ProcessTable {
    /// `root` is where procfs is mounted, `/proc` on a host.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            pods: None,
            capacity: CAPACITY,
            entries: HashMap::new(),
        }
    }

    /// Names the pods of processes by `pods`.
    #[must_use]
    pub fn with_pods(mut self, pods: Option<Arc<PodTable>>) -> Self {
        self.pods = pods;
        self
    }

    /// What is known of a process, also where it has just ended; else `None`.
    pub fn lookup(&mut self, pid: ProcessId) -> Option<Arc<Process>> {
        self.lookup_at(pid, Instant::now())
    }

    fn lookup_at(&mut self, pid: ProcessId, now: Instant) -> Option<Arc<Process>> {
        if let Some(entry) = self.entries.get(&pid)
            && now.saturating_duration_since(entry.checked) < FRESH
        {
            return Some(Arc::clone(&entry.process));
        }
        let Some(read) = read_process(&self.root, pid, self.pods.as_deref()) else {
            let is_recent =
                |entry: &Entry| now.saturating_duration_since(entry.checked) < REMEMBERED;
            if !self.entries.get(&pid).is_some_and(is_recent) {
                self.entries.remove(&pid);
            }
            let entry = self.entries.get(&pid)?;
            return Some(Arc::clone(&entry.process));
        };
        if let Some(entry) = self.entries.get_mut(&pid) {
            entry.checked = now;
            // Most often nothing changed; then everyone keeps sharing the one allocation.
            if *entry.process != read {
                entry.process = Arc::new(read);
            }
            return Some(Arc::clone(&entry.process));
        }
        self.make_room();
        let process = Arc::new(read);
        self.entries.insert(
            pid,
            Entry {
                process: Arc::clone(&process),
                checked: now,
            },
        );
        Some(process)
    }

    /// Looks at every entry, which is dear only when more processes than the capacity speak TLS;
    /// even then it is less than the three files that were just read.
    fn make_room(&mut self) {
        if self.entries.len() < self.capacity {
            return;
        }
        let oldest = self
            .entries
            .iter()
            .min_by_key(|(_, entry)| entry.checked)
            .map(|(pid, _)| *pid);
        if let Some(pid) = oldest {
            self.entries.remove(&pid);
        }
    }
}

/// Reads one process. The start time is read first and last: if it changed, the pid was reused in
/// between and the pieces may belong to two processes.
fn read_process(root: &Path, pid: ProcessId, pods: Option<&PodTable>) -> Option<Process> {
    let directory = root.join(pid.to_string());
    let (start, comm) = read_stat(&directory)?;
    let executable = executable(&directory).or(comm);
    let placed = place(&read_lossy(&directory.join("cgroup")).unwrap_or_default());
    let (start_after, _) = read_stat(&directory)?;
    if start != start_after {
        return None;
    }
    let pod =
        pods.and_then(|pods| pods.lookup(placed.container.as_deref(), placed.pod_uid.as_deref()));
    let workload = pod.as_ref().and_then(|pod| pod.workload.clone());
    Some(Process {
        pid,
        service: placed
            .unit
            .or_else(|| workload.map(|(_, name)| name))
            .or_else(|| executable.clone()),
        executable,
        container_id: placed.container,
        pod,
    })
}

fn read_lossy(path: &Path) -> Option<String> {
    fs::read(path)
        .ok()
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Start time (field 22, clock ticks after boot) and name of proc_pid_stat(5).
fn read_stat(directory: &Path) -> Option<(u64, Option<String>)> {
    let text = read_lossy(&directory.join("stat"))?;
    // The name may hold spaces and parentheses, so the fields are counted from its end.
    let (before, after) = text.rsplit_once(')')?;
    let name = before.split_once('(').map(|(_, name)| name.to_owned());
    // Field 3 is the first one behind the name.
    let start = after.split_ascii_whitespace().nth(22 - 3)?.parse().ok()?;
    Some((start, name.filter(|name| !name.is_empty())))
}

/// Base name of the executable. The link cannot be read for kernel threads, nor without
/// CAP_SYS_PTRACE for other users' processes.
fn executable(directory: &Path) -> Option<String> {
    let target = fs::read_link(directory.join("exe")).ok()?;
    let name = target.file_name()?.to_string_lossy().into_owned();
    // A package upgrade replaced the file; the process is the same service nevertheless.
    let name = name
        .strip_suffix(" (deleted)")
        .map(str::to_owned)
        .unwrap_or(name);
    (!name.is_empty()).then_some(name)
}

/// What a cgroup path says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Placed {
    /// systemd unit without `.service`.
    unit: Option<String>,
    container: Option<String>,
    /// Of Kubernetes.
    pod_uid: Option<String>,
}

/// Reads proc_pid_cgroup(5): lines `hierarchy:controllers:path`. On a hybrid host the unified
/// hierarchy may be unused ("/"), and the named one of systemd has the answer.
fn place(text: &str) -> Placed {
    let path_of = |wanted: &dyn Fn(&str, &str) -> bool| {
        text.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (hierarchy, controllers) = (fields.next()?, fields.next()?);
            let path = fields.next()?;
            (wanted(hierarchy, controllers) && path != "/").then_some(path)
        })
    };
    path_of(&|hierarchy, controllers| hierarchy == "0" && controllers.is_empty())
        .or_else(|| path_of(&|_, controllers| controllers == "name=systemd"))
        .or_else(|| path_of(&|_, _| true))
        .map(place_path)
        .unwrap_or_default()
}

/// The innermost container, and the innermost unit inside it: a unit outside runs the container
/// engine, not the process.
fn place_path(path: &str) -> Placed {
    let mut placed = Placed::default();
    for component in path.split('/') {
        if let Some(uid) = pod_uid(component) {
            placed.pod_uid = Some(uid);
        } else if let Some(id) = container_id(component) {
            placed = Placed {
                unit: None,
                container: Some(id.to_owned()),
                pod_uid: placed.pod_uid,
            };
        } else if let Some(unit) = component.strip_suffix(".service")
            // The manager of a user's session is no service; what it started is.
            && !unit.is_empty()
            && !unit.starts_with("user@")
        {
            placed.unit = Some(unescape_unit(unit));
        }
    }
    placed
}

/// 64 hex digits, as such (`/docker/ID`, kubepods with cgroupfs) or as the end of a scope
/// (`docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`).
fn container_id(component: &str) -> Option<&str> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let id = name.rsplit(['-', ':']).next()?;
    let hex = id.len() == 64
        && id
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    hex.then_some(id)
}

/// The uid behind `pod`, where the kubelet makes a directory for a pod: `pod1a2b…` (cgroupfs) or
/// `kubepods-burstable-pod1a2b….slice` (systemd, which has `_` for `-`).
fn pod_uid(component: &str) -> Option<String> {
    let name = component.strip_suffix(".slice").unwrap_or(component);
    let (before, uid) = name.rsplit_once("pod")?;
    let digits = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'_');
    let is_uid = uid.len() == 36 && uid.bytes().all(digits);
    (is_uid && (before.is_empty() || before.ends_with('-'))).then(|| uid.replace('_', "-"))
}

/// Undoes `\x2d` and the like (systemd-escape(1)), where the result is text.
fn unescape_unit(unit: &str) -> String {
    let mut out = String::with_capacity(unit.len());
    let mut rest = unit;
    while let Some((before, after)) = rest.split_once("\\x") {
        out.push_str(before);
        let byte = after
            .get(..2)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(|byte| byte.is_ascii_graphic());
        match byte {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &after[2..];
            }
            None => {
                out.push_str("\\x");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// A made-up procfs that goes away with the test.
    pub(in crate::host) struct ProcTree(PathBuf);

    impl ProcTree {
        pub(in crate::host) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("resumetry-proc-{}-{number}", std::process::id());
            let root = std::env::temp_dir().join(name);
            fs::create_dir_all(&root).unwrap();
            Self(root)
        }

        pub(in crate::host) fn root(&self) -> &Path {
            &self.0
        }

        pub(in crate::host) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }

        fn process(&self, pid: u32, comm: &str, start: u64, cgroup: &str) {
            let fields = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0";
            self.write(
                &format!("{pid}/stat"),
                format!("{pid} ({comm}) {fields} {start} 1 2 3\n"),
            );
            self.write(&format!("{pid}/cgroup"), cgroup);
        }

        pub(in crate::host) fn link(&self, path: &str, target: &str) {
            let link = self.0.join(path);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(target, link).unwrap();
        }
    }

    impl Drop for ProcTree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn names_executable_and_unit() {
        let tree = ProcTree::new();
        tree.process(10, "nginx", 500, "0::/system.slice/nginx.service\n");
        tree.link("10/exe", "/usr/sbin/nginx (deleted)");
        let process = ProcessTable::new(tree.root()).lookup(10).unwrap();
        let expected = Process {
            pid: 10,
            executable: Some("nginx".to_owned()),
            service: Some("nginx".to_owned()),
            container_id: None,
            pod: None,
        };
        assert_eq!(*process, expected);
    }

    #[test]
    fn a_process_without_unit_serves_under_the_name_of_its_executable() {
        let tree = ProcTree::new();
        tree.process(
            10,
            "h2load",
            500,
            "0::/user.slice/user-0.slice/session-3.scope\n",
        );
        tree.link("10/exe", "/usr/bin/h2load");
        let process = ProcessTable::new(tree.root()).lookup(10).unwrap();
        assert_eq!(process.service.as_deref(), Some("h2load"));
    }

    #[test]
    fn the_name_stands_in_for_an_executable_that_cannot_be_read() {
        let tree = ProcTree::new();
        tree.process(10, "odd) (name", 500, "");
        let process = ProcessTable::new(tree.root()).lookup(10).unwrap();
        assert_eq!(process.executable.as_deref(), Some("odd) (name"));
    }

    #[test]
    fn reads_units_and_containers_from_cgroup_paths() {
        let unit = |name: &str| Placed {
            unit: Some(name.to_owned()),
            ..Placed::default()
        };
        let container = || Placed {
            container: Some(ID.to_owned()),
            ..Placed::default()
        };
        let in_pod = || Placed {
            container: Some(ID.to_owned()),
            pod_uid: Some("8f14e45f-ceea-467f-a0e6-5b0c6ad2a3c1".to_owned()),
            ..Placed::default()
        };
        for (text, expected) in [
            ("0::/system.slice/nginx.service\n".to_owned(), unit("nginx")),
            (
                "0::/system.slice/system-nginx.slice/nginx@a\\x2db.service".to_owned(),
                unit("nginx@a-b"),
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/x"
                    .to_owned(),
                unit("web"),
            ),
            (
                "0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope".to_owned(),
                Placed::default(),
            ),
            (
                "9:name=systemd:/system.slice/haproxy.service\n1:cpu:/\n0::/\n".to_owned(),
                unit("haproxy"),
            ),
            ("4:memory:/a/b.service\n0::/\n".to_owned(), unit("b")),
            (format!("0::/system.slice/docker-{ID}.scope\n"), container()),
            (format!("0::/docker/{ID}\n"), container()),
            (
                format!(
                    "0::/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"
                ),
                container(),
            ),
            (
                format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
                container(),
            ),
            (
                format!("0::/machine.slice/libpod-{ID}.scope/system.slice/nginx.service"),
                Placed {
                    unit: Some("nginx".to_owned()),
                    ..container()
                },
            ),
            (
                format!("0::/kubepods/burstable/pod8f14e45f-ceea-467f-a0e6-5b0c6ad2a3c1/{ID}"),
                in_pod(),
            ),
            (
                format!(
                    "0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-\
                     pod8f14e45f_ceea_467f_a0e6_5b0c6ad2a3c1.slice/cri-containerd-{ID}.scope"
                ),
                in_pod(),
            ),
            ("0::/".to_owned(), Placed::default()),
        ] {
            assert_eq!(place(&text), expected, "{text}");
        }
    }

    #[test]
    fn odd_content_is_no_panic_and_no_answer() {
        for text in [
            "",
            ":",
            "::",
            "0::",
            "a:b",
            "\n\n",
            "0::/.service",
            "0::\\x",
            "0::/\\xé.service",
        ] {
            let placed = place(text);
            assert_eq!(placed.container, None, "{text:?}");
        }
        for stat in [
            "",
            ")",
            "1 (x",
            "1 (x) S 1 2",
            "1 (x) S 1 1 1 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 -5",
        ] {
            let tree = ProcTree::new();
            tree.write("7/stat", stat);
            assert_eq!(ProcessTable::new(tree.root()).lookup(7), None, "{stat:?}");
        }
        let tree = ProcTree::new();
        tree.process(7, "x", 1, "");
        tree.write("7/cgroup", [0xff, b':', 0xfe, b':', b'/', 0xff]);
        assert!(ProcessTable::new(tree.root()).lookup(7).is_some());
    }

    #[test]
    fn a_process_that_ended_is_known_for_a_while() {
        let tree = ProcTree::new();
        let mut table = ProcessTable::new(tree.root());
        assert_eq!(table.lookup(10), None);
        let start = Instant::now();
        tree.process(10, "nginx", 500, "");
        assert!(table.lookup_at(10, start).is_some());
        fs::remove_dir_all(tree.root().join("10")).unwrap();
        let last = start + REMEMBERED - FRESH;
        for now in [start, start + FRESH, last] {
            let process = table.lookup_at(10, now).unwrap();
            assert_eq!(process.executable.as_deref(), Some("nginx"));
        }
        assert_eq!(table.lookup_at(10, start + REMEMBERED), None);
        assert!(table.entries.is_empty());
    }

    #[test]
    fn a_reused_pid_gets_a_new_answer() {
        let tree = ProcTree::new();
        let mut table = ProcessTable::new(tree.root());
        let start = Instant::now();
        tree.process(10, "nginx", 500, "");
        let first = table.lookup_at(10, start).unwrap();
        let again = table.lookup_at(10, start + FRESH).unwrap();
        assert!(
            Arc::ptr_eq(&first, &again),
            "an unchanged process keeps its allocation"
        );
        tree.process(10, "curl", 900, "");
        let later = table.lookup_at(10, start + FRESH * 2).unwrap();
        assert_eq!(later.executable.as_deref(), Some("curl"));
    }

    #[test]
    fn the_table_stays_bounded_and_drops_the_oldest() {
        let tree = ProcTree::new();
        let mut table = ProcessTable {
            capacity: 3,
            ..ProcessTable::new(tree.root())
        };
        let start = Instant::now();
        for pid in 1..=5 {
            tree.process(pid, "x", 500, "");
            table.lookup_at(pid, start + Duration::from_millis(pid.into()));
        }
        let mut kept: Vec<_> = table.entries.keys().copied().collect();
        kept.sort_unstable();
        assert_eq!(kept, [3, 4, 5]);
    }

    #[test]
    fn reads_itself_from_the_real_proc() {
        let process = ProcessTable::new("/proc")
            .lookup(std::process::id())
            .unwrap();
        let own = std::env::current_exe().unwrap();
        assert_eq!(
            process.executable.as_deref(),
            own.file_name().unwrap().to_str()
        );
    }
}
