//! Every map and every global of the kernel half.

use agent_common::{
    call::Call,
    flow::{FlowKey, FlowState, QuicPath},
    hits, limits, stats,
};
use aya_ebpf::{
    Global,
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::SkStorage,
    helpers::{bpf_ktime_get_ns, generated::bpf_sk_storage_get},
    macros::{btf_map, map},
    maps::{Array, LruHashMap, PerCpuArray, RingBuf},
};
use core::ptr;

/// Events for user space; resized at load time (`--ring-bytes`).
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

/// The state of a connection, kept in its socket: found without a hash, and gone with the socket. A
/// hash by the socket's cookie was tried: what it spares at the beginning, two allocations, every
/// later packet pays.
#[btf_map]
static SOCKETS: SkStorage<FlowState> = SkStorage::new();

/// Connections whose first data came before they had a socket: with deferred accept or a lost ACK
/// the kernel runs the filter on the *listening* socket.
#[map]
pub static EMBRYONIC: LruHashMap<FlowKey, FlowState> =
    LruHashMap::with_max_entries(limits::MAX_EMBRYONIC_FLOWS, 0);

/// When the last of them was noted, `bpf_ktime_get_ns`.
#[map]
static EMBRYONIC_NOTED: Array<u64> = Array::with_max_entries(1, 0);

/// Where QUIC handshakes take place. One socket of a server serves all its clients, so that the socket
/// cannot keep it.
#[map]
pub static QUIC_PATHS: LruHashMap<FlowKey, QuicPath> =
    LruHashMap::with_max_entries(limits::MAX_QUIC_PATHS, 0);

/// When the latest packet of a QUIC handshake came, `bpf_ktime_get_ns`.
#[map]
static QUIC_NOTED: Array<u64> = Array::with_max_entries(1, 0);

/// The calls of threads (`bpf_get_current_pid_tgid`).
#[map]
pub static TASKS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(limits::MAX_TASKS, 0);

/// Not 0 once a handshake call was noted; user space sets it back when it forgets them.
#[map]
static CALLS: Array<u64> = Array::with_max_entries(1, 0);

/// What a trap takes, nanoseconds; written by user space once it is measured.
#[map]
static TRAP: Array<u64> = Array::with_max_entries(1, 0);

/// Counters, see `agent_common::stats`.
#[map]
pub static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(stats::COUNT, 0);

/// How often each probe ran, see `agent_common::hits`.
#[map]
pub static HITS: PerCpuArray<u64> = PerCpuArray::with_max_entries(hits::COUNT, 0);

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
pub static FOLLOWED_SHARE: Global<u32> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static SUM_EXEC_RUNTIME: Global<u32> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static EXEC_START: Global<u32> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static RUN_QUEUE: Global<u32> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static PROCESSOR_QUEUE: Global<u32> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static CLOCK: Global<u32> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static CLOCK_TASK: Global<u32> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static SAME_CLOCKS: Global<u8> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static ESTABLISHED: Global<u32> = Global::new(0);
/// See `agent_common::config`.
#[unsafe(no_mangle)]
pub static WAKEUP_BYTES: Global<u64> = Global::new(limits::RING_BYTES as u64 / 4);

/// Notes the state of a connection that has no socket yet; false when the kernel has no room.
#[inline(always)]
pub fn note_embryonic(key: &FlowKey, state: &FlowState, now_ns: u64) -> bool {
    note_time(&EMBRYONIC_NOTED, now_ns);
    EMBRYONIC.insert(key, state, 0).is_ok()
}

#[inline(always)]
fn note_time(cell: &Array<u64>, now_ns: u64) {
    if let Some(noted) = cell.get_ptr_mut(0) {
        // SAFETY: an aligned word that is written as a whole.
        unsafe { ptr::write_volatile(noted, now_ns) };
    }
}

/// The time in `cell` is one of the last `span_ns`.
#[inline(always)]
fn is_recent(cell: &Array<u64>, span_ns: u64) -> bool {
    cell.get(0).is_some_and(|noted| {
        // SAFETY: the helper has no preconditions.
        *noted != 0 && unsafe { bpf_ktime_get_ns() } < noted.wrapping_add(span_ns)
    })
}

/// Says that a QUIC handshake takes place.
#[inline(always)]
pub fn note_quic(now_ns: u64) {
    note_time(&QUIC_NOTED, now_ns);
}

/// True where one did lately: else no short header is worth a look.
#[inline(always)]
pub fn may_have_quic() -> bool {
    is_recent(&QUIC_NOTED, limits::QUIC_NS)
}

/// True where a connection without a socket was noted within the last minute: its socket comes as
/// soon as its handshake is over. Most hosts have none, and need not look for them.
#[inline(always)]
pub fn may_have_embryonic() -> bool {
    is_recent(&EMBRYONIC_NOTED, limits::EMBRYONIC_NS)
}

/// What a trap takes, nanoseconds; 0 where it is not known.
#[inline(always)]
pub fn trap_ns() -> u64 {
    TRAP.get(0).copied().unwrap_or(0)
}

/// Says that `TASKS` holds something.
#[inline(always)]
pub fn note_calls() {
    if let Some(noted) = CALLS.get_ptr_mut(0) {
        // SAFETY: an aligned word that is read and written as a whole. Written once: others read it
        // for every packet that they send.
        unsafe {
            if ptr::read_volatile(noted) == 0 {
                ptr::write_volatile(noted, 1);
            }
        }
    }
}

/// False while nobody watches handshake calls, which is most of the time: nothing is to be found in
/// `TASKS`.
#[inline(always)]
pub fn has_calls() -> bool {
    CALLS.get(0).is_some_and(|noted| *noted != 0)
}

/// Adds one to a counter of `agent_common::stats`.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(counter) = STATS.get_ptr_mut(index) {
        // SAFETY: the pointer is this CPU's slot; the program cannot migrate while it runs.
        unsafe { *counter += 1 };
    }
}

/// Adds one to a counter of `agent_common::hits`.
#[inline(always)]
pub fn hit(index: u32) {
    if let Some(counter) = HITS.get_ptr_mut(index) {
        // SAFETY: as in `count`.
        unsafe { *counter += 1 };
    }
}

/// The state in a socket, or null; so for sockets that are none yet, or none any more.
///
/// # Safety
/// `sk` is a socket that the verifier knows as such.
#[inline(always)]
pub unsafe fn socket_state(sk: *mut bpf_sock) -> *mut FlowState {
    let map = (&raw const SOCKETS).cast_mut().cast();
    // SAFETY: as above; without the flag nothing is created.
    unsafe { bpf_sk_storage_get(map, sk.cast(), ptr::null_mut(), 0).cast() }
}

/// Puts a state into a socket that has none; false when the kernel has no room.
///
/// # Safety
/// `sk` is a full socket that the verifier knows as such.
#[inline(always)]
pub unsafe fn open_socket(sk: *mut bpf_sock, state: &mut FlowState) -> bool {
    let map = (&raw const SOCKETS).cast_mut().cast();
    let value = ptr::from_mut(state).cast();
    let flags = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: as above; `value` is an initialised FlowState.
    unsafe { !bpf_sk_storage_get(map, sk.cast(), value, flags).is_null() }
}
