//! How long a thread was on a CPU, by the scheduler's own account, without a hook in the scheduler.
//!
//! The kernel brings `se.sum_exec_runtime` up to date at ticks and switches only, and notes when in
//! `se.exec_start`, by the clock of the processor's run queue: at any moment the thread was on a CPU
//! for `sum_exec_runtime + rq_clock_task - exec_start`. That clock cannot be read, but it is known how
//! it comes about (kernel/sched/core.c, `update_rq_clock`): it is `sched_clock` less the time that
//! interrupts took (where the kernel accounts for them) and that the hypervisor kept, and what it is
//! less by so far stands in the run queue, as `clock - clock_task`. `sched_clock` and the monotonic
//! clock run side by side, so that their distance cancels out of a difference.
//!
//! What remains of error: interrupts since the run queue's clocks were last brought up to date, a tick
//! ago at the most, at either end.

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated::bpf_get_current_task};

use crate::maps::{
    CLOCK, CLOCK_TASK, EXEC_START, PROCESSOR_QUEUE, RUN_QUEUE, SAME_CLOCKS, SUM_EXEC_RUNTIME,
};

/// What a rounding of the account may come to, nanoseconds: interrupts of one tick, and the monotonic
/// clock's steering. Differences beyond it are damage.
const SLACK_NS: u64 = 1_000_000;

/// On-CPU time of the current thread so far less the monotonic clock, nanoseconds, but for a constant.
/// `None` where it cannot be read.
#[inline(always)]
pub fn thread() -> Option<u64> {
    let (sum, start) = (SUM_EXEC_RUNTIME.load(), EXEC_START.load());
    if sum == 0 || start == 0 {
        return None;
    }
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let exec_start = read(task, start)?;
    if exec_start == 0 {
        return None;
    }
    let mut account = read(task, sum)?.wrapping_sub(exec_start);
    let queue = RUN_QUEUE.load();
    if queue != 0 {
        let processor = read(read(task, queue)?, PROCESSOR_QUEUE.load())?;
        let kept = read(processor, CLOCK.load())?.wrapping_sub(read(processor, CLOCK_TASK.load())?);
        account = account.wrapping_sub(kept);
    }
    Some(account)
}

/// On-CPU time between two accounts, `wall_ns` of the monotonic clock apart, nanoseconds; `None` where
/// it cannot be told.
#[inline(always)]
pub fn between(begin: u64, end: u64, wall_ns: u64, moved: bool) -> Option<u64> {
    if moved && (SAME_CLOCKS.load() == 0 || RUN_QUEUE.load() == 0) {
        return None;
    }
    let on_cpu_ns = end.wrapping_sub(begin).wrapping_add(wall_ns);
    if on_cpu_ns <= wall_ns {
        Some(on_cpu_ns)
    } else if on_cpu_ns.wrapping_add(SLACK_NS) < SLACK_NS {
        // A little less than nothing.
        Some(0)
    } else if on_cpu_ns <= wall_ns.wrapping_add(SLACK_NS) {
        Some(wall_ns)
    } else {
        None
    }
}

/// A word of the kernel's.
#[inline(always)]
fn read(base: u64, offset: u32) -> Option<u64> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const u64) }.ok()
}
