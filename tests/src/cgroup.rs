//! cgroups of their own for servers, so that an agent can be told to watch just these.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait;

/// A cgroup2 directory that is removed again once its processes are gone.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    /// Where this process belongs.
    home: PathBuf,
}

impl Cgroup {
    /// Creates `resumetry-NAME-PID` below the root of the cgroup2 hierarchy.
    pub fn create(name: &str) -> Result<Self> {
        let root = root()?;
        let own = fs::read_to_string("/proc/self/cgroup")?;
        let home = own
            .lines()
            .find_map(|line| line.strip_prefix("0::/"))
            .context("this process is in no cgroup2 directory")?;
        let path = root.join(format!("resumetry-{name}-{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Self {
            path,
            home: root.join(home),
        })
    }

    /// A cgroup below this one, removed before it.
    pub fn nested(&self, path: &str) -> Result<Self> {
        let whole = self.path.join(path);
        fs::create_dir_all(&whole)?;
        Ok(Self {
            path: whole,
            home: self.home.clone(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `start` inside. Processes that it starts stay there, and so do their sockets: a socket
    /// belongs to the cgroup in which it, or its listening socket, was created.
    pub fn inside<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        enter(&self.path)?;
        let started = start();
        enter(&self.home)?;
        started
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Zombies keep it busy until they are reaped.
        wait::until(Duration::from_secs(5), || {
            remove(&self.path);
            !self.path.exists()
        });
    }
}

/// Removes a cgroup and those below it that have no processes any more.
fn remove(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}

/// Moves this process.
fn enter(cgroup: &Path) -> Result<()> {
    let path = cgroup.join("cgroup.procs");
    fs::write(&path, "0").with_context(|| format!("cannot write {}", path.display()))
}

/// The mount point of the cgroup2 hierarchy.
fn root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let mount = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .context("no cgroup2 file system is mounted")?;
    Ok(PathBuf::from(mount[1]))
}
