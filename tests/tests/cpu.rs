//! CPU time of handshakes against the kernel's own account of the serving thread, and servers that drive
//! their library in unusual ways.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

use resumetry_tests::agent::{Agent, Record};
use resumetry_tests::client::{Client, Profile, Versions, dial};
use resumetry_tests::first_byte::Ask;
use resumetry_tests::nginx::{Nginx, Server as NginxServer};
use resumetry_tests::process::Owned;
use resumetry_tests::script_server::ScriptServer;
use resumetry_tests::site::Names;
use resumetry_tests::timed_server::{Drive, TimedServer};
use resumetry_tests::{ports, undisturbed, wait};

/// Connections of each kind.
const CONNECTIONS: usize = 60;

/// Processes that want a CPU all the time, on a machine that has fewer.
fn busy(count: usize) -> Vec<Owned> {
    (0..count)
        .map(|_| {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]);
            Owned::new(command.stdout(Stdio::null()).spawn().unwrap())
        })
        .collect()
}

/// CPU time of a process so far, nanoseconds: of its threads (proc(5), schedstat).
fn cpu_ns(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn records(agent: &Agent, server: u16) -> BTreeMap<u16, Record> {
    let records = agent.records().unwrap().into_iter();
    records
        .filter(|record| record.role == "server" && record.server.port == server)
        .map(|record| (record.client.port, record))
        .collect()
}

/// Full handshakes of both versions with a server on this port, by a name with an RSA certificate,
/// whose signatures take a while; from how many ports, since the kernel may give one out twice.
fn visit(port: u16, name: &str) -> usize {
    let ports = [Versions::Tls12, Versions::Tls13]
        .map(|versions| connect_each(port, name, versions, Ask::default()));
    let ports: BTreeSet<u16> = ports.into_iter().flatten().collect();
    ports.len()
}

/// The sum of the agent's figures over that of a server's own, and how many handshakes have one, in per
/// cent.
fn compare(
    agent: &Agent,
    name: &str,
    port: u16,
    what: &str,
    times: impl Fn() -> BTreeMap<u16, u64>,
) -> (f64, usize) {
    let made = visit(port, name);
    let all = wait::until(Duration::from_secs(30), || {
        times().len() == made && records(agent, port).len() == made
    });
    let records = records(agent, port);
    assert!(all, "{} records of {made}", records.len());
    let (mut figure, mut truth, mut known) = (0.0, 0.0, 0);
    for (port, nanoseconds) in times() {
        if let Some(seconds) = records[&port].cpu.handshake_seconds {
            figure += seconds;
            truth += nanoseconds as f64 / 1e9;
            known += 1;
        }
    }
    println!(
        "{what}: {known} of {made} known, {:.0} us each, {:+.2} %",
        truth * 1e6 / known as f64,
        (figure / truth - 1.0) * 100.0
    );
    (figure / truth, known * 100 / made)
}

#[test]
fn time_on_the_cpu_is_what_the_kernel_accounts() {
    let names = Names::new().unwrap();
    let (name, files) = &names.served[1];
    let agent = Agent::start(["trace", "--format", "json"]).unwrap();
    for drive in [Drive::NonBlocking, Drive::Memory] {
        for load in [0, 6] {
            undisturbed::measure(|| {
                let _others = busy(load);
                let server = TimedServer::start(files, drive).unwrap();
                let what = format!("{drive:?}, {load} others want the CPU");
                let (ratio, known) = compare(&agent, name, server.port, &what, || server.times());
                assert!((0.97..1.03).contains(&ratio), "{what}: {ratio}");
                // Also where a call was moved to another CPU.
                assert!(known >= 98, "{what}: {known} % are known");
            });
        }
    }
}

/// Python calls its library before the client has said anything, and each call writes to memory.
#[test]
fn python_on_buffers_in_memory_is_timed_too() {
    let names = Names::new().unwrap();
    let (name, files) = &names.served[1];
    let agent = Agent::start(["trace", "--format", "json"]).unwrap();
    undisturbed::measure(|| {
        let server = ScriptServer::python(files, false).unwrap();
        let (ratio, known) = compare(&agent, name, server.port, "Python", || server.times());
        assert!((0.97..1.03).contains(&ratio), "{ratio}");
        assert!(known >= 98, "{known} % are known");
    });
}

/// Who sends has called the library for another connection since, so that only the random of the server
/// tells whose call it was.
#[test]
fn each_connection_has_its_own_time_where_threads_send_for_each_other() {
    let names = Names::new().unwrap();
    let (name, files) = &names.served[1];
    let agent = Agent::start(["trace", "--format", "json"]).unwrap();
    undisturbed::measure(|| {
        let server = ScriptServer::python(files, true).unwrap();
        // A full handshake costs several times as much as one that resumes.
        let asks = [false, true].map(|resume| Ask {
            resume,
            ..Ask::FULL
        });
        let made: Vec<u16> = std::thread::scope(|scope| {
            let clients = asks.map(|ask| {
                let port = server.port;
                scope.spawn(move || connect_each(port, name, Versions::Tls13, ask))
            });
            clients.map(|client| client.join().unwrap()).concat()
        });
        let all = wait::until(Duration::from_secs(30), || {
            let records = records(&agent, server.port);
            made.iter().all(|port| records.contains_key(port))
        });
        assert!(all);
        let (records, times) = (records(&agent, server.port), server.times());
        let ratios: Vec<f64> = made
            .iter()
            .filter_map(|port| {
                let seconds = records[port].cpu.handshake_seconds?;
                Some(seconds * 1e9 / times[port] as f64)
            })
            .collect();
        let right = ratios.iter().filter(|ratio| (0.8..1.25).contains(*ratio));
        let (made, known, right) = (made.len(), ratios.len(), right.count());
        println!("swapped: {known} of {made} known, {right} right");
        assert!(known * 100 >= made * 95, "{known} of {made} are known");
        assert!(
            right * 100 >= known * 95,
            "{right} of {known} are right: {ratios:?}"
        );
    });
}

/// Connections of one client, one after the other; the port of each.
fn connect_each(server: u16, name: &str, versions: Versions, ask: Ask<'_>) -> Vec<u16> {
    let client = Client::new(Profile {
        versions,
        server_name: Some(name.to_owned()),
        ..Profile::default()
    })
    .unwrap();
    let ports = (0..CONNECTIONS).map(|_| {
        let moments = client.first_byte(|| dial(server), &ask).unwrap();
        assert!(!moments.resumed || ask.resume);
        moments.client.port()
    });
    ports.collect()
}

/// Node never calls `SSL_do_handshake`, and mostly holds OpenSSL inside of itself.
#[test]
fn every_handshake_of_node_is_timed() {
    let names = Names::new().unwrap();
    let (name, files) = &names.served[1];
    let server = ScriptServer::node(files).unwrap();
    let pid = server.pid();
    let before = cpu_ns(pid);
    let agent = Agent::start(["trace", "--format", "json"]).unwrap();
    let made = visit(server.port, name);
    wait::until(Duration::from_secs(30), || {
        records(&agent, server.port).len() == made
    });
    let spent = (cpu_ns(pid) - before) as f64 / 1e9;
    let records = records(&agent, server.port);
    let figures = records
        .values()
        .filter_map(|record| record.cpu.handshake_seconds);
    let (count, sum) = figures.fold((0, 0.0), |(count, sum), figure| (count + 1, sum + figure));
    println!(
        "Node: {count} of {made}, {:.0} us each, {:.0} % of its CPU time",
        sum * 1e6 / f64::from(count),
        sum / spent * 100.0
    );
    assert_eq!(count as usize, made);
    // An RSA signature alone takes 200 us and more.
    assert!(
        sum / f64::from(count) > 100e-6 && sum < spent,
        "{sum} of {spent} s"
    );
}

/// nginx does little else than handshakes here, and cannot have spent more on them than in all.
#[test]
fn sum_over_nginx_stays_below_its_own_account() {
    let names = Names::new().unwrap();
    let port = ports::free().unwrap();
    let nginx = Nginx::start(1, "", &[NginxServer::new(port, "ssl", &names.served[1..2])]).unwrap();
    let worker = nginx.workers().unwrap()[0];
    let agent = Agent::start(["trace", "--format", "json"]).unwrap();
    let before = cpu_ns(worker);
    let made = visit(port, &names.served[1].0);
    wait::until(Duration::from_secs(30), || {
        records(&agent, port).len() == made
    });
    let spent = (cpu_ns(worker) - before) as f64 / 1e9;
    let figures: Vec<f64> = records(&agent, port)
        .values()
        .filter_map(|record| record.cpu.handshake_seconds)
        .collect();
    let sum: f64 = figures.iter().sum();
    println!(
        "nginx: {} of {made}, {:.0} % of its CPU time",
        figures.len(),
        sum / spent * 100.0
    );
    assert_eq!(figures.len(), made);
    assert!(sum < spent && sum > spent * 0.4, "{sum} of {spent} s");
}

/// OpenSSL's asynchronous mode leaves the stack in mid-call. A probe at a return would mix up two
/// calls, and the kernel kill the process.
#[test]
fn server_that_leaves_its_stack_in_mid_call_comes_to_no_harm() {
    let names = Names::new().unwrap();
    let (_, files) = &names.served[1];
    let directory = tempfile::tempdir().unwrap();
    let (source, program) = (
        directory.path().join("jobs.c"),
        directory.path().join("jobs"),
    );
    std::fs::write(&source, include_str!("../src/programs/jobs.c")).unwrap();
    let compiled = Command::new("cc")
        .arg(&source)
        .args(["-O2", "-lssl", "-lcrypto", "-o"])
        .arg(&program)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{compiled:?}");
    // So that the library is in use when the agent looks.
    let _user = TimedServer::start(files, Drive::NonBlocking).unwrap();
    let mut agent = Agent::start(["trace", "--format", "json", "--primitives", "100"]).unwrap();
    let output = Command::new(&program)
        .args([&files.certificate, &files.key])
        .arg("50")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200 400\n");
    assert!(agent.is_running());
}
