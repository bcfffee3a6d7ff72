//! Every command a developer of Resumetry needs, as `cargo xtask COMMAND`.
//!
//! One file per command; [`shell`] holds what they share. What is installed is decided in
//! [`setup`], never in passing elsewhere.

mod bench;
mod build;
mod compatibility;
mod dashboards;
mod demo;
mod ebpf_toolchain;
mod fleet;
mod fuzz;
mod operator;
mod package;
mod rules;
mod run;
mod setup;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Developer commands of Resumetry")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the build lacks, and say what and why
    ///
    /// Example: cargo xtask setup --tests
    Setup(setup::Arguments),
    /// Build the agent, as target/release/resumetry with --release
    ///
    /// Example: cargo xtask build --release
    Build(build::Arguments),
    /// Install what the build lacks, build in release mode, run the agent on this host
    ///
    /// Example: cargo xtask run -- --listen 127.0.0.1:9651
    Run(run::Arguments),
    /// Run every check and test
    ///
    /// Example: cargo xtask test --no-e2e
    Test(test::Arguments),
    /// What continuous integration runs: the same as `test`
    Ci(test::Arguments),
    /// Show the agent at work: nginx with three server names, one of them broken, and real clients
    Demo,
    /// Tell a story of ticket keys on three nodes, and hold the alerts that fire against those that should
    ///
    /// Example: cargo xtask fleet --pace 60
    Fleet(fleet::Arguments),
    /// Run every server that there is a package of, and hold the records against the clients' word
    ///
    /// Example: cargo xtask compatibility --write
    Compatibility(compatibility::Arguments),
    /// Feed what reads bytes from elsewhere with what a fuzzer makes up
    ///
    /// Example: cargo xtask fuzz --seconds 600 segments datagrams
    Fuzz(fuzz::Arguments),
    /// Measure, print, and keep the figures in docs/
    ///
    /// Example: cargo xtask bench overhead
    Bench(bench::Arguments),
    /// Check the rules that no other tool checks
    Tidy,
    /// Make Grafana's boards from their source
    ///
    /// Example: cargo xtask dashboards --check
    Dashboards(dashboards::Arguments),
    /// Check and test the rules and alerts for Prometheus
    Rules(rules::Arguments),
    /// Build what is shipped: a static binary, and a Debian package with man pages and completions
    ///
    /// Example: cargo xtask package --binary
    Package(package::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup(arguments) => setup::command(&arguments),
        Command::Build(arguments) => build::command(&arguments),
        Command::Run(arguments) => run::command(&arguments),
        Command::Test(arguments) | Command::Ci(arguments) => test::command(&arguments),
        Command::Demo => demo::command(),
        Command::Fleet(arguments) => fleet::command(&arguments),
        Command::Compatibility(arguments) => compatibility::command(&arguments),
        Command::Fuzz(arguments) => fuzz::command(&arguments),
        Command::Bench(arguments) => bench::command(&arguments),
        Command::Tidy => tidy::command(),
        Command::Dashboards(arguments) => dashboards::command(&arguments),
        Command::Rules(arguments) => rules::command(&arguments),
        Command::Package(arguments) => package::command(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
