//! The web configuration as written. Knows its keys, not what they do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::WebConfigError;

/// Most bytes of the file.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) tls_server_config: Option<Tls>,
    #[serde(rename = "http_server_config")]
    _http_server_config: Option<Http>,
    /// Name to bcrypt hash.
    pub(super) basic_auth_users: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// PEM, the server's own certificate first; relative to the configuration.
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
    #[serde(default)]
    pub(super) client_auth_type: ClientAuth,
    /// PEM: who may issue clients' certificates.
    pub(super) client_ca_file: Option<PathBuf>,
    #[serde(default)]
    pub(super) min_version: Option<Version>,
    #[serde(default)]
    pub(super) max_version: Option<Version>,
    /// Ours are in an order that makes no difference.
    #[serde(default, rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    /// HTTP/1.1 is spoken either way.
    #[serde(default, rename = "http2")]
    _http2: Option<bool>,
}

/// Go's names (crypto/tls, `ClientAuthType`).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(super) enum ClientAuth {
    #[default]
    NoClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
    RequestClientCert,
    RequireAnyClientCert,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

pub(super) fn read(path: &Path) -> Result<File, WebConfigError> {
    let unreadable = |source| WebConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err(WebConfigError::WorldWritable {
            path: path.to_owned(),
        });
    }
    let syntax = |reason: String| WebConfigError::Syntax {
        path: path.to_owned(),
        reason,
    };
    if metadata.len() > MAX_BYTES {
        return Err(syntax("it is longer than a megabyte".to_owned()));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    // An empty file is none to the parser, and no restriction to Prometheus.
    if text
        .lines()
        .all(|line| line.trim_start().starts_with('#') || line.trim().is_empty())
    {
        return Ok(File::default());
    }
    serde_saphyr::from_str(&text).map_err(|error| syntax(error.to_string()))
}
