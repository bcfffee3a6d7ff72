//! Thousands of connections of every cause at once: no wrong reason.
//!
//! `RESUMETRY_TEST_CONNECTIONS` sets the number of connections (default 3,000).
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use openssl::ssl::{SslSession, SslVersion};
use resumetry_tests::agent::Agent;
use resumetry_tests::farm::{Farm, Ports};
use resumetry_tests::rng::Rng;
use resumetry_tests::session::{self, Offer, Part};
use resumetry_tests::site::Names;

fn connections() -> usize {
    std::env::var("RESUMETRY_TEST_CONNECTIONS").map_or(3_000, |text| text.parse().unwrap())
}

/// Clients at the same time.
const THREADS: usize = 4;

/// Where clients connect from.
static NEXT_PORT: AtomicU16 = AtomicU16::new(10_000);

/// One way to be refused, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    None,
    NothingOffered,
    OtherKey,
    KeyName,
    Body,
    Mac,
    Expired,
    Cipher,
    Retry,
    RetryOtherKey,
}

const CAUSES: [Cause; 10] = [
    Cause::None,
    Cause::NothingOffered,
    Cause::OtherKey,
    Cause::KeyName,
    Cause::Body,
    Cause::Mac,
    Cause::Expired,
    Cause::Cipher,
    Cause::Retry,
    Cause::RetryOtherKey,
];

impl Cause {
    /// The reason; `None` where nothing is refused.
    fn reason(self) -> Option<&'static str> {
        match self {
            Self::None | Self::NothingOffered | Self::Retry => None,
            Self::OtherKey | Self::KeyName | Self::RetryOtherKey => Some("key_unknown"),
            Self::Body | Self::Mac => Some("ticket_corrupt"),
            Self::Expired => Some("expired"),
            Self::Cipher => Some("parameters_changed"),
        }
    }
}

/// A kind of server, a version, and sessions to offer.
struct Stock<'a> {
    ports: &'a Ports,
    offer: Offer,
    good: SslSession,
    expired: SslSession,
}

impl Stock<'_> {
    /// Makes one connection; its ends.
    fn drive(&self, cause: Cause) -> (u16, u16) {
        let retried = Offer {
            groups: "P-521:P-256",
            ..self.offer.clone()
        };
        let short = Offer {
            ciphers: "ECDHE+AES128+AESGCM",
            suites: "TLS_AES_128_GCM_SHA256",
            ..self.offer.clone()
        };
        let flipped = |part| session::flip(&self.good, part).unwrap();
        let (home, stranger) = (self.ports.home, self.ports.stranger);
        let good = || self.good.clone();
        let (port, offer, offered) = match cause {
            Cause::None => (home, &self.offer, Some(good())),
            Cause::NothingOffered => (home, &self.offer, None),
            Cause::OtherKey => (stranger, &self.offer, Some(good())),
            Cause::KeyName => (home, &self.offer, Some(flipped(Part::KeyName))),
            Cause::Body => (home, &self.offer, Some(flipped(Part::Body))),
            Cause::Mac => (home, &self.offer, Some(flipped(Part::Mac))),
            Cause::Expired => (
                self.ports.hasty,
                &self.offer,
                Some(session::rejuvenate(&self.expired).unwrap()),
            ),
            Cause::Cipher => (home, &short, Some(good())),
            Cause::Retry => (home, &retried, Some(good())),
            Cause::RetryOtherKey => (stranger, &retried, Some(good())),
        };
        // Left to itself the kernel gives ports again, and records could not be told apart.
        let outcome = loop {
            let local = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
            assert!(local != u16::MAX, "more connections than ports");
            // Somebody else may hold the port.
            if let Ok(outcome) = session::connect_from(local, port, offer, offered.as_ref()) {
                break outcome;
            }
        };
        let resumes = matches!(cause, Cause::None | Cause::Retry);
        assert_eq!(
            outcome.resumed == Some(true),
            resumes,
            "{cause:?} at {}",
            self.ports.title
        );
        outcome.ports
    }
}

#[test]
fn no_reason_is_wrong_among_thousands_of_mixed_connections() {
    let names = Names::new().unwrap();
    let farm = Farm::start(&names).unwrap();
    let mut trace = Agent::start(["trace", "--format", "json", "--role", "server"]).unwrap();
    let fetch = |port, offer: &Offer| {
        session::connect(port, offer, None)
            .unwrap()
            .session
            .unwrap()
    };
    let mut stocks = Vec::new();
    for ports in &farm.ticket_ports {
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            let offer = Offer::new(version, &names.name(0));
            stocks.push(Stock {
                ports,
                good: fetch(ports.home, &offer),
                expired: fetch(ports.hasty, &offer),
                offer,
            });
        }
    }
    // OpenSSL counts whole seconds.
    std::thread::sleep(Duration::from_millis(2_100));

    let driven = Mutex::new(BTreeMap::new());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (stocks, driven) = (&stocks, &driven);
            scope.spawn(move || {
                let mut rng = Rng::new(thread as u64);
                for _ in 0..connections() / THREADS {
                    let stock = &stocks[rng.below(stocks.len())];
                    let cause = CAUSES[rng.below(CAUSES.len())];
                    let ends = stock.drive(cause);
                    driven.lock().unwrap().insert(ends, cause);
                }
            });
        }
    });
    let driven = driven.into_inner().unwrap();
    println!(
        "{} connections, {:.0} a second",
        driven.len(),
        driven.len() as f64 / begin.elapsed().as_secs_f64()
    );

    let records = trace
        .records_of(driven.keys(), Duration::from_secs(30))
        .unwrap();
    trace.finish(rustix::process::Signal::TERM).unwrap();

    let mut faults = Vec::new();
    let mut table: BTreeMap<Cause, [usize; 4]> = BTreeMap::new();
    for (ends, cause) in &driven {
        let [all, library, wire, unknown] = table.entry(*cause).or_default();
        *all += 1;
        let Some(record) = records.get(ends) else {
            faults.push(format!("{cause:?}: no record"));
            continue;
        };
        let resumption = &record.resumption;
        let reason = resumption.reject_reason.as_deref();
        match (cause.reason(), resumption.reject_source.as_deref()) {
            (None, None) if reason.is_none() => {}
            (Some(expected), Some("library")) if reason == Some(expected) => *library += 1,
            (_, source) => {
                faults.push(format!(
                    "{cause:?}: {reason:?} from {source:?} in {record:?}"
                ));
            }
        }
        match resumption.wire_reject_reason.as_deref() {
            None => {}
            Some("unknown") => *unknown += 1,
            inferred if inferred == cause.reason() => *wire += 1,
            inferred => faults.push(format!("{cause:?}: the wire says {inferred:?}")),
        }
    }
    println!("cause: connections, named by the library, by the wire, wire unknown");
    for (cause, counts) in &table {
        println!("{cause:?}: {counts:?}");
    }
    assert!(
        faults.is_empty(),
        "{} faults:\n{}",
        faults.len(),
        faults[..faults.len().min(40)].join("\n")
    );
}
