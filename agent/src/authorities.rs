//! Whose certificates a client of ours trusts.

use std::fs;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use thiserror::Error;

/// Why there is nobody to trust.
#[derive(Debug, Error)]
pub enum AuthorityError {
    #[error("cannot use the authorities in {}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("this host has no authorities to trust (Debian: ca-certificates)")]
    None,
}

/// The authorities in this file, or those of the host.
///
/// # Errors
/// When there is none.
pub fn trusted(file: Option<&Path>) -> Result<RootCertStore, AuthorityError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = file else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return match roots.is_empty() {
            true => Err(AuthorityError::None),
            false => Ok(roots),
        };
    };
    let unusable = |reason: String| AuthorityError::File {
        path: path.to_owned(),
        reason,
    };
    let text = fs::read(path).map_err(|error| unusable(error.to_string()))?;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(unusable("there is no certificate in it".to_owned())),
        false => Ok(roots),
    }
}
