//! What a followed flow hands over of the time behind its handshake, and early data.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod core_support;

use core_support::*;
use resumetry::core::decode::CallRandom;
use resumetry::core::record::{Handshake, Role, Source};
use resumetry::core::tracker::Limits;

/// A recorded handshake that is followed, and what comes behind it.
fn followed(name: &str, behind: impl FnOnce(&mut Wire)) -> Handshake {
    let mut wire = Wire::new(50_000);
    wire.is_followed = true;
    for (from, bytes) in flights(name) {
        wire.send(from, &bytes).wait(MILLISECOND);
    }
    behind(&mut wire);
    record(&wire)
}

#[test]
fn followed_flow_hands_over_what_the_server_sent_behind_the_handshake() {
    let record = followed("tls13_psk", |wire| {
        wire.send(Client, &protected(100))
            .wait(20 * MILLISECOND)
            .send(Server, &protected(900))
            .wait(MILLISECOND)
            .fin(Client);
    });
    let answer = record.answer.unwrap();
    let last = answer.records().last().unwrap();
    assert_eq!((last.length, last.asked_ns != 0), (900, true));
    assert!(last.time_ns - last.asked_ns >= 20 * MILLISECOND);
}

#[test]
fn flow_that_is_not_followed_hands_nothing_over() {
    assert_eq!(record(&recorded("tls13_psk")).answer, None);
}

#[test]
fn followed_flow_waits_for_its_answer_and_not_forever() {
    let mut wire = Wire::new(50_000);
    wire.is_followed = true;
    // What stands behind the three flights of the handshake is left out.
    for (from, bytes) in flights("tls12_ticket").into_iter().take(3) {
        wire.send(from, &bytes).wait(MILLISECOND);
    }
    let mut bench = Bench::new(Limits::default());
    bench.feed(&wire.events).tick(wire.now_ns + SECOND, 0);
    assert!(bench.records.is_empty());
    bench.tick(wire.now_ns + 11 * SECOND, 0);
    assert_eq!(bench.records.len(), 1);
    assert!(bench.records[0].established);
}

/// A client resumes and sends early data (RFC 8446, 2.3): its ClientHello, and what follows.
fn early_data() -> Wire {
    let mut wire = Wire::new(50_000);
    wire.ssl = SSL;
    wire.is_followed = true;
    let flights = flights("tls13_psk");
    // early_data goes in front of pre_shared_key, which must stay last.
    let hello = with_extension(&flights[0].1, &[0, 42, 0, 0]);
    wire.send(Client, &hello)
        .send(Client, &protected(100))
        .wait(MILLISECOND)
        // ServerHello, EncryptedExtensions and Finished.
        .send(Server, &flights[1].1)
        .library()
        .wait(MILLISECOND);
    wire
}

/// Length of a record with a Finished under TLS_AES_256_GCM_SHA384.
const FINISHED: usize = 4 + 48 + 17;
/// Length of a record with an EndOfEarlyData.
const END_OF_EARLY_DATA: usize = 4 + 17;

#[test]
fn library_that_pauses_for_early_data_has_not_finished() {
    let mut wire = early_data();
    wire.send(Server, &protected(900))
        .wait(20 * MILLISECOND)
        .send(Client, &protected(END_OF_EARLY_DATA))
        .send(Client, &protected(FINISHED))
        .library()
        .send(Server, &protected(255))
        .wait(MILLISECOND)
        .fin(Client);
    let record = record(&wire);
    assert!(record.established && record.resumed && record.early_data_offered);
    assert_eq!(record.early_data_accepted, Some(true));
    assert_eq!(record.handshake_source, Some(Source::Library));
    assert!(record.handshake_ns.unwrap() >= 22 * MILLISECOND);
    let answer = record.answer.unwrap();
    let early: Vec<bool> = answer.records().iter().map(|r| r.is_early).collect();
    assert_eq!(early, [true, false]);
    assert!(answer.records()[0].asked_ns != 0);
}

#[test]
fn answered_early_data_of_a_client_that_leaves_was_a_handshake() {
    let mut wire = early_data();
    wire.send(Server, &protected(900)).fin(Server).fin(Client);
    let record = record(&wire);
    assert!(record.established && record.resumed, "{record:?}");
    let mut wire = early_data();
    wire.fin(Server).fin(Client);
    assert!(!self::record(&wire).established);
}

#[test]
fn early_data_without_its_end_was_refused() {
    let mut wire = early_data();
    wire.send(Client, &protected(FINISHED))
        .library()
        .send(Client, &protected(100))
        .send(Server, &protected(900))
        .fin(Client);
    let record = record(&wire);
    assert!(record.established && record.resumed && record.early_data_offered);
    assert_eq!(record.early_data_accepted, Some(false));
}

#[test]
fn on_cpu_time_is_that_of_all_calls_of_the_handshake() {
    let mut wire = Wire::new(50_000);
    wire.ssl = SSL;
    let flights = flights("tls13_full");
    // A call that finds nothing to read, before the flow's first flight names its SSL*.
    wire.send(Client, &flights[0].1).call(-1);
    wire.send(Server, &flights[1].1).call(-1);
    wire.wait(MILLISECOND)
        .send(Client, &flights[2].1)
        .send(Server, &flights[3].1)
        .library()
        .wait(MILLISECOND);
    assert_eq!(record(&wire).cpu_ns, Some(3_000));
}

#[test]
fn on_cpu_time_is_unknown_where_the_first_call_was_not_seen() {
    let mut wire = Wire::new(50_000);
    wire.ssl = SSL;
    let flights = flights("tls13_full");
    // Watching begins behind it.
    wire.send(Client, &flights[0].1).call(-1);
    wire.events.pop();
    wire.send(Server, &flights[1].1).call(-1);
    wire.wait(MILLISECOND)
        .send(Client, &flights[2].1)
        .send(Server, &flights[3].1)
        .library()
        .wait(MILLISECOND);
    let record = record(&wire);
    assert_eq!((record.established, record.cpu_ns), (true, None));
}

#[test]
fn on_cpu_time_is_unknown_where_a_call_was_lost() {
    let mut wire = Wire::new(50_000);
    wire.ssl = SSL;
    let flights = flights("tls13_full");
    wire.send(Client, &flights[0].1).call(-1);
    wire.send(Server, &flights[1].1).call(-1);
    wire.events.pop();
    wire.wait(MILLISECOND)
        .send(Client, &flights[2].1)
        .library()
        .wait(MILLISECOND);
    let record = record(&wire);
    assert_eq!((record.established, record.cpu_ns), (true, None));
}

/// TLS on memory buffers: the flight leaves after the call that made it.
#[test]
fn flight_that_leaves_after_its_call_joins_it() {
    let mut wire = Wire::new(50_000);
    wire.ssl = SSL;
    wire.sends_after_calls = true;
    let flights = flights("tls13_full");
    wire.send(Client, &flights[0].1)
        .wait(MILLISECOND)
        .call(-1)
        .send(Server, &flights[1].1)
        .wait(MILLISECOND)
        .send(Client, &flights[2].1)
        .wait(MILLISECOND)
        .library()
        .send(Server, &flights[3].1);
    let record = record(&wire);
    assert_eq!(record.cpu_ns, Some(2_000));
    assert_eq!(record.handshake_source, Some(Source::Library));
}

#[test]
fn flight_of_another_connection_does_not_join_the_thread_s_last_call() {
    let mut wire = Wire::new(50_000);
    wire.ssl = SSL;
    wire.sends_after_calls = true;
    let flights = flights("tls13_full");
    // The call was over before this ClientHello came.
    wire.call(-1).wait(MILLISECOND);
    wire.send(Client, &flights[0].1)
        .send(Server, &flights[1].1)
        .wait(MILLISECOND)
        .send(Client, &flights[2].1)
        .library()
        .send(Server, &flights[3].1);
    let record = record(&wire);
    assert_eq!(record.cpu_ns, None);
    assert_eq!(record.handshake_source, Some(Source::Wire));
}

/// TLS on memory buffers: each of two threads sends what the other one's call wrote, as it may be where
/// work goes to whoever is free.
fn swapped(names: [&str; 2], ends: [End; 2]) -> Vec<Handshake> {
    let mut wires = [Wire::new(50_000), Wire::new(50_001)];
    let own = [SSL, SSL + 4096];
    for (index, wire) in wires.iter_mut().enumerate() {
        let flights = flights(names[index]);
        wire.thread += index as u64;
        wire.sends_after_calls = true;
        wire.observed = ends[index];
        // Behind the headers of record and message, and the version.
        let random = u64::from_ne_bytes(*flights[1].1[11..].first_chunk().unwrap());
        let told = |server| {
            Some(CallRandom {
                is_server: ends[index] == Server,
                server,
            })
        };
        for (number, (from, bytes)) in flights.iter().enumerate() {
            let is_own = *from == ends[index];
            wire.ssl = own[index];
            // Before there is a ServerHello, what is there may be anything.
            wire.random = told(if number == 0 { 7 } else { random });
            if is_own && number < 3 {
                wire.call(if number == 2 { 1 } else { -1 });
            }
            wire.ssl = own[1 - index];
            wire.send(*from, bytes).wait(MILLISECOND);
            if number == 2 && !is_own {
                wire.ssl = own[index];
                wire.call(1);
            }
        }
    }
    let mut events = Vec::new();
    for step in 0..wires[0].events.len().max(wires[1].events.len()) {
        let next = wires.iter().filter_map(|wire| wire.events.get(step));
        events.extend(next.cloned());
    }
    run_events(&events, 2 * SECOND, 0).0
}

#[test]
fn random_of_the_server_joins_what_the_threads_mix_up() {
    let records = swapped(["tls13_full", "tls13_full_no_tickets"], [Server, Server]);
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!(record.cpu_ns, Some(2_000));
        assert_eq!(record.handshake_source, Some(Source::Library));
    }
}

#[test]
fn random_of_both_ends_is_of_the_right_one() {
    // On loopback, within one process.
    let records = swapped(["tls13_full", "tls13_full"], [Server, Client]);
    assert_eq!(records.len(), 2);
    for record in records {
        let expected = (record.role == Role::Server).then_some(2_000);
        assert_eq!(record.cpu_ns, expected);
    }
}
