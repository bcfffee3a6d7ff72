//! The links of known round trip, and the clock that clients at their ends hold against servers.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use socket2::SockRef;

use resumetry_tests::client::{Alpn, Versions};
use resumetry_tests::distance::Distance;
use resumetry_tests::first_byte::{Ask, Moments};
use resumetry_tests::process::Owned;
use resumetry_tests::relay::Disturbance;
use resumetry_tests::think::ThinkingSite as Site;
use resumetry_tests::{counters, undisturbed, wait};

/// Round trips, ms: the next room, the same continent, an ocean.
const ROUND_TRIPS: [u64; 3] = [0, 20, 80];

/// A busy machine makes single measurements late, never early.
const TOLERANCE: Duration = Duration::from_millis(1);

fn distance(milliseconds: u64) -> Distance {
    Distance::new(Duration::from_millis(milliseconds), Disturbance::default()).unwrap()
}

#[test]
fn round_trips_are_what_was_asked_for() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || echo(socket));
        }
    });
    undisturbed::measure(|| {
        // All at the same time: one must not disturb the other.
        let distances = ROUND_TRIPS.map(distance);
        std::thread::scope(|scope| {
            for distance in &distances {
                scope.spawn(|| pings(distance, port));
            }
        });
    });
}

fn pings(distance: &Distance, port: u16) {
    let asked = distance.round_trip();
    let dial = distance.dial(port).unwrap();
    let start = Instant::now();
    let mut socket = dial().unwrap();
    let connect = start.elapsed();
    socket.set_nodelay(true).unwrap();
    let mut pings: Vec<_> = (0..25)
        .map(|_| {
            let start = Instant::now();
            socket.write_all(b"?").unwrap();
            socket.read_exact(&mut [0]).unwrap();
            start.elapsed()
        })
        .collect();
    // Nothing follows that could carry the last acknowledgement; held back for up to 40 ms it
    // would count as a round trip at the server.
    SockRef::from(&socket).set_tcp_quickack(true).unwrap();
    pings.sort_unstable();
    let local = socket.local_addr().unwrap();
    let there = distance.inside(|| kernel(local, "src")).unwrap();
    let here = kernel(local, "dst");
    println!(
        "{asked:?}: connect {connect:?}, exchanges {:?} … {:?} … {:?}, \
                     kernel of the client {there:?}, of the server {here:?}",
        pings[0], pings[12], pings[24]
    );
    let exact = asked..asked + TOLERANCE;
    assert!(exact.contains(&pings[0]), "{:?}", pings[0]);
    assert!(exact.contains(&pings[6]), "{:?}", pings[6]);
    assert!(connect >= asked);
    // Smoothed over all exchanges (RFC 6298).
    for rtt in [there, here] {
        assert!(rtt >= asked && rtt < asked + TOLERANCE, "{rtt:?}");
    }
}

fn echo(mut socket: TcpStream) {
    socket.set_nodelay(true).unwrap();
    let mut byte = [0];
    while matches!(socket.read(&mut byte), Ok(1)) {
        socket.write_all(&byte).unwrap();
    }
}

/// Smoothed round trip of a connection as the kernel has it (`tcpi_rtt`); `client` is its `src` or
/// `dst`.
fn kernel(client: SocketAddr, end: &str) -> Duration {
    let output = Command::new("ss")
        .args(["-tinH", end, &client.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let rtt = text
        .split_whitespace()
        .find_map(|field| field.strip_prefix("rtt:"))
        .and_then(|rtt| rtt.split('/').next())
        .unwrap_or_else(|| panic!("no round trip of {client} in {text:?}"));
    Duration::from_secs_f64(rtt.parse::<f64>().unwrap() / 1e3)
}

/// Round trips that pass at the server between the connection and its answer.
#[test]
fn first_bytes_come_after_the_round_trips_of_their_protocol() {
    let site = Site::start().unwrap();
    let distances = ROUND_TRIPS.map(distance);
    std::thread::scope(|scope| {
        for distance in &distances {
            for alpn in [Alpn::Http1, Alpn::H2] {
                let site = &site;
                scope.spawn(move || first_bytes(site, distance, alpn));
            }
        }
    });
}

fn first_bytes(site: &Site, distance: &Distance, alpn: Alpn) {
    let cases = [
        (Versions::Tls12, 2, Ask::FULL),
        (Versions::Tls12, 1, Ask::RESUMED),
        (Versions::Tls13, 1, Ask::FULL),
        (Versions::Tls13, 1, Ask::RESUMED),
        (Versions::Tls13, 0, Ask::EARLY),
        (Versions::Tls13, 1, Ask::PATIENT),
        (Versions::Tls12, 1, Ask::CHATTY),
        (Versions::Tls13, 1, Ask::CHATTY),
    ];
    for (versions, trips, ask) in cases {
        for (path, thought) in [("/", 0), ("/think/20", 20)] {
            let thought = Duration::from_millis(thought);
            let ask = Ask { path, ..ask };
            let expected = trips * distance.round_trip() + thought + ask.wait;
            let client = site.client(versions, alpn).unwrap();
            // It brings the session.
            let dial = distance.dial(site.port).unwrap();
            client.first_byte(dial, &Ask::FULL).unwrap();
            // A busy machine makes single measurements late; none may be early.
            let exact = wait::until(Duration::from_secs(20), || {
                let dial = distance.dial(site.port).unwrap();
                let moments = client.first_byte(dial, &ask).unwrap();
                let late = lateness(&moments, distance, &ask, expected, thought);
                println!("{late:?} after {expected:?}: {alpn:?} {versions:?} {ask:?}");
                late < 6 * TOLERANCE
            });
            assert!(exact, "{alpn:?} {versions:?} {ask:?}: not {expected:?}");
        }
    }
}

/// How much later than it had to the slowest response of a connection came.
fn lateness(
    moments: &Moments,
    distance: &Distance,
    ask: &Ask<'_>,
    expected: Duration,
    thought: Duration,
) -> Duration {
    assert_eq!(moments.resumed, ask.resume);
    let round_trip = distance.round_trip();
    let first = moments.time_to_first_byte_at_server(round_trip);
    // The client notices the SYN/ACK some µs after its kernel answered it.
    assert!(first + TOLERANCE >= expected, "{first:?} < {expected:?}");
    let later = moments.exchanges[1..].iter().map(|exchange| {
        let took = exchange.first_byte - exchange.asked;
        let expected = round_trip + thought;
        assert!(took >= expected, "{took:?} < {expected:?}");
        took - expected
    });
    later.fold(first.saturating_sub(expected), Duration::max)
}

#[test]
fn handshakes_get_through_loss_and_reordering() {
    let site = Site::start().unwrap();
    let disturbance = Disturbance {
        loss: 0.03,
        reorder: 0.2,
        duplicate: 0.05,
        seed: 5,
    };
    let distance = Distance::new(Duration::from_millis(20), disturbance).unwrap();
    std::thread::scope(|scope| {
        for versions in [Versions::Tls12, Versions::Tls13] {
            for alpn in [Alpn::Http1, Alpn::H2] {
                let (site, distance) = (&site, &distance);
                scope.spawn(move || {
                    let client = site.client(versions, alpn).unwrap();
                    for index in 0..15 {
                        let ask = Ask {
                            resume: index > 0,
                            ..Ask::default()
                        };
                        let dial = distance.dial(site.port).unwrap();
                        let moments = client.first_byte(dial, &ask).unwrap();
                        assert_eq!(moments.resumed, ask.resume);
                        assert_eq!(moments.exchanges[0].body, b"ok\n");
                    }
                });
            }
        }
    });
    let again = distance.inside(|| counters::tcp("RetransSegs").unwrap());
    assert!(again.unwrap() > 3, "the link is too good");
}

/// Tells the child of [`nothing_is_left_behind`] that it is one.
const CHILD: &str = "RESUMETRY_TEST_DISTANCE_CHILD";

#[test]
fn nothing_is_left_behind() {
    if std::env::var_os(CHILD).is_some() {
        let distance = distance(20);
        println!("\nat {}", distance.server());
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let distance = distance(20);
    let address = distance.server();
    assert!(is_here(address));
    drop(distance);
    assert!(!is_here(address));

    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_behind", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut child = Owned::new(child);
    let address: Ipv4Addr = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| {
            line.strip_prefix("at ")
                .map(|address| address.parse().unwrap())
        })
        .unwrap();
    assert!(is_here(address));
    child.child().kill().unwrap();
    child.wait(Duration::from_secs(5)).unwrap();
    assert!(wait::until(Duration::from_secs(5), || !is_here(address)));
}

/// Whether this host has the address.
fn is_here(address: Ipv4Addr) -> bool {
    TcpListener::bind((address, 0)).is_ok()
}
