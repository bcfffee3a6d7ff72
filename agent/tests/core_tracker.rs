//! From events to records: real handshakes, their verdicts and their times.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod core_support;

use core_support::*;
use resumetry::core::record::{Failure, Method, Role, Source};
use resumetry::core::tracker::Limits;

fn check(name: &str, expected: &str) {
    for observed in [Server, Client] {
        let mut wire = Wire::new(50_000);
        wire.observed = observed;
        for (from, bytes) in flights(name) {
            wire.send(from, &bytes).wait(MILLISECOND);
        }
        let record = record(&wire);
        let line = match observed {
            Server => line(&record),
            // What one end sent, the other received.
            Client => line(&record)
                .replace("received", "SENT")
                .replace("sent", "received"),
        };
        assert_eq!(
            line.replace("SENT", "sent"),
            expected,
            "{name} at {observed:?}"
        );
        let role = if observed == Server {
            Role::Server
        } else {
            Role::Client
        };
        assert_eq!(record.role, role);
        assert_eq!(record.pid, Some(PID));
    }
}

#[test]
fn tells_full_from_resumed_handshakes_of_openssl() {
    const HOST: &str = "www.example.com";
    check("tls13_full", &format!("Full 0304 1302 {HOST} None->None"));
    check("tls13_psk", &format!("Resumed 0304 1302 {HOST} Psk->Psk"));
    check(
        "tls13_full_no_tickets",
        &format!("Full 0304 1302 {HOST} None->None"),
    );
    check(
        "tls13_retry",
        &format!("Full 0304 1302 {HOST} None->None retry"),
    );
    check(
        "tls13_retry_psk",
        &format!("Resumed 0304 1302 {HOST} Psk->Psk retry"),
    );
    check(
        "tls13_client_certificate",
        &format!("Full 0304 1302 {HOST} None->None"),
    );
    check("tls12_full", &format!("Full 0303 c02c {HOST} None->None"));
    check(
        "tls12_ticket",
        &format!("Resumed 0303 c02c {HOST} Ticket->Ticket"),
    );
    check(
        "tls12_full_no_tickets",
        &format!("Full 0303 c02c {HOST} None->None"),
    );
    check(
        "tls12_session_id",
        &format!("Resumed 0303 c02c {HOST} SessionId->SessionId"),
    );
    check(
        "tls12_client_certificate",
        &format!("Full 0303 c02c {HOST} None->None"),
    );
}

#[test]
fn tells_failed_handshakes_of_openssl() {
    check(
        "tls13_client_certificate_missing",
        "Failed Alert 0304 1302 www.example.com None->None alert None sent",
    );
    check(
        "tls13_server_certificate_rejected",
        "Failed Alert 0304 1302 www.example.com None->None alert Some(48) received",
    );
    check(
        "tls12_server_certificate_rejected",
        "Failed Alert 0303 c02c www.example.com None->None alert Some(48) received",
    );
    check(
        "tls12_no_shared_cipher",
        "Failed Alert 0000 0000 www.example.com None->None alert Some(40) sent",
    );
}

#[test]
fn describes_what_tls12_shows() {
    let full = record(&recorded("tls12_full"));
    assert_eq!(full.group, Some(29));
    assert_eq!(full.next_protocol.as_deref(), Some("http/1.1"));
    assert_eq!(full.supported_protocols, ["h2", "http/1.1"]);
    assert_eq!(full.tickets_issued, Some(1));
    assert_eq!(full.ocsp_stapled, Some(false));
    assert!(
        full.certificate_chain_bytes
            .is_some_and(|bytes| bytes > 300)
    );
    assert_eq!(full.ticket_bytes, None);
    let resumed = record(&recorded("tls12_ticket"));
    assert!(resumed.ticket_bytes.is_some_and(|bytes| bytes > 100));
    assert!(resumed.ticket_key.is_some());
    assert_eq!(
        (resumed.certificate_chain_bytes, resumed.ocsp_stapled),
        (None, None)
    );
}

#[test]
fn measures_from_client_hello_to_finished_at_the_server() {
    // Flights of tls13_full: C hello, S flight, C finished at +2 ms, …
    let full = record(&recorded("tls13_full"));
    assert_eq!(full.client_hello_ns, SECOND);
    assert_eq!(full.handshake_ns, Some(2 * MILLISECOND));
    assert_eq!(full.established_to_client_hello_ns, Some(SECOND / 2));
    assert_eq!(full.rtt_ns, Some(250_000));
    assert_eq!(full.handshake_source, Some(Source::Wire));
    // TLS 1.2: C hello, S flight, C key exchange and finished, S finished at +3 ms.
    let full = record(&recorded("tls12_full"));
    assert_eq!(full.handshake_ns, Some(3 * MILLISECOND));
    // Resumed: C hello, S hello and finished, C finished at +2 ms.
    let resumed = record(&recorded("tls12_ticket"));
    assert_eq!(resumed.handshake_ns, Some(2 * MILLISECOND));
    let sizes: Vec<_> = flights("tls12_ticket")
        .iter()
        .map(|(_, b)| b.len() as u64)
        .collect();
    assert_eq!(resumed.server_bytes, sizes[1]);
}

#[test]
fn the_library_has_the_last_word_on_the_end() {
    let flights = flights("tls13_full");
    let mut wire = Wire::new(50_000);
    wire.ssl = SSL;
    for (from, bytes) in &flights[..4] {
        wire.send(*from, bytes).wait(MILLISECOND);
    }
    let mut bench = Bench::new(Limits::default());
    bench.feed(&wire.events);
    assert!(bench.records.is_empty(), "it waits for the library");
    wire.wait(7 * MILLISECOND).library();
    let told_ns = wire.now_ns;
    bench.feed(&wire.events[4..]);
    assert_eq!(bench.records.len(), 1);
    assert_eq!(bench.records[0].handshake_source, Some(Source::Library));
    assert_eq!(bench.records[0].handshake_ns, Some(told_ns - SECOND));
    // A second report, and segments that straggle, change nothing.
    bench.feed(&wire.events).tick(wire.now_ns + 60 * SECOND, 0);
    assert_eq!(bench.records.len(), 1);
}

#[test]
fn without_the_librarys_word_the_wire_counts_after_a_while() {
    let mut wire = Wire::new(50_000);
    wire.ssl = SSL;
    for (from, bytes) in flights("tls13_full") {
        wire.send(from, &bytes);
    }
    let mut bench = Bench::new(Limits::default());
    bench.feed(&wire.events).tick(wire.now_ns + SECOND / 2, 0);
    assert!(bench.records.is_empty());
    bench.tick(wire.now_ns + 2 * SECOND, 0);
    assert_eq!(bench.records[0].handshake_source, Some(Source::Wire));
}

#[test]
fn a_reused_ssl_belongs_to_the_latest_flow() {
    let mut first = Wire::new(1);
    let mut second = Wire::new(2);
    (first.ssl, second.ssl) = (SSL, SSL);
    let flights = flights("tls13_psk");
    first
        .send(Client, &flights[0].1)
        .send(Server, &flights[1].1);
    second
        .send(Client, &flights[0].1)
        .send(Server, &flights[1].1);
    second.send(Client, &flights[2].1).library();
    let mut bench = Bench::new(Limits::default());
    bench.feed(&first.events).feed(&second.events);
    assert_eq!(bench.records.len(), 1);
    assert_eq!(bench.records[0].client.port(), 2);
}

#[test]
fn closing_before_the_end_fails() {
    let flights = flights("tls13_full");
    for (sent, version) in [(1, None), (2, Some(0x0304))] {
        for (close, failure) in [
            (
                Wire::fin as fn(&mut Wire, End) -> &mut Wire,
                Failure::Closed,
            ),
            (Wire::reset, Failure::Reset),
        ] {
            let mut wire = Wire::new(1);
            for (from, bytes) in &flights[..sent] {
                wire.send(*from, bytes);
            }
            close(&mut wire, Client);
            let record = record(&wire);
            assert_eq!(record.failure, Some(failure));
            assert_eq!((record.established, record.version), (false, version));
        }
    }
}

#[test]
fn silence_after_the_client_hello_is_a_timeout() {
    let mut wire = Wire::new(1);
    wire.send(Client, &flights("tls13_full")[0].1);
    let record = record(&wire);
    assert_eq!(record.failure, Some(Failure::Timeout));
    assert_eq!((record.version, record.handshake_ns), (None, None));
}

#[test]
fn garbage_after_the_client_hello_is_malformed() {
    let hello = &flights("tls13_full")[0].1;
    let mut wire = Wire::new(1);
    wire.send(Client, hello)
        .send(Server, b"HTTP/1.1 400 Bad Request\r\n");
    assert_eq!(record(&wire).failure, Some(Failure::Malformed));
    let mut wire = Wire::new(1);
    wire.send(Client, hello).send(Client, &[0x80; 40]);
    assert_eq!(record(&wire).failure, Some(Failure::Malformed));
}

#[test]
fn closing_at_once_after_finished_is_established() {
    let flights = flights("tls13_full_no_tickets");
    let mut wire = Wire::new(1);
    for (from, bytes) in &flights[..2] {
        wire.send(*from, bytes);
    }
    // CCS and Finished of TLS_AES_256_GCM_SHA384, then close_notify.
    wire.send(
        Client,
        &[tls(20, &[1]), protected(69), protected(19)].concat(),
    );
    wire.fin(Client).send(Server, &protected(19)).fin(Server);
    assert_eq!(
        line(&record(&wire)),
        "Full 0304 1302 www.example.com None->None"
    );
}

#[test]
fn a_lone_alert_after_the_clients_flight_fails_and_data_after_it_does_not() {
    let flights = flights("tls13_full_no_tickets");
    let start = |wire: &mut Wire| {
        for (from, bytes) in &flights[..2] {
            wire.send(*from, bytes);
        }
        // A client certificate whose flight is one record.
        wire.send(Client, &protected(1200))
            .send(Server, &protected(19));
    };
    let mut refused = Wire::new(1);
    start(&mut refused);
    refused.reset(Server);
    let refused = record(&refused);
    assert_eq!(refused.failure, Some(Failure::Alert));
    assert!(refused.alert.unwrap().sent);
    let mut accepted = Wire::new(1);
    start(&mut accepted);
    accepted.send(Server, &protected(200)).fin(Server);
    assert!(record(&accepted).established);
}

#[test]
fn an_encrypted_alert_in_place_of_the_clients_flight_fails() {
    // Go and rustls switch to their handshake keys before they judge the certificate.
    let flights = flights("tls13_full");
    let mut wire = Wire::new(1);
    for (from, bytes) in &flights[..2] {
        wire.send(*from, bytes);
    }
    wire.send(Client, &[tls(20, &[1]), protected(19)].concat())
        .fin(Client);
    let record = record(&wire);
    assert_eq!(record.failure, Some(Failure::Alert));
    let alert = record.alert.unwrap();
    assert_eq!((alert.description, alert.sent), (None, false));
}

#[test]
fn early_data_does_not_look_like_finished() {
    let mut flights = flights("tls13_psk");
    // early_data goes in front of pre_shared_key, which must stay last.
    let hello = with_extension(&flights[0].1, &[0, 42, 0, 0]);
    flights[0].1 = hello;
    let mut wire = Wire::new(1);
    wire.send(
        Client,
        &[&flights[0].1[..], &tls(20, &[1]), &protected(300)].concat(),
    );
    wire.wait(MILLISECOND).send(Server, &flights[1].1);
    wire.send(Client, &protected(500)).wait(MILLISECOND);
    wire.send(Server, &protected(900)).wait(MILLISECOND);
    wire.send(Client, &[protected(21), protected(69)].concat());
    let done_ns = wire.now_ns;
    wire.wait(MILLISECOND).send(Server, &protected(100));
    let record = record(&wire);
    assert!(record.early_data_offered);
    assert_eq!(record.early_data_accepted, Some(true));
    assert_eq!(record.handshake_ns, Some(done_ns - SECOND));
    assert!(record.established && record.resumed);
}

#[test]
fn a_warning_does_not_fail_the_handshake() {
    let flights = flights("tls12_full");
    let mut wire = Wire::new(1);
    wire.send(Client, &flights[0].1);
    // unrecognized_name, as OpenSSL warns before its ServerHello.
    wire.send(Server, &tls(21, &[1, 112]));
    for (from, bytes) in &flights[1..] {
        wire.send(*from, bytes);
    }
    let record = record(&wire);
    assert!(record.established && record.alert.is_none());
}

#[test]
fn proxy_headers_announce_the_client() {
    let header_2: Vec<u8> = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[203, 0, 113, 7, 192, 0, 2, 1, 0x30, 0x39, 1, 187],
    ]
    .concat();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, client) in [
        (
            &b"PROXY TCP4 203.0.113.7 192.0.2.1 12345 443\r\n"[..],
            Some("203.0.113.7:12345"),
        ),
        (&header_2, Some("203.0.113.7:12345")),
        (b"PROXY UNKNOWN\r\n", None),
        (local, None),
    ] {
        for split in [0, 1, 5, header.len()] {
            let mut wire = Wire::new(50_000);
            let flights = flights("tls13_full");
            let first = [header, &flights[0].1].concat();
            if split > 0 {
                wire.send(Client, &first[..split]).wait(MILLISECOND);
            }
            wire.send(Client, &first[split..]);
            for (from, bytes) in &flights[1..] {
                wire.send(*from, bytes);
            }
            let record = record(&wire);
            let peer = "192.0.2.9:50000";
            assert_eq!(record.client.to_string(), client.unwrap_or(peer));
            assert_eq!(
                record.peer.map(|p| p.to_string()),
                client.map(|_| peer.to_owned())
            );
            assert!(record.established);
        }
    }
}

#[test]
fn what_only_starts_like_tls_leaves_nothing() {
    for bytes in [
        &b"\x16"[..],
        b"\x16\x03\x01\x00\x04ab",
        b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00",
        b"POST / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\n",
        b"\x80\x2e\x01\x03\x01",
    ] {
        let mut wire = Wire::new(1);
        wire.send(Client, bytes).fin(Client);
        let (records, stats) = run(&wire);
        assert!(records.is_empty(), "{bytes:?}");
        assert_eq!(stats.not_tls, 1, "{bytes:?}");
    }
}

#[test]
fn the_servers_answer_closes_the_clients_flight() {
    let mut wire = Wire::new(1);
    // With a library that stays silent, the record waits and later client data could move the end.
    wire.ssl = SSL;
    for (from, bytes) in &flights("tls13_full_no_tickets")[..2] {
        wire.send(*from, bytes);
    }
    wire.send(Client, &protected(1200)).wait(MILLISECOND);
    wire.send(Server, &protected(200)).wait(MILLISECOND);
    wire.send(Client, &protected(300));
    assert_eq!(record(&wire).handshake_ns, Some(0));
}

#[test]
fn data_that_leaves_in_a_strangers_context_joins_nothing() {
    let flights = flights("tls13_psk");
    let mut wire = Wire::new(1);
    wire.send(Client, &flights[0].1)
        .send(Server, &flights[1].1[..50]);
    wire.ssl = SSL;
    wire.send(Server, &flights[1].1[50..]);
    if let Some(Owned::Segment(stray, _)) = wire.events.last_mut() {
        stray.pid_tgid = 99 << 32;
    }
    wire.library();
    if let Some(Owned::Library(stray)) = wire.events.last_mut() {
        stray.pid_tgid = 99 << 32;
    }
    let mut bench = Bench::new(Limits::default());
    bench.feed(&wire.events);
    assert!(bench.records.is_empty());
    bench.feed(&wire.send(Client, &flights[2].1).events[4..]);
    bench.tick(wire.now_ns + 2 * SECOND, 0);
    assert_eq!(bench.records[0].pid, Some(PID));
    assert_eq!(bench.records[0].handshake_source, Some(Source::Wire));
}

#[test]
fn the_library_of_a_tls13_client_does_not_know_the_servers_end() {
    let flights = flights("tls13_psk");
    let mut wire = Wire::new(1);
    (wire.observed, wire.ssl) = (Client, SSL);
    wire.send(Client, &flights[0].1).wait(MILLISECOND);
    wire.send(Server, &flights[1].1).wait(MILLISECOND);
    wire.library().wait(MILLISECOND);
    wire.send(Client, &flights[2].1).send(Server, &flights[3].1);
    let record = record(&wire);
    assert_eq!(record.handshake_source, Some(Source::Wire));
    assert_eq!(record.handshake_ns, Some(3 * MILLISECOND));
}

#[test]
fn the_second_client_hello_may_bring_the_offer() {
    let mut all = flights("tls13_retry");
    all[2] = flights("tls13_retry_psk")[2].clone();
    let mut wire = Wire::new(1);
    for (from, bytes) in &all {
        wire.send(*from, bytes);
    }
    assert_eq!(record(&wire).offered, Method::Psk);
}

#[test]
fn loopback_yields_both_roles_and_keeps_their_processes_apart() {
    let mut server = Wire::new(50_000);
    server.ssl = SSL;
    let mut client = server.clone();
    client.observed = Client;
    std::mem::swap(
        &mut client.key.local_address,
        &mut client.key.remote_address,
    );
    std::mem::swap(&mut client.key.local_port, &mut client.key.remote_port);
    for (from, bytes) in flights("tls12_full") {
        server.send(from, &bytes);
        client.send(from, &bytes);
    }
    let mut bench = Bench::new(Limits::default());
    for (server, client) in server.events.iter().zip(&client.events) {
        bench.feed(&[client.clone(), server.clone()]);
    }
    bench.tick(100 * SECOND, 0);
    let mut roles: Vec<_> = bench
        .records
        .iter()
        .map(|record| (record.role, record.pid))
        .collect();
    roles.sort();
    // The server's segments carried the client's name: its process stays unknown.
    assert_eq!(roles, [(Role::Server, None), (Role::Client, Some(PID))]);
    assert_eq!(bench.records[0].client, bench.records[1].client);
}

#[test]
fn made_up_session_ids_are_no_offer() {
    // OpenSSL's client of TLS 1.3 sends one in each ClientHello.
    assert_eq!(record(&recorded("tls12_full")).offered, Method::None);
    assert_eq!(record(&recorded("tls13_full")).offered, Method::None);
}
