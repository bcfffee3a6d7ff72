//! Other people's captures, and what other tools say of them: every verdict agrees, or the difference is
//! explained in docs/accuracy.md, which this test writes (`UPDATE_EXPECT=1`).
//!
//! The captures are not part of this project; without them there is nothing to compare with.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect_file;
use resumetry::core::fingerprint::Fingerprinter;
use resumetry::core::names;
use resumetry::core::record::{Failure, Handshake, ServerName};
use resumetry::pcap;

/// Transport, client, server; each end as address and port.
type Ends = (String, String, String);
type Row = BTreeMap<String, String>;

/// What the page is made with: that of Debian 12.
const TSHARK: &str = "(Wireshark) 4.0.";

/// A ClientHello of SSL 2.0 itself, which is no TLS.
const SSL2: &str = "zeek+zeek/testing/btest/Traces/tls/ssl-v2.pcap";

/// A draft of TLS 1.3 in which the session ID is echoed: Zeek takes that for a resumption.
const ZEEK_IS_WRONG: &[&str] = &["chrome-63.0.3211.0-canary-tls_experiment.pcap"];

fn truth() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/truth")
}

/// A table with a head, tab-separated; `None` where the captures are not here.
fn table(name: &str) -> Option<Vec<Row>> {
    let text = fs::read_to_string(truth().join(name)).ok()?;
    let mut lines = text.lines().map(|line| line.split('\t'));
    let head: Vec<&str> = lines.next()?.collect();
    let row = |cells: std::str::Split<'_, char>| {
        let named = head.iter().copied().map(str::to_owned);
        named.zip(cells.map(str::to_owned)).collect()
    };
    Some(lines.map(row).collect())
}

/// The first record of each pair of ends in a capture.
fn records(capture: &str) -> BTreeMap<Ends, Handshake> {
    let file = File::open(truth().join("captures").join(capture)).unwrap();
    let mut records = BTreeMap::new();
    pcap::read(file, Fingerprinter::new(b""), |record| {
        let end = |end: std::net::SocketAddr| format!("{} {}", end.ip(), end.port());
        let transport = record.transport.as_str().to_owned();
        let ends = (transport, end(record.client), end(record.server));
        records.entry(ends).or_insert(record);
    })
    .unwrap();
    records
}

/// Ends of connections in which tshark sees `tls.resumed`, in either order; `None` without tshark.
fn resumed_by_tshark(capture: &str) -> Option<BTreeSet<[String; 2]>> {
    let output = Command::new("tshark")
        .arg("-r")
        .arg(truth().join("captures").join(capture))
        .args(["-Y", "tls.resumed", "-T", "fields", "-E", "occurrence=f"])
        .args([
            "-e",
            "ip.src",
            "-e",
            "ipv6.src",
            "-e",
            "tcp.srcport",
            "-e",
            "udp.srcport",
        ])
        .args([
            "-e",
            "ip.dst",
            "-e",
            "ipv6.dst",
            "-e",
            "tcp.dstport",
            "-e",
            "udp.dstport",
        ])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let pairs = text.lines().map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let mut ends: Vec<String> = cells
            .chunks(4)
            .map(|end| format!("{}{} {}{}", end[0], end[1], end[2], end[3]))
            .collect();
        ends.sort();
        [ends[0].clone(), ends[1].clone()]
    });
    Some(pairs.collect())
}

fn is_selected(record: &Handshake) -> bool {
    record.established || record.failure == Some(Failure::Unfinished)
}

/// What of a record differs from a row of `expected.tsv`.
fn differences(record: &Handshake, row: &Row) -> Vec<String> {
    let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
    let mut seen = vec![
        ("hello_retry", yes(record.hello_retry)),
        ("early_data_offered", yes(record.early_data_offered)),
    ];
    if is_selected(record) {
        seen.push(("resumed", yes(record.resumed)));
        seen.push(("method", record.method.as_str().to_owned()));
    }
    // An address is no server name (RFC 6066, 3), and is not kept.
    if let Some(ServerName::Host(name)) = &record.server_name {
        seen.push(("server_name", name.to_string()));
    }
    // Drafts of TLS 1.3 count as what they became.
    if let Some(version) = record.version
        && !row["version"].starts_with("0x7")
    {
        let version = names::version(version).into_owned();
        seen.push(("version", version.trim_start_matches("ssl").to_owned()));
    }
    seen.into_iter()
        .filter(|(column, value)| row[*column] != *value)
        .map(|(column, value)| format!("{column}: {value}, expected {}", row[column]))
        .collect()
}

/// What of a record differs from a row of Zeek's `ssl.log`.
fn differences_from_zeek(record: &Handshake, row: &Row) -> Vec<String> {
    let mut found = Vec::new();
    // Of other logs than that of TLS there is nothing to compare.
    if is_selected(record) && matches!(row["resumed"].as_str(), "T" | "F") {
        let zeek = row["resumed"] == "T";
        if zeek != record.resumed {
            found.push(format!("resumed: {}, Zeek says {zeek}", record.resumed));
        }
    }
    if let (Some(version), true) = (record.version, row["version"].starts_with("TLSv1")) {
        let version = names::version(version).replace('.', "");
        // Zeek names drafts by their number.
        if !row["version"].contains("draft") && row["version"] != format!("TLSv{version}") {
            found.push(format!("version: {version}, Zeek says {}", row["version"]));
        }
    }
    found
}

/// One line of the table.
#[derive(Default)]
struct Sum {
    connections: usize,
    agrees: usize,
    resumed: usize,
    with_zeek: usize,
    agrees_with_zeek: usize,
    tshark: usize,
    tshark_agrees: usize,
}

#[test]
fn others_captures_give_others_verdicts() {
    let (Some(expected), Some(zeek)) = (table("expected.tsv"), table("zeek-rows.tsv")) else {
        eprintln!("{} is not here: nothing to compare with", truth().display());
        return;
    };
    let mut captures: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in &expected {
        if row["client_hello"] == "yes" && row["server_hello"] == "yes" {
            captures.entry(&row["capture"]).or_default().push(row);
        }
    }
    let (mut sums, mut faults) = (BTreeMap::<&str, Sum>::new(), Vec::new());
    let mut tshark_differs = Vec::new();
    // Another may say other things.
    let has_tshark = Command::new("tshark")
        .arg("-v")
        .output()
        .is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(TSHARK));
    for (capture, rows) in captures {
        let records = records(capture);
        let file = Path::new(capture).file_name().unwrap().to_str().unwrap();
        let source = capture.split('/').next().unwrap();
        let sum = sums.entry(source).or_default();
        let tshark = resumed_by_tshark(capture).filter(|_| has_tshark);
        for row in rows {
            let [transport, client, server] = ["transport", "client", "server"].map(|c| &row[c]);
            let ends = (transport.clone(), client.clone(), server.clone());
            sum.connections += 1;
            sum.resumed += usize::from(row["resumed"] == "yes");
            if let Some(pairs) = &tshark {
                let mut pair = [client.clone(), server.clone()];
                pair.sort();
                let agrees = pairs.contains(&pair) == (row["resumed"] == "yes");
                sum.tshark += 1;
                sum.tshark_agrees += usize::from(agrees);
                if !agrees {
                    tshark_differs.push((capture, row));
                }
            }
            let Some(record) = records.get(&ends) else {
                if capture != SSL2 {
                    faults.push(format!("{capture} {ends:?}: no record"));
                }
                continue;
            };
            let differs = differences(record, row);
            sum.agrees += usize::from(differs.is_empty());
            faults.extend(
                differs
                    .iter()
                    .map(|one| format!("{capture} {ends:?}: {one}")),
            );
            let ends = [client, server].map(|end| end.split_once(' ').unwrap());
            for row in &zeek {
                // One of several, by its place among Zeek's.
                let mut traces = row["traces"].split(';');
                let is_this = traces.any(|trace| capture.ends_with(&format!("/Traces/{trace}")))
                    && (row["orig_h"].as_str(), row["orig_p"].as_str()) == ends[0]
                    && (row["resp_h"].as_str(), row["resp_p"].as_str()) == ends[1];
                if !is_this {
                    continue;
                }
                sum.with_zeek += 1;
                let differs = differences_from_zeek(record, row);
                sum.agrees_with_zeek += usize::from(differs.is_empty());
                if !ZEEK_IS_WRONG.contains(&file) {
                    faults.extend(
                        differs
                            .iter()
                            .map(|one| format!("{capture} {ends:?}: {one}")),
                    );
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    if has_tshark {
        expect_file!["../../docs/accuracy.md"].assert_eq(&page(&sums, &tshark_differs));
    }
}

fn page(sums: &BTreeMap<&str, Sum>, tshark_differs: &[(&str, &Row)]) -> String {
    let mut page = String::from(include_str!("data/accuracy_head.md"));
    let mut total = Sum::default();
    let mut line = |name: &str, sum: &Sum| {
        writeln!(
            page,
            "| {name} | {} | {} | {} | {} of {} | {} of {} |",
            sum.connections,
            sum.resumed,
            sum.agrees,
            sum.agrees_with_zeek,
            sum.with_zeek,
            sum.tshark_agrees,
            sum.tshark,
        )
        .unwrap();
    };
    for (source, sum) in sums {
        line(&source.replace('+', "/"), sum);
        total.connections += sum.connections;
        total.resumed += sum.resumed;
        total.agrees += sum.agrees;
        total.with_zeek += sum.with_zeek;
        total.agrees_with_zeek += sum.agrees_with_zeek;
        total.tshark += sum.tshark;
        total.tshark_agrees += sum.tshark_agrees;
    }
    line("all", &total);
    page.push_str(include_str!("data/accuracy_tail.md"));
    for (capture, row) in tshark_differs {
        let name = capture.rsplit('/').next().unwrap();
        writeln!(
            page,
            "| {name} | {} | {} | {} |",
            row["client"].replace(' ', ":"),
            row["version"],
            row["method"],
        )
        .unwrap();
    }
    page
}
