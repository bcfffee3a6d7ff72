//! From a packet as captured to the TCP segment or UDP datagram in it.

use std::net::{IpAddr, SocketAddr};

use etherparse::defrag::IpDefragPool;
use etherparse::{
    IpNumber, LaxNetSlice, LaxSlicedPacket, SlicedPacket, TcpSlice, TransportSlice, UdpSlice,
};
use pcap_parser::Linktype;

use super::file::Packet;
use super::tunnel;

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

impl TcpSegment<'_> {
    /// The sequence number behind its payload.
    pub fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.payload)
    }
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
    /// A piece of an IP packet, which is kept until the others are there.
    Piece,
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

/// Tunnels in tunnels that are opened.
const MAX_TUNNELS: usize = 4;

/// IP packets of which pieces are kept: those that got one last. One takes 64 KiB at most.
const MAX_IN_PIECES: u64 = 256;

/// Finds what packets hold, also where it came in pieces.
#[derive(Debug, Default)]
pub struct Link {
    /// By the number of the piece that came last.
    pool: IpDefragPool<u64>,
    pieces: u64,
    joined: u64,
    /// The payload that was put together last.
    whole: Vec<u8>,
}

/// What stands behind the headers of IP.
struct Ip<'a> {
    source: IpAddr,
    destination: IpAddr,
    /// Bytes of payload by the header; 0 where the card splits segments.
    length: usize,
    is_piece: bool,
    protocol: IpNumber,
    payload: &'a [u8],
    transport: Option<TransportSlice<'a>>,
}

impl Link {
    /// The TCP segment or UDP datagram in a packet.
    ///
    /// # Errors
    /// Where there is none.
    pub fn content<'a>(&'a mut self, packet: &Packet<'a>) -> Result<Content<'a>, Unread> {
        let mut bytes = ip(packet.link, packet.data).ok_or(Unread::Foreign)?;
        let time_ns = packet.time_ns;
        for _ in 0..=MAX_TUNNELS {
            let ip = Ip::read(bytes).ok_or(Unread::Foreign)?;
            if ip.is_piece {
                return self.piece(bytes, &ip, time_ns);
            }
            let content = match &ip.transport {
                Some(TransportSlice::Tcp(tcp)) => Some(ip.tcp(tcp, time_ns)?),
                Some(TransportSlice::Udp(udp)) => Some(ip.udp(udp, time_ns)),
                _ => None,
            };
            let inner = match &content {
                Some(Content::Udp(udp)) => tunnel::in_udp(udp.to.port(), udp.data),
                Some(Content::Tcp(_)) => None,
                None => tunnel::in_ip(ip.protocol, ip.payload),
            };
            bytes = match (inner, content) {
                (Some(inner), _) => inner,
                (None, Some(content)) => return Ok(content),
                (None, None) => return Err(Unread::Foreign),
            };
        }
        Err(Unread::Foreign)
    }

    /// Pieces of IP packets so far.
    pub fn pieces(&self) -> u64 {
        self.pieces
    }

    /// IP packets that were put together from pieces.
    pub fn joined(&self) -> u64 {
        self.joined
    }

    /// A piece of an IP packet: what that holds, if it is the last that was missing.
    fn piece(&mut self, bytes: &[u8], ip: &Ip<'_>, time_ns: u64) -> Result<Content<'_>, Unread> {
        self.pieces += 1;
        if self.pieces.is_multiple_of(MAX_IN_PIECES) {
            let first = self.pieces - MAX_IN_PIECES;
            self.pool.retain(|last| *last > first);
        }
        // A piece that was captured in part is none.
        let sliced = SlicedPacket::from_ip(bytes).map_err(|_| Unread::Piece)?;
        let whole = self
            .pool
            .process_sliced_packet(&sliced, self.pieces, ())
            .ok()
            .flatten()
            .ok_or(Unread::Piece)?;
        self.joined += 1;
        self.whole = whole.payload;
        let ip = Ip {
            length: self.whole.len(),
            is_piece: false,
            protocol: whole.ip_number,
            payload: &self.whole,
            transport: None,
            ..*ip
        };
        match ip.protocol {
            IpNumber::TCP => {
                let tcp = TcpSlice::from_slice(ip.payload).map_err(|_| Unread::Foreign)?;
                ip.tcp(&tcp, time_ns)
            }
            IpNumber::UDP => {
                let udp = UdpSlice::from_slice(ip.payload).map_err(|_| Unread::Foreign)?;
                Ok(ip.udp(&udp, time_ns))
            }
            _ => Err(Unread::Foreign),
        }
    }
}

impl<'a> Ip<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let sliced = LaxSlicedPacket::from_ip(bytes).ok()?;
        let net = sliced.net?;
        let payload = net.ip_payload_ref()?;
        let (protocol, payload) = (payload.ip_number, payload.payload);
        let (source, destination, is_piece, length) = match &net {
            LaxNetSlice::Ipv4(ip) => {
                let header = ip.header();
                (
                    IpAddr::V4(header.source_addr()),
                    IpAddr::V4(header.destination_addr()),
                    ip.is_payload_fragmented(),
                    usize::from(header.total_len()).saturating_sub(header.slice().len()),
                )
            }
            LaxNetSlice::Ipv6(ip) => {
                let header = ip.header();
                let extensions = ip.extensions().slice().len();
                (
                    IpAddr::V6(header.source_addr()),
                    IpAddr::V6(header.destination_addr()),
                    ip.is_payload_fragmented(),
                    usize::from(header.payload_length()).saturating_sub(extensions),
                )
            }
            LaxNetSlice::Arp(_) => return None,
        };
        Some(Self {
            source,
            destination,
            length,
            is_piece,
            protocol,
            payload,
            transport: sliced.transport,
        })
    }

    fn tcp<'b>(&self, tcp: &TcpSlice<'b>, time_ns: u64) -> Result<Content<'b>, Unread> {
        let data = tcp.payload();
        let payload = self
            .length
            .saturating_sub(tcp.header_slice().len())
            .max(data.len());
        Ok(Content::Tcp(TcpSegment {
            time_ns,
            from: SocketAddr::new(self.source, tcp.source_port()),
            to: SocketAddr::new(self.destination, tcp.destination_port()),
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

    fn udp<'b>(&self, udp: &UdpSlice<'b>, time_ns: u64) -> Content<'b> {
        let data = udp.payload();
        let payload = usize::from(udp.length()).saturating_sub(UDP_HEADER);
        Content::Udp(UdpDatagram {
            time_ns,
            from: SocketAddr::new(self.source, udp.source_port()),
            to: SocketAddr::new(self.destination, udp.destination_port()),
            payload: payload.max(data.len()) as u32,
            data,
        })
    }
}

/// The IP packet in a frame.
fn ip(link: Linktype, frame: &[u8]) -> Option<&[u8]> {
    match link {
        Linktype::ETHERNET => ethernet(frame),
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

pub(super) fn u16_at(bytes: &[u8], place: usize) -> Option<u16> {
    let bytes = bytes.get(place..)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

/// The IP packet in a frame of Ethernet.
pub(super) fn ethernet(frame: &[u8]) -> Option<&[u8]> {
    behind_type(u16_at(frame, 12)?, frame.get(14..)?)
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
pub(super) fn behind_type(mut kind: u16, mut rest: &[u8]) -> Option<&[u8]> {
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
