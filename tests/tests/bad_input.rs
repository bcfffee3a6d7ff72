//! What is wrong is named, and so is the way out; the exit code tells usage from failure.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use resumetry_tests::agent::{Agent, binary};

const PATIENCE: Duration = Duration::from_secs(30);

/// Exit code (`None`: it got ready) and what was said on standard error.
fn outcome(mut agent: Agent) -> (Option<i32>, String) {
    let code = agent.settle(PATIENCE).unwrap();
    (code, agent.messages())
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    outcome(Agent::spawn(arguments.iter().copied()).unwrap())
}

/// Runs `prefix AGENT ARGUMENTS`.
fn run_under(prefix: &[&str], path: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).arg(path).args(arguments);
    outcome(Agent::spawn_command(command).unwrap())
}

#[track_caller]
fn check((code, said): &(Option<i32>, String), expected: i32, words: &[&str]) {
    assert_eq!(*code, Some(expected), "it said: {said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing from: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn unknown_config_key_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resumetry.toml");
    fs::write(&file, "listen = \"127.0.0.1:9651\"\n\nlissten = \"x\"\n").unwrap();
    let outcome = run(&["run", "--config", file.to_str().unwrap()]);
    check(&outcome, 2, &["resumetry.toml:3", "lissten", "`listen`"]);
}

#[test]
fn missing_config_file_is_named() {
    check(
        &run(&["run", "--config", "/nonexistent.toml"]),
        2,
        &["/nonexistent.toml"],
    );
}

#[test]
fn wrong_usage_exits_with_2() {
    check(&run(&["nonsense"]), 2, &["nonsense"]);
    check(
        &run(&["trace", "--format", "xml"]),
        2,
        &["--format", "text", "json"],
    );
    check(
        &run(&["run", "--listen", "nowhere"]),
        2,
        &["--listen", "nowhere"],
    );
}

#[test]
fn port_in_use_is_named_with_a_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    check(
        &run(&["run", "--listen", &address]),
        1,
        &[&address, "--listen"],
    );
}

#[test]
fn without_privileges_the_capabilities_are_named() {
    const NOBODY: [&str; 6] = [
        "setpriv",
        "--reuid",
        "65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ];
    // Nobody may not look into the directory that holds the build.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("resumetry");
    fs::copy(binary(), &copy).unwrap();
    for arguments in [&["trace"][..], &["run", "--listen", "127.0.0.1:0"]] {
        let outcome = run_under(&NOBODY, copy.to_str().unwrap(), arguments);
        check(
            &outcome,
            1,
            &["root", "CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"],
        );
    }
}

/// In a mount namespace of its own, after `prepare`.
fn with_mounts(prepare: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let script = format!("{prepare} && exec \"$0\" \"$@\"");
    run_under(
        &["unshare", "-m", "sh", "-c", &script],
        binary().to_str().unwrap(),
        arguments,
    )
}

#[test]
fn without_cgroup2_the_wire_tap_finds_another_way_or_says_why_not() {
    const HIDE: &str = "mount -t tmpfs none /sys/fs/cgroup";
    const REMOVE: &str =
        "while read -r _ at kind _; do [ $kind != cgroup2 ] || umount -l $at; done < /proc/mounts";
    for prepare in [HIDE, REMOVE] {
        let (code, said) = with_mounts(prepare, &["trace", "--taps", "wire"]);
        match code {
            None => assert!(said.contains("wire"), "{said}"),
            Some(_) => check(&(code, said), 1, &["cgroup2", "--cgroup"]),
        }
        // The other taps go on, and what is missing is said once.
        let (code, said) = with_mounts(prepare, &["trace"]);
        assert_eq!(code, None, "{said}");
        assert!(said.contains("wire") || said.contains("cgroup2"), "{said}");
    }
}

#[test]
fn without_btf_it_works_or_says_why_not() {
    let (code, said) = with_mounts("mount -t tmpfs none /sys/kernel/btf", &["trace"]);
    if code.is_some() {
        check(&(code, said), 1, &["BTF", "CONFIG_DEBUG_INFO_BTF"]);
    }
}

#[test]
fn missing_cgroup_directory_is_named() {
    check(
        &run(&["trace", "--cgroup", "/nonexistent"]),
        1,
        &["/nonexistent", "cgroup2"],
    );
}

#[test]
fn unreadable_library_is_named() {
    check(
        &run(&["trace", "--library", "/nonexistent.so"]),
        1,
        &["/nonexistent.so", "--library"],
    );
}

#[test]
fn library_that_is_no_elf_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("libssl.so.3");
    fs::write(&file, "this is no ELF file").unwrap();
    let path = file.to_str().unwrap();
    check(&run(&["trace", "--library", path]), 1, &[path, "ELF"]);
}
