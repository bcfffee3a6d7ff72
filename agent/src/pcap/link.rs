//! From a packet as captured to the TCP segment or UDP datagram in it.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use pcap_parser::Linktype;

use super::file::Packet;

/// One TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct TcpSegment<'a> {
    pub time_ns: u64,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub sequence: u32,
    pub acknowledgment: u32,
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
    /// Bytes of payload that were sent; `data` holds those that were captured.
    pub payload: u32,
    pub data: &'a [u8],
}

/// One UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct UdpDatagram<'a> {
    pub time_ns: u64,
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// Bytes of payload that were sent; `data` holds those that were captured.
    pub payload: u32,
    pub data: &'a [u8],
}

/// What a packet holds.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    Tcp(TcpSegment<'a>),
    Udp(UdpDatagram<'a>),
}

/// Why a packet is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Of a link layer, network protocol or transport that is not read here, or cut off too soon.
    Foreign,
    /// A piece of an IP packet.
    Fragment,
}

/// RFC 768.
const UDP_HEADER: usize = 8;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
const MPLS: [u16; 2] = [0x8847, 0x8848];
const PPPOE_SESSION: u16 = 0x8864;
const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;
const PPP_IPV4_SHORT: u8 = 0x21;
const PPP_IPV6_SHORT: u8 = 0x57;

/// The TCP segment or UDP datagram in a packet.
///
/// # Errors
/// Where there is none.
pub fn content<'a>(packet: &Packet<'a>) -> Result<Content<'a>, Unread> {
    let ip = ip(packet.link, packet.data).ok_or(Unread::Foreign)?;
    let sliced = LaxSlicedPacket::from_ip(ip).map_err(|_| Unread::Foreign)?;
    let net = sliced.net.ok_or(Unread::Foreign)?;
    let (source, destination, fragmented, length) = match &net {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let length = usize::from(header.total_len()).checked_sub(header.slice().len());
            (
                IpAddr::V4(header.source_addr()),
                IpAddr::V4(header.destination_addr()),
                ip.is_payload_fragmented(),
                length,
            )
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let extensions = ip.extensions().slice().len();
            let length = usize::from(header.payload_length()).checked_sub(extensions);
            (
                IpAddr::V6(header.source_addr()),
                IpAddr::V6(header.destination_addr()),
                ip.is_payload_fragmented(),
                length,
            )
        }
        LaxNetSlice::Arp(_) => return Err(Unread::Foreign),
    };
    if fragmented {
        return Err(Unread::Fragment);
    }
    let time_ns = packet.time_ns;
    match sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let data = tcp.payload();
            // Where the card splits segments, the length in the header is 0.
            let payload = length
                .and_then(|length| length.checked_sub(tcp.header_slice().len()))
                .map_or(data.len(), |sent| sent.max(data.len()));
            Ok(Content::Tcp(TcpSegment {
                time_ns,
                from: SocketAddr::new(source, tcp.source_port()),
                to: SocketAddr::new(destination, tcp.destination_port()),
                sequence: tcp.sequence_number(),
                acknowledgment: tcp.acknowledgment_number(),
                syn: tcp.syn(),
                ack: tcp.ack(),
                fin: tcp.fin(),
                rst: tcp.rst(),
                payload: u32::try_from(payload).map_err(|_| Unread::Foreign)?,
                data,
            }))
        }
        Some(TransportSlice::Udp(udp)) => {
            let data = udp.payload();
            let payload = usize::from(udp.length()).saturating_sub(UDP_HEADER);
            Ok(Content::Udp(UdpDatagram {
                time_ns,
                from: SocketAddr::new(source, udp.source_port()),
                to: SocketAddr::new(destination, udp.destination_port()),
                payload: payload.max(data.len()) as u32,
                data,
            }))
        }
        _ => Err(Unread::Foreign),
    }
}

/// The IP packet in a frame.
fn ip(link: Linktype, frame: &[u8]) -> Option<&[u8]> {
    match link {
        Linktype::ETHERNET => behind_type(u16_at(frame, 12)?, frame.get(14..)?),
        Linktype::LINUX_SLL => behind_type(u16_at(frame, 14)?, frame.get(16..)?),
        Linktype::LINUX_SLL2 => behind_type(u16_at(frame, 0)?, frame.get(20..)?),
        // PPP, and PPP over serial lines.
        Linktype(9 | 50) => ppp(frame),
        // Four bytes of address family, in an order that need not be ours: the version tells.
        Linktype::NULL | Linktype::LOOP => frame.get(4..),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 => Some(frame),
        // What DLT_RAW is to OpenBSD, and to everybody else.
        Linktype(12 | 14) => Some(frame),
        _ => None,
    }
}

fn u16_at(bytes: &[u8], place: usize) -> Option<u16> {
    let bytes = bytes.get(place..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

/// The IP packet in a frame of PPP, with or without address and control (RFC 1662, 3.2), and the first
/// octet of its protocol.
fn ppp(frame: &[u8]) -> Option<&[u8]> {
    const ALL_STATIONS: [u8; 2] = [0xff, 0x03];
    let frame = frame.strip_prefix(&ALL_STATIONS).unwrap_or(frame);
    // An odd first octet is the last (RFC 1661, 2).
    if let [PPP_IPV4_SHORT | PPP_IPV6_SHORT, ..] = frame {
        return frame.get(1..);
    }
    match u16_at(frame, 0)? {
        PPP_IPV4 | PPP_IPV6 => frame.get(2..),
        _ => None,
    }
}

/// The IP packet behind an EtherType; the types that may stand before it are peeled off.
fn behind_type(mut kind: u16, mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match kind {
            IPV4 | IPV6 => return Some(rest),
            _ if VLAN.contains(&kind) => {
                kind = u16_at(rest, 2)?;
                rest = rest.get(4..)?;
            }
            _ if MPLS.contains(&kind) => {
                // The third byte's lowest bit marks the last label (RFC 3032, 2.1).
                while rest.get(2)? & 1 == 0 {
                    rest = rest.get(4..)?;
                }
                return rest.get(4..);
            }
            PPPOE_SESSION => {
                return ppp(rest.get(6..)?);
            }
            _ => return None,
        }
    }
}
