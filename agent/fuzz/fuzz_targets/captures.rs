//! Capture files, however damaged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resumetry_fuzz::core::fingerprint::Fingerprinter;
use resumetry_fuzz::pcap;

fuzz_target!(|input: &[u8]| {
    let mut records = 0;
    if let Ok(contents) = pcap::read(input, Fingerprinter::new(b"fuzz"), |_| records += 1) {
        assert_eq!(contents.flows.described, records);
        assert_eq!(contents.flows.flows, 0);
    }
});
