//! The settings of the OTLP export: where to, how, and with what.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Uri};
use serde::Deserialize;

use super::values::deserialize_from_text;
use super::{ConfigError, duration_or};
use crate::cli::OtlpSettings;

/// As OpenTelemetry's SDKs: once in a minute.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// More often than this a receiver would be told mostly the same.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Headers that the protocol itself sets.
const TAKEN_HEADERS: [HeaderName; 6] = [
    http::header::CONTENT_TYPE,
    http::header::CONTENT_ENCODING,
    http::header::CONTENT_LENGTH,
    http::header::TRANSFER_ENCODING,
    http::header::TE,
    http::header::HOST,
];

/// Where telemetry is pushed to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpConfig {
    pub endpoint: Endpoint,
    pub protocol: Protocol,
    pub headers: Vec<Header>,
    /// PEM file of the authorities that the receiver's certificate is verified by; `None` is the
    /// system's.
    pub ca: Option<PathBuf>,
    pub compression: Compression,
    pub interval: Duration,
    /// Of one attempt.
    pub timeout: Duration,
    /// One log record a handshake.
    pub logs: bool,
    /// Of the resource.
    pub attributes: Vec<Attribute>,
}

/// `--otlp-protocol`, spelled as in OpenTelemetry's OTEL_EXPORTER_OTLP_PROTOCOL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
pub enum Protocol {
    #[value(name = "grpc")]
    #[serde(rename = "grpc")]
    Grpc,
    #[default]
    #[value(name = "http/protobuf")]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// `--otlp-compression`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    None,
    #[default]
    Gzip,
}

/// `--otlp-endpoint`: the base of the receiver's addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// `--otlp-header`. Its value is a secret, and never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub name: HeaderName,
    pub value: HeaderValue,
}

/// `--otlp-attribute`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    pub value: String,
}

/// Why a text is no such value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OtlpValueError {
    #[error(
        "is no address of an OTLP receiver; it looks like http://collector:4318 or https://otlp.example.com"
    )]
    Endpoint,
    #[error(
        "holds a password or a query, which receivers take as a header: --otlp-header 'authorization=Basic …'"
    )]
    EndpointCredentials,
    #[error("takes NAME=VALUE, such as authorization=Bearer …")]
    Header,
    #[error("`{0}` is set by OTLP itself")]
    HeaderTaken(HeaderName),
    #[error("takes NAME=VALUE, such as deployment.environment.name=production")]
    Attribute,
}

impl Endpoint {
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = OtlpValueError;

    fn from_str(text: &str) -> Result<Self, OtlpValueError> {
        let uri: Uri = text.parse().map_err(|_| OtlpValueError::Endpoint)?;
        let web = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme());
        let authority = uri.authority().filter(|one| !one.host().is_empty());
        match authority {
            Some(authority) if web => {
                if authority.as_str().contains('@') || uri.query().is_some() {
                    return Err(OtlpValueError::EndpointCredentials);
                }
                Ok(Self(uri))
            }
            _ => Err(OtlpValueError::Endpoint),
        }
    }
}

impl FromStr for Header {
    type Err = OtlpValueError;

    fn from_str(text: &str) -> Result<Self, OtlpValueError> {
        let (name, value) = text.split_once('=').ok_or(OtlpValueError::Header)?;
        let name: HeaderName = name.trim().parse().map_err(|_| OtlpValueError::Header)?;
        if TAKEN_HEADERS.contains(&name) || name.as_str().starts_with("grpc-") {
            return Err(OtlpValueError::HeaderTaken(name));
        }
        let mut value: HeaderValue = value.trim().parse().map_err(|_| OtlpValueError::Header)?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

impl FromStr for Attribute {
    type Err = OtlpValueError;

    fn from_str(text: &str) -> Result<Self, OtlpValueError> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !name.contains(char::is_whitespace) => {
                Ok(Self {
                    name: name.to_owned(),
                    value: value.to_owned(),
                })
            }
            _ => Err(OtlpValueError::Attribute),
        }
    }
}

deserialize_from_text!(Endpoint, "an address such as \"http://collector:4318\"");
deserialize_from_text!(Header, "a header such as \"authorization=Bearer …\"");
deserialize_from_text!(
    Attribute,
    "an attribute such as \"deployment.environment.name=production\""
);

/// `None` where nothing is to be sent.
pub(super) fn resolve(settings: OtlpSettings) -> Result<Option<OtlpConfig>, ConfigError> {
    let OtlpSettings {
        otlp_endpoint,
        otlp_protocol,
        otlp_header,
        otlp_ca,
        otlp_compression,
        otlp_interval,
        otlp_timeout,
        otlp_logs,
        otlp_attribute,
    } = settings;
    let Some(endpoint) = otlp_endpoint else {
        let given = [
            ("otlp-protocol", otlp_protocol.is_some()),
            ("otlp-header", !otlp_header.is_empty()),
            ("otlp-ca", otlp_ca.is_some()),
            ("otlp-compression", otlp_compression.is_some()),
            ("otlp-interval", otlp_interval.is_some()),
            ("otlp-timeout", otlp_timeout.is_some()),
            ("otlp-logs", otlp_logs == Some(true)),
            ("otlp-attribute", !otlp_attribute.is_empty()),
        ];
        return match given.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(ConfigError::NoOtlpEndpoint(flag)),
            None => Ok(None),
        };
    };
    let interval = duration_or(otlp_interval, DEFAULT_INTERVAL);
    if interval < MIN_INTERVAL {
        return Err(ConfigError::OtlpInterval(interval));
    }
    Ok(Some(OtlpConfig {
        endpoint,
        protocol: otlp_protocol.unwrap_or_default(),
        headers: otlp_header,
        ca: otlp_ca,
        compression: otlp_compression.unwrap_or_default(),
        interval,
        timeout: duration_or(otlp_timeout, DEFAULT_TIMEOUT),
        logs: otlp_logs.unwrap_or(false),
        attributes: otlp_attribute,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn endpoints_are_addresses_of_the_web() {
        for good in [
            "http://[::1]:4317",
            "https://otlp.example.com/tenant/1",
            "http://vm:8428/opentelemetry/",
        ] {
            assert!(good.parse::<Endpoint>().is_ok(), "{good}");
        }
        for bad in [
            "collector:4317",
            "ftp://x/",
            "/v1",
            "",
            "http://",
            "localhost",
        ] {
            assert_eq!(bad.parse::<Endpoint>(), Err(OtlpValueError::Endpoint));
        }
        for secret in ["http://me:pw@vm", "http://vm/?token=1"] {
            assert_eq!(
                secret.parse::<Endpoint>(),
                Err(OtlpValueError::EndpointCredentials)
            );
        }
    }

    #[test]
    fn headers_keep_their_value_to_themselves() {
        let header: Header = "Authorization=Bearer s3cr3t=".parse().unwrap();
        assert_eq!(header.value.as_bytes(), b"Bearer s3cr3t=");
        assert!(!format!("{header:?}").contains("s3cr3t"));
        assert!("te=trailers".parse::<Header>().is_err());
        assert!("a b=c".parse::<Header>().is_err());
    }
}
