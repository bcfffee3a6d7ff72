//! Measures what watching costs, in the thread that holds the probes: reads counters and clocks for
//! `core::overhead`, which decides, and tells what became of it.
//!
//! A sample is five seconds. In a twentieth of each the kernel measures its programs, where it lets
//! us; only what a trap costs is measured once, at the start, on a function of our own.

use std::{
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use agent_common::stats;

use crate::{
    core::overhead::{
        Change, CostModel, Family, Governor, Hits, Optional, Overhead, PROBES, Sample, Traps,
        Window,
    },
    explain::explain,
    host::cpu::{ProcessClocks, cgroup_ns},
    probe::{Group, HitCounters, KernelHalf, KernelStats, LibraryProbes, LoadError, measure_runs},
};

/// Length of a sample.
const SAMPLE: Duration = Duration::from_secs(5);

/// In between, the kernel measures for this long …
const WINDOW: Duration = Duration::from_millis(50);

/// … and leaves it for this long. Load comes in bursts, so that many short windows tell more of it
/// than a long one.
const GAP: Duration = Duration::from_millis(950);

/// What is read to know it.
pub struct Inputs {
    pub hits: HitCounters,
    pub stats: Arc<KernelStats>,
    /// The cgroup whose packets are watched, where any are.
    pub cgroup: Option<OwnedFd>,
    /// Most that watching may cost, as a part of the servers' CPU time; `None` is no limit.
    pub limit: Option<f64>,
}

/// The governor at its work.
pub struct Meter {
    inputs: Inputs,
    governor: Governor,
    servers: ProcessClocks,
    /// When this sample began, and what the counters were then.
    since: Instant,
    /// When there is something to do.
    next: Instant,
    before: Reading,
    /// While the kernel measures.
    window: Option<OpenWindow>,
    /// The kernel lets us measure.
    may_measure: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Reading {
    hits: Hits,
    handshakes: u64,
    everybody_ns: u64,
}

struct OpenWindow {
    _measuring: OwnedFd,
    hits: Hits,
    run_ns: [u64; Family::ALL.len()],
}

impl Meter {
    /// `uprobes` says whether any will be attached, so that it matters what a trap costs.
    pub fn new(inputs: Inputs, half: &mut KernelHalf, uprobes: bool) -> Self {
        let traps = if uprobes {
            match half.measure_traps() {
                Ok(traps) => Traps {
                    entry_ns: traps.entry_ns,
                    call_ns: traps.call_ns,
                },
                Err(error) => {
                    let traps = Traps::default();
                    log::info!(
                        "what a probe in a library costs is assumed, {:.1} µs: {}",
                        traps.entry_ns / 1e3,
                        explain(&error)
                    );
                    traps
                }
            }
        } else {
            Traps::default()
        };
        log::debug!(
            "a trap costs {:.0} ns, one at entry and return of a function {:.0} ns",
            traps.entry_ns,
            traps.call_ns
        );
        let mut meter = Self {
            governor: Governor::new(CostModel::new(traps), inputs.limit),
            servers: ProcessClocks::new("/proc"),
            since: Instant::now(),
            next: Instant::now() + GAP,
            before: Reading::default(),
            window: None,
            may_measure: true,
            inputs,
        };
        meter.before = meter.read().unwrap_or_default();
        meter
    }

    /// This process makes handshakes.
    pub fn note(&mut self, pid: u32) {
        self.servers.note(pid, Instant::now());
    }

    /// When `step` has something to do.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// Does what is due; what is known after the end of a sample, and whether libraries lack probes
    /// that were restored.
    pub fn step(
        &mut self,
        half: &mut KernelHalf,
        probes: Option<&mut LibraryProbes>,
    ) -> Option<(Overhead, bool)> {
        let now = Instant::now();
        if now < self.due() {
            return None;
        }
        let known = self.advance(now, half, probes);
        if let Err(error) = &known {
            log::warn!("what watching costs cannot be read: {}", explain(error));
            self.next = now + GAP;
        }
        known.ok().flatten()
    }

    fn advance(
        &mut self,
        now: Instant,
        half: &mut KernelHalf,
        probes: Option<&mut LibraryProbes>,
    ) -> Result<Option<(Overhead, bool)>, LoadError> {
        if self.window.is_none() && self.may_measure {
            self.open_window(half)?;
            if self.window.is_some() {
                self.next = now + WINDOW;
                return Ok(None);
            }
        }
        self.next = now + GAP;
        let reading = self.read()?;
        if let Some(window) = self.window.take() {
            let mut run_ns = run_times(half);
            for (end, begin) in run_ns.iter_mut().zip(window.run_ns) {
                *end = end.saturating_sub(begin);
            }
            self.governor.learn(&Window {
                hits: difference(&reading.hits, &window.hits),
                run_ns,
            });
        }
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed + GAP / 2 < SAMPLE {
            return Ok(None);
        }
        let verdict = self.governor.judge(Sample {
            elapsed_ns: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
            hits: difference(&reading.hits, &self.before.hits),
            handshakes: reading.handshakes.saturating_sub(self.before.handshakes),
            servers_ns: self.servers.advance(now),
            everybody_ns: reading
                .everybody_ns
                .saturating_sub(self.before.everybody_ns),
        });
        (self.since, self.before) = (now, reading);
        let restores = |change: &Change| matches!(change, Change::Restore(_));
        let restored = verdict.changes.iter().any(restores);
        if let Some(probes) = probes {
            for change in verdict.changes {
                self.apply(change, verdict.ratio, half, probes);
            }
        }
        let overhead = Overhead {
            ratio: verdict.ratio,
            hits: PROBES.map(|probe| reading.hits[probe.slot as usize]),
            cost_seconds: self.governor.totals_ns().map(|cost_ns| cost_ns / 1e9),
            shed: Optional::ALL.map(|group| self.governor.is_shed(group)),
        };
        Ok(Some((overhead, restored)))
    }

    fn open_window(&mut self, half: &KernelHalf) -> Result<(), LoadError> {
        match measure_runs() {
            Ok(measuring) => {
                self.window = Some(OpenWindow {
                    _measuring: measuring,
                    hits: self.inputs.hits.read()?,
                    run_ns: run_times(half),
                });
            }
            Err(error) => {
                self.may_measure = false;
                log::info!(
                    "what a program in the kernel costs is assumed, not measured (that needs \
                     CAP_SYS_ADMIN): {}",
                    explain(&error)
                );
            }
        }
        Ok(())
    }

    fn read(&self) -> Result<Reading, LoadError> {
        let everybody_ns = self.inputs.cgroup.as_ref().and_then(cgroup_ns);
        Ok(Reading {
            hits: self.inputs.hits.read()?,
            handshakes: self.inputs.stats.read()?[stats::HELLOS as usize],
            everybody_ns: everybody_ns.unwrap_or(0),
        })
    }

    fn apply(
        &self,
        change: Change,
        ratio: Option<f64>,
        half: &mut KernelHalf,
        probes: &mut LibraryProbes,
    ) {
        let (percent, limit) = (
            ratio.unwrap_or(0.0) * 100.0,
            self.inputs.limit.unwrap_or(1.0) * 100.0,
        );
        match change {
            Change::Shed(group) => {
                probes.shed(half, probe_group(group));
                log::warn!(
                    "the probes `{}` are left out: watching costs the servers an estimated \
                 {percent:.1} % of their CPU time, more than --max-overhead {limit}",
                    group.as_str()
                );
            }
            Change::Restore(group) => {
                probes.restore(probe_group(group));
                log::info!(
                    "the probes `{}` are back: watching costs the servers an estimated {percent:.1} % \
                 of their CPU time, and --max-overhead is {limit}",
                    group.as_str()
                );
            }
        }
    }
}

fn probe_group(group: Optional) -> Group {
    match group {
        Optional::HandshakeCalls => Group::Calls,
        Optional::Tickets => Group::Tickets,
    }
}

fn run_times(half: &KernelHalf) -> [u64; Family::ALL.len()] {
    Family::ALL.map(|family| half.run_time_ns(family.programs()))
}

fn difference(end: &Hits, begin: &Hits) -> Hits {
    let mut difference = *end;
    for (end, begin) in difference.iter_mut().zip(begin) {
        *end = end.saturating_sub(*begin);
    }
    difference
}
