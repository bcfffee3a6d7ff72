//! Ring-buffer bytes to events, by checked copies; no reference is ever transmuted.

use core::mem::{offset_of, size_of};

use agent_common::event::{
    EGRESS, EventHeader, ExecEvent, KIND_DATAGRAM, KIND_EXEC, KIND_LIBRARY, KIND_PRIMITIVE,
    KIND_SEGMENT, KIND_TICKET, LIBRARY_BEGINS, LIBRARY_EXACT, LIBRARY_PRIMITIVES, LIBRARY_RANDOM,
    LIBRARY_SERVER, LibraryEvent, NO_CPU_TIME, PrimitiveEvent, SegmentEvent, TICKET_KEY_KNOWN,
    TICKET_LOOKUP, TICKET_NANOSECONDS, TICKET_SESSION, TicketEvent,
};
use agent_common::flow::FlowKey;
use agent_common::primitive;

/// Largest payload one event may stand for: a GSO packet holds at most 64 KiB by default and
/// 512 KiB with BIG TCP, so a larger figure is damage.
const MAX_PAYLOAD: u32 = 1 << 20;

/// One event from the kernel half.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    Segment(Segment<'a>),
    /// A datagram of QUIC.
    Datagram(Datagram<'a>),
    /// A call that drives a handshake returned.
    Library(LibraryCall),
    /// A library is done decrypting an offered ticket, or looking up an offered session ID.
    Ticket {
        time_ns: u64,
        pid_tgid: u64,
        decision: TicketDecision,
    },
    /// A cryptographic primitive was done inside a handshake call.
    Primitive(PrimitiveCall),
    /// A process replaced its image.
    Exec {
        pid: u32,
    },
}

/// A call that drives a handshake, see [`LibraryEvent`] for each field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LibraryCall {
    /// Of the return.
    pub time_ns: u64,
    pub entry_ns: u64,
    pub pid_tgid: u64,
    pub ssl: u64,
    pub cpu_ns: Option<u64>,
    pub result: i32,
    pub number: u32,
    /// The call begins its handshake.
    pub begins: bool,
    /// A result of 1 is the end of the handshake for certain, and nothing else is.
    pub is_exact: bool,
    /// It is known where the library has primitives done.
    pub has_primitives: bool,
    /// Of the library's own connection: that tells it from all others.
    pub random: Option<CallRandom>,
}

/// What the library has of its connection's hellos after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRandom {
    pub is_server: bool,
    /// As [`ServerHello::random`](crate::core::tls::server_hello::ServerHello::random), once there is one.
    pub server: u64,
}

/// A cryptographic primitive, see [`PrimitiveEvent`] for each field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrimitiveCall {
    /// Of its end.
    pub time_ns: u64,
    pub entry_ns: u64,
    pub pid_tgid: u64,
    pub ssl: u64,
    pub cpu_ns: Option<u64>,
    /// Below `primitive::COUNT`.
    pub primitive: usize,
}

/// What came of decrypting a ticket, or of looking up a session ID; what the library then did with
/// the session is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketDecision {
    /// The library holds no key of the ticket's name.
    KeyUnknown,
    /// There is such a key, and the ticket is not authentic or holds no session.
    Corrupt,
    /// It is no ticket that was looked at but a session ID, and the server's cache lacks it.
    NotCached,
    Session(TicketSession),
}

/// The session in a ticket or in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketSession {
    /// Wire code point; 0 where not known.
    pub version: u16,
    /// When it was issued, nanoseconds since the Unix epoch.
    pub issued_unix_ns: u64,
    /// How long the server keeps it, nanoseconds.
    pub timeout_ns: u64,
}

/// A piece of payload, see [`SegmentEvent`] for each field.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    pub time_ns: u64,
    pub key: FlowKey,
    pub established_ns: u64,
    pub pid_tgid: u64,
    pub ssl: u64,
    pub sequence: u32,
    pub acknowledgment: u32,
    /// At least `data.len()`; the rest is a hole.
    pub payload: u32,
    pub srtt_us: u32,
    pub direction: u8,
    pub flags: u8,
    pub data: &'a [u8],
}

/// A datagram of QUIC, see [`SegmentEvent`] for each field.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub time_ns: u64,
    pub key: FlowKey,
    pub pid_tgid: u64,
    /// At least `data.len()`; the rest was not copied.
    pub payload: u32,
    pub direction: u8,
    /// `SEGMENT_HELLO` only.
    pub flags: u8,
    pub data: &'a [u8],
}

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("event of {length} bytes is shorter than its fixed part")]
    Short { length: usize },
    #[error("event claims {size} bytes and has {length}")]
    Size { size: u32, length: usize },
    #[error("unknown event kind {0}")]
    Kind(u32),
    #[error("captured, payload, direction or primitive out of range")]
    Range,
}

/// Reads one ring-buffer record.
pub fn decode(bytes: &[u8]) -> Result<Event<'_>, DecodeError> {
    let short = DecodeError::Short {
        length: bytes.len(),
    };
    let header = bytes
        .first_chunk::<{ size_of::<EventHeader>() }>()
        .ok_or(short)?;
    let size = u32_at(header, offset_of!(EventHeader, size));
    let time_ns = u64_at(header, offset_of!(EventHeader, time_ns));
    let event = bytes.get(..size as usize).ok_or(DecodeError::Size {
        size,
        length: bytes.len(),
    })?;
    match u32_at(header, offset_of!(EventHeader, kind)) {
        KIND_SEGMENT => segment(event, time_ns).map(Event::Segment),
        KIND_DATAGRAM => segment(event, time_ns).map(|segment| {
            Event::Datagram(Datagram {
                time_ns,
                key: segment.key,
                pid_tgid: segment.pid_tgid,
                payload: segment.payload,
                direction: segment.direction,
                flags: segment.flags,
                data: segment.data,
            })
        }),
        KIND_LIBRARY => {
            let fixed = event
                .first_chunk::<{ size_of::<LibraryEvent>() }>()
                .ok_or(short)?;
            let cpu_ns = u64_at(fixed, offset_of!(LibraryEvent, cpu_ns));
            let flags = u32_at(fixed, offset_of!(LibraryEvent, flags));
            Ok(Event::Library(LibraryCall {
                time_ns,
                entry_ns: u64_at(fixed, offset_of!(LibraryEvent, entry_ns)),
                pid_tgid: u64_at(fixed, offset_of!(LibraryEvent, pid_tgid)),
                ssl: u64_at(fixed, offset_of!(LibraryEvent, ssl)),
                cpu_ns: (cpu_ns != NO_CPU_TIME).then_some(cpu_ns),
                result: u32_at(fixed, offset_of!(LibraryEvent, result)).cast_signed(),
                number: u32_at(fixed, offset_of!(LibraryEvent, number)),
                begins: flags & LIBRARY_BEGINS != 0,
                is_exact: flags & LIBRARY_EXACT != 0,
                has_primitives: flags & LIBRARY_PRIMITIVES != 0,
                random: (flags & LIBRARY_RANDOM != 0).then(|| CallRandom {
                    is_server: flags & LIBRARY_SERVER != 0,
                    server: u64_at(fixed, offset_of!(LibraryEvent, random)),
                }),
            }))
        }
        KIND_TICKET => {
            let fixed = event
                .first_chunk::<{ size_of::<TicketEvent>() }>()
                .ok_or(short)?;
            Ok(Event::Ticket {
                time_ns,
                pid_tgid: u64_at(fixed, offset_of!(TicketEvent, pid_tgid)),
                decision: ticket_decision(fixed),
            })
        }
        KIND_PRIMITIVE => {
            let fixed = event
                .first_chunk::<{ size_of::<PrimitiveEvent>() }>()
                .ok_or(short)?;
            let cpu_ns = u64_at(fixed, offset_of!(PrimitiveEvent, cpu_ns));
            let primitive = u32_at(fixed, offset_of!(PrimitiveEvent, primitive)) as usize;
            if primitive >= primitive::COUNT {
                return Err(DecodeError::Range);
            }
            Ok(Event::Primitive(PrimitiveCall {
                time_ns,
                entry_ns: u64_at(fixed, offset_of!(PrimitiveEvent, entry_ns)),
                pid_tgid: u64_at(fixed, offset_of!(PrimitiveEvent, pid_tgid)),
                ssl: u64_at(fixed, offset_of!(PrimitiveEvent, ssl)),
                cpu_ns: (cpu_ns != NO_CPU_TIME).then_some(cpu_ns),
                primitive,
            }))
        }
        KIND_EXEC => {
            let fixed = event
                .first_chunk::<{ size_of::<ExecEvent>() }>()
                .ok_or(short)?;
            Ok(Event::Exec {
                pid: u32_at(fixed, offset_of!(ExecEvent, pid)),
            })
        }
        kind => Err(DecodeError::Kind(kind)),
    }
}

fn ticket_decision(fixed: &[u8; size_of::<TicketEvent>()]) -> TicketDecision {
    let flags = u32_at(fixed, offset_of!(TicketEvent, flags));
    let unit = if flags & TICKET_NANOSECONDS != 0 {
        1
    } else {
        1_000_000_000
    };
    if flags & (TICKET_LOOKUP | TICKET_SESSION) == TICKET_LOOKUP {
        TicketDecision::NotCached
    } else if flags & TICKET_SESSION != 0 {
        TicketDecision::Session(TicketSession {
            version: u16::try_from(u32_at(fixed, offset_of!(TicketEvent, version))).unwrap_or(0),
            issued_unix_ns: u64_at(fixed, offset_of!(TicketEvent, time)).saturating_mul(unit),
            timeout_ns: u64_at(fixed, offset_of!(TicketEvent, timeout)).saturating_mul(unit),
        })
    } else if flags & TICKET_KEY_KNOWN != 0 {
        TicketDecision::Corrupt
    } else {
        TicketDecision::KeyUnknown
    }
}

fn segment(event: &[u8], time_ns: u64) -> Result<Segment<'_>, DecodeError> {
    let (fixed, rest) = event
        .split_first_chunk::<{ size_of::<SegmentEvent>() }>()
        .ok_or(DecodeError::Short {
            length: event.len(),
        })?;
    let captured = u32_at(fixed, offset_of!(SegmentEvent, captured));
    let payload = u32_at(fixed, offset_of!(SegmentEvent, payload));
    let direction = fixed[offset_of!(SegmentEvent, direction)];
    let data = rest.get(..captured as usize).ok_or(DecodeError::Range)?;
    if captured > payload || payload > MAX_PAYLOAD || direction > EGRESS {
        return Err(DecodeError::Range);
    }
    const KEY: usize = offset_of!(SegmentEvent, key);
    Ok(Segment {
        time_ns,
        key: FlowKey {
            netns: u64_at(fixed, KEY + offset_of!(FlowKey, netns)),
            local_address: array_at(fixed, KEY + offset_of!(FlowKey, local_address)),
            remote_address: array_at(fixed, KEY + offset_of!(FlowKey, remote_address)),
            local_port: u16_at(fixed, KEY + offset_of!(FlowKey, local_port)),
            remote_port: u16_at(fixed, KEY + offset_of!(FlowKey, remote_port)),
            padding: 0,
        },
        established_ns: u64_at(fixed, offset_of!(SegmentEvent, established_ns)),
        pid_tgid: u64_at(fixed, offset_of!(SegmentEvent, pid_tgid)),
        ssl: u64_at(fixed, offset_of!(SegmentEvent, ssl)),
        sequence: u32_at(fixed, offset_of!(SegmentEvent, sequence)),
        acknowledgment: u32_at(fixed, offset_of!(SegmentEvent, acknowledgment)),
        payload,
        srtt_us: u32_at(fixed, offset_of!(SegmentEvent, srtt_us)),
        direction,
        flags: fixed[offset_of!(SegmentEvent, flags)],
        data,
    })
}

/// The `N` bytes of a field. Every caller passes `offset_of!` of a field of the struct whose size
/// `bytes` has, so the range is inside.
fn array_at<const N: usize, const S: usize>(bytes: &[u8; S], at: usize) -> [u8; N] {
    *bytes[at..]
        .first_chunk()
        .expect("a field lies inside its struct")
}

fn u16_at<const S: usize>(bytes: &[u8; S], at: usize) -> u16 {
    u16::from_ne_bytes(array_at(bytes, at))
}

fn u32_at<const S: usize>(bytes: &[u8; S], at: usize) -> u32 {
    u32::from_ne_bytes(array_at(bytes, at))
}

fn u64_at<const S: usize>(bytes: &[u8; S], at: usize) -> u64 {
    u64::from_ne_bytes(array_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment_bytes(payload: u32, captured: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0u8; size_of::<SegmentEvent>()];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &KIND_SEGMENT.to_ne_bytes());
        put(4, &(112 + data.len() as u32).to_ne_bytes());
        put(8, &77u64.to_ne_bytes());
        put(offset_of!(SegmentEvent, payload), &payload.to_ne_bytes());
        put(offset_of!(SegmentEvent, captured), &captured.to_ne_bytes());
        put(offset_of!(SegmentEvent, direction), &[EGRESS]);
        put(
            offset_of!(SegmentEvent, key) + offset_of!(FlowKey, local_port),
            &443u16.to_ne_bytes(),
        );
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn reads_a_segment_with_a_hole_and_ring_padding() {
        let mut bytes = segment_bytes(9, 3, b"abc");
        bytes.extend_from_slice(&[0xff; 5]);
        let Ok(Event::Segment(segment)) = decode(&bytes) else {
            panic!("no segment");
        };
        assert_eq!(segment.data, b"abc");
        assert_eq!(
            (segment.payload, segment.time_ns, segment.direction),
            (9, 77, EGRESS)
        );
        assert_eq!(segment.key.local_port, 443);
    }

    #[test]
    fn rejects_every_prefix_of_a_segment() {
        let bytes = segment_bytes(3, 3, b"abc");
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "prefix of {length}");
        }
    }

    #[test]
    fn rejects_more_captured_than_payload_or_than_present() {
        assert_eq!(
            decode(&segment_bytes(2, 3, b"abc")).err(),
            Some(DecodeError::Range)
        );
        assert_eq!(
            decode(&segment_bytes(9, 9, b"abc")).err(),
            Some(DecodeError::Range)
        );
    }

    #[test]
    fn rejects_an_unknown_kind() {
        let mut bytes = segment_bytes(0, 0, b"");
        bytes[..4].copy_from_slice(&99u32.to_ne_bytes());
        assert_eq!(decode(&bytes).err(), Some(DecodeError::Kind(99)));
    }
}
