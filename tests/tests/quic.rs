//! Handshakes over QUIC are recorded as their own libraries tell them, at both ends.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use resumetry_tests::agent::{Agent, EarlyData, Record};
use resumetry_tests::certs::{Identity, Key};
use resumetry_tests::quic_peers::{self, AIOQUIC_NAME, Quinn};
use resumetry_tests::wait;
use rustix::process::Signal;

const ROLES: [&str; 2] = ["client", "server"];
const PATIENCE: Duration = Duration::from_secs(20);

/// Versions 1 and 2, from one to the other, with Retry, with sessions that the server forgot, with early
/// data, and refused.
#[test]
fn every_kind_of_connection_is_recorded_as_its_client_tells_it() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Identity::authority("quic authority").unwrap();
    let root = authority.write(directory.path(), "authority").unwrap();
    let identity = authority.issue(AIOQUIC_NAME, Key::Ecdsa).unwrap();
    let files = identity.write(directory.path(), "server").unwrap();
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();
    let said = quic_peers::aioquic(&files, &root.certificate, 3).unwrap();
    let kinds = said.iter().filter(|said| said.resumed).count();
    assert!(kinds >= 15, "the fixtures resume too little: {said:#?}");

    let find = |trace: &Agent| {
        let mut found: BTreeMap<(String, u16, u16), Vec<Record>> = BTreeMap::new();
        for record in trace.records().unwrap() {
            if record.network.transport == "quic" {
                let key = (record.role.clone(), record.client.port, record.server.port);
                found.entry(key).or_default().push(record);
            }
        }
        found
    };
    wait::until(PATIENCE, || find(&trace).len() >= said.len() * ROLES.len());
    let found = find(&trace);
    for said in &said {
        for role in ROLES {
            let key = (role.to_owned(), said.client, said.server);
            let records = found.get(&key).map_or(&[][..], Vec::as_slice);
            let [record] = records else {
                panic!("{} records as {role} of {said:?}", records.len());
            };
            let expected = match (said.established, said.resumed) {
                (false, _) => "failed",
                (true, true) => "resumed",
                (true, false) => "full",
            };
            assert_eq!(record.result(), expected, "{role} {said:?} {record:?}");
            let version = said.established.then_some("1.3");
            assert_eq!(record.tls.protocol.version.as_deref(), version, "{said:?}");
            let name = record.tls.client.server_name.as_deref();
            assert_eq!(name, Some(AIOQUIC_NAME), "{said:?}");
            let offered = if said.early_data_offered {
                "psk"
            } else {
                "none"
            };
            assert_eq!(record.resumption.offered, offered, "{said:?}");
            // What the server makes of early data is secret, unless it cannot have taken it.
            let accepted = (said.early_data_offered && !said.resumed).then_some(false);
            let early_data = EarlyData {
                offered: Some(said.early_data_offered),
                accepted,
            };
            assert_eq!(record.early_data, early_data, "{said:?}");
            assert!(accepted.is_none() || !said.early_data_accepted, "{said:?}");
            assert!(record.process.pid.is_some(), "{role} {said:?}");
            if said.established {
                let seconds = record.timing.handshake_seconds.unwrap();
                assert!(seconds > 0.0 && seconds < 60.0, "{said:?} took {seconds}");
            } else {
                assert_eq!(record.tls.failure.as_deref(), Some("alert"), "{said:?}");
            }
        }
    }
    assert_eq!(
        found.len(),
        said.len() * ROLES.len(),
        "no more than were made"
    );
    assert!(trace.finish(Signal::TERM).unwrap().success());
}

/// All from one socket, so that nothing but connection IDs tells them apart.
#[test]
fn connections_of_one_socket_are_told_apart() {
    let authority = Identity::authority("quinn authority").unwrap();
    let identity = authority.issue("*.quinn.test", Key::Ecdsa).unwrap();
    let early = Quinn::start(&authority, &identity, true).unwrap();
    let plain = Quinn::start(&authority, &identity, false).unwrap();
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();
    const AT_ONCE: usize = 24;
    const ROUNDS: usize = 4;
    let mut expected: BTreeMap<(u16, &str), [usize; 2]> = BTreeMap::new();
    for (peer, name) in [(&early, "early.quinn.test"), (&plain, "plain.quinn.test")] {
        for _ in 0..ROUNDS {
            // All full, since none knows of the others' sessions yet.
            let client = peer.client().unwrap();
            peer.connect(&client, "full.quinn.test", AT_ONCE).unwrap();
            expected
                .entry((peer.port(), "full.quinn.test"))
                .or_default()[0] += AT_ONCE;
            let client = peer.client().unwrap();
            peer.connect(&client, name, 1).unwrap();
            expected.entry((peer.port(), name)).or_default()[0] += 1;
            // Each takes one of the tickets that are there, and brings new ones.
            for _ in 0..3 {
                let accepted = peer.connect(&client, name, 1).unwrap();
                let is_early = peer.port() == early.port();
                assert_eq!(accepted, [is_early.then_some(true)]);
                expected.entry((peer.port(), name)).or_default()[1] += 1;
            }
        }
    }
    let count = |trace: &Agent, role: &str| {
        let mut counts: BTreeMap<(u16, String), [usize; 2]> = BTreeMap::new();
        for record in trace.records().unwrap() {
            let name = record.tls.client.server_name.clone().unwrap_or_default();
            if record.role == role && name.ends_with(".quinn.test") {
                assert_ne!(record.result(), "failed", "{record:?}");
                let resumed = usize::from(record.result() == "resumed");
                counts.entry((record.server.port, name)).or_default()[resumed] += 1;
            }
        }
        counts
    };
    let expected: BTreeMap<_, _> = expected
        .into_iter()
        .map(|((port, name), counts)| ((port, name.to_owned()), counts))
        .collect();
    for role in ROLES {
        wait::until(PATIENCE, || count(&trace, role) == expected);
        assert_eq!(count(&trace, role), expected, "full and resumed as {role}");
    }
    assert!(trace.finish(Signal::TERM).unwrap().success());
}
