//! `fuzz`: the fuzz targets of agent/fuzz, each for some time, from the corpus that is kept.
//!
//! They are targets of cargo-fuzz. This command needs neither it nor a nightly compiler: the flags that
//! make code tell a fuzzer where it went are stable, and memory is safe without a sanitizer, since the
//! code under test has no `unsafe`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::shell;

/// What each reads.
const TARGETS: [&str; 6] = [
    "hellos",
    "records",
    "events",
    "segments",
    "datagrams",
    "captures",
];

const DIRECTORY: &str = "agent/fuzz";
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// As cargo-fuzz sets them, without a sanitizer.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1 --cfg fuzzing";

/// How long each target runs unless told otherwise.
const SECONDS: u32 = 60;

/// A process that takes more is a finding, mebibytes.
const MEMORY: u32 = 1024;

#[derive(Args, Debug)]
pub struct Arguments {
    /// How long each target runs
    #[arg(long, value_name = "N", default_value_t = SECONDS)]
    seconds: u32,
    /// Keep inputs that reach new code in the corpus
    #[arg(long)]
    keep: bool,
    /// Targets to run: all unless some are named
    #[arg(value_name = "TARGET", value_parser = TARGETS)]
    targets: Vec<String>,
}

impl Arguments {
    /// Every target, a minute each.
    pub fn all() -> Self {
        Self {
            seconds: SECONDS,
            keep: false,
            targets: Vec::new(),
        }
    }
}

/// What a target came to.
struct Outcome {
    name: String,
    executions: u64,
    /// What the fuzzer printed, where it found something.
    finding: Option<String>,
}

pub fn command(arguments: &Arguments) -> Result<()> {
    let build = shell::target().join("fuzz");
    shell::run(
        shell::cargo(&["build", "--release", "--locked", "--target", TRIPLE])
            .arg("--manifest-path")
            .arg(shell::root().join(DIRECTORY).join("Cargo.toml"))
            .env("CARGO_TARGET_DIR", &build)
            .env("RUSTFLAGS", FLAGS),
    )?;
    let names: Vec<String> = match arguments.targets.is_empty() {
        true => TARGETS.iter().copied().map(str::to_owned).collect(),
        false => arguments.targets.clone(),
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut outcomes = Vec::new();
    for group in names.chunks(cores) {
        let runs: Vec<_> = group
            .iter()
            .map(|name| {
                let (name, seconds, keep) = (name.clone(), arguments.seconds, arguments.keep);
                let program = build.join(TRIPLE).join("release").join(&name);
                thread::spawn(move || run(name, program, seconds, keep))
            })
            .collect();
        for run in runs {
            outcomes.push(run.join().ok().context("a target's thread panicked")??);
        }
    }
    println!("\n| target | executions | findings |\n|---|---:|---|");
    for outcome in &outcomes {
        let finding = outcome.finding.as_ref().map_or("none", |_| "one, above");
        println!("| {} | {} | {finding} |", outcome.name, outcome.executions);
    }
    let total: u64 = outcomes.iter().map(|outcome| outcome.executions).sum();
    println!("| all | {total} | |");
    match outcomes.iter().find_map(|outcome| outcome.finding.as_ref()) {
        Some(_) => bail!(
            "the fuzzer found something; the input is kept under {}",
            build.display()
        ),
        None => Ok(()),
    }
}

fn run(name: String, program: PathBuf, seconds: u32, keep: bool) -> Result<Outcome> {
    let corpus = shell::root().join(DIRECTORY).join("corpus").join(&name);
    let found = shell::target().join("fuzz/found").join(&name);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&found)?;
    let mut command = Command::new(program);
    // New inputs go to the first directory.
    match keep {
        true => command.arg(&corpus),
        false => command.arg(&found).arg(&corpus),
    };
    let output = command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}-", found.display()))
        .arg("-print_final_stats=1")
        .output()
        .with_context(|| format!("cannot run the fuzz target {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let executions = said
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .and_then(|number| number.trim().parse().ok())
        .unwrap_or(0);
    let finding = (!output.status.success()).then(|| said.clone());
    if finding.is_some() {
        eprintln!("{name}:\n{said}");
    }
    Ok(Outcome {
        name,
        executions,
        finding,
    })
}
