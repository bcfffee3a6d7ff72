//! More events than the ring buffer takes: losses are counted, and a lost event never becomes a
//! handshake that did not happen.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::time::Duration;

use resumetry_tests::agent::Agent;
use resumetry_tests::compare::{self, Expectations, Key};
use resumetry_tests::metrics::{self, Sample};
use resumetry_tests::site::{Names, Site};
use resumetry_tests::{log, ports, wait, workload};
use rustix::process::Signal;

const SEED: u64 = 20_260_202;

/// The least that the agent accepts: a few handshakes fill it.
const RING: [&str; 2] = ["--ring-bytes", "64KiB"];

fn drive(names: &Names, site: &Site) -> Expectations {
    let notes = workload::drive(&site.kinds(names).unwrap(), 600, 4, SEED).unwrap();
    let mut faults = vec![String::from("no log yet")];
    let mut expectations = Expectations::new();
    wait::until(Duration::from_secs(10), || {
        let log = log::handshakes(&site.nginx.log().unwrap()).unwrap();
        (expectations, faults) = compare::expectations(&notes, &log);
        faults.is_empty()
    });
    assert!(
        faults.is_empty(),
        "the fixtures disagree:\n{}",
        faults.join("\n")
    );
    expectations
}

fn value(samples: &[Sample], name: &str, label: (&str, &str)) -> f64 {
    samples
        .iter()
        .filter(|sample| sample.name == name && sample.label(label.0) == label.1)
        .map(|sample| sample.value)
        .sum()
}

/// Stopped agents cannot read, so that events are certain to be lost.
#[test]
fn lost_events_are_counted_and_never_become_handshakes() {
    let names = Names::new().unwrap();
    let site = Site::start(&names, 2).unwrap();
    let listen: SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
    let address = listen.to_string();
    let mut run = Agent::start(["run", "--listen", &address].into_iter().chain(RING)).unwrap();
    let mut trace = Agent::start(["trace", "--format", "json"].into_iter().chain(RING)).unwrap();
    for agent in [&mut run, &mut trace] {
        agent.signal(Signal::STOP).unwrap();
    }
    let expectations = drive(&names, &site);
    for agent in [&mut run, &mut trace] {
        agent.signal(Signal::CONT).unwrap();
    }

    let mut samples = Vec::new();
    let lost = |samples: &[Sample]| value(samples, "resumetry_events_lost_total", ("tap", "wire"));
    wait::until(Duration::from_secs(20), || {
        samples = metrics::scrape(listen).unwrap();
        lost(&samples) > 0.0
    });
    assert!(lost(&samples) > 0.0, "600 connections fit into 64 KiB?");
    let coverage = value(&samples, "resumetry_coverage_ratio", ("tap", "wire"));
    assert!(coverage < 1.0, "coverage is {coverage} in spite of losses");

    // Ends the timeouts' wait: what cannot be described is given up.
    assert!(trace.finish(Signal::TERM).unwrap().success());
    let mut described = 0;
    let mut wrong = Vec::new();
    for record in trace.records().unwrap() {
        let key = Key::of(&record);
        let Some((kind, expected)) = expectations.get(&key).filter(|_| record.role == "server")
        else {
            continue;
        };
        described += 1;
        if !expected.iter().any(|one| one.agrees(&record)) {
            wrong.push(format!("{kind} {key:?}: {record:?}, in truth {expected:?}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong records:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(described > 0, "the ring held no whole handshake");
    assert!(run.finish(Signal::TERM).unwrap().success());

    // And a new agent with the usual ring loses nothing.
    let site = Site::start(&names, 2).unwrap();
    let mut exact = Agent::start(["trace", "--format", "json"]).unwrap();
    let expectations = drive(&names, &site);
    resumetry_tests::verify::verify(&mut exact, "server", &expectations);
}
