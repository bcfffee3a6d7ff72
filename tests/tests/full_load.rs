//! With both ends taking all the CPU there is, nothing is lost silently.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use resumetry_tests::agent::Agent;
use resumetry_tests::metrics::{self, Sample};
use resumetry_tests::site::{Names, Site};
use resumetry_tests::workload::{self, Action, Expect};
use resumetry_tests::{log, ports, wait};
use rustix::process::Signal;

const CONNECTIONS: usize = 8_000;
/// Far more clients than CPUs: the agent has to fight for its share.
const THREADS: usize = 16;

fn sum(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let matches = |sample: &&Sample| {
        sample.name == name
            && labels
                .iter()
                .all(|(label, value)| sample.label(label) == *value)
    };
    samples
        .iter()
        .filter(matches)
        .map(|sample| sample.value)
        .sum()
}

#[test]
fn with_every_cpu_taken_nothing_is_lost_without_a_word() {
    judge(false);
}

/// The surest way to lose events: the agent does not read any for the whole load.
#[test]
fn what_a_stopped_agent_loses_is_counted_and_never_taken_for_a_handshake() {
    judge(true);
}

fn judge(stopped: bool) {
    let names = Names::new().unwrap();
    let site = Site::start(&names, 2).unwrap();
    let mut kinds = site.kinds(&names).unwrap();
    // One name, so that this run's series are told from those of others on this host.
    let name = names.name(0);
    kinds.retain(|kind| {
        matches!(kind.action, Action::Request(1))
            && kind.profile.server_name.as_ref() == Some(&name)
    });
    let listen: SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
    let mut agent = Agent::start(["run", "--listen", &listen.to_string()]).unwrap();
    if stopped {
        agent.signal(Signal::STOP).unwrap();
    }
    let begin = Instant::now();
    let notes = workload::drive(&kinds, CONNECTIONS, THREADS, 9).unwrap();
    let rate = notes.len() as f64 / begin.elapsed().as_secs_f64();
    assert!(
        notes
            .iter()
            .all(|note| note.expect == Expect::Logged && note.error.is_none())
    );

    if stopped {
        agent.signal(Signal::CONT).unwrap();
    }

    let mut log = Vec::new();
    wait::until(Duration::from_secs(10), || {
        let handshakes = log::handshakes(&site.nginx.log().unwrap()).unwrap();
        log = handshakes.into_values().flatten().collect();
        log.len() == notes.len()
    });
    assert_eq!(log.len(), notes.len());
    let resumed = log.iter().filter(|truth| truth.resumed).count() as f64;
    let full = log.len() as f64 - resumed;

    let mut samples = Vec::new();
    let count = |samples: &[Sample], result: &str| {
        let labels = [
            ("role", "server"),
            ("server_name", name.as_str()),
            ("result", result),
        ];
        sum(samples, "tls_handshakes_total", &labels)
    };
    wait::until(Duration::from_secs(20), || {
        samples = metrics::scrape(listen).unwrap();
        count(&samples, "full") + count(&samples, "resumed") >= full + resumed
    });
    let (seen_full, seen_resumed) = (count(&samples, "full"), count(&samples, "resumed"));
    let failed = count(&samples, "failed");
    let lost = sum(&samples, "resumetry_events_lost_total", &[]);
    let coverage = samples
        .iter()
        .filter(|sample| sample.name == "resumetry_coverage_ratio" && sample.label("tap") == "wire")
        .map(|sample| sample.value)
        .next()
        .unwrap();
    println!(
        "{rate:.0} connections/s; full {seen_full} of {full}, resumed {seen_resumed} of {resumed}, \
         failed {failed}, events lost {lost}, coverage {coverage}"
    );
    assert!(
        seen_full <= full && seen_resumed <= resumed && failed == 0.0,
        "invented"
    );
    // Both ends of each connection are on this host, so the kernel counted at least this many.
    let described = sum(&samples, "tls_handshakes_total", &[]);
    let claimed = coverage * 2.0 * (full + resumed);
    assert!(
        described >= 0.9 * claimed,
        "a coverage of {coverage:.3} claims {claimed:.0} handshakes, the counters hold {described}"
    );
    let missing = full + resumed - seen_full - seen_resumed;
    assert!(
        missing > 0.0 || !stopped,
        "nothing was lost: this run proves nothing"
    );
    if missing > 0.0 {
        assert!(lost > 0.0 && coverage < 1.0, "lost without a word");
    }
    assert!(agent.finish(Signal::TERM).unwrap().success());
}
