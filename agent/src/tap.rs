//! The taps, by name: what the probes attach is what the metrics count.

/// A group of probes that is chosen, reported and counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tap {
    /// Packets at the root of the cgroup hierarchy: `cgroup_skb`, both directions.
    Wire,
    /// Functions of TLS libraries: uprobes.
    Library,
    /// TCP connections that are established: `sock_ops`.
    Socket,
}

impl Tap {
    /// Every tap. `tap as usize` is its place here.
    pub const ALL: [Self; 3] = [Self::Wire, Self::Library, Self::Socket];

    /// The name in metrics, messages and `--taps`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Library => "library",
            Self::Socket => "socket",
        }
    }
}
