//! The matrix: every server, both versions of TLS, each record held against the client's own word. The
//! table of what was seen is `docs/compatibility.md`.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use openssl::ssl::SslVersion;
use resumetry_tests::agent::{Agent, Record};
use resumetry_tests::asks::{self, Ask, Made};
use resumetry_tests::certs::{Files, Identity, Key};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::quic_peers::{self, AIOQUIC_NAME, Quinn};
use resumetry_tests::servers::{HTTPS, Running, Site, Subject};
use resumetry_tests::starttls::{Dovecot, Postgres, Upgrade};
use resumetry_tests::{foreign_server, page, ports, wait};
use rustix::process::Signal;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);
const NAME: &str = "matrix.resumetry.test";
const VERSIONS: [(SslVersion, &str); 2] =
    [(SslVersion::TLS1_2, "1.2"), (SslVersion::TLS1_3, "1.3")];

/// One row: a server at one version of TLS.
struct Cell {
    title: &'static str,
    library: &'static str,
    version: &'static str,
    transport: &'static str,
    name: &'static str,
    made: Vec<Made>,
}

/// What all servers of the matrix have.
struct Place {
    directory: TempDir,
    authority: Identity,
    identity: Identity,
    files: Files,
    root: Files,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Identity::authority("matrix authority").unwrap();
        let root = authority.write(directory.path(), "authority").unwrap();
        let identity = authority.issue(NAME, Key::Ecdsa).unwrap();
        let files = identity.write(directory.path(), "server").unwrap();
        Self {
            directory,
            authority,
            identity,
            files,
            root,
        }
    }

    fn site(&self) -> Site<'_> {
        Site {
            name: NAME,
            identity: &self.identity,
            files: &self.files,
            directory: self.directory.path(),
        }
    }
}

/// Each server of HTTPS beside a twin whose tickets it cannot read.
fn start_https(place: &Place) -> Vec<(&'static Subject, [Running; 2])> {
    let start = |subject: &Subject| {
        (subject.start)(place.site()).unwrap_or_else(|error| panic!("{}: {error:#}", subject.title))
    };
    let pair = |subject| (subject, [start(subject), start(subject)]);
    HTTPS.iter().map(pair).collect()
}

/// Connections to every server of HTTPS.
fn https(place: &Place, servers: &[(&'static Subject, [Running; 2])]) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (subject, running) in servers {
        let ports = [running[0].port, running[1].port];
        for (version, number) in VERSIONS {
            let what = format!("{} on {}, TLS {number}", subject.title, subject.library);
            let made = asks::https(ports, version, NAME);
            let mut made = made.unwrap_or_else(|error| panic!("{what}: {error:#}"));
            if subject.early_data && version == SslVersion::TLS1_3 {
                let early = asks::early(ports, &place.authority, NAME);
                made.extend(early.unwrap_or_else(|error| panic!("{what}: {error:#}")));
            }
            cells.push(Cell {
                title: subject.title,
                library: subject.library,
                version: number,
                transport: "tcp",
                name: NAME,
                made,
            });
        }
    }
    cells
}

/// Connections to servers that go over to TLS.
fn upgrades(place: &Place) -> Vec<Cell> {
    let dovecot = Dovecot::start(&place.files).unwrap();
    let postgres = Postgres::start(&place.files).unwrap();
    let servers = [
        ("Dovecot 2.3, IMAP", dovecot.imap, "imap", "a LOGOUT\r\n"),
        ("Dovecot 2.3, LMTP", dovecot.lmtp, "lmtp", "QUIT\r\n"),
        // Terminate.
        ("PostgreSQL 15", postgres.port, "postgres", "X\0\0\0\x04"),
    ];
    let mut cells = Vec::new();
    for (title, port, protocol, goodbye) in servers {
        for (version, number) in VERSIONS {
            let upgrade = Upgrade {
                protocol: Some(protocol),
                proxy: None,
                goodbye,
            };
            let directory = place.directory.path();
            cells.push(Cell {
                title,
                library: "OpenSSL 3.0",
                version: number,
                transport: "tcp",
                name: NAME,
                made: asks::upgrade(port, upgrade, version, NAME, directory).unwrap(),
            });
        }
    }
    cells
}

/// Connections over QUIC, which has no other version than TLS 1.3.
fn quic(place: &Place) -> Vec<Cell> {
    let port = ports::free().unwrap();
    let server = Server::new(port, "ssl", &[(NAME.to_owned(), place.files.clone())])
        .with(format!("listen 127.0.0.1:{port} quic reuseport; http3 on;"));
    let program = foreign_server::trixie("trixie-nginx", "usr/sbin/nginx").unwrap();
    let _nginx = Nginx::start_command(program, 1, "", &[server]).unwrap();
    let local = place.authority.issue(AIOQUIC_NAME, Key::Ecdsa).unwrap();
    let local = local.write(place.directory.path(), "local").unwrap();
    let aioquic = quic_peers::aioquic(&local, &place.root.certificate, 1).unwrap();
    let mut quinn = Quinn::start(&place.authority, &place.identity, true).unwrap();
    let cell = |title, library, name, made| Cell {
        title,
        library,
        version: "1.3",
        transport: "quic",
        name,
        made,
    };
    vec![
        cell(
            "nginx 1.26, HTTP/3",
            "OpenSSL 3.5",
            NAME,
            asks::http3(port, &place.root.certificate, NAME).unwrap(),
        ),
        cell(
            "quinn 0.11",
            "rustls on AWS-LC",
            NAME,
            asks::quinn(&mut quinn, NAME).unwrap(),
        ),
        cell(
            "aioquic 1.2",
            "aioquic",
            AIOQUIC_NAME,
            asks::aioquic(&aioquic),
        ),
    ]
}

#[test]
fn every_cell_is_right() {
    let place = Place::new();
    let servers = start_https(&place);
    let mut trace = Agent::start(["trace", "--format", "json"]).unwrap();
    let mut cells = https(&place, &servers);
    cells.extend(upgrades(&place));
    cells.extend(quic(&place));

    let find = |trace: &Agent, role: &str| {
        let mut found: BTreeMap<_, Vec<Record>> = BTreeMap::new();
        for record in trace.records().unwrap() {
            if record.role == role {
                let ends = (record.peer().port(), record.server.port);
                let key = (record.network.transport.clone(), ends);
                found.entry(key).or_default().push(record);
            }
        }
        found
    };
    let all = || {
        cells
            .iter()
            .flat_map(|cell| cell.made.iter().map(move |made| (cell, made)))
    };
    let key = |cell: &Cell, made: &Made| (cell.transport.to_owned(), made.ports);
    let mut rows = String::new();
    let mut faults = Vec::new();
    for role in ["server", "client"] {
        wait::until(PATIENCE, || {
            let found = find(&trace, role);
            all().all(|(cell, made)| found.contains_key(&key(cell, made)))
        });
        let found = find(&trace, role);
        for (cell, made) in all() {
            let records = found.get(&key(cell, made)).map_or(&[][..], Vec::as_slice);
            let what = format!("{} {} as {role}", cell.title, cell.version);
            let [record] = records else {
                faults.push(format!("{what}: {} records of {made:?}", records.len()));
                continue;
            };
            for wrong in differences(cell, made, record, role) {
                faults.push(format!("{what}: {wrong}, but {made:?}: {record:?}"));
            }
        }
        if role == "server" {
            for cell in &cells {
                let records: Vec<_> = cell
                    .made
                    .iter()
                    .filter_map(|made| Some((made, &found.get(&key(cell, made))?[0])))
                    .collect();
                rows.push_str(&row(cell, &records));
            }
        }
    }
    println!("{rows}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(trace.finish(Signal::TERM).unwrap().success());
    page::keep("compatibility.md", &format!("{PREFACE}{rows}{UNTESTED}"));
}

/// What a record has otherwise than the client says.
fn differences(cell: &Cell, made: &Made, record: &Record, role: &str) -> Vec<&'static str> {
    let result = if made.resumed { "resumed" } else { "full" };
    let method = if made.resumed { made.offered } else { "none" };
    let name = record.tls.client.server_name.as_deref();
    let version = record.tls.protocol.version.as_deref();
    // Over QUIC the end of early data is secret.
    let hidden = cell.transport == "quic" && made.resumed && record.early_data.accepted.is_none();
    let early = record.early_data.accepted == made.early_data.accepted || hidden;
    let checks = [
        ("result", record.result() == result),
        ("version", version == Some(cell.version)),
        ("server name", name == Some(cell.name)),
        ("offered", record.resumption.offered == made.offered),
        ("method", record.resumption.method == method),
        (
            "early data offered",
            record.early_data.offered == made.early_data.offered,
        ),
        (
            "early data sent",
            record.early_data.sent == made.early_data.sent,
        ),
        ("early data accepted", early),
        ("process", record.process.pid.is_some()),
        (
            "a reason where none was refused",
            record.resumption.reject_reason.is_none() || (made.offered != "none" && !made.resumed),
        ),
        (
            "no reason for a refusal",
            role == "client"
                || record.resumption.reject_reason.is_some()
                || made.offered == "none"
                || made.resumed,
        ),
        (
            "the library's reason for a foreign ticket",
            made.ask != Ask::Foreign
                || record.resumption.reject_source.as_deref() != Some("library")
                || record.resumption.reject_reason.as_deref() == Some("key_unknown"),
        ),
    ];
    let wrong = checks.into_iter().filter(|(_, right)| !right);
    wrong.map(|(what, _)| what).collect()
}

/// A row of the table.
fn row(cell: &Cell, records: &[(&Made, &Record)]) -> String {
    let count = |of: &dyn Fn(&Made) -> bool| cell.made.iter().filter(|made| of(made)).count();
    let list = |values: Vec<String>| {
        let mut distinct: Vec<String> = Vec::new();
        for value in values {
            if !distinct.contains(&value) {
                distinct.push(value);
            }
        }
        if distinct.is_empty() {
            "–".to_owned()
        } else {
            distinct.join(", ")
        }
    };
    let methods = records
        .iter()
        .filter(|(made, _)| made.resumed)
        .map(|(_, record)| record.resumption.method.clone());
    let early = records
        .iter()
        .filter(|(made, _)| made.early_data.offered == Some(true))
        .map(|(_, record)| match record.early_data.accepted {
            Some(true) => "accepted".to_owned(),
            Some(false) => "refused".to_owned(),
            None => "offered".to_owned(),
        });
    let reasons = records
        .iter()
        .filter(|(made, _)| matches!(made.ask, Ask::Foreign | Ask::EarlyForeign))
        .map(|(_, record)| {
            let of = |value: &Option<String>| value.clone().unwrap_or_default();
            let resumption = &record.resumption;
            format!(
                "{} ({})",
                of(&resumption.reject_reason),
                of(&resumption.reject_source)
            )
        });
    // A thread that the kernel moves in mid-call may leave its time unknown, so not all need have it.
    let has = |what: &'static str, of: &dyn Fn(&Record) -> bool| {
        let count = records.iter().filter(|(_, record)| of(record)).count();
        (count > 0 && 2 * count >= records.len()).then(|| what.to_owned())
    };
    let by_library = |source: &Option<String>| source.as_deref() == Some("library");
    let from_library = [
        has("end", &|record| {
            by_library(&record.timing.sources.handshake)
        }),
        has("CPU time", &|record| record.cpu.handshake_seconds.is_some()),
    ];
    let mut row = String::new();
    writeln!(
        row,
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        cell.title,
        cell.library,
        cell.version,
        count(&|made| !made.resumed),
        count(&|made| made.resumed),
        list(methods.collect()),
        list(early.collect()),
        list(reasons.collect()),
        list(from_library.into_iter().flatten().collect()),
    )
    .unwrap();
    row
}

const PREFACE: &str = "# Which servers are seen, and how much of them

Every server of this table runs with TLS 1.2 and 1.3 as its package brings it, with an agent beside it that has both
taps. A client makes connections without a session, with its last one, by session ID where it got one (TLS 1.2), with a
ticket of another instance that has keys of its own, and with early data where the server takes it. Each record, of
either end, is held against what the client's library says: result, method, version, server name, what was offered,
what became of early data. A cell that differs fails the test.

What follows is written by `cargo xtask compatibility --write`, and compared with by every run of the tests.

- *full*, *resumed*: connections of that result; none failed.
- *method*: how the resumed ones did.
- *early data*: `offered` where it cannot be told from outside whether it was accepted.
- *foreign ticket*: the reason given for one that was made by the other instance, and who gives it. The wire alone
  cannot tell before it has seen the keys in use; OpenSSL is asked itself.
- *from the library*: what of the record comes from the library tap, be it a library of its own, in a container, or
  inside of a program. `end`: the time of the handshake's end is exact instead of inferred. All else comes from the wire,
  for all servers alike.

| server | library | TLS | full | resumed | method | early data | foreign ticket | from the library |
|---|---|---|---|---|---|---|---|---|
";

const UNTESTED: &str = "
Untested, since no package of them is at hand: Envoy and others on BoringSSL, LibreSSL, wolfSSL, Mbed TLS, s2n, NSS,
Schannel; HAProxy over QUIC; Postfix, Exim and other servers of STARTTLS than Dovecot and PostgreSQL.
";
