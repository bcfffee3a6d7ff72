//! `resumetry run`
use resumetry::config::RunConfig;
use std::process::ExitCode;
/// Not yet.
pub fn run(_config: &RunConfig) -> anyhow::Result<ExitCode> {
    anyhow::bail!("later")
}
