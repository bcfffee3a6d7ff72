//! `test` and `ci`: every check, cheapest first, stopping at the first that fails.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::ebpf_toolchain::{self, Compiler};
use crate::{dashboards, fuzz, package, rules, setup, shell, tidy};

#[derive(Args, Debug)]
pub struct Arguments {
    /// Leave out the end-to-end tests, which need root
    #[arg(long)]
    no_e2e: bool,
    /// Run the end-to-end tests at full length (20,000 connections and more)
    #[arg(long, conflicts_with = "no_e2e")]
    long: bool,
}

/// What is compiled otherwise than the rest, and so is no part of the workspace.
const OTHER_WORKSPACES: [&str; 2] = ["agent-ebpf", "agent/fuzz"];

/// End-to-end tests that measure times: nothing else runs meanwhile.
const MEASURING: [&str; 8] = [
    "cpu",
    "distance",
    "exact",
    "full_load",
    "governor",
    "primitives",
    "savings",
    "timing",
];

/// Makes the end-to-end tests run at full length.
const LONG: &str = "RESUMETRY_TEST_LONG";

pub fn command(arguments: &Arguments) -> Result<()> {
    if !arguments.no_e2e && !shell::is_root() {
        bail!(
            "the end-to-end tests load programs into the kernel, attach them to every socket of \
             this host and make network namespaces, which needs root, and this is not root. Run \
             as root, or leave them out: `cargo xtask test --no-e2e`"
        );
    }
    let mut steps = Steps::default();
    let outcome = steps.run_all(arguments);
    steps.print();
    outcome
}

/// What a step that did not fail has to say.
enum Outcome {
    Passed,
    Skipped(String),
}

/// The steps so far, for the table at the end.
#[derive(Default)]
struct Steps {
    done: Vec<(&'static str, Duration, String)>,
}

impl Steps {
    fn run_all(&mut self, arguments: &Arguments) -> Result<()> {
        self.step("setup", || passed(setup::for_tests()))?;
        self.step("tidy", || passed(tidy::command()))?;
        self.step("formatting", formatting)?;
        self.step("rules and alerts", || {
            passed(rules::command(&rules::Arguments::default()))
        })?;
        self.step("dashboards", || {
            passed(dashboards::command(&dashboards::Arguments::check()))
        })?;
        self.step("dependencies", dependencies)?;
        self.step("advisories", advisories)?;
        // What is shipped takes longest to build, half of it on one core, and nothing until the end-to-end
        // tests needs it.
        let packages = Background::start("package", false)?;
        self.step("clippy", || {
            cargo("clippy --workspace --all-targets --locked -- -D warnings")
        })?;
        self.step("clippy, kernel half", clippy_kernel_half)?;
        self.step("unit tests", unit_tests)?;
        self.step("packages (rest)", || passed(packages.finish()))?;
        if arguments.no_e2e {
            return self.step("fuzzing", || passed(fuzz::command(&fuzz::Arguments::all())));
        }
        // Most of these tests wait; the fuzzer takes what they leave.
        let fuzzing = Background::start("fuzz", true)?;
        let (measuring, others) = end_to_end_selections()?;
        self.step("end-to-end tests", || end_to_end(&others, arguments.long))?;
        self.step("fuzzing (rest)", || passed(fuzzing.finish()))?;
        self.step("end-to-end, measuring", || {
            end_to_end(&measuring, arguments.long)
        })
    }

    fn step(&mut self, name: &'static str, body: impl FnOnce() -> Result<Outcome>) -> Result<()> {
        eprintln!("\n== {name}");
        let start = Instant::now();
        let outcome = body();
        let verdict = match &outcome {
            Ok(Outcome::Passed) => "ok".to_owned(),
            Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}"),
            Err(_) => "FAILED".to_owned(),
        };
        self.done.push((name, start.elapsed(), verdict));
        outcome
            .map(drop)
            .with_context(|| format!("step `{name}` failed"))
    }

    fn print(&self) {
        println!();
        for (name, duration, verdict) in &self.done {
            println!("{name:<20} {:>7.1} s  {verdict}", duration.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, duration, _)| duration).sum();
        println!("{:<20} {:>7.1} s", "total", total.as_secs_f64());
    }
}

/// Another of these commands, which runs meanwhile. Where an earlier step fails it goes on: what it builds
/// is not built again.
struct Background {
    child: Child,
    command: &'static str,
    log: PathBuf,
}

impl Background {
    /// `is_idle`: only on processors that nothing else wants.
    fn start(command: &'static str, is_idle: bool) -> Result<Self> {
        let log = shell::target().join(format!("{command}.log"));
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let program = env::current_exe().context("cannot find this program")?;
        eprintln!("\n+ cargo xtask {command} >{} &", log.display());
        let mut start = match is_idle {
            true => Command::new("chrt"),
            false => Command::new(&program),
        };
        if is_idle {
            start.args(["--idle", "0"]).arg(&program);
        }
        let child = start
            .arg(command)
            .current_dir(shell::root())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start `cargo xtask {command}`"))?;
        Ok(Self {
            child,
            command,
            log,
        })
    }

    /// Waits for its end, and shows what it said where it failed.
    fn finish(mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
            bail!("`cargo xtask {}` ended with {status}", self.command);
        }
        Ok(())
    }
}

fn passed(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

/// Runs cargo with arguments that hold no spaces themselves.
fn cargo(arguments: &str) -> Result<Outcome> {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    passed(shell::run(&mut shell::cargo(&arguments)))
}

fn formatting() -> Result<Outcome> {
    cargo("fmt --all --check")?;
    for workspace in OTHER_WORKSPACES {
        cargo(&format!(
            "fmt --manifest-path {workspace}/Cargo.toml --check"
        ))?;
    }
    passed(Ok(()))
}

/// Licences, origins and versions of all dependencies, of both halves.
fn dependencies() -> Result<Outcome> {
    cargo("deny --locked check bans licenses sources")?;
    for workspace in OTHER_WORKSPACES {
        cargo(&format!(
            "deny --manifest-path {workspace}/Cargo.toml --locked --config deny.toml \
             check bans licenses sources"
        ))?;
    }
    passed(Ok(()))
}

/// Known vulnerabilities. The database is on GitHub, which a closed build machine may not reach;
/// that must not fail every build, nor pass for a check.
fn advisories() -> Result<Outcome> {
    // A firewall that swallows packets would otherwise hold up the build for minutes.
    let mut fetch = Command::new("timeout");
    fetch.args(["60", "cargo", "deny", "fetch", "db"]);
    if let Err(error) = shell::output(fetch.current_dir(shell::root())) {
        eprintln!("{error:#}");
        return Ok(Outcome::Skipped(
            "cannot fetch the database (github.com/RustSec/advisory-db); \
             run `cargo deny check advisories` where it can be reached"
                .to_owned(),
        ));
    }
    cargo("deny check advisories")?;
    cargo("deny --manifest-path agent-ebpf/Cargo.toml --config deny.toml check advisories")
}

fn clippy_kernel_half() -> Result<Outcome> {
    let toolchain = ebpf_toolchain::detect().map_err(anyhow::Error::msg)?;
    if toolchain.compiler == Compiler::Debian {
        let reason = "Debian's toolchain for BPF has no clippy";
        return Ok(Outcome::Skipped(reason.to_owned()));
    }
    let mut command = ebpf_toolchain::command(&toolchain, "clippy");
    command.args(["--", "-D", "warnings"]);
    command.current_dir(shell::root().join("agent-ebpf"));
    passed(shell::run(&mut command))
}

/// Builds and runs tests of the workspace. All of it is built whatever is selected, so that its libraries
/// are built once, with what any of it needs of them.
fn workspace_tests(selection: &[impl AsRef<OsStr>]) -> Command {
    let mut command = shell::cargo(&["test", "--workspace", "--locked"]);
    command.args(selection);
    command
}

/// All but the end-to-end tests, which need a root and servers.
fn unit_tests() -> Result<Outcome> {
    let mut selection = vec!["--lib".to_owned(), "--bins".to_owned()];
    selection.extend(tests_in("agent/tests")?.iter().map(|name| select(name)));
    passed(shell::run(&mut workspace_tests(&selection)))
}

/// Names of the tests in a directory.
fn tests_in(directory: &str) -> Result<Vec<String>> {
    let directory = shell::root().join(directory);
    let mut names = Vec::new();
    for entry in
        fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?
    {
        let name = entry?.file_name().into_string().unwrap_or_default();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// A test, as cargo is told of it.
fn select(name: &str) -> String {
    format!("--test={name}")
}

/// The end-to-end tests that measure times, and all others.
fn end_to_end_selections() -> Result<(Vec<String>, Vec<String>)> {
    let names = tests_in("tests/tests")?;
    if let Some(missing) = MEASURING
        .iter()
        .find(|name| !names.iter().any(|known| known == *name))
    {
        bail!("tests/tests/{missing}.rs is not there");
    }
    let (measuring, others): (Vec<_>, Vec<_>) = names
        .iter()
        .partition(|name| MEASURING.contains(&name.as_str()));
    let each = |names: Vec<&String>| names.into_iter().map(|name| select(name)).collect();
    Ok((each(measuring), each(others)))
}

fn end_to_end(selection: &[String], long: bool) -> Result<Outcome> {
    let mut command = end_to_end_tests(selection);
    if long {
        command.env(LONG, "1");
    }
    passed(shell::run(&mut command))
}

/// Runs end-to-end tests: those that cargo's `selection` names.
pub fn end_to_end_tests(selection: &[impl AsRef<OsStr>]) -> Command {
    let mut command = workspace_tests(selection);
    // One after the other: each watches the whole host and would see the others' connections.
    command.args(["--", "--test-threads=1"]);
    // What is shipped is what is tested.
    command.env("RESUMETRY_BIN", package::directory().join("resumetry"));
    command
}
