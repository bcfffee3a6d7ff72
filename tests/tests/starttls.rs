//! TLS that begins after something else was said.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::process::Command;
use std::time::Duration;

use resumetry_tests::agent::{Agent, Record};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::site::Names;
use resumetry_tests::starttls::{Dovecot, Postgres, Upgrade, connect_proxy, s_client};
use resumetry_tests::{ports, wait};
use rustix::process::Signal;

const MAIL: Upgrade = Upgrade {
    protocol: None,
    proxy: None,
    goodbye: "QUIT\r\n",
};

/// What a connection told whose TLS began, ended and began again: its ports, and what resumed.
fn three_handshakes(names: &Names, version: &str) -> ((u16, u16), Vec<bool>) {
    let (name, files) = &names.served[0];
    let output = Command::new("python3")
        .args(["-c", include_str!("../src/programs/twice.py")])
        .args([&files.certificate, &files.key])
        .args([name, version])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = said.split_whitespace().collect();
    let [client, server, results @ ..] = &words[..] else {
        panic!("{}", String::from_utf8_lossy(&output.stderr));
    };
    let resumed = results.iter().map(|result| *result == "Reused").collect();
    ((client.parse().unwrap(), server.parse().unwrap()), resumed)
}

#[test]
fn tls_that_ends_and_begins_again_has_a_record_each_time() {
    let names = Names::new().unwrap();
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();
    for (version, number) in [("TLSv1_2", "1.2"), ("TLSv1_3", "1.3")] {
        let (ends, resumed) = three_handshakes(&names, version);
        assert_eq!(resumed, [false, true, true], "the fixture: {version}");
        for role in ["server", "client"] {
            let find = || -> Vec<Record> {
                let mut records = trace.records().unwrap();
                records.retain(|record| {
                    record.role == role && (record.peer().port(), record.server.port) == ends
                });
                records
            };
            wait::until(Duration::from_secs(20), || find().len() == resumed.len());
            let records = find();
            let results: Vec<_> = records.iter().map(|r| r.result() == "resumed").collect();
            assert_eq!(results, resumed, "{role} {version} {records:#?}");
            for record in &records {
                assert_eq!(record.tls.protocol.version.as_deref(), Some(number));
                assert!(record.tls.client.server_name.is_some(), "{record:?}");
            }
        }
    }
    assert!(trace.finish(Signal::TERM).unwrap().success());
}

#[test]
fn handshakes_behind_starttls_are_recorded_as_their_clients_tell_them() {
    let names = Names::new().unwrap();
    let (name, files) = names.served[0].clone();
    let dovecot = Dovecot::start(&files).unwrap();
    let postgres = Postgres::start(&files).unwrap();
    let web = ports::free().unwrap();
    let _nginx = Nginx::start(1, "", &[Server::new(web, "ssl", &names.served)]).unwrap();
    let proxy = connect_proxy().unwrap();
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();

    let starttls = |protocol| Upgrade {
        protocol: Some(protocol),
        ..MAIL
    };
    // The server, how to go over to it, the port that the client connects to, and whether the server
    // resumes: PostgreSQL does not.
    let kinds = [
        (
            dovecot.imap,
            Upgrade {
                goodbye: "a LOGOUT\r\n",
                ..starttls("imap")
            },
            dovecot.imap,
            true,
        ),
        (dovecot.pop3, starttls("pop3"), dovecot.pop3, true),
        (dovecot.lmtp, starttls("lmtp"), dovecot.lmtp, true),
        (
            postgres.port,
            Upgrade {
                // Terminate.
                goodbye: "X\0\0\0\x04",
                ..starttls("postgres")
            },
            postgres.port,
            false,
        ),
        (
            web,
            Upgrade {
                proxy: Some(proxy),
                goodbye: "GET / HTTP/1.0\r\n\r\n",
                ..MAIL
            },
            proxy,
            true,
        ),
    ];
    let mut made = Vec::new();
    for (server, upgrade, port, resumes) in kinds {
        for version in ["-tls1_2", "-tls1_3"] {
            let session = names.directory.path().join(format!("{server}{version}"));
            let mut resumed = 0;
            for _ in 0..3 {
                let said = s_client(upgrade, server, &name, &session, &[version]).unwrap();
                resumed += usize::from(said.resumed);
                made.push(((said.port, port), upgrade, version, said));
            }
            assert_eq!(
                resumed,
                if resumes { 2 } else { 0 },
                "the fixtures: {upgrade:?} {version}"
            );
        }
    }
    for role in ["server", "client"] {
        let records = trace
            .records_in_role(
                role,
                made.iter().map(|(ends, ..)| ends),
                Duration::from_secs(20),
            )
            .unwrap();
        for (ends, upgrade, version, said) in &made {
            let Some(record) = records.get(ends) else {
                panic!("no record as {role} of {upgrade:?} {version} {said:?}");
            };
            let expected = if said.resumed { "resumed" } else { "full" };
            assert_eq!(
                record.result(),
                expected,
                "{role} {upgrade:?} {version} {record:?}"
            );
            let number = version.trim_start_matches("-tls").replace('_', ".");
            assert_eq!(
                record.tls.protocol.version.as_deref(),
                Some(number.as_str())
            );
            assert_eq!(
                record.tls.client.server_name.as_deref(),
                Some(name.as_str())
            );
            assert!(record.process.pid.is_some(), "{role} {upgrade:?}");
        }
    }
    assert!(trace.finish(Signal::TERM).unwrap().success());
}
