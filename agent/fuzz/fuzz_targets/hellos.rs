//! Hello messages, and what is read from the beginning of others.
#![no_main]

use libfuzzer_sys::fuzz_target;
use resumetry_fuzz::core::tls::client_hello::ClientHello;
use resumetry_fuzz::core::tls::server_hello::{ServerHello, named_curve, new_session_ticket};
use resumetry_fuzz::core::tls::ssl2_hello::Ssl2Hello;

fuzz_target!(|input: &[u8]| {
    if let Ok(hello) = ClientHello::read_keeping(input, true) {
        // Keeping tickets changes nothing else.
        let mut plain = hello.clone();
        plain.whole = None;
        assert_eq!(ClientHello::read(input), Ok(plain));
        if let Some(ticket) = hello.offered_ticket() {
            assert!(ticket.bytes as usize <= input.len());
        }
    }
    let _ = ServerHello::read(input);
    let _ = new_session_ticket(input);
    let _ = named_curve(0xc02f, input);
    // In one portion or in two.
    let middle = input
        .first()
        .map_or(0, |byte| usize::from(*byte))
        .min(input.len());
    let whole = Ssl2Hello::default().data(input);
    let mut reader = Ssl2Hello::default();
    let first = reader.data(&input[..middle]);
    let both = match first {
        Ok(([], None)) => reader.data(&input[middle..]),
        other => other,
    };
    match (whole, both) {
        (Ok((_, one)), Ok((_, two))) => assert_eq!(one, two),
        (one, two) => assert_eq!(one.is_err(), two.is_err()),
    }
});
