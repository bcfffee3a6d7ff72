//! Loopback ports, chosen so that concurrent runs do not meet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// The kernel's range for outgoing connections starts at 32768 (`ip_local_port_range`); a listener
/// below it cannot collide with anybody's outgoing connection.
const LISTENERS: std::ops::Range<u32> = 20_000..29_000;

/// A port that is free on `127.0.0.1` and `[::1]` now. Ports are handed out once per process; the
/// start depends on the process id so that parallel test binaries begin at different places.
pub fn free() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let span = LISTENERS.end - LISTENERS.start;
    let start = std::process::id().wrapping_mul(97) % span;
    for _ in 0..span {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % span;
        let port = (LISTENERS.start + offset) as u16;
        let free = |address: SocketAddr| TcpListener::bind(address).is_ok();
        if free((Ipv4Addr::UNSPECIFIED, port).into()) && free((IpAddr::from([0; 16]), port).into())
        {
            return Ok(port);
        }
    }
    None.context("no free loopback port")
}
