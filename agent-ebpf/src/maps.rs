//! Every map and every global of the kernel half.

use agent_common::{
    flow::{FlowKey, FlowState},
    limits, stats,
};
use aya_ebpf::{
    Global,
    macros::map,
    maps::{LruHashMap, PerCpuArray, RingBuf},
};

/// Events for user space; resized at load time (`--ring-bytes`).
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

/// Connections from their establishment to the end of their handshake. A flow that is not TLS has
/// no entry any more from its first data on.
#[map]
pub static FLOWS: LruHashMap<FlowKey, FlowState> =
    LruHashMap::with_max_entries(limits::MAX_FLOWS, 0);

/// The handshake that a thread (`bpf_get_current_pid_tgid`) is in, 0 when in none.
#[map]
pub static TASKS: LruHashMap<u64, u64> = LruHashMap::with_max_entries(limits::MAX_TASKS, 0);

/// Counters, see `agent_common::stats`.
#[map]
pub static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(stats::COUNT, 0);

/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static NETNS_COOKIE: Global<u8> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static CURRENT_PID: Global<u8> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static LIBRARY_TAP: Global<u8> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static WAKEUP_BYTES: Global<u64> = Global::new(limits::RING_BYTES as u64 / 4);

/// Adds one to a counter of `agent_common::stats`.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(counter) = STATS.get_ptr_mut(index) {
        // SAFETY: the pointer is this CPU's slot; the program cannot migrate while it runs.
        unsafe { *counter += 1 };
    }
}
