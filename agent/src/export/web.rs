//! Who may read the metrics, and over what: the file that Prometheus and its exporters call the web
//! configuration (`--web.config.file`; github.com/prometheus/exporter-toolkit, docs/web-configuration.md).
//!
//! The file is read once, at the start. Certificates are read again when they change, since they
//! are renewed while the agent runs.

mod auth;
mod file;
mod tls;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

pub(super) use auth::Users;
pub(super) use tls::Certificates;

/// Why a web configuration cannot be used.
#[derive(Debug, Error)]
pub enum WebConfigError {
    #[error(
        "cannot read {path}: {source}; --web-config names the file, tls_server_config in it others"
    )]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}")]
    Syntax { path: PathBuf, reason: String },
    #[error("{path}: {key}: {reason}")]
    Value {
        path: PathBuf,
        key: String,
        reason: String,
    },
    #[error("{path} may be changed by anybody; take the right from others (`chmod o-w`)")]
    WorldWritable { path: PathBuf },
}

/// What the server asks of its clients; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct Web {
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) users: Option<Arc<Users>>,
}

impl Web {
    /// Reads the file at `path`, and the certificates that it names.
    ///
    /// # Errors
    /// When one cannot be read, or says what the agent does not know: an unknown key may be a
    /// restriction that somebody relies on.
    pub fn read(path: &Path) -> Result<Self, WebConfigError> {
        let file = file::read(path)?;
        let certificates = file
            .tls_server_config
            .map(|tls| Certificates::new(path, tls));
        let users =
            (!file.basic_auth_users.is_empty()).then(|| Users::new(path, file.basic_auth_users));
        Ok(Self {
            certificates: certificates.transpose()?.map(Arc::new),
            users: users.transpose()?.map(Arc::new),
        })
    }

    /// Whether it asks who somebody is before it answers.
    pub fn asks_for_password(&self) -> bool {
        self.users.is_some()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.certificates.is_some() {
            "https"
        } else {
            "http"
        }
    }
}
