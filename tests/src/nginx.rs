//! nginx with a configuration of its own, in a directory of its own.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::certs::Files;
use crate::log::{Line, read_lines};
use crate::process::Owned;
use crate::wait;

/// One port with its `server` blocks; the first name is the default one.
#[derive(Clone, Debug)]
pub struct Server {
    pub port: u16,
    /// An address to listen on besides loopback.
    pub address: Option<&'static str>,
    /// Parameters of `listen` after the address, e.g. `ssl http2`.
    pub listen: &'static str,
    /// Names served, each with its certificate; plain HTTP where `listen` lacks `ssl`.
    pub names: Vec<(String, Files)>,
    /// Directives of every `server` block on this port.
    pub directives: String,
    /// What `location /` holds.
    pub location: String,
}

impl Server {
    /// A server that answers `ok` to everything.
    pub fn new(port: u16, listen: &'static str, names: &[(String, Files)]) -> Self {
        Self {
            port,
            address: None,
            listen,
            names: names.to_vec(),
            directives: String::new(),
            location: "return 200 \"ok\\n\";".to_owned(),
        }
    }

    pub fn with(mut self, directives: impl AsRef<str>) -> Self {
        self.directives.push_str(directives.as_ref());
        self.directives.push('\n');
        self
    }

    pub fn location(mut self, location: impl Into<String>) -> Self {
        self.location = location.into();
        self
    }

    fn render(&self, out: &mut String) -> std::fmt::Result {
        for (index, (name, files)) in self.names.iter().enumerate() {
            // `deferred` belongs to the socket: nginx takes it once an address.
            let default = if index == 0 { " default_server" } else { "" };
            let listen = if index == 0 {
                self.listen.to_owned()
            } else {
                self.listen.replace(" deferred", "")
            };
            let Self {
                port,
                directives,
                location,
                ..
            } = self;
            writeln!(
                out,
                "server {{\n listen 127.0.0.1:{port} {listen}{default};"
            )?;
            writeln!(
                out,
                " listen [::1]:{port} {listen}{default};\n server_name {name};"
            )?;
            if let Some(address) = self.address {
                writeln!(out, " listen {address}:{port} {listen}{default};")?;
            }
            if self.listen.contains("ssl") {
                let (certificate, key) = (files.certificate.display(), files.key.display());
                writeln!(
                    out,
                    " ssl_certificate {certificate};\n ssl_certificate_key {key};"
                )?;
            }
            writeln!(out, " {directives}\n location / {{ {location} }}\n}}")?;
        }
        Ok(())
    }
}

/// A running nginx; it stops when dropped.
#[derive(Debug)]
pub struct Nginx {
    process: Owned,
    directory: TempDir,
}

impl Nginx {
    /// Starts nginx and waits until every port answers. `http` holds directives of the `http` block.
    pub fn start(workers: u32, http: &str, servers: &[Server]) -> Result<Self> {
        Self::start_linked(workers, http, servers, None)
    }

    /// The same, with its shared libraries taken from a directory where that has them.
    pub fn start_linked(
        workers: u32,
        http: &str,
        servers: &[Server],
        libraries: Option<&Path>,
    ) -> Result<Self> {
        let mut command = Command::new("nginx");
        if let Some(libraries) = libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        Self::start_command(command, workers, http, servers)
    }

    /// The same by a command that starts an nginx of the caller's.
    pub fn start_command(
        mut command: Command,
        workers: u32,
        http: &str,
        servers: &[Server],
    ) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("nginx.conf");
        fs::write(&config, render(directory.path(), workers, http, servers)?)?;
        let child = command
            .arg("-c")
            .arg(&config)
            .args(["-e", "error.log", "-g", "daemon off;", "-p"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("stderr.log"))?)
            .spawn()
            .context("cannot start nginx; is it installed?")?;
        let mut nginx = Self {
            process: Owned::new(child),
            directory,
        };
        for server in servers {
            let answers = wait::until(Duration::from_secs(20), || {
                TcpStream::connect(("127.0.0.1", server.port)).is_ok()
                    || !nginx.process.is_running()
            });
            if !answers || !nginx.process.is_running() {
                bail!(
                    "nginx does not serve port {}:\n{}",
                    server.port,
                    nginx.errors()
                );
            }
        }
        Ok(nginx)
    }

    /// Every request logged so far.
    pub fn log(&self) -> Result<Vec<Line>> {
        read_lines(&self.directory.path().join("access.log"))
    }

    /// What nginx complained about.
    pub fn errors(&self) -> String {
        ["error.log", "stderr.log"]
            .iter()
            .filter_map(|name| fs::read_to_string(self.directory.path().join(name)).ok())
            .collect()
    }

    /// Reads its configuration, and the files in it, again.
    pub fn reload(&self) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("process id out of range")?, Signal::HUP)?;
        Ok(())
    }

    /// The same, and waits until no process is left that had them before.
    pub fn renew(&self) -> Result<()> {
        let before = self.workers()?;
        self.reload()?;
        let renewed = wait::until(Duration::from_secs(20), || {
            self.workers().is_ok_and(|now| {
                !now.is_empty() && now.iter().all(|worker| !before.contains(worker))
            })
        });
        if !renewed {
            bail!("nginx did not reload:\n{}", self.errors());
        }
        Ok(())
    }

    /// The master's process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Process ids of the workers.
    pub fn workers(&self) -> Result<Vec<u32>> {
        let master = self.process.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        Ok(children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect())
    }

    /// Where this server's files live.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// A copy of nginx in `directory` under a name of its own, by which the agent tells its service.
pub fn program(directory: &Path, name: &str) -> Result<Command> {
    let path = std::env::var_os("PATH").context("there is no PATH")?;
    let original = std::env::split_paths(&path)
        .chain(["/usr/sbin".into()])
        .map(|directory| directory.join("nginx"))
        .find(|path| path.is_file())
        .context("cannot find nginx; is it installed?")?;
    let copy = directory.join(name);
    // A program that runs cannot be written.
    if !copy.exists() {
        fs::copy(original, &copy)?;
    }
    Ok(Command::new(copy))
}

/// A ticket key file of 80 bytes (AES-256), as `ssl_session_ticket_key` wants it.
pub fn write_ticket_key(path: PathBuf) -> Result<PathBuf> {
    let mut key = [0; 80];
    openssl::rand::rand_bytes(&mut key)?;
    fs::write(&path, key)?;
    Ok(path)
}

fn render(directory: &Path, workers: u32, http: &str, servers: &[Server]) -> Result<String> {
    let directory = directory.display();
    // Every path is under the test's own directory; workers stay root to be able to read it.
    let mut out = format!(
        r#"user root;
worker_processes {workers};
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
worker_rlimit_nofile 16384;
events {{ worker_connections 4096; }}
http {{
 client_body_temp_path {directory}/body;
 proxy_temp_path {directory}/proxy;
 fastcgi_temp_path {directory}/fastcgi;
 uwsgi_temp_path {directory}/uwsgi;
 scgi_temp_path {directory}/scgi;
 keepalive_timeout 60s;
 ssl_protocols TLSv1.2 TLSv1.3;
 log_format handshake escape=json '{{"peer":"$remote_addr","peer_port":"$remote_port",'
  '"server_port":"$server_port","announced":"$proxy_protocol_addr","announced_port":"$proxy_protocol_port",'
  '"reused":"$ssl_session_reused","protocol":"$ssl_protocol","cipher":"$ssl_cipher",'
  '"server_name":"$ssl_server_name","alpn":"$ssl_alpn_protocol","status":"$status","connection":"$pid.$connection"}}';
 access_log {directory}/access.log handshake;
 {http}
"#
    );
    for server in servers {
        server.render(&mut out)?;
    }
    out.push_str("}\n");
    Ok(out)
}
