//! The kernel edge: loads the kernel half and attaches it. Nothing above this module knows of aya.

mod attach;
mod cgroup;

mod load;

pub use attach::{AttachError, Tap, Taps};
pub use cgroup::{CgroupError, open as open_cgroup};

pub use load::{KernelHalf, LoadError, LoadOptions};
