//! What the kernel counts of TCP in the network namespace of the calling thread.

use anyhow::{Context, Result};

/// A counter of `/proc/net/netstat` (`TcpExt`) or `/proc/net/snmp` (`Tcp`) so far.
pub fn tcp(name: &str) -> Result<u64> {
    for (file, group) in [("netstat", "TcpExt: "), ("snmp", "Tcp: ")] {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}"))?;
        let mut lines = text.lines().filter(|line| line.starts_with(group));
        let (names, values) = lines
            .next()
            .zip(lines.next())
            .with_context(|| format!("{file} has no {group}"))?;
        let mut pairs = names.split(' ').zip(values.split(' '));
        if let Some((_, value)) = pairs.find(|(candidate, _)| *candidate == name) {
            return Ok(value.parse()?);
        }
    }
    None.with_context(|| format!("the kernel counts no {name}"))
}
