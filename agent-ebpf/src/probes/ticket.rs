//! Library tap: what became of an offered ticket (uprobe inside OpenSSL's `tls_decrypt_ticket`) or
//! session ID (uretprobe on its `lookup_sess_in_cache`).
//!
//! One hit at the place where every path of that function comes together answers three questions:
//! was the key known, was the ticket authentic, and when was its session issued. User space finds
//! the place and what is kept where (`agent_common::site`). Of the process's memory the probe reads
//! one pointer of the cipher context, and three integers of the session; never a key.

use agent_common::{
    event::{
        EventHeader, KIND_TICKET, TICKET_KEY_KNOWN, TICKET_LOOKUP, TICKET_NANOSECONDS,
        TICKET_SESSION, TicketEvent,
    },
    hits,
    site::{Register, TicketSite},
    stats,
};
use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_user,
        generated::bpf_get_attach_cookie,
    },
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use core::ptr;

use crate::{
    emit,
    maps::{EVENTS, count, hit},
};

/// At the call of `EVP_CIPHER_CTX_free` at the end of ticket decryption.
#[uprobe]
pub fn ticket_decided(context: ProbeContext) -> u32 {
    hit(hits::TICKET);
    // SAFETY: `context` is the program's own.
    let site = TicketSite::from_cookie(unsafe { bpf_get_attach_cookie(context.as_ptr()) });
    // Without a context there was no ticket to decrypt: an empty extension asks for one, and what
    // is shorter than a ticket is the name of an entry in a cache.
    let cipher_context = context.arg::<*const u64>(0).unwrap_or(ptr::null());
    if cipher_context.is_null() {
        return 0;
    }
    // The first field of EVP_CIPHER_CTX is its cipher, set once a key is chosen (crypto/evp,
    // OpenSSL 1.1.0 to 3.5).
    let cipher = read_user(cipher_context);
    let key_known = if cipher != 0 { TICKET_KEY_KNOWN } else { 0 };
    let session = site.session.map_or(0, |number| register(&context, number));
    report(site, key_known, session);
    0
}

/// At the return of `lookup_sess_in_cache`, with the session or null.
#[uretprobe]
pub fn session_looked_up(context: RetProbeContext) -> u32 {
    hit(hits::LOOKUP);
    // SAFETY: `context` is the program's own.
    let site = TicketSite::from_cookie(unsafe { bpf_get_attach_cookie(context.as_ptr()) });
    report(site, TICKET_LOOKUP, context.ret());
    0
}

/// Hands over what is known of the session at `session`, which may be null.
#[inline(always)]
fn report(site: TicketSite, flags: u32, session: u64) {
    let Some(mut entry) = EVENTS.reserve::<TicketEvent>(0) else {
        count(stats::LIBRARY_LOST_RING_FULL);
        return;
    };
    let mut event = TicketEvent {
        header: EventHeader {
            kind: KIND_TICKET,
            size: size_of::<TicketEvent>() as u32,
            // SAFETY: the helper has no preconditions.
            time_ns: unsafe { bpf_ktime_get_ns() },
        },
        pid_tgid: bpf_get_current_pid_tgid(),
        time: 0,
        timeout: 0,
        version: 0,
        flags,
    };
    if session != 0 {
        event.flags |= TICKET_SESSION;
        if site.nanoseconds {
            event.flags |= TICKET_NANOSECONDS;
        }
        if let Some(offset) = site.version_offset {
            event.version = read_user((session + u64::from(offset)) as *const u32);
        }
        if let Some(offset) = site.time_offset {
            event.time = read_user((session + u64::from(offset)) as *const u64);
        }
        if let Some(offset) = site.timeout_offset {
            event.timeout = read_user((session + u64::from(offset)) as *const u64);
        }
    }
    entry.write(event);
    emit::submit(entry);
    count(stats::LIBRARY_EVENTS);
}

/// A value of the process, zero where it cannot be read.
#[inline(always)]
fn read_user<T: Default>(address: *const T) -> T {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_user(address) }.unwrap_or_default()
}

/// The probed thread's register. The verifier only takes loads from the context at constant
/// offsets, hence one arm for each.
#[inline(always)]
fn register(context: &ProbeContext, register: Register) -> u64 {
    macro_rules! read {
        ($field:ident) => {
            // SAFETY: the context of a uprobe is its `pt_regs`. Volatile, so that the loads are
            // not merged into one with a computed offset.
            unsafe { ptr::read_volatile(&raw const (*context.regs).$field) }
        };
    }
    match register {
        0 => read!(rax),
        1 => read!(rdx),
        2 => read!(rcx),
        3 => read!(rbx),
        4 => read!(rsi),
        5 => read!(rdi),
        6 => read!(rbp),
        8 => read!(r8),
        9 => read!(r9),
        10 => read!(r10),
        11 => read!(r11),
        12 => read!(r12),
        13 => read!(r13),
        14 => read!(r14),
        15 => read!(r15),
        _ => 0,
    }
}
