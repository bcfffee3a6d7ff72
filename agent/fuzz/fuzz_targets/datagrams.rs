//! QUIC: datagrams as they come, and Initial packets that are authentic whatever is in them.
#![no_main]

use agent_common::event::{EGRESS, INGRESS, SEGMENT_HELLO};
use agent_common::quic::Version;
use libfuzzer_sys::fuzz_target;
use resumetry_fuzz::core::decode::{Datagram, Event};
use resumetry_fuzz::core::quic::frames::frames;
use resumetry_fuzz::core::quic::initial::InitialKeys;
use resumetry_fuzz::core::quic::packet::packets;
use resumetry_fuzz::{Bench, Input, SECOND, key};

const DESTINATION: [u8; 8] = *b"original";
const CLIENT: [u8; 4] = *b"clnt";
const SERVER: [u8; 4] = *b"srvr";

/// An Initial packet with this payload, sealed.
fn initial(from_client: bool, number: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let (destination, source) = match (from_client, number) {
        (true, 0) => (&DESTINATION[..], &CLIENT[..]),
        (true, _) => (&SERVER[..], &CLIENT[..]),
        (false, _) => (&CLIENT[..], &SERVER[..]),
    };
    let mut packet = vec![0xc0, 0, 0, 0, 1, destination.len() as u8];
    packet.extend(destination);
    packet.push(source.len() as u8);
    packet.extend(source);
    // No token, and a length of packet number, payload and tag.
    packet.push(0);
    let length = (1 + payload.len() + 16) as u16 | 0x4000;
    packet.extend(length.to_be_bytes());
    packet.push(number);
    packet.extend(payload);
    let id = packets(&initial_head()).next()?.destination;
    InitialKeys::derive(Version::V1, &id)?.seal(
        from_client,
        number.into(),
        &mut packet,
        payload.len(),
    )?;
    Some(packet)
}

/// Enough of a packet to read its destination.
fn initial_head() -> Vec<u8> {
    [&[0xc0, 0, 0, 0, 1, 8][..], &DESTINATION, &[0, 0, 0]].concat()
}

fuzz_target!(|input: &[u8]| {
    let _ = frames(input, |_| {});
    packets(input).for_each(drop);
    let mut input = Input(input);
    let mut bench = Bench::default();
    let (mut now_ns, mut numbers) = (SECOND, [0_u8; 2]);
    while !input.is_over() {
        let kind = input.byte();
        let from_client = kind & 1 == 0;
        let bytes = input.vector();
        let datagram = if kind & 2 == 0 && bytes.len() >= 4 && bytes.len() < 4_000 {
            let number = &mut numbers[usize::from(!from_client)];
            let sealed = initial(from_client, *number, bytes);
            *number = number.saturating_add(1);
            sealed.unwrap_or_default()
        } else {
            bytes.to_vec()
        };
        now_ns += 1_000;
        bench.take(&Event::Datagram(Datagram {
            time_ns: now_ns,
            key: key(u16::from(kind >> 4)),
            pid_tgid: 0,
            payload: datagram.len() as u32 + u32::from(kind & 4),
            direction: if from_client { INGRESS } else { EGRESS },
            flags: if kind & 8 == 0 { SEGMENT_HELLO } else { 0 },
            data: &datagram,
        }));
    }
    bench.end(now_ns);
});
