//! The record of every connection agrees with the server's own log, and `/metrics` adds up to it.
//!
//! `RESUMETRY_TEST_CONNECTIONS` sets the number of connections (default 3,000).
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use resumetry_tests::agent::Agent;
use resumetry_tests::compare::{self, Expectations, Expected};
use resumetry_tests::haproxy::{Bind, Haproxy};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::site::{Names, Site, haproxy_kinds};
use resumetry_tests::verify::verify;
use resumetry_tests::workload::{self, Expect, Note};
use resumetry_tests::{log, metrics, ports, wait};
use rustix::process::Signal;

const SEED: u64 = 20_260_101;

fn connections() -> usize {
    std::env::var("RESUMETRY_TEST_CONNECTIONS").map_or(3_000, |text| text.parse().unwrap())
}

fn logged(notes: &[Note]) -> usize {
    notes
        .iter()
        .filter(|note| note.expect == Expect::Logged)
        .count()
}

/// Handshakes in the role of a server by server name and result.
type Counts = BTreeMap<(String, String), u64>;

fn expected_counts(notes: &[Note], expectations: &Expectations) -> Counts {
    let mut counts = Counts::new();
    for note in notes {
        let name = match note.server_name.as_deref() {
            // Other tests on this host share these two names.
            None => continue,
            name if compare::is_invalid_name(name) => continue,
            Some(name) => name.to_ascii_lowercase(),
        };
        let (_, expected) = &expectations[&note.key];
        if let Some(result) = expected[0].result() {
            *counts.entry((name, result.to_owned())).or_default() += 1;
        }
    }
    counts
}

fn counted(address: SocketAddr, names: &BTreeSet<String>) -> Counts {
    let mut counts = Counts::new();
    for sample in metrics::scrape(address).unwrap() {
        let name = sample.label("server_name").to_owned();
        if sample.name == "tls_handshakes_total"
            && sample.label("role") == "server"
            && names.contains(&name)
            && sample.value > 0.0
        {
            *counts
                .entry((name, sample.label("result").to_owned()))
                .or_default() += sample.value as u64;
        }
    }
    counts
}

fn verify_metrics(address: SocketAddr, expected: &Counts) {
    let names = expected.keys().map(|(name, _)| name.clone()).collect();
    let mut found = Counts::new();
    wait::until(Duration::from_secs(20), || {
        found = counted(address, &names);
        found == *expected
    });
    assert_eq!(
        &found, expected,
        "tls_handshakes_total by server name and result"
    );
}

/// Drives `count` connections of every kind; returns what clients noted and what is to be found.
fn drive_site(names: &Names, site: &Site, count: usize) -> (Vec<Note>, Expectations) {
    let kinds = site.kinds(names).unwrap();
    let begin = Instant::now();
    let notes = workload::drive(&kinds, count, 4, SEED).unwrap();
    println!(
        "{:.0} connections/s",
        notes.len() as f64 / begin.elapsed().as_secs_f64()
    );
    wait::until(Duration::from_secs(10), || {
        log::handshakes(&site.nginx.log().unwrap()).unwrap().len() >= logged(&notes)
    });
    let log = log::handshakes(&site.nginx.log().unwrap()).unwrap();
    let (expectations, faults) = compare::expectations(&notes, &log);
    assert!(
        faults.is_empty(),
        "the fixtures disagree:\n{}",
        faults.join("\n")
    );
    (notes, expectations)
}

#[test]
fn every_nginx_connection_is_recorded_as_nginx_logged_it() {
    let names = Names::new().unwrap();
    let site = Site::start(&names, 2).unwrap();
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();
    let (_, expectations) = drive_site(&names, &site, connections());
    verify(&mut trace, "server", &expectations);
    assert!(trace.finish(Signal::TERM).unwrap().success());
}

/// Two agents at once: neither disturbs the other.
#[test]
fn metrics_add_up_to_what_nginx_logged() {
    let names = Names::new().unwrap();
    let site = Site::start(&names, 2).unwrap();
    let listen: SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
    let mut run = Agent::start(["run", "--listen", &listen.to_string()]).unwrap();
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();
    let (notes, expectations) = drive_site(&names, &site, connections() / 2);
    verify(&mut trace, "server", &expectations);
    verify_metrics(listen, &expected_counts(&notes, &expectations));
    assert!(trace.finish(Signal::INT).unwrap().success());
    assert!(run.finish(Signal::TERM).unwrap().success());
}

#[test]
fn every_haproxy_connection_is_recorded_as_haproxy_logged_it() {
    let names = Names::new().unwrap();
    let [tickets, none] = [ports::free().unwrap(), ports::free().unwrap()];
    let bind = |port, parameters: &str| Bind {
        port,
        parameters: parameters.to_owned(),
    };
    let haproxy = Haproxy::start(
        &names.directory.path().join("served/both"),
        &[
            bind(tickets, "alpn h2,http/1.1"),
            bind(
                none,
                &format!(
                    "no-tls-tickets ca-file {} verify optional",
                    names.authority_file().display()
                ),
            ),
        ],
    )
    .unwrap();
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();
    let kinds = haproxy_kinds(&names, tickets, none).unwrap();
    let notes = workload::drive(&kinds, connections() / 2, 4, SEED).unwrap();
    wait::until(Duration::from_secs(10), || {
        log::handshakes(&haproxy.log().unwrap()).unwrap().len() >= logged(&notes)
    });
    let log = log::handshakes(&haproxy.log().unwrap()).unwrap();
    let (expectations, faults) = compare::expectations(&notes, &log);
    assert!(
        faults.is_empty(),
        "the fixtures disagree:\n{}",
        faults.join("\n")
    );
    verify(&mut trace, "server", &expectations);
    assert!(trace.finish(Signal::TERM).unwrap().success());
}

/// nginx as a TLS client: the upstream's log says what each connection was.
#[test]
fn every_upstream_connection_of_nginx_is_recorded_in_the_role_of_a_client() {
    let names = Names::new().unwrap();
    let upstream_port = ports::free().unwrap();
    let upstream =
        Nginx::start(1, "", &[Server::new(upstream_port, "ssl", &names.served)]).unwrap();
    let fronts: Vec<_> = [
        ("TLSv1.3", "on"),
        ("TLSv1.3", "off"),
        ("TLSv1.2", "on"),
        ("TLSv1.2", "off"),
    ]
    .into_iter()
    .map(|(protocol, reuse)| {
        let location = format!(
            "proxy_pass https://127.0.0.1:{upstream_port}; proxy_ssl_protocols {protocol}; \
                 proxy_ssl_session_reuse {reuse}; proxy_ssl_server_name on; proxy_ssl_name {};",
            names.name(usize::from(protocol == "TLSv1.2"))
        );
        Server::new(ports::free().unwrap(), "", &names.served[..1]).location(location)
    })
    .collect();
    let front = Nginx::start(1, "", &fronts).unwrap();
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();
    let each = (connections() / 10).max(50);
    for server in &fronts {
        for _ in 0..each {
            let (status, _) = metrics::get(([127, 0, 0, 1], server.port).into(), "/").unwrap();
            assert_eq!(status, 200, "{}", front.errors());
        }
    }
    wait::until(Duration::from_secs(10), || {
        upstream.log().unwrap().len() >= each * fronts.len()
    });
    let log = log::handshakes(&upstream.log().unwrap()).unwrap();
    let expectations: Expectations = log
        .into_iter()
        .map(|(key, truths)| {
            (
                key,
                (
                    "upstream",
                    truths.into_iter().map(Expected::Logged).collect(),
                ),
            )
        })
        .collect();
    let resumed = expectations
        .values()
        .flat_map(|(_, all)| all)
        .filter(|one| one.result() == Some("resumed"));
    let resumed = resumed.count();
    assert!(
        resumed > 2 * each * 8 / 10 && resumed <= 2 * each,
        "{resumed} of {} resumed: reuse is on in one half and off in the other",
        4 * each
    );
    verify(&mut trace, "client", &expectations);
    verify(&mut trace, "server", &expectations);
    let workers = front.workers().unwrap();
    let strangers: BTreeSet<_> = trace
        .records()
        .unwrap()
        .iter()
        .filter(|record| record.role == "client" && record.server.port == upstream_port)
        .filter_map(|record| record.process.pid)
        .filter(|pid| !workers.contains(pid))
        .collect();
    assert!(
        strangers.is_empty(),
        "client records name other processes {strangers:?}, not {workers:?}"
    );
    assert!(trace.finish(Signal::TERM).unwrap().success());
}
