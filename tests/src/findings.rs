//! An agent that judges servers in a cgroup of their own, and what it found.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;

use crate::agent::{Agent, binary};
use crate::cgroup::Cgroup;
use crate::{metrics, ports};

/// What a finding is about; empty where it is about no single one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub id: String,
    pub server_name: String,
    pub service: String,
}

impl Subject {
    pub fn new((id, server_name, service): (&str, &str, &str)) -> Self {
        Self {
            id: id.to_owned(),
            server_name: server_name.to_owned(),
            service: service.to_owned(),
        }
    }
}

/// The part of a finding that tests look at.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    pub id: String,
    pub severity: String,
    pub server_name: Option<String>,
    pub service: Option<String>,
    pub evidence: String,
    /// Which agent told; none where it stands between agents.
    pub url: Option<String>,
}

impl Finding {
    pub fn subject(&self) -> Subject {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Subject {
            id: self.id.clone(),
            server_name: text(&self.server_name),
            service: text(&self.service),
        }
    }
}

#[derive(Deserialize)]
struct Findings {
    findings: Vec<Finding>,
}

/// What an agent that runs says. Servers inside must have ended when it is dropped.
#[derive(Debug)]
pub struct Judge {
    agent: Agent,
    listen: SocketAddr,
    cgroup: Cgroup,
}

impl Judge {
    /// One that sees all there is to see, with these arguments besides.
    pub fn start(name: &str, arguments: &[&str]) -> Result<Self> {
        let cgroup = Cgroup::create(name)?;
        let listen: SocketAddr = ([127, 0, 0, 1], ports::free()?).into();
        let (address, path) = (listen.to_string(), cgroup.path().to_string_lossy());
        let common = ["run", "--listen", &address, "--cgroup", &path];
        let sees_all = [
            "--handshake-calls",
            "100",
            "--responses",
            "100",
            "--max-overhead",
            "none",
        ];
        let all = common.iter().chain(&sees_all).chain(arguments);
        Ok(Self {
            agent: Agent::start(all.copied())?,
            listen,
            cgroup,
        })
    }

    /// Runs `start` where what it starts is judged.
    pub fn inside<T>(&self, start: impl FnOnce() -> Result<T>) -> Result<T> {
        self.cgroup.inside(start)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// What stands.
    pub fn findings(&self) -> Result<Vec<Finding>> {
        let (status, body) = metrics::get(self.listen, "/api/v1/findings")?;
        ensure!(status == 200, "the agent answers {status}: {body}");
        Ok(serde_json::from_str::<Findings>(&body)?.findings)
    }

    /// What stands, as the metric has it.
    pub fn metric(&self) -> Result<BTreeSet<Subject>> {
        let samples = metrics::scrape(self.listen)?.into_iter();
        let ours = samples.filter(|sample| sample.name == "resumetry_finding");
        let subjects: Vec<_> = ours
            .map(|sample| {
                let [id, server_name, service] =
                    ["id", "server_name", "service"].map(|label| sample.label(label));
                Subject::new((id, server_name, service))
            })
            .collect();
        let series = subjects.len();
        let subjects: BTreeSet<_> = subjects.into_iter().collect();
        ensure!(
            series == subjects.len(),
            "a series stands twice: {subjects:?}"
        );
        Ok(subjects)
    }

    /// Ends the agent as a service manager does.
    pub fn finish(&mut self) -> Result<()> {
        let status = self.agent.finish(Signal::TERM)?;
        ensure!(status.success(), "{}", self.agent.messages());
        Ok(())
    }
}

/// What `resumetry findings` said.
#[derive(Debug)]
pub struct Said {
    pub text: String,
    pub errors: String,
    pub code: i32,
}

impl Said {
    /// What stands, of `--format json`.
    pub fn findings(&self) -> Result<Vec<Finding>> {
        let report: Findings = serde_json::from_str(&self.text)
            .with_context(|| format!("{}{}", self.text, self.errors))?;
        Ok(report.findings)
    }
}

/// `resumetry findings` at these agents.
pub fn ask(urls: &[&str], arguments: &[&str]) -> Result<Said> {
    let mut command = Command::new(binary());
    command.arg("findings").args(arguments);
    for url in urls {
        command.args(["--url", url]);
    }
    let output = command.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Said {
        text: text(&output.stdout),
        errors: text(&output.stderr),
        code: output.status.code().context("ended by a signal")?,
    })
}

/// Whether the kernel says that nobody keeps its clock right, asked by other means than the agent's.
pub fn clock_is_off() -> Result<bool> {
    /// What adjtimex(2) returns then.
    const TIME_ERROR: &str = "5";
    // A buffer of zeros changes nothing.
    let asks = "import ctypes; print(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)))";
    let output = Command::new("python3").args(["-c", asks]).output()?;
    ensure!(output.status.success(), "python3 cannot ask for the clock");
    Ok(String::from_utf8_lossy(&output.stdout).trim() == TIME_ERROR)
}
