//! The command line as typed: flags, their environment variables and their help.
//!
//! Each settings struct is declared once and read twice, by clap (flags and variables) and by
//! serde (the configuration file, keys spelled like the flags). Nothing here has a default:
//! what is not given stays empty, so that `config` can fill it from the file and only then
//! from the defaults. This module knows syntax only.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use serde::Deserialize;

use crate::config::otlp::{Attribute, Compression, Endpoint, Header, Protocol};
use crate::config::values::{
    AddressMask, Advice, ByteSize, Color, Format, Glob, Label, LogLevel, OverheadLimit, PcapFormat,
    ResultFilter, RoleFilter, ServerLog, Span, Taps,
};
use crate::probing::Version;
use top::TOP_EXAMPLES;
pub use top::{TopArgs, TopSettings};

mod top;

/// Watches every TLS handshake of this host: which connections resume, which do not, and why
#[derive(Debug, Parser)]
#[command(name = "resumetry", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: attach to the kernel, aggregate, serve /metrics, /healthz and /readyz
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Print one line for every finished handshake, live
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(Box<TraceArgs>),
    /// Show quota, time to first byte and CPU time of each server name on a full screen, live
    #[command(after_help = TOP_EXAMPLES)]
    Top(Box<TopArgs>),
    /// Print the handshakes in capture files: pcap and pcapng, gzipped or not; needs no privileges
    #[command(after_help = PCAP_EXAMPLES)]
    Pcap(PcapArgs),
    /// Connect to a server as a client: does it resume, what does that gain, and do all of its addresses
    /// accept each other's tickets
    #[command(after_help = PROBE_EXAMPLES)]
    Probe(ProbeArgs),
    /// Ask a running agent what of good ticket practice does not hold here, and what to do about it
    #[command(after_help = FINDINGS_EXAMPLES)]
    Findings(FindingsArgs),
    /// Say what this host allows, and what will therefore be seen
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Print what makes a shell complete commands and flags
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write a man page for each command, for packages
    #[command(hide = true, after_help = MAN_PAGES_EXAMPLES)]
    ManPages(ManPagesArgs),
}

#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub file: FileArgs,
    #[command(flatten)]
    pub capture: CaptureSettings,
    #[command(flatten)]
    pub run: RunSettings,
    #[command(flatten)]
    pub otlp: OtlpSettings,
}

#[derive(Debug, Args)]
pub struct TraceArgs {
    #[command(flatten)]
    pub file: FileArgs,
    #[command(flatten)]
    pub capture: CaptureSettings,
    #[command(flatten)]
    pub trace: TraceSettings,
}

#[derive(Debug, Args)]
pub struct PcapArgs {
    /// Capture files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// `text` for people, `json` for programs: one object a line; `summary` for what all of them come
    /// to [default: text]
    #[arg(long, value_name = "FORMAT", env = "RESUMETRY_FORMAT")]
    pub format: Option<PcapFormat>,

    /// How much of clients' addresses to show [default: full]
    #[arg(long, value_name = "HOW", env = "RESUMETRY_CLIENT_ADDRESS")]
    pub client_address: Option<AddressMask>,

    /// Mixed into the fingerprints of ticket keys; agents and files with the same salt can be compared
    #[arg(long, value_name = "TEXT", env = "RESUMETRY_FINGERPRINT_SALT")]
    pub fingerprint_salt: Option<String>,

    /// Colour the text: `auto` does so on a terminal, unless NO_COLOR is set [default: auto]
    #[arg(long, value_name = "WHEN", env = "RESUMETRY_COLOR")]
    pub color: Option<Color>,
}

#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// NAME, NAME:PORT or a URL of https
    pub target: String,

    /// Address to probe instead of those that the name stands for; repeat it, or separate several by
    /// commas. Each gets tickets of each other
    #[arg(
        long,
        value_name = "ADDR:PORT",
        env = "RESUMETRY_ADDRESS",
        value_delimiter = ','
    )]
    pub address: Vec<SocketAddr>,

    /// Full connections to each address, and as many that resume; 1 to 100 [default: 10]
    #[arg(long, value_name = "N", env = "RESUMETRY_CONNECTIONS",
          value_parser = clap::value_parser!(u16).range(1..=100))]
    pub connections: Option<u16>,

    /// Protocols to offer (ALPN), separated by commas; empty for none. Time to first byte is measured
    /// where the server selects HTTP/1.1, HTTP/3 or none [default: http/1.1, over QUIC h3]
    #[arg(long, value_name = "LIST", env = "RESUMETRY_ALPN")]
    pub alpn: Option<String>,

    /// The only version of TLS to offer [default: 1.2 and 1.3]
    #[arg(long, value_name = "VERSION", env = "RESUMETRY_TLS")]
    pub tls: Option<Version>,

    /// Over QUIC instead of TCP [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        env = "RESUMETRY_QUIC"
    )]
    pub quic: Option<bool>,

    /// Take any certificate [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        env = "RESUMETRY_INSECURE"
    )]
    pub insecure: Option<bool>,

    /// Longest wait for a connection, a handshake and a response each [default: 5s]
    #[arg(long, value_name = "TIME", env = "RESUMETRY_TIMEOUT")]
    pub timeout: Option<Span>,

    /// Time between two connections [default: 20ms]
    #[arg(long, value_name = "TIME", env = "RESUMETRY_PAUSE")]
    pub pause: Option<Span>,

    /// `text` for people, `json` for programs [default: text]
    #[arg(long, value_name = "FORMAT", env = "RESUMETRY_FORMAT")]
    pub format: Option<Format>,

    /// Mixed into the fingerprints of ticket keys, as in the agents that they are to be compared with
    #[arg(
        long,
        value_name = "TEXT",
        env = "RESUMETRY_FINGERPRINT_SALT",
        hide_env_values = true
    )]
    pub fingerprint_salt: Option<String>,
}

#[derive(Debug, Args)]
pub struct FindingsArgs {
    /// Where the agent answers; repeat it, or separate several by commas, to compare hosts as well
    /// [default: http://127.0.0.1:9650]
    #[arg(
        long,
        value_name = "URL",
        env = "RESUMETRY_URL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub url: Vec<String>,

    /// Trust the authorities in this file instead of those of the host
    #[arg(long, value_name = "FILE", env = "RESUMETRY_CA")]
    pub ca: Option<PathBuf>,

    /// Advice for which servers to print [default: those that the findings are about]
    #[arg(long, value_name = "SERVER", env = "RESUMETRY_ADVICE")]
    pub advice: Option<Advice>,

    /// Foretell the quota that tickets of this lifetime would have
    #[arg(long, value_name = "TIME", env = "RESUMETRY_LIFETIME")]
    pub lifetime: Option<Span>,

    /// `text` for people, `json` for programs [default: text]
    #[arg(long, value_name = "FORMAT", env = "RESUMETRY_FORMAT")]
    pub format: Option<Format>,
}

#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub file: FileArgs,
    #[command(flatten)]
    pub doctor: DoctorSettings,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    pub shell: Shell,
}

#[derive(Debug, Args)]
pub struct ManPagesArgs {
    /// Where they go
    pub directory: PathBuf,
}

#[derive(Debug, Args)]
pub struct FileArgs {
    /// TOML file with a key for every flag, spelled like the flag: `listen = "0.0.0.0:9650"`.
    /// A flag wins over its variable, the variable over the file
    #[arg(long, value_name = "FILE", env = "RESUMETRY_CONFIG")]
    pub config: Option<PathBuf>,
}

/// What to watch, and how; the same for every command that captures.
#[derive(Debug, Default, Args, Deserialize)]
#[command(next_help_heading = "Capture")]
#[serde(default, rename_all = "kebab-case")]
pub struct CaptureSettings {
    /// Where to look; a tap that is asked for by name must work, or the command fails
    /// [default: auto]
    #[arg(long, value_name = "TAPS", env = "RESUMETRY_TAPS")]
    pub taps: Option<Taps>,

    /// Watch only the processes under this cgroup (a directory in a cgroup2 mount) [default: the
    /// whole host]
    #[arg(long, value_name = "PATH", env = "RESUMETRY_CGROUP")]
    pub cgroup: Option<PathBuf>,

    /// Restrict the library tap to this process; repeat it, or separate several by commas
    #[arg(long, value_name = "PID", env = "RESUMETRY_PID", value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,

    /// Restrict the library tap to this libssl file; repeat it, or separate several by commas
    #[arg(
        long,
        value_name = "PATH",
        env = "RESUMETRY_LIBRARY",
        value_delimiter = ','
    )]
    pub library: Vec<PathBuf>,

    /// Constant label for every tls_* metric and every record, such as `pop=fra1`; repeat
    /// it, or separate several by commas
    #[arg(
        long,
        value_name = "NAME=VALUE",
        env = "RESUMETRY_LABEL",
        value_delimiter = ','
    )]
    pub label: Vec<Label>,

    /// Size of the ring buffer between kernel and agent: a power of two, such as `16MiB`
    /// [default: 8MiB]
    #[arg(long, value_name = "BYTES", env = "RESUMETRY_RING_BYTES")]
    pub ring_bytes: Option<ByteSize>,

    /// A handshake that stays silent this long has failed [default: 30s]
    #[arg(long, value_name = "TIME", env = "RESUMETRY_HANDSHAKE_TIMEOUT")]
    pub handshake_timeout: Option<Span>,

    /// Share of the time in which the library tap also watches the calls of the handshake itself,
    /// percent. They give the exact end of a handshake, and cost a server a few per cent of a
    /// connection while they are watched; what became of an offered ticket is always seen
    /// [default: 5 for `run`, 100 for `trace` and with --taps library or all]
    #[arg(long, value_name = "PERCENT", env = "RESUMETRY_HANDSHAKE_CALLS")]
    pub handshake_calls: Option<u8>,

    /// Share of the windows of --handshake-calls in which the cryptographic primitives of handshakes
    /// are timed as well, percent; with --handshake-calls 100, which is one window, 0 or 100. 20 is a
    /// hundredth of the time in `run`, and up to a tenth until the kernel has taken all of the probes
    /// out again; they cost a full handshake some 4 % while they are there
    /// [default: 0]
    #[arg(long, value_name = "PERCENT", env = "RESUMETRY_PRIMITIVES")]
    pub primitives: Option<u8>,

    /// Share of the connections that are followed beyond their handshake, to the first byte of the
    /// first response, percent: time to first byte is known of these
    /// [default: 10 for `run`, 100 for `trace` and `top`]
    #[arg(long, value_name = "PERCENT", env = "RESUMETRY_RESPONSES")]
    pub responses: Option<u8>,

    /// Most that watching may cost the servers, percent of the CPU time of the processes that make
    /// handshakes. Beyond it probes in TLS libraries are left out until their cost fits again: first
    /// those that give the exact end of handshakes, then those that tell why offers are refused.
    /// The wire tap stays, so that every handshake is still counted. `none` is no limit
    /// [default: 1 for `run`, 10 for `trace` and `top`]
    #[arg(long, value_name = "PERCENT", env = "RESUMETRY_MAX_OVERHEAD")]
    pub max_overhead: Option<OverheadLimit>,

    /// Salt of the ticket-key fingerprints; the same on every host whose keys you want to compare.
    /// Prefer the variable or the file: a command line is visible to every user of the host
    /// [default: resumetry]
    #[arg(
        long,
        value_name = "TEXT",
        env = "RESUMETRY_FINGERPRINT_SALT",
        hide_env_values = true
    )]
    pub fingerprint_salt: Option<String>,

    /// Try whether the keys of accepted tickets are zeros or otherwise easily guessed, each key
    /// once; only the verdict is kept (`resumption.ticket.weak_key`, tls_ticket_key_weak). Tickets
    /// stay in memory until their connection's record is made [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        env = "RESUMETRY_CHECK_WEAK_KEYS"
    )]
    pub check_weak_keys: Option<bool>,

    /// How much of client addresses records show [default: full]
    #[arg(long, value_name = "HOW", env = "RESUMETRY_CLIENT_ADDRESS")]
    pub client_address: Option<AddressMask>,

    /// Least severe message to log on stderr [default: info]
    #[arg(long, value_name = "LEVEL", env = "RESUMETRY_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,

    /// Name of this node, for the Kubernetes API; in a pod by the downward API (spec.nodeName). Pods
    /// are named where this runs in one whose service account may list and watch pods
    /// [default: the name of the host]
    #[arg(long, value_name = "NAME", env = "RESUMETRY_KUBERNETES_NODE")]
    pub kubernetes_node: Option<String>,

    /// How to reach the Kubernetes API, on a node where this runs in no pod [default: as pods do]
    #[arg(long, value_name = "FILE", env = "RESUMETRY_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,

    /// Label of the pod that serves a connection, such as app.kubernetes.io/version: for its tls_*
    /// metrics and records; repeat it, or separate several by commas
    #[arg(
        long,
        value_name = "NAME",
        env = "RESUMETRY_POD_LABEL",
        value_delimiter = ','
    )]
    pub pod_label: Vec<String>,

    /// Write every raw kernel event to this file, for `cargo xtask bench pipeline`
    #[arg(
        long,
        value_name = "FILE",
        env = "RESUMETRY_RECORD_EVENTS",
        hide = true
    )]
    pub record_events: Option<PathBuf>,
}

#[derive(Debug, Default, Args, Deserialize)]
#[command(next_help_heading = "Metrics")]
#[serde(default, rename_all = "kebab-case")]
pub struct RunSettings {
    /// Address of /metrics. Loopback unless told otherwise, because the metrics name every host
    /// that is served here; 0.0.0.0:9650 opens it to the network
    /// [default: 127.0.0.1:9650]
    #[arg(long, value_name = "ADDR:PORT", env = "RESUMETRY_LISTEN")]
    pub listen: Option<SocketAddr>,

    /// Who may read the metrics, and over TLS: a file in the form of Prometheus' web configuration
    /// (tls_server_config, basic_auth_users) [default: anybody, without TLS]
    #[arg(long, value_name = "FILE", env = "RESUMETRY_WEB_CONFIG")]
    pub web_config: Option<PathBuf>,

    /// Server names that get series of their own; the rest is `_other` [default: 1000]
    #[arg(long, value_name = "N", env = "RESUMETRY_MAX_SERVER_NAMES")]
    pub max_server_names: Option<u32>,

    /// Server names that get histograms of their own; the rest is `_other` [default: 100]
    #[arg(long, value_name = "N", env = "RESUMETRY_HISTOGRAM_SERVER_NAMES")]
    pub histogram_server_names: Option<u32>,

    /// A series without a handshake for this long goes away [default: 1h]
    #[arg(long, value_name = "TIME", env = "RESUMETRY_SERIES_TTL")]
    pub series_ttl: Option<Span>,

    /// The resumption quota that is aimed at, per cent: a server name below it is a finding [default: 90]
    #[arg(long, value_name = "PERCENT", env = "RESUMETRY_QUOTA_TARGET",
          value_parser = clap::value_parser!(u8).range(1..=99))]
    pub quota_target: Option<u8>,

    /// A ticket key that issues tickets for longer is a finding [default: 24h]
    #[arg(long, value_name = "TIME", env = "RESUMETRY_KEY_MAX_AGE")]
    pub key_max_age: Option<Span>,
}

#[derive(Debug, Default, Args, Deserialize)]
#[command(next_help_heading = "OTLP")]
#[serde(default, rename_all = "kebab-case")]
pub struct OtlpSettings {
    /// Push metrics to this OpenTelemetry receiver as well, such as http://collector:4318; over HTTP
    /// /v1/metrics and /v1/logs are appended [default: push nothing]
    #[arg(long, value_name = "URL", env = "RESUMETRY_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<Endpoint>,

    /// How the receiver is spoken to [default: http/protobuf]
    #[arg(long, value_name = "PROTOCOL", env = "RESUMETRY_OTLP_PROTOCOL")]
    pub otlp_protocol: Option<Protocol>,

    /// Header of every request, such as `authorization=Bearer …`; repeat it, or separate several by
    /// commas. Prefer the variable or the file: a command line is visible to every user of the host
    #[arg(
        long,
        value_name = "NAME=VALUE",
        env = "RESUMETRY_OTLP_HEADER",
        hide_env_values = true,
        value_delimiter = ','
    )]
    pub otlp_header: Vec<Header>,

    /// Certificates (PEM) of the authorities that the receiver's own is verified by
    /// [default: those of this host]
    #[arg(long, value_name = "FILE", env = "RESUMETRY_OTLP_CA")]
    pub otlp_ca: Option<PathBuf>,

    /// How requests are compressed [default: gzip]
    #[arg(long, value_name = "HOW", env = "RESUMETRY_OTLP_COMPRESSION")]
    pub otlp_compression: Option<Compression>,

    /// Time between two exports of the metrics [default: 1m]
    #[arg(long, value_name = "TIME", env = "RESUMETRY_OTLP_INTERVAL")]
    pub otlp_interval: Option<Span>,

    /// An attempt to send takes no longer [default: 10s]
    #[arg(long, value_name = "TIME", env = "RESUMETRY_OTLP_TIMEOUT")]
    pub otlp_timeout: Option<Span>,

    /// Send one log record a handshake too, with the fields of `trace --format json`
    /// [default: false]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        env = "RESUMETRY_OTLP_LOGS"
    )]
    pub otlp_logs: Option<bool>,

    /// Attribute of the resource, such as deployment.environment.name=production; repeat it, or
    /// separate several by commas. Labels of --label are there already
    #[arg(
        long,
        value_name = "NAME=VALUE",
        env = "RESUMETRY_OTLP_ATTRIBUTE",
        value_delimiter = ','
    )]
    pub otlp_attribute: Vec<Attribute>,
}

#[derive(Debug, Default, Args, Deserialize)]
#[command(next_help_heading = "Output")]
#[serde(default, rename_all = "kebab-case")]
pub struct TraceSettings {
    /// `text` for people, `json` for programs: one object a line [default: text]
    #[arg(long, value_name = "FORMAT", env = "RESUMETRY_FORMAT")]
    pub format: Option<Format>,

    /// Only server names that match, `*` and `?` stand for any; `_none` is no name at all
    #[arg(long, value_name = "GLOB", env = "RESUMETRY_SERVER_NAME")]
    pub server_name: Option<Glob>,

    /// Only handshakes of this service: a systemd unit without `.service`, or an executable's name
    #[arg(long, value_name = "NAME", env = "RESUMETRY_SERVICE")]
    pub service: Option<String>,

    /// Only handshakes that ended so
    #[arg(long, value_name = "RESULT", env = "RESUMETRY_RESULT")]
    pub result: Option<ResultFilter>,

    /// Only handshakes in which the process on this host has this role
    #[arg(long, value_name = "ROLE", env = "RESUMETRY_ROLE")]
    pub role: Option<RoleFilter>,

    /// End after this many lines
    #[arg(long, value_name = "N", env = "RESUMETRY_COUNT")]
    pub count: Option<NonZeroU64>,

    /// Hold what is seen against the log of a server, nginx=PATH; the log needs a format with the ports in
    /// it, which is said where it lacks them. Exits 1 when they differ
    #[arg(long, value_name = "SERVER=PATH", env = "RESUMETRY_VERIFY")]
    pub verify: Option<ServerLog>,

    /// Colour the text: `auto` does so on a terminal, unless NO_COLOR is set [default: auto]
    #[arg(long, value_name = "WHEN", env = "RESUMETRY_COLOR")]
    pub color: Option<Color>,
}

#[derive(Debug, Default, Args, Deserialize)]
#[command(next_help_heading = "Output")]
#[serde(default, rename_all = "kebab-case")]
pub struct DoctorSettings {
    /// `text` for people, `json` for programs [default: text]
    #[arg(long, value_name = "FORMAT", env = "RESUMETRY_FORMAT")]
    pub format: Option<Format>,

    /// Colour the text: `auto` does so on a terminal, unless NO_COLOR is set [default: auto]
    #[arg(long, value_name = "WHEN", env = "RESUMETRY_COLOR")]
    pub color: Option<Color>,
}

const EXAMPLES: &str = "\
Examples:
  sudo resumetry doctor          what this host allows
  sudo resumetry trace           every handshake as it happens
  sudo resumetry top             what they come to by server name, on a full screen
  sudo resumetry run             the daemon; metrics on http://127.0.0.1:9650/metrics

Exit codes: 0 fine, 1 it failed, 2 wrong usage.";

const RUN_EXAMPLES: &str = "\
Examples:
  sudo resumetry run
  sudo resumetry run --listen 0.0.0.0:9650 --label pop=fra1 --label tier=edge
  sudo resumetry run --otlp-endpoint http://collector:4317 --otlp-protocol grpc --otlp-logs
  sudo RESUMETRY_TAPS=wire resumetry run --config /etc/resumetry.toml";

const TRACE_EXAMPLES: &str = "\
Examples:
  sudo resumetry trace
  sudo resumetry trace --server-name '*.example.com' --result full
  sudo resumetry trace --format json --count 100 | jq .resumption
  sudo resumetry trace --verify nginx=/var/log/nginx/resumetry.log";

const PCAP_EXAMPLES: &str = "\
Examples:
  resumetry pcap edge.pcapng
  resumetry pcap --format summary monday.pcap.gz tuesday.pcap.gz
  tcpdump -w - 'tcp port 443' | resumetry pcap --format json - | jq .resumption";

const PROBE_EXAMPLES: &str = "\
Examples:
  resumetry probe www.example.com
  resumetry probe www.example.com --quic
  resumetry probe www.example.com --address 192.0.2.1:443 --address 192.0.2.2:443 --tls 1.3
  resumetry probe www.example.com --format json | jq .findings

Exits 0 when every resumption that a ticket allowed took place, 1 when one did not or an address could not
be tested.";

const FINDINGS_EXAMPLES: &str = "\
Examples:
  resumetry findings
  resumetry findings --advice nginx --lifetime 8h
  resumetry findings --url http://edge-1:9650 --url http://edge-2:9650
  resumetry findings --format json | jq '.findings[] | select(.severity == \"error\")'

Exits 0 where no finding of severity `error` stands, 1 where one does or an agent does not answer.";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  resumetry completions bash > /usr/share/bash-completion/completions/resumetry";

const MAN_PAGES_EXAMPLES: &str = "\
Examples:
  resumetry man-pages target/package/man";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  sudo resumetry doctor
  sudo resumetry doctor --format json | jq '.checks[] | select(.state != \"ok\")'

Exits 0 when the wire tap can work here, else 1.";
