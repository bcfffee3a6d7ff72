//! `bench`: runs a benchmark and keeps its figures, with the machine and commit they belong to.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::{build, package, setup, shell};

#[derive(Args, Debug)]
pub struct Arguments {
    /// What to measure
    benchmark: Benchmark,
    /// Print the figures only
    #[arg(long)]
    no_save: bool,
    /// Handed to the benchmark
    #[arg(last = true)]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Benchmark {
    /// CPU time of nginx a connection, without and with the agent
    Overhead,
    /// Handshakes a second and core from raw event to metric
    Pipeline,
    /// How long /metrics takes at 1,000 server names, and the memory of 10,000
    Scrape,
    /// The same, built as it is shipped
    ScrapeShipped,
    /// `resumetry pcap` against tshark on the same capture
    Pcap,
    /// Full against resumed handshakes on nginx: CPU time, bytes, time to first byte
    Savings,
}

/// Where results are kept, from the top of the repository.
const RESULTS: &str = "docs/benchmarks.md";

/// Where what resumption saves is told: the benchmark writes all of it.
const SAVINGS: &str = "docs/what-resumption-saves.md";

const HEADING: &str = "# Benchmark results\n\n\
    Newest last; each section is what `cargo xtask bench` printed on the machine it names.\n";

pub fn command(arguments: &Arguments) -> Result<()> {
    let name = match arguments.benchmark {
        Benchmark::Overhead => "overhead",
        Benchmark::Pipeline => "pipeline",
        Benchmark::Scrape => "scrape",
        Benchmark::ScrapeShipped => "scrape-shipped",
        Benchmark::Pcap => "pcap",
        Benchmark::Savings => "savings",
    };
    let mut cargo = match arguments.benchmark {
        Benchmark::Overhead => {
            prepare_agent()?;
            let mut example = shell::cargo(&["build", "--release", "--package", "resumetry"]);
            shell::run(example.args(["--example", "empty_pair"]))?;
            let mut cargo = shell::cargo(&["run", "--release", "--package", "resumetry-tests"]);
            cargo.args(["--bin", "bench-overhead", "--"]);
            cargo
        }
        Benchmark::Pipeline => {
            setup::for_build()?;
            let mut cargo = shell::cargo(&["run", "--release", "--package", "resumetry"]);
            cargo.args(["--example", "pipeline", "--"]);
            cargo
        }
        Benchmark::Scrape => {
            setup::for_build()?;
            let mut cargo = shell::cargo(&["run", "--release", "--package", "resumetry"]);
            cargo.args(["--example", "scrape", "--"]);
            cargo
        }
        Benchmark::ScrapeShipped => {
            setup::for_build()?;
            let mut cargo = shell::cargo(&["run", "--package", "resumetry"]);
            package::as_shipped(&mut cargo).args(["--example", "scrape", "--"]);
            cargo
        }
        Benchmark::Pcap => {
            if shell::find_program("tshark").is_none() {
                bail!("there is no tshark to compare with: `apt-get install tshark`");
            }
            setup::for_build()?;
            build::release()?;
            let mut cargo = shell::cargo(&["run", "--release", "--package", "resumetry-tests"]);
            cargo.args(["--bin", "bench-pcap", "--"]);
            cargo
        }
        Benchmark::Savings => {
            prepare_agent()?;
            let mut cargo = shell::cargo(&["run", "--release", "--package", "resumetry-tests"]);
            cargo.args(["--bin", "bench-savings", "--", "--machine", &machine()?]);
            cargo
        }
    };
    cargo.args(&arguments.arguments);
    cargo.env("RESUMETRY_BIN", shell::release_binary("resumetry"));
    let section = format!("\n## {name}, {}\n\n{}\n", today()?, machine()?);
    let figures = tee(&mut cargo)?;
    if arguments.no_save {
        return Ok(());
    }
    let figures = figures.trim_end();
    match arguments.benchmark {
        // They print Markdown tables.
        Benchmark::Overhead | Benchmark::Scrape | Benchmark::ScrapeShipped | Benchmark::Pcap => {
            append(&format!("{section}\n{figures}\n"))
        }
        Benchmark::Pipeline => append(&format!("{section}\n```\n{figures}\n```\n")),
        // It prints the whole document, machine and all.
        Benchmark::Savings => {
            let path = shell::root().join(SAVINGS);
            fs::write(&path, format!("{figures}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("wrote {SAVINGS}");
            Ok(())
        }
    }
}

/// What a benchmark needs that runs the agent beside servers.
fn prepare_agent() -> Result<()> {
    if !shell::is_root() {
        bail!(
            "this benchmark runs the agent, which needs root (see `cargo xtask run`), and this is \
             not root. Run it as root"
        );
    }
    setup::for_tests()?;
    build::release()
}

/// Runs the command, showing its standard output while keeping it.
fn tee(command: &mut Command) -> Result<String> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the benchmark")?;
    let output = child.stdout.take().context("the benchmark has no output")?;
    let reader = thread::spawn(move || -> std::io::Result<String> {
        let mut kept = String::new();
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            kept.push_str(&line);
            kept.push('\n');
        }
        Ok(kept)
    });
    let status = child.wait().context("lost the benchmark")?;
    let kept = match reader.join() {
        Ok(kept) => kept.context("cannot read the benchmark's output")?,
        Err(_) => bail!("cannot show the benchmark's output"),
    };
    if !status.success() {
        bail!("the benchmark ended with {status}; nothing was saved");
    }
    Ok(kept)
}

fn append(section: &str) -> Result<()> {
    let path = shell::root().join(RESULTS);
    let write = || -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let is_new = !path.exists();
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        if is_new {
            file.write_all(HEADING.as_bytes())?;
        }
        file.write_all(section.as_bytes())
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("appended to {RESULTS}");
    Ok(())
}

/// CPU, kernel and commit: without them a figure means nothing.
fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("cannot read /proc/sys/kernel/osrelease")?;
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"]);
    let commit = shell::output(git.current_dir(shell::root())).unwrap_or_else(|_| "unknown".into());
    Ok(format!(
        "{model}, {cores} cores, Linux {}; commit {commit}.",
        kernel.trim()
    ))
}

fn today() -> Result<String> {
    shell::output(Command::new("date").args(["--utc", "+%Y-%m-%d"]))
}
