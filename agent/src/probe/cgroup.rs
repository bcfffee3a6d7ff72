//! Opens the cgroup that the taps are attached to.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use thiserror::Error;

use crate::host::cgroup::locate;

/// include/uapi/linux/magic.h
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

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
        "{path} is no cgroup2 directory\n--cgroup takes a directory of the cgroup2 file system",
        path = path.display()
    )]
    Foreign { path: PathBuf },
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
    if let Some(path) = path {
        return open_directory(path);
    }
    if let Ok(root) = locate(Path::new("/proc")) {
        match open_directory(&root.path) {
            Ok(directory) => {
                if !root.whole_host {
                    log::warn!(
                        "only this container's part of the cgroup hierarchy is visible: other \
                         containers are not seen; share the host's process ids (hostPID)"
                    );
                }
                return Ok(directory);
            }
            // The mount table also lists what later mounts cover.
            Err(error) => log::debug!("{error}"),
        }
    }
    mount_detached().map_err(|errno| CgroupError::NotMounted {
        source: errno.into(),
    })
}

/// Opens a directory that must be one of cgroup2: the kernel refuses any other with no more than
/// "bad file descriptor".
fn open_directory(path: &Path) -> Result<OwnedFd, CgroupError> {
    let failed = |source| CgroupError::Open {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let file_system = rustix::fs::fstatfs(&file).map_err(|errno| failed(errno.into()))?;
    let is_directory = file.metadata().map_err(failed)?.is_dir();
    if !is_directory || file_system.f_type as u64 != CGROUP2_SUPER_MAGIC {
        return Err(CgroupError::Foreign {
            path: path.to_owned(),
        });
    }
    Ok(file.into())
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
