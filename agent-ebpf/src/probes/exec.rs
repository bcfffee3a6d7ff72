//! `sched_process_exec` (raw tracepoint, 4.17, which needs no tracefs): a new program may map a TLS library that no probe
//! sits in yet.

use agent_common::{
    event::{EventHeader, ExecEvent, KIND_EXEC},
    hits,
};
use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};

use crate::{
    emit,
    maps::{EVENTS, hit},
};

/// Tells user space which process to look at. A lost event costs nothing but time: the slow scan
/// finds the process too.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(_context: RawTracePointContext) -> i32 {
    hit(hits::EXEC);
    if let Some(mut entry) = EVENTS.reserve::<ExecEvent>(0) {
        entry.write(ExecEvent {
            header: EventHeader {
                kind: KIND_EXEC,
                size: size_of::<ExecEvent>() as u32,
                // SAFETY: the helper has no preconditions.
                time_ns: unsafe { bpf_ktime_get_ns() },
            },
            pid: (bpf_get_current_pid_tgid() >> 32) as u32,
            padding: 0,
        });
        emit::submit(entry);
    }
    0
}
