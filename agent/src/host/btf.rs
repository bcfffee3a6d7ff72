//! Where fields of kernel structures are, by the running kernel's own type information (BTF,
//! Documentation/bpf/btf.rst; /sys/kernel/btf/vmlinux since Linux 5.4).
//!
//! A pure function of the file's bytes; nothing in it is trusted. The libraries for this are either
//! under the LGPL or keep their members to themselves.

use thiserror::Error;

/// The running kernel's own.
const KERNEL: &str = "/sys/kernel/btf/vmlinux";
/// Magic number of a file in this machine's byte order.
const MAGIC: u16 = 0xeb9f;
/// Fixed part of each type: name, info, size or type.
const TYPE_BYTES: usize = 12;
/// A member of a structure: name, type, offset.
const MEMBER_BYTES: usize = 12;

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;

/// Why a field is not found.
#[derive(Debug, Error)]
pub enum BtfError {
    #[error("the kernel's type information cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("the kernel's type information is damaged, or of a form that is not known")]
    Malformed,
    #[error("the kernel's type information has no {0}")]
    NotFound(&'static str),
}

/// Offsets in bytes from the start of `task_struct`, for on-CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskOffsets {
    /// `se.sum_exec_runtime`: time on a CPU up to `se.exec_start`, nanoseconds.
    pub sum_exec_runtime: u32,
    /// `se.exec_start`: `rq_clock_task` when the sum was last brought up to date, nanoseconds.
    pub exec_start: u32,
    /// `None` where this kernel keeps no way from a task to its processor's clocks.
    pub clocks: Option<ClockOffsets>,
}

/// The way from a task to the clocks of its processor, offsets in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffsets {
    /// `se.cfs_rq` in `task_struct` (CONFIG_FAIR_GROUP_SCHED).
    pub run_queue: u32,
    /// `rq` in `cfs_rq`.
    pub processor_queue: u32,
    /// `clock` in `rq`: `sched_clock`, nanoseconds.
    pub clock: u32,
    /// `clock_task` in `rq`: the same less the time of interrupts and of the hypervisor.
    pub clock_task: u32,
}

impl TaskOffsets {
    /// Those of the running kernel.
    ///
    /// # Errors
    /// When it has no BTF, or other fields.
    pub fn of_this_kernel() -> Result<Self, BtfError> {
        Self::read(&std::fs::read(KERNEL)?)
    }

    fn read(bytes: &[u8]) -> Result<Self, BtfError> {
        let btf = Btf::parse(bytes).ok_or(BtfError::Malformed)?;
        let offset = |structure, member| btf.member(structure, member);
        let entity = offset("task_struct", "se").ok_or(BtfError::NotFound("task_struct.se"))?;
        let field = |member, name| -> Result<u32, BtfError> {
            let bits = offset("sched_entity", member).ok_or(BtfError::NotFound(name))?;
            Ok((entity + bits) / 8)
        };
        let clocks = || {
            Some(ClockOffsets {
                run_queue: (entity + offset("sched_entity", "cfs_rq")?) / 8,
                processor_queue: offset("cfs_rq", "rq")? / 8,
                clock: offset("rq", "clock")? / 8,
                clock_task: offset("rq", "clock_task")? / 8,
            })
        };
        Ok(Self {
            sum_exec_runtime: field("sum_exec_runtime", "sched_entity.sum_exec_runtime")?,
            exec_start: field("exec_start", "sched_entity.exec_start")?,
            clocks: clocks(),
        })
    }
}

/// Whether the scheduler's clocks of all processors show the same time: where the kernel takes its time
/// from their counters, it found these to agree (`tsc_unstable`, arch/x86/kernel/tsc.c).
pub fn have_same_clocks() -> bool {
    const SOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    std::fs::read_to_string(SOURCE)
        .is_ok_and(|source| matches!(source.trim_end(), "tsc" | "kvm-clock"))
}

/// Offset in bytes from the start of `tcp_sock` of `rcvq_space.time`, which is when the connection was
/// established until a process reads from it, in microseconds of the monotonic clock.
///
/// # Errors
/// When the running kernel has no BTF, or no such field.
pub fn established_offset() -> Result<u32, BtfError> {
    let bytes = std::fs::read(KERNEL)?;
    let btf = Btf::parse(&bytes).ok_or(BtfError::Malformed)?;
    btf.nested_member("tcp_sock", "rcvq_space", "time")
        .map(|bits| bits / 8)
        .ok_or(BtfError::NotFound("tcp_sock.rcvq_space.time"))
}

/// A member of a structure.
struct Member {
    type_number: u32,
    /// From the start of the structure, bits.
    offset: u32,
}

/// The two sections of a file.
struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let magic = u16::from_ne_bytes(bytes.first_chunk::<2>().copied()?);
        let version = *bytes.get(2)?;
        if magic != MAGIC || version != 1 {
            return None;
        }
        let header = word(bytes, 4)?;
        let section = |offset, length| {
            let start =
                usize::try_from(header).ok()? + usize::try_from(word(bytes, offset)?).ok()?;
            let length = usize::try_from(word(bytes, length)?).ok()?;
            bytes.get(start..start.checked_add(length)?)
        };
        Some(Self {
            types: section(8, 12)?,
            strings: section(16, 20)?,
        })
    }

    /// Offset in bits of a member of the first structure of a name; anonymous members are not
    /// looked into.
    fn member(&self, structure: &str, member: &str) -> Option<u32> {
        self.member_of(|_, name| self.is_named(name, structure), member)
            .map(|found| found.offset)
    }

    /// The same, of a member of a member that is a structure itself.
    fn nested_member(&self, structure: &str, outer: &str, member: &str) -> Option<u32> {
        let outer = self.member_of(|_, name| self.is_named(name, structure), outer)?;
        let inner = self.member_of(|number, _| number == outer.type_number, member)?;
        outer.offset.checked_add(inner.offset)
    }

    /// A member of the first structure that `is_wanted` by the number of its type and its name.
    fn member_of(&self, is_wanted: impl Fn(u32, u32) -> bool, member: &str) -> Option<Member> {
        let mut rest = self.types;
        // Type 0 is `void`, which is not written down.
        let mut number = 1;
        while let Some((fixed, after)) = rest.split_at_checked(TYPE_BYTES) {
            let info = word(fixed, 4)?;
            let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
            let (own, next) = after.split_at_checked(extra_bytes(kind, count)?)?;
            if kind == KIND_STRUCT && is_wanted(number, word(fixed, 0)?) {
                // With the flag, the upper 8 bits are the size of a bit field.
                let mask = if info >> 31 == 1 { 0x00ff_ffff } else { !0 };
                let entry = own
                    .chunks_exact(MEMBER_BYTES)
                    .find(|entry| word(entry, 0).is_some_and(|name| self.is_named(name, member)))?;
                return Some(Member {
                    type_number: word(entry, 4)?,
                    offset: word(entry, 8)? & mask,
                });
            }
            rest = next;
            number += 1;
        }
        None
    }

    fn is_named(&self, offset: u32, name: &str) -> bool {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.strip_prefix(name.as_bytes())
            .is_some_and(|end| end.first() == Some(&0))
    }
}

/// What follows the fixed part of a type of `count` members, bytes; `None` for an unknown kind.
fn extra_bytes(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        // Integer, variable's linkage, declaration tag.
        1 | 14 | 17 => 4,
        // Pointer, forward, typedef, volatile, const, restrict, function, float, type tag.
        2 | 7..=12 | 16 | 18 => 0,
        // Array.
        3 => 12,
        KIND_STRUCT | KIND_UNION => MEMBER_BYTES * count,
        // Enumeration, function prototype.
        6 | 13 => 8 * count,
        // Data section, enumeration of 64 bits.
        15 | 19 => 12 * count,
        _ => return None,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn finds_the_fields_of_the_running_kernel() {
        let offsets = TaskOffsets::of_this_kernel().unwrap();
        // Both stand in `sched_entity`, eight bytes each, and a task is less than 16 KiB.
        assert!(offsets.sum_exec_runtime.abs_diff(offsets.exec_start) < 256);
        assert!(offsets.sum_exec_runtime.is_multiple_of(8) && offsets.sum_exec_runtime < 16_384);
        assert_ne!(offsets.sum_exec_runtime, offsets.exec_start);
        let clocks = offsets.clocks.unwrap();
        // A group's run queue and a processor's take a few pages at most.
        assert!(clocks.processor_queue < 16_384);
        assert!(clocks.clock < clocks.clock_task && clocks.clock_task < 65_536);
    }

    #[test]
    fn finds_a_field_of_an_anonymous_structure_within_another() {
        let offset = established_offset().unwrap();
        let bytes = std::fs::read(KERNEL).unwrap();
        let btf = Btf::parse(&bytes).unwrap();
        let space = btf.member("tcp_sock", "rcvq_space").unwrap() / 8;
        // Behind two words of 32 bits, aligned.
        assert!(offset > space && offset <= space + 8 && offset.is_multiple_of(8));
    }

    #[test]
    fn every_prefix_is_refused_or_read_without_panic() {
        let bytes = std::fs::read(KERNEL).unwrap();
        for length in (0..64).chain([1000, bytes.len() / 2, bytes.len() - 1]) {
            assert!(TaskOffsets::read(&bytes[..length]).is_err(), "{length}");
        }
        let mut other = bytes;
        other[0] ^= 1;
        assert!(matches!(
            TaskOffsets::read(&other),
            Err(BtfError::Malformed)
        ));
    }
}
