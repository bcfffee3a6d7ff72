//! CPU time of processes as the scheduler accounts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads of a process so far (`sum_exec_runtime`, nanosecond resolution;
/// `/proc/PID/task/*/schedstat`, first field).
pub fn time(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text
            .split(' ')
            .next()
            .context("empty schedstat")?
            .parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// CPU time of the calling thread so far, nanoseconds.
pub fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// CPU time of children that have ended and were waited for.
pub fn of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(
        time.num_microseconds().unsigned_abs(),
    ))
}

/// CPU time that everybody but these processes took so far, on all CPUs: `/proc/stat` less
/// `/proc/PID/stat`, threads that have ended included. In steps of 10 ms (`USER_HZ`).
pub fn others(but: &[u32]) -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat")?;
    let all = text.lines().next().context("empty /proc/stat")?;
    // After the name: user, nice, system, idle, iowait, irq, softirq.
    let mut ticks = sum(all, 1, &[0, 1, 2, 5, 6])?;
    for pid in but {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name may hold spaces; utime and stime are fields 14 and 15, the state is 3.
        let (_, rest) = text.rsplit_once(')').context("odd /proc/PID/stat")?;
        ticks = ticks.saturating_sub(sum(rest, 0, &[11, 12])?);
    }
    Ok(Duration::from_millis(10 * ticks))
}

/// The sum of some fields, counted behind the first `skip`.
fn sum(text: &str, skip: usize, fields: &[usize]) -> Result<u64> {
    let values: Vec<_> = text.split_whitespace().skip(skip).collect();
    fields
        .iter()
        .map(|&field| -> Result<u64> {
            Ok(values.get(field).context("a field is missing")?.parse()?)
        })
        .sum()
}

/// Keeps the calling thread, and what it starts, on one CPU.
pub fn pin_this_thread(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on CPU {cpu}"))
}

/// Keeps a process on one CPU.
pub fn pin(pid: u32, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    sched_setaffinity(pid, &set).with_context(|| format!("cannot move a process to CPU {cpu}"))
}
