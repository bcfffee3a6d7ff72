//! A server on rustls, in threads of the test.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::certs::Identity;
use crate::listener;

/// A server of this identity that asks for no client certificate.
pub fn config(identity: &Identity) -> Result<ServerConfig> {
    let key = PrivateKeyDer::try_from(identity.key.private_key_to_pkcs8()?);
    Ok(
        ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(identity.certificate.to_der()?)],
                key.map_err(anyhow::Error::msg)?,
            )?,
    )
}

/// Serves with tickets until the test ends; the port.
pub fn start(identity: &Identity) -> Result<u16> {
    let mut config = config(identity)?;
    config.ticketer = Ticketer::new().context("rustls makes no tickets")?;
    serve(config)
}

/// The same with a cache of sessions, of which rustls takes early data.
pub fn start_early(identity: &Identity) -> Result<u16> {
    let mut config = config(identity)?;
    config.max_early_data_size = 1 << 14;
    serve(config)
}

fn serve(config: ServerConfig) -> Result<u16> {
    let config = Arc::new(config);
    listener::serve(move |socket| answer(socket, Arc::clone(&config)))
}

fn answer(mut socket: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
    let mut connection = ServerConnection::new(config)?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if connection.complete_io(&mut socket)? == (0, 0) {
            bail!("the client left");
        }
        if let Some(mut early) = connection.early_data() {
            early.read_to_end(&mut request)?;
        }
        // It has what came so far, which need not be the end.
        let _ = connection.reader().read_to_end(&mut request);
    }
    // Early data may come whole before the handshake's end.
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    let mut stream = StreamOwned::new(connection, socket);
    stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nok\n")?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}
