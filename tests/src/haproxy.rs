//! HAProxy in the foreground, its log in a file.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::log::{Line, read_lines};
use crate::process::Owned;
use crate::wait;

/// One TLS port.
#[derive(Clone, Debug)]
pub struct Bind {
    pub port: u16,
    /// Parameters after `ssl crt DIRECTORY`, e.g. `no-tls-tickets`.
    pub parameters: String,
}

/// A running HAProxy; it stops when dropped.
#[derive(Debug)]
pub struct Haproxy {
    process: Owned,
    directory: TempDir,
}

impl Haproxy {
    /// `certificates` is a directory of PEM files, chosen by SNI.
    pub fn start(certificates: &Path, binds: &[Bind]) -> Result<Self> {
        Self::start_with(certificates, "", binds)
    }

    /// The same, with a line more in the `global` section.
    pub fn start_with(certificates: &Path, global: &str, binds: &[Bind]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("haproxy.cfg");
        fs::write(&config, render(certificates, global, binds)?)?;
        // No log line may be dropped: a file as standard output never blocks, and one thread (see
        // `render`) never finds the descriptor locked by another, which makes HAProxy give up.
        let child = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(fs::File::create(directory.path().join("access.log"))?)
            .stderr(fs::File::create(directory.path().join("stderr.log"))?)
            .spawn()
            .context("cannot start haproxy; is it installed?")?;
        let mut haproxy = Self {
            process: Owned::new(child),
            directory,
        };
        for bind in binds {
            let answers = wait::until(Duration::from_secs(20), || {
                TcpStream::connect(("127.0.0.1", bind.port)).is_ok()
                    || !haproxy.process.is_running()
            });
            if !answers || !haproxy.process.is_running() {
                let errors = fs::read_to_string(haproxy.directory.path().join("stderr.log"))?;
                bail!("HAProxy does not serve port {}:\n{errors}", bind.port);
            }
        }
        Ok(haproxy)
    }

    /// Every request logged so far.
    pub fn log(&self) -> Result<Vec<Line>> {
        read_lines(&self.directory.path().join("access.log"))
    }
}

fn render(certificates: &Path, global: &str, binds: &[Bind]) -> Result<String> {
    let mut out = format!("global\n {global}\n");
    out.push_str(
        r#" log stdout format raw daemon
 maxconn 4096
 nbthread 1
defaults
 mode http
 log global
 option dontlognull
 timeout client 30s
 timeout connect 5s
 timeout server 30s
 timeout http-request 30s
 error-log-format "error %ci:%cp"
 log-format '{"peer":"%ci","peer_port":"%cp","server_port":"%fp","reused":"%[ssl_fc_is_resumed]","protocol":"%[ssl_fc_protocol]","cipher":"%[ssl_fc_cipher]","server_name":"%[ssl_fc_sni]","status":"%ST"}'
frontend tls
"#,
    );
    let certificates = certificates.display();
    for Bind { port, parameters } in binds {
        for address in ["127.0.0.1", "::1"] {
            writeln!(
                out,
                " bind {address}:{port} ssl crt {certificates} {parameters}"
            )?;
        }
    }
    out.push_str(" http-request return status 200 content-type text/plain string ok\n");
    Ok(out)
}
