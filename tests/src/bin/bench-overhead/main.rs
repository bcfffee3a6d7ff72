//! What the agent costs nginx: CPU time of the worker per connection, without and with it; and what
//! a bpftrace script on `SSL_do_handshake`, or a pair of programs that do nothing at the hook of the
//! wire tap, costs in its place.
//!
//! Two servers run on one CPU, alike to the copy of libssl that each has for itself. One of them is
//! watched, and the load goes to them in turns, connection by connection (requests and megabytes: a
//! second each): what disturbs the machine for longer disturbs both. Which one is watched changes from round to round, and a figure
//! is the geometric mean of two rounds, so that what sets the servers apart cancels out. One column
//! compares them while nothing watches either: what it is away from zero is noise.
//!
//! Time in softirq is charged to whoever runs at the moment: the worker's time holds the clients'
//! receive path, and theirs that of the server, with the ingress program. So what a connection to
//! the watched server costs its client more is counted as the server's. The agent watches nginx' cgroup and leaves the
//! clients alone, as on a server whose clients are on other machines.

mod load;
mod variants;

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Parser;
use resumetry_tests::agent::Agent;
use resumetry_tests::stats::quantile;
use resumetry_tests::{cpu, metrics, ports};
use rustix::process::Signal;

use load::{Scenario, Site, Slice};
use variants::{Bpftrace, EmptyPair};

/// Compares the CPU time of an nginx worker without and with the agent.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  bench-overhead --rounds 12 --only resumed")]
struct Arguments {
    /// Pairs of rounds; each round holds every variant of every scenario.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// How long a variant is measured, both servers together, milliseconds.
    #[arg(long, default_value_t = 8_000)]
    length: u64,
    /// One pair of rounds of two seconds a variant: shows that it runs, measures little.
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
        (arguments.rounds, arguments.length) = (1, 2_000);
    }
    if std::thread::available_parallelism()?.get() <= load::CLIENT_CPU {
        bail!("the server and its clients need a CPU each: this machine has one");
    }
    let sites = [Site::start(0)?, Site::start(1)?];
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
            samples.add(measure_twice(&sites, samples.scenario, &arguments)?);
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
    let misjudged: Vec<_> = results
        .iter()
        .filter(|samples| samples.is_misjudged())
        .map(|samples| samples.scenario.name())
        .collect();
    if !misjudged.is_empty() {
        println!(
            "\nThe agent's own estimate is off by more than a third, and by more than the noise: {}.",
            misjudged.join(", ")
        );
    }
    if arguments.check && !misjudged.is_empty() {
        bail!("the agent misjudges what it costs");
    }
    if arguments.check && !above.is_empty() {
        bail!(
            "{} of {} scenarios cost more than allowed",
            above.len(),
            results.len()
        );
    }
    Ok(())
}

/// One round of one scenario.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// CPU time of the unwatched server for a unit, beside the agent, and of the watched one;
    /// seconds.
    without: f64,
    agent: f64,
    /// Watched over unwatched, by variant; 1 is no difference.
    agent_ratio: f64,
    nothing_ratio: f64,
    bpftrace_ratio: Option<f64>,
    /// Where the limit is counted from what the hook itself costs.
    pair_ratio: Option<f64>,
    /// The agent's own CPU time over the time that it was measured.
    agent_share: f64,
    /// What the agent says that it adds; `None` where it saw no TLS server.
    estimate: Option<f64>,
}

impl Round {
    /// Of two rounds in which the servers changed places.
    fn mean(one: &Self, other: &Self) -> Self {
        let mean = |a: f64, b: f64| (a * b).sqrt();
        let both = |a: Option<f64>, b: Option<f64>| Some(mean(a?, b?));
        Self {
            without: mean(one.without, other.without),
            agent: mean(one.agent, other.agent),
            agent_ratio: mean(one.agent_ratio, other.agent_ratio),
            nothing_ratio: mean(one.nothing_ratio, other.nothing_ratio),
            bpftrace_ratio: both(one.bpftrace_ratio, other.bpftrace_ratio),
            pair_ratio: both(one.pair_ratio, other.pair_ratio),
            agent_share: mean(one.agent_share, other.agent_share),
            estimate: both(one.estimate, other.estimate),
        }
    }
}

fn measure_twice(sites: &[Site; 2], scenario: Scenario, arguments: &Arguments) -> Result<Round> {
    let [a, b] = sites;
    Ok(Round::mean(
        &measure(a, b, scenario, arguments)?,
        &measure(b, a, scenario, arguments)?,
    ))
}

/// The load on both servers in turns: what each of them did.
fn in_turns(sites: [&Site; 2], scenario: Scenario, arguments: &Arguments) -> Result<[Slice; 2]> {
    std::thread::sleep(SETTLE);
    let length = Duration::from_millis(arguments.length);
    // Caches are cold after a pause.
    load::in_turns(sites, scenario, length / 8)?;
    load::in_turns(sites, scenario, length)
}

fn measure(
    watched: &Site,
    other: &Site,
    scenario: Scenario,
    arguments: &Arguments,
) -> Result<Round> {
    let turns = || in_turns([watched, other], scenario, arguments);
    let ratio = |[with, without]: [Slice; 2]| with.over(without);
    let nothing_ratio = ratio(turns()?);

    let listen = format!("127.0.0.1:{}", ports::free()?);
    let cgroup = watched.cgroup().to_string_lossy();
    let library = watched.library().to_string_lossy();
    let mut parameters = vec!["run", "--listen", &listen];
    parameters.extend(["--cgroup", &cgroup, "--library", &library]);
    // Everything is to be measured.
    parameters.extend(["--max-overhead", "none"]);
    if scenario.watches_calls() {
        parameters.extend(["--handshake-calls", "100"]);
    }
    parameters.extend(arguments.agent_arguments.iter().map(String::as_str));
    let mut agent = Agent::start(parameters)?;
    let own = cpu::time(agent.pid())?;
    let begin = std::time::Instant::now();
    let [with, without] = turns()?;
    let agent_share = (cpu::time(agent.pid())? - own).as_secs_f64() / begin.elapsed().as_secs_f64();
    let estimate = estimate(&listen)?;
    agent.finish(Signal::TERM)?;

    let pair_ratio = if scenario.is_above_hook() {
        let _pair = EmptyPair::start(watched.cgroup())?;
        Some(ratio(turns()?))
    } else {
        None
    };
    let bpftrace_ratio = if arguments.no_bpftrace {
        None
    } else {
        let script = Bpftrace::start(&watched.library().to_string_lossy())?;
        let with_script = turns()?;
        let counted = script.finish(watched.worker())?;
        if scenario.has_handshakes() && !counted {
            bail!("bpftrace counted no handshake of nginx: its figure means nothing");
        }
        Some(ratio(with_script))
    };
    Ok(Round {
        without: without.each(),
        agent: with.each(),
        agent_ratio: with.over(without),
        nothing_ratio,
        bpftrace_ratio,
        pair_ratio,
        agent_share,
        estimate,
    })
}

/// `resumetry_probe_overhead_ratio`: over the last ten seconds.
fn estimate(listen: &str) -> Result<Option<f64>> {
    Ok(metrics::scrape(listen.parse()?)?
        .into_iter()
        .find(|sample| sample.name == "resumetry_probe_overhead_ratio")
        .map(|sample| sample.value))
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

    /// Added CPU time by round, percent.
    fn added(&self, ratio: impl Fn(&Round) -> Option<f64>) -> Vec<f64> {
        let percent = |ratio: f64| (ratio - 1.0) * 100.0;
        self.rounds.iter().filter_map(ratio).map(percent).collect()
    }

    /// What the limit is about, percent by round: what the agent adds, or where the hook itself is
    /// not ours to avoid, what it adds above programs that do nothing.
    fn judged(&self) -> Vec<f64> {
        self.added(|round| Some(round.agent_ratio / round.pair_ratio.unwrap_or(1.0)))
    }

    /// What the agent says that it adds, percent by round.
    fn estimates(&self) -> Vec<f64> {
        let estimates = self.rounds.iter().filter_map(|round| round.estimate);
        estimates.map(|ratio| ratio * 100.0).collect()
    }

    /// Whether the estimate misses what was measured by more than a third of it, and by more than two
    /// servers differ that nothing watches.
    fn is_misjudged(&self) -> bool {
        let estimates = self.estimates();
        if estimates.is_empty() {
            return false;
        }
        let measured = quantile(&self.added(|round| Some(round.agent_ratio)), 0.5);
        let nothing = self.added(|round| Some(round.nothing_ratio));
        let noise = [0.25, 0.5, 0.75].map(|share| quantile(&nothing, share).abs());
        let allowed = noise.into_iter().fold(measured / 3.0, f64::max);
        (quantile(&estimates, 0.5) - measured).abs() > allowed
    }

    fn is_above_limit(&self) -> bool {
        self.scenario
            .limit()
            .is_some_and(|limit| quantile(&self.judged(), 0.5) > limit)
    }
}

fn report(arguments: &Arguments, results: &[Samples]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "CPU time of an nginx worker beside an unwatched one like it, {} pairs of rounds, {} ms \
         a variant",
        arguments.rounds, arguments.length
    )?;
    writeln!(
        out,
        "(added: median over the pairs of rounds, in brackets the middle half of them; the limit of \
         plain HTTP is for what is added above a pair of programs that do nothing)\n"
    )?;
    writeln!(
        out,
        "| load | unit | without | with agent | agent adds | its own estimate | above an empty pair | limit | nothing adds | agent's own CPU | bpftrace adds |"
    )?;
    writeln!(
        out,
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    )?;
    for samples in results {
        let Samples { scenario, rounds } = samples;
        let median =
            |each: fn(&Round) -> f64| quantile(&rounds.iter().map(each).collect::<Vec<_>>(), 0.5);
        writeln!(
            out,
            "| {} | {} | {:.2} µs | {:.2} µs | {} | {} | {} | {} | {} | {:.1} % of a core | {} |",
            scenario.name(),
            scenario.unit(),
            median(|round| round.without) * 1e6,
            median(|round| round.agent) * 1e6,
            spread(&samples.added(|round| Some(round.agent_ratio))),
            spread(&samples.estimates()),
            if scenario.is_above_hook() {
                spread(&samples.judged())
            } else {
                "-".to_owned()
            },
            scenario
                .limit()
                .map_or_else(|| "-".to_owned(), |limit| format!("{limit:.0} %")),
            spread(&samples.added(|round| Some(round.nothing_ratio))),
            median(|round| round.agent_share) * 100.0,
            spread(&samples.added(|round| round.bpftrace_ratio)),
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
