//! Packages of Debian releases that tests read, or run from where they are unpacked: OpenSSL of
//! other releases, and a server whose installation would start it.
//!
//! They are fetched with package lists of their own and unpacked under `target/foreign/RELEASE`:
//! the system's sources and packages stay as they are.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::shell;

/// Directory, release, package: OpenSSL 1.1.1, 3.0 and 3.5, the last with a server, an nginx that
/// speaks HTTP/3, and the libc that these need to run, Caddy with the TLS of Go 1.19 and of Go 1.24, whose tickets differ,
/// Prometheus, which reads our rules, Alertmanager, which hears of alerts, and VictoriaMetrics, which
/// takes OTLP, what a root on musl needs, a kubectl that
/// knows our kustomization, and the system calls that container runtimes allow.
const PACKAGES: [(&str, &str, &str); 15] = [
    ("bullseye", "bullseye", "libssl1.1"),
    ("bookworm", "bookworm", "libssl3"),
    ("trixie", "trixie", "libssl3t64"),
    ("trixie-libc", "trixie", "libc6"),
    ("trixie-openssl", "trixie", "openssl"),
    ("trixie-nginx", "trixie", "nginx"),
    ("caddy-go1.19", "bookworm", "caddy"),
    ("caddy-go1.24", "trixie", "caddy"),
    ("prometheus", "bookworm", "prometheus"),
    ("alertmanager", "bookworm", "prometheus-alertmanager"),
    ("victoria-metrics", "trixie", "victoria-metrics"),
    ("musl", "bookworm", "musl"),
    ("busybox", "bookworm", "busybox-static"),
    ("kubectl", "trixie", "kubectl"),
    ("seccomp", "trixie", "golang-github-containers-common"),
];

/// Where the system has no mirror of Debian, being another distribution.
const MIRROR: &str = "http://deb.debian.org/debian/";
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Fetches what is not there yet.
pub fn fetch() -> Result<()> {
    for (directory, release, package) in PACKAGES {
        let directory = shell::target().join("foreign").join(directory);
        if directory.join("root").is_dir() {
            continue;
        }
        fetch_into(&directory, release, package).with_context(|| {
            format!(
                "cannot fetch {package} of Debian's {release}, which tests read. See apt's \
                 message above; or unpack it by hand with `dpkg-deb --extract` into {}/root",
                directory.display()
            )
        })?;
    }
    Ok(())
}

fn fetch_into(directory: &Path, release: &str, package: &str) -> Result<()> {
    eprintln!("{package} of Debian's {release} is missing: fetching it for tests to read");
    // What an interrupted attempt left.
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    for part in ["lists/partial", "cache/archives/partial", "partial"] {
        fs::create_dir_all(directory.join(part))?;
    }
    let sources = directory.join("sources.list");
    let mirror = mirror_or_default();
    fs::write(
        &sources,
        format!("deb [signed-by={KEYRING}] {mirror} {release} main\n"),
    )?;
    let mut options = vec![
        format!("Dir::Etc::sourcelist={}", sources.display()),
        format!("Dir::State::Lists={}", directory.join("lists").display()),
        format!("Dir::Cache={}", directory.join("cache").display()),
    ];
    options.extend(
        [
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::State::status=/dev/null",
            "APT::Architecture=amd64",
            "APT::Sandbox::User=root",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        ]
        .map(str::to_owned),
    );
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.arg("-q").current_dir(directory);
        for option in &options {
            command.args(["-o", option]);
        }
        let line = format!("apt-get … {}", arguments.join(" "));
        shell::run_as(command.args(arguments), &line)
    };
    apt(&["update"])?;
    apt(&["download", package])?;
    let archive = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded nothing")?;
    let mut dpkg = Command::new("dpkg-deb");
    let partial = directory.join("partial");
    shell::run(dpkg.arg("--extract").args([&archive, &partial]))?;
    fs::rename(partial, directory.join("root"))?;
    // The lists are 50 MB, and never looked at again.
    fs::remove_dir_all(directory.join("lists"))?;
    Ok(())
}

/// The mirror that this system uses itself, or Debian's.
pub(super) fn mirror_or_default() -> String {
    mirror().unwrap_or_else(|| MIRROR.to_owned())
}

/// The mirror of Debian that this system uses itself.
fn mirror() -> Option<String> {
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(ORIGIN) $(REPO_URI)"]);
    let targets = shell::output(apt.arg("Created-By: Packages")).ok()?;
    targets.lines().find_map(|line| {
        let mirror = line.strip_prefix("Debian ")?;
        (!mirror.contains("security")).then(|| mirror.to_owned())
    })
}
