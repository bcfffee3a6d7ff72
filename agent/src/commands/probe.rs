//! `resumetry probe`: connects to a server as a client, and says whether resuming works and what it gains.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use resumetry::config::{ProbeConfig, values::Format};
use resumetry::core::fingerprint::Fingerprinter;
use resumetry::probing::{Client, measure, report};

use super::{print, shutdown};

/// Measures, and prints what came out; fails where a resumption did not take place that a ticket allowed.
pub fn probe(config: &ProbeConfig) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal().context("cannot listen for signals")?;
    let plan = config.plan()?;
    let fingerprinter = Fingerprinter::new(config.fingerprint_salt.as_bytes());
    let client = Client::new(&config.target, config.profile.clone(), fingerprinter)?;
    let mut stderr = std::io::stderr();
    let shows = stderr.is_terminal();
    let conclusion = measure(&client, &plan, &mut |made, all| {
        if shows {
            // Progress that cannot be shown is no reason to stop.
            let _ = write!(stderr, "\r\x1b[K{made} of {all} connections");
        }
        !stop.load(Ordering::Relaxed)
    });
    if shows {
        eprint!("\r\x1b[K");
    }
    // Half of it would look like the whole.
    if stop.load(Ordering::Relaxed) {
        return Ok(ExitCode::SUCCESS);
    }
    let text = match config.format {
        Format::Text => report::text(&config.target, &config.profile, &conclusion),
        Format::Json => {
            report::json(&config.target, &config.profile, &conclusion)
                .context("cannot write the report")?
                + "\n"
        }
    };
    print(text.as_bytes())?;
    Ok(match conclusion.is_right() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
