//! `--max-overhead`: probes that cost too much are left out, visibly, and come back; what is not seen
//! meanwhile is unknown, and nothing is miscounted.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openssl::ssl::{SslSession, SslVersion};
use resumetry_tests::agent::Agent;
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::session::{self, Offer};
use resumetry_tests::site::Names;
use resumetry_tests::{log, metrics, ports, wait};
use rustix::process::Signal;

/// Two samples of five seconds before anything is decided, and some for a busy machine.
const DECISION: Duration = Duration::from_secs(40);
/// Four samples for each of two groups.
const RESTORATION: Duration = Duration::from_secs(90);

/// An nginx in a cgroup of its own, and an agent that watches just that.
struct Watched {
    agent: Agent,
    metrics: SocketAddr,
    nginx: Nginx,
    port: u16,
    offer: Offer,
    /// Of another server, whose key this one does not know.
    foreign: SslSession,
    _names: Names,
    // Dropped last: it must be empty.
    _cgroup: Cgroup,
}

impl Watched {
    /// `name` is that of its cgroup.
    fn start(name: &str, limit: &str) -> Self {
        let names = Names::new().unwrap();
        let offer = Offer::new(SslVersion::TLS1_3, &names.name(0));
        let port = ports::free().unwrap();
        let server = Server::new(port, "ssl", &names.served);
        let foreign = {
            let other = Nginx::start(1, "", std::slice::from_ref(&server)).unwrap();
            let session = session::connect(port, &offer, None).unwrap().session;
            drop(other);
            session.unwrap()
        };
        let cgroup = Cgroup::create(name).unwrap();
        let nginx = cgroup.inside(|| Nginx::start(1, "", &[server])).unwrap();
        let metrics: SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
        let agent = Agent::start([
            "run",
            "--listen",
            &metrics.to_string(),
            "--cgroup",
            &cgroup.path().to_string_lossy(),
            "--handshake-calls",
            "100",
            "--max-overhead",
            limit,
        ])
        .unwrap();
        Self {
            agent,
            metrics,
            nginx,
            port,
            offer,
            foreign,
            _names: names,
            _cgroup: cgroup,
        }
    }

    /// The sum of the samples of a name that have this label.
    fn sum(&self, name: &str, label: &str, value: &str) -> f64 {
        metrics::scrape(self.metrics)
            .unwrap()
            .into_iter()
            .filter(|sample| sample.name == name && sample.label(label) == value)
            .map(|sample| sample.value)
            .sum()
    }

    fn is_shed(&self, group: &str) -> bool {
        self.sum("resumetry_probe_shed", "probe", group) == 1.0
    }

    fn hits(&self, probe: &str) -> f64 {
        self.sum("resumetry_probe_hits_total", "probe", probe)
    }

    /// Clients that resume, one connection after the other, while `body` runs.
    fn under_load<T>(&self, body: impl FnOnce() -> T) -> T {
        let done = AtomicBool::new(false);
        let (port, offer) = (self.port, &self.offer);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut session = None;
                    while !done.load(Ordering::Relaxed) {
                        let outcome = session::connect(port, offer, session.as_ref());
                        session = outcome.unwrap().session;
                    }
                });
            }
            // Also where `body` panics: the clients would go on for ever.
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            done.store(true, Ordering::Relaxed);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Offers a foreign ticket; which reason of refusal rose.
    fn refusal(&self) -> String {
        let reasons = || {
            let mut reasons = Vec::new();
            for sample in metrics::scrape(self.metrics).unwrap() {
                if sample.name == "tls_resumption_rejections_total" && sample.value > 0.0 {
                    reasons.push((sample.label("reason").to_owned(), sample.value as u64));
                }
            }
            reasons
        };
        let before = reasons();
        let outcome = session::connect(self.port, &self.offer, Some(&self.foreign)).unwrap();
        assert_eq!(outcome.resumed, Some(false));
        let risen = || {
            let now = reasons();
            now.into_iter().find(|reason| !before.contains(reason))
        };
        wait::until(Duration::from_secs(20), || risen().is_some());
        risen().expect("no reason rose").0
    }

    /// Every handshake that nginx logged is counted, and none besides.
    fn assert_exact(&self) {
        let logged = || {
            let log = log::handshakes(&self.nginx.log().unwrap()).unwrap();
            log.into_values().map(|all| all.len()).sum::<usize>()
        };
        let counted = || self.sum("tls_handshakes_total", "role", "server") as usize;
        let equal = wait::until(Duration::from_secs(20), || counted() == logged());
        assert!(equal, "{} counted, {} logged", counted(), logged());
        let lost = self.sum("resumetry_events_lost_total", "tap", "wire");
        assert!(logged() > 1_000 && lost == 0.0, "{} logged", logged());
    }
}

/// Both wait for samples of five seconds most of the time, and neither sees the other's server.
#[test]
fn sheds_what_costs_too_much_and_nothing_within_the_limit() {
    // One after the other: this process goes into the cgroup with what it starts.
    let low = Watched::start("governor-low", "0.001");
    let high = Watched::start("governor-high", "60");
    std::thread::scope(|scope| {
        scope.spawn(|| sheds_what_costs_too_much_and_takes_it_back(low));
        scope.spawn(|| sheds_nothing_within_the_limit_and_says_what_it_costs(high));
    });
}

fn sheds_what_costs_too_much_and_takes_it_back(mut watched: Watched) {
    assert_eq!(watched.refusal(), "key_unknown");
    watched.under_load(|| {
        let shed = wait::until(DECISION, || {
            watched.is_shed("handshake_calls") && watched.is_shed("tickets")
        });
        assert!(shed, "{}", watched.agent.messages());
        let before = [watched.hits("ticket"), watched.hits("wire_copied")];
        let copied = wait::until(DECISION, || watched.hits("wire_copied") > before[1]);
        assert!(copied, "the wire tap is never shed");
        assert!(watched.hits("machine_begin") > 0.0);
        assert_eq!(watched.refusal(), "unknown", "not seen is not known");
        // The counter is read every five seconds: the first reading holds what came before.
        let [first, copied] = [watched.hits("ticket"), watched.hits("wire_copied")];
        wait::until(DECISION, || watched.hits("wire_copied") > copied);
        assert_eq!(watched.hits("ticket"), first, "the probe is not shed");
    });
    watched.assert_exact();
    let messages = watched.agent.messages();
    for group in ["`handshake_calls`", "`tickets`"] {
        let told = |line: &str| line.contains(group) && line.contains("--max-overhead 0.001");
        assert!(messages.lines().any(told), "{messages}");
    }

    let restored = wait::until(RESTORATION, || {
        !watched.is_shed("handshake_calls") && !watched.is_shed("tickets")
    });
    assert!(restored, "{}", watched.agent.messages());
    let reason = watched.refusal();
    assert_eq!(reason, "key_unknown", "{}", watched.agent.messages());
    watched.assert_exact();
    watched.agent.finish(Signal::TERM).unwrap();
}

fn sheds_nothing_within_the_limit_and_says_what_it_costs(mut watched: Watched) {
    watched.under_load(|| {
        let ratio = || {
            let samples = metrics::scrape(watched.metrics).unwrap().into_iter();
            let mut ratios =
                samples.filter(|sample| sample.name == "resumetry_probe_overhead_ratio");
            ratios.next().map(|sample| sample.value)
        };
        let hits = || watched.hits("ticket");
        wait::until(DECISION, || ratio().is_some());
        for _ in 0..3 {
            let before = hits();
            assert!(wait::until(DECISION, || hits() > before), "a sample");
        }
        let ratio = ratio().unwrap();
        println!("estimate: {:.2} %", ratio * 100.0);
        assert!(ratio > 0.0 && ratio < 0.6, "{ratio}");
        for probe in ["ticket", "wire_copied", "machine_begin"] {
            let seconds = watched.sum("resumetry_probe_cost_seconds_total", "probe", probe);
            let each = seconds / watched.hits(probe);
            assert!((1e-7..1e-4).contains(&each), "{probe}: {each} s");
        }
    });
    assert!(!watched.is_shed("handshake_calls") && !watched.is_shed("tickets"));
    watched.assert_exact();
    watched.agent.finish(Signal::TERM).unwrap();
}
