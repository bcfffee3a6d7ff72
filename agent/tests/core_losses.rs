//! From events to records: what is lost, cut, repeated or too much never becomes a wrong verdict.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod core_support;

use agent_common::event::SEGMENT_HELLO;
use core_support::*;
use resumetry::core::record::Failure;
use resumetry::core::tracker::Limits;

#[test]
fn lost_events_never_make_a_full_or_failed_handshake() {
    for name in [
        "tls13_full",
        "tls13_psk",
        "tls12_full",
        "tls12_ticket",
        "tls12_session_id",
    ] {
        let whole = record(&recorded(name));
        let flights = flights(name);
        for lost in 1..flights.len() {
            let mut wire = Wire::new(1);
            for (i, (from, bytes)) in flights.iter().enumerate() {
                match i == lost {
                    true => wire.lose(*from, bytes),
                    false => wire.send(*from, bytes),
                };
            }
            wire.fin(Client).fin(Server);
            let (records, stats) = run_with_loss(&wire, 1);
            match &records[..] {
                [] => assert_eq!(stats.lost_ring_loss, 1, "{name} without {lost}"),
                [record] => assert_eq!(line(record), line(&whole), "{name} without {lost}"),
                _ => panic!("{name} without {lost}: several records"),
            }
        }
    }
}

#[test]
fn losses_elsewhere_make_an_incomplete_flow_lost() {
    let mut wire = Wire::new(1);
    wire.send(Client, &flights("tls13_full")[0].1).fin(Client);
    let (records, stats) = run_with_loss(&wire, 3);
    assert!(records.is_empty());
    assert_eq!(stats.lost_ring_loss, 1);
}

#[test]
fn acknowledged_bytes_that_never_came_make_a_flow_lost() {
    // The server's flight got lost, yet the client acknowledged it before it gave up.
    let flights = flights("tls13_full");
    let mut wire = Wire::new(1);
    wire.send(Client, &flights[0].1)
        .lose(Server, &flights[1].1)
        .fin(Client);
    let (records, stats) = run_with_loss(&wire, 0);
    assert!(records.is_empty());
    assert_eq!(stats.lost_ring_loss, 1);
}

#[test]
fn a_reset_acknowledges_nothing() {
    let mut wire = Wire::new(1);
    wire.send(Client, &flights("tls13_full")[0].1).reset(Server);
    if let Some(Owned::Segment(reset, _)) = wire.events.last_mut() {
        reset.acknowledgment = reset.acknowledgment.wrapping_add(5000);
    }
    assert_eq!(record(&wire).failure, Some(Failure::Reset));
}

#[test]
fn a_client_certificate_that_was_cut_off_is_a_flight() {
    let flights = flights("tls13_client_certificate");
    let mut wire = Wire::new(1);
    for (from, bytes) in &flights[..2] {
        wire.send(*from, bytes);
    }
    wire.send_with_hole(Client, &flights[2].1, flights[2].1.len() - 100);
    wire.wait(MILLISECOND).send(Server, &flights[3].1);
    let record = record(&wire);
    assert!(record.established);
    assert_eq!(
        record.handshake_ns,
        Some(0),
        "the flight, not the answer, ends it"
    );
}

#[test]
fn reused_ports_without_a_seen_end_are_lost() {
    let mut first = Wire::new(50_000);
    first.send(Client, &flights("tls13_full")[0].1);
    let mut bench = Bench::new(Limits::default());
    bench.feed(&first.events);
    if let Owned::Segment(hello, _) = &mut first.events[0] {
        hello.sequence = hello.sequence.wrapping_add(1 << 30);
    }
    bench.feed(&first.events);
    assert!(bench.records.is_empty());
    assert_eq!(bench.tracker.stats().lost_truncated, 1);
    assert_balance(&bench.tracker.stats());
}

#[test]
fn the_certificate_alone_tells_a_full_handshake() {
    // Just the header of the Certificate was copied; the library says that it went well.
    let flights = flights("tls12_full");
    let mut wire = Wire::new(1);
    wire.ssl = SSL;
    wire.send(Client, &flights[0].1);
    let server = &flights[1].1;
    let first = 5 + usize::from(u16::from_be_bytes([server[3], server[4]]));
    wire.send_with_hole(Server, server, server.len() - first - 9);
    wire.wait(MILLISECOND).library();
    let record = record(&wire);
    assert!(record.established && !record.resumed);
    assert!(record.certificate_chain_bytes.is_some());
}

#[test]
fn a_truncated_client_hello_is_lost_not_unoffered() {
    let hello = &flights("tls13_psk")[0].1;
    let mut wire = Wire::new(1);
    wire.send_with_hole(Client, hello, 40);
    for (from, bytes) in &flights("tls13_psk")[1..] {
        wire.send(*from, bytes);
    }
    let (records, stats) = run(&wire);
    assert!(records.is_empty());
    assert_eq!(stats.lost_truncated, 1);
    let mut wire = Wire::new(1);
    wire.send(Client, &hello[..200]).last(Client);
    let (records, stats) = run(&wire);
    assert!(records.is_empty());
    assert_eq!(stats.lost_truncated, 1);
}

#[test]
fn a_hole_in_the_certificate_is_skipped() {
    let flights = flights("tls12_full");
    let whole = record(&recorded("tls12_full"));
    let mut wire = Wire::new(50_000);
    wire.send(Client, &flights[0].1).wait(MILLISECOND);
    // The Certificate record is the second one; only its head was copied.
    let server = &flights[1].1;
    let first = 5 + usize::from(u16::from_be_bytes([server[3], server[4]]));
    let length = usize::from(u16::from_be_bytes([server[first + 3], server[first + 4]]));
    let second = first + 5 + length;
    wire.send_with_hole(Server, &server[..second], length - 30);
    wire.send(Server, &server[second..]).wait(MILLISECOND);
    for (from, bytes) in &flights[2..] {
        wire.send(*from, bytes).wait(MILLISECOND);
    }
    assert_eq!(record(&wire), whole);
}

#[test]
fn a_hole_in_late_records_keeps_the_verdict() {
    let flights = flights("tls13_full");
    let mut wire = Wire::new(1);
    for (i, (from, bytes)) in flights.iter().enumerate() {
        if i < 3 {
            wire.send(*from, bytes);
        } else {
            wire.send_with_hole(*from, bytes, bytes.len() - 6);
        }
    }
    wire.last(Server);
    assert!(record(&wire).established);
}

#[test]
fn a_repeated_client_hello_is_no_new_connection() {
    let mut wire = recorded("tls13_full");
    let hello = wire.events[0].clone();
    wire.events.insert(1, hello.clone());
    wire.events.push(hello);
    assert_eq!(run(&wire).0.len(), 1);
}

#[test]
fn reused_ports_are_a_new_connection() {
    let mut bench = Bench::new(Limits::default());
    bench.feed(&recorded("tls13_full").events);
    // Another start of sequence numbers on the same ports.
    let second = recorded("tls13_psk");
    let moved: Vec<_> = second
        .events
        .into_iter()
        .map(|event| match event {
            Owned::Segment(mut segment, data) => {
                let client = segment.direction == 0;
                let shift = |value: u32, by: bool| value.wrapping_add(if by { 1 << 30 } else { 0 });
                segment.sequence = shift(segment.sequence, client);
                segment.acknowledgment = shift(segment.acknowledgment, !client);
                Owned::Segment(segment, data)
            }
            other => other,
        })
        .collect();
    bench.feed(&moved).tick(100 * SECOND, 0);
    let lines: Vec<_> = bench.records.iter().map(line).collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("Full") && lines[1].starts_with("Resumed"),
        "{lines:?}"
    );
    assert_balance(&bench.tracker.stats());
}

#[test]
fn floods_leave_other_flows_exact_and_memory_bounded() {
    let limits = Limits {
        flows: 64,
        early_flows: 8,
        ..Limits::default()
    };
    let mut bench = Bench::new(limits);
    let hello = flights("tls13_full")[0].1.clone();
    for port in 1..2000 {
        let mut half_open = Wire::new(port);
        half_open.send(Client, &hello);
        bench.feed(&half_open.events);
        if port % 100 == 0 {
            bench.feed(&recorded("tls13_full").events);
        }
        assert!(bench.tracker.stats().flows <= 64);
    }
    bench.tick(100 * SECOND, 0);
    let stats = bench.tracker.stats();
    assert_balance(&stats);
    let full = bench
        .records
        .iter()
        .filter(|record| record.established)
        .count();
    // The repetitions have the sequence numbers of the first one, whose name has been evicted
    // from the table by the flood each time.
    assert_eq!(full, 19);
    assert!(stats.lost_evicted > 1000);
}

#[test]
fn early_segments_without_a_start_are_dropped() {
    let wire = Wire::new(1);
    let mut bench = Bench::new(Limits::default());
    for port in 0..5000 {
        let mut other = wire.clone();
        other.key.remote_port = port;
        bench.feed(&[other.segment(Client, 100, &[0; 100], 100, 2)]);
    }
    bench.tick(100 * SECOND, 0);
    assert_eq!(bench.tracker.stats(), Default::default());
    assert!(bench.records.is_empty());
}

#[test]
fn finish_tells_what_is_decided() {
    let flights = flights("tls13_full");
    let mut established = Wire::new(1);
    for (from, bytes) in &flights[..3] {
        established.send(*from, bytes);
    }
    let mut open = Wire::new(2);
    open.send(Client, &flights[0].1);
    let mut bench = Bench::new(Limits::default());
    bench.feed(&established.events).feed(&open.events).finish();
    assert_eq!(bench.records.len(), 1);
    assert_eq!(bench.records[0].client.port(), 1);
    assert_eq!(bench.tracker.stats().unfinished, 1);
    assert_balance(&bench.tracker.stats());
}

#[test]
fn every_prefix_of_a_connection_is_handled() {
    for name in ["tls13_psk", "tls12_ticket", "tls12_full"] {
        let flights = flights(name);
        let whole = record(&recorded(name));
        let total: usize = flights.iter().map(|(_, bytes)| bytes.len()).sum();
        for cut in 0..total {
            let mut wire = Wire::new(50_000);
            let mut left = cut;
            for (from, bytes) in &flights {
                let part = &bytes[..left.min(bytes.len())];
                left -= part.len();
                if !part.is_empty() {
                    wire.send(*from, part).wait(MILLISECOND);
                }
            }
            let (records, stats) = run(&wire);
            match &records[..] {
                [] => assert_eq!(stats.not_tls, stats.hellos, "{name} cut at {cut}"),
                [record] if record.established => {
                    assert_eq!(record, &whole, "{name} cut at {cut}");
                }
                [record] => assert_eq!(record.failure, Some(Failure::Timeout)),
                _ => panic!("several records"),
            }
        }
    }
}

#[test]
fn the_hello_flag_stands_for_itself() {
    // The DSL marks the first segment; without the mark no flow begins.
    let mut wire = recorded("tls13_full");
    if let Owned::Segment(segment, _) = &mut wire.events[0] {
        segment.flags &= !SEGMENT_HELLO;
    }
    assert_eq!(run(&wire).1.hellos, 0);
}
