//! Running programs, and where things are.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The top of the repository.
pub fn root() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// The cargo that runs this program, at the top of the repository.
pub fn cargo(arguments: &[&str]) -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// The compiler that goes with [`cargo`].
pub fn rustc(arguments: &[&str]) -> Command {
    let program = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Cargo's directory of what was built.
pub fn target() -> PathBuf {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(path) => root().join(path),
        None => root().join("target"),
    }
}

/// A program that `cargo build --release` made.
pub fn release_binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// Shows the command, runs it to its end and fails when it does.
pub fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    run_as(command, &line)
}

/// Like [`run`], for a command that says less to a reader than `line` does.
pub fn run_as(command: &mut Command, line: &str) -> Result<()> {
    eprintln!("+ {line}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Becomes the command; returns only when it cannot be started.
pub fn exec(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", shown(command));
    let error = command.exec();
    Err(error).with_context(|| format!("cannot start {}", shown(command)))
}

/// Standard output of a command that must succeed, trimmed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}: {}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Path of a program, in `PATH` or where a user's `PATH` often does not look.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(crate::ebpf_toolchain::cargo_bin())
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Whether the effective user is root: it owns this process' entry in /proc.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// The command line as a person would type it, near enough.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let mut line = name.to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
