//! Marks the map types as plain data for aya.

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
