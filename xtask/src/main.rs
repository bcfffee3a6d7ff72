//! Every command a developer of Resumetry needs, as `cargo xtask COMMAND`.
//!
//! One file per command; [`shell`] holds what they share. What is installed is decided in
//! [`setup`], never in passing elsewhere.

mod bench;
mod build;
mod demo;
mod ebpf_toolchain;
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
    /// Measure, print, and append the figures to docs/benchmarks.md
    ///
    /// Example: cargo xtask bench overhead
    Bench(bench::Arguments),
    /// Check the rules that no other tool checks
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Setup(arguments) => setup::command(&arguments),
        Command::Build(arguments) => build::command(&arguments),
        Command::Run(arguments) => run::command(&arguments),
        Command::Test(arguments) | Command::Ci(arguments) => test::command(&arguments),
        Command::Demo => demo::command(),
        Command::Bench(arguments) => bench::command(&arguments),
        Command::Tidy => tidy::command(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
