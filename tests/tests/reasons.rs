//! Every reason for which a server refuses to resume, made to happen on real servers, and what the
//! library and the wire said of it. The table of what was seen is `docs/reasons.md`.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use openssl::ssl::{SslSession, SslVersion};
use resumetry_tests::agent::{Agent, Record};
use resumetry_tests::farm::{Caches, Farm, Ports};
use resumetry_tests::page;
use resumetry_tests::session::{self, Offer, Outcome, Part};
use resumetry_tests::site::Names;

/// What must come of a connection.
struct Expected {
    server: &'static str,
    version: &'static str,
    what: &'static str,
    result: &'static str,
    library: Option<&'static str>,
    /// Besides `unknown`, which is always allowed where something was refused.
    wire: Option<&'static str>,
}

/// What was driven, by the ports of both ends.
#[derive(Default)]
struct Driven {
    expected: BTreeMap<(u16, u16), Expected>,
    order: Vec<(u16, u16)>,
}

impl Driven {
    fn note(&mut self, outcome: &Outcome, expected: Expected) {
        let saw = match outcome.resumed {
            None => "failed",
            Some(true) => "resumed",
            Some(false) => "full",
        };
        assert_eq!(
            saw, expected.result,
            "{}, TLS {}, {}: the client saw something else",
            expected.server, expected.version, expected.what
        );
        self.order.push(outcome.ports);
        self.expected.insert(outcome.ports, expected);
    }
}

fn version_name(version: SslVersion) -> &'static str {
    if version == SslVersion::TLS1_3 {
        "1.3"
    } else {
        "1.2"
    }
}

/// A fresh session of `port`.
fn fetch(port: u16, offer: &Offer) -> SslSession {
    let outcome = session::connect(port, offer, None).unwrap();
    outcome
        .session
        .expect("the server gave nothing to resume by")
}

/// Every cause that concerns tickets, on one kind of server.
fn drive_tickets(driven: &mut Driven, ports: &Ports, version: SslVersion, name: &str) {
    let offer = Offer::new(version, name);
    let is_tls13 = version == SslVersion::TLS1_3;
    let expect = |what, result, library, wire| Expected {
        server: ports.title,
        version: version_name(version),
        what,
        result,
        library,
        wire,
    };
    let mut try_on = |port: u16, offer: &Offer, session: &SslSession, expected: Expected| {
        let outcome = session::connect(port, offer, Some(session)).unwrap();
        driven.note(&outcome, expected);
    };
    // A ticket of TLS 1.3 should be used once; servers of these kinds do not mind.
    let good = fetch(ports.home, &offer);
    let old = fetch(ports.hasty, &offer);
    let issued = Instant::now();

    try_on(
        ports.home,
        &offer,
        &good,
        expect("nothing", "resumed", None, None),
    );
    try_on(
        ports.stranger,
        &offer,
        &good,
        expect(
            "the server holds another key",
            "full",
            Some("key_unknown"),
            Some("key_unknown"),
        ),
    );
    for (part, what, reason) in [
        (
            Part::KeyName,
            "a bit of the key name flipped",
            "key_unknown",
        ),
        (
            Part::Body,
            "a bit of the ciphertext flipped",
            "ticket_corrupt",
        ),
        (Part::Mac, "a bit of the MAC flipped", "ticket_corrupt"),
    ] {
        try_on(
            ports.home,
            &offer,
            &session::flip(&good, part).unwrap(),
            expect(what, "full", Some(reason), None),
        );
    }
    let retried = Offer {
        groups: "P-521:P-256",
        ..offer.clone()
    };
    if is_tls13 {
        try_on(
            ports.home,
            &retried,
            &good,
            expect("a HelloRetryRequest", "resumed", None, None),
        );
        try_on(
            ports.stranger,
            &retried,
            &good,
            expect(
                "a HelloRetryRequest, and the server holds another key",
                "full",
                Some("key_unknown"),
                Some("key_unknown"),
            ),
        );
    }
    let short = Offer {
        ciphers: "ECDHE+AES128+AESGCM",
        suites: "TLS_AES_128_GCM_SHA256",
        ..offer.clone()
    };
    // OpenSSL gives up on a TLS 1.2 ClientHello that lacks the session's cipher.
    try_on(
        ports.home,
        &short,
        &good,
        expect(
            "the session's cipher is no longer offered",
            if is_tls13 { "full" } else { "failed" },
            Some("parameters_changed"),
            None,
        ),
    );
    if let Some(other) = ports.other_context {
        try_on(
            other,
            &offer,
            &good,
            expect(
                "another session-ID context",
                "full",
                Some("parameters_changed"),
                None,
            ),
        );
    }
    if let (Some(lowered), true) = (ports.lowered, is_tls13) {
        let both = Offer {
            versions: (SslVersion::TLS1_2, SslVersion::TLS1_3),
            ..offer.clone()
        };
        try_on(
            lowered,
            &both,
            &good,
            Expected {
                version: "1.3 → 1.2",
                ..expect(
                    "the server's protocol lowered",
                    "full",
                    Some("parameters_changed"),
                    Some("parameters_changed"),
                )
            },
        );
    }
    if let Some(renewing) = ports.renewing {
        try_on(
            renewing,
            &offer,
            &good,
            expect("the key is about to be retired", "resumed", None, None),
        );
    }
    // OpenSSL counts whole seconds.
    while issued.elapsed() < Duration::from_millis(2_100) {
        std::thread::sleep(Duration::from_millis(50));
    }
    try_on(
        ports.hasty,
        &offer,
        &session::rejuvenate(&old).unwrap(),
        expect(
            "the ticket has expired",
            "full",
            Some("expired"),
            Some("expired"),
        ),
    );
}

/// Sessions that stay in the server's cache: session IDs in TLS 1.2, stateful tickets in TLS 1.3.
fn drive_cache(driven: &mut Driven, caches: &Caches, version: SslVersion, name: &str) {
    let offer = Offer {
        tickets: version == SslVersion::TLS1_3,
        ..Offer::new(version, name)
    };
    let mut try_on = |port: u16, session: &SslSession, what, result, library, wire| {
        let outcome = session::connect(port, &offer, Some(session)).unwrap();
        driven.note(
            &outcome,
            Expected {
                server: caches.title,
                version: version_name(version),
                what,
                result,
                library,
                wire,
            },
        );
    };
    let is_tls12 = version == SslVersion::TLS1_2;
    let miss = Some("cache_miss");
    let one = fetch(caches.one, &offer);
    let hasty = caches
        .hasty
        .map(|(port, becomes)| (port, becomes, fetch(port, &offer)));
    let issued = Instant::now();
    let nothing = "nothing, in the cache";
    try_on(caches.one, &one, nothing, "resumed", None, None);
    if is_tls12 {
        let renamed = session::rename(&one).unwrap();
        let what = "a session ID that nobody issued";
        try_on(caches.one, &renamed, what, "full", miss, miss);
    }
    // In TLS 1.3 nginx lets a session of the cache be used once.
    let one = if is_tls12 {
        one
    } else {
        fetch(caches.one, &offer)
    };
    if let Some(other) = caches.other {
        // The same service issued it: the wire cannot know that its ports have caches of their own.
        try_on(other, &one, "a session of another port", "full", miss, None);
    }
    if let Some(other) = caches.other_context {
        let what = "another session-ID context";
        try_on(other, &one, what, "full", Some("parameters_changed"), None);
    }
    if let Some((tiny, room)) = caches.tiny {
        let first = fetch(tiny, &offer);
        for _ in 0..room {
            fetch(tiny, &offer);
        }
        let what = "evicted from a full cache";
        try_on(tiny, &first, what, "full", miss, None);
    }
    if let Some((port, becomes, session)) = hasty {
        // OpenSSL counts whole seconds.
        while issued.elapsed() < Duration::from_millis(2_100) {
            std::thread::sleep(Duration::from_millis(50));
        }
        let old = session::rejuvenate(&session).unwrap();
        let what = "the session has expired";
        try_on(port, &old, what, "full", Some(becomes), None);
    }
}

/// Servers that take no tickets, or resume by nothing at all.
fn drive_refusers(driven: &mut Driven, farm: &Farm, name: &str) {
    let cached = farm.caches[0].one;
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let offer = Offer::new(version, name);
        let ticket = fetch(farm.ticket_ports[0].home, &offer);
        let is_tls12 = version == SslVersion::TLS1_2;
        let mut try_on = |port: u16, what, library, wire| {
            let outcome = session::connect(port, &offer, Some(&ticket)).unwrap();
            driven.note(
                &outcome,
                Expected {
                    server: "nginx, tickets switched off",
                    version: version_name(version),
                    what,
                    result: "full",
                    library,
                    wire,
                },
            );
        };
        // TLS 1.3 does not look at what has not the length of its own.
        let refused = is_tls12.then_some("not_supported");
        try_on(cached, "a ticket from before", refused, None);
        try_on(
            farm.nothing,
            "a ticket from before, and there is no cache",
            refused,
            refused,
        );
    }
    let offer = Offer {
        tickets: false,
        ..Offer::new(SslVersion::TLS1_2, name)
    };
    let session = fetch(cached, &offer);
    let outcome = session::connect(farm.nothing, &offer, Some(&session)).unwrap();
    driven.note(
        &outcome,
        Expected {
            server: "nginx, tickets switched off",
            version: "1.2",
            what: "a session ID, and there is no cache",
            result: "full",
            library: Some("not_supported"),
            wire: Some("not_supported"),
        },
    );
}

#[test]
fn every_reason_is_named_rightly() {
    let names = Names::new().unwrap();
    let servers = Farm::start(&names).unwrap();
    let mut trace = Agent::start(["trace", "--format", "json", "--role", "server"]).unwrap();
    let mut driven = Driven::default();
    let name = names.name(0);
    for ports in &servers.ticket_ports {
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            drive_tickets(&mut driven, ports, version, &name);
        }
    }
    for caches in &servers.caches {
        for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
            drive_cache(&mut driven, caches, version, &name);
        }
    }
    drive_refusers(&mut driven, &servers, &name);

    let records = trace
        .records_of(driven.expected.keys(), Duration::from_secs(20))
        .unwrap();
    trace.finish(rustix::process::Signal::TERM).unwrap();

    let mut table = String::from(PREFACE);
    let mut faults = Vec::new();
    for ports in &driven.order {
        let expected = &driven.expected[ports];
        let case = format!(
            "{}, TLS {}, {}",
            expected.server, expected.version, expected.what
        );
        let Some(record) = records.get(ports) else {
            faults.push(format!("{case}: no record"));
            continue;
        };
        faults.extend(judge(&case, expected, record));
        let resumption = &record.resumption;
        let library = match resumption.reject_source.as_deref() {
            Some("library") => resumption.reject_reason.as_deref(),
            _ => None,
        };
        writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} |",
            expected.server,
            expected.version,
            expected.what,
            record.result(),
            library.unwrap_or("-"),
            resumption.wire_reject_reason.as_deref().unwrap_or("-"),
        )
        .unwrap();
    }
    println!("{table}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    page::keep("reasons.md", &table);
}

fn judge(case: &str, expected: &Expected, record: &Record) -> Vec<String> {
    let resumption = &record.resumption;
    let mut faults = Vec::new();
    if record.result() != expected.result {
        faults.push(format!("{case}: the record says {}", record.result()));
    }
    let reason = resumption.reject_reason.as_deref();
    let source = resumption.reject_source.as_deref();
    if let Some(library) = expected.library {
        if (reason, source) != (Some(library), Some("library")) {
            faults.push(format!("{case}: {reason:?} from {source:?}, not {library}"));
        }
    } else if source == Some("library") {
        faults.push(format!(
            "{case}: {reason:?} from the library, which knows nothing"
        ));
    }
    let wire = resumption.wire_reject_reason.as_deref();
    match (wire, expected.result) {
        (None, "resumed" | "failed") => {}
        (Some("unknown"), "full") => {}
        (wire, _) if wire.is_some() && wire == expected.wire => {}
        (wire, _) => faults.push(format!("{case}: the wire says {wire:?}")),
    }
    let is_ticket = resumption.offered != "session_id" && resumption.method != "none";
    if is_ticket && resumption.ticket.age_seconds.is_none_or(|age| age > 60.0) {
        faults.push(format!(
            "{case}: a ticket of {:?} s was accepted",
            resumption.ticket.age_seconds
        ));
    }
    faults
}

const PREFACE: &str = "# Why connections did not resume

What `resumetry trace` said of causes made to happen on real servers; written by
`RESUMETRY_WRITE=1 cargo test --release --package resumetry-tests --test reasons` from what was seen, and
compared with it by every run of the tests. *Library* is what the probe inside OpenSSL tells, *wire* what follows
from clear-text bytes alone; `unknown` is honest, a wrong reason is not.

| server | TLS | what was different | result | library | wire |
|---|---|---|---|---|---|
";
