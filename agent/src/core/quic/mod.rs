//! QUIC on the wire (RFC 8999, 9000, 9001, 9369): packets in a datagram, Initial packets opened, and
//! the frames in them. Nothing here remembers anything; `tracker/quic` follows connections.

pub mod frames;
pub mod initial;
pub mod packet;
