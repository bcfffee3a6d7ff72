//! Servers whose protocol begins in the open and goes over to TLS, and a client for all of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io, thread};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::certs::Files;
use crate::process::Owned;
use crate::{listener, ports};

/// The user that Debian's package made for PostgreSQL, which does not run as root.
const POSTGRES: &str = "postgres";
const POSTGRES_PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// Dovecot with IMAP, POP3 and LMTP; it stops when dropped.
#[derive(Debug)]
pub struct Dovecot {
    pub imap: u16,
    pub pop3: u16,
    pub lmtp: u16,
    _process: Owned,
    _directory: TempDir,
}

impl Dovecot {
    pub fn start(files: &Files) -> Result<Self> {
        let directory = open_directory()?;
        let path = directory.path().display();
        let [imap, pop3, lmtp] = [ports::free()?, ports::free()?, ports::free()?];
        // One process for all connections: each has ticket keys of its own.
        let service = |name: &str, listener: &str, port: u16| {
            format!(
                "service {name} {{\n service_count = 0\n process_min_avail = 1\n \
                 inet_listener {listener} {{\n port = {port}\n }}\n \
                 inet_listener {listener}s {{\n port = 0\n }}\n}}\n"
            )
        };
        let config = format!(
            "protocols = imap pop3 lmtp\nlisten = 127.0.0.1\nbase_dir = {path}/run\n\
             state_dir = {path}/state\nlog_path = {path}/log\nssl = yes\n\
             ssl_cert = <{}\nssl_key = <{}\nmail_location = maildir:{path}/mail\n{}{}\
             service lmtp {{\n process_limit = 1\n inet_listener lmtp {{\n port = {lmtp}\n }}\n}}\n\
             passdb {{\n driver = static\n args = nopassword=y\n}}\n\
             userdb {{\n driver = static\n args = uid=nobody gid=nogroup home=/nonexistent\n}}\n",
            files.certificate.display(),
            files.key.display(),
            service("imap-login", "imap", imap),
            service("pop3-login", "pop3", pop3),
        );
        let file = directory.path().join("dovecot.conf");
        fs::write(&file, config)?;
        let mut command = Command::new("dovecot");
        command.arg("-F").arg("-c").arg(file);
        let process = Owned::serving(command, &[imap, pop3, lmtp])?;
        Ok(Self {
            imap,
            pop3,
            lmtp,
            _process: process,
            _directory: directory,
        })
    }
}

/// PostgreSQL; it stops when dropped.
#[derive(Debug)]
pub struct Postgres {
    pub port: u16,
    _process: Owned,
    _directory: TempDir,
}

impl Postgres {
    pub fn start(files: &Files) -> Result<Self> {
        let directory = open_directory()?;
        let as_user = |program: &str| {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid", POSTGRES, "--regid", POSTGRES, "--clear-groups"])
                .arg(Path::new(POSTGRES_PROGRAMS).join(program))
                .current_dir(directory.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            command
        };
        let chown = |path: &Path| -> Result<()> {
            let owner = format!("{POSTGRES}:{POSTGRES}");
            let status = Command::new("chown").arg(owner).arg(path).status()?;
            ensure!(status.success(), "cannot give {} away", path.display());
            Ok(())
        };
        chown(directory.path())?;
        let data = directory.path().join("data");
        let status = as_user("initdb")
            .args(["--auth=trust", "--no-sync", "-D"])
            .arg(&data)
            .status()?;
        ensure!(status.success(), "initdb failed");
        let copy = |from: &PathBuf, name: &str| -> Result<PathBuf> {
            let path = data.join(name);
            fs::copy(from, &path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            chown(&path)?;
            Ok(path)
        };
        let certificate = copy(&files.certificate, "server.crt")?;
        let key = copy(&files.key, "server.key")?;
        let port = ports::free()?;
        let mut command = as_user("postgres");
        command.arg("-D").arg(&data);
        for setting in [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_directories=".to_owned(),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
        ] {
            command.arg("-c").arg(setting);
        }
        Ok(Self {
            port,
            _process: Owned::serving(command, &[port])?,
            _directory: directory,
        })
    }
}

/// A directory that other users may enter.
fn open_directory() -> Result<TempDir> {
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
    Ok(directory)
}

/// A proxy that takes CONNECT, for as long as the test runs; its port.
pub fn connect_proxy() -> Result<u16> {
    listener::serve(relay)
}

fn relay(client: TcpStream) -> Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let target = request.split(' ').nth(1).context("no target")?.to_owned();
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let server = TcpStream::connect(target)?;
    (&client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    let back = thread::spawn(move || {
        io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
    io::copy(&mut reader, &mut &server)?;
    server.shutdown(Shutdown::Write)?;
    back.join().ok();
    Ok(())
}

/// How a client goes over to TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// `-starttls` of `openssl s_client`, or none with a proxy.
    pub protocol: Option<&'static str>,
    pub proxy: Option<u16>,
    /// What ends the conversation.
    pub goodbye: &'static str,
}

/// One connection of `openssl s_client`, which keeps and offers its session in a file.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    /// The client's end, of the connection that it opens itself.
    pub port: u16,
    pub resumed: bool,
}

/// # Errors
/// When there is no handshake.
pub fn s_client(
    upgrade: Upgrade,
    server: u16,
    name: &str,
    session: &Path,
    arguments: &[&str],
) -> Result<Said> {
    let port = ports::free()?;
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-ign_eof", "-servername", name, "-bind"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("-connect")
        .arg(format!("127.0.0.1:{server}"))
        .arg("-sess_out")
        .arg(session)
        .args(arguments);
    if let Some(protocol) = upgrade.protocol {
        command.args(["-starttls", protocol]);
    }
    if let Some(proxy) = upgrade.proxy {
        command.arg("-proxy").arg(format!("127.0.0.1:{proxy}"));
    }
    if session.exists() {
        command.arg("-sess_in").arg(session);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("no stdin")?;
    let mut output = child.stdout.take().context("no stdout")?;
    let _process = Owned::new(child);
    // It may be gone before it is told to go.
    let _ = input.write_all(upgrade.goodbye.as_bytes());
    let mut said = String::new();
    output.read_to_string(&mut said)?;
    let resumed = said.contains("\nReused, ");
    ensure!(
        resumed || said.contains("\nNew, TLS"),
        "no handshake:\n{said}"
    );
    Ok(Said { port, resumed })
}
