//! Those who watch the fleet: Prometheus with our rules at another pace, and Alertmanager, which tells
//! of what fires.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use resumetry_tests::metrics::get;
use resumetry_tests::process::Owned;
use resumetry_tests::prometheus::{Prometheus, board_queries};
use resumetry_tests::repository;
use resumetry_tests::{ports, wait};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

/// An alert that Alertmanager told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub name: String,
    /// Empty where it is about more than one.
    pub instance: String,
}

pub struct Watch {
    prometheus: Prometheus,
    fired: Arc<Mutex<Vec<Alert>>>,
    _alertmanager: Owned,
    _directory: TempDir,
}

/// A notification, as far as it matters.
#[derive(Deserialize)]
struct Notification {
    alerts: Vec<Value>,
}

impl Watch {
    pub fn start(pace: u32, targets: &[SocketAddr]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (hook, fired) = listen()?;
        let (alertmanager, address) = alertmanager(directory.path(), hook)?;
        let rules = directory.path().join("rules");
        fs::create_dir(&rules)?;
        for entry in fs::read_dir(repository().join("deploy/prometheus/rules"))? {
            let path = entry?.path();
            let text = faster(&fs::read_to_string(&path)?, pace)?;
            fs::write(rules.join(path.file_name().context("no name")?), text)?;
        }
        let targets: Vec<String> = targets.iter().map(|target| format!("'{target}'")).collect();
        let prometheus = Prometheus::start_with(
            &rules,
            "500ms",
            &format!(
                "alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{address}']}}]}}]}}\n\
                 scrape_configs:\n  - job_name: resumetry\n    \
                 static_configs: [{{targets: [{}]}}]\n",
                targets.join(", ")
            ),
            &[],
        )?;
        Ok(Self {
            prometheus,
            fired,
            _alertmanager: alertmanager,
            _directory: directory,
        })
    }

    pub fn prometheus(&self) -> &Prometheus {
        &self.prometheus
    }

    /// What fired so far, in the order in which Alertmanager told of it.
    pub fn fired(&self) -> Vec<Alert> {
        self.fired
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Names of what fires now.
    pub fn firing(&self) -> Result<BTreeSet<String>> {
        let alerts = self.prometheus.query("ALERTS")?;
        Ok(alerts
            .iter()
            .map(|series| series.label("alertname").to_owned())
            .collect())
    }

    /// What went on in the last minute, for whoever wonders why an alert fired.
    pub fn evidence(&self) -> Result<String> {
        let mut text = String::new();
        for query in [
            "role:tls_resumption_quota:ratio_rate5m{role=\"server\"}",
            "role:tls_handshakes:rate5m{role=\"server\"}",
            "sum by (instance, reason) (rate(tls_resumption_rejections_total[2s]))",
            "sum by (instance, result) (rate(tls_handshakes_total[2s]))",
        ] {
            for line in self.prometheus.range(query, 60.0, 2.0)? {
                let values: Vec<String> = line
                    .points
                    .iter()
                    .map(|(_, value)| format!("{value:.2}"))
                    .collect();
                text.push_str(&format!(
                    "{query} {:?}\n  {}\n",
                    line.metric,
                    values.join(" ")
                ));
            }
        }
        Ok(text)
    }

    /// Every query of every board has an answer, but those that need not have one.
    pub fn check_boards(&self) -> Result<()> {
        let mut empty = Vec::new();
        for asked in board_queries()? {
            let answer = self.prometheus.query(&asked.query)?;
            if answer.is_empty() && !asked.may_be_empty {
                empty.push(format!("{}: {}: {}", asked.board, asked.panel, asked.query));
            }
        }
        ensure!(empty.is_empty(), "no data for:\n{}", empty.join("\n"));
        Ok(())
    }
}

/// Rules whose durations are shorter by `pace`.
fn faster(text: &str, pace: u32) -> Result<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(index) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let (before, from) = rest.split_at(index);
        out.push_str(before);
        let end = from
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(from.len());
        let (digits, after) = from.split_at(end);
        let starts = ["[", "offset ", "for: "];
        let is_duration = starts.iter().any(|start| out.ends_with(start));
        let unit = match after.chars().next() {
            Some('s') => 1_000,
            Some('m') => 60_000,
            Some('h') => 3_600_000,
            Some('d') => 86_400_000,
            _ => 0,
        };
        if is_duration && unit > 0 {
            let milliseconds = digits.parse::<u64>()? * unit / u64::from(pace);
            out.push_str(&format!("{milliseconds}ms"));
            rest = &after[1..];
        } else {
            out.push_str(digits);
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Debian's looks for its templates where its package would put them.
const UNPACKED: &str = "mount -t overlay overlay -o \"lowerdir=$1/usr/share:/usr/share\" /usr/share && \
     root=$1 && shift && exec \"$root/usr/bin/prometheus-alertmanager\" \"$@\"";

/// Alertmanager (Debian's, unpacked), which tells `hook` of everything at once.
fn alertmanager(directory: &std::path::Path, hook: SocketAddr) -> Result<(Owned, SocketAddr)> {
    let configuration = format!(
        "route: {{receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 1s, \
         repeat_interval: 24h}}\n\
         receivers: [{{name: hook, webhook_configs: [{{url: 'http://{hook}/', send_resolved: false}}]}}]\n"
    );
    let file = directory.join("alertmanager.yml");
    fs::write(&file, configuration)?;
    let address: SocketAddr = ([127, 0, 0, 1], ports::free()?).into();
    let unpacked = repository()
        .join("target/foreign/alertmanager/root")
        .canonicalize()?;
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", UNPACKED, "sh"])
        .arg(&unpacked)
        .arg(format!("--config.file={}", file.display()))
        .arg(format!(
            "--storage.path={}",
            directory.join("alerts").display()
        ))
        .arg(format!("--web.listen-address={address}"))
        // It is alone.
        .arg("--cluster.listen-address=")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(directory.join("alertmanager.log"))?)
        .spawn()
        .context("cannot run Alertmanager; `cargo xtask setup --tests` fetches it")?;
    let process = Owned::new(child);
    let ready = || get(address, "/-/ready").is_ok_and(|(status, _)| status == 200);
    if !wait::until(Duration::from_secs(30), ready) {
        let log = fs::read_to_string(directory.join("alertmanager.log"))?;
        bail!("Alertmanager does not start:\n{log}");
    }
    Ok((process, address))
}

/// Takes notifications.
fn listen() -> Result<(SocketAddr, Arc<Mutex<Vec<Alert>>>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let fired: Arc<Mutex<Vec<Alert>>> = Arc::default();
    let sink = Arc::clone(&fired);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            match notification(stream) {
                Ok(alerts) => sink
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(alerts),
                Err(error) => eprintln!("a notification cannot be read: {error:#}"),
            }
        }
    });
    Ok((address, fired))
}

fn notification(mut stream: TcpStream) -> Result<Vec<Alert>> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let notification: Notification = serde_json::from_slice(&body)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(notification
        .alerts
        .iter()
        .filter(|alert| alert["status"] == "firing")
        .map(|alert| Alert {
            name: text(&alert["labels"]["alertname"]),
            instance: text(&alert["labels"]["instance"]),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shorter_and_nothing_else_changes() -> Result<()> {
        let text = "expr: rate(x:rate5m[5m] offset 10m) * 300 > 0.5\nfor: 2m # 3m\n";
        let shorter = "expr: rate(x:rate5m[5000ms] offset 10000ms) * 300 > 0.5\nfor: 2000ms # 3m\n";
        assert_eq!(faster(text, 60)?, shorter);
        Ok(())
    }
}
