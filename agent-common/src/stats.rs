//! Indices into the per-CPU array `STATS`.

/// ClientHellos recognised at the start of a stream.
pub const HELLOS: u32 = 0;
/// Wire-tap events submitted.
pub const WIRE_EVENTS: u32 = 1;
/// Wire-tap events lost because the ring buffer was full.
pub const WIRE_LOST_RING_FULL: u32 = 2;
/// Wire-tap events lost because packet bytes could not be loaded.
pub const WIRE_LOST_LOAD: u32 = 3;
/// Flows that could not be entered into the flow map.
pub const WIRE_LOST_MAP_FULL: u32 = 4;
/// Library-tap events submitted.
pub const LIBRARY_EVENTS: u32 = 5;
/// Library-tap events lost because the ring buffer was full.
pub const LIBRARY_LOST_RING_FULL: u32 = 6;
/// TCP establishments seen by the socket tap.
pub const SOCKET_EVENTS: u32 = 7;
/// Establishments that could not be kept.
pub const SOCKET_LOST_MAP_FULL: u32 = 8;
/// ClientHellos of DTLS, the first of each handshake.
pub const DTLS_HELLOS: u32 = 9;
/// Number of counters.
pub const COUNT: u32 = 16;
