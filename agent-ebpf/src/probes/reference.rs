//! Programs that do nothing: what they cost is the price of the hook, and no work of ours. Only
//! benchmarks attach them.

use aya_ebpf::{macros::cgroup_skb, programs::SkBuffContext};

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
