//! Waits for the agent's records and judges them.
#![allow(clippy::unwrap_used, reason = "a verdict panics, as an assertion does")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::agent::{Agent, Record};
use crate::compare::{Expectations, Expected, Key, compare};

/// Compares, prints the table, and ends the agent as a user would.
pub fn verify(agent: &mut Agent, role: &str, expectations: &Expectations) {
    let ports = expectations.keys().map(|key| key.server_port).collect();
    let found = records(agent, role, &ports, &keys(expectations));
    let report = compare(&found, expectations);
    println!("role {role}\n{report}");
    let shown = report.problems.len().min(60);
    assert!(
        report.is_exact(),
        "{} problems:\n{}\nthe agent said:\n{}",
        report.problems.len(),
        report.problems[..shown].join("\n"),
        agent.messages()
    );
    let (full, resumed, _) = report.totals();
    assert!(
        full > 0 && resumed > 0,
        "a comparison without both outcomes proves nothing"
    );
}

/// Records on `ports` in one role, once all of `wanted` are there or nothing came for a while, and
/// then a moment longer, in which an invented one could appear.
fn records(agent: &mut Agent, role: &str, ports: &BTreeSet<u16>, wanted: &[Key]) -> Vec<Record> {
    const QUIET: Duration = Duration::from_secs(20);
    let mine = |agent: &Agent| -> Vec<Record> {
        let all = agent.records().unwrap();
        all.into_iter()
            .filter(|record| record.role == role && ports.contains(&record.server.port))
            .collect()
    };
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let found = mine(agent);
        let keys: BTreeSet<Key> = found.iter().map(Key::of).collect();
        if wanted.iter().all(|key| keys.contains(key)) || since.elapsed() > QUIET {
            break;
        }
        if found.len() > last {
            (last, since) = (found.len(), Instant::now());
        }
        if let Some(status) = agent.status() {
            panic!("the agent died ({status}):\n{}", agent.messages());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(Duration::from_secs(2));
    mine(agent)
}

fn keys(expectations: &Expectations) -> Vec<Key> {
    let counted = |expected: &Vec<Expected>| expected.iter().any(|one| one.result().is_some());
    expectations
        .iter()
        .filter(|(_, (_, expected))| counted(expected))
        .map(|(key, _)| *key)
        .collect()
}
