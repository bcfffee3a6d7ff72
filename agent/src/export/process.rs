//! `process_*`: what the agent itself costs, from `/proc/self` (proc(5)); and what this host takes the
//! time for.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, fs};

use super::metrics::NO_EXEMPLAR;
use crate::host::cpu::{Ticks, ticks_per_second};

/// Figures of this process; `None` where the kernel does not tell.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    cpu_seconds: Option<f64>,
    /// Unix time.
    start_seconds: Option<f64>,
    /// Unix time.
    now_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_files: Option<u64>,
    max_files: Option<u64>,
}

impl Process {
    pub(super) fn read() -> Self {
        let read = |path| fs::read_to_string(path).ok();
        let ticks = read("/proc/self/stat").as_deref().and_then(Ticks::parse);
        let ticks_per_second = ticks_per_second();
        let boot_seconds = read("/proc/stat").as_deref().and_then(parse_boot_time);
        let status = read("/proc/self/status").unwrap_or_default();
        let seconds =
            |ticks: u64| ticks_per_second.map(|per_second| ticks as f64 / per_second as f64);
        Process {
            cpu_seconds: ticks.as_ref().and_then(|ticks| seconds(ticks.cpu)),
            start_seconds: ticks
                .as_ref()
                .and_then(|ticks| Some(boot_seconds? as f64 + seconds(ticks.start)?)),
            now_seconds: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .ok()
                .map(|time| time.as_secs_f64()),
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
            "resumetry_clock_timestamp_seconds",
            "This host's clock at the time of the scrape: apart from timestamp(), it is off.",
            process.now_seconds,
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
