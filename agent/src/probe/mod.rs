//! The kernel edge: loads the kernel half and attaches it. Nothing above this module knows of aya.

mod attach;
mod calibration;
mod cgroup;
mod libraries;
mod load;
mod meter;
mod primitives;

pub use attach::AttachError;
pub use calibration::{CalibrationError, Traps};
pub use cgroup::{CgroupError, open as open_cgroup};
pub use libraries::{Group, LibraryEvents, LibraryProbes, lacks_symbol};
pub use load::{KernelHalf, KernelStats, LoadError, LoadOptions};
pub use meter::{HitCounters, measure_runs};
