//! Compiles the kernel half with its own toolchain and leaves the object for the agent to embed,
//! as `resumetry.bpf.o` in `OUT_DIR`.

#[path = "../xtask/src/ebpf_toolchain.rs"]
mod ebpf_toolchain;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

/// The binary target of the package `agent-ebpf`.
const BINARY: &str = "resumetry-ebpf";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot build the kernel half: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for input in [
        "agent-ebpf/src",
        "agent-ebpf/Cargo.toml",
        "agent-ebpf/Cargo.lock",
        "agent-common/src",
        "agent-common/Cargo.toml",
        "xtask/src/ebpf_toolchain.rs",
    ] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }

    let toolchain = ebpf_toolchain::detect()
        .map_err(|missing| format!("{missing}\n`cargo xtask setup` installs what is missing"))?;
    let target = target_directory(&out).join("ebpf");
    let status = ebpf_toolchain::command(&toolchain, "build")
        .args(["--bin", BINARY, "--target-dir"])
        .arg(&target)
        .current_dir(root.join("agent-ebpf"))
        .status()
        .map_err(|error| format!("cannot start {toolchain:?}: {error}"))?;
    if !status.success() {
        return Err(format!("cargo ended with {status}, using {toolchain:?}").into());
    }
    let object = target
        .join(ebpf_toolchain::TARGET)
        .join("release")
        .join(BINARY);
    fs::copy(&object, out.join("resumetry.bpf.o"))
        .map_err(|error| format!("cannot copy {}: {error}", object.display()))?;
    Ok(())
}

/// Cargo's own target directory, which it marks with a file, or else `OUT_DIR`.
///
/// `check`, `clippy`, `test` and `build --release` each have an `OUT_DIR` of their own; one
/// directory for all of them compiles the kernel half once instead of four times.
fn target_directory(out: &Path) -> &Path {
    let is_marked = |directory: &&Path| directory.join("CACHEDIR.TAG").is_file();
    out.ancestors().find(is_marked).unwrap_or(out)
}
