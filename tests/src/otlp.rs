//! Receivers of OTLP that are not ours: a store, and a gRPC server of another implementation. Both
//! speak TLS only and want to know who sends.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::certs::Files;
use crate::metrics::{Sample, encoded, parse};
use crate::process::Owned;
use crate::{repository, wait};

/// User and password of the store, and what HTTP makes of them.
const USER: &str = "agent:sesame";
pub const BASIC: &str = "authorization=Basic YWdlbnQ6c2VzYW1l";
/// What the gRPC receiver wants to hear.
pub const BEARER: &str = "authorization=Bearer sesame";

/// VictoriaMetrics (Debian's, unpacked), on a port that stays the same when it is started again.
#[derive(Debug)]
pub struct Store {
    process: Owned,
    port: u16,
    directory: PathBuf,
    files: Files,
}

impl Store {
    pub fn start(port: u16, directory: &Path, files: &Files) -> Result<Self> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(directory.join("log"))?;
        let (user, password) = USER.split_once(':').context("no password")?;
        let program =
            repository().join("target/foreign/victoria-metrics/root/usr/bin/victoria-metrics");
        let child = Command::new(program)
            .arg(format!(
                "-storageDataPath={}",
                directory.join("data").display()
            ))
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            .args(["-tls", "-opentelemetry.usePrometheusNaming"])
            .arg(format!("-tlsCertFile={}", files.certificate.display()))
            .arg(format!("-tlsKeyFile={}", files.key.display()))
            .arg(format!("-httpAuth.username={user}"))
            .arg(format!("-httpAuth.password={password}"))
            // What was stored is to be seen at once.
            .args(["-search.latencyOffset=0s", "-search.disableCache"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run VictoriaMetrics; `cargo xtask setup --tests` fetches it")?;
        let mut store = Self {
            process: Owned::new(child),
            port,
            directory: directory.to_owned(),
            files: files.clone(),
        };
        let answers = wait::until(Duration::from_secs(30), || {
            store.get("/health").is_ok() || !store.process.is_running()
        });
        if !answers || !store.process.is_running() {
            let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
            bail!("VictoriaMetrics does not start:\n{log}");
        }
        Ok(store)
    }

    /// Ends it; what it stored stays.
    pub fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        self.process
            .wait(Duration::from_secs(20))
            .context("VictoriaMetrics does not end")?;
        Ok(())
    }

    fn get(&self, path: &str) -> Result<String> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--user", USER])
            .arg("--cacert")
            .arg(&self.files.certificate)
            .arg(format!("https://localhost:{}{path}", self.port))
            .output()?;
        ensure!(
            output.status.success(),
            "{path}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The latest value of every series that `match` selects.
    pub fn latest(&self, selector: &str) -> Result<Vec<Sample>> {
        self.get(&format!("/federate?match%5B%5D={}", encoded(selector)))?
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| parse(line).with_context(|| format!("bad sample: {line}")))
            .collect()
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Python's gRPC, on a port that stays the same when it is started again.
#[derive(Debug)]
pub struct GrpcReceiver {
    process: Owned,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl GrpcReceiver {
    pub fn start(port: u16, files: &Files) -> Result<Self> {
        let mut child = Command::new(repository().join("target/python/bin/python"))
            .arg(repository().join("tests/src/programs/otlp_receiver.py"))
            .args(["--port", &port.to_string()])
            .arg("--certificate")
            .arg(&files.certificate)
            .arg("--key")
            .arg(&files.key)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run Python; `cargo xtask setup --tests` installs what it needs")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(value);
            }
        });
        let receiver = Self {
            process: Owned::new(child),
            lines,
        };
        let listens = wait::until(Duration::from_secs(30), || !receiver.lines().is_empty());
        ensure!(listens, "the gRPC receiver does not listen");
        Ok(receiver)
    }

    /// What it got so far; the first line says that it listens.
    pub fn lines(&self) -> Vec<Value> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Log records so far, each with the attributes of its resource and its own.
    pub fn log_records(&self) -> Vec<(Value, Value)> {
        let lines = self.lines();
        let resources = lines.iter().flat_map(|line| array(&line["resource_logs"]));
        resources
            .flat_map(|part| {
                let resource = attributes(&part["resource"]["attributes"]);
                let records = array(&part["scope_logs"])
                    .iter()
                    .flat_map(|scope| array(&scope["log_records"]));
                records.map(move |record| (resource.clone(), attributes(&record["attributes"])))
            })
            .collect()
    }

    /// The sum of the latest values of a counter, by service.
    pub fn counter(&self, name: &str) -> Option<u64> {
        let lines = self.lines();
        lines.iter().rev().find_map(|line| {
            let mut sum = None;
            for part in array(&line["resource_metrics"]) {
                for scope in array(&part["scope_metrics"]) {
                    for metric in array(&scope["metrics"]) {
                        if metric["name"] == name {
                            let points = array(&metric["sum"]["data_points"]).iter();
                            let value: u64 = points
                                .filter_map(|point| point["as_int"].as_str()?.parse::<u64>().ok())
                                .sum();
                            *sum.get_or_insert(0) += value;
                        }
                    }
                }
            }
            sum
        })
    }

    pub fn stop(mut self) {
        self.process.stop(Duration::from_secs(10));
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Key-value pairs as one object; whole numbers as text, as JSON of protocol buffers has them.
fn attributes(pairs: &Value) -> Value {
    array(pairs)
        .iter()
        .filter_map(|pair| {
            let value = pair["value"].as_object()?.values().next()?.clone();
            Some((pair["key"].as_str()?.to_owned(), value))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}
