//! CPU time of processes and cgroups, as the kernel accounts it.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::fs::{Mode, OFlags, openat};

/// The fields of `/proc/PID/stat` that are used, proc(5), in ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ticks {
    /// User and system time of all threads, ended ones included.
    pub cpu: u64,
    /// Start, after boot.
    pub start: u64,
}

impl Ticks {
    /// From the text of `/proc/PID/stat`. The command name, field 2, is in parentheses and may hold
    /// anything: count from the last one.
    pub fn parse(stat: &str) -> Option<Self> {
        let (_, after_name) = stat.rsplit_once(')')?;
        // Field 3 is the first here.
        let field = |number: usize| {
            after_name
                .split_ascii_whitespace()
                .nth(number - 3)?
                .parse::<u64>()
                .ok()
        };
        Some(Self {
            cpu: field(14)? + field(15)?,
            start: field(22)?,
        })
    }
}

/// How many of them are a second; `None` where the kernel does not tell.
pub fn ticks_per_second() -> Option<u64> {
    parse_ticks_per_second(&fs::read("/proc/self/auxv").ok()?)
}

/// AT_CLKTCK (17) of the auxiliary vector, getauxval(3): pairs of native words.
fn parse_ticks_per_second(auxv: &[u8]) -> Option<u64> {
    const AT_CLKTCK: usize = 17;
    let words: Vec<usize> = auxv
        .chunks_exact(size_of::<usize>())
        .filter_map(|word| word.try_into().ok())
        .map(usize::from_ne_bytes)
        .collect();
    let ticks = words.chunks_exact(2).find(|pair| pair[0] == AT_CLKTCK)?[1];
    (ticks > 0).then_some(ticks as u64)
}

/// Processes of which the time is kept; more are not added up.
const MAX_PROCESSES: usize = 4096;

/// A process that nobody spoke of for this long is left out.
const FORGET: Duration = Duration::from_secs(60);

/// The CPU time of a changing set of processes.
#[derive(Debug)]
pub struct ProcessClocks {
    proc_root: PathBuf,
    tick_ns: u64,
    processes: HashMap<u32, Clock>,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    ticks: Ticks,
    noted: Instant,
}

impl ProcessClocks {
    pub fn new(proc_root: impl Into<PathBuf>) -> Self {
        Self {
            proc_root: proc_root.into(),
            // 100 on every architecture of today (asm-generic/param.h).
            tick_ns: 1_000_000_000 / ticks_per_second().unwrap_or(100),
            processes: HashMap::new(),
        }
    }

    /// From now on this process counts, for a while.
    pub fn note(&mut self, pid: u32, now: Instant) {
        if let Some(clock) = self.processes.get_mut(&pid) {
            clock.noted = now;
        } else if self.processes.len() < MAX_PROCESSES
            && let Some(ticks) = self.read(pid)
        {
            self.processes.insert(pid, Clock { ticks, noted: now });
        }
    }

    /// Time that they used since the last call, or since they were noted; nanoseconds. What a
    /// process used between the last call and its end is not known, and left out.
    pub fn advance(&mut self, now: Instant) -> u64 {
        let mut sum = 0;
        let mut processes = std::mem::take(&mut self.processes);
        processes.retain(|pid, clock| {
            let Some(ticks) = self.read(*pid) else {
                return false;
            };
            // Else another process has the number now.
            if ticks.start == clock.ticks.start {
                sum += ticks.cpu.saturating_sub(clock.ticks.cpu);
            }
            clock.ticks = ticks;
            now.saturating_duration_since(clock.noted) < FORGET
        });
        self.processes = processes;
        sum * self.tick_ns
    }

    fn read(&self, pid: u32) -> Option<Ticks> {
        let path = self.proc_root.join(format!("{pid}/stat"));
        Ticks::parse(&fs::read_to_string(path).ok()?)
    }
}

/// CPU time of everything in a cgroup2 directory, nanoseconds: `cpu.stat`, cgroup-v2.rst. `None`
/// where the kernel keeps none.
pub fn cgroup_ns(directory: &OwnedFd) -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(directory.as_fd(), "cpu.stat", flags, Mode::empty()).ok()?;
    let mut text = String::new();
    File::from(file).read_to_string(&mut text).ok()?;
    let usage = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(usage.trim().parse::<u64>().ok()? * 1_000)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use super::*;

    #[test]
    fn command_name_with_parentheses_and_spaces_shifts_no_field() {
        let stat = "7 (a) R (b)) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 9 0 4242 1 2";
        assert_eq!(
            Ticks::parse(stat),
            Some(Ticks {
                cpu: 175,
                start: 4242
            })
        );
        assert_eq!(Ticks::parse("7 (cut"), None);
    }

    /// A made-up `/proc` with one process.
    struct Proc(PathBuf);

    impl Proc {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("cpu-{name}-{}", std::process::id()));
            fs::create_dir_all(root.join("7")).unwrap();
            Self(root)
        }

        fn set(&self, cpu: u64, start: u64) {
            let stat = format!("7 (x) S 1 2 3 4 5 6 7 8 9 10 {cpu} 0 0 0 20 0 9 0 {start} 1 2");
            fs::write(self.0.join("7/stat"), stat).unwrap();
        }
    }

    impl Drop for Proc {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn counts_from_when_a_process_was_noted() {
        let root = Proc::new("noted");
        root.set(1_000, 5);
        let mut clocks = ProcessClocks::new(&root.0);
        let now = Instant::now();
        clocks.note(7, now);
        clocks.note(8, now);
        root.set(1_010, 5);
        assert_eq!(clocks.advance(now), 10 * clocks.tick_ns);
        assert_eq!(clocks.advance(now), 0);
    }

    #[test]
    fn another_process_of_the_same_number_starts_anew() {
        let root = Proc::new("reused");
        root.set(1_000, 5);
        let mut clocks = ProcessClocks::new(&root.0);
        let now = Instant::now();
        clocks.note(7, now);
        root.set(2_000, 6);
        assert_eq!(clocks.advance(now), 0);
        root.set(2_001, 6);
        assert_eq!(clocks.advance(now), clocks.tick_ns);
    }

    #[test]
    fn forgets_who_ended_and_who_was_not_spoken_of() {
        let root = Proc::new("forget");
        root.set(1_000, 5);
        let mut clocks = ProcessClocks::new(&root.0);
        let now = Instant::now();
        clocks.note(7, now);
        root.set(1_001, 5);
        assert_eq!(clocks.advance(now + FORGET), clocks.tick_ns);
        assert!(clocks.processes.is_empty());
        clocks.note(7, now);
        fs::remove_file(root.0.join("7/stat")).unwrap();
        assert_eq!(clocks.advance(now), 0);
        assert!(clocks.processes.is_empty());
    }
}
