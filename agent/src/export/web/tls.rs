//! The server's certificate, and whose clients' it takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion, version::TLS12, version::TLS13,
};

use super::WebConfigError;
use super::file::{ClientAuth, Tls, Version};

/// What TLS is spoken with, as it stands in files that may change.
#[derive(Debug)]
pub(in crate::export) struct Certificates {
    /// The configuration, for messages.
    path: PathBuf,
    settings: Tls,
    now: Mutex<Loaded>,
}

#[derive(Clone, Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// When the files were changed last.
    changed: Vec<Option<SystemTime>>,
}

impl Certificates {
    pub(super) fn new(path: &Path, mut settings: Tls) -> Result<Self, WebConfigError> {
        let directory = path.parent().unwrap_or(Path::new(""));
        let absolute = |file: &mut PathBuf| *file = directory.join(&*file);
        absolute(&mut settings.cert_file);
        absolute(&mut settings.key_file);
        settings.client_ca_file.as_mut().map(absolute);
        let loaded = load(path, &settings)?;
        Ok(Self {
            path: path.to_owned(),
            settings,
            now: Mutex::new(loaded),
        })
    }

    /// For the next connection. Where changed files cannot be read, what was there before goes on.
    pub(in crate::export) fn acceptor(&self) -> TlsAcceptor {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = changed(&self.settings);
        if changed != now.changed {
            match load(&self.path, &self.settings) {
                Ok(loaded) => *now = loaded,
                Err(error) => {
                    log::warn!("{error}\nthe certificate from before stays in use");
                    // Said once for each change.
                    now.changed = changed;
                }
            }
        }
        TlsAcceptor::from(Arc::clone(&now.config))
    }
}

fn files(settings: &Tls) -> impl Iterator<Item = &Path> {
    [&settings.cert_file, &settings.key_file]
        .into_iter()
        .chain(&settings.client_ca_file)
        .map(PathBuf::as_path)
}

fn changed(settings: &Tls) -> Vec<Option<SystemTime>> {
    let time = |path: &Path| {
        fs::metadata(path)
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    files(settings).map(time).collect()
}

fn load(path: &Path, settings: &Tls) -> Result<Loaded, WebConfigError> {
    let wrong = |key: &str, reason: String| WebConfigError::Value {
        path: path.to_owned(),
        key: format!("tls_server_config.{key}"),
        reason,
    };
    // Before they are read: what is changed meanwhile is read again.
    let changed = changed(settings);
    let certificates = |file: &Path, key| -> Result<Vec<CertificateDer<'static>>, _> {
        CertificateDer::pem_slice_iter(&read(file)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| wrong(key, format!("{} is no PEM: {error}", file.display())))
    };
    let chain = certificates(&settings.cert_file, "cert_file")?;
    let key = PrivateKeyDer::from_pem_slice(&read(&settings.key_file)?).map_err(|error| {
        let file = settings.key_file.display();
        wrong(
            "key_file",
            format!("{file} is no private key in PEM: {error}"),
        )
    })?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(settings).map_err(|reason| wrong("min_version", reason))?)
        .map_err(|error| wrong("min_version", error.to_string()))?;
    let builder = match settings.client_auth_type {
        ClientAuth::NoClientCert => builder.with_no_client_auth(),
        ClientAuth::RequestClientCert | ClientAuth::RequireAnyClientCert => {
            let reason = "certificates that nobody verifies are not supported; use \
                          VerifyClientCertIfGiven or RequireAndVerifyClientCert";
            return Err(wrong("client_auth_type", reason.to_owned()));
        }
        ClientAuth::VerifyClientCertIfGiven | ClientAuth::RequireAndVerifyClientCert => {
            let Some(file) = &settings.client_ca_file else {
                let reason = "client_auth_type needs to know who may issue certificates";
                return Err(wrong("client_ca_file", reason.to_owned()));
            };
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file, "client_ca_file")? {
                roots
                    .add(certificate)
                    .map_err(|error| wrong("client_ca_file", error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if settings.client_auth_type == ClientAuth::VerifyClientCertIfGiven {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier
                .build()
                .map_err(|error| wrong("client_ca_file", error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| wrong("cert_file", error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded {
        config: Arc::new(config),
        changed,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, WebConfigError> {
    fs::read(path).map_err(|source| WebConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The versions between the least and the greatest; TLS 1.2 and 1.3 are known.
fn versions(settings: &Tls) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let least = settings.min_version.unwrap_or(Version::Tls12);
    let most = settings.max_version.unwrap_or(Version::Tls13);
    let known = [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)];
    let versions: Vec<_> = known
        .into_iter()
        .filter(|(version, _)| (least..=most).contains(version))
        .map(|(_, version)| version)
        .collect();
    if versions.is_empty() {
        return Err("no version is left; TLS12 and TLS13 are spoken".to_owned());
    }
    Ok(versions)
}
