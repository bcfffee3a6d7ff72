//! cgroup
use std::path::PathBuf;
pub fn find_cgroup2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut f = line.split(' ');
        let _ = f.next()?;
        let p = f.next()?;
        (f.next()? == "cgroup2").then(|| PathBuf::from(p))
    })
}
