//! Which libraries' tickets begin with the name of their key, as real servers show. The table of
//! what was seen is `docs/tickets.md`.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use openssl::ssl::SslVersion;
use resumetry_tests::agent::Agent;
use resumetry_tests::certs::Key;
use resumetry_tests::nginx::{Nginx, Server, write_ticket_key};
use resumetry_tests::servers::{self, Site};
use resumetry_tests::session::{self, Offer};
use resumetry_tests::site::Names;
use resumetry_tests::{page, ports, rustls_server, wait};
use rustix::process::Signal;

/// Sessions that are resumed at each server: as many different tickets.
const TICKETS: usize = 6;

#[test]
fn keys_are_named_where_tickets_name_them() {
    let names = Names::new().unwrap();
    let (name, files) = &names.served[0];
    let home = names.directory.path();
    let mut trace = Agent::start(["trace", "--format", "json", "--role", "server"]).unwrap();
    let port = ports::free().unwrap();
    let key = write_ticket_key(home.join("ticket.key")).unwrap();
    let server = Server::new(port, "ssl", &names.served)
        .with(format!("ssl_session_ticket_key {};", key.display()));
    let nginx = Nginx::start(1, "", &[server]).unwrap();
    let identity = names.authority.issue(name, Key::Ecdsa).unwrap();
    let site = Site {
        name,
        identity: &identity,
        files,
        directory: home,
    };
    let gnutls = servers::gnutls(site).unwrap();
    let [older, newer] = ["go1.19", "go1.24"].map(|go| servers::caddy(go, site).unwrap());
    let rustls = rustls_server::start(&identity).unwrap();
    // A server, and whether its tickets name their key.
    let subjects = [
        ("OpenSSL 3.0 (nginx)", port, true),
        ("GnuTLS 3.7 (gnutls-serv)", gnutls.port, true),
        ("rustls 0.23, its ticketer", rustls, true),
        ("Go 1.19 (Caddy)", older.port, true),
        ("Go 1.24 (Caddy)", newer.port, false),
    ];

    let mut rows = String::new();
    let mut faults = Vec::new();
    for (title, port, names_keys) in subjects {
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let offer = Offer::new(version, name);
            let mut ends = BTreeSet::new();
            for _ in 0..TICKETS {
                let fresh = session::connect(port, &offer, None).unwrap().session;
                let fresh = fresh.expect("no ticket was issued");
                let outcome = session::connect(port, &offer, Some(&fresh)).unwrap();
                assert_eq!(outcome.resumed, Some(true), "{title}");
                ends.insert(outcome.ports);
            }
            let mut records = Vec::new();
            let complete = wait::until(Duration::from_secs(20), || {
                records = trace.records().unwrap();
                records.retain(|record| {
                    let end = (record.peer().port(), record.server.port);
                    ends.contains(&end)
                });
                records.len() == ends.len()
            });
            assert!(complete, "{title}: {} records", records.len());
            let keys: Vec<Option<&String>> = records
                .iter()
                .map(|record| record.resumption.ticket.key.as_ref())
                .collect();
            let named: BTreeSet<&String> = keys.iter().copied().flatten().collect();
            let version = if version == SslVersion::TLS1_2 {
                "1.2"
            } else {
                "1.3"
            };
            // The first two tickets cannot be told from nonces.
            let expected = if names_keys { TICKETS - 2 } else { 0 };
            let shown = keys.iter().flatten().count();
            if shown < expected || (shown > 0 && !names_keys) || named.len() > 1 {
                faults.push(format!("{title}, TLS {version}: {keys:?}"));
            }
            writeln!(
                rows,
                "| {title} | {version} | {} |",
                if named.is_empty() { "none" } else { "16 bytes" },
            )
            .unwrap();
        }
    }
    println!("{rows}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    trace.finish(Signal::TERM).unwrap();
    drop(nginx);
    page::keep("tickets.md", &format!("{PREFACE}{rows}"));
}

const PREFACE: &str = "# Which tickets name their key

`resumption.ticket.key`, and the label `key`, are a fingerprint of the name of the key that a ticket was made with.
Most libraries put that name, 16 random bytes, at the start of the ticket (RFC 5077, 4, recommends it); others put
a nonce there, and nothing tells their keys apart. What begins three different tickets is taken for a name; where
OpenSSL is seen at work in the server, its tickets are known to begin with one.

What follows is written by `RESUMETRY_WRITE=1 cargo test --release --package resumetry-tests --test ticket_formats`
from what real servers sent, and compared with it by every run of the tests.

| server | TLS | name of the key |
|---|---|---|
";
