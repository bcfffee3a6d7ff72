//! What the matrix of compatibility asks of a server, and what the clients' libraries say became of it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use openssl::ssl::{SslSession, SslSessionRef, SslVersion};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

use crate::agent::EarlyData;
use crate::certs::Identity;
use crate::http1;
use crate::quic_peers::{Http3Client, Quinn, Said};
use crate::session::{self, Offer};
use crate::starttls::{Upgrade, s_client};

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Full,
    /// With what the server issued last.
    Resume,
    /// The same by session ID (TLS 1.2).
    SessionId,
    /// With a ticket of a twin, which has keys of its own.
    Foreign,
    /// With early data.
    Early,
    /// With early data and the ticket of a twin.
    EarlyForeign,
}

/// A connection that was made, as its client tells it.
#[derive(Clone, Debug)]
pub struct Made {
    pub ask: Ask,
    /// Of the client and of the server.
    pub ports: (u16, u16),
    /// As `resumption.offered`.
    pub offered: &'static str,
    pub resumed: bool,
    /// `accepted` is null where the client cannot tell, or offered none.
    pub early_data: EarlyData,
}

const NO_EARLY_DATA: EarlyData = EarlyData {
    offered: Some(false),
    sent: None,
    accepted: None,
};

/// What a client offers that has this session. One with neither ID nor ticket is of no use.
fn offered(session: Option<&SslSessionRef>, version: SslVersion) -> &'static str {
    match session {
        Some(session) if session::has_ticket(session) => match version {
            SslVersion::TLS1_3 => "psk",
            _ => "ticket",
        },
        Some(session) if !session.id().is_empty() => "session_id",
        _ => "none",
    }
}

/// Connections of OpenSSL's client to the first of two servers alike.
pub fn https(ports: [u16; 2], version: SslVersion, name: &str) -> Result<Vec<Made>> {
    let [port, twin] = ports;
    let offer = Offer::new(version, name);
    let by_id = Offer {
        tickets: false,
        ..offer.clone()
    };
    let mut made = Vec::new();
    let mut one = |ask, offer: &Offer, session: Option<&SslSession>| -> Result<_> {
        let outcome = session::connect(port, offer, session)?;
        made.push(Made {
            ask,
            ports: outcome.ports,
            offered: offered(session.map(|session| &**session), version),
            resumed: outcome.resumed.context("the handshake failed")?,
            early_data: NO_EARLY_DATA,
        });
        Ok(outcome.session)
    };
    one(Ask::Full, &offer, None)?;
    let mut session = one(Ask::Full, &offer, None)?;
    for _ in 0..3 {
        // A server of TLS 1.2 that resumes need not issue another ticket.
        session = one(Ask::Resume, &offer, session.as_ref())?.or(session);
    }
    if version == SslVersion::TLS1_2
        && let Some(session) = one(Ask::Full, &by_id, None)?
    {
        one(Ask::SessionId, &by_id, Some(&session))?;
        one(Ask::SessionId, &by_id, Some(&session))?;
    }
    for _ in 0..2 {
        if let Some(foreign) = session::connect(twin, &offer, None)?.session {
            one(Ask::Foreign, &offer, Some(&foreign))?;
        }
    }
    Ok(made)
}

/// Connections of rustls with early data, which the first server takes of its own tickets, and none of
/// its twin's. Sessions that allow no early data are an error.
pub fn early(ports: [u16; 2], authority: &Identity, name: &str) -> Result<Vec<Made>> {
    let [port, twin] = ports;
    let mut made = Vec::new();
    for (ask, from) in [
        (Ask::Early, port),
        (Ask::EarlyForeign, twin),
        (Ask::Early, port),
    ] {
        // Without what is left of another server's.
        let config = early_client(authority)?;
        ask_early(&config, from, name)?;
        let (local, resumed, accepted) = ask_early(&config, port, name)?;
        made.push(Made {
            ask,
            ports: (local, port),
            offered: "psk",
            resumed,
            early_data: EarlyData {
                offered: Some(true),
                sent: Some(true),
                accepted: Some(accepted.context("the ticket allows no early data")?),
            },
        });
    }
    Ok(made)
}

/// A client without any ticket, which sends early data where a ticket allows it.
pub fn early_client(authority: &Identity) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(authority.certificate.to_der()?))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_early_data = true;
    config.resumption = Resumption::in_memory_sessions(4);
    Ok(Arc::new(config))
}

/// A request, early where that is possible; the client's port, whether it resumed, and whether early data
/// was accepted.
pub fn ask_early(
    config: &Arc<ClientConfig>,
    port: u16,
    name: &str,
) -> Result<(u16, bool, Option<bool>)> {
    let server_name = ServerName::try_from(name.to_owned())?;
    let mut connection = ClientConnection::new(Arc::clone(config), server_name)?;
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let local = socket.local_addr()?.port();
    let request = http1::request(name, "/", false);
    let is_early = match connection.early_data() {
        Some(mut early) => {
            early.write_all(&request)?;
            true
        }
        None => false,
    };
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    let accepted = is_early.then(|| connection.is_early_data_accepted());
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    // Some answer early data, and some this alone. How they end the connection is their business.
    let _ = stream.write_all(&http1::request(name, "/", true));
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    ensure!(!answer.is_empty(), "no answer");
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    Ok((local, resumed, accepted))
}

/// Connections of `openssl s_client` to a server that goes over to TLS.
pub fn upgrade(
    port: u16,
    upgrade: Upgrade,
    version: SslVersion,
    name: &str,
    directory: &Path,
) -> Result<Vec<Made>> {
    let argument = match version {
        SslVersion::TLS1_2 => "-tls1_2",
        _ => "-tls1_3",
    };
    let session = directory.join(format!("{port}{argument}.session"));
    let mut made = Vec::new();
    for ask in [Ask::Full, Ask::Resume, Ask::Resume] {
        let kept = read_session(&session)?;
        let said = s_client(upgrade, port, name, &session, &[argument])?;
        made.push(Made {
            ask,
            ports: (said.port, port),
            offered: offered(kept.as_deref(), version),
            resumed: said.resumed,
            early_data: NO_EARLY_DATA,
        });
    }
    Ok(made)
}

/// The session that `s_client` kept, PEM of `SSL SESSION PARAMETERS`.
fn read_session(path: &Path) -> Result<Option<SslSession>> {
    let Ok(pem) = fs::read_to_string(path) else {
        return Ok(None);
    };
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = openssl::base64::decode_block(&base64)?;
    Ok(Some(SslSession::from_der(&der)?))
}

/// Connections of aioquic's client to nginx.
pub fn http3(port: u16, authority: &Path, name: &str) -> Result<Vec<Made>> {
    let mut client = Http3Client::start(port, authority, name)?;
    let asks = [Ask::Full, Ask::Resume, Ask::Resume, Ask::Full, Ask::Resume];
    let mut made = Vec::new();
    for ask in asks {
        let said = client.connect(ask == Ask::Resume)?;
        made.push(Made {
            ask,
            ports: (said.port, port),
            offered: if ask == Ask::Resume { "psk" } else { "none" },
            resumed: said.resumed,
            early_data: NO_EARLY_DATA,
        });
    }
    Ok(made)
}

/// What aioquic said of connections between its own ends.
pub fn aioquic(said: &[Said]) -> Vec<Made> {
    said.iter()
        .filter(|said| said.established)
        .map(|said| Made {
            ask: match (said.early_data_offered, said.resumed) {
                (true, true) => Ask::Early,
                (true, false) => Ask::EarlyForeign,
                (false, true) => Ask::Resume,
                (false, false) => Ask::Full,
            },
            ports: (said.client, said.server),
            offered: if said.early_data_offered {
                "psk"
            } else {
                "none"
            },
            resumed: said.resumed,
            early_data: EarlyData {
                offered: Some(said.early_data_offered),
                sent: said.early_data_sent.then_some(true),
                accepted: said.early_data_offered.then_some(said.early_data_accepted),
            },
        })
        .collect()
}

/// Connections of quinn's client, from a port each, to a server that takes early data.
pub fn quinn(peer: &mut Quinn, name: &str) -> Result<Vec<Made>> {
    let forgetful = peer.client(false)?;
    let client = peer.client(true)?;
    let mut made = Vec::new();
    for (ask, client) in [
        (Ask::Full, &forgetful),
        (Ask::Full, &client),
        (Ask::Early, &client),
        (Ask::Early, &client),
    ] {
        let local = peer.rebind()?;
        let accepted = peer.connect(client, name, 1)?[0];
        made.push(Made {
            ask,
            ports: (local, peer.port()),
            offered: if accepted.is_some() { "psk" } else { "none" },
            resumed: accepted == Some(true),
            early_data: EarlyData {
                offered: Some(accepted.is_some()),
                sent: accepted.is_some().then_some(true),
                accepted,
            },
        });
    }
    Ok(made)
}
