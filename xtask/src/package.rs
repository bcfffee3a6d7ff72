//! `package`: what is shipped, under `target/package`: the static binary, completions, man pages, and
//! a Debian package of them.

use std::env::consts::ARCH;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::Args;

use crate::setup;
use crate::shell;

#[derive(Args, Debug)]
pub struct Arguments {
    /// Only the binary
    #[arg(long)]
    binary: bool,
}

/// Profile of what is shipped, see Cargo.toml.
const PROFILE: &str = "dist";

pub fn command(arguments: &Arguments) -> Result<()> {
    setup::for_package()?;
    let binary = static_binary()?;
    println!("{}", binary.display());
    if !arguments.binary {
        println!("{}", debian(&binary)?.display());
    }
    Ok(())
}

/// Builds the binary alone; what the build needs must be installed.
pub fn binary() -> Result<()> {
    static_binary().map(drop)
}

/// Directory of what is shipped.
pub fn directory() -> PathBuf {
    shell::target().join("package")
}

/// Target triple of the C library that can be linked into the binary.
pub fn target() -> String {
    format!("{ARCH}-unknown-linux-musl")
}

/// A binary that runs on any C library, or none: musl is in it.
fn static_binary() -> Result<PathBuf> {
    let mut cargo = shell::cargo(&["build", "--package", "resumetry"]);
    shell::run(as_shipped(&mut cargo))?;
    let built = shell::target()
        .join(target())
        .join(PROFILE)
        .join("resumetry");
    fs::create_dir_all(directory())?;
    let binary = directory().join("resumetry");
    fs::copy(&built, &binary).with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(binary)
}

/// Lets cargo build what is shipped.
pub fn as_shipped(cargo: &mut Command) -> &mut Command {
    let target = target();
    cargo.args(["--profile", PROFILE, "--locked", "--target", &target]);
    // Crates with C in them ask for it by this name.
    cargo.env(format!("CC_{}", target.replace('-', "_")), "musl-gcc")
}

/// The Debian package, `resumetry_VERSION_ARCHITECTURE.deb`.
fn debian(binary: &PathBuf) -> Result<PathBuf> {
    let completions = directory().join("completions");
    let pages = directory().join("man");
    for directory in [&completions, &pages] {
        // A command that is no more must not keep its page.
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory)?;
    }
    for (name, file) in [
        ("bash", "resumetry.bash"),
        ("zsh", "_resumetry"),
        ("fish", "resumetry.fish"),
    ] {
        let text = shell::output(Command::new(binary).args(["completions", name]))?;
        fs::write(completions.join(file), text)?;
    }
    shell::run(Command::new(binary).arg("man-pages").arg(&pages))?;

    let package = directory().join(format!("resumetry_{}.deb", debian_architecture()));
    let mut cargo = shell::cargo(&["deb", "--package", "resumetry", "--no-build", "--no-strip"]);
    cargo
        .args(["--target", &target(), "--output"])
        .arg(&package);
    shell::run(&mut cargo)?;
    Ok(package)
}

/// As dpkg calls this machine.
fn debian_architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
