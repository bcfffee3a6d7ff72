//! `trace --verify`: an operator holds the agent against the server's own log.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use openssl::ssl::SslVersion;
use resumetry_tests::agent::Agent;
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::session::{self, Offer};
use resumetry_tests::site::Names;
use resumetry_tests::{ports, wait};
use rustix::process::Signal;

const PATIENCE: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 12;

/// As the agent tells those who have another format.
const FORMAT: &str = r#"log_format resumetry escape=json '{"remote_addr":"$remote_addr","remote_port":"$remote_port","server_addr":"$server_addr","server_port":"$server_port","server_protocol":"$server_protocol","connection_requests":"$connection_requests","ssl_session_reused":"$ssl_session_reused"}';"#;

/// An agent that verifies by a log, and is to stop.
fn tracing(log: &Path) -> Agent {
    let source = format!("nginx={}", log.display());
    Agent::start(["trace", "--verify", &source]).unwrap()
}

/// Connections of which all but the first resume; their ports.
fn connect(port: u16, name: &str) -> Vec<(u16, u16)> {
    let mut session = None;
    let outcomes = (0..CONNECTIONS).map(|index| {
        let offer = Offer::new(SslVersion::TLS1_3, name);
        let outcome = session::connect(port, &offer, session.as_ref()).unwrap();
        assert_eq!(outcome.resumed, Some(index > 0), "the fixture");
        session = outcome.session;
        outcome.ports
    });
    outcomes.collect()
}

/// What it said at its end.
fn finish(mut trace: Agent, lines: usize) -> (String, bool) {
    // A heading, and both ends of each connection.
    wait::until(PATIENCE, || trace.line_count() > 2 * lines);
    let status = trace.finish(Signal::TERM).unwrap();
    (trace.messages(), status.success())
}

#[test]
fn agreement_with_the_log_of_nginx_is_told() {
    let names = Names::new().unwrap();
    let (name, _) = &names.served[0];
    let log = names.directory.path().join("resumetry.log");
    fs::write(&log, "").unwrap();
    let port = ports::free().unwrap();
    let server = Server::new(port, "ssl", &names.served)
        .with(format!("access_log {} resumetry;", log.display()));
    let _nginx = Nginx::start(1, FORMAT, &[server]).unwrap();
    let trace = tracing(&log);
    connect(port, name);
    let (messages, agrees) = finish(trace, CONNECTIONS);
    let expected = format!("{CONNECTIONS} handshakes agree, 0 differ; 0 have no line");
    assert!(messages.contains(&expected), "{messages}");
    assert!(
        messages.contains(", 0 lines have no handshake"),
        "{messages}"
    );
    assert!(agrees, "{messages}");
}

#[test]
fn a_log_that_says_otherwise_is_told_and_fails() {
    let names = Names::new().unwrap();
    let (name, _) = &names.served[0];
    let log = names.directory.path().join("invented.log");
    fs::write(&log, "").unwrap();
    let port = ports::free().unwrap();
    let _nginx = Nginx::start(1, "", &[Server::new(port, "ssl", &names.served)]).unwrap();
    let trace = tracing(&log);
    // Each as if it had been full.
    let mut invented = OpenOptions::new().append(true).open(&log).unwrap();
    for (client, server) in connect(port, name) {
        writeln!(
            invented,
            r#"{{"remote_addr":"127.0.0.1","remote_port":"{client}","server_addr":"127.0.0.1","server_port":"{server}","server_protocol":"HTTP/1.1","connection_requests":"1","ssl_session_reused":"."}}"#
        )
        .unwrap();
    }
    writeln!(invented, "127.0.0.1 - - \"GET / HTTP/1.1\" 200").unwrap();
    let (messages, agrees) = finish(trace, CONNECTIONS);
    let expected = format!("1 handshakes agree, {} differ", CONNECTIONS - 1);
    assert!(messages.contains(&expected), "{messages}");
    let told = "the server logged a full handshake, and a resumed one was seen";
    assert_eq!(
        messages.matches(told).count(),
        CONNECTIONS - 1,
        "{messages}"
    );
    // And what to do about a log of another format.
    assert!(messages.contains(FORMAT), "{messages}");
    assert!(!agrees, "{messages}");
}
