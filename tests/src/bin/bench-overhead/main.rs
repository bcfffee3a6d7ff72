//! What the agent costs nginx: CPU time of the worker per connection, without and with it, in turns
//! within one run; and what a bpftrace script on `SSL_do_handshake` costs in its place.
//!
//! Time in softirq is charged to whoever runs at the moment, so the worker's time holds part of the
//! clients' receive path: the same in every variant, plus what the agent's programs add to it.

mod cpu;
mod load;

use std::fs::{self, File};
use std::io::{IsTerminal as _, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use resumetry_tests::agent::Agent;
use resumetry_tests::process::Owned;
use resumetry_tests::{ports, wait};
use rustix::process::Signal;

use load::{Bench, Scenario};

/// Compares the CPU time of an nginx worker without and with the agent.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  bench-overhead --rounds 12 --only resumed")]
struct Arguments {
    /// Rounds; each holds every variant of every scenario.
    #[arg(long, default_value_t = 8)]
    rounds: usize,
    /// Length of a slice, seconds.
    #[arg(long, default_value_t = 3)]
    slice: u64,
    /// Two rounds of one-second slices: shows that it runs, measures little.
    #[arg(long)]
    short: bool,
    /// Only this scenario (repeatable).
    #[arg(long)]
    only: Vec<Scenario>,
    /// Leave out bpftrace.
    #[arg(long)]
    no_bpftrace: bool,
    /// Fail when the agent costs more than its limits.
    #[arg(long)]
    check: bool,
    /// Further arguments of `resumetry run`, e.g. `--agent=--taps=wire`.
    #[arg(long = "agent", allow_hyphen_values = true)]
    agent_arguments: Vec<String>,
}

/// Time for a worker to get used to a change, and for the kernel to finish what it put off.
const SETTLE: Duration = Duration::from_millis(300);

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.short {
        (arguments.rounds, arguments.slice) = (2, 1);
    }
    if std::thread::available_parallelism()?.get() <= load::CLIENT_CPU {
        bail!("the server and its clients need a CPU each: this machine has one");
    }
    let bench = Bench::start()?;
    let scenarios = if arguments.only.is_empty() {
        Scenario::ALL.to_vec()
    } else {
        arguments.only.clone()
    };
    let mut results: Vec<_> = scenarios.into_iter().map(Samples::new).collect();
    let terminal = std::io::stderr().is_terminal();
    for round in 0..arguments.rounds {
        for samples in &mut results {
            if terminal {
                eprint!(
                    "\r\x1b[Kround {} of {}: {}",
                    round + 1,
                    arguments.rounds,
                    samples.scenario.name()
                );
                std::io::stderr().flush()?;
            }
            samples.add(measure(&bench, samples.scenario, &arguments)?);
        }
    }
    if terminal {
        eprint!("\r\x1b[K");
    }
    report(&arguments, &results)?;
    let above: Vec<_> = results
        .iter()
        .filter(|samples| samples.is_above_limit())
        .collect();
    if arguments.check && !above.is_empty() {
        bail!(
            "{} of {} scenarios cost more than allowed",
            above.len(),
            results.len()
        );
    }
    Ok(())
}

/// One round of one scenario: worker CPU time for a unit.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Mean of the slices before and after the agent's.
    without: Duration,
    agent: Duration,
    /// The agent's own CPU time in its slice over its length.
    agent_share: f64,
    bpftrace: Option<Duration>,
}

fn measure(bench: &Bench, scenario: Scenario, arguments: &Arguments) -> Result<Round> {
    let length = Duration::from_secs(arguments.slice);
    let slice = || -> Result<Duration> {
        std::thread::sleep(SETTLE);
        bench.slice(scenario, length)
    };
    let before = slice()?;

    let listen = format!("127.0.0.1:{}", ports::free()?);
    let mut parameters = vec!["run", "--listen", &listen];
    parameters.extend(arguments.agent_arguments.iter().map(String::as_str));
    let mut agent = Agent::start(parameters)?;
    std::thread::sleep(SETTLE);
    let own = cpu::time(agent.pid())?;
    let begin = std::time::Instant::now();
    let with_agent = bench.slice(scenario, length)?;
    let agent_share = (cpu::time(agent.pid())? - own).as_secs_f64() / begin.elapsed().as_secs_f64();
    agent.finish(Signal::TERM)?;

    let after = slice()?;
    let bpftrace = if arguments.no_bpftrace {
        None
    } else {
        let script = Bpftrace::start(&bench.library()?)?;
        let with_script = slice()?;
        let counted = script.finish(bench.worker())?;
        if scenario.has_handshakes() && !counted {
            bail!("bpftrace counted no handshake of nginx: its figure means nothing");
        }
        Some(with_script)
    };
    Ok(Round {
        without: (before + after) / 2,
        agent: with_agent,
        agent_share,
        bpftrace,
    })
}

/// The tool that people reach for: counts entries and returns of `SSL_do_handshake` by process.
struct Bpftrace {
    process: Owned,
    output: tempfile::NamedTempFile,
}

impl Bpftrace {
    fn start(library: &str) -> Result<Self> {
        let script = format!(
            "BEGIN {{ printf(\"attached\\n\"); }} \
             uprobe:{library}:SSL_do_handshake {{ @entries[pid] = count(); }} \
             uretprobe:{library}:SSL_do_handshake {{ @returns[pid] = count(); }}"
        );
        let output = tempfile::NamedTempFile::new()?;
        let child = Command::new("bpftrace")
            .args(["-e", &script])
            .stdin(Stdio::null())
            .stdout(File::create(output.path())?)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run bpftrace; is it installed? (--no-bpftrace leaves it out)")?;
        let mut process = Owned::new(child);
        let path = output.path().to_owned();
        let mut text = String::new();
        let attached = wait::until(Duration::from_secs(30), || {
            text = fs::read_to_string(&path).unwrap_or_default();
            text.contains("Attaching") || !process.is_running()
        });
        if !attached || !process.is_running() {
            bail!("bpftrace did not attach: {text}");
        }
        // It says so before it does so; and its own line comes late when it is buffered.
        std::thread::sleep(Duration::from_secs(1));
        Ok(Self { process, output })
    }

    /// Ends the script; true when it saw `pid`.
    fn finish(mut self, pid: u32) -> Result<bool> {
        // On SIGINT it prints its maps.
        self.process.signal(Signal::INT)?;
        self.process
            .wait(Duration::from_secs(20))
            .context("bpftrace did not end")?;
        let text = fs::read_to_string(self.output.path())?;
        Ok([format!("@entries[{pid}]"), format!("@returns[{pid}]")]
            .iter()
            .all(|entry| text.contains(entry)))
    }
}

/// All rounds of one scenario.
struct Samples {
    scenario: Scenario,
    rounds: Vec<Round>,
}

impl Samples {
    fn new(scenario: Scenario) -> Self {
        Self {
            scenario,
            rounds: Vec::new(),
        }
    }

    fn add(&mut self, round: Round) {
        self.rounds.push(round);
    }

    /// Added CPU time by round, percent of the same round without.
    fn added(&self, variant: impl Fn(&Round) -> Option<Duration>) -> Vec<f64> {
        let ratio =
            |round: &Round| Some(variant(round)?.as_secs_f64() / round.without.as_secs_f64());
        self.rounds
            .iter()
            .filter_map(ratio)
            .map(|ratio| (ratio - 1.0) * 100.0)
            .collect()
    }

    fn is_above_limit(&self) -> bool {
        quantile(&self.added(|round| Some(round.agent)), 0.5) > self.scenario.limit()
    }
}

fn report(arguments: &Arguments, results: &[Samples]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "CPU time of one nginx worker, {} rounds of {} s slices",
        arguments.rounds, arguments.slice
    )?;
    writeln!(
        out,
        "(added: median of per-round ratios, in brackets the middle half of them)\n"
    )?;
    writeln!(
        out,
        "| load | unit | without | with agent | agent adds | limit | agent's own CPU | bpftrace adds |"
    )?;
    writeln!(out, "|---|---|---:|---:|---:|---:|---:|---:|")?;
    for samples in results {
        let Samples { scenario, rounds } = samples;
        let microseconds = |each: fn(&Round) -> Duration| {
            quantile(
                &rounds
                    .iter()
                    .map(|round| each(round).as_secs_f64() * 1e6)
                    .collect::<Vec<_>>(),
                0.5,
            )
        };
        let own: Vec<_> = rounds
            .iter()
            .map(|round| round.agent_share * 100.0)
            .collect();
        writeln!(
            out,
            "| {} | {} | {:.2} µs | {:.2} µs | {} | {:.0} % | {:.1} % of a core | {} |",
            scenario.name(),
            scenario.unit(),
            microseconds(|round| round.without),
            microseconds(|round| round.agent),
            spread(&samples.added(|round| Some(round.agent))),
            scenario.limit(),
            quantile(&own, 0.5),
            spread(&samples.added(|round| round.bpftrace)),
        )?;
    }
    Ok(())
}

fn spread(values: &[f64]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| quantile(values, share));
    format!("{middle:+.1} % ({low:+.1} … {high:+.1})")
}

/// Linear between the two nearest; NaN of nothing.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * sorted.len().saturating_sub(1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    match (sorted.get(low), sorted.get(high)) {
        (Some(a), Some(b)) => a + (b - a) * place.fract(),
        _ => f64::NAN,
    }
}
