//! The types of single settings: each parses from a flag, a variable or a TOML value, and refuses
//! what could not work later.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Deserializer, de};

pub use crate::output::filter::Glob;

/// `--taps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Taps {
    /// Every tap that this host allows; what it lacks is said once.
    #[default]
    Auto,
    /// The wire tap, and the socket tap where possible.
    Wire,
    /// The library tap alone.
    Library,
    /// Every tap, or fail.
    All,
}

/// What `--taps` asks of one tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Leave it out.
    No,
    /// Attach it; say so once when that is impossible, and go on.
    Wanted,
    /// Attach it or fail.
    Required,
}

impl Taps {
    pub fn wire(self) -> Demand {
        match self {
            Self::Auto => Demand::Wanted,
            Self::Wire | Self::All => Demand::Required,
            Self::Library => Demand::No,
        }
    }

    pub fn library(self) -> Demand {
        match self {
            Self::Auto => Demand::Wanted,
            Self::Library | Self::All => Demand::Required,
            Self::Wire => Demand::No,
        }
    }

    /// The socket tap only adds a time to what the wire tap sees.
    pub fn socket(self) -> Demand {
        match self {
            Self::Auto | Self::Wire => Demand::Wanted,
            Self::All => Demand::Required,
            Self::Library => Demand::No,
        }
    }
}

/// `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// `pcap --format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PcapFormat {
    #[default]
    Text,
    Json,
    Summary,
}

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether to colour. `no_color` is whether the variable NO_COLOR is set and not empty
    /// (<https://no-color.org>).
    pub fn applies(self, terminal: bool, no_color: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && !no_color,
        }
    }
}

/// `--client-address`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddressMask {
    /// Address and port.
    #[default]
    Full,
    /// /24 of IPv4, /48 of IPv6, no port.
    Prefix,
    /// Nothing.
    None,
}

/// `--result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultFilter {
    Full,
    Resumed,
    Failed,
}

/// `--role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleFilter {
    Server,
    Client,
}

/// `--log-level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl From<LogLevel> for log::LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::Off,
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        }
    }
}

/// A constant label: a Prometheus label name that is none of ours, and any value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    pub name: String,
    pub value: String,
}

/// Label names that our own metrics use (contract, section 3), and those that the exposition
/// format uses itself. A constant label of that name would make two labels of one name.
const TAKEN_LABELS: &[&str] = &[
    "description",
    "direction",
    "event",
    "id",
    "key",
    "le",
    "library",
    "offered",
    "operation",
    "probe",
    "quantile",
    "reason",
    "result",
    "role",
    "server_name",
    "service",
    "severity",
    "status",
    "tap",
    "transport",
    "version",
];

impl FromStr for Label {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, value) = text.split_once('=').ok_or(ValueError::LabelWithoutValue)?;
        let mut letters = name.bytes();
        let valid = letters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == b'_');
        if !valid || name.starts_with("__") {
            return Err(ValueError::LabelName);
        }
        if TAKEN_LABELS.contains(&name) {
            return Err(ValueError::LabelTaken(name.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// A size in bytes; `KiB`, `MiB` and `GiB` are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim_start() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(ValueError::Size),
        };
        let number: u64 = number.parse().map_err(|_| ValueError::Size)?;
        number.checked_mul(factor).map(Self).ok_or(ValueError::Size)
    }
}

/// A positive span of time such as `30s`, `1h` or `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let span: jiff::SignedDuration = text.parse().map_err(|_| ValueError::Span)?;
        match Duration::try_from(span) {
            Ok(span) if !span.is_zero() => Ok(Self(span)),
            _ => Err(ValueError::Span),
        }
    }
}

/// `--verify`: the log of a server, to hold records against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLog {
    /// Of nginx, in the format of `verify::nginx`.
    pub path: PathBuf,
}

impl FromStr for ServerLog {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.strip_prefix("nginx=") {
            Some(path) if !path.is_empty() => Ok(Self { path: path.into() }),
            _ => Err(ValueError::ServerLog),
        }
    }
}

/// `--advice`: for which servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Advice {
    All,
    Nginx,
    Apache,
    Haproxy,
    Envoy,
    Kubernetes,
}

impl Advice {
    /// As findings name servers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Nginx => "nginx",
            Self::Apache => "apache",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// `--max-overhead`: a part of the servers' CPU time, or no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverheadLimit {
    /// In millionths, so that equal limits are equal.
    millionths: Option<u32>,
}

impl OverheadLimit {
    /// No limit.
    pub const NONE: Self = Self { millionths: None };

    pub const fn percent(percent: u32) -> Self {
        Self {
            millionths: Some(percent * 10_000),
        }
    }

    /// As a ratio; `None` is no limit.
    pub fn ratio(self) -> Option<f64> {
        self.millionths
            .map(|millionths| f64::from(millionths) / 1e6)
    }

    /// 0 is refused: that it means "no limit" is as likely as that it means "no cost", which only
    /// `--taps wire` comes near.
    fn from_percent(percent: f64) -> Result<Self, ValueError> {
        let millionths = (percent * 1e4).round();
        if !(1.0..=1e6).contains(&millionths) {
            return Err(ValueError::Overhead);
        }
        Ok(Self {
            millionths: Some(millionths as u32),
        })
    }
}

impl FromStr for OverheadLimit {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        Self::from_percent(number.parse().map_err(|_| ValueError::Overhead)?)
    }
}

/// Why a single value is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("expected NAME=VALUE, such as pop=fra1")]
    LabelWithoutValue,
    #[error("a label name has letters, digits and _, starts with no digit and not with __")]
    LabelName,
    #[error("the label name `{0}` is used by resumetry itself; choose another one")]
    LabelTaken(String),
    #[error("expected a size in bytes, such as 8388608 or 8MiB")]
    Size,
    #[error("expected a span of time with its unit, such as 30s, 5m or 1h")]
    Span,
    #[error("expected nginx=PATH, such as nginx=/var/log/nginx/resumetry.log")]
    ServerLog,
    #[error("expected a part in per cent, 0.0001 to 100, such as 1 or 0.5, or `none` for no limit")]
    Overhead,
}

/// Reads a value that is text in TOML through its `FromStr`.
macro_rules! deserialize_from_text {
    ($type:ty, $expected:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(
                        &self,
                        formatter: &mut std::fmt::Formatter<'_>,
                    ) -> std::fmt::Result {
                        formatter.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

pub(super) use deserialize_from_text;

deserialize_from_text!(
    ServerLog,
    "a server and its log, such as nginx=/var/log/nginx/resumetry.log"
);
deserialize_from_text!(Label, "a label such as \"pop=fra1\"");
deserialize_from_text!(Span, "a span of time such as \"30s\"");
deserialize_from_text!(Glob, "a pattern such as \"*.example.com\"");

impl<'de> Deserialize<'de> for ByteSize {
    /// A number of bytes may stand in TOML as a number.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = ByteSize;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a size in bytes, such as 8388608 or \"8MiB\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<ByteSize, E> {
                u64::try_from(number)
                    .map(ByteSize)
                    .map_err(|_| E::custom(ValueError::Size))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<ByteSize, E> {
                Ok(ByteSize(number))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl<'de> Deserialize<'de> for OverheadLimit {
    /// A percentage may stand in TOML as a number.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = OverheadLimit;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a part in per cent, such as 0.5, or \"none\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<OverheadLimit, E> {
                self.visit_f64(number as f64)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<OverheadLimit, E> {
                OverheadLimit::from_percent(number).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OverheadLimit, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_labels_and_keeps_equals_signs_in_values() {
        let label: Label = "pop=a=b".parse().expect("valid");
        assert_eq!((label.name.as_str(), label.value.as_str()), ("pop", "a=b"));
        assert!("_x1=".parse::<Label>().is_ok());
    }

    #[test]
    fn rejects_labels_that_prometheus_or_our_metrics_cannot_take() {
        assert_eq!("pop".parse::<Label>(), Err(ValueError::LabelWithoutValue));
        for name in ["", "1pop", "po-p", "pöp", "__name__", "a.b"] {
            assert_eq!(
                format!("{name}=x").parse::<Label>(),
                Err(ValueError::LabelName),
                "{name}"
            );
        }
        for name in TAKEN_LABELS {
            let taken = ValueError::LabelTaken((*name).to_owned());
            assert_eq!(format!("{name}=x").parse::<Label>(), Err(taken));
        }
    }

    #[test]
    fn reads_sizes_with_and_without_unit() {
        assert_eq!("4096".parse(), Ok(ByteSize(4096)));
        assert_eq!("16MiB".parse(), Ok(ByteSize(16 << 20)));
        assert_eq!("1 GiB".parse(), Ok(ByteSize(1 << 30)));
    }

    #[test]
    fn rejects_sizes_that_are_none() {
        for text in [
            "",
            "MiB",
            "8MB",
            "-1",
            "1.5MiB",
            "99999999999GiB",
            "18446744073709551616",
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(ValueError::Size), "{text}");
        }
    }

    #[test]
    fn reads_limits_of_the_overhead_in_per_cent_or_none() {
        let limit = |text: &str| text.parse::<OverheadLimit>().map(OverheadLimit::ratio);
        assert_eq!(limit("1"), Ok(Some(0.01)));
        assert_eq!(limit("0.5%"), Ok(Some(0.005)));
        assert_eq!(limit("0.001"), Ok(Some(0.000_01)));
        assert_eq!(limit("none"), Ok(None));
    }

    #[test]
    fn rejects_limits_of_the_overhead_that_say_nothing() {
        for text in ["", "0", "-1", "101", "nan", "inf", "all", "1 per cent"] {
            let limit = text.parse::<OverheadLimit>();
            assert_eq!(limit, Err(ValueError::Overhead), "{text}");
        }
    }

    #[test]
    fn reads_spans_of_time() {
        assert_eq!("30s".parse(), Ok(Span(Duration::from_secs(30))));
        assert_eq!("1h".parse(), Ok(Span(Duration::from_secs(3600))));
        assert_eq!("1h 30m".parse(), Ok(Span(Duration::from_secs(5400))));
        assert_eq!("250ms".parse(), Ok(Span(Duration::from_millis(250))));
    }

    #[test]
    fn rejects_spans_without_unit_and_those_not_positive() {
        for text in ["", "30", "0s", "-5s", "5s ago", "soon"] {
            assert_eq!(text.parse::<Span>(), Err(ValueError::Span), "{text}");
        }
    }

    #[test]
    fn colours_on_a_terminal_only_unless_told_otherwise() {
        assert!(Color::Auto.applies(true, false));
        assert!(!Color::Auto.applies(true, true));
        assert!(!Color::Auto.applies(false, false));
        assert!(Color::Always.applies(false, true));
        assert!(!Color::Never.applies(true, false));
    }
}
