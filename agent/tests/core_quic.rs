//! Handshakes over QUIC: recorded ones of every kind, and what of them may be missing, repeated, out of
//! order or damaged without a wrong word.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod core_support;

use core_support::*;
use proptest::prelude::*;
use proptest::sample::Index;
use resumetry::core::record::{Handshake, Outcome, Transport};
use resumetry::core::tracker::{Limits, TrackerStats};

const KINDS: [(&str, &str); 8] = [
    ("quic_full", "Full 0304 1302 www.example.com None->None"),
    ("quic_psk", "Resumed 0304 1302 www.example.com Psk->Psk"),
    (
        "quic_early_data",
        "Resumed 0304 1302 www.example.com Psk->Psk",
    ),
    (
        "quic_version2",
        "Resumed 0304 1302 www.example.com Psk->Psk",
    ),
    (
        "quic_negotiated_version2",
        "Resumed 0304 1302 www.example.com Psk->Psk",
    ),
    ("quic_forgotten", "Full 0304 1302 www.example.com Psk->None"),
    ("quic_retry", "Full 0304 1302 www.example.com None->None"),
    (
        "quic_no_common_protocol",
        "Failed Alert 0000 0000 www.example.com None->None alert Some(120) sent",
    ),
];

const END_NS: u64 = 2 * SECOND;

fn run_quic(events: &[Owned]) -> (Vec<Handshake>, TrackerStats) {
    run_events(events, END_NS, 0)
}

fn lines(events: &[Owned]) -> Vec<String> {
    run_quic(events).0.iter().map(line).collect()
}

#[test]
fn recorded_handshakes_are_what_they_were() {
    for (name, expected) in KINDS {
        let (records, stats) = run_quic(&recorded_quic(name));
        let [record] = &records[..] else {
            panic!("{name}: {stats:?}");
        };
        assert_eq!(line(record), expected, "{name}");
        assert_eq!(record.transport, Transport::Quic);
        assert_eq!(record.pid, Some(PID), "{name}");
        assert_eq!(record.client_hello_ns, SECOND + MILLISECOND);
        let offers = record.early_data_offered;
        // The others offer early data and have none.
        let sends = name == "quic_early_data";
        assert_eq!(record.early_data_sent, sends.then_some(true), "{name}");
        assert_eq!(
            record.early_data_accepted,
            (offers && record.outcome() == Outcome::Full).then_some(false),
            "{name}"
        );
    }
}

#[test]
fn bytes_and_time_are_those_up_to_the_clients_flight() {
    let (records, _) = run_quic(&recorded_quic("quic_full"));
    let flights = flights("quic_full");
    let sum = |from: End| -> u64 {
        let own = flights.iter().take(3).filter(|(end, _)| *end == from);
        own.map(|(_, data)| data.len() as u64).sum()
    };
    let record = &records[0];
    assert_eq!(
        (record.client_bytes, record.server_bytes),
        (sum(Client), sum(Server))
    );
    assert_eq!(record.handshake_ns, Some(2 * MILLISECOND));
}

#[test]
fn missing_datagram_is_never_another_verdict() {
    for (name, expected) in KINDS {
        let whole = recorded_quic(name);
        for missing in 0..whole.len() {
            let mut events = whole.clone();
            events.remove(missing);
            let found = lines(&events);
            assert!(found.len() <= 1, "{name} without {missing}: {found:?}");
            for line in found {
                // A handshake may look as if nobody had answered, and that is what is seen.
                let is_unanswered = line.starts_with("Failed Timeout 0000");
                assert!(
                    line == expected || is_unanswered,
                    "{name} without {missing}: {line}"
                );
            }
        }
    }
}

#[test]
fn lost_events_make_no_failure() {
    let whole = recorded_quic("quic_psk");
    for end in 1..whole.len() {
        let (records, stats) = run_events(&whole[..end], END_NS, 1);
        assert!(
            records.iter().all(|record| record.established),
            "{records:?}"
        );
        assert_eq!(stats.described + stats.lost_ring_loss, 1, "{stats:?}");
    }
}

#[test]
fn every_cut_gives_the_same_record_or_none() {
    for (name, expected) in KINDS {
        let whole = recorded_quic(name);
        for place in 0..whole.len() {
            let Owned::Datagram(fixed, data) = &whole[place] else {
                panic!("no datagram");
            };
            for length in 0..data.len() {
                let mut events = whole.clone();
                // Of the packet, and what was captured of it.
                for payload in [length, data.len()] {
                    let fixed = resumetry::core::decode::Datagram {
                        payload: payload as u32,
                        ..*fixed
                    };
                    events[place] = Owned::Datagram(fixed, data[..length].to_vec());
                    for line in lines(&events) {
                        assert!(
                            line == expected || line.starts_with("Failed Timeout 0000"),
                            "{name} {place} {length}: {line}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn memory_is_bounded_by_limits() {
    let limits = Limits {
        quic: 16,
        ..Limits::default()
    };
    let mut bench = Bench::new(limits);
    let hello = &recorded_quic("quic_full")[..1];
    for port in 1..=100 {
        let Owned::Datagram(mut fixed, data) = hello[0].clone() else {
            panic!("no datagram");
        };
        fixed.key = key(port);
        bench.feed(&[Owned::Datagram(fixed, data)]);
        let stats = bench.tracker.stats();
        assert!(stats.flows <= 16, "{stats:?}");
        assert_balance(&stats);
    }
    assert_eq!(bench.tracker.stats().lost_evicted, 84);
}

/// The kernel half counts addresses and ports; what a client opens besides must not hide what is lost.
#[test]
fn connections_of_one_path_are_due_as_well() {
    let mut bench = Bench::new(Limits::default());
    for name in ["quic_full", "quic_psk", "quic_version2"] {
        let mut events = recorded_quic(name);
        if name != "quic_full"
            && let Owned::Datagram(fixed, _) = &mut events[0]
        {
            fixed.flags = 0;
        }
        bench.feed(&events);
    }
    let stats = bench.tracker.stats();
    assert_eq!((stats.hellos, stats.uncounted, stats.described), (3, 2, 3));
    // One path and one connection over TCP, of which nothing came here: three of four.
    assert_eq!(stats.due(2), 4);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn order_behind_the_first_and_repetition_change_nothing(
        kind in 0..KINDS.len(),
        order in prop::collection::vec(any::<Index>(), 0..12),
        again in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let (name, expected) = KINDS[kind];
        let mut events = recorded_quic(name);
        // With a Retry the first two make the third readable.
        let fixed = if name == "quic_retry" { 3 } else { 1 };
        let rest = events.len() - fixed;
        for (i, swap) in order.iter().enumerate() {
            events.swap(fixed + i % rest, fixed + swap.index(rest));
        }
        for again in again {
            let event = events[again.index(events.len())].clone();
            events.push(event);
        }
        prop_assert_eq!(lines(&events), vec![expected.to_owned()], "{}", name);
    }

    #[test]
    fn any_damage_is_survived(
        kind in 0..KINDS.len(),
        place in any::<Index>(),
        at in any::<Index>(),
        with in 1u8..,
    ) {
        let (name, expected) = KINDS[kind];
        let mut events = recorded_quic(name);
        let place = place.index(events.len());
        if let Owned::Datagram(_, data) = &mut events[place] {
            let at = at.index(data.len());
            data[at] ^= with;
        }
        for line in lines(&events) {
            // What is not authentic is not there.
            prop_assert!(
                line == expected || line.starts_with("Failed Timeout 0000"),
                "{} {}: {}", name, place, line
            );
        }
    }
}
