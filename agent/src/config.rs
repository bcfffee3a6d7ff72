//! From arguments as typed to a configuration that is known to be sound.
//!
//! Precedence: flag, then environment variable (both already settled by clap), then the TOML
//! file of `--config`, then the default. The defaults stand here and nowhere else.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_common::limits::RING_BYTES;
use clap_complete::Shell;

use crate::cli::{
    CaptureSettings, Cli, DoctorSettings, OtlpSettings, RunSettings, TopSettings, TraceSettings,
};
use crate::core::aggregate::labels::label_name;
use crate::core::record::{Outcome, Role};
use crate::host::kubernetes::KubernetesConfig;
use crate::output::filter::Filter;
use crate::probing::TargetError;
use crate::remote::AgentUrlError;
use file::{ConfigFile, FileError};
pub use findings::FindingsConfig;
use probe::MOST_CONNECTIONS;
pub use probe::ProbeConfig;
use top::LEAST_INTERVAL;
pub use top::TopConfig;
use values::{
    AddressMask, ByteSize, Color, Demand, Format, Label, LogLevel, OverheadLimit, PcapFormat,
    ResultFilter, RoleFilter, ServerLog, Span, Taps,
};

mod file;
mod findings;
pub mod otlp;
mod probe;
mod top;
pub mod values;

/// Where /metrics is served unless told otherwise.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9650);
const DEFAULT_MAX_SERVER_NAMES: u32 = 1_000;
const DEFAULT_HISTOGRAM_SERVER_NAMES: u32 = 100;
const DEFAULT_SERIES_TTL: Duration = Duration::from_secs(3_600);

/// Per cent.
const DEFAULT_QUOTA_TARGET: u8 = 90;

const DEFAULT_KEY_MAX_AGE: Duration = Duration::from_secs(86_400);
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// `--handshake-calls` of the daemon, percent: what is watched all day must cost next to nothing.
const DEFAULT_HANDSHAKE_CALLS: u8 = 5;
/// `--responses` of the daemon, percent, for the same reason.
const DEFAULT_RESPONSES: u8 = 10;
/// `--primitives`: the kernel takes seconds to remove some sixty probes, which servers run into meanwhile,
/// so nobody gets them unasked.
const DEFAULT_PRIMITIVES: u8 = 0;
const ALL: u8 = 100;
/// `--max-overhead` of the daemon.
const DEFAULT_MAX_OVERHEAD: OverheadLimit = OverheadLimit::percent(1);
/// `--max-overhead` where somebody looks, and wants to see what was asked for: above what all probes
/// together cost the server that suffers most, so that it guards only against what nobody foresaw.
const TRACE_MAX_OVERHEAD: OverheadLimit = OverheadLimit::percent(10);

/// What differs between commands where the user did not choose.
#[derive(Clone, Copy)]
struct Defaults {
    handshake_calls: u8,
    responses: u8,
    primitives: u8,
    max_overhead: OverheadLimit,
}

/// Somebody looks, and not for long.
const SOMEBODY_LOOKS: Defaults = Defaults {
    handshake_calls: ALL,
    responses: ALL,
    primitives: DEFAULT_PRIMITIVES,
    max_overhead: TRACE_MAX_OVERHEAD,
};

/// A fixed salt keeps fingerprints comparable between hosts that were not told any.
const DEFAULT_SALT: &str = "resumetry";

/// The kernel wants whole pages and a power of two; below 64 KiB a single burst of large
/// ClientHellos would not fit, above 1 GiB the kernel refuses (`u32` sizes, doubly mapped).
const RING_BYTES_RANGE: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 30;
/// Longer waits would keep dead flows in bounded tables until they push out living ones.
const MAX_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(600);

/// What the user wants done.
#[derive(Debug)]
pub enum Command {
    Run(Box<RunConfig>),
    Trace(Box<TraceConfig>),
    Top(Box<TopConfig>),
    Pcap(PcapConfig),
    Probe(ProbeConfig),
    Findings(FindingsConfig),
    Doctor(DoctorConfig),
    Completions(Shell),
    ManPages(PathBuf),
}

/// Which capture files to read, and how to show what is in them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcapConfig {
    /// `-` is standard input.
    pub files: Vec<PathBuf>,
    pub format: PcapFormat,
    pub client_address: AddressMask,
    pub fingerprint_salt: String,
    pub color: Color,
}

/// What to watch, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    pub taps: Taps,
    /// `None` is the whole host.
    pub cgroup: Option<PathBuf>,
    /// Processes of the library tap; empty is all.
    pub pids: Vec<u32>,
    /// Files of the library tap; empty is all that are found.
    pub libraries: Vec<PathBuf>,
    /// Sorted by name, each name once.
    pub labels: Vec<Label>,
    /// A power of two.
    pub ring_bytes: u32,
    pub handshake_timeout: Duration,
    /// Share of the time in which calls of the handshake function are watched, percent.
    pub handshake_calls: u8,
    /// Share of the connections that are followed to their first response, percent.
    pub responses: u8,
    /// Share of the windows of handshake calls in which primitives are timed as well, percent.
    pub primitives: u8,
    /// What watching may cost before probes are left out.
    pub max_overhead: OverheadLimit,
    pub fingerprint_salt: String,
    pub check_weak_keys: bool,
    pub client_address: AddressMask,
    pub log_level: LogLevel,
    pub record_events: Option<PathBuf>,
    pub kubernetes: KubernetesConfig,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunConfig {
    pub capture: CaptureConfig,
    pub listen: SocketAddr,
    /// In the form of Prometheus' web configuration.
    pub web_config: Option<PathBuf>,
    pub max_server_names: usize,
    /// At most `max_server_names`.
    pub histogram_server_names: usize,
    pub series_ttl: Duration,
    /// Per cent, 1 to 99.
    pub quota_target: u8,
    pub key_max_age: Duration,
    /// `None`: nothing is pushed.
    pub otlp: Option<otlp::OtlpConfig>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceConfig {
    pub capture: CaptureConfig,
    pub format: Format,
    pub filter: Filter,
    pub count: Option<NonZeroU64>,
    /// What to hold records against.
    pub verify: Option<ServerLog>,
    pub color: Color,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorConfig {
    pub format: Format,
    pub color: Color,
}

/// Wrong usage: exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "ring-bytes: {0} is no power of two between {min} and {max}; 8388608 (8MiB) is the default",
        min = RING_BYTES_RANGE.start(),
        max = RING_BYTES_RANGE.end()
    )]
    RingBytes(u64),
    #[error("--{0} is a share in per cent, 0 to 100, and not {1}")]
    Share(&'static str, u8),
    #[error("quota-target: {0} is no quota to aim at; it is in per cent, 1 to 99")]
    QuotaTarget(u8),
    #[error("url: `{0}` {1}")]
    AgentUrl(String, AgentUrlError),
    #[error(
        "handshake-timeout: {0:?} is too long, the most is {max:?}",
        max = MAX_HANDSHAKE_TIMEOUT
    )]
    HandshakeTimeout(Duration),
    #[error("label: `{0}` is given twice; every label has one value")]
    LabelTwice(String),
    #[error(
        "{0} restricts the library tap, which `--taps wire` leaves out; drop one of the two \
         (--cgroup restricts the wire tap)"
    )]
    NoLibraryTap(&'static str),
    #[error("cgroup restricts the wire tap, which `--taps library` leaves out; use --pid instead")]
    NoWireTap,
    #[error("max-server-names: 0 would put every name under `_other`; the least is 1")]
    NoServerNames,
    #[error(
        "histogram-server-names: {histograms} is more than max-server-names, {names}; a name \
         without counters of its own cannot have histograms"
    )]
    MoreHistogramsThanNames { histograms: u32, names: u32 },
    #[error(
        "{0} does nothing without --otlp-endpoint; give the address of the receiver, or leave it out"
    )]
    NoOtlpEndpoint(&'static str),
    #[error("otlp-interval: {0:?} is too short; the least is 1s")]
    OtlpInterval(Duration),
    #[error("interval: {0:?} is too short; the least is {LEAST_INTERVAL:?}")]
    Interval(Duration),
    #[error("pod-label: `{0}` cannot be a label: {1}")]
    PodLabel(String, values::ValueError),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(
        "that would take {total} connections, and {MOST_CONNECTIONS} are the most: give fewer by \
         --connections, or name some of the addresses by --address"
    )]
    TooManyConnections { total: usize },
    #[error("pid: 0 is no process")]
    NoProcess,
    #[error("{0} is set to an empty text; leave it out or give it a value")]
    Empty(&'static str),
}

/// Reads the configuration file where one is given, and checks everything.
pub fn resolve(cli: Cli) -> Result<Command, ConfigError> {
    use crate::cli::Command as Typed;
    match cli.command {
        Typed::Run(mut args) => {
            if let Some(file) = open(args.file.config.as_deref())? {
                args.capture.fill_from(file.settings()?);
                args.run.fill_from(file.settings()?);
                args.otlp.fill_from(file.settings()?);
            }
            run(args.capture, args.run, args.otlp)
                .map(Box::new)
                .map(Command::Run)
        }
        Typed::Trace(mut args) => {
            if let Some(file) = open(args.file.config.as_deref())? {
                args.capture.fill_from(file.settings()?);
                args.trace.fill_from(file.settings()?);
            }
            trace(args.capture, args.trace)
                .map(Box::new)
                .map(Command::Trace)
        }
        Typed::Top(mut args) => {
            if let Some(file) = open(args.file.config.as_deref())? {
                args.capture.fill_from(file.settings()?);
                args.top.fill_from(file.settings()?);
            }
            TopConfig::new(args.capture, args.top)
                .map(Box::new)
                .map(Command::Top)
        }
        Typed::Doctor(mut args) => {
            if let Some(file) = open(args.file.config.as_deref())? {
                args.doctor.fill_from(file.settings()?);
            }
            let DoctorSettings { format, color } = args.doctor;
            Ok(Command::Doctor(DoctorConfig {
                format: format.unwrap_or_default(),
                color: color.unwrap_or_default(),
            }))
        }
        Typed::Pcap(args) => Ok(Command::Pcap(PcapConfig {
            files: args.files,
            format: args.format.unwrap_or_default(),
            client_address: args.client_address.unwrap_or_default(),
            fingerprint_salt: args
                .fingerprint_salt
                .unwrap_or_else(|| DEFAULT_SALT.to_owned()),
            color: args.color.unwrap_or_default(),
        })),
        Typed::Findings(args) => FindingsConfig::new(args).map(Command::Findings),
        Typed::Probe(args) => ProbeConfig::new(args).map(Command::Probe),
        Typed::Completions(args) => Ok(Command::Completions(args.shell)),
        Typed::ManPages(args) => Ok(Command::ManPages(args.directory)),
    }
}

fn open(path: Option<&Path>) -> Result<Option<ConfigFile>, FileError> {
    path.map(ConfigFile::read).transpose()
}

fn capture(settings: CaptureSettings, defaults: Defaults) -> Result<CaptureConfig, ConfigError> {
    let taps = settings.taps.unwrap_or_default();
    if taps.library() == Demand::No {
        if !settings.pid.is_empty() {
            return Err(ConfigError::NoLibraryTap("pid"));
        }
        if !settings.library.is_empty() {
            return Err(ConfigError::NoLibraryTap("library"));
        }
    }
    if taps.wire() == Demand::No && settings.cgroup.is_some() {
        return Err(ConfigError::NoWireTap);
    }
    if settings
        .cgroup
        .as_deref()
        .is_some_and(|path| path.as_os_str().is_empty())
    {
        return Err(ConfigError::Empty("cgroup"));
    }

    let mut labels = settings.label;
    labels.sort();
    if let Some(pair) = labels.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(ConfigError::LabelTwice(pair[0].name.clone()));
    }

    let ring_bytes = settings
        .ring_bytes
        .map_or(u64::from(RING_BYTES), |ByteSize(bytes)| bytes);
    let ring_bytes = u32::try_from(ring_bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two() && RING_BYTES_RANGE.contains(&u64::from(*bytes)))
        .ok_or(ConfigError::RingBytes(ring_bytes))?;

    let handshake_timeout = duration_or(settings.handshake_timeout, DEFAULT_HANDSHAKE_TIMEOUT);
    if handshake_timeout > MAX_HANDSHAKE_TIMEOUT {
        return Err(ConfigError::HandshakeTimeout(handshake_timeout));
    }

    let handshake_calls = settings.handshake_calls.unwrap_or(match taps.library() {
        // Somebody asked for the library tap by name.
        Demand::Required => ALL,
        Demand::Wanted | Demand::No => defaults.handshake_calls,
    });
    let responses = settings.responses.unwrap_or(defaults.responses);
    let primitives = settings.primitives.unwrap_or(defaults.primitives);
    for (flag, share) in [
        ("handshake-calls", handshake_calls),
        ("responses", responses),
        ("primitives", primitives),
    ] {
        if share > ALL {
            return Err(ConfigError::Share(flag, share));
        }
    }

    let mut pids = settings.pid;
    if pids.contains(&0) {
        return Err(ConfigError::NoProcess);
    }
    pids.sort_unstable();
    pids.dedup();

    Ok(CaptureConfig {
        taps,
        cgroup: settings.cgroup,
        pids,
        libraries: settings.library,
        labels,
        ring_bytes,
        handshake_timeout,
        handshake_calls,
        responses,
        primitives,
        max_overhead: settings.max_overhead.unwrap_or(defaults.max_overhead),
        fingerprint_salt: settings
            .fingerprint_salt
            .unwrap_or_else(|| DEFAULT_SALT.to_owned()),
        check_weak_keys: settings.check_weak_keys.unwrap_or(false),
        client_address: settings.client_address.unwrap_or_default(),
        log_level: settings.log_level.unwrap_or_default(),
        record_events: settings.record_events,
        kubernetes: KubernetesConfig {
            node: settings.kubernetes_node,
            kubeconfig: settings.kubeconfig,
            pod_labels: pod_labels(settings.pod_label)?,
        },
    })
}

fn run(
    capture_settings: CaptureSettings,
    settings: RunSettings,
    otlp_settings: OtlpSettings,
) -> Result<RunConfig, ConfigError> {
    let names = settings
        .max_server_names
        .unwrap_or(DEFAULT_MAX_SERVER_NAMES);
    if names == 0 {
        return Err(ConfigError::NoServerNames);
    }
    let histograms = match settings.histogram_server_names {
        // Whoever lowers the one number need not know of the other.
        None => DEFAULT_HISTOGRAM_SERVER_NAMES.min(names),
        Some(histograms) if histograms > names => {
            return Err(ConfigError::MoreHistogramsThanNames { histograms, names });
        }
        Some(histograms) => histograms,
    };
    Ok(RunConfig {
        capture: capture(
            capture_settings,
            Defaults {
                handshake_calls: DEFAULT_HANDSHAKE_CALLS,
                responses: DEFAULT_RESPONSES,
                primitives: DEFAULT_PRIMITIVES,
                max_overhead: DEFAULT_MAX_OVERHEAD,
            },
        )?,
        listen: settings.listen.unwrap_or(DEFAULT_LISTEN),
        web_config: settings.web_config,
        max_server_names: names as usize,
        histogram_server_names: histograms as usize,
        series_ttl: duration_or(settings.series_ttl, DEFAULT_SERIES_TTL),
        quota_target: quota_target(settings.quota_target)?,
        key_max_age: duration_or(settings.key_max_age, DEFAULT_KEY_MAX_AGE),
        otlp: otlp::resolve(otlp_settings)?,
    })
}

fn trace(
    capture_settings: CaptureSettings,
    settings: TraceSettings,
) -> Result<TraceConfig, ConfigError> {
    if settings.service.as_deref() == Some("") {
        return Err(ConfigError::Empty("service"));
    }
    Ok(TraceConfig {
        capture: capture(capture_settings, SOMEBODY_LOOKS)?,
        format: settings.format.unwrap_or_default(),
        filter: Filter {
            server_name: settings.server_name,
            service: settings.service,
            result: settings.result.map(Outcome::from),
            role: settings.role.map(Role::from),
        },
        count: settings.count,
        verify: settings.verify,
        color: settings.color.unwrap_or_default(),
    })
}

/// Each name once, and none that would be taken for a label of ours.
fn pod_labels(mut names: Vec<String>) -> Result<Vec<String>, ConfigError> {
    names.sort();
    names.dedup();
    for name in &names {
        let label = format!("{}=", label_name(name));
        if let Err(error) = label.parse::<Label>() {
            return Err(ConfigError::PodLabel(name.clone(), error));
        }
    }
    Ok(names)
}

fn quota_target(percent: Option<u8>) -> Result<u8, ConfigError> {
    let percent = percent.unwrap_or(DEFAULT_QUOTA_TARGET);
    match (1..=99).contains(&percent) {
        true => Ok(percent),
        false => Err(ConfigError::QuotaTarget(percent)),
    }
}

fn duration_or(span: Option<Span>, default: Duration) -> Duration {
    span.map_or(default, |Span(duration)| duration)
}

impl From<ResultFilter> for Outcome {
    fn from(result: ResultFilter) -> Self {
        match result {
            ResultFilter::Full => Self::Full,
            ResultFilter::Resumed => Self::Resumed,
            ResultFilter::Failed => Self::Failed,
        }
    }
}

impl From<RoleFilter> for Role {
    fn from(role: RoleFilter) -> Self {
        match role {
            RoleFilter::Server => Self::Server,
            RoleFilter::Client => Self::Client,
        }
    }
}

/// A setting that may have been left out.
trait Fill {
    /// Takes the other value where this one was left out.
    fn fill(&mut self, other: Self);
}

impl<T> Fill for Option<T> {
    fn fill(&mut self, other: Self) {
        if self.is_none() {
            *self = other;
        }
    }
}

impl<T> Fill for Vec<T> {
    fn fill(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        }
    }
}

/// Writes `fill_from`. The pattern has no `..`, so that a field which is not named here does not
/// compile instead of being deaf to the file.
macro_rules! fill_from {
    ($type:ty: $($field:ident),+) => {
        impl $type {
            fn fill_from(&mut self, file: Self) {
                let Self { $($field),+ } = file;
                $(self.$field.fill($field);)+
            }
        }
    };
}

fill_from!(
    CaptureSettings: taps, cgroup, pid, library, label, ring_bytes, handshake_timeout, handshake_calls,
    responses, primitives, max_overhead, fingerprint_salt, check_weak_keys, client_address, log_level, record_events,
    kubernetes_node, kubeconfig, pod_label
);
fill_from!(RunSettings: listen, web_config, max_server_names, histogram_server_names, series_ttl, quota_target, key_max_age);
fill_from!(
    OtlpSettings: otlp_endpoint, otlp_protocol, otlp_header, otlp_ca, otlp_compression, otlp_interval,
    otlp_timeout, otlp_logs, otlp_attribute
);
fill_from!(TraceSettings: format, server_name, service, result, role, count, verify, color);
fill_from!(TopSettings: interval, quota_target, key_max_age, color);
fill_from!(DoctorSettings: format, color);

#[cfg(test)]
mod tests;
