//! Finds a toolchain that can compile the kernel half, and the command that runs it.
//!
//! The kernel half is compiled for `bpfel-unknown-none`, a target whose `core` rustup does not
//! ship. Two ways lead to one: a rustup nightly with the component `rust-src`, which builds `core`
//! itself, and Debian's `rustc-web` with `libstd-rust-web-dev-bpf`, which has it prebuilt.
//!
//! This file is shared: `agent/build.rs` includes it by path to build and embed the object, xtask
//! uses it to know what to install. It must not need anything but the standard library.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The compilation target of the kernel half: little-endian BPF.
pub const TARGET: &str = "bpfel-unknown-none";

/// Major version of the LLVM that bpf-linker is built with here. Bitcode of a newer LLVM cannot be
/// read by an older one, so a compiler beyond this is of no use.
pub const LLVM_MAJOR: u32 = 22;

/// Minor version of the oldest Rust 1.x that compiles the kernel half: what aya-ebpf and its
/// dependencies ask for.
const MIN_RUST_MINOR: u32 = 91;

const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none/lib";

/// A compiler that has, or can build, `core` for [`TARGET`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// `rustup run nightly`, with `rust-src`.
    Nightly,
    /// Debian's packages, in `/usr/bin`.
    Debian,
}

/// Everything that compiling the kernel half takes.
#[derive(Clone, Debug)]
pub struct Toolchain {
    pub compiler: Compiler,
    /// Path of bpf-linker; explicit, because `~/.cargo/bin` is often not in root's `PATH`.
    pub linker: PathBuf,
}

/// The toolchain on this machine, or what is missing, in words for the user.
pub fn detect() -> Result<Toolchain, String> {
    let compiler = find_compiler()?;
    let linker = find_linker()?;
    Ok(Toolchain { compiler, linker })
}

/// The compiler to use: a suitable nightly first, since most Rust developers have one.
pub fn find_compiler() -> Result<Compiler, String> {
    let nightly = match check_nightly() {
        Ok(()) => return Ok(Compiler::Nightly),
        Err(reason) => reason,
    };
    match check_debian() {
        Ok(()) => Ok(Compiler::Debian),
        Err(debian) => Err(format!(
            "no Rust compiler for {TARGET}: rustup: {nightly}; Debian packages: {debian}"
        )),
    }
}

/// A bpf-linker that runs: in `PATH`, or where `cargo install` puts it.
pub fn find_linker() -> Result<PathBuf, String> {
    let name = "bpf-linker";
    let mut directories: Vec<PathBuf> = match env::var_os("PATH") {
        Some(path) => env::split_paths(&path).collect(),
        None => Vec::new(),
    };
    directories.extend(cargo_bin());
    let mut broken = None;
    for candidate in directories.iter().map(|directory| directory.join(name)) {
        if !candidate.is_file() {
            continue;
        }
        // It is linked against LLVM dynamically: a removed LLVM package leaves it unable to start.
        match output_of(Command::new(&candidate).arg("--version")) {
            Ok(_) => return Ok(candidate),
            Err(error) => broken = Some(format!("{} does not run: {error}", candidate.display())),
        }
    }
    Err(broken.unwrap_or_else(|| format!("{name} is not installed")))
}

/// `cargo SUBCOMMAND` for the kernel half, in release mode, with the environment of any outer cargo
/// removed. The caller adds the working directory and `--target-dir`.
pub fn command(toolchain: &Toolchain, subcommand: &str) -> Command {
    let mut command = match toolchain.compiler {
        Compiler::Nightly => {
            let mut command = Command::new(rustup());
            // Through rustup, not by path: it sets what cargo's subcommands need to find each other.
            command.args(["run", "nightly", "cargo"]);
            command
        }
        Compiler::Debian => Command::new(DEBIAN_CARGO),
    };
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(belongs_to_outer_cargo) {
            command.env_remove(&name);
        }
    }
    command.args([subcommand, "--release", "--target", TARGET]);
    match toolchain.compiler {
        Compiler::Nightly => {
            command.args(["-Z", "build-std=core"]);
        }
        Compiler::Debian => {
            // aya-ebpf uses unstable features; this lets a stable compiler accept them.
            command
                .env("RUSTC_BOOTSTRAP", "1")
                .env("RUSTC", DEBIAN_RUSTC);
        }
    }
    // Unit separators rather than spaces, since the linker's path may hold spaces. `--btf` makes
    // bpf-linker emit the type information that the maps and the verifier's messages need.
    let flags = format!(
        "-Cdebuginfo=2\x1f-Clink-arg=--btf\x1f-Clinker={}",
        toolchain.linker.display()
    );
    command
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS", "fallback");
    command
}

/// Variables by which a cargo, rustup or build script steers what runs inside it. Settings of the
/// user that a nested cargo needs as well (home, proxy, registries, offline) stay.
fn belongs_to_outer_cargo(name: &str) -> bool {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRY_",
        "CARGO_REGISTRIES_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    const REMOVED_PREFIXES: [&str; 3] = ["CARGO", "RUST", "DEP_"];
    const REMOVED: [&str; 8] = [
        // A build script finds its own toolchain's libraries here; they are not the other's.
        "LD_LIBRARY_PATH",
        "TARGET",
        "HOST",
        "PROFILE",
        "DEBUG",
        "OPT_LEVEL",
        "NUM_JOBS",
        "OUT_DIR",
    ];
    let kept = name == "RUSTUP_HOME" || KEPT.iter().any(|prefix| name.starts_with(prefix));
    !kept
        && (REMOVED.contains(&name)
            || REMOVED_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix)))
}

fn check_nightly() -> Result<(), String> {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(rustup());
        command.args(["run", "nightly", "rustc"]).args(arguments);
        command
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("LD_LIBRARY_PATH");
        output_of(&mut command)
    };
    let sysroot = run(&["--print", "sysroot"]).map_err(|_| "no nightly toolchain".to_owned())?;
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    if !library.is_dir() {
        return Err("nightly has no component rust-src".to_owned());
    }
    check_version(&run(&["-vV"])?)
}

fn check_debian() -> Result<(), String> {
    if !Path::new(DEBIAN_CARGO).is_file() {
        return Err("cargo-web is not installed".to_owned());
    }
    let core = fs::read_dir(DEBIAN_CORE)
        .ok()
        .into_iter()
        .flatten()
        .flatten();
    if !core
        .map(|entry| entry.file_name())
        .any(|name| name.to_string_lossy().starts_with("libcore-"))
    {
        return Err("libstd-rust-web-dev-bpf is not installed".to_owned());
    }
    check_version(&output_of(Command::new(DEBIAN_RUSTC).arg("-vV"))?)
}

/// Checks the lines `release: 1.96.0` and `LLVM version: 22.1.8` of `rustc -vV`.
fn check_version(version: &str) -> Result<(), String> {
    let field = |name: &str| {
        let value = version.lines().find_map(|line| line.strip_prefix(name));
        value.ok_or_else(|| format!("its `rustc -vV` has no line `{name}`"))
    };
    let number = |value: &str, place| value.split('.').nth(place)?.parse::<u32>().ok();
    let release = field("release: ")?;
    if number(release, 1).is_none_or(|minor| minor < MIN_RUST_MINOR) {
        return Err(format!("it is {release}, older than 1.{MIN_RUST_MINOR}"));
    }
    let llvm = field("LLVM version: ")?;
    if number(llvm, 0).is_none_or(|major| major > LLVM_MAJOR) {
        return Err(format!(
            "its LLVM is {llvm}, newer than the {LLVM_MAJOR} that bpf-linker is built with"
        ));
    }
    Ok(())
}

fn rustup() -> PathBuf {
    match cargo_bin().map(|bin| bin.join("rustup")) {
        Some(path) if path.is_file() => path,
        _ => PathBuf::from("rustup"),
    }
}

/// Where `cargo install` puts programs.
pub fn cargo_bin() -> Option<PathBuf> {
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(env::var_os("HOME")?).join(".cargo"),
    };
    Some(home.join("bin"))
}

/// Standard output of a command that must succeed, or why it did not.
fn output_of(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        let first = message.lines().next().unwrap_or_default();
        return Err(format!("{}: {first}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_a_compiler_that_fits_the_linker() {
        let version = "rustc 1.96.0\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(check_version(version), Ok(()));
    }

    #[test]
    fn rejects_bitcode_that_the_linker_cannot_read() {
        let version = "release: 1.99.0-nightly\nLLVM version: 23.1.0\n";
        assert!(check_version(version).is_err_and(|reason| reason.contains("23.1.0")));
    }

    #[test]
    fn rejects_a_compiler_that_is_too_old() {
        let version = "release: 1.85.1\nLLVM version: 19.1.7\n";
        assert!(check_version(version).is_err_and(|reason| reason.contains("1.85.1")));
    }

    #[test]
    fn removes_what_an_outer_cargo_sets_and_keeps_what_the_user_set() {
        for name in [
            "RUSTC",
            "RUSTUP_TOOLCHAIN",
            "CARGO_ENCODED_RUSTFLAGS",
            "OUT_DIR",
            "CARGO",
        ] {
            assert!(belongs_to_outer_cargo(name), "{name}");
        }
        for name in [
            "CARGO_HOME",
            "RUSTUP_HOME",
            "CARGO_NET_OFFLINE",
            "PATH",
            "HTTPS_PROXY",
        ] {
            assert!(!belongs_to_outer_cargo(name), "{name}");
        }
    }
}
