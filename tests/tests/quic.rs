//! Handshakes over QUIC are recorded as their own libraries tell them, at both ends.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use resumetry_tests::agent::{Agent, EarlyData, Record};
use resumetry_tests::certs::{Identity, Key};
use resumetry_tests::nginx::{self, Nginx, Server};
use resumetry_tests::quic_peers::{self, AIOQUIC_NAME, Http3Client, Quinn};
use resumetry_tests::rng::Rng;
use resumetry_tests::{foreign_server, log, ports, wait};
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
                sent: said.early_data_sent.then_some(true),
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

/// nginx says itself which connections resumed; its OpenSSL says why the others did not.
#[test]
fn http3_of_nginx_is_recorded_as_nginx_logged_it_and_with_reasons() {
    const NAME: &str = "h3.resumetry.test";
    let directory = tempfile::tempdir().unwrap();
    let authority = Identity::authority("h3 authority").unwrap();
    let root = authority.write(directory.path(), "authority").unwrap();
    let identity = authority.issue(NAME, Key::Ecdsa).unwrap();
    let files = identity.write(directory.path(), "server").unwrap();
    let port = ports::free().unwrap();
    let key = nginx::write_ticket_key(directory.path().join("ticket.key")).unwrap();
    let server = Server::new(port, "ssl", &[(NAME.to_owned(), files)]).with(format!(
        "listen 127.0.0.1:{port} quic reuseport; http3 on; ssl_session_ticket_key {};",
        key.display()
    ));
    let program = foreign_server::trixie("trixie-nginx", "usr/sbin/nginx").unwrap();
    let nginx = Nginx::start_command(program, 1, "", &[server]).unwrap();
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();
    let mut client = Http3Client::start(port, &root.certificate, NAME).unwrap();
    let mut said = Vec::new();
    for with_ticket in [false, true, true, false, true] {
        said.push((client.connect(with_ticket).unwrap(), None));
    }
    // Another key in the same file: nobody holds that of the tickets any more.
    nginx::write_ticket_key(key).unwrap();
    nginx.renew().unwrap();
    said.push((client.connect(true).unwrap(), Some("key_unknown")));
    said.push((client.connect(true).unwrap(), None));

    let logged = || log::handshakes(&nginx.log().unwrap()).unwrap();
    assert!(wait::until(PATIENCE, || logged().len() >= said.len()));
    let logged: BTreeMap<u16, bool> = logged()
        .into_iter()
        .map(|(key, truths)| (key.peer.port(), truths[0].resumed))
        .collect();
    let ends: Vec<_> = said.iter().map(|(said, _)| (said.port, port)).collect();
    let mut records = BTreeMap::new();
    wait::until(PATIENCE, || {
        records = trace
            .records()
            .unwrap()
            .into_iter()
            .filter(|record| record.role == "server" && record.server.port == port)
            .map(|record| ((record.client.port, port), record))
            .collect();
        ends.iter().all(|ends| records.contains_key(ends))
    });
    for (said, reason) in &said {
        assert_eq!(said.status.as_deref(), Some("200"), "{said:?}");
        assert_eq!(logged[&said.port], said.resumed, "fixtures: {said:?}");
        let record = &records[&(said.port, port)];
        assert_eq!(record.network.transport, "quic");
        assert_eq!(record.tls.resumed, said.resumed, "{said:?} {record:?}");
        assert_eq!(
            record.resumption.reject_reason.as_deref(),
            *reason,
            "{said:?}"
        );
        let source = reason.map(|_| "library");
        assert_eq!(
            record.resumption.reject_source.as_deref(),
            source,
            "{said:?}"
        );
        assert_eq!(record.tls.client.server_name.as_deref(), Some(NAME));
        assert_eq!(record.resumption.ticket.age_seconds.is_some(), said.resumed);
    }
    let resumed = said.iter().filter(|(said, _)| said.resumed).count();
    assert_eq!((resumed, records.len()), (4, said.len()));
    assert!(trace.finish(Signal::TERM).unwrap().success());
}

/// A flood of datagrams that begin like a client's first and are nothing.
#[test]
fn datagrams_that_only_look_like_quic_make_no_record_and_take_no_memory() {
    const MIN_INITIAL_BYTES: usize = 1200;
    // Version 1, connection IDs of 8 and 4 bytes, no token, and the length of the rest.
    const HEAD: &[u8] = b"\xc3\0\0\0\x01\x08";
    const MIDDLE: &[u8] = b"\x04abcd\0\x44\x9b";
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let before = trace.resident_bytes().unwrap();
    let mut rng = Rng::new(7);
    for _ in 0..2_000 {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        for _ in 0..10 {
            let mut datagram = HEAD.to_vec();
            datagram.extend((0..8).map(|_| rng.below(256) as u8));
            datagram.extend(MIDDLE);
            datagram.extend((datagram.len()..MIN_INITIAL_BYTES).map(|_| rng.below(256) as u8));
            sender.send(&datagram).unwrap();
        }
    }
    let grown = trace.resident_bytes().unwrap().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    let records = trace.records().unwrap();
    let port = receiver.local_addr().unwrap().port();
    assert!(records.iter().all(|record| record.server.port != port));
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
            let client = peer.client(false).unwrap();
            peer.connect(&client, "full.quinn.test", AT_ONCE).unwrap();
            expected
                .entry((peer.port(), "full.quinn.test"))
                .or_default()[0] += AT_ONCE;
            let client = peer.client(true).unwrap();
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
