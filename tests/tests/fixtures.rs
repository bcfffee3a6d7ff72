//! The fixtures agree with each other before the agent is held against them: what clients noted is
//! what the servers logged.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::time::{Duration, Instant};

use resumetry_tests::haproxy::{Bind, Haproxy};
use resumetry_tests::site::{Names, Site, haproxy_kinds};
use resumetry_tests::{compare, log, ports, wait, workload};

#[test]
fn clients_and_nginx_agree_on_every_connection() {
    let names = Names::new().unwrap();
    let site = Site::start(&names, 2).unwrap();
    let kinds = site.kinds(&names).unwrap();
    let begin = Instant::now();
    let notes = workload::drive(&kinds, kinds.len() * 40, 4, 7).unwrap();
    let rate = notes.len() as f64 / begin.elapsed().as_secs_f64();
    let logged = notes
        .iter()
        .filter(|note| note.expect == workload::Expect::Logged)
        .count();
    wait::until(Duration::from_secs(10), || {
        log::handshakes(&site.nginx.log().unwrap()).unwrap().len() >= logged
    });
    let log = log::handshakes(&site.nginx.log().unwrap()).unwrap();
    let (expectations, faults) = compare::expectations(&notes, &log);
    // Without records the comparison is a table of what is to be found.
    println!(
        "{}{rate:.0} connections/s",
        compare::compare(&[], &expectations)
    );
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults[..faults.len().min(40)].join("\n")
    );
}

#[test]
fn clients_and_haproxy_agree_on_every_connection() {
    let names = Names::new().unwrap();
    let [tickets, none] = [ports::free().unwrap(), ports::free().unwrap()];
    let bind = |port, parameters: &str| Bind {
        port,
        parameters: parameters.to_owned(),
    };
    let authority = names.authority_file();
    let haproxy = Haproxy::start(
        &names.directory.path().join("served/both"),
        &[
            bind(tickets, "alpn h2,http/1.1"),
            bind(
                none,
                &format!(
                    "no-tls-tickets ca-file {} verify optional",
                    authority.display()
                ),
            ),
        ],
    )
    .unwrap();
    let kinds = haproxy_kinds(&names, tickets, none).unwrap();
    let notes = workload::drive(&kinds, kinds.len() * 40, 4, 7).unwrap();
    let logged = notes
        .iter()
        .filter(|note| note.expect == workload::Expect::Logged)
        .count();
    wait::until(Duration::from_secs(10), || {
        log::handshakes(&haproxy.log().unwrap()).unwrap().len() >= logged
    });
    let log = log::handshakes(&haproxy.log().unwrap()).unwrap();
    let (expectations, faults) = compare::expectations(&notes, &log);
    println!("{}", compare::compare(&[], &expectations));
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults[..faults.len().min(40)].join("\n")
    );
}
