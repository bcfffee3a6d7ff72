//! `/api/v1/*` against the OpenAPI page that documents it, and what it says against what clients did.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::process::{Command, Stdio};
use std::time::Duration;

use resumetry_tests::agent::Agent;
use resumetry_tests::client::{Client, Profile, Versions, dial};
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::site::Names;
use resumetry_tests::{cgroup::Cgroup, metrics, ports, repository, wait};
use rustix::process::Signal;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// An agent that watches this group alone, and where it answers.
fn watch(cgroup: &Cgroup) -> (Agent, std::net::SocketAddr) {
    let listen: std::net::SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
    let agent = Agent::start([
        "run",
        "--listen",
        &listen.to_string(),
        "--cgroup",
        cgroup.path().to_str().unwrap(),
        "--label",
        "pop=fra1",
    ]);
    (agent.unwrap(), listen)
}

fn answer(listen: std::net::SocketAddr, path: &str) -> Value {
    let (status, body) = metrics::get(listen, path).unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

#[test]
fn answers_are_as_the_openapi_page_says_and_as_clients_did() {
    let names = Names::new().unwrap();
    let (name, _) = &names.served[0];
    let cgroup = Cgroup::create("api").unwrap();
    let port = ports::free().unwrap();
    let server = Server::new(port, "ssl", &names.served);
    let _nginx = cgroup.inside(|| Nginx::start(1, "", &[server])).unwrap();
    let (mut agent, listen) = watch(&cgroup);

    // Nothing was seen: that is an answer too.
    let empty = answer(listen, "/api/v1/overview");
    assert_eq!(empty["server"]["quota"], Value::Null);
    assert_eq!(empty["history"]["points"], Value::Array(Vec::new()));

    let client = || {
        Client::new(Profile {
            versions: Versions::Tls13,
            server_name: Some(name.clone()),
            ..Profile::default()
        })
        .unwrap()
    };
    for _ in 0..4 {
        let client = client();
        for visit in 0..5 {
            let done = client.request(dial(port).unwrap(), true, 1).unwrap();
            assert_eq!(done.resumed, visit > 0, "the fixture");
        }
    }
    let overview = || answer(listen, "/api/v1/overview");
    let is_there = wait::until(PATIENCE, || overview()["server"]["resumed"] == 16);
    let overview = overview();
    assert!(is_there, "{overview:#}");
    let expected = serde_json::json!({
        "full": 4, "resumed": 16, "failed": 0, "offered": 16, "quota": 0.8
    });
    assert_eq!(overview["server"], expected);
    assert_eq!(overview["labels"]["pop"], "fra1");
    let reasons = serde_json::json!([{ "reason": "never_offered", "count": 4 }]);
    assert_eq!(overview["reasons"], reasons);
    let points = overview["history"]["points"].as_array().unwrap();
    let resumed: u64 = points
        .iter()
        .map(|point| point["resumed"].as_u64().unwrap())
        .sum();
    assert_eq!(resumed, 16);

    let named = answer(listen, "/api/v1/names");
    let rows = named["names"].as_array().unwrap();
    let row = rows
        .iter()
        .find(|row| row["server_name"] == name.as_str())
        .unwrap();
    assert_eq!((&row["hour"], &row["total"]), (&expected, &expected));
    let detail = answer(listen, &format!("/api/v1/name?server_name={name}"));
    assert_eq!((&detail["hour"], &detail["reasons"]), (&expected, &reasons));
    let parts = detail["parts"].as_array().unwrap();
    let offered: Vec<&str> = parts
        .iter()
        .map(|part| part["offered"].as_str().unwrap())
        .collect();
    assert_eq!(offered, ["none", "psk"], "{detail:#}");
    let keys = answer(listen, "/api/v1/keys");
    let accepted = keys["services"][0]["keys"].as_array().unwrap().iter();
    let accepted: u64 = accepted.map(|key| key["accepted"].as_u64().unwrap()).sum();
    assert_eq!(accepted, 16, "{keys:#}");

    // Handshakes go on, for those who follow.
    let schema = Command::new(repository().join("target/python/bin/python"))
        .arg(repository().join("tests/src/programs/api_schema.py"))
        .args([&format!("http://{listen}"), name])
        .stdout(Stdio::piped())
        .spawn();
    let mut schema = schema.unwrap();
    while schema.try_wait().unwrap().is_none() {
        client().request(dial(port).unwrap(), true, 1).unwrap();
    }
    let output = schema.wait_with_output().unwrap();
    let problems = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && problems.is_empty(), "{problems}");
    // Nobody who follows holds up the end.
    assert!(agent.finish(Signal::TERM).unwrap().success());
}
