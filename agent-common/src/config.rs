//! Names of the globals that user space sets before it loads the kernel half.

/// `u8`: 1 when `bpf_get_netns_cookie` is offered to cgroup_skb programs (6.15).
pub const NETNS_COOKIE: &str = "NETNS_COOKIE";
/// `u8`: 1 when `bpf_get_current_pid_tgid` is offered to cgroup_skb programs.
pub const CURRENT_PID: &str = "CURRENT_PID";
/// `u8`: 1 when the library tap is on, so that egress looks for the task's `SSL*`.
pub const LIBRARY_TAP: &str = "LIBRARY_TAP";
/// `u64`: fill of the ring buffer, in bytes, from which on the reader is woken at once.
pub const WAKEUP_BYTES: &str = "WAKEUP_BYTES";
