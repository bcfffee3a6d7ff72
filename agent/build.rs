//! Temporary: replaced by the shared toolchain detection.
use std::process::Command;
fn main() {
    println!("cargo:rerun-if-changed=../agent-ebpf/src");
    println!("cargo:rerun-if-changed=../agent-common/src");
    let out = std::env::var("OUT_DIR").unwrap();
    let mut c = Command::new("/usr/bin/cargo");
    for (k, _) in std::env::vars() {
        if k.starts_with("CARGO") || k.starts_with("RUST") {
            c.env_remove(k);
        }
    }
    c.env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTFLAGS", "-C debuginfo=2 -C link-arg=--btf")
        .env("CARGO_RESOLVER_INCOMPATIBLE_RUST_VERSIONS", "fallback");
    c.current_dir("../agent-ebpf")
        .args([
            "build",
            "--release",
            "--target",
            "bpfel-unknown-none",
            "--target-dir",
        ])
        .arg(format!("{out}/ebpf"));
    assert!(c.status().unwrap().success());
    std::fs::copy(
        format!("{out}/ebpf/bpfel-unknown-none/release/resumetry-ebpf"),
        format!("{out}/resumetry.bpf.o"),
    )
    .unwrap();
}
