//! What a TCP socket tells of a packet before that is looked at.

use agent_common::{
    event::EGRESS,
    flow::{FlowState, PHASE_OVER},
    limits,
};
use aya_ebpf::{
    bindings::{__sk_buff, bpf_sock, bpf_tcp_sock},
    helpers::{
        bpf_probe_read_kernel,
        generated::{bpf_sk_fullsock, bpf_skc_to_tcp_sock, bpf_tcp_sock as tcp_sock},
    },
};

use crate::{
    maps::{ESTABLISHED, may_have_embryonic, socket_state},
    packet::Segment,
};

const BPF_TCP_LISTEN: u32 = 10;

/// What the socket tells about the stream before the packet is looked at.
#[derive(Clone, Copy)]
pub struct Socket {
    pub listening: bool,
    bytes_received: u64,
    bytes_acked: u64,
    receive_next: u32,
    send_unacked: u32,
    pub srtt_us: u32,
}

impl Socket {
    /// Reads what is needed of a socket; `None` when it is past any handshake.
    ///
    /// # Safety
    /// `sk` is a full socket that the verifier knows as such, and `tcp` is its part for TCP.
    #[inline(always)]
    unsafe fn read(sk: *mut bpf_sock, tcp: *mut bpf_tcp_sock) -> Option<Self> {
        // SAFETY: as above.
        unsafe {
            let bytes_received = (*tcp).bytes_received;
            let bytes_acked = (*tcp).bytes_acked;
            if bytes_received > limits::HANDSHAKE_BYTES || bytes_acked > limits::HANDSHAKE_BYTES {
                return None;
            }
            Some(Self {
                listening: (*sk).state == BPF_TCP_LISTEN,
                bytes_received,
                bytes_acked,
                receive_next: (*tcp).rcv_nxt,
                send_unacked: (*tcp).snd_una,
                // The kernel keeps eight times the smoothed value.
                srtt_us: (*tcp).srtt_us >> 3,
            })
        }
    }

    /// True where the connection's first data may have come before its socket, and nobody has moved
    /// its state into the socket yet.
    #[inline(always)]
    pub fn may_be_embryonic(&self) -> bool {
        let limit = u64::from(limits::CAPTURE_BYTES);
        self.bytes_received <= limit && self.bytes_acked <= limit && may_have_embryonic()
    }

    /// Where `segment` stands relative to the start of its stream. With deferred accept or a lost
    /// ACK the first data arrives while the filter still sees the listening socket, whose counters
    /// say nothing of the connection.
    #[inline(always)]
    pub fn position(&self, segment: &Segment, direction: u8) -> Position {
        if direction == EGRESS {
            // The SYN counts as one acknowledged byte of a client.
            return if self.bytes_acked <= 1 && segment.sequence == self.send_unacked {
                Position::Start
            } else {
                Position::Later
            };
        }
        if self.listening {
            Position::PerhapsStart
        } else if self.bytes_received != 0 {
            Position::Later
        } else if segment.sequence == self.receive_next {
            Position::Start
        } else {
            Position::BeforeStart
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub enum Position {
    /// The first byte of the stream.
    Start,
    /// Seen by a listening socket: the first byte, or out of order.
    PerhapsStart,
    /// Ahead of a first byte that has not come yet.
    BeforeStart,
    Later,
}

/// The full socket of an skb.
#[inline(always)]
pub fn full_socket(skb: *mut __sk_buff) -> Option<*mut bpf_sock> {
    // SAFETY: `skb` is the program's context; the verifier tracks each pointer and its null check.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return None;
        }
        let sk = bpf_sk_fullsock(sk);
        (!sk.is_null()).then_some(sk)
    }
}

/// What the socket of a packet tells.
pub enum Candidate {
    /// It may belong to a handshake: the connection's state, which may be null, and its socket.
    Tcp(*mut FlowState, Socket),
    /// It does not.
    Passed,
    /// It is of another protocol.
    Other,
}

#[inline(always)]
pub fn candidate(skb: *mut __sk_buff) -> Candidate {
    // SAFETY: `skb` is the program's context; the state lives as long as the socket.
    let state = unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return Candidate::Passed;
        }
        let state = socket_state(sk);
        if !state.is_null() && (*state).phase == PHASE_OVER {
            return Candidate::Passed;
        }
        state
    };
    let Some(sk) = full_socket(skb) else {
        return Candidate::Passed;
    };
    // SAFETY: `full_socket` gives what both functions ask for; the verifier tracks the null check.
    unsafe {
        let tcp: *mut bpf_tcp_sock = tcp_sock(sk);
        if tcp.is_null() {
            return Candidate::Other;
        }
        match Socket::read(sk, tcp) {
            Some(socket) => Candidate::Tcp(state, socket),
            None => Candidate::Passed,
        }
    }
}

/// When the connection of a socket that has not received anything was established, nanoseconds of the
/// monotonic clock; 0 where it is not known.
///
/// TCP notes it for its receive buffer (`tcp_init_buffer_space`, net/ipv4/tcp_input.c; microseconds
/// since 4.13), right after `sock_ops` would be told, and changes it no sooner than a process reads.
///
/// # Safety
/// `sk` is a full socket that the verifier knows as such.
#[inline(always)]
pub unsafe fn established_ns(sk: *mut bpf_sock) -> u64 {
    let offset = ESTABLISHED.load();
    if offset == 0 {
        return 0;
    }
    // SAFETY: as above; the first helper gives a pointer to a TCP socket, or null, and the second
    // checks the address.
    let microseconds = unsafe {
        let tcp = bpf_skc_to_tcp_sock(sk.cast());
        if tcp.is_null() {
            return 0;
        }
        bpf_probe_read_kernel(tcp.byte_add(offset as usize).cast::<u64>())
    };
    microseconds.unwrap_or(0).wrapping_mul(1000)
}
