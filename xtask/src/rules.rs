//! `rules`: Prometheus' own word on our recording rules and alerts, and what it cannot know: that
//! each alert has a page and all three kinds of tests, and that the agent exports what they ask for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use crate::{operator, shell};

const RULES: &str = "deploy/prometheus/rules";
const TESTS: &str = "deploy/prometheus/tests";
/// Templates that let a canary pass or not.
const GATES: &str = "deploy/rollouts";
const PAGES: &str = "docs/runbooks";
/// Where the names of metrics stand, as literals.
const EXPORT: &str = "agent/src/export";

/// What each page says.
const SECTIONS: [&str; 4] = ["## Meaning", "## Cause", "## Check", "## Remedy"];

/// The kinds of tests, as they stand in the tests' names.
const KINDS: [&str; 3] = ["fires", "silent", "no data"];

#[derive(Args, Debug, Default)]
pub struct Arguments {
    /// Write the rules once more, for the Prometheus operator, instead of checking that they are
    #[arg(long)]
    write: bool,
}

pub fn command(arguments: &Arguments) -> Result<()> {
    let (rules, tests) = (files(RULES, "yml")?, files(TESTS, "yml")?);
    operator::make(&rules, arguments.write)?;
    let promtool = promtool()?;
    shell::run(
        Command::new(&promtool)
            .args(["check", "rules"])
            .args(&rules),
    )?;
    shell::run(Command::new(&promtool).args(["test", "rules"]).args(&tests))?;
    let gates = gates()?;
    if gates.is_empty() {
        bail!("{GATES} holds no query");
    }
    check_queries(&gates).context(GATES)?;
    let mut faults = Vec::new();
    let rules = texts(&rules)?;
    check_alerts(&rules, &texts(&tests)?, &mut faults)?;
    let unknown = unknown_names(&rules)?;
    faults.extend(
        unknown
            .iter()
            .map(|name| format!("{RULES}: nobody exports or records {name}")),
    );
    if !faults.is_empty() {
        bail!("rules:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

/// Debian's, unpacked by `cargo xtask setup --tests`, or the system's.
fn promtool() -> Result<PathBuf> {
    let unpacked = shell::target().join("foreign/prometheus/root/usr/bin/promtool");
    if unpacked.is_file() {
        return Ok(unpacked);
    }
    shell::find_program("promtool")
        .context("there is no promtool; `cargo xtask setup --tests` fetches it")
}

/// The files below a directory that end so, in order.
fn files(directory: &str, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![shell::root().join(directory)];
    while let Some(directory) = waiting.pop() {
        let entries = fs::read_dir(&directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|own| own == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn texts(files: &[PathBuf]) -> Result<String> {
    let read = |path: &PathBuf| {
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    files.iter().map(read).collect()
}

/// What follows a key in any line.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter_map(move |line| line.trim().strip_prefix(key))
}

fn check_alerts(rules: &str, tests: &str, faults: &mut Vec<String>) -> Result<()> {
    let alerts: BTreeSet<&str> = values(rules, "- alert: ").collect();
    let pages: BTreeSet<String> = files(PAGES, "md")?
        .iter()
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .filter(|name| name != "README")
        .collect();
    for page in &pages {
        if !alerts.contains(page.as_str()) {
            faults.push(format!("{PAGES}/{page}.md: there is no such alert"));
        }
    }
    for alert in alerts {
        let page = Path::new(PAGES).join(format!("{alert}.md"));
        let text = fs::read_to_string(shell::root().join(&page)).unwrap_or_default();
        for section in SECTIONS {
            if !text.lines().any(|line| line == section) {
                faults.push(format!("{}: lacks `{section}`", page.display()));
            }
        }
        let url = format!("/blob/main/{}", page.display());
        if !values(rules, "runbook_url: ").any(|value| value.ends_with(&url)) {
            faults.push(format!("{RULES}: no runbook_url ends with {url}"));
        }
        for kind in KINDS {
            let is_such = |name: &str| {
                let (of, what) = name.trim_matches('\'').split_once(": ").unwrap_or_default();
                of.split(", ").any(|of| of == alert) && what.starts_with(kind)
            };
            if !values(tests, "- name: ").any(is_such) {
                faults.push(format!("{TESTS}: no test of {alert} is called `{kind}`"));
            }
        }
    }
    Ok(())
}

/// Prometheus must understand every query, and the agent export what they ask for.
pub fn check_queries(queries: &[String]) -> Result<()> {
    let unknown = unknown_names(&queries.join("\n"))?;
    if !unknown.is_empty() {
        bail!("nobody exports or records {}", unknown.join(", "));
    }
    // As recording rules, which promtool reads without a server.
    let rules = queries
        .iter()
        .enumerate()
        .map(|(index, query)| json!({ "record": format!("query:{index}"), "expr": query }));
    let group = json!({ "groups": [{ "name": "queries", "rules": rules.collect::<Vec<_>>() }] });
    let path = shell::target().join("queries.yml");
    fs::write(&path, group.to_string())
        .with_context(|| format!("cannot write {}", path.display()))?;
    // It prints a line a file, and what is wrong.
    let mut command = Command::new(promtool()?);
    shell::output(command.args(["check", "rules", "--lint=none"]).arg(&path))
        .context("Prometheus does not understand a query")
        .map(drop)
}

/// The queries that gate rollouts, what is filled in by others replaced.
fn gates() -> Result<Vec<String>> {
    let text = texts(&files(GATES, "yaml")?)?;
    let mut queries: Vec<String> = Vec::new();
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim() == "query: |" {
            let mut query = String::new();
            while let Some(inner) = lines.next_if(|inner| indentation(inner) > indentation(line)) {
                query.push_str(inner);
                query.push('\n');
            }
            while let Some((before, rest)) = query.split_once("{{") {
                let after = rest.split_once("}}").map_or("", |(_, after)| after);
                query = format!("{before}filled{after}");
            }
            queries.push(query);
        }
    }
    Ok(queries)
}

/// The metrics in some queries that are none of the agent's, and not recorded.
fn unknown_names(queries: &str) -> Result<Vec<String>> {
    let rules = texts(&files(RULES, "yml")?)?;
    let recorded: BTreeSet<&str> = values(&rules, "- record: ").collect();
    let exported = texts(&files(EXPORT, "rs")?)?;
    Ok(unknown_among(queries, &recorded, &exported))
}

fn unknown_among(queries: &str, recorded: &BTreeSet<&str>, exported: &str) -> Vec<String> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
    let is_metric = |name: &&str| {
        let starts = ["tls_", "tls:", "resumetry_"];
        name.contains(":tls_") || starts.iter().any(|start| name.starts_with(start))
    };
    let is_known = |name: &&str| {
        let mut bare = ["", "_total", "_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix));
        recorded.contains(name) || bare.any(|name| exported.contains(&format!("\"{name}\"")))
    };
    let code = queries.lines().filter(|line| {
        let line = line.trim();
        // Prose, and links.
        !line.starts_with('#') && !line.contains("https://")
    });
    let names: BTreeSet<&str> = code
        .flat_map(|line| line.split(|character| !is_part(character)))
        .filter(is_metric)
        .filter(|name| !is_known(name))
        .collect();
    names.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_exports_is_unknown() {
        let queries = "tls_good_total / tls_bad_total + tls:gone - tls:quota:ratio\n# tls_prose";
        let recorded = BTreeSet::from(["tls:quota:ratio"]);
        let unknown = unknown_among(queries, &recorded, "counter(\"tls_good\", 1)");
        assert_eq!(unknown, ["tls:gone", "tls_bad_total"]);
    }
}
