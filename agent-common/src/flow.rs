//! The identity of one end of one TCP connection.

/// One end of a connection, as the observed socket sees it.
///
/// On loopback both ends live on this host: the same packet then belongs to two keys, which
/// mirror each other, because both roles are true. IPv4 addresses are IPv4-mapped (RFC 4291,
/// 2.5.5.2), so that an IPv4 packet of a dual-stack IPv6 socket has one key only.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FlowKey {
    /// Cookie of the network namespace; 0 where the kernel cannot tell it (before 6.15).
    pub netns: u64,
    /// Address of the observed socket, network byte order.
    pub local_address: [u8; 16],
    /// Address of its peer, network byte order.
    pub remote_address: [u8; 16],
    /// Port of the observed socket, host byte order.
    pub local_port: u16,
    /// Port of its peer, host byte order.
    pub remote_port: u16,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<FlowKey>() == 48);

/// [`FlowState::phase`]: established, no data yet.
pub const PHASE_OPEN: u8 = 0;
/// [`FlowState::phase`]: between its ClientHello and the end of its handshake.
pub const PHASE_HANDSHAKE: u8 = 1;
/// [`FlowState::phase`]: no TLS, or past its handshake; nothing of it is looked at any more.
pub const PHASE_OVER: u8 = 2;
/// [`FlowState::phase`]: it began like a protocol that may go over to TLS; a ClientHello may come.
pub const PHASE_UPGRADE: u8 = 3;

/// What the kernel keeps of a connection, in its socket.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FlowState {
    /// CLOCK_MONOTONIC time at which TCP was established, nanoseconds; 0 where not known.
    pub established_ns: u64,
    /// Sequence number of the first payload byte, by direction (`event::INGRESS`, `event::EGRESS`).
    pub start: [u32; 2],
    /// How often the direction of data has changed so far; the first ClientHello is turn 1. Before an
    /// upgrade to TLS: segments with data so far.
    pub turn: u16,
    /// Direction of the last segment with data.
    pub last_direction: u8,
    /// Bit `1 << direction` for each direction that sent its FIN.
    pub finished: u8,
    /// `PHASE_…`.
    pub phase: u8,
    /// 1 when it is followed beyond the handshake, see `event::SEGMENT_FOLLOWED`.
    pub followed: u8,
    /// Segments of the server seen since that may hold its first response.
    pub answers: u8,
    /// 1 when TLS began after something else was said: it may end, and begin again.
    pub upgraded: u8,
}

const _: () = assert!(size_of::<FlowState>() == 24);

impl FlowState {
    /// Of a connection of which nothing is known but its phase.
    #[inline(always)]
    pub const fn new(phase: u8) -> Self {
        Self {
            established_ns: 0,
            start: [0; 2],
            turn: 0,
            last_direction: 0,
            finished: 0,
            phase,
            followed: 0,
            answers: 0,
            upgraded: 0,
        }
    }
}

/// What the kernel keeps of addresses and ports between which a QUIC handshake takes place.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct QuicPath {
    /// Datagrams with a long header that may still be handed over.
    pub long_left: u16,
    /// The same of those with a short header since the latest long one.
    pub short_left: u8,
    /// Direction of the client's datagrams (`event::INGRESS`, `event::EGRESS`).
    pub client_direction: u8,
}

const _: () = assert!(size_of::<QuicPath>() == 4);
