//! What must be on the machine, how to see whether it is, and Debian's package for it.

use std::path::Path;

use crate::ebpf_toolchain;
use crate::shell;

/// Debian's place for the LLVM that bpf-linker links with.
pub const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// One thing that must be there.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    sign: Sign,
    /// Debian's name for it.
    pub package: &'static str,
    /// Completes "is needed for …".
    pub reason: &'static str,
}

/// How to see that a need is met.
#[derive(Clone, Copy, Debug)]
enum Sign {
    Program(&'static str),
    File(&'static str),
}

impl Need {
    pub fn is_met(&self) -> bool {
        match self.sign {
            Sign::Program(name) => shell::find_program(name).is_some(),
            Sign::File(path) => Path::new(path).exists(),
        }
    }

    pub fn what(&self) -> &'static str {
        match self.sign {
            Sign::Program(what) | Sign::File(what) => what,
        }
    }
}

const fn program(name: &'static str, package: &'static str, reason: &'static str) -> Need {
    Need {
        sign: Sign::Program(name),
        package,
        reason,
    }
}

const fn file(path: &'static str, package: &'static str, reason: &'static str) -> Need {
    Need {
        sign: Sign::File(path),
        package,
        reason,
    }
}

/// A Rust compiler for BPF, from Debian 12's own packages. It lives in /usr/bin, beside rustup's
/// and not in its place.
const COMPILER: [Need; 3] = [
    file("/usr/bin/rustc", "rustc-web", "compiles the kernel half"),
    file("/usr/bin/cargo", "cargo-web", "builds the kernel half"),
    file(
        "/usr/lib/rustlib/bpfel-unknown-none/lib",
        "libstd-rust-web-dev-bpf",
        "Rust's core library for BPF",
    ),
];

/// What `cargo install bpf-linker` links with.
const LINKER: [Need; 3] = [
    file(
        "/usr/lib/llvm-22/include/llvm-c",
        "llvm-22-dev",
        "bpf-linker is built with it",
    ),
    file(
        "/usr/lib/llvm-22/lib/libPolly.a",
        "libpolly-22-dev",
        "bpf-linker is built with it",
    ),
    program("c++", "g++", "links bpf-linker with LLVM"),
];

const TESTS: [Need; 34] = [
    program("nginx", "nginx", "the server under test"),
    program("haproxy", "haproxy", "the second server under test"),
    // Not `apache2`, which would start a server of its own.
    program("apache2", "apache2-bin", "the third server under test"),
    program("gnutls-serv", "gnutls-bin", "a server of another library"),
    program("lighttpd", "lighttpd", "a server under test"),
    file(
        "/usr/lib/lighttpd/mod_openssl.so",
        "lighttpd-mod-openssl",
        "its TLS",
    ),
    program("hitch", "hitch", "a server under test"),
    program("stunnel4", "stunnel4", "a server under test"),
    program("javac", "openjdk-17-jdk-headless", "a server on Java's TLS"),
    file(
        "/usr/lib/dovecot/imap-login",
        "dovecot-imapd",
        "a server of IMAP, which goes over to TLS",
    ),
    file(
        "/usr/lib/dovecot/pop3-login",
        "dovecot-pop3d",
        "the same of POP3",
    ),
    file(
        "/usr/lib/dovecot/lmtp",
        "dovecot-lmtpd",
        "the same of LMTP, which begins like SMTP",
    ),
    file(
        "/usr/lib/postgresql/15/bin/postgres",
        "postgresql-15",
        "a database, which goes over to TLS",
    ),
    program("openssl", "openssl", "certificates, s_client and s_time"),
    file(
        "/usr/include/openssl/ssl.h",
        "libssl-dev",
        "compiles test clients",
    ),
    program("pkg-config", "pkg-config", "finds libssl for them"),
    program("gcc", "gcc", "compiles them"),
    program("node", "nodejs", "a server that SSL_read drives"),
    program(
        "npm",
        "npm",
        "fetches schemas of Kubernetes operators, and what drives a browser",
    ),
    file(
        "/usr/bin/chromium",
        "chromium",
        "a browser, which shows the built-in page",
    ),
    program("python3", "python3", "a server on buffers in memory"),
    program("curl", "curl", "HTTP/1.1 and h2 clients"),
    program("bpftool", "bpftool", "looks for programs left behind"),
    program("bpftrace", "bpftrace", "what the overhead is compared with"),
    program("ip", "iproute2", "network namespaces"),
    program("h2load", "nghttp2-client", "HTTP/2 load"),
    program("wrk", "wrk", "HTTP/1.1 load"),
    program("systemd-analyze", "systemd", "reads our unit"),
    program("crun", "crun", "runs the agent as a container runtime does"),
    program("go", "golang-go", "renders the Helm chart"),
    file(
        "/usr/share/gocode/src/github.com/Masterminds/sprig",
        "golang-github-masterminds-sprig-dev",
        "renders the Helm chart",
    ),
    file(
        "/usr/share/gocode/src/gopkg.in/yaml.v3",
        "golang-gopkg-yaml.v3-dev",
        "renders the Helm chart",
    ),
    program(
        "debootstrap",
        "debootstrap",
        "a root to install packages in",
    ),
    program("git", "git", "lists the files that tidy looks at"),
];

/// Packages that the build needs here: none when a suitable compiler and linker are there already.
pub fn for_build() -> Vec<Need> {
    let mut needs = vec![program("cc", "gcc", "links Rust programs")];
    if ebpf_toolchain::find_compiler().is_err() {
        needs.extend(COMPILER);
    }
    if ebpf_toolchain::find_linker().is_err() {
        needs.extend(LINKER);
    }
    needs
}

pub fn for_tests() -> Vec<Need> {
    TESTS.to_vec()
}

pub fn for_package() -> Vec<Need> {
    vec![program("musl-gcc", "musl-tools", "links the static binary")]
}
