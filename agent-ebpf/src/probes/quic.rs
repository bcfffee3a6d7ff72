//! QUIC on the wire tap's hooks: datagrams of handshakes, whole, and the first bytes of those that show
//! that one is complete. What is no QUIC leaves after a look at its first five bytes; handshakes of DTLS are
//! counted.

use core::mem::MaybeUninit;

use agent_common::{
    dtls,
    event::{EGRESS, KIND_DATAGRAM, SEGMENT_HELLO, SegmentEvent},
    flow::QuicPath,
    hits, limits,
    quic::{Header, MIN_INITIAL_BYTES, PREFIX_BYTES, header},
    stats,
};
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_ktime_get_ns, generated::bpf_get_netns_cookie},
};

use crate::{
    emit,
    maps::{NETNS_COOKIE, QUIC_PATHS, count, may_have_quic, note_quic},
    packet::{self, Transport},
    probes::wire::{sender, zeroed},
};

/// RFC 768.
const UDP_HEADER: usize = 8;

/// Looks at a datagram; says how far it had to go, as `hits::WIRE_…`.
#[inline(always)]
pub fn observe(skb: *mut __sk_buff, transport: &Transport, direction: u8) -> u32 {
    let Some(start) = packet::load::<[u8; UDP_HEADER + PREFIX_BYTES]>(skb, transport.offset) else {
        return hits::WIRE_HEADERS;
    };
    let [a, b, c, d, _, _, _, _, prefix @ ..] = start;
    let ports = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    if dtls::may_begin(&prefix) {
        let at = transport.offset + UDP_HEADER as u32 + dtls::RECORD_HEADER_BYTES;
        if packet::load(skb, at).is_some_and(|message| dtls::is_first_hello(&message)) {
            count(stats::DTLS_HELLOS);
        }
        return hits::WIRE_HEADERS;
    }
    let header = match header(&prefix) {
        None => return hits::WIRE_HEADERS,
        Some(Header::Short) if !may_have_quic() => return hits::WIRE_HEADERS,
        Some(header) => header,
    };
    match datagram(skb, transport, ports, direction, header) {
        Some(()) => hits::WIRE_COPIED,
        None => hits::WIRE_HEADERS,
    }
}

/// Not inlined: event and caller do not fit into one frame of the 512 bytes of stack.
#[inline(never)]
fn datagram(
    skb: *mut __sk_buff,
    transport: &Transport,
    ports: [u16; 2],
    direction: u8,
    header: Header,
) -> Option<()> {
    let offset = transport.offset + UDP_HEADER as u32;
    // SAFETY: `skb` is the program's context.
    let payload = unsafe { (*skb).len }.saturating_sub(offset);
    let mut storage = MaybeUninit::uninit();
    let event: &mut SegmentEvent = zeroed(&mut storage);
    event.header.kind = KIND_DATAGRAM;
    event.direction = direction;
    event.payload = payload;
    if NETNS_COOKIE.load() == 1 {
        // SAFETY: `skb` is the program's context.
        event.key.netns = unsafe { bpf_get_netns_cookie(skb.cast()) };
    }
    packet::fill_key_of(skb, ports, transport.ipv6, direction, &mut event.key)?;
    // SAFETY: the helper has no preconditions.
    event.header.time_ns = unsafe { bpf_ktime_get_ns() };
    let begins = header == Header::Initial && payload >= MIN_INITIAL_BYTES;
    let room = match QUIC_PATHS.get_ptr_mut(&event.key) {
        // SAFETY: the element stays valid while the program runs; two CPUs may race on one path, which
        // can only hand over one datagram too many.
        Some(path) => follow(unsafe { &mut *path }, direction, header, begins)?,
        None if begins => {
            let path = QuicPath {
                long_left: limits::QUIC_LONG_DATAGRAMS,
                short_left: limits::QUIC_SHORT_DATAGRAMS,
                client_direction: direction,
            };
            count(stats::HELLOS);
            if QUIC_PATHS.insert(&event.key, &path, 0).is_err() {
                count(stats::WIRE_LOST_MAP_FULL);
                return None;
            }
            event.flags = SEGMENT_HELLO;
            limits::PIECE_BYTES as u32
        }
        None => return None,
    };
    if header != Header::Short {
        note_quic(event.header.time_ns);
    }
    if direction == EGRESS {
        sender(event);
        event.flags &= SEGMENT_HELLO;
    }
    event.captured = if payload < room { payload } else { room };
    event.header.size = size_of::<SegmentEvent>() as u32 + event.captured;
    emit::segment(skb, event, offset);
    Some(())
}

/// Another datagram on a path: how many bytes of it to copy at most; `None` for nothing.
#[inline(always)]
fn follow(path: &mut QuicPath, direction: u8, header: Header, begins: bool) -> Option<u32> {
    let is_from_client = path.client_direction == direction;
    if header == Header::Short {
        if path.short_left == 0 || !is_from_client {
            return None;
        }
        path.short_left -= 1;
        return Some(limits::QUIC_SHORT_SNAP_BYTES);
    }
    if begins && is_from_client && path.long_left < limits::MAX_QUIC_LONG_DATAGRAMS {
        path.long_left += limits::QUIC_LONG_DATAGRAMS;
    }
    if path.long_left == 0 {
        return None;
    }
    path.long_left -= 1;
    path.short_left = limits::QUIC_SHORT_DATAGRAMS;
    Some(limits::PIECE_BYTES as u32)
}
