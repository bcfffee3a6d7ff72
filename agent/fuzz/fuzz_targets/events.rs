//! Events of the ring buffer, however damaged: each ends in one figure, and memory is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resumetry_fuzz::core::decode::decode;
use resumetry_fuzz::{Bench, Input};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let mut bench = Bench::default();
    while !input.is_over() {
        if let Ok(event) = decode(input.vector()) {
            bench.take(&event);
        }
    }
    bench.end(u64::MAX);
});
