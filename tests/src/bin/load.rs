//! A load to look at the agent under: nginx and clients of every kind for a while, without an
//! agent. Start one next to it (`resumetry trace`, `perf top`, …).

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Parser;
use resumetry_tests::site::{Names, Site};
use resumetry_tests::workload::{self, Action};

/// Drives an nginx of its own with clients of every kind.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  load --seconds 30 --threads 8 --completed")]
struct Arguments {
    /// How long to run.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Only connections that complete, no aborted ones.
    #[arg(long)]
    completed: bool,
}

/// Connections between two looks at the clock; local ports begin anew with each batch.
const BATCH: usize = 2_000;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let names = Names::new()?;
    let site = Site::start(&names, 2)?;
    let mut kinds = site.kinds(&names)?;
    if arguments.completed {
        kinds.retain(|kind| matches!(kind.action, Action::Request(_)));
    }
    let begin = Instant::now();
    let (mut connections, mut errors, mut seed) = (0, 0, 0);
    while begin.elapsed() < Duration::from_secs(arguments.seconds) {
        let notes = workload::drive(&kinds, BATCH, arguments.threads, seed)?;
        connections += notes.len();
        errors += notes.iter().filter(|note| note.error.is_some()).count();
        seed += 1;
    }
    let rate = connections as f64 / begin.elapsed().as_secs_f64();
    println!(
        "{connections} connections, {rate:.0} a second, {errors} that did not do as they were told"
    );
    Ok(())
}
