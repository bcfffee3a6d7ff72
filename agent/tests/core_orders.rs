//! However a connection is cut, ordered and repeated, its record is the same.
#![allow(clippy::unwrap_used, reason = "tests may panic")]

mod core_support;

use core_support::*;
use proptest::prelude::*;
use proptest::sample::Index;
use resumetry::core::decode::{Event, decode};

const NAMES: [&str; 8] = [
    "tls13_full",
    "tls13_psk",
    "tls13_retry_psk",
    "tls13_client_certificate",
    "tls12_full",
    "tls12_ticket",
    "tls12_session_id",
    "tls12_client_certificate",
];

/// Pieces that cover `length` bytes, shuffled, some of them overlapping or sent twice.
fn pieces(
    length: usize,
    cuts: &[Index],
    order: &[Index],
    extra: &[(Index, Index)],
) -> Vec<(usize, usize)> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(length)).collect();
    at.extend([0, length]);
    at.sort_unstable();
    at.dedup();
    let mut pieces: Vec<_> = at.windows(2).map(|pair| (pair[0], pair[1])).collect();
    for (from, to) in extra {
        let (a, b) = (from.index(length), to.index(length));
        if a != b {
            pieces.push((a.min(b), a.max(b)));
        }
    }
    for (i, swap) in order.iter().enumerate() {
        let (a, b) = (i % pieces.len(), swap.index(pieces.len()));
        pieces.swap(a, b);
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_segmentation_gives_the_same_record(
        name in proptest::sample::select(&NAMES[..]),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        order in prop::collection::vec(any::<Index>(), 0..24),
        extra in prop::collection::vec(any::<(Index, Index)>(), 0..4),
    ) {
        let mut wire = Wire::new(50_000);
        for (from, bytes) in flights(name) {
            wire.scatter(from, &bytes, &pieces(bytes.len(), &cuts, &order, &extra));
            wire.wait(MILLISECOND);
        }
        prop_assert_eq!(record(&wire), record(&recorded(name)));
    }

    #[test]
    fn lost_segments_never_change_a_verdict(
        name in proptest::sample::select(&NAMES[..]),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        lost in prop::collection::vec(any::<Index>(), 1..4),
    ) {
        let mut wire = Wire::new(50_000);
        for (from, bytes) in flights(name) {
            wire.scatter(from, &bytes, &pieces(bytes.len(), &cuts, &[], &[]));
            wire.wait(MILLISECOND);
        }
        wire.fin(Client).fin(Server);
        for index in &lost {
            let at = index.index(wire.events.len());
            wire.events.remove(at);
        }
        let whole = record(&recorded(name));
        for record in run_with_loss(&wire, 1).0 {
            prop_assert!(record.established);
            prop_assert_eq!(line(&record), line(&whole));
        }
    }

    #[test]
    fn no_bytes_break_it(
        name in proptest::sample::select(&NAMES[..]),
        damage in prop::collection::vec((any::<Index>(), any::<Index>(), any::<u8>()), 1..6),
    ) {
        let mut wire = Wire::new(50_000);
        let mut all = flights(name);
        for (flight, at, value) in damage {
            let bytes = &mut all[flight.index(7)].1;
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for (from, bytes) in all {
            wire.send(from, &bytes);
        }
        prop_assert!(run(&wire).0.len() <= 1);
    }

    #[test]
    fn no_bytes_break_the_decoder(
        kind in 0u32..5,
        size in 0u32..200,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = bytes;
        if let Some(head) = bytes.first_chunk_mut::<8>() {
            head[..4].copy_from_slice(&kind.to_ne_bytes());
            head[4..].copy_from_slice(&size.to_ne_bytes());
        }
        if let Ok(Event::Segment(segment)) = decode(&bytes) {
            prop_assert!(segment.data.len() as u32 <= segment.payload);
        }
    }
}
