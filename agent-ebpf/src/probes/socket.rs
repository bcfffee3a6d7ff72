//! Socket tap: when TCP was established (`BPF_PROG_TYPE_SOCK_OPS`, 4.13).
//!
//! Unlike the tracepoint `inet_sock_set_state` it knows the network namespace, obeys the cgroup it
//! is attached to, and runs a few times a connection instead of at every change of state. It
//! changes nothing: neither the reply nor the callback flags, which other programs may have set.

use agent_common::{
    flow::{FlowKey, FlowState, PHASE_HANDSHAKE, PHASE_OPEN},
    hits, stats,
};
use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB, BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB},
    helpers::{bpf_ktime_get_ns, generated::bpf_get_netns_cookie},
    macros::sock_ops,
    programs::SockOpsContext,
};

use core::ptr;

use crate::{
    maps::{EMBRYONIC, NETNS_COOKIE, count, hit, may_have_embryonic, open_socket},
    packet::mapped,
};

const AF_INET: u32 = 2;

/// Puts the time of its establishment into the socket.
#[sock_ops]
pub fn tcp_established(context: SockOpsContext) -> u32 {
    let op = context.op();
    if op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB || op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
        count(stats::SOCKET_EVENTS);
        open(&context, op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB);
        hit(hits::SOCKET_ESTABLISHED);
    } else {
        hit(hits::SOCKET_PASSED);
    }
    1
}

#[inline(always)]
fn open(context: &SockOpsContext, passive: bool) {
    let mut state = FlowState::new(PHASE_OPEN);
    // SAFETY: the helper has no preconditions.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    if passive && may_have_embryonic() {
        adopt(context, &mut state);
    }
    state.established_ns = now_ns;
    // SAFETY: `ops` is the program's context; the verifier takes the socket for a full one, or null.
    let opened = unsafe {
        let sk = (*context.ops).__bindgen_anon_2.sk;
        !sk.is_null() && open_socket(sk, &mut state)
    };
    if !opened {
        count(stats::SOCKET_LOST_MAP_FULL);
    }
}

/// With deferred accept the first data came before: what is known of it moves into the socket.
#[inline(always)]
fn adopt(context: &SockOpsContext, state: &mut FlowState) {
    let key = flow_key(context);
    let Some(flow) = EMBRYONIC.get_ptr_mut(&key) else {
        return;
    };
    // SAFETY: the element stays valid while the program runs; `ops` is the program's context.
    unsafe {
        // Another start is that of an earlier connection on these addresses and ports.
        if (*flow).phase == PHASE_HANDSHAKE && (*flow).start[0] == (*context.ops).rcv_nxt {
            *state = *flow;
        }
    }
    let _ = EMBRYONIC.remove(&key);
}

#[inline(always)]
fn flow_key(context: &SockOpsContext) -> FlowKey {
    let ops = context.ops;
    // The verifier only takes loads from the context at constant offsets; volatile reads keep the
    // compiler from merging those of the two families into one with a computed offset.
    macro_rules! word {
        ($($field:tt)+) => {
            // SAFETY: `ops` is the program's context and the field is readable there.
            unsafe { ptr::read_volatile(&raw const (*ops).$($field)+) }.to_ne_bytes()
        };
    }
    // Both families are read before the branch, for the same reason.
    let (local4, remote4) = (word!(local_ip4), word!(remote_ip4));
    let local6 = joined(
        word!(local_ip6[0]),
        word!(local_ip6[1]),
        word!(local_ip6[2]),
        word!(local_ip6[3]),
    );
    let remote6 = joined(
        word!(remote_ip6[0]),
        word!(remote_ip6[1]),
        word!(remote_ip6[2]),
        word!(remote_ip6[3]),
    );
    let (local_address, remote_address) = if context.family() == AF_INET {
        (mapped(local4), mapped(remote4))
    } else {
        (local6, remote6)
    };
    let netns = if NETNS_COOKIE.load() == 1 {
        // SAFETY: `ops` is the program's context.
        unsafe { bpf_get_netns_cookie(ops.cast()) }
    } else {
        0
    };
    FlowKey {
        netns,
        local_address,
        remote_address,
        // In host byte order, unlike the remote one.
        local_port: context.local_port() as u16,
        remote_port: u32::from_be(context.remote_port()) as u16,
        padding: 0,
    }
}

#[inline(always)]
fn joined(a: [u8; 4], b: [u8; 4], c: [u8; 4], d: [u8; 4]) -> [u8; 16] {
    [
        a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2],
        d[3],
    ]
}
