//! Segments in any order: whatever two ends say to each other, the record is the same however their
//! flights are cut, shuffled and repeated.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resumetry_fuzz::core::record::Handshake;
use resumetry_fuzz::{Flight, Input, Pieces, play};

/// Flights of a connection at most.
const FLIGHTS: usize = 8;

/// Pieces that cover a flight, in an order, some of them twice.
fn pieces(length: usize, input: &mut Input<'_>) -> Pieces {
    let mut cuts: Vec<usize> = (0..input.byte() % 6)
        .map(|_| (usize::from(input.byte()) << 8 | usize::from(input.byte())) % (length + 1))
        .collect();
    cuts.extend([0, length]);
    cuts.sort_unstable();
    cuts.dedup();
    let mut pieces: Pieces = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
    for _ in 0..input.byte() % 6 {
        let (a, b) = (usize::from(input.byte()), usize::from(input.byte()));
        if !pieces.is_empty() {
            let (a, b) = (a % pieces.len(), b % pieces.len());
            if a == b {
                pieces.push(pieces[a]);
            } else {
                pieces.swap(a, b);
            }
        }
    }
    pieces
}

/// All but times; and of a handshake that failed, how much was read until that was clear.
fn facts(records: &[Handshake]) -> Vec<Handshake> {
    records
        .iter()
        .map(|record| Handshake {
            client_hello_ns: 0,
            established_to_client_hello_ns: None,
            handshake_ns: None,
            answer: None,
            client_bytes: if record.established {
                record.client_bytes
            } else {
                0
            },
            server_bytes: if record.established {
                record.server_bytes
            } else {
                0
            },
            ..record.clone()
        })
        .collect()
}

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let order = input.vector();
    let mut flights = Vec::new();
    while !input.is_over() && flights.len() < FLIGHTS {
        let from_client = flights.len() % 2 == 0;
        let data = input.vector();
        if data.is_empty() {
            break;
        }
        flights.push(Flight { from_client, data });
    }
    let whole: Vec<Pieces> = flights
        .iter()
        .map(|one| vec![(0, one.data.len())])
        .collect();
    let mut order = Input(order);
    let cut: Vec<Pieces> = flights
        .iter()
        .map(|one| pieces(one.data.len(), &mut order))
        .collect();
    assert_eq!(
        facts(&play(&flights, &cut)),
        facts(&play(&flights, &whole)),
        "{cut:?}"
    );
});
