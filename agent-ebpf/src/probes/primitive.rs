//! Library tap: how long cryptographic primitives take inside a handshake. Attached in short windows
//! only: a handshake has up to five of them, two traps each.
//!
//! Not the functions of libcrypto are probed but the places in libssl that call them. What else a program
//! does with libcrypto pays nothing; nothing counts twice that one function has another do; and no return
//! address is put into a stack that an accelerator's engine may leave in the middle of a signature (see
//! `library`). Tickets are timed from the beginning of the function that makes, or decrypts, one to its
//! end.
//!
//! No memory of the process is read. Outside a handshake call nothing is noted.

use agent_common::{
    event::{EventHeader, KIND_PRIMITIVE, NO_CPU_TIME, PrimitiveEvent},
    hits, primitive, stats,
};
use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns,
        generated::bpf_get_attach_cookie,
    },
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};

use crate::{
    account, emit,
    maps::{EVENTS, TASKS, count, hit, trap_ns},
};

/// The primitive that a thread is in.
#[repr(C)]
#[derive(Clone, Copy)]
struct Open {
    ssl: u64,
    entry_ns: u64,
    /// The thread's account then.
    account_ns: u64,
    cpu: u32,
    /// One of `primitive::…`, plus 1; 0 for none.
    primitive: u32,
}

/// By thread (`bpf_get_current_pid_tgid`).
#[map]
static PRIMITIVES: LruHashMap<u64, Open> =
    LruHashMap::with_max_entries(agent_common::limits::MAX_TASKS, 0);

/// At the call.
#[uprobe]
pub fn primitive_begin(context: ProbeContext) -> u32 {
    hit(hits::PRIMITIVE_BEGIN);
    let task = bpf_get_current_pid_tgid();
    // SAFETY: a look at the thread's own slot.
    let Some(call) = (unsafe { TASKS.get(&task) }) else {
        return 0;
    };
    let (primitive, tells_length) = kind(&context);
    if call.is_inside == 0 || (tells_length && context.arg::<u64>(1) == Some(0)) {
        return 0;
    }
    let Some(account_ns) = account::thread() else {
        return 0;
    };
    // SAFETY: the helpers have no preconditions.
    let open = unsafe {
        Open {
            ssl: call.ssl,
            entry_ns: bpf_ktime_get_ns(),
            account_ns,
            cpu: bpf_get_smp_processor_id(),
            primitive: primitive + 1,
        }
    };
    match PRIMITIVES.get_ptr_mut(&task) {
        // SAFETY: only this thread writes its own slot.
        Some(slot) => unsafe { *slot = open },
        None => {
            if PRIMITIVES.insert(&task, &open, 0).is_err() {
                count(stats::LIBRARY_LOST_RING_FULL);
            }
        }
    }
    0
}

/// Where it has returned.
#[uprobe]
pub fn primitive_end(context: ProbeContext) -> u32 {
    hit(hits::PRIMITIVE_END);
    let task = bpf_get_current_pid_tgid();
    let (primitive, _) = kind(&context);
    let Some(slot) = PRIMITIVES.get_ptr_mut(&task) else {
        return 0;
    };
    // SAFETY: only this thread writes its own slot; the helpers have no preconditions.
    let (open, time_ns, cpu) = unsafe {
        if (*slot).primitive != primitive + 1 {
            return 0;
        }
        (*slot).primitive = 0;
        (*slot, bpf_ktime_get_ns(), bpf_get_smp_processor_id())
    };
    // SAFETY: a look at the thread's own slot.
    let is_its_call = unsafe { TASKS.get(&task) }.is_some_and(|call| {
        call.is_inside == 1 && call.ssl == open.ssl && call.entry_ns <= open.entry_ns
    });
    if !is_its_call {
        return 0;
    }
    let wall_ns = time_ns.wrapping_sub(open.entry_ns);
    let cpu_ns = account::thread()
        .and_then(|end| account::between(open.account_ns, end, wall_ns, cpu != open.cpu));
    match EVENTS.reserve::<PrimitiveEvent>(0) {
        Some(mut entry) => {
            entry.write(PrimitiveEvent {
                header: EventHeader {
                    kind: KIND_PRIMITIVE,
                    size: size_of::<PrimitiveEvent>() as u32,
                    time_ns,
                },
                pid_tgid: task,
                ssl: open.ssl,
                entry_ns: open.entry_ns,
                // The end of one trap and the beginning of the next are in it, one in all.
                cpu_ns: match cpu_ns {
                    Some(cpu_ns) => cpu_ns.saturating_sub(trap_ns()),
                    None => NO_CPU_TIME,
                },
                primitive,
                padding: 0,
            });
            emit::submit(entry);
            count(stats::LIBRARY_EVENTS);
        }
        None => count(stats::LIBRARY_LOST_RING_FULL),
    }
    0
}

/// The primitive at a place, and whether it may only tell a length there.
#[inline(always)]
fn kind(context: &ProbeContext) -> (u32, bool) {
    // SAFETY: `context` is the program's own.
    primitive::from_cookie(unsafe { bpf_get_attach_cookie(context.as_ptr()) })
}
