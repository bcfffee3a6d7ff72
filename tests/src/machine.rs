//! A Debian machine in namespaces of its own: systemd is its first process, its network has nothing
//! but loopback, and what it writes goes to a layer above a root that stays as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::cgroup::Cgroup;
use crate::process::Owned;
use crate::{repository, wait};

/// Mounts the layers and what systemd expects of a container manager, and becomes systemd. The loop
/// back must be up before anything listens on it.
const BOOT: &str = r#"set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
cd "$2/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount --bind /dev dev
ip link set lo up
exec env -i container=resumetry-tests PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd
"#;

/// Where nothing stays: what a running system writes for itself.
const RUNTIME: [&str; 9] = [
    "proc",
    "sys",
    "run",
    "dev",
    "tmp",
    "var/log",
    "var/tmp",
    "var/cache",
    "var/lib/systemd",
];

/// It is gone with everything in it when dropped.
pub struct Machine {
    // Dropped in this order: the first process, then its cgroup, then its files.
    process: Owned,
    cgroup: Tree,
    init: u32,
    directory: TempDir,
}

/// A cgroup whose processes end before it goes.
struct Tree(Cgroup);

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::write(self.0.path().join("cgroup.kill"), "1");
    }
}

impl Machine {
    /// Starts Debian's oldest release that packages are made for, with nginx installed.
    pub fn boot() -> Result<Self> {
        let lower = repository().join("target/foreign/debian-root");
        ensure!(
            lower.is_dir(),
            "{} is missing; `cargo xtask setup --tests` makes it",
            lower.display()
        );
        let directory = tempfile::tempdir()?;
        // An upper layer cannot be on another overlay, which containers' roots are; memory can.
        let layers = directory.path();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "tmpfs"])
            .arg(layers)
            .status()?;
        ensure!(mounted.success(), "cannot mount a tmpfs");
        for part in ["upper", "work", "root"] {
            fs::create_dir(layers.join(part))?;
        }
        let cgroup = Tree(Cgroup::create("machine")?);
        let child = cgroup.0.inside(|| {
            Command::new("unshare")
                .args(["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net"])
                .args(["--fork", "--kill-child", "sh", "-c", BOOT, "sh"])
                .arg(lower.canonicalize()?)
                .arg(layers)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(layers.join("boot.log"))?)
                .spawn()
                .context("cannot run unshare")
        })?;
        let mut machine = Self {
            process: Owned::new(child),
            cgroup,
            init: 0,
            directory,
        };
        let up = wait::until(Duration::from_secs(60), || {
            machine.init = machine.process.first_child().unwrap_or(0);
            machine.init != 0
                && machine
                    .run(&["systemctl", "is-system-running"])
                    .is_ok_and(|output| {
                        ["running", "degraded"]
                            .contains(&String::from_utf8_lossy(&output.stdout).trim())
                    })
        });
        if !up {
            let log = fs::read_to_string(machine.directory.path().join("boot.log"))?;
            bail!("the machine does not start: {log}");
        }
        Ok(machine)
    }

    /// Its files, as seen from here.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init))
    }

    /// The cgroup that all of its processes are in.
    pub fn cgroup(&self) -> &Path {
        self.cgroup.0.path()
    }

    fn enter(&self, namespaces: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.init))
            .args(namespaces)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command of the machine's in it.
    pub fn run(&self, command: &[&str]) -> Result<Output> {
        let mut nsenter = self.enter(&["--all", "--root", "--wd"]);
        nsenter
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        Ok(nsenter.args(command).output()?)
    }

    /// Runs a command that must succeed; what it printed.
    pub fn must(&self, command: &[&str]) -> Result<String> {
        let output = self.run(command)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "{command:?}: {}{}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// Runs a command of this host's on the machine's network.
    pub fn on_its_network(&self, command: &[&str]) -> Result<Output> {
        Ok(self.enter(&["--net"]).args(command).output()?)
    }

    /// Every file that is there but what a running system writes for itself.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        fn walk(root: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) {
            for entry in fs::read_dir(root.join(below))
                .into_iter()
                .flatten()
                .flatten()
            {
                let path = below.join(entry.file_name());
                if RUNTIME.iter().any(|own| path == Path::new(own)) {
                    continue;
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    walk(root, &path, found);
                }
                found.insert(path);
            }
        }
        let mut found = BTreeSet::new();
        walk(&self.root(), Path::new(""), &mut found);
        found
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Its first process takes all others with it.
        self.process.stop(Duration::ZERO);
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(self.directory.path())
            .status();
    }
}
