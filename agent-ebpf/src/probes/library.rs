//! Library tap: calls that drive a handshake in OpenSSL and its kin.
//!
//! Where user space finds `state_machine(SSL *s, int server)`, by uprobes at its first instruction and
//! at its end; elsewhere by a uprobe and a uretprobe on `SSL_do_handshake(SSL *s)`.
//!
//! Entry notes which `SSL*` the thread works on, so that the egress filter, which runs in the same
//! thread, can tie the socket to it; the end tells whether the handshake is done, and how long the
//! thread was on a CPU in between. Of the process's memory 32 bytes of the `SSL` are read, in which
//! OpenSSL keeps the state of its handshake, and one of its mode.

use aya_log_ebpf::warn;

use agent_common::{
    call::{
        CALL_BEGINS, CALL_SERVER, CALL_TIMED, Call, MAX_FRAME, MachineSite, STATE_WORDS, state,
    },
    event::{
        EventHeader, KIND_LIBRARY, LIBRARY_BEGINS, LIBRARY_EXACT, LIBRARY_PRIMITIVES,
        LIBRARY_RANDOM, LIBRARY_SERVER, LibraryEvent, NO_CPU_TIME,
    },
    hits, stats,
};
use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_probe_read_user,
        generated::bpf_get_attach_cookie,
    },
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    account, emit,
    maps::{EVENTS, TASKS, count, hit, note_calls},
};

/// At the entry of `state_machine`.
#[uprobe]
pub fn machine_begin(context: ProbeContext) -> u32 {
    hit(hits::MACHINE_BEGIN);
    let Some(ssl) = context.arg::<u64>(0) else {
        return 0;
    };
    let site = site(&context);
    if is_asynchronous(ssl, site) {
        // Its calls leave the stack and come back, perhaps after another's.
        leave_alone();
        return 0;
    }
    let Some(words) = state_of(ssl, site) else {
        leave_alone();
        return 0;
    };
    let is_over = words[state::FLOW] == state::FLOW_FINISHED
        && words[state::HAND] == state::HAND_OK
        && words[state::IN_INIT] == 0;
    if words[state::FLOW] == state::FLOW_ERROR || is_over {
        // It returns at once, or handles a message after the handshake.
        leave_alone();
        return 0;
    }
    let mut flags = 0;
    if words[state::FLOW] == state::FLOW_UNINITED {
        flags |= CALL_BEGINS;
    }
    if context.arg::<u32>(1) == Some(1) {
        flags |= CALL_SERVER;
    }
    enter(&context, ssl, flags);
    0
}

/// At the end of `state_machine`.
#[uprobe]
pub fn machine_end(context: ProbeContext) -> u32 {
    hit(hits::MACHINE_END);
    let task = bpf_get_current_pid_tgid();
    let Some(call) = leave(task) else {
        return 0;
    };
    // On another stack, this is another call.
    let frame = call.stack.wrapping_sub(stack(&context));
    if frame > MAX_FRAME {
        return 0;
    }
    let site = site(&context);
    let is_done = state_of(call.ssl, site).is_some_and(|words| {
        words[state::FLOW] == state::FLOW_FINISHED
            && words[state::HAND] == state::HAND_OK
            && words[state::IN_INIT] == 0
    });
    let primitives = if site.primitives {
        LIBRARY_PRIMITIVES
    } else {
        0
    };
    let random = random_of(call.ssl, site);
    let known = if random.is_some() { LIBRARY_RANDOM } else { 0 };
    report(
        task,
        &call,
        i32::from(is_done),
        LIBRARY_EXACT | primitives | known,
        random.unwrap_or(0),
    );
    0
}

/// At the entry of `SSL_do_handshake`.
#[uprobe]
pub fn handshake_enter(context: ProbeContext) -> u32 {
    hit(hits::HANDSHAKE_ENTER);
    if let Some(ssl) = context.arg::<u64>(0) {
        enter(&context, ssl, 0);
    }
    0
}

/// At its return.
#[uretprobe]
pub fn handshake_return(context: RetProbeContext) -> u32 {
    hit(hits::HANDSHAKE_RETURN);
    let task = bpf_get_current_pid_tgid();
    if let Some(call) = leave(task) {
        report(task, &call, context.ret(), 0, 0);
    }
    0
}

/// The thread is about to work on an `SSL*`.
#[inline(always)]
fn enter(context: &ProbeContext, ssl: u64, flags: u8) {
    let task = bpf_get_current_pid_tgid();
    let account = account::thread();
    let timed = if account.is_some() { CALL_TIMED } else { 0 };
    let mut call = Call {
        ssl,
        // SAFETY: the helper has no preconditions.
        entry_ns: unsafe { bpf_ktime_get_ns() },
        account_ns: account.unwrap_or(0),
        stack: stack(context),
        number: 0,
        // SAFETY: as above.
        cpu: unsafe { bpf_get_smp_processor_id() } as u16,
        is_inside: 1,
        flags: flags | timed,
    };
    note_calls();
    match TASKS.get_ptr_mut(&task) {
        // In place: an update of an LRU map takes a new element each time.
        // SAFETY: only this thread writes its own slot; the element lives as long as the program runs.
        Some(slot) => unsafe {
            // One whose end was not seen counts as lost.
            call.number = (*slot).number.wrapping_add(u32::from((*slot).is_inside));
            *slot = call;
        },
        None => {
            if TASKS.insert(&task, &call, 0).is_err() {
                warn!(
                    context,
                    "no room to note a handshake call; it joins no connection"
                );
            }
        }
    }
}

/// The thread is done with it.
#[inline(always)]
fn leave(task: u64) -> Option<Call> {
    let slot = TASKS.get_ptr_mut(&task)?;
    // SAFETY: only this thread writes its own slot.
    unsafe {
        if (*slot).is_inside == 0 {
            return None;
        }
        (*slot).is_inside = 0;
        (*slot).number = (*slot).number.wrapping_add(1);
        Some(*slot)
    }
}

/// The thread is in a call that is not to be watched; what it sends is nobody's.
#[inline(always)]
fn leave_alone() {
    let task = bpf_get_current_pid_tgid();
    if let Some(slot) = TASKS.get_ptr_mut(&task) {
        // SAFETY: only this thread writes its own slot.
        unsafe {
            (*slot).ssl = 0;
            (*slot).is_inside = 0;
        }
    }
}

/// Hands a call over.
#[inline(always)]
fn report(task: u64, call: &Call, result: i32, mut flags: u32, random: u64) {
    // SAFETY: the helpers have no preconditions.
    let (time_ns, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id() as u16) };
    let cpu_ns = match account::thread() {
        Some(account) if call.flags & CALL_TIMED != 0 => account::between(
            call.account_ns,
            account,
            time_ns.wrapping_sub(call.entry_ns),
            cpu != call.cpu,
        ),
        _ => None,
    };
    if call.flags & CALL_BEGINS != 0 {
        flags |= LIBRARY_BEGINS;
    }
    if call.flags & CALL_SERVER != 0 {
        flags |= LIBRARY_SERVER;
    }
    match EVENTS.reserve::<LibraryEvent>(0) {
        Some(mut entry) => {
            entry.write(LibraryEvent {
                header: EventHeader {
                    kind: KIND_LIBRARY,
                    size: size_of::<LibraryEvent>() as u32,
                    time_ns,
                },
                pid_tgid: task,
                ssl: call.ssl,
                entry_ns: call.entry_ns,
                cpu_ns: cpu_ns.unwrap_or(NO_CPU_TIME),
                result,
                number: call.number,
                flags,
                padding: 0,
                random,
            });
            emit::submit(entry);
            count(stats::LIBRARY_EVENTS);
        }
        None => count(stats::LIBRARY_LOST_RING_FULL),
    }
}

#[inline(always)]
fn site(context: &ProbeContext) -> MachineSite {
    // SAFETY: `context` is the program's own.
    MachineSite::from_cookie(unsafe { bpf_get_attach_cookie(context.as_ptr()) })
}

/// The handshake's state, as the library has it.
#[inline(always)]
fn state_of(ssl: u64, site: MachineSite) -> Option<[u32; STATE_WORDS]> {
    let address = ssl.wrapping_add(u64::from(site.state_offset));
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address as *const [u32; STATE_WORDS]) }.ok()
}

/// The first bytes of the random of the server's hello, or what is in their place before there is one.
#[inline(always)]
fn random_of(ssl: u64, site: MachineSite) -> Option<u64> {
    let place = site.random?;
    let mut holder = ssl;
    if let Some(pointer) = place.pointer {
        let address = ssl.wrapping_add(u64::from(pointer));
        // SAFETY: the helper checks the address.
        holder = unsafe { bpf_probe_read_user(address as *const u64) }.ok()?;
    }
    let address = holder.wrapping_add(u64::from(place.offset));
    // SAFETY: as above.
    unsafe { bpf_probe_read_user(address as *const u64) }.ok()
}

/// Whether the library may leave its stack in mid-call; also where that cannot be told.
#[inline(always)]
fn is_asynchronous(ssl: u64, site: MachineSite) -> bool {
    site.async_offset.is_some_and(|offset| {
        let address = ssl.wrapping_add(u64::from(offset));
        // SAFETY: the helper checks the address.
        unsafe { bpf_probe_read_user(address as *const u8) }.is_ok_and(|mode| mode & 1 == 1)
    })
}

/// The stack pointer at a probe.
#[inline(always)]
fn stack(context: &ProbeContext) -> u64 {
    // SAFETY: the context of a uprobe is its `pt_regs`.
    unsafe { (*context.regs).rsp }
}
