//! Types that cross from the kernel half to user space, and what both halves tell in the same way.
//!
//! ABI rules: `repr(C)`, fixed-width integers only, explicit zeroed padding, a size assertion for
//! every struct. An event kind is never reused for another meaning.
#![no_std]

pub mod call;
pub mod config;
pub mod dtls;
pub mod event;
pub mod flow;
pub mod hits;
pub mod limits;
pub mod primitive;
pub mod quic;
pub mod site;
pub mod stats;
pub mod upgrade;
#[cfg(feature = "user")]
pub mod user;
