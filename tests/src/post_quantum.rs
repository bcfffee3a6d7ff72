//! A client with an X25519MLKEM768 key share (rustls): a ClientHello of about 1.5 KiB. The system's
//! OpenSSL 3.0 has no such group.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::client::{Profile, drain};

pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Client {
    /// Takes the server name and the authority of `profile`; both are needed.
    pub fn new(profile: &Profile) -> Result<Self> {
        let mut provider = default_provider();
        provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
        let authority = profile.authority.as_ref().context("no authority")?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.to_der()?))?;
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = profile.server_name.clone().context("no server name")?;
        Ok(Self {
            config: Arc::new(config),
            name: ServerName::try_from(name)?,
        })
    }

    /// One request; true when the handshake was a resumption. Sessions are kept between calls.
    pub fn request(&self, socket: TcpStream) -> Result<bool> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        // The server closes after its answer.
        io::copy(&mut stream, &mut io::sink())?;
        let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        stream.conn.send_close_notify();
        // The peer may be gone already.
        let _ = stream.flush();
        stream.sock.shutdown(std::net::Shutdown::Write).ok();
        drain(&mut stream.sock);
        Ok(resumed)
    }
}
