//! Measures what a trap costs on this machine: a probe that does nothing is put into a function of
//! the agent's own, and the function called with and without it.
//!
//! A loop of such calls shows a fifth of what a busy server pays, since the kernel's code and data
//! for traps are then always in the caches. So between two calls as much memory is touched as
//! pushes them out.

use std::{
    fs,
    hint::black_box,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use aya::programs::{
    UProbe,
    uprobe::{UProbeAttachLocation, UProbeScope},
};
use thiserror::Error;

use super::{
    attach::{AttachError, failed},
    load::KernelHalf,
};
use crate::tap::Tap;

/// Memory that is touched between two calls: the second-level cache of a server's processor, which
/// holds what the first level does, is no larger. Measured on an EPYC with 1 MiB of it: a trap takes
/// 0.7 µs after 0 to 256 KiB, 1.2 µs after 1 MiB, 1.5 µs after 2 and after 4 MiB.
const CHILL_BYTES: usize = 2 << 20;

/// One word of each cache line is touched.
const CHILL_STEP: usize = 64 / size_of::<u64>();

/// Calls with, and as many without, each kind of probe.
const CALLS: usize = 48;

/// Stop measuring after this long, on a machine that is slow or busy.
const MAX_TIME: Duration = Duration::from_millis(60);

/// What a trap costs whoever runs into it, beside the program that it starts; nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Traps {
    /// One at a place that the kernel emulates, as the entries of functions and calls are.
    pub entry_ns: f64,
    /// One at the entry of a function, and the one at its return that it prepares.
    pub call_ns: f64,
}

/// Why the cost of traps is not known.
#[derive(Debug, Error)]
pub enum CalibrationError {
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error("cannot find the agent's own code in /proc/self/maps")]
    OwnCode,
    #[error("too few calls were measured in {MAX_TIME:?}")]
    TooSlow,
}

/// Where a call of the probed function was when: just entered, and about to return.
type Times = [Instant; 2];

/// The function that is probed. Its first instruction saves a register, which the kernel emulates as
/// it does that of nearly any function.
#[inline(never)]
fn target(memory: &mut [u64]) -> Times {
    let entered = Instant::now();
    // What is probed in earnest works for long between its entry and its return.
    chill(memory);
    black_box([entered, Instant::now()])
}

/// Pushes the kernel's code and data for traps out of the caches.
#[inline(never)]
fn chill(memory: &mut [u64]) {
    for word in memory.iter_mut().step_by(CHILL_STEP) {
        *word = word.wrapping_add(1);
    }
}

impl KernelHalf {
    /// Measures traps. Takes a fifth of a second, nearly all of which the kernel waits for its own
    /// threads when a probe goes; once only.
    ///
    /// # Errors
    /// [`CalibrationError`], see its texts.
    pub fn measure_traps(&mut self) -> Result<Traps, CalibrationError> {
        let offset = own_offset(target as fn(&mut [u64]) -> Times as usize)?;
        let mut memory = vec![0_u64; CHILL_BYTES / size_of::<u64>()];
        let bare = call(&mut memory)?;
        let mut cost = |program| -> Result<[f64; 2], CalibrationError> {
            let probe: &mut UProbe = self.program(Tap::Library, program)?;
            probe.load().map_err(failed(Tap::Library, program))?;
            let point = UProbeAttachLocation::AbsoluteOffset(offset);
            let link = probe
                .attach(point, "/proc/self/exe", UProbeScope::CallingProcess)
                .map_err(failed(Tap::Library, program))?;
            let probed = call(&mut memory);
            probe.detach(link).map_err(failed(Tap::Library, program))?;
            let probed = probed?;
            Ok([0, 1].map(|end| (probed[end] - bare[end]).max(0.0)))
        };
        let [entry_ns, _] = cost("empty_uprobe")?;
        let [prepared_ns, return_ns] = cost("empty_uretprobe")?;
        self.set_trap_ns(entry_ns as u64);
        Ok(Traps {
            entry_ns,
            call_ns: prepared_ns + return_ns,
        })
    }
}

/// Median times of entering [`target`] and of returning from it with cold caches, nanoseconds.
fn call(memory: &mut [u64]) -> Result<[f64; 2], CalibrationError> {
    let begin = Instant::now();
    let mut ends = [Vec::with_capacity(CALLS), Vec::with_capacity(CALLS)];
    while ends[0].len() < CALLS && begin.elapsed() < MAX_TIME {
        chill(memory);
        let calling = Instant::now();
        let [entered, leaving] = black_box(target(memory));
        ends[1].push(leaving.elapsed());
        ends[0].push(entered - calling);
    }
    if ends[0].len() < CALLS / 8 {
        return Err(CalibrationError::TooSlow);
    }
    Ok(ends.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_nanos() as f64
    }))
}

/// Where an address of this process is in its executable.
fn own_offset(address: usize) -> Result<u64, CalibrationError> {
    let maps = fs::read_to_string("/proc/self/maps").map_err(|_| CalibrationError::OwnCode)?;
    maps.lines()
        .find_map(|line| file_offset(line, address as u64))
        .ok_or(CalibrationError::OwnCode)
}

/// From one line of /proc/PID/maps, proc(5), when the address is in it.
fn file_offset(line: &str, address: u64) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    let offset = number(fields.nth(1)?)?;
    // An inode: what is not of a file has none.
    let _: NonZeroU64 = fields.nth(1)?.parse().ok()?;
    (start..end)
        .contains(&address)
        .then(|| address - start + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_an_address_in_the_file_that_is_mapped_there() {
        let line = "55d0c8a00000-55d0c8c00000 r-xp 00200000 fe:00 1234   /usr/bin/resumetry";
        assert_eq!(file_offset(line, 0x55d0_c8a0_0010), Some(0x20_0010));
        assert_eq!(file_offset(line, 0x55d0_c8c0_0000), None);
        let anonymous = "55d0c8a00000-55d0c8c00000 rw-p 00000000 00:00 0   [heap]";
        assert_eq!(file_offset(anonymous, 0x55d0_c8a0_0010), None);
    }

    #[test]
    fn finds_its_own_code() {
        assert!(own_offset(target as fn(&mut [u64]) -> Times as usize).is_ok());
    }
}
