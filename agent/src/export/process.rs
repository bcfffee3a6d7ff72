//! `process_*`: what the agent itself costs, from `/proc/self` (proc(5)).

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;
use std::{fmt, fs};

use super::metrics::NO_EXEMPLAR;

/// Figures of this process; `None` where the kernel does not tell.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    cpu_seconds: Option<f64>,
    /// Unix time.
    start_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_files: Option<u64>,
    max_files: Option<u64>,
}

/// The fields of `/proc/self/stat` that are used, in ticks.
#[derive(Debug, PartialEq)]
struct Ticks {
    /// User and system time of all threads.
    cpu: u64,
    /// Start, after boot.
    start: u64,
}

impl Process {
    pub(super) fn read() -> Self {
        let read = |path| fs::read_to_string(path).ok();
        let ticks = read("/proc/self/stat").as_deref().and_then(parse_stat);
        let ticks_per_second = fs::read("/proc/self/auxv")
            .ok()
            .as_deref()
            .and_then(ticks_per_second);
        let boot_seconds = read("/proc/stat").as_deref().and_then(parse_boot_time);
        let status = read("/proc/self/status").unwrap_or_default();
        let seconds =
            |ticks: u64| ticks_per_second.map(|per_second| ticks as f64 / per_second as f64);
        Process {
            cpu_seconds: ticks.as_ref().and_then(|ticks| seconds(ticks.cpu)),
            start_seconds: ticks
                .as_ref()
                .and_then(|ticks| Some(boot_seconds? as f64 + seconds(ticks.start)?)),
            resident_bytes: status_field(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024),
            virtual_bytes: status_field(&status, "VmSize:").map(|kibibytes| kibibytes * 1024),
            threads: status_field(&status, "Threads:"),
            // One of them is the directory being read.
            open_files: fs::read_dir("/proc/self/fd")
                .ok()
                .map(|files| (files.count() as u64).saturating_sub(1)),
            max_files: read("/proc/self/limits")
                .as_deref()
                .and_then(parse_max_files),
        }
    }
}

/// The command name, field 2, is in parentheses and may hold anything: count from the last one.
fn parse_stat(stat: &str) -> Option<Ticks> {
    let (_, after_name) = stat.rsplit_once(')')?;
    // Field 3 is the first here.
    let field = |number: usize| {
        after_name
            .split_ascii_whitespace()
            .nth(number - 3)?
            .parse::<u64>()
            .ok()
    };
    Some(Ticks {
        cpu: field(14)? + field(15)?,
        start: field(22)?,
    })
}

/// AT_CLKTCK (17) of the auxiliary vector, getauxval(3): pairs of native words.
fn ticks_per_second(auxv: &[u8]) -> Option<u64> {
    const AT_CLKTCK: usize = 17;
    let words: Vec<usize> = auxv
        .chunks_exact(size_of::<usize>())
        .filter_map(|word| word.try_into().ok())
        .map(usize::from_ne_bytes)
        .collect();
    let ticks = words.chunks_exact(2).find(|pair| pair[0] == AT_CLKTCK)?[1];
    (ticks > 0).then_some(ticks as u64)
}

fn parse_boot_time(stat: &str) -> Option<u64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

/// The soft limit; `None` where it is `unlimited`.
fn parse_max_files(limits: &str) -> Option<u64> {
    let value = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

#[derive(Debug)]
pub(super) struct ProcessCollector(pub(super) Process);

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let ProcessCollector(process) = self;
        if let Some(seconds) = process.cpu_seconds {
            encoder
                .encode_descriptor(
                    "process_cpu_seconds",
                    "User and system CPU time of the agent.",
                    None,
                    MetricType::Counter,
                )?
                .encode_counter(&seconds, NO_EXEMPLAR)?;
        }
        let encoder = &mut encoder;
        gauge(
            encoder,
            "process_start_time_seconds",
            "Start of the agent, Unix time.",
            process.start_seconds,
        )?;
        gauge(
            encoder,
            "process_resident_memory_bytes",
            "Resident memory.",
            process.resident_bytes,
        )?;
        gauge(
            encoder,
            "process_virtual_memory_bytes",
            "Virtual memory.",
            process.virtual_bytes,
        )?;
        gauge(
            encoder,
            "process_open_fds",
            "Open file descriptors.",
            process.open_files,
        )?;
        gauge(
            encoder,
            "process_max_fds",
            "Limit of open file descriptors.",
            process.max_files,
        )?;
        gauge(encoder, "process_threads", "Threads.", process.threads)
    }
}

fn gauge<V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: Option<V>,
) -> fmt::Result {
    match value {
        Some(value) => encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(&value),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test says no")]

    use super::*;

    #[test]
    fn command_name_with_parentheses_and_spaces_shifts_no_field() {
        let stat = "7 (a) R (b)) S 1 2 3 4 5 6 7 8 9 10 150 25 0 0 20 0 9 0 4242 1 2";
        assert_eq!(
            parse_stat(stat),
            Some(Ticks {
                cpu: 175,
                start: 4242
            })
        );
        assert_eq!(parse_stat("7 (cut"), None);
    }

    #[test]
    fn unlimited_files_are_not_a_number() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n";
        assert_eq!(parse_max_files(limits), Some(1024));
        assert_eq!(
            parse_max_files("Max open files  unlimited unlimited files"),
            None
        );
    }

    #[test]
    fn reads_this_process_plausibly() {
        let process = Process::read();
        assert!(process.resident_bytes.unwrap() > 100_000);
        assert!(process.virtual_bytes.unwrap() >= process.resident_bytes.unwrap());
        assert!(process.threads.unwrap() >= 1);
        assert!(process.open_files.unwrap() >= 3);
        assert!(process.cpu_seconds.unwrap() >= 0.0);
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let age = now.as_secs_f64() - process.start_seconds.unwrap();
        assert!((-2.0..3_600.0).contains(&age), "{age}");
    }
}
