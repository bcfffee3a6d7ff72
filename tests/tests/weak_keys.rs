//! Servers whose ticket keys anybody could guess, and one whose key nobody can.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use openssl::ssl::SslVersion;
use resumetry_tests::agent::Agent;
use resumetry_tests::apache::{Apache, VirtualHost};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::session::{self, Offer};
use resumetry_tests::site::Names;
use resumetry_tests::{metrics, ports, wait};
use rustix::process::Signal;

/// Servers on ports of their own, and whether the key of each is weak.
struct Servers {
    _nginx: Nginx,
    _apache: Apache,
    weak: BTreeMap<u16, bool>,
}

fn start(names: &Names) -> Servers {
    let mut weak = BTreeMap::new();
    let random = || {
        let mut bytes = vec![0; 80];
        openssl::rand::rand_bytes(&mut bytes).unwrap();
        bytes
    };
    let file = |name: &str, key: &[u8]| -> PathBuf {
        let path = names.directory.path().join(name);
        fs::write(&path, key).unwrap();
        path
    };
    let mut only_secrets_are_zero = random();
    only_secrets_are_zero[16..].fill(0);
    let strong = random();
    let counting: Vec<u8> = (0..48).collect();
    let text: Vec<u8> = b"changeme".iter().copied().cycle().take(80).collect();
    let files: [(&str, &[u8], bool); 6] = [
        ("zero.key", &[0; 80], true),
        ("half-zero.key", &only_secrets_are_zero, true),
        ("ones.key", &[1; 48], true),
        ("counting.key", &counting, true),
        ("text.key", &text, true),
        ("random.key", &strong, false),
    ];
    let servers: Vec<Server> = files
        .iter()
        .map(|(name, key, is_weak)| {
            let port = ports::free().unwrap();
            weak.insert(port, *is_weak);
            let directive = format!("ssl_session_ticket_key {};", file(name, key).display());
            Server::new(port, "ssl", &names.served).with(directive)
        })
        .collect();
    let own = ports::free().unwrap();
    weak.insert(own, false);
    let hosts: Vec<VirtualHost> = [(Some([0; 48]), true), (None, false)]
        .into_iter()
        .map(|(key, is_weak)| {
            let port = ports::free().unwrap();
            weak.insert(port, is_weak);
            VirtualHost {
                port,
                certificate: names.served[0].1.clone(),
                ticket_key: key.map(|key| file("apache.key", &key)),
                directives: String::new(),
            }
        })
        .collect();
    let own = Server::new(own, "ssl", &names.served);
    let servers: Vec<Server> = servers.into_iter().chain([own]).collect();
    Servers {
        _nginx: Nginx::start(1, "", &servers).unwrap(),
        _apache: Apache::start(&hosts).unwrap(),
        weak,
    }
}

/// Resumes at every port, with both versions.
fn resume(servers: &Servers, name: &str) {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let offer = Offer::new(version, name);
        for port in servers.weak.keys() {
            let fresh = session::connect(*port, &offer, None).unwrap().session;
            let outcome = session::connect(*port, &offer, Some(&fresh.unwrap())).unwrap();
            assert_eq!(outcome.resumed, Some(true));
        }
    }
}

#[test]
fn weak_keys_are_told_from_strong_ones_on_request_only() {
    let names = Names::new().unwrap();
    let servers = start(&names);
    let listen: SocketAddr = format!("127.0.0.1:{}", ports::free().unwrap())
        .parse()
        .unwrap();
    let mut run =
        Agent::start(["run", "--check-weak-keys", "--listen", &listen.to_string()]).unwrap();
    let trace = |arguments: &[&str]| {
        let common = ["trace", "--format", "json", "--role", "server"];
        Agent::start(common.iter().chain(arguments).copied()).unwrap()
    };
    let mut checking = trace(&["--check-weak-keys"]);
    let mut plain = trace(&[]);
    resume(&servers, &names.name(0));

    let resumed = |agent: &mut Agent| {
        let records = agent.records().unwrap().into_iter();
        let ours = |port: &u16| servers.weak.contains_key(port);
        records
            .filter(|record| record.tls.resumed && ours(&record.server.port))
            .map(|record| (record.server.port, record.resumption.ticket))
            .collect::<Vec<_>>()
    };
    let all = 2 * servers.weak.len();
    for (agent, is_asked) in [(&mut checking, true), (&mut plain, false)] {
        let complete = wait::until(Duration::from_secs(20), || resumed(agent).len() == all);
        assert!(complete, "{} of {all} records", resumed(agent).len());
        for (port, ticket) in resumed(agent) {
            let expected = is_asked.then(|| servers.weak[&port]);
            // The number of keys that are tried in a second is bounded.
            let is_late = is_asked && ticket.weak_key.is_none();
            assert!(is_late || ticket.weak_key == expected, "{port}: {ticket:?}");
        }
    }
    let verdicts = resumed(&mut checking)
        .into_iter()
        .filter_map(|(port, ticket)| Some((port, ticket.weak_key?)))
        .collect::<BTreeMap<u16, bool>>();
    assert_eq!(verdicts, servers.weak);

    // By key, as the metrics have it: no key is both.
    let expected = resumed(&mut checking)
        .into_iter()
        .map(|(port, ticket)| (ticket.key.unwrap(), servers.weak[&port]))
        .collect::<BTreeMap<String, bool>>();
    let gauges = || {
        let samples = metrics::scrape(listen).unwrap().into_iter();
        samples
            .filter(|sample| sample.name == "tls_ticket_key_weak")
            .map(|sample| (sample.label("key").to_owned(), sample.value == 1.0))
            .filter(|(key, _)| expected.contains_key(key))
            .collect::<BTreeMap<String, bool>>()
    };
    let complete = wait::until(Duration::from_secs(20), || gauges() == expected);
    assert!(complete, "{:?}, not {expected:?}", gauges());
    for agent in [&mut run, &mut checking, &mut plain] {
        agent.finish(Signal::TERM).unwrap();
    }
}
