//! What resumption saves: full, resumed and 0-RTT handshakes by version and certificate on one
//! nginx. Prints `docs/what-resumption-saves.md`.
//!
//! First the server's CPU time, over loopback, as fast as the clients can: of a connection with one
//! request, of the same without TLS, and of a request alone with and without TLS, so that what is
//! left is the handshake's. Then the clients' waiting, one connection at a time over links of known
//! round trips, while the agent watches the server's end. Both in rounds, each with every kind of
//! handshake, so that what disturbs the machine for a while disturbs all; CPU time that was taken
//! while others were busy is taken again.

mod case;
mod measure;
mod report;
mod site;
mod words;

use std::io::Write as _;

use anyhow::{Result, bail};
use clap::Parser;

use measure::Results;
use site::Site;

/// Measures what resumption saves servers and clients; prints Markdown.
#[derive(Debug, Parser)]
#[command(after_help = "Example:\n  bench-savings --rounds 4 --slice 300")]
pub struct Arguments {
    /// Rounds; each holds every kind of handshake.
    #[arg(long, default_value_t = 12)]
    rounds: usize,
    /// How long CPU time is taken of one kind in a round, milliseconds.
    #[arg(long, default_value_t = 250)]
    slice: u64,
    /// How long CPU time may be measured again that others on this machine disturbed, seconds.
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// One round of 50 ms without patience: shows that it runs, measures little.
    #[arg(long)]
    short: bool,
    /// What the figures belong to: CPU, kernel, commit.
    #[arg(long, default_value = "An unnamed machine.")]
    machine: String,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.short {
        (arguments.rounds, arguments.slice, arguments.patience) = (1, 50, 0);
    }
    if std::thread::available_parallelism()?.get() <= site::CLIENT_CPU {
        bail!("the server and its clients need a CPU each: this machine has one");
    }
    let site = Site::start()?;
    let results = match Results::measure(&site, &arguments) {
        Ok(results) => results,
        Err(error) => bail!("{error:#}; nginx says:\n{}", site.errors()),
    };
    let text = report::markdown(&arguments, &site, &results)?;
    Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
}
