//! No secret leaves: master secrets and ticket keys that the test knows are looked for in every
//! output of the agent, in its raw events and in its memory.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use openssl::ssl::SslVersion;
use resumetry_tests::agent::Agent;
use resumetry_tests::farm::Farm;
use resumetry_tests::session::{self, Offer};
use resumetry_tests::site::Names;
use resumetry_tests::{metrics, ports, wait};

/// A known secret, and what it is.
struct Secret {
    what: String,
    bytes: Vec<u8>,
}

/// True where `haystack` holds the bytes, or their hex digits in either case.
fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    let hex: String = needle.iter().map(|byte| format!("{byte:02x}")).collect();
    let forms = [
        needle.to_vec(),
        hex.clone().into_bytes(),
        hex.to_uppercase().into_bytes(),
    ];
    forms.iter().any(|form| {
        haystack
            .windows(form.len())
            .any(|window| window == &form[..])
    })
}

/// Everything that the process has written to its memory and that can be read.
fn memory(pid: u32) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let file = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut memory = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, access) = (fields.next().unwrap(), fields.next().unwrap());
        if !access.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let from = u64::from_str_radix(from, 16).unwrap();
        let to = u64::from_str_radix(to, 16).unwrap();
        let mut part = vec![0; (to - from) as usize];
        // Some mappings of devices cannot be read.
        if file.read_exact_at(&mut part, from).is_ok() {
            memory.extend(part);
        }
    }
    memory
}

#[test]
fn no_known_secret_is_found_in_output_events_or_memory() {
    let names = Names::new().unwrap();
    let farm = Farm::start(&names).unwrap();
    let directory = names.directory.path();
    let recording = directory.join("events");
    let trace = Agent::start([
        "trace",
        "--format",
        "json",
        "--log-level",
        "trace",
        "--record-events",
        &recording.to_string_lossy(),
    ])
    .unwrap();
    let text = Agent::start(["trace", "--log-level", "trace"]).unwrap();
    let listen = format!("127.0.0.1:{}", ports::free().unwrap());
    let run = Agent::start(["run", "--listen", &listen, "--log-level", "trace"]).unwrap();

    let mut secrets = Vec::new();
    for file in ["home.key", "strange.key", "next.key"] {
        // Key name (public), then the keys of HMAC and cipher, or the other way round.
        let key = fs::read(directory.join(file)).unwrap();
        for (part, from) in [("first half", 16), ("second half", 48)] {
            secrets.push(Secret {
                what: format!("{part} of {file}"),
                bytes: key[from..from + 32].to_vec(),
            });
        }
    }
    let mut connections = 0;
    for ports in &farm.ticket_ports {
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let offer = Offer::new(version, &names.name(0));
            let session = session::connect(ports.home, &offer, None)
                .unwrap()
                .session
                .unwrap();
            for port in [ports.home, ports.stranger] {
                session::connect(port, &offer, Some(&session)).unwrap();
            }
            connections += 3;
            let mut bytes = vec![0; 64];
            let length = session.master_key(&mut bytes);
            bytes.truncate(length);
            assert!(length >= 32, "a session without a master secret");
            secrets.push(Secret {
                what: format!("master secret of a session of {}", ports.title),
                bytes,
            });
        }
    }
    let seen = |agent: &Agent| {
        wait::until(Duration::from_secs(20), || {
            agent.line_count() >= 2 * connections
        })
    };
    assert!(seen(&trace) && seen(&text), "records are missing");
    let address = listen.parse().unwrap();
    // Counted once the response came, or did not.
    let counted = wait::until(Duration::from_secs(20), || {
        let page = metrics::get(address, "/metrics").unwrap().1;
        page.contains(&names.name(0))
    });
    assert!(counted, "the connections are not counted");
    let mut haystacks = vec![
        (
            "/metrics",
            metrics::get(address, "/metrics").unwrap().1.into_bytes(),
        ),
        (
            "the page",
            metrics::get(address, "/").unwrap().1.into_bytes(),
        ),
        ("JSON records", trace.lines().join("\n").into_bytes()),
        ("text records", text.lines().join("\n").into_bytes()),
    ];
    for (what, agent) in [("trace", &trace), ("text", &text), ("run", &run)] {
        haystacks.push((what, agent.messages().into_bytes()));
        haystacks.push((what, memory(agent.pid())));
    }
    drop((trace, text, run));
    haystacks.push(("raw events", fs::read(&recording).unwrap()));

    // What is known to be there is found: the search can fail.
    let name = names.name(0);
    for what in ["JSON records", "raw events", "/metrics", "trace"] {
        let found = haystacks
            .iter()
            .any(|(title, bytes)| *title == what && holds(bytes, name.as_bytes()));
        assert!(found, "not even the server name is found in {what}");
    }
    for (title, bytes) in &haystacks {
        for secret in &secrets {
            assert!(
                !holds(bytes, &secret.bytes),
                "{title}: holds the {}",
                secret.what
            );
        }
    }
}
