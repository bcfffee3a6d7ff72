//! CPU time by cryptographic primitive against the same primitives timed alone.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use openssl::derive::Deriver;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer};
use resumetry_tests::agent::{Agent, Primitives, Record};
use resumetry_tests::certs::Files;
use resumetry_tests::client::{Client, Profile, Versions, dial};
use resumetry_tests::first_byte::Ask;
use resumetry_tests::foreign_server::{ForeignServer, speed};
use resumetry_tests::site::Names;
use resumetry_tests::timed_server::{Drive, TimedServer};
use resumetry_tests::{
    cgroup::Cgroup, cpu::thread_ns, metrics, ports, post_quantum, undisturbed, wait,
};

const CONNECTIONS: usize = 80;

/// Points of a handshake's CPU time by which a share may differ.
const TOLERANCE: f64 = 5.0;

/// Mean of the middle eight tenths: what most took, also on a machine that changes its speed.
fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let cut = values.len() / 10;
    let kept = &values[cut..values.len() - cut];
    kept.iter().sum::<f64>() / kept.len() as f64
}

/// CPU time of some work, microseconds.
fn once(work: impl FnOnce()) -> f64 {
    let before = thread_ns();
    work();
    (thread_ns() - before) as f64 / 1e3
}

/// The same, the least of five, since the server still works on the other half of the core when a
/// connection has just been made.
fn time(mut work: impl FnMut()) -> f64 {
    let times = (0..5).map(|_| once(&mut work));
    times.min_by(f64::total_cmp).unwrap()
}

/// A signature as TLS 1.3 makes it.
fn sign(key: &PKey<Private>) {
    let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
    if key.id() == Id::RSA {
        signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
        signer
            .set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)
            .unwrap();
    }
    signer.sign_oneshot_to_vec(&[7; 130]).unwrap();
}

/// By how much single signatures, each made when a connection just was, take longer than those of a loop,
/// whose code is in the caches and whose processor does nothing else.
fn slowness(singles: Vec<f64>, key: &PKey<Private>) -> f64 {
    let in_loop: Vec<f64> = (0..500).map(|_| once(|| sign(key))).collect();
    (middle(singles) / middle(in_loop)).max(1.0)
}

/// Sign, key generation and key agreement on their own, as TLS 1.3 with X25519 does them.
fn alone(key: &PKey<Private>) -> [f64; 3] {
    let sign = time(|| sign(key));
    let generation = time(|| drop(PKey::generate_x25519().unwrap()));
    let (own, other) = (
        PKey::generate_x25519().unwrap(),
        PKey::generate_x25519().unwrap(),
    );
    let agreement = time(|| {
        let mut deriver = Deriver::new(&own).unwrap();
        deriver.set_peer(&other).unwrap();
        deriver.derive_to_vec().unwrap();
    });
    [sign, generation, agreement]
}

/// The records of full handshakes with a server that has this certificate, with something done
/// beside each.
fn handshakes(agent: &Agent, name: &str, files: &Files, mut beside: impl FnMut()) -> Vec<Record> {
    let server = TimedServer::start(files, Drive::NonBlocking).unwrap();
    let client = Client::new(Profile {
        versions: Versions::Tls13,
        server_name: Some(name.to_owned()),
        ..Profile::default()
    })
    .unwrap();
    for _ in 0..CONNECTIONS {
        client
            .first_byte(|| dial(server.port), &Ask::default())
            .unwrap();
        beside();
    }
    let find = || -> Vec<Record> {
        let records = agent.records().unwrap().into_iter();
        records
            .filter(|record| record.role == "server" && record.server.port == server.port)
            .collect()
    };
    let all = wait::until(Duration::from_secs(30), || find().len() == CONNECTIONS);
    assert!(all, "{} of {CONNECTIONS} records", find().len());
    find()
}

#[test]
fn shares_of_primitives_are_those_of_the_primitives_alone() {
    let names = Names::new().unwrap();
    let agent = Agent::start(["trace", "--format", "json", "--primitives", "100"]).unwrap();
    // ECDSA P-256 and RSA-2048.
    for index in [0, 1] {
        let (name, files) = &names.served[index];
        let key = PKey::private_key_from_pem(&std::fs::read(&files.key).unwrap()).unwrap();
        agrees_when_undisturbed(|| {
            let mut references = Vec::new();
            let records = handshakes(&agent, name, files, || references.push(alone(&key)));
            let reference =
                |place: usize| middle(references.iter().map(|all| all[place]).collect());
            let timed: Vec<(f64, Primitives)> = records
                .iter()
                .filter_map(|record| {
                    let seconds = record.cpu.handshake_seconds?;
                    Some((seconds * 1e6, record.cpu.primitives?))
                })
                .collect();
            assert!(timed.len() * 10 >= records.len() * 9, "{}", timed.len());
            let whole = middle(timed.iter().map(|(whole, _)| *whole).collect());
            let of = |part: fn(&Primitives) -> f64| {
                middle(timed.iter().map(|(_, parts)| part(parts) * 1e6).collect())
            };
            assert_eq!(of(|parts| parts.verify_seconds), 0.0);
            vec![
                (
                    "signature",
                    of(|parts| parts.sign_seconds),
                    reference(0),
                    whole,
                ),
                (
                    "key generation",
                    of(|parts| parts.key_generation_seconds),
                    reference(1),
                    whole,
                ),
                (
                    "key agreement",
                    of(|parts| parts.key_agreement_seconds),
                    reference(2),
                    whole,
                ),
            ]
        });
    }
}

/// Whether what was seen in handshakes is what the same costs alone, both in µs, in points of the
/// whole handshake. Two measurements one after the other differ where something else took the
/// machine's caches or clock meanwhile.
fn agrees_when_undisturbed(measure: impl Fn() -> Vec<(&'static str, f64, f64, f64)>) {
    undisturbed::measure(|| {
        let pairs = measure();
        println!("(what, seen, alone, whole): {pairs:.0?}");
        for (what, seen, alone, whole) in pairs {
            let points = (seen - alone).abs() / whole * 100.0;
            assert!(seen > 0.0 && points < TOLERANCE, "{what}: {points} points");
        }
    });
}

/// What a server of OpenSSL 3.5 does X25519MLKEM768 and RSA with, against its own measurement.
#[test]
fn shares_with_a_post_quantum_group_are_those_that_openssl_measures() {
    let names = Names::new().unwrap();
    let (name, files) = &names.served[1];
    let profile_of_client = Profile {
        server_name: Some(name.clone()),
        authority: Some(names.authority.certificate.clone()),
        ..Profile::default()
    };
    let server = ForeignServer::start(files).unwrap();
    let agent = Agent::start(["trace", "--format", "json", "--primitives", "100"]).unwrap();
    let of = |records: &[Record], part: fn(&Record) -> Option<f64>| {
        let known: Vec<f64> = records.iter().filter_map(part).collect();
        assert!(known.len() * 10 >= records.len() * 9, "{}", known.len());
        middle(known) * 1e6
    };
    let agreement = |record: &Record| Some(record.cpu.primitives?.key_agreement_seconds);
    let signature = |record: &Record| Some(record.cpu.primitives?.sign_seconds);
    let whole = |record: &Record| record.cpu.handshake_seconds;
    let key = PKey::private_key_from_pem(&std::fs::read(&files.key).unwrap()).unwrap();
    agrees_when_undisturbed(|| {
        let find = || -> Vec<Record> {
            let records = agent.records().unwrap().into_iter();
            records
                .filter(|record| record.role == "server" && record.server.port == server.port)
                .collect()
        };
        let before = find().len();
        let mut singles = Vec::new();
        // Each client once full, and once resumed.
        for _ in 0..CONNECTIONS / 2 {
            let client = post_quantum::Client::new(&profile_of_client).unwrap();
            for _ in 0..2 {
                client.request(dial(server.port).unwrap()).unwrap();
                singles.push(once(|| sign(&key)));
            }
        }
        let all = wait::until(Duration::from_secs(30), || {
            find().len() == before + CONNECTIONS
        });
        assert!(all, "{} of {CONNECTIONS} records", find().len() - before);
        let (resumed, full): (Vec<Record>, Vec<Record>) = find()
            .into_iter()
            .skip(before)
            .partition(|record| record.tls.resumed);
        let tickets = of(&resumed, |record| {
            Some(record.cpu.primitives?.ticket_seconds)
        });
        println!("tickets: {tickets:.0} us");
        assert!(tickets > 0.0);
        assert!(of(&resumed, signature) == 0.0);
        // OpenSSL measures in a loop what a server does once in a while.
        let slowness = slowness(singles, &key);
        let speed = speed().unwrap();
        println!("slowness of single signatures: {slowness:.2}");
        vec![
            (
                "key agreement",
                of(&resumed, agreement),
                1e6 / speed.encapsulations,
                of(&resumed, whole),
            ),
            (
                "signature",
                of(&full, signature),
                1e6 / speed.signatures * slowness,
                of(&full, whole),
            ),
        ]
    });
}

#[test]
fn primitives_that_are_not_timed_are_unknown() {
    let names = Names::new().unwrap();
    let agent = Agent::start(["trace", "--format", "json"]).unwrap();
    let (name, files) = &names.served[0];
    let records = handshakes(&agent, name, files, || ());
    assert!(records.iter().all(|record| record.cpu.primitives.is_none()));
}

/// Seconds by operation, and full handshakes.
fn counted(address: SocketAddr) -> (BTreeMap<String, f64>, f64) {
    let (mut seconds, mut full) = (BTreeMap::new(), 0.0);
    for sample in metrics::scrape(address).unwrap() {
        if sample.label("role") != "server" {
            continue;
        }
        if sample.name == "tls_crypto_cpu_seconds_total" {
            *seconds
                .entry(sample.label("operation").to_owned())
                .or_default() += sample.value;
        } else if sample.name == "tls_handshakes_total" && sample.label("result") == "full" {
            full += sample.value;
        }
    }
    (seconds, full)
}

#[test]
fn timed_handshakes_stand_for_all_in_metrics() {
    undisturbed::measure(measure_signatures);
}

fn measure_signatures() {
    let names = Names::new().unwrap();
    // Other servers of this host must not count.
    let cgroup = Cgroup::create("primitives").unwrap();
    let listen: SocketAddr = ([127, 0, 0, 1], ports::free().unwrap()).into();
    let address = listen.to_string();
    let _agent = Agent::start([
        "run",
        "--cgroup",
        cgroup.path().to_str().unwrap(),
        "--listen",
        &address,
        "--handshake-calls",
        "100",
        "--primitives",
        "100",
        "--max-overhead",
        "none",
    ])
    .unwrap();
    let (name, files) = &names.served[1];
    let server = cgroup
        .inside(|| TimedServer::start(files, Drive::NonBlocking))
        .unwrap();
    let client = Client::new(Profile {
        versions: Versions::Tls13,
        server_name: Some(name.clone()),
        ..Profile::default()
    })
    .unwrap();
    let key = PKey::private_key_from_pem(&std::fs::read(&files.key).unwrap()).unwrap();
    let mut signatures = Vec::new();
    for _ in 0..CONNECTIONS {
        client
            .first_byte(|| dial(server.port), &Ask::default())
            .unwrap();
        signatures.push(alone(&key)[0]);
    }
    let all = wait::until(Duration::from_secs(30), || {
        counted(listen).1 >= CONNECTIONS as f64
    });
    let (seconds, full) = counted(listen);
    assert!(all, "{full} of {CONNECTIONS} counted");
    let expected = middle(signatures) * CONNECTIONS as f64 / 1e6;
    println!("{seconds:?}, signatures alone {expected}");
    let signed = seconds["sign"];
    assert!((signed / expected - 1.0).abs() < 0.4, "{signed} s");
}
