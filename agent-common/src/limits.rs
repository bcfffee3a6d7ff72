//! Sizes that bound what the kernel half copies and keeps, each with its arithmetic.

/// Bytes of payload copied from each direction of a flow. A ClientHello with a post-quantum share
/// (1.2 KiB) and a large ticket (2 KiB), twice (HelloRetryRequest), or a client certificate chain
/// fit; longer streams end with `SEGMENT_LAST`.
pub const CAPTURE_BYTES: u32 = 16 * 1024;

/// A socket that received, or had acknowledged, more than this is past any handshake; its packets
/// leave the filter at once.
pub const HANDSHAKE_BYTES: u64 = 64 * 1024;

/// Up to this turn a ClientHello belongs to the handshake that its connection is in: the third holds the
/// second one after a HelloRetryRequest. A handshake that ends in the second, with an alert, needs two
/// more before another can begin.
pub const HELLO_TURNS: u16 = 4;

/// Changes of direction after which the kernel forgets a flow whatever it sends. TLS 1.2 needs 6
/// up to its first response byte, TLS 1.3 with HelloRetryRequest 6.
pub const MAX_TURNS: u16 = 8;

/// Changes of direction after which a flow that is followed to its first response is forgotten. HTTP/2
/// over TLS 1.3 with HelloRetryRequest needs 10: four of the handshake, the server's SETTINGS, the
/// client's preface, their acknowledgment, the request, and the response.
pub const MAX_FOLLOWED_TURNS: u16 = 12;

/// Segments of a server after the handshake in which a response is looked for: session tickets,
/// SETTINGS and their acknowledgment may come before it, each on its own.
pub const MAX_ANSWERS: u8 = 6;

/// Copied from each segment behind the handshake of a flow that is followed: enough for the headers
/// of two session tickets with a client's certificate in them, and of the record after them.
pub const ANSWER_SNAP_BYTES: u32 = 1024;

/// From this turn on, a segment that starts with an encrypted record comes after the server's
/// flight. In the turn itself it may hold the client's Finished (TLS 1.3); in a later one the
/// handshake is over, and the kernel forgets the flow with that segment.
pub const LATE_TURN: u16 = 3;

/// TCP payload of a lone encrypted alert (RFC 8446, 5.2: header 5, alert 2, type 1, tag 16). It is
/// no sign of success, so the flow is followed further.
pub const ENCRYPTED_ALERT_BYTES: u32 = 24;

/// Copied from a segment that starts with an encrypted record late in the handshake: enough for
/// the headers of the client's Finished, two session tickets and the record after them.
pub const LATE_SNAP_BYTES: u32 = 512;

/// Largest piece in one event.
pub const PIECE_BYTES: usize = 4096;

/// Connections whose ClientHello came while their listening socket still stood for them; a handful
/// of packets later they have a socket of their own. The least recently used is forgotten first.
pub const MAX_EMBRYONIC_FLOWS: u32 = 8 * 1024;

/// How long after the last of them one may still wait for its socket, nanoseconds. The socket comes
/// with the packet that brought the ClientHello, or with a repeated ACK.
pub const EMBRYONIC_NS: u64 = 60_000_000_000;

/// Threads inside a handshake call at the same time.
pub const MAX_TASKS: u32 = 16 * 1024;

/// Default size of the ring buffer: 8 MiB hold a quarter of a second at 3,000 handshakes a second
/// of 10 KiB each.
pub const RING_BYTES: u32 = 8 * 1024 * 1024;

/// Segments with data, of both ends, in which a connection may go over to TLS, or do so again once TLS is
/// over. SMTP, IMAP and XMPP need six to ten; one that does not is let go for good.
pub const MAX_UPGRADE_SEGMENTS: u16 = 48;

/// Pairs of addresses and ports between which QUIC handshakes take place; the least recently used is
/// forgotten first.
pub const MAX_QUIC_PATHS: u32 = 16 * 1024;

/// How long after the latest packet of any QUIC handshake short headers are looked at, nanoseconds.
pub const QUIC_NS: u64 = 30_000_000_000;

/// Datagrams with a long header that are handed over for each Initial packet of a client: a handshake
/// takes ten, and more where some are lost or carry early data.
pub const QUIC_LONG_DATAGRAMS: u16 = 32;

/// The same at most, where a client sends many Initial packets.
pub const MAX_QUIC_LONG_DATAGRAMS: u16 = 512;

/// Datagrams of a client with a short header that are handed over after one with a long header: the
/// first of them shows that its handshake is complete.
pub const QUIC_SHORT_DATAGRAMS: u8 = 8;

/// Copied from a datagram with a short header: its first byte and a connection ID.
pub const QUIC_SHORT_SNAP_BYTES: u32 = 32;
