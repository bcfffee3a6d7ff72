//! A server on rustls, in threads of the test.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::certs::Identity;

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

/// Serves until the test ends; the port.
pub fn start(identity: &Identity) -> Result<u16> {
    let mut config = config(identity)?;
    config.ticketer = Ticketer::new().context("rustls makes no tickets")?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            // A client that leaves early is its own business.
            std::thread::spawn(move || answer(socket, config).ok());
        }
    });
    Ok(port)
}

fn answer(socket: TcpStream, config: Arc<ServerConfig>) -> Result<()> {
    let connection = ServerConnection::new(config)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, socket));
    let mut line = String::new();
    while stream.read_line(&mut line)? > 2 {
        line.clear();
    }
    let stream = stream.get_mut();
    stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nok\n")?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}
