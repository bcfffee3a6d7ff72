//! Apache httpd with its TLS module.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::certs::Files;
use crate::process::Owned;
use crate::wait;

/// One TLS port.
#[derive(Clone, Debug)]
pub struct VirtualHost {
    pub port: u16,
    pub certificate: Files,
    /// `SSLSessionTicketKeyFile` of 48 bytes; OpenSSL's own keys where there is none.
    pub ticket_key: Option<PathBuf>,
    /// Further directives.
    pub directives: String,
}

/// A running httpd; it stops when dropped.
#[derive(Debug)]
pub struct Apache {
    process: Owned,
    directory: TempDir,
}

impl Apache {
    /// Starts httpd and waits until every port answers.
    pub fn start(hosts: &[VirtualHost]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        fs::create_dir(directory.path().join("www"))?;
        fs::write(directory.path().join("www/index.html"), "ok\n")?;
        let config = directory.path().join("httpd.conf");
        fs::write(
            &config,
            render(&directory.path().display().to_string(), hosts)?,
        )?;
        let child = Command::new("apache2")
            .args(["-D", "FOREGROUND", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("stderr.log"))?)
            // Once told to end, it ends its process group.
            .process_group(0)
            .spawn()
            .context("cannot start apache2; is it installed?")?;
        let mut apache = Self {
            process: Owned::new(child),
            directory,
        };
        for host in hosts {
            let answers = wait::until(Duration::from_secs(20), || {
                TcpStream::connect(("127.0.0.1", host.port)).is_ok() || !apache.process.is_running()
            });
            if !answers || !apache.process.is_running() {
                bail!(
                    "Apache does not serve port {}:\n{}",
                    host.port,
                    apache.errors()
                );
            }
        }
        Ok(apache)
    }

    fn errors(&self) -> String {
        ["error.log", "stderr.log"]
            .iter()
            .filter_map(|name| fs::read_to_string(self.directory.path().join(name)).ok())
            .collect()
    }
}

fn render(directory: &str, hosts: &[VirtualHost]) -> Result<String> {
    let mut out = String::new();
    for module in ["mpm_event", "authz_core", "dir", "ssl"] {
        writeln!(
            out,
            "LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so"
        )?;
    }
    // One child from the start: of those started later, httpd 2.4 with OpenSSL 3.0 lets some refuse
    // every ticket as corrupt, with and without an agent.
    write!(
        out,
        "ServerLimit 1\n\
         StartServers 1\n\
         ThreadsPerChild 32\n\
         MaxRequestWorkers 32\n\
         MinSpareThreads 1\n\
         MaxSpareThreads 32\n\
         ServerRoot {directory}\n\
         ServerName localhost\n\
         PidFile {directory}/httpd.pid\n\
         ErrorLog {directory}/error.log\n\
         DefaultRuntimeDir {directory}\n\
         DocumentRoot {directory}/www\n\
         SSLSessionCache none\n"
    )?;
    for host in hosts {
        let VirtualHost {
            port,
            certificate,
            ticket_key,
            directives,
        } = host;
        let ticket_key = ticket_key.as_ref().map_or_else(String::new, |path| {
            format!("SSLSessionTicketKeyFile {}", path.display())
        });
        writeln!(
            out,
            "Listen 127.0.0.1:{port}\n\
             <VirtualHost 127.0.0.1:{port}>\n\
             SSLEngine on\n\
             SSLCertificateFile {}\n\
             SSLCertificateKeyFile {}\n\
             SSLOpenSSLConfCmd Curves P-256\n\
             {ticket_key}\n\
             {directives}\n\
             </VirtualHost>",
            certificate.certificate.display(),
            certificate.key.display(),
        )?;
    }
    Ok(out)
}

/// Writes a ticket key file of 48 bytes (AES-128), as `SSLSessionTicketKeyFile` wants it.
pub fn write_ticket_key(path: PathBuf) -> Result<PathBuf> {
    let mut key = [0; 48];
    openssl::rand::rand_bytes(&mut key)?;
    fs::write(&path, key)?;
    Ok(path)
}
