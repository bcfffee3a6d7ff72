//! Findings as text for people and JSON for programs.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::config::values::Advice as Wanted;
use crate::core::findings::{duration, percent};
use crate::core::view::{Advice, Effect, Finding, Findings, LifetimesOfService};

/// A finding, and who told of it.
#[derive(Debug, Serialize)]
pub struct Told {
    /// `None`: it stands between several agents.
    pub url: Option<String>,
    #[serde(flatten)]
    pub finding: Finding,
}

/// What other lifetimes would do, and who told.
#[derive(Debug, Serialize)]
struct Foretold {
    url: String,
    #[serde(flatten)]
    service: LifetimesOfService,
}

/// What one or several agents found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Unix time.
    #[serde(rename = "timestamp_seconds")]
    pub now_seconds: f64,
    #[serde(rename = "findings")]
    pub told: Vec<Told>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lifetimes: Vec<Foretold>,
    /// Agents that did not answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<Failed>,
    /// Handshakes of the last hour that were judged.
    completed: u64,
    #[serde(skip)]
    agents: usize,
}

/// An agent that did not answer.
#[derive(Debug, Serialize)]
struct Failed {
    url: String,
    reason: String,
}

impl Report {
    /// Adds what an agent found.
    pub fn add(&mut self, url: String, findings: Findings) {
        self.agents += 1;
        self.completed += findings.completed;
        self.now_seconds = self.now_seconds.max(findings.timestamp_seconds);
        let found = findings.findings.into_iter();
        self.told.extend(found.map(|finding| Told {
            url: Some(url.clone()),
            finding,
        }));
    }

    /// Notes that an agent did not answer.
    pub fn fail(&mut self, url: String, reason: String) {
        self.agents += 1;
        self.failed.push(Failed { url, reason });
    }

    /// Adds what an agent foretells.
    pub fn foretell(&mut self, url: String, services: Vec<LifetimesOfService>) {
        self.lifetimes
            .extend(services.into_iter().map(|service| Foretold {
                url: url.clone(),
                service,
            }));
    }

    /// Worst first.
    pub fn sort(&mut self) {
        let rank = |told: &Told| match told.finding.severity.as_str() {
            "error" => 0,
            "warning" => 1,
            _ => 2,
        };
        self.told.sort_by_key(rank);
    }

    /// Whether something must be done now, or could not be asked.
    pub fn is_bad(&self) -> bool {
        !self.failed.is_empty() || self.has_errors()
    }

    fn has_errors(&self) -> bool {
        self.told
            .iter()
            .any(|told| told.finding.severity == "error")
    }

    /// # Errors
    /// None that is known.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// For people, with advice for the servers that are meant.
    pub fn text(&self, wanted: Option<Wanted>) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = self.write(&mut out, wanted);
        out
    }

    fn write(&self, out: &mut String, wanted: Option<Wanted>) -> fmt::Result {
        for failed in &self.failed {
            writeln!(
                out,
                "{} is not among these: {}\n",
                failed.url, failed.reason
            )?;
        }
        if self.completed == 0 {
            writeln!(
                out,
                "No handshake was completed in the last hour (or since the agent started): there is \
                 nothing to judge."
            )?;
        } else if self.told.is_empty() {
            writeln!(
                out,
                "No finding: none of the {} handshakes of the last hour breaks a rule.",
                self.completed
            )?;
        }
        for (index, told) in self.told.iter().enumerate() {
            if index > 0 {
                writeln!(out)?;
            }
            self.write_one(out, told, wanted)?;
        }
        if !self.lifetimes.is_empty() {
            writeln!(out)?;
        }
        for foretold in &self.lifetimes {
            if self.agents > 1 {
                write!(out, "{}: ", foretold.url)?;
            }
            write_lifetime(out, &foretold.service)?;
        }
        Ok(())
    }

    fn write_one(&self, out: &mut String, told: &Told, wanted: Option<Wanted>) -> fmt::Result {
        let finding = &told.finding;
        writeln!(
            out,
            "{}: {} ({})",
            printable(&finding.severity),
            printable(&finding.title),
            printable(&finding.id)
        )?;
        let subjects = [
            ("server name", &finding.server_name),
            ("service", &finding.service),
        ];
        for (what, subject) in subjects {
            if let Some(subject) = subject {
                writeln!(out, "  {what}: {}", printable(subject))?;
            }
        }
        if self.agents > 1
            && let Some(url) = &told.url
        {
            writeln!(out, "  agent: {url}")?;
        }
        writeln!(out, "  {}", printable(&finding.evidence))?;
        let since = self.now_seconds - finding.since_timestamp_seconds;
        if since >= 1.0 {
            writeln!(out, "  standing for {}", duration(since, 1))?;
        }
        write_effect(out, finding.effect)?;
        for advice in finding
            .advice
            .iter()
            .filter(|advice| is_wanted(advice, finding, wanted))
        {
            writeln!(
                out,
                "  {}: {}",
                printable(&advice.server),
                printable(&advice.text)
            )?;
            for line in advice.config.iter().flat_map(|config| config.lines()) {
                writeln!(out, "      {}", printable(line))?;
            }
        }
        Ok(())
    }
}

/// What holds for any server, and what is for the one that is meant: by default the one whose name the
/// service bears.
fn is_wanted(advice: &Advice, finding: &Finding, wanted: Option<Wanted>) -> bool {
    let server = advice.server.as_str();
    if server == "any" {
        return true;
    }
    match wanted {
        Some(Wanted::All) => true,
        Some(wanted) => wanted.as_str() == server,
        None => {
            let service = finding
                .service
                .as_deref()
                .unwrap_or("")
                .to_ascii_lowercase();
            service.contains(server) || server == "apache" && service.contains("httpd")
        }
    }
}

fn write_effect(out: &mut String, effect: Effect) -> fmt::Result {
    let mut parts = Vec::new();
    if let Some(wait) = effect.wait_seconds_per_hour {
        parts.push(format!("{wait:.1} s of users' time"));
    }
    if let Some(cpu) = effect.cpu_seconds_per_hour {
        parts.push(format!("{cpu:.2} s of CPU time"));
    }
    match parts.is_empty() {
        true => Ok(()),
        false => writeln!(out, "  costs {} an hour", parts.join(" and ")),
    }
}

fn write_lifetime(out: &mut String, service: &LifetimesOfService) -> fmt::Result {
    let Some(asked) = service.asked else {
        return Ok(());
    };
    write!(
        out,
        "{}: tickets that live {}",
        printable(&service.service),
        duration(asked.lifetime_seconds, 1)
    )?;
    if let Some(today) = service.lifetime_seconds {
        write!(out, " (today {})", duration(today, 1))?;
    }
    match (asked.quota, asked.low, asked.high) {
        (Some(quota), Some(low), Some(high)) => write!(
            out,
            " would give a quota of {}, {} to {}",
            percent(quota),
            percent(low),
            percent(high)
        )?,
        (None, Some(low), Some(high)) => write!(
            out,
            " would give a quota between {} and {}; clients that come back so late do not offer their \
             tickets today",
            percent(low),
            percent(high)
        )?,
        _ => write!(out, ": too few returns are known to foretell a quota")?,
    }
    writeln!(
        out,
        " ({} returns of known age).\n  A stolen key would expose what was recorded while it was in use, and \
         for {} more.",
        service.returns,
        duration(asked.lifetime_seconds, 1)
    )
}

/// Names of services come from this host, and still may hold what a terminal obeys.
fn printable(text: &str) -> String {
    let visible = text.chars().filter(|character| !character.is_control());
    visible.collect()
}
