//! What only user space wants of the kernel's interface: the mark that map types are plain data for aya, and
//! the state of the host's clock.

use crate::{
    call::Call,
    flow::{FlowKey, FlowState},
};

// SAFETY: repr(C), integers only, no padding the compiler could leave uninitialised (checked by
// the size assertions beside the types); every bit pattern is valid.
unsafe impl aya::Pod for FlowKey {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowState {}
// SAFETY: as above.
unsafe impl aya::Pod for Call {}

/// Whether the kernel says that the host's clock is synchronised (adjtimex(2), `STA_UNSYNC`); `None` where it
/// does not tell.
pub fn clock_is_synchronised() -> Option<bool> {
    // SAFETY: integers only, of which all zeros are valid; `modes` of 0 asks and changes nothing.
    let mut clock: libc::timex = unsafe { core::mem::zeroed() };
    // SAFETY: the pointer is to a live `timex` of our own, which the call fills.
    let state = unsafe { libc::adjtimex(&raw mut clock) };
    (state >= 0).then_some(clock.status & libc::STA_UNSYNC == 0)
}
