//! QUIC servers and clients of two libraries, and what they say of their connections.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::rustls::client::Resumption;
use quinn::rustls::crypto::aws_lc_rs::default_provider;
use quinn::rustls::pki_types::CertificateDer;
use quinn::rustls::{ClientConfig, RootCertStore};
use quinn::{Connection, Endpoint};
use serde::Deserialize;

use crate::certs::{Files, Identity};
use crate::process::Owned;
use crate::{repository, rustls_server};

/// The name that the certificate of [`aioquic`]'s servers must have.
pub const AIOQUIC_NAME: &str = "localhost";

/// What a client of aioquic says of a connection.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    pub kind: String,
    /// Ports.
    pub client: u16,
    pub server: u16,
    pub established: bool,
    pub resumed: bool,
    pub early_data_offered: bool,
    pub early_data_sent: bool,
    pub early_data_accepted: bool,
}

/// Makes connections of every kind, so many rounds of them, and returns once all are over.
///
/// # Errors
/// When a connection does not end, or Python does not work.
pub fn aioquic(files: &Files, authority: &Path, rounds: usize) -> Result<Vec<Said>> {
    let output = Command::new("timeout")
        .arg("120")
        .arg(repository().join("target/python/bin/python"))
        .args(["-c", include_str!("programs/quic_peers.py")])
        .args([&files.certificate, &files.key])
        .arg(authority)
        .arg(rounds.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .context("cannot run Python; `cargo xtask setup --tests` installs what is needed")?;
    if !output.status.success() {
        bail!("aioquic: {}", String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout)?
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("aioquic said: {line}")))
        .collect()
}

/// What a client of HTTP/3 says of a connection.
#[derive(Clone, Debug, Deserialize)]
pub struct Http3Said {
    pub port: u16,
    pub status: Option<String>,
    pub resumed: bool,
}

/// A client of HTTP/3 on aioquic; it ends when dropped.
pub struct Http3Client {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _process: Owned,
}

impl Http3Client {
    /// Of a server on loopback with a certificate of `name`.
    pub fn start(port: u16, authority: &Path, name: &str) -> Result<Self> {
        let mut child = Command::new(repository().join("target/python/bin/python"))
            .args(["-c", include_str!("programs/h3_client.py")])
            .arg(port.to_string())
            .arg(authority)
            .arg(name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run Python; `cargo xtask setup --tests` installs what is needed")?;
        Ok(Self {
            input: child.stdin.take().context("no stdin")?,
            output: BufReader::new(child.stdout.take().context("no stdout")?).lines(),
            _process: Owned::new(child),
        })
    }

    /// One connection, with the latest ticket or without.
    pub fn connect(&mut self, with_ticket: bool) -> Result<Http3Said> {
        writeln!(self.input, "{}", if with_ticket { "again" } else { "new" })?;
        let line = self.output.next().context("the client ended")??;
        serde_json::from_str(&line).with_context(|| format!("the client said: {line}"))
    }
}

/// A server on quinn and one socket from which all connections to it are opened.
pub struct Quinn {
    runtime: tokio::runtime::Runtime,
    server: SocketAddr,
    endpoint: Endpoint,
    roots: Arc<RootCertStore>,
}

impl Quinn {
    /// With early data, or without. `identity` must be one of every name that is asked for.
    pub fn start(authority: &Identity, identity: &Identity, early_data: bool) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let mut config = rustls_server::config(identity)?;
        config.max_early_data_size = if early_data { u32::MAX } else { 0 };
        let config =
            quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(config)?));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.certificate.to_der()?))?;
        let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
        let guard = runtime.enter();
        let listener = Endpoint::server(config, loopback)?;
        let endpoint = Endpoint::client(loopback)?;
        drop(guard);
        let server = listener.local_addr()?;
        runtime.spawn(async move {
            while let Some(incoming) = listener.accept().await {
                tokio::spawn(async move {
                    // A client that gave up is its own business.
                    if let Ok(connection) = incoming.await {
                        answer(connection).await.ok();
                    }
                });
            }
        });
        Ok(Self {
            runtime,
            server,
            endpoint,
            roots: Arc::new(roots),
        })
    }

    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// A client, which remembers sessions of its own, or none.
    pub fn client(&self, remembers: bool) -> Result<quinn::ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.enable_early_data = true;
        config.resumption = match remembers {
            true => Resumption::in_memory_sessions(64),
            false => Resumption::disabled(),
        };
        let config = QuicClientConfig::try_from(config)?;
        Ok(quinn::ClientConfig::new(Arc::new(config)))
    }

    /// Connections made from now on come from another port, which this is.
    pub fn rebind(&mut self) -> Result<u16> {
        let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        let port = socket.local_addr()?.port();
        let guard = self.runtime.enter();
        self.endpoint.rebind(socket)?;
        drop(guard);
        Ok(port)
    }

    /// `count` connections at once; whether early data was accepted in each, where it was sent.
    pub fn connect(
        &self,
        client: &quinn::ClientConfig,
        name: &str,
        count: usize,
    ) -> Result<Vec<Option<bool>>> {
        self.runtime.block_on(async {
            let mut tasks = Vec::new();
            for _ in 0..count {
                let connecting = self
                    .endpoint
                    .connect_with(client.clone(), self.server, name)?;
                tasks.push(tokio::spawn(async move {
                    let (connection, accepted) = match connecting.into_0rtt() {
                        Ok((connection, accepted)) => {
                            ask(&connection).await.ok();
                            (connection, Some(accepted.await))
                        }
                        Err(connecting) => (connecting.await?, None),
                    };
                    if accepted != Some(true) {
                        ask(&connection).await?;
                    }
                    connection.close(0u32.into(), b"done");
                    anyhow::Ok(accepted)
                }));
            }
            let mut accepted = Vec::new();
            for task in tasks {
                accepted.push(task.await??);
            }
            Ok(accepted)
        })
    }
}

async fn answer(connection: Connection) -> Result<()> {
    loop {
        let (mut send, mut receive) = connection.accept_bi().await?;
        receive.read_to_end(1 << 16).await?;
        send.write_all(b"ok").await?;
        send.finish()?;
    }
}

async fn ask(connection: &Connection) -> Result<()> {
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(b"hello").await?;
    send.finish()?;
    receive.read_to_end(1 << 16).await?;
    Ok(())
}
