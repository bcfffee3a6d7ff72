//! Events in the ring buffer. Every event starts with an [`EventHeader`]; data follows the fixed
//! part of a [`SegmentEvent`].

use crate::flow::FlowKey;

/// [`EventHeader::kind`]: a piece of TCP payload, see [`SegmentEvent`].
pub const KIND_SEGMENT: u32 = 1;
/// [`EventHeader::kind`]: a call of a TLS library's handshake returned, see [`LibraryEvent`].
pub const KIND_LIBRARY: u32 = 2;
/// [`EventHeader::kind`]: a process replaced its image, see [`ExecEvent`].
pub const KIND_EXEC: u32 = 3;

/// [`EventHeader::kind`]: a TLS library decided on an offered ticket, see [`TicketEvent`].
pub const KIND_TICKET: u32 = 4;

/// [`EventHeader::kind`]: a cryptographic primitive inside a handshake, see [`PrimitiveEvent`].
pub const KIND_PRIMITIVE: u32 = 5;

/// [`EventHeader::kind`]: a datagram of QUIC, as a [`SegmentEvent`] without sequence numbers.
pub const KIND_DATAGRAM: u32 = 6;

/// [`SegmentEvent::direction`]: received by the observed socket.
pub const INGRESS: u8 = 0;
/// [`SegmentEvent::direction`]: sent by the observed socket.
pub const EGRESS: u8 = 1;

/// [`SegmentEvent::flags`]: first bytes of a stream, and they look like TLS or a PROXY header.
/// `sequence` is the start of this direction, `acknowledgment` the start of the other. On a datagram:
/// the first that is known of these addresses and ports.
pub const SEGMENT_HELLO: u8 = 1 << 0;
/// [`SegmentEvent::flags`]: arrived out of order before any byte of the stream's start; the flow
/// is not known to be TLS yet. Hold it, bounded, until a `SEGMENT_HELLO` comes or time passes.
pub const SEGMENT_EARLY: u8 = 1 << 1;
/// [`SegmentEvent::flags`]: TCP FIN.
pub const SEGMENT_FIN: u8 = 1 << 2;
/// [`SegmentEvent::flags`]: TCP RST.
pub const SEGMENT_RST: u8 = 1 << 3;
/// [`SegmentEvent::flags`]: the kernel forgets this flow now (capture limit or turn limit
/// reached); no further segment of it will come.
pub const SEGMENT_LAST: u8 = 1 << 4;
/// [`SegmentEvent::flags`]: the sending thread is not in a handshake call; `ssl` is that of its last
/// one, which may have written to memory what is sent now.
pub const SEGMENT_AFTER_CALL: u8 = 1 << 6;
/// [`SegmentEvent::flags`]: the kernel follows this flow beyond its handshake, until the server has
/// answered for the first time. Only on `SEGMENT_HELLO`.
pub const SEGMENT_FOLLOWED: u8 = 1 << 5;

/// The start of every event.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct EventHeader {
    /// One of `KIND_…`.
    pub kind: u32,
    /// Bytes of this event that carry meaning, header included. The ring-buffer record may be longer.
    pub size: u32,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
}

/// A piece of one TCP segment of a flow that is in its handshake; `captured` bytes follow.
///
/// A segment longer than one event's room comes as several events with rising `sequence`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SegmentEvent {
    pub header: EventHeader,
    pub key: FlowKey,
    /// CLOCK_MONOTONIC time at which TCP was established, nanoseconds; 0 where not known. Only on
    /// `SEGMENT_HELLO`.
    pub established_ns: u64,
    /// `bpf_get_current_pid_tgid()` of the sending thread; 0 on ingress or where not known.
    pub pid_tgid: u64,
    /// `SSL*` that the sending thread is handshaking with; 0 on ingress or where not known.
    pub ssl: u64,
    /// TCP sequence number of the first captured byte.
    pub sequence: u32,
    /// TCP acknowledgment number of the segment.
    pub acknowledgment: u32,
    /// Payload bytes this event stands for; those beyond `captured` were not copied and must be
    /// treated as a hole of known length.
    pub payload: u32,
    /// Bytes that follow.
    pub captured: u32,
    /// Smoothed round-trip time of the observed socket, microseconds; 0 where not known.
    pub srtt_us: u32,
    /// `INGRESS` or `EGRESS`.
    pub direction: u8,
    /// `SEGMENT_…` bits.
    pub flags: u8,
    /// Zero.
    pub padding: u16,
}

const _: () = assert!(size_of::<EventHeader>() == 16);
const _: () = assert!(size_of::<SegmentEvent>() == 112);

/// [`LibraryEvent::cpu_ns`]: not known.
pub const NO_CPU_TIME: u64 = u64::MAX;

/// A call that drives the handshake returned in a watched process. The header's time is that of the
/// return.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LibraryEvent {
    pub header: EventHeader,
    pub pid_tgid: u64,
    /// The `SSL*`, an opaque name of the connection inside the process; reused over time.
    pub ssl: u64,
    /// CLOCK_MONOTONIC time of the call's entry, nanoseconds.
    pub entry_ns: u64,
    /// Time that the thread was on a CPU within the call, nanoseconds; or `NO_CPU_TIME`.
    pub cpu_ns: u64,
    /// What the call returned: 1 when the handshake is done, or pauses for early data.
    pub result: i32,
    /// Counts the thread's calls, from 1 on; one that is missing was lost.
    pub number: u32,
    /// `LIBRARY_…` bits.
    pub flags: u32,
    /// Zero.
    pub padding: u32,
    /// The first eight bytes of the random of the server's hello, as they are in memory; of no meaning
    /// before there is one.
    pub random: u64,
}

const _: () = assert!(size_of::<LibraryEvent>() == 72);

/// [`LibraryEvent::flags`]: the call begins its handshake.
pub const LIBRARY_BEGINS: u32 = 1 << 0;
/// [`LibraryEvent::flags`]: the library's own state says whether the handshake is done: a result of 1
/// is no pause, and nothing else is its end.
pub const LIBRARY_EXACT: u32 = 1 << 1;
/// [`LibraryEvent::flags`]: it is known where the library has its primitives done, so that what was not
/// timed in a window was not done.
pub const LIBRARY_PRIMITIVES: u32 = 1 << 2;
/// [`LibraryEvent::flags`]: `random` is that of the `SSL`, which is a server's if [`LIBRARY_SERVER`] is set.
pub const LIBRARY_RANDOM: u32 = 1 << 3;
/// [`LibraryEvent::flags`]: of the end that accepts.
pub const LIBRARY_SERVER: u32 = 1 << 4;

/// A cryptographic primitive was done inside a handshake call. The header's time is that of its end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PrimitiveEvent {
    pub header: EventHeader,
    pub pid_tgid: u64,
    /// The `SSL*` of the handshake.
    pub ssl: u64,
    /// CLOCK_MONOTONIC time of its begin, nanoseconds.
    pub entry_ns: u64,
    /// Time that the thread was on a CPU, nanoseconds; or `NO_CPU_TIME`.
    pub cpu_ns: u64,
    /// One of `primitive::…`.
    pub primitive: u32,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<PrimitiveEvent>() == 56);

/// `sched_process_exec` fired.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ExecEvent {
    pub header: EventHeader,
    pub pid: u32,
    /// Zero.
    pub padding: u32,
}

const _: () = assert!(size_of::<ExecEvent>() == 24);

/// [`TicketEvent::flags`]: the library holds the key that the ticket names.
pub const TICKET_KEY_KNOWN: u32 = 1 << 0;
/// [`TicketEvent::flags`]: the ticket was authentic and held a session; `version`, `time` and
/// `timeout` are the session's.
pub const TICKET_SESSION: u32 = 1 << 1;
/// [`TicketEvent::flags`]: `time` and `timeout` count nanoseconds (OpenSSL 3.2 and later), not
/// seconds.
pub const TICKET_NANOSECONDS: u32 = 1 << 2;

/// [`TicketEvent::flags`]: no ticket was decrypted: the session was looked up in the server's cache,
/// by its ID. Without `TICKET_SESSION` it is not there.
pub const TICKET_LOOKUP: u32 = 1 << 3;

/// A TLS library in server role is done decrypting a ticket that a client offered, or looking its
/// session ID up; what it does with the session comes later. After a HelloRetryRequest, or with several identities, more than
/// one such event belongs to a handshake, and the last counts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TicketEvent {
    pub header: EventHeader,
    pub pid_tgid: u64,
    /// When the session was issued, since the Unix epoch; see `TICKET_NANOSECONDS`. 0 where not
    /// known.
    pub time: u64,
    /// How long the server keeps the session; see `TICKET_NANOSECONDS`. 0 where not known.
    pub timeout: u64,
    /// Protocol version of the session, a wire code point; 0 where not known.
    pub version: u32,
    /// `TICKET_…` bits.
    pub flags: u32,
}

const _: () = assert!(size_of::<TicketEvent>() == 48);
