//! Holds the agent's records against what servers logged and clients did.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::SocketAddr;

use crate::agent::Record;
use crate::workload::{Expect, Note};

/// Identifies a connection: a client address and port used once for each server port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub server_port: u16,
    pub peer: SocketAddr,
}

impl Key {
    pub fn of(record: &Record) -> Self {
        Self {
            server_port: record.server.port,
            peer: record.peer(),
        }
    }
}

/// What a server says of a handshake it completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    pub resumed: bool,
    pub version: &'static str,
    /// IANA's name.
    pub cipher: &'static str,
    /// As the client sent it, in lower case.
    pub server_name: Option<String>,
    /// The client that a PROXY header announced.
    pub announced: Option<SocketAddr>,
}

/// What a record has to say.
#[derive(Clone, Debug)]
pub enum Expected {
    Logged(Truth),
    /// The handshake completed, but nothing was requested, so no server logged it.
    Established {
        resumed: bool,
    },
    Failed,
    /// No ClientHello was sent: no record.
    Nothing,
}

impl Expected {
    /// `result` of the metrics; `None` where nothing is counted.
    pub fn result(&self) -> Option<&'static str> {
        match self {
            Self::Logged(Truth { resumed: true, .. }) | Self::Established { resumed: true } => {
                Some("resumed")
            }
            Self::Logged(_) | Self::Established { .. } => Some("full"),
            Self::Failed => Some("failed"),
            Self::Nothing => None,
        }
    }

    /// Whether `record` tells the truth.
    pub fn agrees(&self, record: &Record) -> bool {
        self.differences(record).is_none()
    }

    /// What `record` says otherwise.
    fn differences(&self, record: &Record) -> Option<String> {
        let mut wrong = String::new();
        let mut check = |field: &str, said: &dyn fmt::Debug, truth: &dyn fmt::Debug, same: bool| {
            if !same {
                // Writing to a String cannot fail.
                let _ = write!(wrong, " {field}: {said:?}, in truth {truth:?};");
            }
        };
        let tls = &record.tls;
        check(
            "result",
            &record.result(),
            &self.result(),
            Some(record.result()) == self.result(),
        );
        if let Self::Logged(truth) = self {
            let version = tls.protocol.version.as_deref();
            check(
                "protocol",
                &version,
                &truth.version,
                version == Some(truth.version),
            );
            check(
                "cipher",
                &tls.cipher,
                &truth.cipher,
                tls.cipher.as_deref() == Some(truth.cipher),
            );
            let name = tls.client.server_name.as_deref();
            let same = name == truth.server_name.as_deref()
                || (is_invalid_name(truth.server_name.as_deref())
                    && matches!(name, None | Some("_invalid")));
            check("server_name", &name, &truth.server_name, same);
            let client = record.client.socket();
            let announced = truth.announced.unwrap_or(record.peer());
            check("client", &client, &announced, client == announced);
        }
        (!wrong.is_empty()).then_some(wrong)
    }
}

/// True for what RFC 6066, 3 forbids in SNI: the record does not repeat it.
pub fn is_invalid_name(name: Option<&str>) -> bool {
    name.is_some_and(|name| name.parse::<std::net::IpAddr>().is_ok())
}

/// Expectations by connection, each under the name of its kind.
pub type Expectations = BTreeMap<Key, (&'static str, Vec<Expected>)>;

/// Joins what clients noted with what the server logged. Also returns what these two disagree on:
/// faults of the test, not of the agent.
pub fn expectations(
    notes: &[Note],
    log: &BTreeMap<Key, Vec<Truth>>,
) -> (Expectations, Vec<String>) {
    let mut faults = Vec::new();
    let mut expectations = Expectations::new();
    for note in notes {
        if let Some(error) = &note.error {
            faults.push(format!("{} {:?}: {error}", note.kind, note.key));
        }
        let logged = log.get(&note.key).map_or(&[][..], Vec::as_slice);
        let expected = match (note.expect, logged) {
            (Expect::Logged, [truth]) => {
                if note.resumed.is_some_and(|resumed| resumed != truth.resumed) {
                    faults.push(format!(
                        "{} {:?}: client and server differ on resumption",
                        note.kind, note.key
                    ));
                }
                Expected::Logged(truth.clone())
            }
            (Expect::Established, []) => Expected::Established {
                resumed: note.resumed.unwrap_or(false),
            },
            (Expect::Failed, []) => Expected::Failed,
            (Expect::Nothing, []) => Expected::Nothing,
            (expect, logged) => {
                faults.push(format!(
                    "{} {:?}: {expect:?}, but logged {logged:?}",
                    note.kind, note.key
                ));
                continue;
            }
        };
        if expectations
            .insert(note.key, (note.kind, vec![expected]))
            .is_some()
        {
            faults.push(format!("{:?} was used twice", note.key));
        }
    }
    for key in log.keys().filter(|key| !expectations.contains_key(key)) {
        faults.push(format!("{key:?} was logged, but nobody connected"));
    }
    (expectations, faults)
}

/// Outcome for one kind of connection.
#[derive(Clone, Debug, Default)]
struct Row {
    connections: usize,
    records: usize,
    full: usize,
    resumed: usize,
    failed: usize,
    disagreements: usize,
    missing: usize,
}

/// Outcome of a comparison; `Display` is a table.
#[derive(Debug, Default)]
pub struct Report {
    rows: BTreeMap<&'static str, Row>,
    pub invented: usize,
    /// One line for each problem.
    pub problems: Vec<String>,
}

impl Report {
    pub fn is_exact(&self) -> bool {
        self.problems.is_empty()
    }

    /// Expected handshakes by result: full, resumed, failed.
    pub fn totals(&self) -> (usize, usize, usize) {
        self.rows
            .values()
            .fold((0, 0, 0), |(full, resumed, failed), row| {
                (full + row.full, resumed + row.resumed, failed + row.failed)
            })
    }
}

/// Compares the records of one role on the given server ports.
pub fn compare<'a>(
    records: impl IntoIterator<Item = &'a Record>,
    expectations: &Expectations,
) -> Report {
    let mut by_key: BTreeMap<Key, Vec<&Record>> = BTreeMap::new();
    for record in records {
        by_key.entry(Key::of(record)).or_default().push(record);
    }
    let mut report = Report::default();
    for (key, (kind, expected)) in expectations {
        let row = report.rows.entry(kind).or_default();
        let found = by_key.remove(key).unwrap_or_default();
        let handshakes: Vec<_> = expected
            .iter()
            .filter(|one| one.result().is_some())
            .collect();
        row.connections += expected.len();
        row.records += found.len();
        for one in &handshakes {
            match one.result() {
                Some("resumed") => row.resumed += 1,
                Some("full") => row.full += 1,
                _ => row.failed += 1,
            }
        }
        for (one, record) in handshakes.iter().zip(&found) {
            if let Some(wrong) = one.differences(record) {
                row.disagreements += 1;
                report.problems.push(format!("{kind} {key:?}:{wrong}"));
            }
        }
        if found.len() < handshakes.len() {
            row.missing += handshakes.len() - found.len();
            report.problems.push(format!("{kind} {key:?}: no record"));
        }
        for record in found.iter().skip(handshakes.len()) {
            report.invented += 1;
            report
                .problems
                .push(format!("{kind} {key:?}: invented {record:?}"));
        }
    }
    for (key, records) in by_key {
        report.invented += records.len();
        report
            .problems
            .push(format!("{key:?}: invented {records:?}"));
    }
    report
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<26} {:>11} {:>8} {:>7} {:>8} {:>7} {:>9} {:>8}",
            "kind", "connections", "records", "full", "resumed", "failed", "disagree", "missing"
        )?;
        let mut total = Row::default();
        for (kind, row) in &self.rows {
            write_row(f, kind, row)?;
            total.connections += row.connections;
            total.records += row.records;
            total.full += row.full;
            total.resumed += row.resumed;
            total.failed += row.failed;
            total.disagreements += row.disagreements;
            total.missing += row.missing;
        }
        write_row(f, "total", &total)?;
        writeln!(f, "invented: {}", self.invented)
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, kind: &str, row: &Row) -> fmt::Result {
    let Row {
        connections,
        records,
        full,
        resumed,
        failed,
        disagreements,
        missing,
    } = row;
    writeln!(
        f,
        "{kind:<26} {connections:>11} {records:>8} {full:>7} {resumed:>8} {failed:>7} {disagreements:>9} {missing:>8}"
    )
}
