//! Time to first byte and round trips against what clients at known distances measured, and the gap
//! between full and resumed handshakes.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use resumetry_tests::agent::{Agent, Record};
use resumetry_tests::cgroup::Cgroup;
use resumetry_tests::client::{Alpn, Client, Versions};
use resumetry_tests::distance::Distance;
use resumetry_tests::first_byte::Ask;
use resumetry_tests::relay::Disturbance;
use resumetry_tests::think::ThinkingSite;
use resumetry_tests::{metrics, ports, undisturbed, wait};

/// Round trips, ms.
const ROUND_TRIPS: [u64; 3] = [0, 20, 80];

/// How often each kind of connection is made. A busy machine makes single measurements late, at the
/// client or at the server: two of three must be right.
const SAMPLES: usize = 3;

/// Rounds in which to get it right.
const ROUNDS: usize = 3;

/// What an agent may be off by: this or two per cent.
const TOLERANCE: f64 = 0.002;

/// No two connections of a test come from the same port: it is their name.
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);

/// What the client saw of one connection, seconds.
#[derive(Clone, Copy, Debug)]
struct Seen {
    first_byte: f64,
    round_trip: f64,
}

/// One connection from a port that names it.
fn connect(distance: &Distance, port: u16, client: &Client, ask: &Ask<'_>) -> (u16, Seen) {
    let local = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
    let dial = distance.dial_from(local, port).unwrap();
    let moments = client.first_byte(dial, ask).unwrap();
    assert_eq!(moments.resumed, ask.resume);
    let first = &moments.exchanges[0];
    let seen = Seen {
        first_byte: (first.first_byte - moments.connected).as_secs_f64(),
        round_trip: distance.round_trip().as_secs_f64(),
    };
    (local, seen)
}

/// Ways to begin a connection and to ask.
fn asks() -> Vec<(&'static str, Versions, Ask<'static>)> {
    vec![
        ("full 1.2", Versions::Tls12, Ask::FULL),
        ("resumed 1.2", Versions::Tls12, Ask::RESUMED),
        ("keep-alive 1.2", Versions::Tls12, Ask::CHATTY),
        ("patient 1.2", Versions::Tls12, Ask::PATIENT),
        ("full 1.3", Versions::Tls13, Ask::FULL),
        ("resumed 1.3", Versions::Tls13, Ask::RESUMED),
        ("0-RTT", Versions::Tls13, Ask::EARLY),
        ("keep-alive 1.3", Versions::Tls13, Ask::CHATTY),
        ("patient 1.3", Versions::Tls13, Ask::PATIENT),
    ]
}

/// What connections have in common: their round trip, ms, and their name.
type Kind = (u64, String);

/// Connections by kind, and by port.
type Measured = BTreeMap<Kind, Vec<(u16, Seen)>>;

/// Makes the connections of every kind, or of those that are wanted.
fn measure(
    site: &ThinkingSite,
    distances: &[Distance],
    wanted: Option<&BTreeSet<Kind>>,
) -> Measured {
    let measured = Mutex::new(Measured::new());
    std::thread::scope(|scope| {
        let measured = &measured;
        for distance in distances {
            for alpn in [Alpn::Http1, Alpn::H2] {
                for version in [Versions::Tls12, Versions::Tls13] {
                    let asks = asks().into_iter().filter(move |ask| ask.1 == version);
                    let connect_all =
                        move || connect_each(site, distance, alpn, asks, wanted, measured);
                    scope.spawn(connect_all);
                }
            }
        }
    });
    measured.into_inner().unwrap()
}

/// Connections of one client after the other.
fn connect_each(
    site: &ThinkingSite,
    distance: &Distance,
    alpn: Alpn,
    asks: impl Iterator<Item = (&'static str, Versions, Ask<'static>)>,
    wanted: Option<&BTreeSet<Kind>>,
    measured: &Mutex<Measured>,
) {
    for (name, versions, ask) in asks {
        let client = site.client(versions, alpn).unwrap();
        // It brings the session.
        connect(distance, site.port, &client, &Ask::default());
        for path in ["/", "/think/20", "/think/150"] {
            let ask = Ask { path, ..ask };
            let round_trip = distance.round_trip().as_millis() as u64;
            let kind = (round_trip, format!("{name} {alpn:?} {path}"));
            if wanted.is_some_and(|wanted| !wanted.contains(&kind)) {
                continue;
            }
            for _ in 0..SAMPLES {
                let seen = connect(distance, site.port, &client, &ask);
                let mut measured = measured.lock().unwrap();
                measured.entry(kind.clone()).or_default().push(seen);
            }
        }
    }
}

fn is_close(figure: f64, truth: f64) -> bool {
    (figure - truth).abs() <= TOLERANCE.max(truth * 0.02)
}

/// The records of one role, by the client's port.
fn records(agent: &Agent, server: u16, role: &str, measured: &Measured) -> BTreeMap<u16, Record> {
    let ports: Vec<u16> = measured.values().flatten().map(|(port, _)| *port).collect();
    let find = || -> BTreeMap<u16, Record> {
        let records = agent.records().unwrap().into_iter();
        records
            .filter(|record| record.role == role && record.server.port == server)
            .map(|record| (record.client.port, record))
            .collect()
    };
    let all = wait::until(Duration::from_secs(30), || {
        let found = find();
        ports.iter().all(|port| found.contains_key(port))
    });
    assert!(all, "connections without a record at the {role}");
    find()
}

/// Whether a record agrees with the client; `None` where it says nothing.
fn agrees(record: &Record, seen: &Seen) -> Option<bool> {
    let first_byte = record.timing.time_to_first_byte_seconds?;
    let rtt = record.timing.rtt_seconds?;
    Some(is_close(first_byte, seen.first_byte) && is_close(rtt, seen.round_trip))
}

/// Kinds of which fewer than two in three records agree with the client, and why. One that says
/// nothing agrees where `may_be_unknown` has it.
fn disagreements(
    measured: &Measured,
    records: &BTreeMap<u16, Record>,
    may_be_unknown: fn(&str) -> bool,
) -> BTreeMap<Kind, String> {
    let mut wrong = BTreeMap::new();
    for (kind, connections) in measured {
        let faults: Vec<String> = connections
            .iter()
            .filter(|(port, seen)| {
                !agrees(&records[port], seen).unwrap_or_else(|| may_be_unknown(&kind.1))
            })
            .map(|(port, seen)| format!("{seen:?}, not {:?}", records[port].timing))
            .collect();
        if faults.len() * 3 > connections.len() {
            wrong.insert(kind.clone(), format!("{faults:#?}"));
        }
    }
    wrong
}

#[test]
fn first_bytes_and_round_trips_are_those_of_the_client() {
    let site = ThinkingSite::start().unwrap();
    let agent = Agent::start(["trace", "--format", "json"]).unwrap();
    let distances = ROUND_TRIPS.map(|milliseconds| {
        Distance::new(Duration::from_millis(milliseconds), Disturbance::default()).unwrap()
    });
    // What a busy machine disturbed is measured again; a wrong figure stays wrong.
    let mut wrong = None;
    for _ in 0..ROUNDS {
        let measured = measure(&site, &distances, wanted(&wrong).as_ref());
        let servers = records(&agent, site.port, "server", &measured);
        let mut faults = disagreements(&measured, &servers, |_| false);
        for ((_, kind), connections) in &measured {
            for (port, _) in connections {
                let source = servers[port].timing.sources.time_to_first_byte.as_deref();
                // The answer to early data may come before the end of the handshake.
                let is_exact = source == Some("library") || kind.starts_with("0-RTT");
                assert!(is_exact, "{kind}: {:?}", servers[port].timing);
            }
        }
        // A client's own library does not tell where tickets end: what is not certain is unknown
        // there.
        let clients = records(&agent, site.port, "client", &measured);
        let may_be_unknown = |kind: &str| !kind.contains("1.2");
        faults.extend(disagreements(&measured, &clients, may_be_unknown));
        let unknown = measured
            .values()
            .flatten()
            .filter(|(port, _)| clients[port].timing.time_to_first_byte_seconds.is_none());
        println!(
            "{} kinds of connections, {} wrong, {} connections unknown at the client",
            measured.len(),
            faults.len(),
            unknown.count()
        );
        if faults.is_empty() {
            return;
        }
        wrong = Some(faults);
    }
    panic!("{wrong:#?}");
}

/// What to measure again.
fn wanted(wrong: &Option<BTreeMap<Kind, String>>) -> Option<BTreeSet<Kind>> {
    wrong.as_ref().map(|wrong| wrong.keys().cloned().collect())
}

/// Where the response itself is lost, the client waits for its repetition and the server does not
/// know; all others must be right.
#[test]
fn first_bytes_get_through_loss_and_reordering() {
    undisturbed::measure(measure_over_a_bad_link);
}

fn measure_over_a_bad_link() {
    let site = ThinkingSite::start().unwrap();
    let agent = Agent::start(["trace", "--format", "json"]).unwrap();
    let disturbance = Disturbance {
        loss: 0.02,
        reorder: 0.1,
        duplicate: 0.02,
        seed: 3,
    };
    let distance = Distance::new(Duration::from_millis(20), disturbance).unwrap();
    let measured = measure(&site, &[distance], None);
    let records = records(&agent, site.port, "server", &measured);
    let (mut right, mut wrong) = (0, Vec::new());
    for (port, seen) in measured.values().flatten() {
        match agrees(&records[port], seen) {
            Some(true) => right += 1,
            Some(false) => wrong.push(format!("{seen:?}, not {:?}", records[port].timing)),
            None => {}
        }
    }
    println!("{right} right, {} wrong", wrong.len());
    assert!(wrong.len() * 4 < right, "{right} right, wrong: {wrong:#?}");
}

/// `tls_time_to_first_byte_gap_seconds` at the server, milliseconds.
fn gap(address: SocketAddr, version: &str, method: &str) -> Option<f64> {
    let samples = metrics::scrape(address).unwrap();
    let of = |sample: &&metrics::Sample| {
        sample.name == "tls_time_to_first_byte_gap_seconds"
            && sample.label("role") == "server"
            && sample.label("service") == "nginx"
            && sample.label("version") == version
            && sample.label("method") == method
    };
    samples
        .iter()
        .find(of)
        .map(|sample| (sample.value * 1e4).round() / 10.0)
}

#[test]
fn gap_is_a_round_trip_in_tls12_and_misleads_only_when_plain() {
    undisturbed::measure(measure_the_gap);
}

fn measure_the_gap() {
    // Other servers of this host must not count.
    let cgroup = Cgroup::create("timing").unwrap();
    let site = cgroup.inside(ThinkingSite::start).unwrap();
    let listen: SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
    let _agent = Agent::start([
        "run",
        "--cgroup",
        cgroup.path().to_str().unwrap(),
        "--listen",
        &listen.to_string(),
        "--responses",
        "100",
        "--handshake-calls",
        "100",
        "--max-overhead",
        "none",
    ])
    .unwrap();
    let [near, far] = [20, 80].map(|milliseconds| {
        Distance::new(Duration::from_millis(milliseconds), Disturbance::default()).unwrap()
    });
    // The near ones come back, the far ones are new; and the new ones ask for what takes longer.
    std::thread::scope(|scope| {
        for versions in [Versions::Tls12, Versions::Tls13] {
            for (distance, full, resumed) in [(&near, 15, 60), (&far, 60, 15)] {
                let site = &site;
                scope.spawn(move || {
                    let client = site.client(versions, Alpn::Http1).unwrap();
                    let full_ask = Ask {
                        path: "/think/20",
                        ..Ask::default()
                    };
                    let resumed_ask = Ask {
                        resume: true,
                        ..Ask::default()
                    };
                    for _ in 0..full {
                        connect(distance, site.port, &client, &full_ask);
                    }
                    for _ in 0..resumed {
                        connect(distance, site.port, &client, &resumed_ask);
                    }
                });
            }
        }
    });
    let all = wait::until(Duration::from_secs(30), || {
        let count: f64 = metrics::scrape(listen)
            .unwrap()
            .iter()
            .filter(|sample| {
                sample.name == "tls_time_to_first_byte_seconds_count"
                    && sample.label("role") == "server"
                    && sample.label("service") == "nginx"
            })
            .map(|sample| sample.value)
            .sum();
        count >= 300.0
    });
    assert!(all, "first bytes are missing");
    let gap = |version, method| gap(listen, version, method).unwrap();
    // One round trip each: 60 resumed at 20 ms and 15 at 80 ms.
    let saved = (60.0 * 20.0 + 15.0 * 80.0) / 75.0;
    let (matched, plain) = (gap("1.2", "matched"), gap("1.2", "plain"));
    println!("1.2: matched {matched} ms of {saved} ms, plain {plain} ms");
    assert!(
        (matched - saved).abs() < 3.0,
        "{matched} ms, not {saved} ms"
    );
    assert!(plain > 3.0 * saved, "{plain} ms");
    // No round trip; what is left is the handshake's CPU time.
    let (matched, plain) = (gap("1.3", "matched"), gap("1.3", "plain"));
    println!("1.3: matched {matched} ms, plain {plain} ms");
    assert!(matched.abs() < 3.0, "{matched} ms");
    assert!(plain > 50.0, "{plain} ms");

    let samples = metrics::scrape(listen).unwrap();
    let sum = |name| -> f64 {
        samples
            .iter()
            .filter(|sample| sample.name == name && sample.label("version") == "1.2")
            .map(|sample| sample.value)
            .sum()
    };
    // Of 75 that resumed, those that came before ten of each kind were seen save nothing yet.
    let wait = sum("tls_resumption_saved_wait_seconds_total");
    let cpu = sum("tls_resumption_saved_cpu_seconds_total");
    let count = sum("tls_handshake_cpu_seconds_count");
    println!("saved {wait} s of waiting and {cpu} s of CPU; {count} handshakes timed");
    assert!(wait > 0.5 && wait < 75.0 * 0.08, "{wait} s");
    // An ECDSA handshake of TLS 1.2 takes some 0.36 ms, a resumed one 0.14 ms.
    assert!(cpu > 0.001 && cpu < 75.0 * 0.001, "{cpu} s");
    assert!(count >= 140.0, "{count}");
}
