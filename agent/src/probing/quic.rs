//! One connection over QUIC, and a request where HTTP/3 is spoken over it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig};
use quinn::{ClientConfig as QuicConfig, Endpoint, VarInt};
use rustls::ClientConfig;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use super::client::Client;
use super::session::Store;
use super::{Attempt, AttemptError, Facts, http3};

/// How long tickets are waited for at least.
const TICKETS: Duration = Duration::from_millis(500);

/// Between two looks whether one came.
const LOOK: Duration = Duration::from_millis(2);

/// A socket of each family, and what drives them.
pub struct Endpoints {
    runtime: Runtime,
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
}

impl Endpoints {
    pub fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        // A host may lack one of them.
        let v4 = Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into());
        let v6 = Endpoint::client((Ipv6Addr::UNSPECIFIED, 0).into()).ok();
        drop(guard);
        match (v4, v6) {
            (Err(error), None) => Err(error),
            (v4, v6) => Ok(Self {
                runtime,
                v4: v4.ok(),
                v6,
            }),
        }
    }
}

pub fn attempt(
    client: &Client,
    endpoints: &Endpoints,
    config: ClientConfig,
    store: &Store,
    address: SocketAddr,
) -> Result<Attempt, AttemptError> {
    let failed = |error: String| AttemptError::Quic(address, error);
    let endpoint = match address {
        SocketAddr::V4(_) => &endpoints.v4,
        SocketAddr::V6(_) => &endpoints.v6,
    };
    let endpoint = endpoint
        .as_ref()
        .ok_or_else(|| failed("this host has no such address itself".to_owned()))?;
    let config = QuicClientConfig::try_from(config).map_err(|error| failed(error.to_string()))?;
    let config = QuicConfig::new(Arc::new(config));
    endpoints.runtime.block_on(async {
        let start = Instant::now();
        let connecting = endpoint
            .connect_with(config, address, &client.name.to_str())
            .map_err(|error| failed(error.to_string()))?;
        let patience = client.profile.timeout;
        let connection = timeout(patience, connecting)
            .await
            .map_err(|_| failed(format!("no answer within {} s", patience.as_secs_f64())))?
            .map_err(|error| failed(error.to_string()))?;
        let established = Instant::now();
        let data = connection.handshake_data();
        let data = data.and_then(|data| data.downcast::<HandshakeData>().ok());
        let protocol = data
            .and_then(|data| data.protocol)
            .map(|name| String::from_utf8_lossy(&name).into_owned());
        let asks = protocol.as_deref() == Some("h3") && !client.is_silent(address);
        let asked = match asks {
            true => http3::ask(connection.clone(), &client.host, patience).await,
            false => None,
        };
        if asks && asked.is_none() {
            client.note_silence(address);
        }
        // They come a round trip later, of which the handshake takes one or two.
        let tickets = TICKETS.max(3 * (established - start));
        while store.count() == 0 && established.elapsed() < tickets {
            sleep(LOOK).await;
        }
        connection.close(VarInt::from_u32(0), b"");
        let certificate = client.verifier.take();
        Ok(Attempt {
            // A server that resumes shows no certificate (RFC 8446, 4.4).
            resumed: certificate.is_none(),
            connect: None,
            handshake: established - start,
            first_byte: asked.map(|asked| asked.answered - start),
            facts: Facts {
                version: "1.3".to_owned(),
                cipher: None,
                protocol,
            },
            certificate,
            given: store.take(),
            ticket: None,
        })
    })
}
