//! What all connections of a probe share: one configuration, or rustls would take the sessions of one
//! for those of another and not offer them.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use thiserror::Error;

use super::session::{Session, Store};
use super::verifier::Noting;
use super::{Attempt, AttemptError, Profile, Target, Version, quic, tcp};
use crate::authorities;
use crate::core::fingerprint::Fingerprinter;
use crate::core::record::Transport;

/// Why a client cannot be made.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error(
        "this host has no certificates of authorities to verify servers by; install them (Debian: \
         ca-certificates), name some in SSL_CERT_FILE, or take any certificate by --insecure"
    )]
    NoAuthorities,
    #[error("QUIC has TLS 1.3 and nothing else; leave --tls 1.2 out")]
    QuicVersion,
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("cannot set up the verifier of certificates: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
    #[error("cannot set up QUIC: {0}")]
    Quic(#[from] std::io::Error),
}

pub struct Client {
    pub(super) name: ServerName<'static>,
    /// For the Host header.
    pub(super) host: String,
    pub(super) profile: Profile,
    pub(super) verifier: Arc<Noting>,
    pub(super) fingerprinter: Fingerprinter,
    /// What is not asked for a page again.
    silent: Mutex<HashSet<SocketAddr>>,
    config: ClientConfig,
    quic: Option<quic::Endpoints>,
}

impl Client {
    /// # Errors
    /// [`ClientError`]
    pub fn new(
        target: &Target,
        profile: Profile,
        fingerprinter: Fingerprinter,
    ) -> Result<Self, ClientError> {
        let provider = Arc::new(default_provider());
        let inner: Option<Arc<dyn ServerCertVerifier>> = match profile.insecure {
            true => None,
            false => {
                let roots =
                    Arc::new(authorities::trusted(None).map_err(|_| ClientError::NoAuthorities)?);
                let provider = Arc::clone(&provider);
                Some(WebPkiServerVerifier::builder_with_provider(roots, provider).build()?)
            }
        };
        let verifier = Arc::new(Noting {
            inner,
            provider: Arc::clone(&provider),
            seen: Mutex::default(),
        });
        let versions: &[_] = match (profile.transport, profile.version) {
            (Transport::Quic, Some(Version::Tls12)) => return Err(ClientError::QuicVersion),
            (Transport::Quic, _) | (_, Some(Version::Tls13)) => &[&TLS13],
            (_, Some(Version::Tls12)) => &[&TLS12],
            (_, None) => &[&TLS12, &TLS13],
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_no_client_auth();
        let protocols = profile.protocols.iter();
        config.alpn_protocols = protocols.map(|name| name.clone().into_bytes()).collect();
        let quic = match profile.transport {
            Transport::Tcp => None,
            Transport::Quic => Some(quic::Endpoints::new()?),
        };
        Ok(Self {
            name: target.name.clone(),
            host: target.authority(),
            profile,
            verifier,
            fingerprinter,
            silent: Mutex::default(),
            config,
            quic,
        })
    }

    /// It kept silent when it was asked for a page.
    pub(super) fn is_silent(&self, address: SocketAddr) -> bool {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.contains(&address)
    }

    pub(super) fn note_silence(&self, address: SocketAddr) {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.insert(address);
    }

    /// One connection, which offers a session or none.
    pub(super) fn attempt(
        &self,
        address: SocketAddr,
        offer: Option<Session>,
    ) -> Result<Attempt, AttemptError> {
        let store = Arc::new(Store::offering(offer));
        let mut config = self.config.clone();
        config.resumption = Resumption::store(Arc::clone(&store) as _);
        self.verifier.take();
        match &self.quic {
            None => tcp::attempt(self, config, &store, address),
            Some(endpoints) => quic::attempt(self, endpoints, config, &store, address),
        }
    }
}
