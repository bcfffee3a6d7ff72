//! Names of the globals that user space sets before it loads the kernel half.

/// `u8`: 1 when `bpf_get_netns_cookie` is offered to cgroup_skb programs (6.15).
pub const NETNS_COOKIE: &str = "NETNS_COOKIE";
/// `u8`: 1 when `bpf_get_current_pid_tgid` is offered to cgroup_skb programs.
pub const CURRENT_PID: &str = "CURRENT_PID";
/// `u8`: 1 when the library tap is on, so that egress looks for the task's `SSL*`.
pub const LIBRARY_TAP: &str = "LIBRARY_TAP";
/// `u32`: of 2^32 connections, how many are followed beyond their handshake to the first response.
pub const FOLLOWED_SHARE: &str = "FOLLOWED_SHARE";
/// `u32`: offset of `se.sum_exec_runtime` in `task_struct`, bytes; 0 where it is not known.
pub const SUM_EXEC_RUNTIME: &str = "SUM_EXEC_RUNTIME";
/// `u32`: offset of `se.exec_start` in `task_struct`, bytes; 0 where it is not known.
pub const EXEC_START: &str = "EXEC_START";
/// `u32`: offset of `se.cfs_rq` in `task_struct`, bytes; 0 where one of these four is not known.
pub const RUN_QUEUE: &str = "RUN_QUEUE";
/// `u32`: offset of `rq` in `cfs_rq`, bytes.
pub const PROCESSOR_QUEUE: &str = "PROCESSOR_QUEUE";
/// `u32`: offset of `clock` in `rq`, bytes.
pub const CLOCK: &str = "CLOCK";
/// `u32`: offset of `clock_task` in `rq`, bytes.
pub const CLOCK_TASK: &str = "CLOCK_TASK";
/// `u8`: 1 where the scheduler's clocks of all processors show the same time.
pub const SAME_CLOCKS: &str = "SAME_CLOCKS";
/// `u32`: offset of `rcvq_space.time` in `tcp_sock`, bytes; 0 where it is not known, or
/// `bpf_skc_to_tcp_sock` is not offered to cgroup_skb programs.
pub const ESTABLISHED: &str = "ESTABLISHED";
/// `u64`: fill of the ring buffer, in bytes, from which on the reader is woken at once.
pub const WAKEUP_BYTES: &str = "WAKEUP_BYTES";
