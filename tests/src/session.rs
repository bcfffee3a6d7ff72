//! Sessions that a client tampered with, and connections that offer them.
//!
//! A session is edited in its DER form (`SSL_SESSION_ASN1` of OpenSSL), in place: the binder of
//! TLS 1.3 is computed over what is then offered, so that the server finds nothing else wrong.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use openssl::ssl::{
    Ssl, SslContext, SslMethod, SslOptions, SslSession, SslSessionCacheMode, SslSessionRef,
    SslVerifyMode, SslVersion,
};

use crate::client::open;

/// `[10] EXPLICIT OCTET STRING`: the ticket.
const TICKET: u8 = 0xaa;
/// `[1] EXPLICIT INTEGER`: when the session was made.
const TIME: u8 = 0xa1;

/// `[9] EXPLICIT INTEGER`: the lifetime that came with the ticket.
const LIFETIME: u8 = 0xa9;

/// What a client offers beside a session.
#[derive(Clone, Debug)]
pub struct Offer {
    pub versions: (SslVersion, SslVersion),
    /// TLS 1.2 cipher list.
    pub ciphers: &'static str,
    /// TLS 1.3 cipher suites.
    pub suites: &'static str,
    pub groups: &'static str,
    pub server_name: String,
    /// False offers session IDs only (TLS 1.2).
    pub tickets: bool,
}

impl Offer {
    pub fn new(version: SslVersion, server_name: &str) -> Self {
        Self {
            versions: (version, version),
            ciphers: "ECDHE+AESGCM",
            suites: "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256",
            groups: "P-256:X25519",
            server_name: server_name.to_owned(),
            tickets: true,
        }
    }
}

/// What a client saw of a connection.
pub struct Outcome {
    /// Ports of the client's end and the server's: the kernel gives the first to several
    /// connections at a time, if the second differs.
    pub ports: (u16, u16),
    /// `None`: the handshake failed.
    pub resumed: Option<bool>,
    /// The session to offer next time.
    pub session: Option<SslSession>,
}

/// One connection with one request.
pub fn connect(port: u16, offer: &Offer, session: Option<&SslSession>) -> Result<Outcome> {
    connect_from(0, port, offer, session)
}

/// No two connections of a test come from the same port, so that the port names them: those that the
/// kernel picks repeat. These lie above its range (`ip_local_port_range`).
fn open_from_a_fresh_port(server: SocketAddr) -> io::Result<TcpStream> {
    static NEXT: AtomicU16 = AtomicU16::new(61_000);
    loop {
        let local = NEXT.fetch_add(1, Ordering::Relaxed);
        // A load that makes thousands of connections does not tell them apart: the kernel may pick.
        let local = if local < 61_000 { 0 } else { local };
        match open((Ipv4Addr::LOCALHOST, local).into(), server) {
            // An earlier test's is still in TIME_WAIT.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
                ) => {}
            other => return other,
        }
    }
}

/// The same from a port of the caller's choice; 0 is one that was not used before.
pub fn connect_from(
    local: u16,
    port: u16,
    offer: &Offer,
    session: Option<&SslSession>,
) -> Result<Outcome> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    context.set_min_proto_version(Some(offer.versions.0))?;
    context.set_max_proto_version(Some(offer.versions.1))?;
    context.set_cipher_list(offer.ciphers)?;
    context.set_ciphersuites(offer.suites)?;
    context.set_groups_list(offer.groups)?;
    context.set_verify(SslVerifyMode::NONE);
    if !offer.tickets {
        context.set_options(SslOptions::NO_TICKET);
    }
    let kept = Arc::new(Mutex::new(None));
    let sink = Arc::clone(&kept);
    context.set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
    context.set_new_session_callback(move |_, new| {
        *sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
    });
    let mut ssl = Ssl::new(&context.build())?;
    ssl.set_hostname(&offer.server_name)?;
    if let Some(session) = session {
        // A copy: OpenSSL never offers a session again whose connection failed.
        let copy = SslSession::from_der(&session.to_der()?)?;
        // SAFETY: a session that was read from DER belongs to no context yet.
        unsafe { ssl.set_session(&copy)? };
    }
    let server = (Ipv4Addr::LOCALHOST, port).into();
    let socket = match local {
        0 => open_from_a_fresh_port(server)?,
        local => open((Ipv4Addr::LOCALHOST, local).into(), server)?,
    };
    let ports = (socket.local_addr()?.port(), port);
    let mut resumed = None;
    if let Ok(mut stream) = ssl.connect(socket) {
        resumed = Some(stream.ssl().session_reused());
        write!(
            stream,
            "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            offer.server_name
        )?;
        let mut answer = Vec::new();
        // How the peer ends the connection is its business.
        let _ = stream.read_to_end(&mut answer);
        let _ = stream.shutdown();
    }
    let session = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
    Ok(Outcome {
        ports,
        resumed,
        session,
    })
}

/// Where in the ticket a bit is flipped. A ticket of OpenSSL is key name (16 bytes), IV (16),
/// ciphertext, MAC (32).
#[derive(Clone, Copy, Debug)]
pub enum Part {
    KeyName,
    Body,
    Mac,
}

/// True where the session came with a ticket; otherwise it has an ID alone.
pub fn has_ticket(session: &SslSessionRef) -> bool {
    edit(session, TICKET, |_| {}).is_ok()
}

/// The session with one bit of its ticket flipped.
pub fn flip(session: &SslSession, part: Part) -> Result<SslSession> {
    edit(session, TICKET, |ticket| {
        let at = match part {
            Part::KeyName => 3,
            Part::Body => 40,
            Part::Mac => ticket.len() - 5,
        };
        ticket[at] ^= 1;
    })
}

/// The session under an ID that no server gave it.
pub fn rename(session: &SslSession) -> Result<SslSession> {
    let mut der = session.to_der()?;
    let (mut at, _) = header(&der, 0)?;
    // Structure version, protocol version, cipher; then the ID.
    for _ in 0..3 {
        let (content, length) = header(&der, at)?;
        at = content + length;
    }
    let (id, _) = header(&der, at)?;
    der[id + 7] ^= 1;
    Ok(SslSession::from_der(&der)?)
}

/// The session as a client has it whose clock stood still since it was made: it offers what has
/// expired.
pub fn rejuvenate(session: &SslSession) -> Result<SslSession> {
    // One second less: OpenSSL's clock is the coarse one, and to it the future is too old.
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() - 1;
    let young = edit(session, TIME, |time| {
        let bytes = now.to_be_bytes();
        let from = bytes.len() - time.len();
        time.copy_from_slice(&bytes[from..]);
    })?;
    // A lifetime of a second may be over before the connection is made. What has no ticket has no
    // lifetime either.
    Ok(edit(&young, LIFETIME, |seconds| seconds[0] = 0x7f).unwrap_or(young))
}

/// Lets `change` work on the content of the value that stands in the explicit tag `tag`.
fn edit(session: &SslSessionRef, tag: u8, change: impl FnOnce(&mut [u8])) -> Result<SslSession> {
    let mut der = session.to_der()?;
    let (outer, _) = header(&der, 0)?;
    let mut at = outer;
    loop {
        let (content, length) = header(&der, at)?;
        if der[at] == tag {
            let (inner, length) = header(&der, content)?;
            change(&mut der[inner..inner + length]);
            return Ok(SslSession::from_der(&der)?);
        }
        at = content + length;
    }
}

/// Start and length of the content of the value at `at`.
fn header(der: &[u8], at: usize) -> Result<(usize, usize)> {
    let short = || format!("the session has no value at {at}");
    let first = *der.get(at + 1).with_context(short)?;
    if first < 0x80 {
        return Ok((at + 2, first.into()));
    }
    let count = usize::from(first & 0x7f);
    let bytes = der.get(at + 2..at + 2 + count).with_context(short)?;
    let length = bytes
        .iter()
        .fold(0, |length, byte| length << 8 | usize::from(*byte));
    Ok((at + 2 + count, length))
}
