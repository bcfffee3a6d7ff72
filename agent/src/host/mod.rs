//! What the host tells: processes, cgroups, libraries.
pub mod cgroup;
