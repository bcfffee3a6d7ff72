//! `resumetry completions` and `resumetry man-pages`: the command line, told to shells and to `man`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;
use resumetry::cli::Cli;

/// Prints what makes `shell` complete commands and flags.
pub fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "resumetry", &mut text);
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes `resumetry.1` and a page for each command to `directory`, which must exist.
pub fn man_pages(directory: &Path) -> anyhow::Result<ExitCode> {
    clap_mangen::generate_to(Cli::command(), directory)
        .with_context(|| format!("cannot write man pages to {}", directory.display()))?;
    Ok(ExitCode::SUCCESS)
}
