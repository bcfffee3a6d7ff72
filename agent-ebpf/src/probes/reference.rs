//! Programs that do nothing: what they cost is the price of the hook, and no work of ours.
//! Benchmarks attach those of the wire tap's hook; the agent itself, for a moment at its start, those
//! of the library tap's, to a function of its own.

use aya_ebpf::{
    macros::{cgroup_skb, uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext, SkBuffContext},
};

/// Received packets.
#[cgroup_skb(ingress)]
pub fn empty_ingress(_context: SkBuffContext) -> i32 {
    1
}

/// Sent packets.
#[cgroup_skb(egress)]
pub fn empty_egress(_context: SkBuffContext) -> i32 {
    1
}

/// A trap.
#[uprobe]
pub fn empty_uprobe(_context: ProbeContext) -> u32 {
    0
}

/// A trap at the entry of a function, which puts another one at its return.
#[uretprobe]
pub fn empty_uretprobe(_context: RetProbeContext) -> u32 {
    0
}
