//! `setup`: installs what the build, or the tests, lack.
//!
//! What is there already is left alone, whatever its origin: needs are found by program or file,
//! not by package, and the check takes a fraction of a second.

mod apt;
mod foreign;
mod needs;
mod node;
mod python;
mod root;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::ebpf_toolchain;
use crate::package;
use crate::shell;
use needs::Need;

#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Install what the tests need as well
    #[arg(long)]
    pub tests: bool,
}

/// Pinned, so that two machines build the kernel half alike.
const BPF_LINKER: &str = "bpf-linker@0.13.0";
const CARGO_DENY: &str = "cargo-deny@0.20.2";
const CARGO_DEB: &str = "cargo-deb@3.8.0";

pub fn command(arguments: &Arguments) -> Result<()> {
    if arguments.tests {
        for_tests()?;
        println!("everything the build and the tests need is installed");
    } else {
        for_build()?;
        println!("everything the build needs is installed");
    }
    Ok(())
}

/// Makes the build possible.
pub fn for_build() -> Result<()> {
    install(Vec::new())?;
    install_linker()?;
    ebpf_toolchain::detect().map_err(|missing| {
        anyhow::anyhow!("{missing}, even though everything was installed; please report this")
    })?;
    Ok(())
}

/// Makes packages possible.
pub fn for_package() -> Result<()> {
    install(needs::for_package())?;
    install_linker()?;
    install_target()?;
    install_cargo_tool("cargo-deb", CARGO_DEB, "makes the Debian package")
}

/// Makes the build and every test possible.
pub fn for_tests() -> Result<()> {
    install([needs::for_tests(), needs::for_package()].concat())?;
    foreign::fetch()?;
    root::fetch()?;
    python::install()?;
    node::install()?;
    install_components()?;
    install_cargo_tool(
        "cargo-deny",
        CARGO_DENY,
        "licences and sources of dependencies",
    )?;
    for_package()
}

/// Installs the packages that the build needs and those of `others` that are missing, at once.
fn install(others: Vec<Need>) -> Result<()> {
    let mut missing: Vec<Need> = others;
    missing.extend(needs::for_build());
    missing.retain(|need| !need.is_met());
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("missing:");
    for need in &missing {
        eprintln!("  {:<22} {}", need.package, need.reason);
    }
    apt::install(&missing.iter().map(|need| need.package).collect::<Vec<_>>())?;
    if let Some(need) = missing.iter().find(|need| !need.is_met()) {
        bail!(
            "{} is installed, but {} is still missing",
            need.package,
            need.what()
        );
    }
    Ok(())
}

fn install_linker() -> Result<()> {
    let Err(missing) = ebpf_toolchain::find_linker() else {
        return Ok(());
    };
    eprintln!("{missing}: building it with cargo, about a minute");
    let mut command = shell::cargo(&["install", BPF_LINKER, "--locked", "--force"]);
    command
        .args(["--no-default-features", "--features"])
        .arg(format!("llvm-{}", ebpf_toolchain::LLVM_MAJOR))
        .env("LLVM_PREFIX", needs::LLVM_PREFIX);
    shell::run(&mut command)
        .context("bpf-linker links the kernel half; cannot build without it")?;
    ebpf_toolchain::find_linker()
        .map_err(|missing| anyhow::anyhow!("bpf-linker was built, but {missing}"))?;
    Ok(())
}

/// Adds the standard library on musl to the Rust toolchain.
fn install_target() -> Result<()> {
    let target = package::target();
    let mut rustc = shell::rustc(&["--print", "target-libdir", "--target", &target]);
    let directory = shell::output(&mut rustc)?;
    if std::path::Path::new(directory.trim()).is_dir() {
        return Ok(());
    }
    eprintln!("the Rust toolchain has no {target}: adding it");
    let mut rustup = std::process::Command::new("rustup");
    shell::run(rustup.args(["target", "add", &target]))
        .context("the static binary needs Rust's standard library on musl")
}

fn install_cargo_tool(program: &str, package: &str, reason: &str) -> Result<()> {
    if shell::find_program(program).is_some() {
        return Ok(());
    }
    eprintln!("{program} ({reason}) is missing: building it with cargo");
    // Unoptimised: that builds in a third of the time, and a check takes a second either way.
    shell::run(&mut shell::cargo(&[
        "install",
        package,
        "--locked",
        "--profile",
        "dev",
    ]))
}

/// rustup's minimal profile has neither rustfmt nor clippy.
fn install_components() -> Result<()> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if shell::output(&mut shell::cargo(&[subcommand, "--version"])).is_err() {
            eprintln!("the Rust toolchain has no {component}: adding it");
            let mut rustup = std::process::Command::new("rustup");
            shell::run(rustup.args(["component", "add", component]))?;
        }
    }
    Ok(())
}
