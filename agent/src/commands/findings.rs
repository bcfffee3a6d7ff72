//! `resumetry findings`: what of good ticket practice does not hold, as running agents saw it.

use std::process::ExitCode;

use anyhow::Context as _;
use resumetry::config::{FindingsConfig, values::Format};
use resumetry::core::findings::{Observations, compare, finding};
use resumetry::core::view::{Findings, Lifetimes};
use resumetry::output::findings::{Report, Told};
use resumetry::remote::Remote;

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
    Ok(match report.has_errors() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

async fn ask(config: &FindingsConfig) -> anyhow::Result<Report> {
    let remote = Remote::new(&config.urls, config.authorities.as_deref())?;
    let mut report = Report::default();
    let mut hosts = Vec::new();
    for url in &config.urls {
        let findings: Findings = remote.get(url, "/api/v1/findings").await?;
        report.now_seconds = findings.timestamp_seconds;
        report.add(url.to_string(), findings.findings);
        if config.urls.len() > 1 {
            let observed: Observations = remote.get(url, "/api/v1/observations").await?;
            hosts.push((url.to_string(), observed));
        }
        if let Some(lifetime) = config.lifetime {
            let path = format!("/api/v1/lifetimes?lifetime={}", lifetime.as_secs_f64());
            let lifetimes: Lifetimes = remote.get(url, &path).await?;
            report.foretell(url.to_string(), lifetimes.services);
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
