//! A real Prometheus (Debian's, unpacked, not installed), with a configuration of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::metrics::{encoded, get};
use crate::process::Owned;
use crate::{ports, repository, wait};

/// It stops, and forgets everything, when dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Owned,
    address: SocketAddr,
    directory: TempDir,
}

/// One series of an answer, with its latest value.
#[derive(Clone, Debug, Deserialize)]
pub struct Series {
    pub metric: BTreeMap<String, String>,
    value: (f64, String),
}

/// One series of a query over a time.
#[derive(Clone, Debug)]
pub struct Range {
    pub metric: BTreeMap<String, String>,
    /// Unix time in seconds, and value.
    pub points: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct Matrix {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

impl Series {
    pub fn value(&self) -> f64 {
        self.value.1.parse().unwrap_or(f64::NAN)
    }

    pub fn label(&self, name: &str) -> &str {
        self.metric.get(name).map_or("", String::as_str)
    }
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    result: serde_json::Value,
}

impl Prometheus {
    /// Scrapes as `scrape_configs` says, once a second, and evaluates our rules as often. It prefers
    /// protocol buffers and keeps native histograms.
    pub fn start(scrape_configs: &str) -> Result<Self> {
        let rules = repository().join("deploy/prometheus/rules");
        let rest = format!("scrape_configs:\n{scrape_configs}");
        Self::start_with(&rules, "1s", &rest, &["--enable-feature=native-histograms"])
    }

    /// The same with rules of a directory of the caller's, at another pace, and with all else that
    /// its configuration holds.
    pub fn start_with(rules: &Path, interval: &str, rest: &str, flags: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let configuration = format!(
            "global: {{scrape_interval: {interval}, evaluation_interval: {interval}}}\n\
             rule_files: ['{}/*.yml']\n{rest}",
            rules.display()
        );
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, configuration)?;
        let address: SocketAddr = ([127, 0, 0, 1], ports::free()?).into();
        let program = repository().join("target/foreign/prometheus/root/usr/bin/prometheus");
        let child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("log"))?)
            .spawn()
            .context("cannot run Prometheus; `cargo xtask setup --tests` fetches it")?;
        let mut prometheus = Self {
            process: Owned::new(child),
            address,
            directory,
        };
        let is_ready = |prometheus: &Self| {
            get(prometheus.address, "/-/ready").is_ok_and(|(status, _)| status == 200)
        };
        let answers = wait::until(Duration::from_secs(30), || {
            is_ready(&prometheus) || !prometheus.process.is_running()
        });
        if !answers || !prometheus.process.is_running() {
            bail!("Prometheus does not start:\n{}", prometheus.log());
        }
        Ok(prometheus)
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// What a query gives now.
    pub fn query(&self, query: &str) -> Result<Vec<Series>> {
        self.ask("query", query, "")
    }

    /// What a query gave in the last `seconds`, every `step` seconds.
    pub fn range(&self, query: &str, seconds: f64, step: f64) -> Result<Vec<Range>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        let further = format!("&start={:.3}&end={now:.3}&step={step:.3}", now - seconds);
        let answer: Vec<Matrix> = self.ask("query_range", query, &further)?;
        Ok(answer
            .into_iter()
            .map(|Matrix { metric, values }| Range {
                metric,
                points: values
                    .into_iter()
                    .map(|(time, value)| (time, value.parse().unwrap_or(f64::NAN)))
                    .collect(),
            })
            .collect())
    }

    fn ask<T: DeserializeOwned>(&self, path: &str, query: &str, further: &str) -> Result<T> {
        let target = format!("/api/v1/{path}?query={}{further}", encoded(query));
        let (_, body) = get(self.address, &target)?;
        let answer: Answer =
            serde_json::from_str(&body).with_context(|| format!("{query}: {body}"))?;
        ensure!(answer.status == "success", "{query}: {}", answer.error);
        let data = answer.data.context("an answer without data")?;
        serde_json::from_value(data.result).with_context(|| format!("{query}: {body}"))
    }

    /// The value of a query that gives one.
    pub fn one(&self, query: &str) -> Result<Option<f64>> {
        Ok(self.query(query)?.first().map(Series::value))
    }
}

/// As `cargo xtask dashboards --queries` prints them.
#[derive(Debug, Deserialize)]
pub struct BoardQuery {
    pub board: String,
    pub panel: String,
    pub query: String,
    pub may_be_empty: bool,
}

/// What our boards ask.
pub fn board_queries() -> Result<Vec<BoardQuery>> {
    let output = Command::new("cargo")
        .args(["xtask", "dashboards", "--queries"])
        .current_dir(repository())
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout)?;
    text.lines()
        .map(|line| Ok(serde_json::from_str(line)?))
        .collect()
}
