//! Indices into the per-CPU array `HITS`: how often each probe ran, by what the run had to do.
//!
//! What watching costs is these counts times the cost of a run. The wire tap has a slot for each
//! way through it, since a packet that it leaves alone costs a tenth of one that it copies.

/// Wire tap: left after a look at the socket, before one at the packet.
pub const WIRE_PASSED: u32 = 0;
/// Wire tap: the packet's headers were read, and nothing was copied.
pub const WIRE_HEADERS: u32 = 1;
/// Wire tap: bytes were handed over.
pub const WIRE_COPIED: u32 = 2;
/// Socket tap: another callback than that of an establishment.
pub const SOCKET_PASSED: u32 = 3;
/// Socket tap: an establishment.
pub const SOCKET_ESTABLISHED: u32 = 4;
/// Entries of the handshake function.
pub const HANDSHAKE_ENTER: u32 = 5;
/// Returns of the handshake function.
pub const HANDSHAKE_RETURN: u32 = 6;
/// Decisions on tickets.
pub const TICKET: u32 = 7;
/// Lookups in the session cache, at their return.
pub const LOOKUP: u32 = 8;
/// Started programs.
pub const EXEC: u32 = 9;
/// Entries of the handshake's state machine.
pub const MACHINE_BEGIN: u32 = 10;
/// Ends of the handshake's state machine.
pub const MACHINE_END: u32 = 11;
/// Beginnings of cryptographic primitives.
pub const PRIMITIVE_BEGIN: u32 = 12;
/// Ends of cryptographic primitives.
pub const PRIMITIVE_END: u32 = 13;
/// Number of slots.
pub const COUNT: u32 = 16;
