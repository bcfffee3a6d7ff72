//! A link that delivers out of order and twice: a TUN device whose packets come back shuffled.
//!
//! The kernel's TCP runs at both ends. A client connects from [`CLIENT`] to [`FAR`]; the relay
//! turns that into a connection from [`NEAR`] to the server's address, which is [`CLIENT`] as well.
//! Needs a network namespace of its own.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::rng::Rng;

/// The address of the host, for clients and servers.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Where clients connect to.
pub const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
/// Where the server sees clients come from.
pub const NEAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);

/// The smallest MTU a host must take (RFC 791): server flights take several segments as well.
const MTU: &str = "576";

/// Packets that arrive within this time are delivered in random order.
const WINDOW: Duration = Duration::from_millis(2);

/// Sets up loopback and the disorderly link in the current network namespace.
pub fn start(seed: u64) -> Result<()> {
    let device = Arc::new(DeviceBuilder::new().name("disorder0").build_sync()?);
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "set", "disorder0", "mtu", MTU, "up"])?;
    ip(&[
        "address",
        "add",
        &format!("{CLIENT}/24"),
        "dev",
        "disorder0",
    ])?;
    let (sender, receiver) = mpsc::channel();
    let reader = Arc::clone(&device);
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(length) = reader.recv(&mut buffer) {
            if sender.send(buffer[..length].to_vec()).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || deliver(&receiver, &device, Rng::new(seed)));
    Ok(())
}

/// Segments that the kernel's TCP of this namespace received ahead of their turn so far.
pub fn out_of_order() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat")?;
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = lines
        .next()
        .zip(lines.next())
        .context("no TcpExt counters")?;
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, value) = pairs
        .find(|(name, _)| *name == "TCPOFOQueue")
        .context("no TCPOFOQueue")?;
    Ok(value.parse()?)
}

fn deliver(packets: &Receiver<Vec<u8>>, device: &SyncDevice, mut rng: Rng) {
    while let Ok(first) = packets.recv() {
        let mut batch = vec![first];
        while let Ok(next) = packets.recv_timeout(WINDOW) {
            batch.push(next);
        }
        let mut batch: Vec<_> = batch.into_iter().filter_map(translate).collect();
        for index in 0..batch.len() {
            if rng.one_in(4) {
                batch.push(batch[index].clone());
            }
        }
        rng.shuffle(&mut batch);
        for packet in batch {
            // A full queue loses the packet, as links do; TCP sends it again.
            let _ = device.send(&packet);
        }
    }
}

/// Gives an IPv4 TCP packet the addresses of the other side; `None` for anything else.
fn translate(mut packet: Vec<u8>) -> Option<Vec<u8>> {
    const TCP: u8 = 6;
    let header = usize::from(packet.first()? & 0xf) * 4;
    if packet[0] >> 4 != 4 || packet.len() < header + 20 || packet[9] != TCP {
        return None;
    }
    let to = <[u8; 4]>::try_from(&packet[16..20]).ok()?;
    let (source, destination) = match Ipv4Addr::from(to) {
        FAR => (NEAR, CLIENT),
        NEAR => (FAR, CLIENT),
        _ => return None,
    };
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&destination.octets());
    packet[10..12].fill(0);
    let checksum = !fold(sum(&packet[..header]));
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    // The pseudo header (RFC 9293, 3.1): addresses, protocol, length.
    let (head, segment) = packet.split_at_mut(header);
    segment[16..18].fill(0);
    let pseudo = sum(&head[12..20]) + u32::from(TCP) + segment.len() as u32;
    let checksum = !fold(pseudo + sum(segment));
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    Some(packet)
}

/// Sum of 16-bit words (RFC 1071). 64 KiB of them fit 32 bits.
fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| {
            u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]))
        })
        .sum()
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if !output.status.success() {
        bail!(
            "ip {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
