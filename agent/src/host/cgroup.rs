//! Where the cgroup2 hierarchy of this host is mounted. The wire tap attaches to its root, which
//! every socket of the host is under.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Where systemd and others mount it, purely and beside cgroup1 ("hybrid").
const USUAL: &[&str] = &["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// No cgroup2 hierarchy could be reached.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("cannot read {}: {source}; is /proc mounted?", path.display())]
    Mounts { path: PathBuf, source: io::Error },
    #[error(
        "no cgroup2 file system is mounted on this host, and the wire tap attaches to its root; \
         mount one: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none \
         /sys/fs/cgroup/unified (or name a mount with --cgroup)"
    )]
    NoMount,
}

/// The root of a cgroup2 hierarchy, as this process reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub path: PathBuf,
    /// False when it is the root of a container's namespace: sockets elsewhere are not under it.
    pub whole_host: bool,
}

/// Finds the root of the hierarchy.
///
/// In a container the own mount namespace may have none, or only the container's part of it; then
/// init's is used, which is the host's when the container shares the host's process ids.
pub fn locate(proc_root: &Path) -> Result<Root, CgroupError> {
    let own = proc_root.join("self/mounts");
    let mounts = fs::read(&own).map_err(|source| CgroupError::Mounts { path: own, source })?;
    let own = find_cgroup2(&String::from_utf8_lossy(&mounts));
    match own {
        Some(path) if in_initial_namespace(proc_root, "self") => Ok(Root {
            path,
            whole_host: true,
        }),
        own => through_init(proc_root)
            .or_else(|| {
                own.map(|path| Root {
                    path,
                    whole_host: false,
                })
            })
            .ok_or(CgroupError::NoMount),
    }
}

/// The mount that init sees. Not being allowed to look at init is no cause of its own: the way
/// out is the same.
fn through_init(proc_root: &Path) -> Option<Root> {
    let mounts = fs::read(proc_root.join("1/mounts")).ok()?;
    let path = find_cgroup2(&String::from_utf8_lossy(&mounts))?;
    let path = proc_root
        .join("1/root")
        .join(path.strip_prefix("/").unwrap_or(&path));
    let whole_host = in_initial_namespace(proc_root, "1");
    path.is_dir().then_some(Root { path, whole_host })
}

/// Whether a process is in the host's cgroup namespace. Its inode is fixed:
/// PROC_CGROUP_INIT_INO of include/linux/proc_ns.h is 0xEFFFFFFB. Without a link the kernel knows
/// no such namespaces, or hides them.
fn in_initial_namespace(proc_root: &Path, process: &str) -> bool {
    match fs::read_link(proc_root.join(process).join("ns/cgroup")) {
        Ok(link) => link == Path::new("cgroup:[4026531835]"),
        Err(_) => true,
    }
}

/// The mount point of cgroup2 in a text like /proc/mounts (proc_pid_mounts(5), fstab(5)); a usual
/// place before any other.
pub fn find_cgroup2(mounts: &str) -> Option<PathBuf> {
    let found: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_device, path, kind) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| unescape(path))
        })
        .collect();
    USUAL
        .iter()
        .map(Path::new)
        .find(|usual| found.iter().any(|path| path == usual))
        .map(Path::to_owned)
        .or_else(|| found.into_iter().next())
}

/// Undoes the octal escapes (`\040` is a space) of mount tables and maps.
pub(super) fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let octal = bytes
            .get(at + 1..at + 4)
            .filter(|_| byte == b'\\')
            .and_then(|digits| {
                digits.iter().try_fold(0u8, |value, digit| {
                    let digit = digit.checked_sub(b'0').filter(|digit| *digit < 8)?;
                    value.checked_mul(8)?.checked_add(digit)
                })
            });
        match octal {
            Some(value) => {
                out.push(value);
                at += 4;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::host::process::tests::ProcTree;

    fn found(mounts: &str) -> Option<String> {
        find_cgroup2(mounts).map(|path| path.to_string_lossy().into_owned())
    }

    fn root(path: &Path, whole_host: bool) -> Root {
        Root {
            path: path.to_owned(),
            whole_host,
        }
    }

    #[test]
    fn finds_the_pure_hierarchy() {
        let mounts = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(found(mounts).as_deref(), Some("/sys/fs/cgroup"));
    }

    #[test]
    fn finds_the_hybrid_hierarchy_among_cgroup1() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs ro 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(found(mounts).as_deref(), Some("/sys/fs/cgroup/unified"));
    }

    #[test]
    fn prefers_the_usual_place_and_takes_any_other() {
        let mounts = "none /mnt/odd\\040place cgroup2 rw 0 0\n";
        assert_eq!(found(mounts).as_deref(), Some("/mnt/odd place"));
        let both = format!("{mounts}cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
        assert_eq!(found(&both).as_deref(), Some("/sys/fs/cgroup"));
    }

    #[test]
    fn finds_none_in_cgroup1_or_nonsense() {
        for mounts in [
            "",
            "\n\n",
            "cgroup2",
            "cgroup2 /x",
            "cgroup /sys/fs/cgroup cgroup rw 0 0\n",
            "cgroup2 /a ext4 rw",
        ] {
            assert_eq!(found(mounts), None, "{mounts:?}");
        }
    }

    #[test]
    fn odd_escapes_stay_as_they_are() {
        for text in ["a\\", "a\\04", "a\\999", "a\\777", "\\x2d"] {
            assert_eq!(unescape(text), Path::new(text));
        }
        assert_eq!(unescape("\\134\\012"), Path::new("\\\n"));
    }

    #[test]
    fn goes_through_init_where_the_own_namespace_has_no_mount() {
        let tree = ProcTree::new();
        tree.write("self/mounts", "proc /proc proc rw 0 0\n");
        assert!(matches!(locate(tree.root()), Err(CgroupError::NoMount)));
        tree.write("1/mounts", "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
        assert!(
            matches!(locate(tree.root()), Err(CgroupError::NoMount)),
            "not reachable"
        );
        let path = tree.root().join("1/root/sys/fs/cgroup");
        fs::create_dir_all(&path).unwrap();
        assert_eq!(locate(tree.root()).unwrap(), root(&path, true));
    }

    #[test]
    fn a_container_takes_the_mount_of_init_before_its_own_part() {
        let mount = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        let tree = ProcTree::new();
        tree.write("self/mounts", mount);
        let own = Path::new("/sys/fs/cgroup");
        assert_eq!(locate(tree.root()).unwrap(), root(own, true));

        tree.link("self/ns/cgroup", "cgroup:[4026532200]");
        assert_eq!(locate(tree.root()).unwrap(), root(own, false));

        tree.write("1/mounts", mount);
        tree.link("1/ns/cgroup", "cgroup:[4026531835]");
        let path = tree.root().join("1/root/sys/fs/cgroup");
        fs::create_dir_all(&path).unwrap();
        assert_eq!(locate(tree.root()).unwrap(), root(&path, true));
    }

    #[test]
    fn a_missing_proc_is_said_to_be_missing() {
        let error = locate(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.contains("is /proc mounted?"), "{error}");
    }
}
