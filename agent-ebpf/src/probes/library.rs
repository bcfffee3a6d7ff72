//! Library tap: `int SSL_do_handshake(SSL *ssl)` of OpenSSL and its kin (uprobe and uretprobe).
//!
//! Entry notes which `SSL*` the thread works on, so that the egress filter, which runs in the same
//! thread, can tie the socket to it; a return of 1 is the exact end of the handshake.
//! No memory of the process is read.

use aya_log_ebpf::warn;

use agent_common::{
    event::{EventHeader, KIND_LIBRARY, LibraryEvent},
    stats,
};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    emit,
    maps::{EVENTS, TASKS, count},
};

/// At the entry of `SSL_do_handshake`.
#[uprobe]
pub fn handshake_enter(context: ProbeContext) -> u32 {
    let Some(ssl) = context.arg::<u64>(0) else {
        return 0;
    };
    let task = bpf_get_current_pid_tgid();
    match TASKS.get_ptr_mut(&task) {
        // In place: an update of an LRU map takes a new element each time.
        // SAFETY: only this thread writes its own slot; the element lives as long as the program runs.
        Some(slot) => unsafe { *slot = ssl },
        None => {
            if TASKS.insert(&task, &ssl, 0).is_err() {
                warn!(
                    &context,
                    "no room to note a handshake call; it joins no connection"
                );
            }
        }
    }
    0
}

/// At the return of `SSL_do_handshake`.
#[uretprobe]
pub fn handshake_return(context: RetProbeContext) -> u32 {
    let task = bpf_get_current_pid_tgid();
    let Some(slot) = TASKS.get_ptr_mut(&task) else {
        return 0;
    };
    // SAFETY: only this thread writes its own slot.
    let ssl = unsafe { core::mem::replace(&mut *slot, 0) };
    if ssl == 0 || context.ret::<i32>() != 1 {
        return 0;
    }
    match EVENTS.reserve::<LibraryEvent>(0) {
        Some(mut entry) => {
            entry.write(LibraryEvent {
                header: EventHeader {
                    kind: KIND_LIBRARY,
                    size: size_of::<LibraryEvent>() as u32,
                    // SAFETY: the helper has no preconditions.
                    time_ns: unsafe { bpf_ktime_get_ns() },
                },
                pid_tgid: task,
                ssl,
            });
            emit::submit(entry);
            count(stats::LIBRARY_EVENTS);
        }
        None => count(stats::LIBRARY_LOST_RING_FULL),
    }
    0
}
