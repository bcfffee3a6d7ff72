//! Libraries that are reached in other ways than by their path on the host: in a container, in a program,
//! or gone from where they were.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use openssl::ssl::SslVersion;
use resumetry_tests::agent::{Agent, Record};
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::client::dial;
use resumetry_tests::container::Container;
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::process::Owned;
use resumetry_tests::session::{self, Offer};
use resumetry_tests::site::Names;
use resumetry_tests::{ports, repository, wait};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(40);

/// What only the library tap knows.
fn is_seen_inside(record: &Record) -> bool {
    record.cpu.handshake_seconds.is_some()
        && record.timing.sources.handshake.as_deref() == Some("library")
}

#[test]
fn a_container_with_its_own_library_network_and_processes_is_seen_by_both_taps() {
    let names = Names::new().unwrap();
    let (name, _) = &names.served[0];
    let port = 8443;
    let id = "5e2d".repeat(16);
    let group = Cgroup::create("ways-in").unwrap();
    let place = group.nested(&format!("docker-{id}.scope")).unwrap();
    let mut server = place
        .inside(|| Container::nginx(&names, port, true))
        .unwrap();
    let first = server.pid().unwrap();
    let within = |program: &str| {
        let mut command = Command::new("nsenter");
        command.args([&format!("--target={first}"), "--net", program]);
        command
    };
    let up = within("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.unwrap().success());
    let session = names.directory.path().join("session");
    let connect = |offers: bool| {
        let mut client = within("openssl");
        client
            .args(["s_client", "-servername", name, "-connect"])
            .arg(format!("127.0.0.1:{port}"))
            .arg(if offers { "-sess_in" } else { "-sess_out" })
            .arg(&session)
            .args(["-ign_eof", "-tls1_2"]);
        let shell = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | {}", line(&client));
        let output = Command::new("sh").args(["-c", &shell]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (said.contains("New, TLS"), said.contains("Reused, TLS"))
    };
    let answers = wait::until(PATIENCE, || connect(false).0);
    assert!(answers, "{}", server.log());

    let mut trace = Agent::start(["trace", "--format", "json", "--role", "server"]).unwrap();
    assert_eq!(connect(true), (false, true));
    let find = || -> Vec<Record> {
        let records = trace.records().unwrap().into_iter();
        records
            .filter(|record| record.tls.client.server_name.as_ref() == Some(name))
            .collect()
    };
    assert!(wait::until(PATIENCE, || !find().is_empty()));
    let records = find();
    let [record] = &records[..] else {
        panic!("{records:#?}");
    };
    assert_eq!(record.result(), "resumed");
    assert_eq!(record.container.id.as_deref(), Some(id.as_str()));
    // Process ids are those of the host.
    let root = fs::read_link(format!("/proc/{}/exe", record.process.pid.unwrap())).unwrap();
    assert_eq!(root, Path::new("/usr/sbin/nginx"));
    assert!(is_seen_inside(record), "{record:?}");
    assert!(record.resumption.ticket.age_seconds.is_some(), "{record:?}");
    assert!(trace.finish(Signal::TERM).unwrap().success());
}

/// A command as a shell takes it; nothing in it needs quotes.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// As an upgrade does it: a new file under the same name, while processes still run the old one.
#[test]
fn a_library_that_is_replaced_is_seen_in_old_processes_and_in_new_ones() {
    let names = Names::new().unwrap();
    let (name, _) = &names.served[0];
    let directory = names.directory.path().join("lib");
    fs::create_dir(&directory).unwrap();
    let library = directory.join("libssl.so.3");
    let system = PathBuf::from("/usr/lib/x86_64-linux-gnu/libssl.so.3");
    let start = || {
        let port = ports::free().unwrap();
        let server = Server::new(port, "ssl", &names.served);
        let nginx = Nginx::start_linked(1, "", &[server], Some(&directory)).unwrap();
        (port, nginx)
    };
    fs::copy(&system, &library).unwrap();
    let (old, _old) = start();
    let mut trace = Agent::start(["trace", "--format", "json", "--role", "server"]).unwrap();
    let see = |port: u16| {
        let outcome = session::connect(port, &Offer::new(SslVersion::TLS1_3, name), None).unwrap();
        let ends = [outcome.ports];
        let records = trace.records_of(ends.iter(), PATIENCE).unwrap();
        is_seen_inside(&records[&outcome.ports])
    };
    assert!(see(old));
    let renewed = directory.join("new");
    fs::copy(&system, &renewed).unwrap();
    fs::rename(&renewed, &library).unwrap();
    assert!(see(old), "the old file lost its probes");
    let (new, _new) = start();
    // A file that was not there before is found a moment after a process maps it.
    assert!(wait::until(PATIENCE, || see(new)));
    assert!(see(old), "the old file lost its probes");
    assert!(trace.finish(Signal::TERM).unwrap().success());
}

/// A server that is linked with OpenSSL for good, and exports it.
#[test]
fn a_library_inside_a_program_is_found() {
    let names = Names::new().unwrap();
    let (name, files) = &names.served[0];
    let program = names.directory.path().join("server");
    let status = Command::new("gcc")
        .args(["-O2", "-rdynamic", "-o"])
        .arg(&program)
        .arg(repository().join("tests/src/programs/whole.c"))
        .args([
            "-Wl,-Bstatic",
            "-Wl,--whole-archive",
            "-lssl",
            "-Wl,--no-whole-archive",
        ])
        .args(["-lcrypto", "-Wl,-Bdynamic", "-ldl", "-lpthread"])
        .status()
        .unwrap();
    assert!(status.success());
    let port = ports::free().unwrap();
    let mut command = Command::new(&program);
    command
        .arg(port.to_string())
        .arg(&files.certificate)
        .arg(&files.key);
    let _server = Owned::serving(command, &[port]).unwrap();
    assert!(dial(port).is_ok());
    let mut trace = Agent::start(["trace", "--format", "json", "--role", "server"]).unwrap();
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let offer = Offer::new(version, name);
        let full = session::connect(port, &offer, None).unwrap();
        let resumed = session::connect(port, &offer, full.session.as_ref()).unwrap();
        assert_eq!((full.resumed, resumed.resumed), (Some(false), Some(true)));
        let ends = [full.ports, resumed.ports];
        let records = trace.records_of(ends.iter(), PATIENCE).unwrap();
        assert_eq!(records[&full.ports].result(), "full");
        assert_eq!(records[&resumed.ports].result(), "resumed");
        for ends in &ends {
            assert!(is_seen_inside(&records[ends]), "{:?}", records[ends]);
        }
    }
    assert!(trace.finish(Signal::TERM).unwrap().success());
}
