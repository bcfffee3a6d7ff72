//! Resumetry's kernel half: it recognises handshakes, copies their bytes and counts what it could
//! not copy. It parses nothing beyond TCP headers and decides nothing: that is user space's work.
//!
//! `filter` and `packet` say which packets matter, `emit` hands them over, `probes` holds one file
//! a hook family. No program here can drop a packet: every cgroup program returns 1.
#![no_std]
#![no_main]

mod account;
mod emit;
mod filter;
mod maps;
mod packet;
mod probes;

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
