//! The kernel edge: loads the kernel half and attaches it. Nothing above this module knows of aya.

mod attach;
mod cgroup;
mod libraries;
mod load;

pub use attach::AttachError;
pub use cgroup::{CgroupError, open as open_cgroup};
pub use libraries::{LibraryEvents, LibraryProbes, lacks_symbol};
pub use load::{KernelHalf, KernelStats, LoadError, LoadOptions};
