//! What watching costs: CPU time of an nginx worker without the agent, with it, and with a bpftrace
//! script on the same function, interleaved in one run so that drift of the machine hits all three.
//!
//! The worker is pinned to one processor and the clients to another. CPU time is the first field of
//! `/proc/PID/schedstat`, nanoseconds on a processor. Probes run on the time of the process they
//! interrupt, so the worker's own time holds them; what the agent does elsewhere is not in here.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use resumetry_tests::agent::Agent;
use resumetry_tests::certs::{Identity, Key};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::process::Owned;
use resumetry_tests::{ports, wait};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

const SERVER_CPU: usize = 0;
const CLIENT_CPU: &str = "1";

/// Of the file that is downloaded, bytes.
const BULK_BYTES: u64 = 64 << 20;
const GIB: f64 = (1_u64 << 30) as f64;

/// With much fewer, quartiles say nothing; a multiple of three, so that each order counts equally.
const ROUNDS: usize = 9;

fn main() -> Result<()> {
    let options = Options::parse()?;
    let bench = Bench::new(&options)?;
    let mut samples = vec![Vec::new(); Scenario::ALL.len()];
    // Caches, page cache and tickets before anything counts.
    for scenario in Scenario::ALL {
        bench.measure(scenario)?;
    }
    for round in 0..options.rounds {
        // A variant must not always follow the same other one, nor always come first.
        let mut by_variant = [[0.0; Variant::ALL.len()]; Scenario::ALL.len()];
        for step in 0..Variant::ALL.len() {
            let index = (round + step) % Variant::ALL.len();
            let variant = Variant::ALL[index];
            eprintln!(
                "round {} of {}: {}",
                round + 1,
                options.rounds,
                variant.name()
            );
            let watcher = bench.start(variant)?;
            for (row, scenario) in by_variant.iter_mut().zip(Scenario::ALL) {
                row[index] = bench.measure(scenario)?;
            }
            watcher.stop()?;
        }
        for (samples, row) in samples.iter_mut().zip(by_variant) {
            samples.push(row);
        }
    }
    println!("{}", table(&samples, options.rounds));
    Ok(())
}

struct Options {
    rounds: usize,
    /// How long each load runs, seconds.
    seconds: u32,
    downloads: u32,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut options = Self {
            rounds: ROUNDS,
            seconds: 2,
            downloads: 8,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--rounds" => {
                    let value = arguments.next().context("--rounds needs a number")?;
                    options.rounds = value.parse().context("--rounds needs a number")?;
                    ensure!(options.rounds > 0, "--rounds needs at least 1");
                }
                "--short" => (options.seconds, options.downloads) = (1, 2),
                _ => bail!("unknown argument {argument}; usage: [--rounds N] [--short]"),
            }
        }
        Ok(options)
    }
}

/// Who watches.
#[derive(Clone, Copy)]
enum Variant {
    Nobody,
    Agent,
    Bpftrace,
}

impl Variant {
    /// The first is what the others are compared with.
    const ALL: [Self; 3] = [Self::Nobody, Self::Agent, Self::Bpftrace];

    const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "without",
            Self::Agent => "agent",
            Self::Bpftrace => "bpftrace",
        }
    }
}

#[derive(Clone, Copy)]
enum Scenario {
    Resumed,
    FullEcdsa,
    FullRsa,
    Bulk,
    PlainHttp,
}

impl Scenario {
    const ALL: [Self; 5] = [
        Self::Resumed,
        Self::FullEcdsa,
        Self::FullRsa,
        Self::Bulk,
        Self::PlainHttp,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Resumed => "resumed, TLS 1.3",
            Self::FullEcdsa => "full, ECDSA P-256",
            Self::FullRsa => "full, RSA-2048",
            Self::Bulk => "download over TLS",
            Self::PlainHttp => "plain HTTP, keep-alive",
        }
    }

    /// What one unit of work is, and nanoseconds a unit of its figures.
    const fn unit(self) -> (&'static str, f64) {
        match self {
            Self::Resumed | Self::FullEcdsa | Self::FullRsa => ("µs/connection", 1e3),
            Self::Bulk => ("ms/GiB", 1e6),
            Self::PlainHttp => ("µs/request", 1e3),
        }
    }
}

/// The server and what the loads need.
struct Bench {
    seconds: u32,
    downloads: u32,
    ecdsa: u16,
    rsa: u16,
    bulk: u16,
    plain: u16,
    worker: u32,
    libssl: PathBuf,
    /// Keep their processes and files while measuring.
    _nginx: Nginx,
    _directory: TempDir,
}

impl Bench {
    fn new(options: &Options) -> Result<Self> {
        ensure!(
            std::thread::available_parallelism()?.get() >= 2,
            "one processor for the server and one for the clients are needed"
        );
        let directory = tempfile::tempdir()?;
        fs::write(
            directory.path().join("bulk"),
            vec![b'x'; BULK_BYTES as usize],
        )?;
        let authority = Identity::authority("Bench Authority")?;
        let files = |name: &str, key| authority.issue(name, key)?.write(directory.path(), name);
        let ecdsa_name = [("ecdsa.example".into(), files("ecdsa.example", Key::Ecdsa)?)];
        let rsa_name = [("rsa.example".into(), files("rsa.example", Key::Rsa2048)?)];
        let port = ports::free;
        let (ecdsa, rsa, bulk, plain) = (port()?, port()?, port()?, port()?);
        let root = format!("root {};", directory.path().display());
        // The log is on disk, whose moods are no part of the question.
        let server = |port, listen, names| Server::new(port, listen, names).with("access_log off;");
        let servers = [
            server(ecdsa, "ssl", &ecdsa_name),
            server(rsa, "ssl", &rsa_name),
            server(bulk, "ssl", &ecdsa_name).location(root),
            server(plain, "", &ecdsa_name),
        ];
        let http = "sendfile on; keepalive_requests 100000000; server_tokens off;";
        let nginx = Nginx::start(1, http, &servers)?;
        let workers = nginx.workers()?;
        let [worker] = workers[..] else {
            bail!("nginx has {} workers instead of one", workers.len());
        };
        let mut cpus = CpuSet::new();
        cpus.set(SERVER_CPU);
        let pid = i32::try_from(worker).ok().and_then(Pid::from_raw);
        sched_setaffinity(pid, &cpus).context("cannot pin nginx to a processor")?;
        Ok(Self {
            seconds: options.seconds,
            downloads: options.downloads,
            ecdsa,
            rsa,
            bulk,
            plain,
            worker,
            libssl: mapped_library(worker)?,
            _nginx: nginx,
            _directory: directory,
        })
    }

    /// Starts watching; when it returns, every probe is in place.
    fn start(&self, variant: Variant) -> Result<Watcher> {
        Ok(match variant {
            Variant::Nobody => Watcher::Nobody,
            Variant::Agent => Watcher::Agent(Agent::start(["run", "--listen", "127.0.0.1:0"])?),
            Variant::Bpftrace => bpftrace(&self.libssl)?,
        })
    }

    /// CPU time of the worker for one unit of work, nanoseconds.
    fn measure(&self, scenario: Scenario) -> Result<f64> {
        let before = cpu_time_ns(self.worker)?;
        let units = match scenario {
            Scenario::Resumed => self.connect("-reuse", self.ecdsa)?,
            Scenario::FullEcdsa => self.connect("-new", self.ecdsa)?,
            Scenario::FullRsa => self.connect("-new", self.rsa)?,
            Scenario::Bulk => self.download()?,
            Scenario::PlainHttp => self.request()?,
        };
        ensure!(units > 0.0, "no work was done: {}", scenario.name());
        // The worker closes its last connection after the client has gone.
        std::thread::sleep(Duration::from_millis(50));
        Ok((cpu_time_ns(self.worker)? - before) as f64 / units)
    }

    /// Connections made one after the other.
    fn connect(&self, how: &str, port: u16) -> Result<f64> {
        let output = pinned("openssl", |command| {
            command
                .args(["s_time", how, "-tls1_3", "-www", "/"])
                .args(["-time", &self.seconds.to_string()])
                .args(["-connect", &format!("127.0.0.1:{port}")])
        })?;
        // "1234 connections in 1.02s; …" counts by CPU time of the client, "1234 connections in 2
        // real seconds, …" stands for all of them.
        let line = output
            .lines()
            .find(|line| line.contains("real seconds"))
            .with_context(|| format!("openssl s_time counted nothing:\n{output}"))?;
        let connections = number_before(line, " connections")?;
        // It draws an `r` for every resumed connection, and something else for the others.
        let resumed = output
            .lines()
            .filter(|line| line.chars().all(|letter| matches!(letter, 'r' | 't' | '*')))
            .map(|line| line.matches('r').count())
            .sum::<usize>() as f64;
        let share = resumed / connections;
        ensure!(
            if how == "-reuse" {
                share > 0.99
            } else {
                share == 0.0
            },
            "{resumed} of {connections} connections resumed with s_time {how}"
        );
        Ok(connections)
    }

    /// Downloads, one connection each, in GiB.
    fn download(&self) -> Result<f64> {
        let url = format!("https://127.0.0.1:{}/bulk", self.bulk);
        let mut bytes = 0.0;
        for _ in 0..self.downloads {
            let output = pinned("curl", |command| {
                command
                    .args(["--silent", "--show-error", "--fail", "--insecure"])
                    .args(["--output", "/dev/null", "--write-out", "%{size_download}"])
                    .arg(&url)
            })?;
            bytes += output.trim().parse::<f64>()?;
        }
        Ok(bytes / GIB)
    }

    /// Requests on kept connections.
    fn request(&self) -> Result<f64> {
        let output = pinned("wrk", |command| {
            command
                .args(["--threads", "1", "--connections", "8"])
                .args(["--duration", &format!("{}s", self.seconds)])
                .arg(format!("http://127.0.0.1:{}/", self.plain))
        })?;
        let line = output
            .lines()
            .find(|line| line.contains("requests in"))
            .with_context(|| format!("wrk counted nothing:\n{output}"))?;
        number_before(line, " requests in")
    }
}

/// What watches, until it is stopped.
enum Watcher {
    Nobody,
    Agent(Agent),
    Bpftrace(Owned, TempDir),
}

impl Watcher {
    fn stop(self) -> Result<()> {
        match self {
            Self::Nobody => {}
            Self::Agent(mut agent) => {
                let status = agent.finish(rustix::process::Signal::TERM)?;
                ensure!(status.success(), "the agent failed:\n{}", agent.messages());
            }
            Self::Bpftrace(mut process, directory) => {
                ensure!(process.is_running(), "bpftrace ended by itself");
                process
                    .stop(Duration::from_secs(10))
                    .context("bpftrace does not end")?;
                let said = fs::read_to_string(directory.path().join(BPFTRACE_LOG))?;
                // It prints its counters at the end; without calls there is none to compare with.
                ensure!(said.contains("@calls: "), "bpftrace saw no call:\n{said}");
            }
        }
        Ok(())
    }
}

const BPFTRACE_LOG: &str = "bpftrace.log";

/// A script that counts calls and returns, as people write it by hand.
fn bpftrace(libssl: &Path) -> Result<Watcher> {
    let library = libssl.display();
    let script = format!(
        "BEGIN {{ printf(\"ready\\n\"); }} \
         uprobe:{library}:SSL_do_handshake {{ @calls = count(); }} \
         uretprobe:{library}:SSL_do_handshake {{ @returns = count(); }}"
    );
    let directory = tempfile::tempdir()?;
    let output = directory.path().join(BPFTRACE_LOG);
    let log = fs::File::create(&output)?;
    let mut process = Owned::new(
        Command::new("bpftrace")
            .args(["-B", "none", "-e", &script])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start bpftrace; is it installed?")?,
    );
    let said = || fs::read_to_string(&output).unwrap_or_default();
    let ready = wait::until(Duration::from_secs(30), || {
        said().lines().any(|line| line == "ready") || !process.is_running()
    });
    ensure!(
        ready && process.is_running(),
        "bpftrace failed:\n{}",
        said()
    );
    // BEGIN runs before the other probes are attached.
    std::thread::sleep(Duration::from_secs(1));
    Ok(Watcher::Bpftrace(process, directory))
}

/// Runs a client on its own processor and returns what it printed.
fn pinned(program: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<String> {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", CLIENT_CPU, program]);
    let output = arguments(&mut command)
        .stdin(Stdio::null())
        .output()
        .context("cannot start taskset")?;
    if !output.status.success() {
        bail!(
            "{program} failed ({}):\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number that stands right before `text`.
fn number_before(line: &str, text: &str) -> Result<f64> {
    line.split_once(text)
        .and_then(|(before, _)| before.split_whitespace().last()?.parse().ok())
        .with_context(|| format!("no number before {text:?} in {line:?}"))
}

/// Time on a processor so far, nanoseconds.
fn cpu_time_ns(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))
        .context("cannot read the CPU time of nginx (CONFIG_SCHED_INFO)")?;
    let first = text.split_whitespace().next().context("empty schedstat")?;
    Ok(first.parse()?)
}

/// The libssl that a process has loaded.
fn mapped_library(pid: u32) -> Result<PathBuf> {
    fs::read_to_string(format!("/proc/{pid}/maps"))?
        .lines()
        .filter_map(|line| line.find('/').map(|at| &line[at..]))
        .find(|path| path.contains("/libssl.so"))
        .map(PathBuf::from)
        .context("nginx has no libssl loaded")
}

/// One row a scenario: medians, and the ratios to the first variant of the same round.
fn table(samples: &[Vec<[f64; Variant::ALL.len()]>], rounds: usize) -> String {
    let mut out = format!(
        "nginx worker CPU, median of {rounds} interleaved rounds; in brackets the quartiles of the \
         ratio to the same round's \"without\".\n\n\
         | scenario | unit | without | agent | agent, ratio | bpftrace | bpftrace, ratio |\n\
         |---|---|--:|--:|--:|--:|--:|\n"
    );
    for (scenario, rounds) in Scenario::ALL.into_iter().zip(samples) {
        let (unit, divisor) = scenario.unit();
        let absolute = |variant: usize| {
            let values = rounds.iter().map(|round| round[variant]).collect();
            quantile(values, 0.5) / divisor
        };
        let ratio = |variant: usize| {
            let ratios: Vec<f64> = rounds
                .iter()
                .map(|round| round[variant] / round[0])
                .collect();
            let percent = |at| (quantile(ratios.clone(), at) - 1.0) * 100.0;
            format!(
                "{:+.1} % ({:+.1} to {:+.1})",
                percent(0.5),
                percent(0.25),
                percent(0.75)
            )
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {} | {unit} | {:.2} | {:.2} | {} | {:.2} | {} |",
            scenario.name(),
            absolute(0),
            absolute(1),
            ratio(1),
            absolute(2),
            ratio(2),
        );
    }
    out
}

/// Linear interpolation between the nearest ranks; NaN for no values.
fn quantile(mut values: Vec<f64>, at: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let position = at * values.len().saturating_sub(1) as f64;
    let (low, high) = (position.floor() as usize, position.ceil() as usize);
    match (values.get(low), values.get(high)) {
        (Some(low_value), Some(high_value)) => {
            low_value + (high_value - low_value) * position.fract()
        }
        _ => f64::NAN,
    }
}
