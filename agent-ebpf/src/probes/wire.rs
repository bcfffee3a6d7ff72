//! Wire tap: `cgroup_skb` ingress and egress (4.10; `bpf_tcp_sock` 5.1).
//!
//! Order matters: what most packets of a busy host need comes first, so that they leave after a
//! look at the state in their socket, without one at the packet.

use core::{mem::MaybeUninit, ptr};

use agent_common::{
    event::{
        EGRESS, EventHeader, INGRESS, KIND_SEGMENT, SEGMENT_AFTER_CALL, SEGMENT_EARLY, SEGMENT_FIN,
        SEGMENT_FOLLOWED, SEGMENT_HELLO, SEGMENT_LAST, SEGMENT_RST, SegmentEvent,
    },
    flow::{FlowState, PHASE_HANDSHAKE, PHASE_OPEN, PHASE_OVER, PHASE_UPGRADE},
    hits, limits, stats, upgrade,
};
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated::bpf_get_netns_cookie},
    macros::cgroup_skb,
    programs::SkBuffContext,
};

use crate::{
    emit, filter,
    maps::{
        CURRENT_PID, EMBRYONIC, FOLLOWED_SHARE, LIBRARY_TAP, NETNS_COOKIE, TASKS, count, has_calls,
        hit, may_have_embryonic, note_embryonic, open_socket, socket_state,
    },
    packet::{self, IPPROTO_TCP, IPPROTO_UDP, Segment},
    probes::{
        place::{Candidate, Position, Socket, candidate, established_ns, full_socket},
        quic,
    },
};

/// `FlowState::finished` when either end sent its FIN.
const BOTH_FINISHED: u8 = 3;

/// The verdict of every packet: let it pass.
const PASS: i32 = 1;

/// Received packets.
#[cgroup_skb(ingress)]
pub fn wire_ingress(context: SkBuffContext) -> i32 {
    hit(observe(context.skb.skb, INGRESS));
    PASS
}

/// Sent packets; runs in the sending thread unless TCP sends from its timers or on an ACK.
#[cgroup_skb(egress)]
pub fn wire_egress(context: SkBuffContext) -> i32 {
    hit(observe(context.skb.skb, EGRESS));
    PASS
}

/// Looks at a packet; says how far it had to go, as `hits::WIRE_…`.
#[inline(always)]
fn observe(skb: *mut __sk_buff, direction: u8) -> u32 {
    // SAFETY: `skb` is the program's context.
    let is_short = unsafe { (*skb).len } <= packet::BARE_BYTES;
    // A packet that is nothing but headers, as a third of those of a short TCP connection are: an
    // acknowledgment. Only packets that are short enough are looked at, which costs less than finding
    // their socket's state; a longer one of that kind is found out later.
    if is_short {
        let Some(transport) = packet::transport(skb) else {
            return hits::WIRE_HEADERS;
        };
        if transport.protocol == IPPROTO_UDP {
            return quic::observe(skb, &transport, direction);
        }
        if transport.protocol != IPPROTO_TCP
            || packet::tcp(skb, &transport)
                .is_none_or(|segment| segment.payload == 0 && segment.ending() == 0)
        {
            return hits::WIRE_HEADERS;
        }
    }
    let (state, socket) = match candidate(skb) {
        Candidate::Tcp(state, socket) => (state, socket),
        Candidate::Passed => return hits::WIRE_PASSED,
        Candidate::Other => {
            return match packet::transport(skb) {
                Some(transport) if transport.protocol == IPPROTO_UDP => {
                    quic::observe(skb, &transport, direction)
                }
                _ => hits::WIRE_HEADERS,
            };
        }
    };
    let copied = packet::segment(skb).and_then(|segment| {
        if segment.payload == 0 && segment.ending() == 0 {
            return None;
        }
        handshake(skb, &socket, state, &segment, direction)
    });
    match copied {
        Some(()) => hits::WIRE_COPIED,
        None => hits::WIRE_HEADERS,
    }
}

/// A segment that may belong to a handshake; `None` where nothing of it was handed over.
///
/// Not inlined: event and caller do not fit into one frame of the 512 bytes of stack.
#[inline(never)]
fn handshake(
    skb: *mut __sk_buff,
    socket: &Socket,
    state: *mut FlowState,
    segment: &Segment,
    direction: u8,
) -> Option<()> {
    let position = socket.position(segment, direction);
    if state.is_null() && position == Position::Later && !socket.may_be_embryonic() {
        return None;
    }
    // Built in place, once.
    let mut storage = MaybeUninit::uninit();
    let event = zeroed(&mut storage);
    event.header.kind = KIND_SEGMENT;
    event.sequence = segment.sequence;
    event.acknowledgment = segment.acknowledgment;
    event.srtt_us = socket.srtt_us;
    event.direction = direction;
    event.flags = segment.ending();
    if NETNS_COOKIE.load() == 1 {
        // SAFETY: `skb` is the program's context.
        event.key.netns = unsafe { bpf_get_netns_cookie(skb.cast()) };
    }
    packet::fill_key(skb, segment, direction, &mut event.key)?;
    let mut state = state;
    if state.is_null() && may_have_embryonic() {
        state = adopt(skb, socket, event);
    }
    // SAFETY: the state stays valid while the program runs; two CPUs may race on one flow, which
    // can only misjudge the turn by one.
    let flow = unsafe { state.as_mut() };
    if flow.is_none() && (position == Position::Later || segment.payload == 0) {
        return None;
    }
    let prefix = packet::prefix(skb, segment)?;
    let is_first = matches!(position, Position::Start | Position::PerhapsStart);
    let starts = match &flow {
        Some(flow) if flow.phase == PHASE_UPGRADE || begins_again(flow, direction) => {
            segment.payload as usize >= prefix.len() && upgrade::is_client_hello(&prefix)
        }
        _ => is_first && segment.payload != 0 && filter::may_start_tls(&prefix, segment.payload),
    };
    // SAFETY: the helper has no preconditions.
    event.header.time_ns = unsafe { bpf_ktime_get_ns() };

    let (mut offset, mut room) = (0, limits::CAPTURE_BYTES);
    match flow {
        // A start that differs is a new connection on the addresses and ports of a forgotten one.
        Some(flow)
            if flow.phase == PHASE_HANDSHAKE
                && !(starts && start(flow, direction) != segment.sequence) =>
        {
            let late = filter::is_application_data(&prefix);
            (offset, room) = follow(segment, flow, event, late)?;
        }
        flow if starts => begin(skb, socket, segment, flow, event)?,
        flow => {
            let early = matches!(position, Position::BeforeStart | Position::PerhapsStart);
            if early && segment.payload != 0 {
                event.flags |= SEGMENT_EARLY;
                copy(skb, segment, event, 0, limits::CAPTURE_BYTES);
                return Some(());
            }
            return not_yet(
                skb,
                segment,
                flow,
                is_first && upgrade::may_upgrade(&prefix),
            );
        }
    }
    if direction == EGRESS {
        sender(event);
    }
    copy(skb, segment, event, offset, room);
    Some(())
}

/// Whether a ClientHello in the next segment would be that of another handshake than the one the connection
/// is in. Only where TLS began after something else can it end and begin once more.
#[inline(always)]
fn begins_again(flow: &FlowState, direction: u8) -> bool {
    flow.upgraded == 1 && flow.turn >= limits::HELLO_TURNS && flow.last_direction != direction
}

/// Data that is no ClientHello, or the end of a connection without any: nothing is handed over, and the
/// connection let go, unless it `begins` like one that may go over to TLS, or did.
#[inline(always)]
fn not_yet(
    skb: *mut __sk_buff,
    segment: &Segment,
    flow: Option<&mut FlowState>,
    begins: bool,
) -> Option<()> {
    let Some(flow) = flow else {
        if begins {
            let sk = full_socket(skb)?;
            let mut state = FlowState::new(PHASE_UPGRADE);
            // SAFETY: `full_socket` gives what the functions ask for.
            unsafe {
                state.established_ns = established_ns(sk);
                // Where there is no room it is not followed; no handshake is known of yet.
                let _ = open_socket(sk, &mut state);
            }
        }
        return None;
    };
    flow.turn += 1;
    let is_over = segment.ending() != 0 || flow.turn > limits::MAX_UPGRADE_SEGMENTS;
    flow.phase = match flow.phase {
        PHASE_UPGRADE if !is_over => PHASE_UPGRADE,
        PHASE_OPEN if begins && !is_over => PHASE_UPGRADE,
        _ => PHASE_OVER,
    };
    None
}

/// The state of a connection whose first data came before its socket, moved there if it is there now;
/// null where none is known.
#[inline(always)]
fn adopt(skb: *mut __sk_buff, socket: &Socket, event: &SegmentEvent) -> *mut FlowState {
    let Some(noted) = EMBRYONIC.get_ptr_mut(&event.key) else {
        return ptr::null_mut();
    };
    // SAFETY: the element stays valid while the program runs.
    let mut state = unsafe { *noted };
    if state.phase != PHASE_HANDSHAKE {
        return ptr::null_mut();
    }
    if socket.listening {
        return noted;
    }
    let Some(sk) = full_socket(skb) else {
        return noted;
    };
    // SAFETY: `full_socket` gives what the functions ask for.
    unsafe {
        if !open_socket(sk, &mut state) {
            return noted;
        }
        let _ = EMBRYONIC.remove(&event.key);
        socket_state(sk)
    }
}

/// An event of zeros, written word by word: left to itself the compiler calls a `memset` that walks
/// over single bytes.
#[inline(always)]
pub fn zeroed(storage: &mut MaybeUninit<SegmentEvent>) -> &mut SegmentEvent {
    const WORDS: usize = size_of::<SegmentEvent>() / size_of::<u64>();
    let words = storage.as_mut_ptr().cast::<u64>();
    for index in 0..WORDS {
        // SAFETY: the event is aligned to u64 and WORDS words long.
        unsafe { ptr::write_volatile(words.add(index), 0) };
    }
    // SAFETY: every byte is written, and zero is valid for every field.
    unsafe { storage.assume_init_mut() }
}

/// Notes which thread, and which `SSL*` in it, sends.
#[inline(always)]
pub fn sender(event: &mut SegmentEvent) {
    if CURRENT_PID.load() == 1 {
        let task = bpf_get_current_pid_tgid();
        event.pid_tgid = task;
        if LIBRARY_TAP.load() == 1 && has_calls() {
            // SAFETY: a copy of one word; the slot belongs to the current thread.
            if let Some(call) = unsafe { TASKS.get(&task) } {
                event.ssl = call.ssl;
                if call.is_inside == 0 {
                    event.flags |= SEGMENT_AFTER_CALL;
                }
            }
        }
    }
}

/// The first bytes of a stream that may be TLS: from now on the flow is followed.
#[inline(always)]
fn begin(
    skb: *mut __sk_buff,
    socket: &Socket,
    segment: &Segment,
    flow: Option<&mut FlowState>,
    event: &mut SegmentEvent,
) -> Option<()> {
    count(stats::HELLOS);
    event.flags |= SEGMENT_HELLO;
    let followed = is_followed(event.header.time_ns as u32 ^ segment.sequence);
    if followed {
        event.flags |= SEGMENT_FOLLOWED;
    }
    let mut state = FlowState {
        established_ns: 0,
        start: if event.direction == INGRESS {
            [segment.sequence, segment.acknowledgment]
        } else {
            [segment.acknowledgment, segment.sequence]
        },
        turn: 1,
        last_direction: event.direction,
        finished: 0,
        phase: PHASE_HANDSHAKE,
        followed: u8::from(followed),
        answers: 0,
        upgraded: 0,
    };
    let kept = match flow {
        Some(flow) => {
            let upgraded = flow.upgraded == 1 || flow.phase == PHASE_UPGRADE;
            if upgraded || flow.phase == PHASE_OPEN {
                event.established_ns = flow.established_ns;
                state.established_ns = flow.established_ns;
            }
            state.upgraded = u8::from(upgraded);
            *flow = state;
            true
        }
        None if socket.listening => note_embryonic(&event.key, &state, event.header.time_ns),
        None => {
            let sk = full_socket(skb)?;
            // SAFETY: `full_socket` gives what the functions ask for.
            unsafe {
                state.established_ns = established_ns(sk);
                event.established_ns = state.established_ns;
                open_socket(sk, &mut state)
            }
        }
    };
    if !kept {
        count(stats::WIRE_LOST_MAP_FULL);
        return None;
    }
    Some(())
}

/// Whether a connection that begins now is one of those that are followed to their first response.
/// `seed` is as good as random: nanoseconds of its first byte, and its sequence number. The kernel's
/// random numbers cost a cache miss.
#[inline(always)]
fn is_followed(seed: u32) -> bool {
    // The golden ratio (Knuth, TAOCP 6.4): spreads what differs in the low bits over all.
    const SPREAD: u32 = 0x9e37_79b1;
    let share = FOLLOWED_SHARE.load();
    share == u32::MAX || seed.wrapping_mul(SPREAD) < share
}

/// Another segment of a flow in its handshake: its place in the stream, and how many bytes of it
/// to copy at most. `late` says that it starts with an encrypted record.
#[inline(always)]
fn follow(
    segment: &Segment,
    flow: &mut FlowState,
    event: &mut SegmentEvent,
    late: bool,
) -> Option<(u32, u32)> {
    let direction = event.direction & 1;
    let offset = segment.sequence.wrapping_sub(start(flow, direction));
    if (offset as i32) < 0 {
        // From before the start, as a keep-alive probe is.
        return None;
    }
    let mut room = limits::CAPTURE_BYTES;
    if segment.payload != 0 {
        if flow.last_direction != direction {
            flow.last_direction = direction;
            flow.turn += 1;
        }
        let mut turns = limits::MAX_TURNS;
        if flow.followed == 1 {
            turns = limits::MAX_FOLLOWED_TURNS;
            if late && flow.turn >= limits::LATE_TURN {
                room = limits::ANSWER_SNAP_BYTES;
                // The server speaks in even turns.
                flow.answers += (flow.turn as u8 + 1) & 1;
                if flow.answers >= limits::MAX_ANSWERS {
                    event.flags |= SEGMENT_LAST;
                }
            }
        } else if late && flow.turn >= limits::LATE_TURN {
            room = limits::LATE_SNAP_BYTES;
            if flow.turn > limits::LATE_TURN && segment.payload > limits::ENCRYPTED_ALERT_BYTES {
                event.flags |= SEGMENT_LAST;
            }
        }
        if offset >= limits::CAPTURE_BYTES || flow.turn > turns {
            event.flags |= SEGMENT_LAST;
            room = 0;
        }
    }
    if event.flags & SEGMENT_FIN != 0 {
        flow.finished |= 1 << direction;
    }
    if event.flags & SEGMENT_RST != 0 || flow.finished == BOTH_FINISHED {
        flow.phase = PHASE_OVER;
    } else if event.flags & SEGMENT_LAST != 0 {
        flow.phase = after_handshake(flow);
    }
    Some((offset, room))
}

/// The phase of a connection past its handshake.
#[inline(always)]
fn after_handshake(flow: &mut FlowState) -> u8 {
    if flow.upgraded == 0 {
        return PHASE_OVER;
    }
    flow.turn = 0;
    PHASE_UPGRADE
}

/// Sequence number of the first byte of a direction. Not indexed: the verifier allows no arithmetic
/// on pointers to the stack that it cannot bound.
#[inline(always)]
fn start(flow: &FlowState, direction: u8) -> u32 {
    if direction == INGRESS {
        flow.start[0]
    } else {
        flow.start[1]
    }
}

/// Hands over up to `room` bytes of the segment, and no byte of the stream beyond
/// `limits::CAPTURE_BYTES`; the last event stands for what was left out.
#[inline(always)]
fn copy(
    skb: *mut __sk_buff,
    segment: &Segment,
    event: &mut SegmentEvent,
    position: u32,
    room: u32,
) {
    let left = limits::CAPTURE_BYTES.saturating_sub(position);
    let mut wanted = segment.payload;
    if wanted > left {
        wanted = left;
    }
    if wanted > room {
        wanted = room;
    }
    let flags = event.flags;
    // What stands at the first byte belongs to the first piece, what ends the stream to the last.
    let first_only = flags & (SEGMENT_HELLO | SEGMENT_FOLLOWED);
    let every = flags & (SEGMENT_EARLY | SEGMENT_AFTER_CALL);
    let mut done = 0;
    // CAPTURE_BYTES / PIECE_BYTES pieces at most.
    for _ in 0..(limits::CAPTURE_BYTES as usize / limits::PIECE_BYTES) {
        let mut captured = wanted - done;
        let last = captured <= limits::PIECE_BYTES as u32;
        if !last {
            captured = limits::PIECE_BYTES as u32;
        }
        event.captured = captured;
        event.payload = if last {
            segment.payload - done
        } else {
            captured
        };
        event.sequence = segment.sequence.wrapping_add(done);
        event.flags = every;
        if done == 0 {
            event.flags |= first_only;
        }
        if last {
            event.flags |= flags & !(SEGMENT_HELLO | SEGMENT_FOLLOWED);
        }
        event.header.size = size_of::<SegmentEvent>() as u32 + captured;
        emit::segment(skb, event, segment.offset + done);
        if last {
            return;
        }
        done += captured;
    }
}
