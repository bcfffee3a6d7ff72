//! Opens the cgroup that the taps are attached to.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use thiserror::Error;

use crate::host::cgroup::locate;

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

/// Opens `path`, or else the root of the cgroup2 hierarchy: where it is mounted, or by a private
/// mount that has no place in any file system.
///
/// # Errors
/// [`CgroupError`], see its texts.
pub fn open(path: Option<&Path>) -> Result<OwnedFd, CgroupError> {
    let found;
    let path = match path {
        Some(path) => path,
        None => match locate(Path::new("/proc")) {
            Ok(root) => {
                if !root.whole_host {
                    log::warn!(
                        "only this container's part of the cgroup hierarchy is visible: other \
                         containers are not seen; share the host's process ids (hostPID)"
                    );
                }
                found = root.path;
                &found
            }
            Err(_) => {
                return mount_detached().map_err(|errno| CgroupError::NotMounted {
                    source: errno.into(),
                });
            }
        },
    };
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
