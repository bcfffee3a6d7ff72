//! `resumetry findings`: what of good ticket practice does not hold, as running agents saw it.

use std::process::ExitCode;

use anyhow::Context as _;
use resumetry::config::{FindingsConfig, values::Format};
use resumetry::core::findings::{Observations, compare, finding};
use resumetry::core::view::{Findings, Lifetimes};
use resumetry::output::findings::{Report, Told};
use resumetry::remote::{AgentUrl, Remote, RemoteError};

use super::print;

/// Asks, prints, and fails where an error stands.
pub fn findings(config: &FindingsConfig) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a client")?;
    let report = runtime.block_on(ask(config))?;
    let text = match config.format {
        Format::Text => report.text(config.advice),
        Format::Json => report.json().context("cannot write the report")? + "\n",
    };
    print(text.as_bytes())?;
    Ok(match report.is_bad() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

async fn ask(config: &FindingsConfig) -> anyhow::Result<Report> {
    let remote = Remote::new(&config.urls, config.authorities.as_deref())?;
    let mut report = Report::default();
    let mut hosts = Vec::new();
    for url in &config.urls {
        match ask_one(&remote, url, config, &mut report).await {
            Ok(observed) => hosts.extend(observed.map(|observed| (url.to_string(), observed))),
            Err(error) if config.urls.len() == 1 => return Err(error.into()),
            // The others have something to say.
            Err(error) => report.fail(url.to_string(), error.to_string()),
        }
    }
    let now_seconds = report.now_seconds;
    let between = compare(&hosts).into_iter();
    report.told.extend(between.map(|draft| Told {
        url: None,
        finding: finding(draft, now_seconds),
    }));
    report.sort();
    Ok(report)
}

/// Adds what one agent says; what it observed, where there are others to compare it with.
async fn ask_one(
    remote: &Remote,
    url: &AgentUrl,
    config: &FindingsConfig,
    report: &mut Report,
) -> Result<Option<Observations>, RemoteError> {
    let findings: Findings = remote.get(url, "/api/v1/findings").await?;
    if let Some(lifetime) = config.lifetime {
        let path = format!("/api/v1/lifetimes?lifetime={}", lifetime.as_secs_f64());
        let lifetimes: Lifetimes = remote.get(url, &path).await?;
        report.foretell(url.to_string(), lifetimes.services);
    }
    let observed = match config.urls.len() {
        1 => None,
        _ => Some(remote.get(url, "/api/v1/observations").await?),
    };
    report.add(url.to_string(), findings);
    Ok(observed)
}
