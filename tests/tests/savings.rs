//! `cargo xtask bench savings` in short: it runs, and what it says of round trips is right.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::process::Command;

use resumetry_tests::undisturbed;

/// First numbers of the cells of the rows that begin with these cells.
fn rows(table: &str, head: &[&str]) -> Vec<Vec<f64>> {
    table
        .lines()
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>())
        .filter(|cells| cells.get(1..).is_some_and(|cells| cells.starts_with(head)))
        .map(|cells| {
            cells[1 + head.len()..]
                .iter()
                .filter_map(|cell| cell.split(' ').next()?.parse().ok())
                .collect()
        })
        .collect()
}

#[test]
fn the_document_on_savings_can_be_made() {
    undisturbed::measure(make_and_read);
}

fn make_and_read() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench-savings"))
        .arg("--short")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    assert!(!text.contains("NaN"));
    // How many tickets follow the answer to early data is told by the habit of the service, and a
    // short run may be too short for one.
    let silent = text
        .lines()
        .find(|line| line.contains("not reported") && !line.contains("0-RTT"));
    assert_eq!(silent, None);
    let section = |heading: &str| {
        let (_, rest) = text.split_once(heading).unwrap();
        rest.split("\n## ").next().unwrap()
    };
    let claims = section("## The claims");
    // Of 20 ms, by a single connection or three, on a machine that may be busy.
    for (name, trips) in [
        ("TLS 1.2 resumed", 1.0),
        ("TLS 1.3 resumed", 0.0),
        ("TLS 1.3 0-RTT", 1.0),
    ] {
        let saved = *rows(claims, &[name])[0].last().unwrap();
        assert!((saved - trips).abs() < 0.3, "{name}: {saved} round trips");
    }
    assert_eq!(claims.matches("**The claim is not met.**").count(), 1);
    let server = section("## What the server spends");
    for version in ["1.2", "1.3"] {
        for key in ["RSA-2048", "ECDSA P-256", "RSA-4096"] {
            let row = |mode| rows(server, &[version, key, mode]).concat();
            let (full, resumed) = (row("full"), row("resumed"));
            // CPU first, bytes from the server last. One short slice each, on a machine that may be
            // busy, tells a signature with RSA, not the little that ECDSA costs.
            assert!(resumed[0] > 0.0, "{version} {key}");
            assert!(
                key.starts_with("ECDSA") || full[0] > resumed[0],
                "{version} {key}"
            );
            assert!(full.last() > resumed.last(), "{version} {key}");
        }
    }
    let waiting = section("## What the user waits for");
    let trips = |version, mode| rows(waiting, &[version, "RSA-2048", mode])[0].clone();
    // TCP's round trip comes first. The last cells are 80 ms away, and what is saved there.
    for (version, mode, least) in [
        ("1.2", "full", 320.0),
        ("1.2", "resumed", 240.0),
        ("1.3", "full", 240.0),
        ("1.3", "resumed", 240.0),
        ("1.3", "0-RTT", 160.0),
    ] {
        let place = if mode == "full" { 2 } else { 4 };
        let wait = trips(version, mode)[place];
        assert!(
            wait >= least && wait < least + 60.0,
            "{version} {mode}: {wait}"
        );
    }
}
