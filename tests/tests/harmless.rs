//! The agent disturbs nobody, and nobody disturbs the agent.
//!
//! `RESUMETRY_TEST_ROUNDS` sets the rounds of start and kill (default 5).
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use resumetry_tests::agent::Agent;
use resumetry_tests::client::{Alpn, Client, Profile, Versions, reset};
use resumetry_tests::compare::{self, Expectations, Expected};
use resumetry_tests::distance::Distance;
use resumetry_tests::nginx::{Nginx, Server};
use resumetry_tests::relay::Disturbance;
use resumetry_tests::rng::Rng;
use resumetry_tests::site::{Names, Site};
use resumetry_tests::verify::verify;
use resumetry_tests::workload::{self, Action, Kind};
use resumetry_tests::{counters, log, ports, wait};
use rustix::process::Signal;

/// What the kernel holds for a process: `(kind, id)` of programs, links and maps. The kernel does
/// not reuse these ids soon, so what is gone stays gone.
fn kernel_objects(pid: u32) -> BTreeSet<(&'static str, String)> {
    let mut objects = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap() {
        // A descriptor may be closed in between.
        let Ok(info) = std::fs::read_to_string(entry.unwrap().path()) else {
            continue;
        };
        for line in info.lines() {
            for (field, kind) in [
                ("prog_id:", "prog"),
                ("link_id:", "link"),
                ("map_id:", "map"),
            ] {
                if let Some(id) = line.strip_prefix(field) {
                    objects.insert((kind, id.trim().to_owned()));
                }
            }
        }
    }
    objects
}

fn exists((kind, id): &(&'static str, String)) -> bool {
    Command::new("bpftool")
        .args([kind, "show", "id", id])
        .output()
        .unwrap()
        .status
        .success()
}

/// Kinds that the server must answer.
fn answered(site: &Site, names: &Names) -> Vec<Kind> {
    let mut kinds = site.kinds(names).unwrap();
    kinds.retain(|kind| matches!(kind.action, Action::Request(_)));
    kinds
}

#[test]
fn killed_agents_leave_nothing_and_every_request_is_answered() {
    let rounds =
        std::env::var("RESUMETRY_TEST_ROUNDS").map_or(5, |text| text.parse::<u64>().unwrap());
    let names = Names::new().unwrap();
    let site = Site::start(&names, 2).unwrap();
    let kinds = answered(&site, &names);
    let done = AtomicBool::new(false);
    let mut requests = 0;
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut notes = Vec::new();
            for seed in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                notes.extend(workload::drive(&kinds, 500, 3, seed).unwrap());
            }
            notes
        });
        let mut rng = Rng::new(1);
        let mut left = Vec::new();
        for round in 0..rounds {
            let mut agent = Agent::spawn(["trace", "--format", "json"]).unwrap();
            // Every other round kills it somewhere on its way to `ready`.
            if round % 2 == 0 {
                agent.wait_ready(Duration::from_secs(60)).unwrap();
                std::thread::sleep(Duration::from_millis(300));
            } else {
                std::thread::sleep(Duration::from_millis(rng.below(400) as u64));
            }
            let objects = kernel_objects(agent.pid());
            assert!(
                round % 2 == 1 || objects.iter().any(|(kind, _)| *kind == "link"),
                "no link in {objects:?}"
            );
            agent.kill().unwrap();
            wait::until(Duration::from_secs(10), || !objects.iter().any(exists));
            left.extend(objects.into_iter().filter(exists));
        }
        done.store(true, Ordering::Relaxed);
        let notes = load.join().unwrap();
        let unanswered: Vec<_> = notes
            .iter()
            .filter_map(|note| note.error.as_ref())
            .collect();
        assert!(
            unanswered.is_empty(),
            "{} requests failed: {:?}",
            unanswered.len(),
            unanswered.first()
        );
        assert!(
            left.is_empty(),
            "still in the kernel after kill -9: {left:?}"
        );
        requests = notes.len();
    });
    println!("{rounds} rounds, {requests} connections answered");
}

/// Noise on a port of its own while `verify` judges the orderly connections next to it.
fn make_noise(server: SocketAddr, hello: &[u8], stop: &AtomicBool) -> usize {
    let mut rng = Rng::new(5);
    let mut held = Vec::new();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        let Ok(mut stream) = TcpStream::connect(server) else {
            continue;
        };
        let mut garbage: Vec<u8> = (0..rng.below(6_000)).map(|_| rng.draw() as u8).collect();
        // The peer may refuse it at any byte; that is its good right.
        match rng.below(6) {
            // A port scan: nothing but a connection.
            0 => {}
            1 => drop(stream.write_all(&garbage)),
            // Looks like a handshake record, and like a ClientHello, for some bytes.
            2 => {
                let head = [
                    0x16,
                    0x03,
                    0x01,
                    rng.draw() as u8,
                    rng.draw() as u8,
                    0x01,
                    0x00,
                ];
                garbage.splice(0..0, head[..3 + rng.below(5)].iter().copied());
                drop(stream.write_all(&garbage));
            }
            // A ClientHello that breaks off, and stays.
            3 => {
                drop(stream.write_all(&hello[..rng.below(hello.len())]));
                held.push(stream);
            }
            // A ClientHello with flipped bytes.
            4 => {
                let mut broken = hello.to_vec();
                for _ in 0..1 + rng.below(8) {
                    let place = rng.below(broken.len());
                    broken[place] = rng.draw() as u8;
                }
                drop(stream.write_all(&broken));
            }
            // A whole ClientHello; then silence, or a reset.
            _ => {
                drop(stream.write_all(hello));
                if rng.one_in(2) {
                    drop(reset(stream));
                } else {
                    held.push(stream);
                }
            }
        }
        // Enough half-open handshakes for any table to show that it is bounded; below nginx' limit.
        if held.len() > 1_500 {
            held.drain(..500);
        }
    }
    count
}

#[test]
fn noise_leaves_memory_bounded_and_other_flows_exact() {
    const MOST_MEMORY: u64 = 256 << 20;
    const MOST_GROWTH: u64 = 64 << 20;
    let names = Names::new().unwrap();
    let quiet = Site::start(&names, 2).unwrap();
    let noisy = Site::start(&names, 1).unwrap();
    let noisy_server = (Ipv4Addr::LOCALHOST, noisy.kinds(&names).unwrap()[0].port).into();
    let hello = Client::new(Profile {
        server_name: Some(names.name(0)),
        ..Profile::default()
    })
    .unwrap();
    let hello = hello.client_hello().unwrap();
    let mut kinds = answered(&quiet, &names);
    let bytewise = Profile {
        segment: Some(1),
        server_name: Some(names.name(1)),
        ..Profile::default()
    };
    kinds.push(Kind {
        name: "one-byte segments",
        profile: bytewise,
        ..kinds[0].clone()
    });

    let mut agent = Agent::start(["trace", "--format", "json"]).unwrap();
    workload::drive(&answered(&noisy, &names), 200, 2, 1).unwrap();
    let before = agent.resident_bytes().unwrap();
    let stop = AtomicBool::new(false);
    let (notes, noise) = std::thread::scope(|scope| {
        let noise = scope.spawn(|| make_noise(noisy_server, &hello, &stop));
        // A scan of every port, mostly closed ones.
        let scan = scope.spawn(|| {
            for port in 1..=u16::MAX {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
            }
        });
        let notes = workload::drive(&kinds, 2_000, 3, 3).unwrap();
        scan.join().unwrap();
        stop.store(true, Ordering::Relaxed);
        (notes, noise.join().unwrap())
    });
    let after = agent.resident_bytes().unwrap();
    println!(
        "{noise} noisy connections; memory {} -> {} KiB",
        before >> 10,
        after >> 10
    );
    assert!(
        after < MOST_MEMORY && after.saturating_sub(before) < MOST_GROWTH,
        "{before} -> {after} bytes"
    );

    let log = log::handshakes(&quiet.nginx.log().unwrap()).unwrap();
    // The scan connects to the quiet ports as well, without a word.
    let (expectations, faults) = compare::expectations(&notes, &log);
    assert!(
        faults.is_empty(),
        "the fixtures disagree:\n{}",
        faults.join("\n")
    );
    verify(&mut agent, "server", &expectations);
    assert!(agent.finish(Signal::TERM).unwrap().success());
}

#[test]
fn reordered_and_duplicated_segments_are_put_in_order() {
    const CONNECTIONS: usize = 400;
    let disturbance = Disturbance {
        reorder: 0.75,
        duplicate: 0.25,
        seed: 11,
        ..Disturbance::default()
    };
    // The smallest MTU a host must take (RFC 791): server flights take several segments as well.
    let distance = Distance::with_mtu(Duration::ZERO, disturbance, 576).unwrap();
    let names = Names::new().unwrap();
    let port = ports::free().unwrap();
    let server = Server {
        address: Some("0.0.0.0"),
        ..Server::new(port, "ssl http2", &names.served)
    };
    let mut agent = Agent::start(["trace", "--format", "json"]).unwrap();
    let nginx = Nginx::start(1, "", &[server]).unwrap();
    let before = counters::tcp("TCPOFOQueue").unwrap();
    let client = |versions, name| {
        Client::new(Profile {
            versions,
            alpn: Alpn::Huge,
            server_name: Some(names.name(name)),
            segment: Some(211),
            ..Profile::default()
        })
        .unwrap()
    };
    let clients = [
        client(Versions::Tls13, 0),
        client(Versions::Tls12, 1),
        client(Versions::Tls13, 1),
    ];
    std::thread::scope(|scope| {
        for offset in 0..4 {
            let (clients, distance) = (&clients, &distance);
            scope.spawn(move || {
                for index in (offset..CONNECTIONS).step_by(4) {
                    let dial = distance.dial_from(3_000 + index as u16, port).unwrap();
                    let client = &clients[index % clients.len()];
                    client.request(dial().unwrap(), index % 4 != 0, 2).unwrap();
                }
            });
        }
    });
    let logged = wait::until(Duration::from_secs(10), || {
        nginx.log().unwrap().len() >= 2 * CONNECTIONS
    });
    assert!(logged, "nginx logged too few requests");
    let late = counters::tcp("TCPOFOQueue").unwrap() - before;
    assert!(
        late > CONNECTIONS as u64,
        "only {late} segments came out of order: the link is too good"
    );
    let expectations: Expectations = log::handshakes(&nginx.log().unwrap())
        .unwrap()
        .into_iter()
        .map(|(key, truths)| {
            let expected = truths.into_iter().map(Expected::Logged).collect();
            (key, ("disorder", expected))
        })
        .collect();
    assert_eq!(expectations.len(), CONNECTIONS);
    verify(&mut agent, "server", &expectations);
    assert!(agent.finish(Signal::TERM).unwrap().success());
}
