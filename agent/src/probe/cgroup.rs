//! Opens the cgroup that the taps are attached to.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use thiserror::Error;

use crate::host::cgroup::find_cgroup2;

/// Why there is no cgroup to attach to.
#[derive(Debug, Error)]
pub enum CgroupError {
    #[error(
        "cannot open the cgroup {path}: {source}\n--cgroup takes a directory of the cgroup2 file system",
        path = path.display()
    )]
    Open {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(
        "no cgroup2 file system is mounted here, and mounting one failed: {source}\n\
         mount it (mount -t cgroup2 none /sys/fs/cgroup/unified), or run as root, or name a \
         directory of it with --cgroup; without it only the library tap works (--taps library)"
    )]
    NotMounted { source: std::io::Error },
}

/// Opens `path`, or else the root of the cgroup2 hierarchy, wherever it is mounted: here, in the
/// mount namespace of process 1, or privately without a place in any file system.
///
/// # Errors
/// [`CgroupError`], see its texts.
pub fn open(path: Option<&Path>) -> Result<OwnedFd, CgroupError> {
    if let Some(path) = path {
        return open_directory(path);
    }
    for (mounts, root) in [
        ("/proc/self/mounts", "/"),
        ("/proc/1/mounts", "/proc/1/root"),
    ] {
        let Ok(text) = std::fs::read_to_string(mounts) else {
            continue;
        };
        if let Some(mount) = find_cgroup2(&text) {
            let path = Path::new(root).join(mount.strip_prefix("/").unwrap_or(&mount));
            if let Ok(directory) = open_directory(&path) {
                return Ok(directory);
            }
        }
    }
    mount_detached().map_err(|errno| CgroupError::NotMounted {
        source: errno.into(),
    })
}

fn open_directory(path: &Path) -> Result<OwnedFd, CgroupError> {
    match File::open(path) {
        Ok(directory) => Ok(directory.into()),
        Err(source) => Err(CgroupError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

/// A mount that exists only as this file descriptor (fsmount, Linux 5.2): nothing to clean up.
fn mount_detached() -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}
