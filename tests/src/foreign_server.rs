//! OpenSSL of another Debian release as a server, and how fast it says that it is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::certs::Files;
use crate::ports;
use crate::process::Owned;

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

fn unpacked(package: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/foreign")
        .join(package)
        .join("root")
}

/// OpenSSL's program of that release, to be given a command.
fn openssl() -> Result<Command> {
    trixie("trixie-openssl", "usr/bin/openssl")
}

/// A program of Debian's trixie with the libraries of that release, where they were fetched.
pub fn trixie(package: &str, program: &str) -> Result<Command> {
    let libraries = ["trixie-libc", "trixie"].map(|package| unpacked(package).join(LIBRARIES));
    let mut path = std::env::join_paths(&libraries)?;
    // What it shares with this system, such as libz.
    path.push(format!(":/{LIBRARIES}"));
    let mut command = Command::new(libraries[0].join("ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(path)
        .arg(unpacked(package).join(program));
    Ok(command)
}

/// A program of the oldest Debian that packages are tried on.
pub fn oldest(program: &str) -> Command {
    let root = crate::repository().join("target/foreign/debian-root");
    let libraries = root.join(LIBRARIES);
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(libraries)
        .arg(root.join(program));
    command
}

/// `openssl s_server` of Debian's trixie (OpenSSL 3.5), with the libc it needs; it stops when dropped.
#[derive(Debug)]
pub struct ForeignServer {
    _process: Owned,
    pub port: u16,
}

impl ForeignServer {
    pub fn start(files: &Files) -> Result<Self> {
        let (port, process) = s_server(openssl()?, files, &[])?;
        Ok(Self {
            _process: process,
            port,
        })
    }
}

/// `s_server` of some `openssl`, with these arguments besides; its port, and what ends it.
pub fn s_server(mut openssl: Command, files: &Files, arguments: &[&str]) -> Result<(u16, Owned)> {
    let port = ports::free()?;
    openssl
        .args(["s_server", "-www", "-quiet", "-accept"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("-cert")
        .arg(&files.certificate)
        .arg("-key")
        .arg(&files.key)
        .args(arguments)
        .stdout(Stdio::null());
    Ok((port, Owned::serving(openssl, &[port])?))
}

/// Times per second that OpenSSL 3.5 can do things, by its own measurement (`openssl speed`).
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Encapsulation to X25519MLKEM768, which is what a server does.
    pub encapsulations: f64,
    /// Signatures with RSA-2048.
    pub signatures: f64,
}

/// # Errors
/// When it cannot be run, or says something else.
pub fn speed() -> Result<Speed> {
    let output = openssl()?
        .args(["speed", "-seconds", "1", "X25519MLKEM768", "rsa2048"])
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // A row is the name, three or fewer times in seconds, and as many rates.
    let rates = |name: &str| -> Result<Vec<f64>> {
        let row = text.lines().find_map(|line| line.trim().strip_prefix(name));
        let numbers = row.with_context(|| format!("no row {name} in {text}"))?;
        Ok(numbers
            .split_ascii_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect())
    };
    let (hybrid, rsa) = (rates("X25519MLKEM768")?, rates("rsa  2048 bits")?);
    Ok(Speed {
        // Key generation, encapsulation, decapsulation.
        encapsulations: *hybrid.get(1).context("no rate of encapsulations")?,
        signatures: *rsa.first().context("no rate of signatures")?,
    })
}
