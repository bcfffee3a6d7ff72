//! Into the ring buffer: reserve, fill, submit, or count what could not be handed over.

use agent_common::{
    event::{SEGMENT_HELLO, SegmentEvent},
    limits, stats,
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::bpf_skb_load_bytes,
    maps::ring_buf::RingBufEntry,
};
use core::{mem::MaybeUninit, ptr};

use crate::maps::{EVENTS, WAKEUP_BYTES, count};

/// The ring buffer only takes records whose size is a constant, so pieces come in sizes.
#[repr(C)]
struct Record<const ROOM: usize> {
    event: SegmentEvent,
    data: MaybeUninit<[u8; ROOM]>,
}

/// Submits an entry. The reader polls; it is woken only when the buffer fills, because a wake-up
/// costs the observed server more than the event itself.
#[inline(always)]
pub fn submit<T>(entry: RingBufEntry<T>) {
    let flags = if EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= WAKEUP_BYTES.load() {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    entry.submit(u64::from(flags));
}

/// Hands over `event` and the `event.captured` bytes of the packet from `offset` on.
///
/// Not inlined: its frame would not fit on the callers' stack.
#[inline(never)]
pub fn segment(skb: *mut __sk_buff, event: &SegmentEvent, offset: u32) {
    let sent = match event.captured {
        0 => piece::<0>(skb, event, offset),
        1..=256 => piece::<256>(skb, event, offset),
        257..=1024 => piece::<1024>(skb, event, offset),
        1025..=2048 => piece::<2048>(skb, event, offset),
        _ => piece::<{ limits::PIECE_BYTES }>(skb, event, offset),
    };
    count(match sent {
        Ok(()) => stats::WIRE_EVENTS,
        Err(reason) => reason,
    });
}

/// The error is the counter that tells why.
#[inline(always)]
fn piece<const ROOM: usize>(
    skb: *mut __sk_buff,
    event: &SegmentEvent,
    offset: u32,
) -> Result<(), u32> {
    let Some(mut entry) = EVENTS.reserve::<Record<ROOM>>(0) else {
        return Err(stats::WIRE_LOST_RING_FULL);
    };
    let record = entry.as_mut_ptr();
    // SAFETY: `record` is reserved memory of this type; the event is written before it is read.
    unsafe { (&raw mut (*record).event).write(*event) };
    if ROOM != 0 && event.captured != 0 {
        // `captured` is 1 to ROOM here. The verifier only believes it when it sees the arithmetic,
        // and the volatile read keeps the compiler from proving it superfluous. ROOM is a power of
        // two.
        // SAFETY: the field is initialised and aligned.
        let captured = unsafe { ptr::read_volatile(&raw const event.captured) };
        let length = ((captured - 1) & (ROOM as u32 - 1)) + 1;
        // SAFETY: `length` is at most ROOM, the size of `data`.
        let loaded = unsafe {
            bpf_skb_load_bytes(skb.cast(), offset, (&raw mut (*record).data).cast(), length)
        };
        if loaded != 0 {
            entry.discard(0);
            return Err(stats::WIRE_LOST_LOAD);
        }
    }
    // Every connection has a ClientHello, and what fills the buffer is large: a look at these is
    // enough to wake the reader in time.
    if ROOM > 256 || event.flags & SEGMENT_HELLO != 0 {
        submit(entry);
    } else {
        entry.submit(u64::from(BPF_RB_NO_WAKEUP));
    }
    Ok(())
}
