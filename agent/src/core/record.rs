//! The handshake record: what is known of one TLS handshake, in the words of the contract.
//!
//! It holds values, and the word of each value of a closed set, which is the same in JSON, text and
//! labels. How a record is written is the exporters' business.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use agent_common::primitive;

use super::answer::Answer;

/// Which end of the connection the observed process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Server,
    Client,
    /// Neither: a capture file.
    Observer,
}

impl Role {
    /// `role`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Observer => "observer",
        }
    }
}

/// Transport under TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    Tcp,
    Quic,
}

impl Transport {
    /// `network.transport`, and the label `transport`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        }
    }
}

/// `resumption.offered`, `resumption.method`: a way to resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    None,
    SessionId,
    Ticket,
    Psk,
}

impl Method {
    /// The word in JSON, and the label `offered`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SessionId => "session_id",
            Self::Ticket => "ticket",
            Self::Psk => "psk",
        }
    }
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Full,
    Resumed,
    Failed,
}

impl Outcome {
    /// Place of a completed handshake in a pair of full and resumed ones; `None` of one that failed.
    pub const fn place(self) -> Option<usize> {
        match self {
            Self::Full => Some(0),
            Self::Resumed => Some(1),
            Self::Failed => None,
        }
    }

    /// The label `result`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Failed => "failed",
        }
    }
}

/// Why a handshake did not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Failure {
    /// An alert, see [`Handshake::alert`].
    Alert,
    /// TCP RST before the handshake was done.
    Reset,
    /// TCP FIN before the handshake was done.
    Closed,
    /// Nothing more came.
    Timeout,
    /// Bytes that are no TLS after the ClientHello, or that break the protocol.
    Malformed,
    /// The capture ends first; what the server selected is known.
    Unfinished,
}

impl Failure {
    /// `tls.failure`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Unfinished => "unfinished",
        }
    }
}

/// `resumption.reject_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    KeyUnknown,
    TicketCorrupt,
    Expired,
    ParametersChanged,
    CacheMiss,
    NotSupported,
    Unknown,
}

impl RejectReason {
    pub const ALL: [Self; 7] = [
        Self::KeyUnknown,
        Self::TicketCorrupt,
        Self::Expired,
        Self::ParametersChanged,
        Self::CacheMiss,
        Self::NotSupported,
        Self::Unknown,
    ];

    /// `resumption.reject_reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyUnknown => "key_unknown",
            Self::TicketCorrupt => "ticket_corrupt",
            Self::Expired => "expired",
            Self::ParametersChanged => "parameters_changed",
            Self::CacheMiss => "cache_miss",
            Self::NotSupported => "not_supported",
            Self::Unknown => "unknown",
        }
    }
}

/// Where a figure or verdict comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Seen inside the TLS library.
    Library,
    /// Inferred from clear-text bytes.
    Wire,
}

impl Source {
    /// `resumption.reject_source`, `timing.sources`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Wire => "wire",
        }
    }
}

/// An alert that was visible in clear text, or inferred from the size of an encrypted record
/// (then `description` is `None`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// AlertLevel (RFC 8446, 6): 1 warning, 2 fatal; `None` when encrypted.
    pub level: Option<u8>,
    /// AlertDescription (RFC 8446, 6.2); `None` when encrypted.
    pub description: Option<u8>,
    /// True when the observed process sent it.
    pub sent: bool,
}

/// `direction` of an alert, seen from the observed process.
pub const fn alert_direction(sent: bool) -> &'static str {
    if sent { "sent" } else { "received" }
}

/// `SSL`-level version as a wire code point: 0x0300 … 0x0304.
pub type Version = u16;

/// The process that serves (or opens) the connection.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Process {
    pub pid: u32,
    /// Base name of the executable.
    pub executable: Option<String>,
    /// systemd unit without `.service`, else the executable's base name.
    pub service: Option<String>,
    pub container_id: Option<String>,
    /// The pod that it runs in, where Kubernetes told.
    pub pod: Option<Arc<Pod>>,
}

/// A pod of Kubernetes, as far as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
    /// Name of the container in the pod; the kubelet tells it a little after the container started.
    pub container: Option<String>,
    /// Kind and name of what made the pod: a Deployment, a StatefulSet, …
    pub workload: Option<(String, String)>,
    /// Labels of the pod that were asked for (`--pod-label`), under names that Prometheus takes.
    pub labels: Vec<(String, String)>,
}

/// What the process table of user space may add; the core passes the number through.
pub type ProcessId = u32;

/// Everything known of one handshake. `None` is "not known", never "no".
#[derive(Clone, Debug, PartialEq)]
pub struct Handshake {
    /// CLOCK_MONOTONIC (or capture) time of the first byte of the ClientHello, nanoseconds.
    pub client_hello_ns: u64,
    pub role: Role,
    pub transport: Transport,
    /// The announced client behind PROXY protocol, else the peer.
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// The TCP peer where `client` was announced by PROXY protocol.
    pub peer: Option<SocketAddr>,
    /// Cookie of the network namespace; 0 where not known.
    pub netns: u64,
    /// Process id (tgid) of the observed end.
    pub pid: Option<ProcessId>,

    pub established: bool,
    pub failure: Option<Failure>,
    pub resumed: bool,
    /// Selected version; `None` where no ServerHello came.
    pub version: Option<Version>,
    /// Selected cipher suite (IANA code point).
    pub cipher: Option<u16>,
    /// Selected named group (IANA code point), where visible.
    pub group: Option<u16>,
    /// Selected ALPN protocol, lossless UTF-8 only, where visible.
    pub next_protocol: Option<String>,
    /// SNI host name in lower case; `None` when there was none.
    pub server_name: Option<ServerName>,
    /// ALPN protocols offered.
    pub supported_protocols: Vec<String>,
    pub ech_offered: bool,
    pub hello_retry: bool,
    pub alert: Option<Alert>,
    /// Body length of the server's Certificate message; TLS 1.2 and older only.
    pub certificate_chain_bytes: Option<u32>,
    pub ocsp_stapled: Option<bool>,
    /// The client asked for a stapled OCSP response (RFC 6066, 8).
    pub asks_for_status: bool,
    /// The client understands tickets of TLS 1.2 (RFC 5077), whether it offers one or not.
    pub takes_tickets: bool,
    /// The client would speak TLS 1.3.
    pub offers_tls13: bool,
    /// The client would take an ECDSA certificate up to TLS 1.2.
    pub offers_ecdsa: bool,

    pub offered: Method,
    /// What the server accepted.
    pub method: Method,
    pub reject_reason: Option<RejectReason>,
    pub reject_source: Option<Source>,
    /// The reason as inferred from the wire alone, also where the library knows it.
    pub wire_reason: Option<RejectReason>,
    /// Fingerprint of the name of the offered ticket's key; `None` where the ticket is not known
    /// to name one. Never the ticket itself.
    pub ticket_key: Option<u32>,
    /// The key of the accepted ticket can be guessed; `None` where that was not tried.
    pub weak_key: Option<bool>,
    /// Length of the offered ticket, bytes.
    pub ticket_bytes: Option<u32>,
    /// Age of the session in the offered ticket, nanoseconds; where the server's library read it.
    pub ticket_age_ns: Option<u64>,
    /// How long the server keeps that session, nanoseconds.
    pub ticket_lifetime_ns: Option<u64>,
    pub tickets_issued: Option<u32>,
    /// Tickets of TLS 1.3 that the server sent with the end of its handshake; they are encrypted, so their
    /// number is known only where that moment is, and the response was followed.
    pub tickets_sent: Option<u32>,
    /// Fingerprint of the key of the ticket that the server issued, like `ticket_key`; TLS 1.2 and
    /// older only.
    pub issued_key: Option<u32>,
    /// How long the server promises to accept that ticket, nanoseconds.
    pub issued_lifetime_ns: Option<u64>,

    /// The server gave the client something to resume by: a session ID, or the promise of a
    /// ticket; always true in TLS 1.3, where that is encrypted.
    pub offers_resumption: bool,
    /// Hash of the session ID that the client offered (TLS ≤ 1.2). For inference; never shown.
    pub offered_session_id: Option<u64>,
    /// Hash of the offered ticket, to know it again. Never shown.
    pub offered_ticket: Option<u64>,
    /// The same ticket was offered on this host lately.
    pub ticket_reoffered: bool,
    /// Hash of the session ID that the server assigned in a full handshake (TLS ≤ 1.2).
    pub issued_session_id: Option<u64>,

    pub early_data_offered: bool,
    /// Early data that was offered was seen on the wire.
    pub early_data_sent: Option<bool>,
    pub early_data_accepted: Option<bool>,

    /// TCP established to first byte of the ClientHello, nanoseconds.
    pub established_to_client_hello_ns: Option<u64>,
    /// First byte of the ClientHello to the end of the handshake at the server, nanoseconds.
    pub handshake_ns: Option<u64>,
    /// Where `handshake_ns` comes from.
    pub handshake_source: Option<Source>,
    /// TCP established to the first byte of the response, as the client sees it, nanoseconds; see
    /// `core::response`.
    pub time_to_first_byte_ns: Option<u64>,
    /// Where `time_to_first_byte_ns` comes from.
    pub time_to_first_byte_source: Option<Source>,
    /// The end of the request to the first byte of the response, as the observed process sees it,
    /// nanoseconds: at a server, the time it thought.
    pub response_wait_ns: Option<u64>,
    /// What the server sent behind the handshake, until it is judged; never shown.
    pub answer: Option<Box<Answer>>,
    /// On-CPU time of the serving thread inside the calls of the handshake, nanoseconds.
    pub cpu_ns: Option<u64>,
    /// The same by cryptographic primitive (`agent_common::primitive`), where all were timed; their
    /// probes are in `cpu_ns` then.
    pub primitives_ns: Option<[u64; primitive::COUNT]>,
    /// What resuming spared, or what a refused offer to resume lost, against what full and resumed
    /// handshakes of the same service cost; see `core::savings`.
    pub spared: Option<Spared>,
    /// HTTP/2 is spoken, as far as its signs in the handshake tell. For `core::response`; never shown.
    pub http2: Option<bool>,
    /// Smoothed TCP round trip at the end of the handshake, nanoseconds.
    pub rtt_ns: Option<u64>,
    /// Handshake bytes (TCP payload up to the end of the handshake) by end.
    pub client_bytes: u64,
    pub server_bytes: u64,
}

/// What a resumed handshake spares server and user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spared {
    /// Time to first byte, nanoseconds.
    pub wait_ns: Option<u64>,
    /// On-CPU time of the serving thread, nanoseconds.
    pub cpu_ns: Option<u64>,
}

/// A server name as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerName {
    /// A valid host name (RFC 6066, 3; LDH labels and underscore), lower case.
    Host(Box<str>),
    /// Something else stood in the extension; its bytes are not kept.
    Invalid,
}

impl Handshake {
    /// Full, resumed or failed.
    pub fn outcome(&self) -> Outcome {
        match (self.established, self.resumed) {
            (false, _) => Outcome::Failed,
            (true, true) => Outcome::Resumed,
            (true, false) => Outcome::Full,
        }
    }

    /// On-CPU time, where no probe on a primitive was part of it.
    pub fn plain_cpu_ns(&self) -> Option<u64> {
        self.cpu_ns.filter(|_| self.primitives_ns.is_none())
    }

    /// Address of the observed process's end.
    pub fn local(&self) -> IpAddr {
        match self.role {
            Role::Client => self.client.ip(),
            Role::Server | Role::Observer => self.server.ip(),
        }
    }
}
