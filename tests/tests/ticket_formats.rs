//! Which libraries' tickets begin with the name of their key, as real servers show. The table of
//! what was seen is `docs/tickets.md`.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use openssl::ssl::SslVersion;
use resumetry_tests::agent::Agent;
use resumetry_tests::certs::{Files, Key};
use resumetry_tests::nginx::{Nginx, Server, write_ticket_key};
use resumetry_tests::process::Owned;
use resumetry_tests::session::{self, Offer};
use resumetry_tests::site::Names;
use resumetry_tests::{page, ports, rustls_server, wait};
use rustix::process::Signal;

/// Sessions that are resumed at each server: as many different tickets.
const TICKETS: usize = 6;

/// A server, and whether its tickets name their key.
struct Subject {
    title: &'static str,
    port: u16,
    names_keys: bool,
    /// Ends with the test.
    _process: Option<Owned>,
}

/// Starts a program that serves `port`.
fn serve(command: &mut Command, port: u16) -> Owned {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; see `cargo xtask setup --tests`"));
    let mut process = Owned::new(child);
    let answers = wait::until(Duration::from_secs(20), || {
        TcpStream::connect(("127.0.0.1", port)).is_ok() || !process.is_running()
    });
    assert!(
        answers && process.is_running(),
        "{command:?} does not serve"
    );
    process
}

fn gnutls(files: &Files) -> Subject {
    let port = ports::free().unwrap();
    let mut command = Command::new("gnutls-serv");
    command
        .args(["--http", "--quiet", "--port", &port.to_string()])
        .args(["--x509certfile".as_ref(), files.certificate.as_os_str()])
        .args(["--x509keyfile".as_ref(), files.key.as_os_str()]);
    Subject {
        title: "GnuTLS 3.7 (gnutls-serv)",
        port,
        names_keys: true,
        _process: Some(serve(&mut command, port)),
    }
}

fn caddy(title: &'static str, go: &str, names_keys: bool, files: &Files, home: &Path) -> Subject {
    let foreign = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("foreign");
    let program = foreign.join(format!("caddy-{go}/root/usr/bin/caddy"));
    let port = ports::free().unwrap();
    let config = home.join(format!("{go}.Caddyfile"));
    let (certificate, key) = (files.certificate.display(), files.key.display());
    let text = format!(
        "{{\n admin off\n auto_https off\n servers {{\n  protocols h1\n }}\n}}\n\
         https://:{port} {{\n bind 127.0.0.1\n tls {certificate} {key}\n respond ok\n}}\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(program);
    command
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(&config)
        .env("HOME", home);
    Subject {
        title,
        port,
        names_keys,
        _process: Some(serve(&mut command, port)),
    }
}

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
    let subjects = [
        Subject {
            title: "OpenSSL 3.0 (nginx)",
            port,
            names_keys: true,
            _process: None,
        },
        gnutls(files),
        Subject {
            title: "rustls 0.23, its ticketer",
            port: rustls_server::start(&identity).unwrap(),
            names_keys: true,
            _process: None,
        },
        caddy("Go 1.19 (Caddy)", "go1.19", true, files, home),
        caddy("Go 1.24 (Caddy)", "go1.24", false, files, home),
    ];

    let mut rows = String::new();
    let mut faults = Vec::new();
    for subject in &subjects {
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let offer = Offer::new(version, name);
            let mut ends = BTreeSet::new();
            for _ in 0..TICKETS {
                let fresh = session::connect(subject.port, &offer, None)
                    .unwrap()
                    .session;
                let fresh = fresh.expect("no ticket was issued");
                let outcome = session::connect(subject.port, &offer, Some(&fresh)).unwrap();
                assert_eq!(outcome.resumed, Some(true), "{}", subject.title);
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
            assert!(complete, "{}: {} records", subject.title, records.len());
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
            let expected = if subject.names_keys { TICKETS - 2 } else { 0 };
            let shown = keys.iter().flatten().count();
            if shown < expected || (shown > 0 && !subject.names_keys) || named.len() > 1 {
                faults.push(format!("{}, TLS {version}: {keys:?}", subject.title));
            }
            writeln!(
                rows,
                "| {} | {version} | {} |",
                subject.title,
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
