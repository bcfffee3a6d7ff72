//! What this host is and runs, read from /proc and /sys. An edge of the program: it reads files,
//! and trusts none of them to be well formed, because processes come and go while they are read.

pub mod btf;
pub mod cgroup;
pub mod cpu;
pub mod doctor;
pub mod kubernetes;
pub mod libraries;
pub mod openssl;
pub mod pods;
pub mod process;
