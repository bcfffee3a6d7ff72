//! From an skb at the network layer to the TCP segment in it, or its UDP header. Knows headers, not TLS.

use agent_common::{event, flow::FlowKey};
use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_load_bytes};
use core::{mem::MaybeUninit, ptr};

/// `skb->protocol` holds the EtherType in network byte order.
const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;

const IPPROTO_HOPOPTS: u8 = 0;
pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
const IPPROTO_ROUTING: u8 = 43;
const IPPROTO_DSTOPTS: u8 = 60;

/// Well within what the verifier lets be added to a pointer into the packet (`MAX_PACKET_OFF`, 65535).
const MAX_DIRECT_OFFSET: u32 = 0x7fff;

/// IPv6 extension headers that are walked before TCP; more than hop-by-hop, routing and
/// destination options is not seen in practice.
const MAX_EXTENSION_HEADERS: usize = 4;

/// IPv6 (RFC 8200: 40) and TCP with timestamps and one SACK block (RFC 9293: 20; RFC 7323: 12; RFC
/// 2018: 12). What carries data is rarely so short.
pub const BARE_BYTES: u32 = 84;

const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;

/// What follows the network layer's headers.
pub struct Transport {
    /// Offset of its header in the skb.
    pub offset: u32,
    /// `IPPROTO_…`.
    pub protocol: u8,
    pub ipv6: bool,
}

/// One TCP segment of an skb.
pub struct Segment {
    /// Offset of the payload in the skb.
    pub offset: u32,
    /// Payload bytes; a GRO or GSO packet may hold up to 64 KiB and more.
    pub payload: u32,
    /// Sequence number of the first payload byte.
    pub sequence: u32,
    pub acknowledgment: u32,
    source_port: u16,
    destination_port: u16,
    flags: u8,
    ipv6: bool,
}

impl Segment {
    /// The FIN and RST bits as `event::SEGMENT_…` flags.
    #[inline(always)]
    pub fn ending(&self) -> u8 {
        let mut ending = 0;
        if self.flags & TCP_FIN != 0 {
            ending |= event::SEGMENT_FIN;
        }
        if self.flags & TCP_RST != 0 {
            ending |= event::SEGMENT_RST;
        }
        ending
    }
}

/// Copies `T` from the packet: straight from its linear part, which holds the headers of nearly
/// every packet, or by the helper.
#[inline(always)]
pub fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    // Headers are never that long; the verifier wants to see it.
    if offset <= MAX_DIRECT_OFFSET {
        // SAFETY: `skb` is the program's context; the verifier checks the bounds again.
        unsafe {
            let start = (*skb).data as usize + offset as usize;
            if start + size_of::<T>() <= (*skb).data_end as usize {
                return Some(ptr::read_unaligned(start as *const T));
            }
        }
    }
    load_by_helper(skb, offset)
}

/// Copies `T` from anywhere in the packet, which costs ten times as much.
#[inline(always)]
fn load_by_helper<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let target = value.as_mut_ptr().cast();
    // SAFETY: the helper writes size_of::<T>() bytes to `value` or fails; every T used here is
    // plain bytes.
    unsafe {
        if bpf_skb_load_bytes(skb.cast(), offset, target, size_of::<T>() as u32) == 0 {
            Some(value.assume_init())
        } else {
            None
        }
    }
}

/// Finds the transport's header. `None`: no IP, a fragment, or headers that cannot be read.
#[inline(always)]
pub fn transport(skb: *mut __sk_buff) -> Option<Transport> {
    // SAFETY: `skb` is the program's context; the field is readable for cgroup_skb.
    let protocol = unsafe { (*skb).protocol };
    match protocol {
        ETH_P_IP => {
            let start: [u8; 10] = load(skb, 0)?;
            let fragment = u16::from_be_bytes([start[6], start[7]]) & 0x3fff;
            (fragment == 0).then_some(Transport {
                offset: u32::from(start[0] & 0x0f) * 4,
                protocol: start[9],
                ipv6: false,
            })
        }
        ETH_P_IPV6 => {
            let mut next: u8 = load(skb, 6)?;
            let mut offset = 40;
            for _ in 0..MAX_EXTENSION_HEADERS {
                if next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS {
                    break;
                }
                let header: [u8; 2] = load(skb, offset)?;
                next = header[0];
                offset += (u32::from(header[1]) + 1) * 8;
            }
            Some(Transport {
                offset,
                protocol: next,
                ipv6: true,
            })
        }
        _ => None,
    }
}

/// Finds the TCP segment. `None`: no TCP, or headers that cannot be read.
#[inline(always)]
pub fn segment(skb: *mut __sk_buff) -> Option<Segment> {
    let transport = transport(skb)?;
    if transport.protocol != IPPROTO_TCP {
        return None;
    }
    tcp(skb, &transport)
}

/// The TCP segment behind its network layer's headers.
#[inline(always)]
pub fn tcp(skb: *mut __sk_buff, transport: &Transport) -> Option<Segment> {
    // SAFETY: `skb` is the program's context; the field is readable for cgroup_skb.
    let length = unsafe { (*skb).len };
    let tcp: [u8; 14] = load(skb, transport.offset)?;
    let offset = transport.offset + u32::from(tcp[12] >> 4) * 4;
    let flags = tcp[13];
    let mut sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
    if flags & TCP_SYN != 0 {
        // TCP Fast Open: the SYN takes one sequence number before the data.
        sequence = sequence.wrapping_add(1);
    }
    Some(Segment {
        offset,
        payload: length.saturating_sub(offset),
        sequence,
        acknowledgment: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
        source_port: u16::from_be_bytes([tcp[0], tcp[1]]),
        destination_port: u16::from_be_bytes([tcp[2], tcp[3]]),
        flags,
        ipv6: transport.ipv6,
    })
}

/// The first payload bytes, zero beyond its end.
#[inline(always)]
pub fn prefix(skb: *mut __sk_buff, segment: &Segment) -> Option<[u8; 6]> {
    if segment.payload >= 6 {
        return load(skb, segment.offset);
    }
    let mut bytes = [0; 6];
    for index in 0..5 {
        if index < segment.payload {
            bytes[index as usize] = load_by_helper(skb, segment.offset + index)?;
        }
    }
    Some(bytes)
}

/// Fills in the flow of a segment, as seen from the observed socket; in place, since the stack has
/// no room for a copy. `key` must be zero but for `netns`.
#[inline(always)]
pub fn fill_key(
    skb: *mut __sk_buff,
    segment: &Segment,
    direction: u8,
    key: &mut FlowKey,
) -> Option<()> {
    let ports = [segment.source_port, segment.destination_port];
    fill_key_of(skb, ports, segment.ipv6, direction, key)
}

/// The same of a packet with these ports, of source and destination.
#[inline(always)]
pub fn fill_key_of(
    skb: *mut __sk_buff,
    [source_port, destination_port]: [u16; 2],
    ipv6: bool,
    direction: u8,
    key: &mut FlowKey,
) -> Option<()> {
    let (source, destination) = if direction == event::INGRESS {
        key.local_port = destination_port;
        key.remote_port = source_port;
        (&mut key.remote_address, &mut key.local_address)
    } else {
        key.local_port = source_port;
        key.remote_port = destination_port;
        (&mut key.local_address, &mut key.remote_address)
    };
    if ipv6 {
        load_into(skb, 8, source)?;
        load_into(skb, 24, destination)
    } else {
        *source = MAPPED;
        *destination = MAPPED;
        load_into(skb, 12, source.last_chunk_mut::<4>()?)?;
        load_into(skb, 16, destination.last_chunk_mut::<4>()?)
    }
}

/// Copies packet bytes to where they are wanted.
#[inline(always)]
fn load_into<const N: usize>(skb: *mut __sk_buff, offset: u32, target: &mut [u8; N]) -> Option<()> {
    *target = load(skb, offset)?;
    Some(())
}

/// The prefix of IPv4-mapped IPv6 addresses (RFC 4291, 2.5.5.2).
const MAPPED: [u8; 16] = mapped([0; 4]);

/// IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2).
#[inline(always)]
pub const fn mapped(address: [u8; 4]) -> [u8; 16] {
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, address[0], address[1], address[2], address[3],
    ]
}
