//! The agent under exactly the rights that `deploy/` asks for, on a server of another user.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use resumetry_tests::agent::{Agent, Record, binary};
use resumetry_tests::client::{Client, Profile, dial};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::site::Names;
use resumetry_tests::{ports, wait};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/");

/// The capabilities in a line of a file, as the kernel's documentation calls them.
fn capabilities(file: &str, line: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(format!("{DEPLOY}{file}")).unwrap();
    let found = text.lines().find_map(|own| own.trim().strip_prefix(line));
    let list = found.unwrap_or_else(|| panic!("{file} has no line {line}"));
    list.split([' ', ',', '[', ']'])
        .filter(|name| !name.is_empty())
        .map(|name| name.trim_start_matches("CAP_").to_lowercase())
        .collect()
}

#[test]
fn every_way_to_deploy_asks_for_the_same_four_rights() {
    let unit = "systemd/resumetry.service";
    let wanted = capabilities(unit, "CapabilityBoundingSet=");
    assert_eq!(wanted.len(), 4);
    assert_eq!(capabilities(unit, "AmbientCapabilities="), wanted);
    assert_eq!(capabilities("kustomize/daemonset.yaml", "add:"), wanted);
    assert_eq!(
        capabilities("kustomize/daemonset.yaml", "drop:"),
        BTreeSet::from(["all".to_owned()])
    );
}

#[test]
fn systemd_understands_the_unit_and_finds_it_well_shut_in() {
    let unit = format!("{DEPLOY}systemd/resumetry.service");
    let said = |arguments: &[&str]| {
        let output = Command::new("systemd-analyze")
            .args(arguments)
            .arg(&unit)
            .output()
            .unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    // All that may be wrong is that it is not installed here.
    let faults = said(&["verify"]);
    let is_fault = |line: &&str| {
        line.contains("resumetry.service") && !line.contains("/usr/bin/resumetry is not executable")
    };
    assert_eq!(faults.lines().filter(is_fault).count(), 0, "{faults}");
    let security = said(&["security", "--offline=true"]);
    let level = security
        .lines()
        .find(|line| line.contains("Overall exposure level"))
        .unwrap();
    let level: f64 = level
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap();
    assert!(level < 3.0, "{security}");
}

#[test]
fn sees_servers_of_other_users_with_the_rights_of_the_unit() {
    let names = Names::new().unwrap();
    let port = ports::free().unwrap();
    let _nginx = Nginx::start(1, "", &[Server::new(port, "ssl", &names.served)]).unwrap();

    // Where a user without rights may read it.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("resumetry");
    fs::copy(binary(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let set: String = capabilities("systemd/resumetry.service", "CapabilityBoundingSet=")
        .iter()
        .map(|name| format!(",+{name}"))
        .collect();
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--no-new-privs",
        ])
        .args(
            ["--inh-caps", "--ambient-caps", "--bounding-set"]
                .map(|which| format!("{which}=-all{set}")),
        )
        .arg(&program)
        .args(["trace", "--format", "json", "--taps", "all"])
        .current_dir("/");
    let agent = Agent::spawn_command(command).unwrap();
    agent.wait_ready(Duration::from_secs(60)).unwrap();
    assert!(
        agent.messages().contains("(taps: wire, library; "),
        "{}",
        agent.messages()
    );
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    assert!(
        status.contains("\nUid:\t65534\t") && status.contains("\nNoNewPrivs:\t1\n"),
        "{status}"
    );

    let (name, _) = &names.served[0];
    let client = Client::new(Profile {
        server_name: Some(name.clone()),
        ..Profile::default()
    })
    .unwrap();
    for resume in [false, true] {
        let done = client.request(dial(port).unwrap(), resume, 1).unwrap();
        assert_eq!(done.resumed, resume);
    }
    let find = || -> Vec<Record> {
        let records = agent.records().unwrap().into_iter();
        records
            .filter(|record| record.role == "server" && record.server.port == port)
            .collect()
    };
    assert!(
        wait::until(Duration::from_secs(20), || find().len() == 2),
        "{}",
        agent.messages()
    );
    // Where the kernel wants more for a uprobe, the agent says so, and the wire tells the rest.
    let may_probe = !agent.messages().contains("places them for CAP_SYS_ADMIN");
    for (record, resumed) in find().iter().zip([false, true]) {
        assert_eq!(record.tls.resumed, resumed);
        assert!(record.process.pid.is_some());
        let source = record.timing.sources.handshake.as_deref();
        // With it, the calls of a library that another user's process has loaded, and its CPU time.
        assert_eq!(source, Some(if may_probe { "library" } else { "wire" }));
        assert_eq!(record.cpu.handshake_seconds.is_some(), may_probe);
    }
}
