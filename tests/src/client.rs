//! A TLS client that does on the wire exactly what a test asks of it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use openssl::ssl::{
    HandshakeError, Ssl, SslContext, SslMethod, SslOptions, SslSession, SslSessionCacheMode,
    SslStream, SslVerifyMode, SslVersion, StatusType,
};
use openssl::x509::X509;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::certs::Identity;
use crate::{h2, http1};

/// How long a peer may stay silent.
const PATIENCE: Duration = Duration::from_secs(20);

/// Protocol versions offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    Tls12,
    Tls13,
    /// TLS 1.1 alone, which no current server takes.
    Tls11,
}

/// ALPN list offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alpn {
    None,
    Http1,
    H2,
    /// 300 made-up names before `http/1.1`: about 6 KiB.
    Huge,
}

/// PROXY protocol header before the ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    V1,
    V2,
}

/// What a client offers.
#[derive(Clone)]
pub struct Profile {
    pub versions: Versions,
    /// False offers session IDs only (TLS 1.2).
    pub tickets: bool,
    pub alpn: Alpn,
    /// `supported_groups`, in order; the first gets the key share.
    pub groups: Option<&'static str>,
    /// SNI, whatever it is.
    pub server_name: Option<String>,
    pub identity: Option<Identity>,
    /// Trust this authority alone; otherwise trust everybody.
    pub authority: Option<X509>,
    /// Most bytes in one TCP segment from the client.
    pub segment: Option<usize>,
    pub proxy: Option<Proxy>,
    /// Ask for a stapled OCSP response.
    pub status: bool,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            versions: Versions::Tls13,
            tickets: true,
            alpn: Alpn::None,
            groups: None,
            server_name: None,
            identity: None,
            authority: None,
            segment: None,
            proxy: None,
            status: false,
        }
    }
}

/// A client with a memory for sessions.
pub struct Client {
    profile: Profile,
    context: SslContext,
    session: Arc<Mutex<Option<SslSession>>>,
}

/// What a completed handshake was, from the client's point of view.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    pub resumed: bool,
}

impl Client {
    pub fn new(profile: Profile) -> Result<Self> {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        let version = match profile.versions {
            Versions::Tls11 => SslVersion::TLS1_1,
            Versions::Tls12 => SslVersion::TLS1_2,
            Versions::Tls13 => SslVersion::TLS1_3,
        };
        context.set_min_proto_version(Some(version))?;
        context.set_max_proto_version(Some(version))?;
        if profile.versions == Versions::Tls11 {
            // TLS 1.1 signs with SHA-1, which security level 1 forbids.
            context.set_cipher_list("DEFAULT:@SECLEVEL=0")?;
        }
        if !profile.tickets {
            context.set_options(SslOptions::NO_TICKET);
        }
        if let Some(groups) = profile.groups {
            context.set_groups_list(groups)?;
        }
        match profile.alpn {
            Alpn::None => {}
            Alpn::Http1 => context.set_alpn_protos(b"\x08http/1.1")?,
            Alpn::H2 => context.set_alpn_protos(b"\x02h2\x08http/1.1")?,
            Alpn::Huge => context.set_alpn_protos(&huge_alpn())?,
        }
        if let Some(identity) = &profile.identity {
            context.set_certificate(&identity.certificate)?;
            context.set_private_key(&identity.key)?;
        }
        match &profile.authority {
            Some(authority) => {
                context.cert_store_mut().add_cert(authority.clone())?;
                context.set_verify(SslVerifyMode::PEER);
            }
            None => context.set_verify(SslVerifyMode::NONE),
        }
        let session = Arc::new(Mutex::new(None));
        let sink = Arc::clone(&session);
        context
            .set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        context.set_new_session_callback(move |_, new| {
            *sink.lock().unwrap_or_else(PoisonError::into_inner) = Some(new);
        });
        Ok(Self {
            profile,
            context: context.build(),
            session,
        })
    }

    /// A whole connection: handshake, `requests` requests, orderly close. With 0 requests the
    /// client says goodbye after its Finished.
    pub fn request(&self, socket: TcpStream, resume: bool, requests: u32) -> Result<Done> {
        let mut stream = self.handshake(socket, resume)?;
        let done = Done {
            resumed: stream.ssl().session_reused(),
        };
        // OpenSSL tells no callback of a ticket that a TLS 1.2 server renews, and gives up the old session.
        if done.resumed
            && stream.ssl().version2() != Some(SslVersion::TLS1_3)
            && let Some(session) = stream.ssl().session()
        {
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.to_owned());
        }
        if requests > 0 && stream.ssl().selected_alpn_protocol() == Some(b"h2") {
            h2::requests(&mut stream, self.host(), requests)?;
        } else {
            http1::requests(&mut stream, self.host(), requests)?;
        }
        goodbye(stream);
        Ok(done)
    }

    /// The name that requests ask.
    pub fn host(&self) -> &str {
        self.profile.server_name.as_deref().unwrap_or("localhost")
    }

    /// The protocols offered.
    pub(crate) fn alpn(&self) -> Alpn {
        self.profile.alpn
    }

    /// Downloads `path` to its end and throws it away; the number of bytes received.
    pub fn download(&self, socket: TcpStream, path: &str) -> Result<u64> {
        let mut stream = self.handshake(socket, true)?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut buffer = vec![0; 64 << 10];
        let mut received = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => {
                    // OpenSSL drops the session of a connection that ends without a goodbye.
                    let _ = stream.shutdown();
                    return Ok(received);
                }
                length => received += length as u64,
            }
        }
    }

    /// A handshake that is meant to fail, read to its end.
    pub fn fail(&self, socket: TcpStream) -> Result<()> {
        match self.connect(socket, false)? {
            Ok(mut stream) => {
                // A TLS 1.3 client is done before the server judged its last flight.
                let mut byte = [0];
                match stream.ssl_read(&mut byte) {
                    Ok(_) => bail!("the handshake was meant to fail"),
                    Err(_) => Ok(()),
                }
            }
            Err(HandshakeError::Failure(mut stream)) => {
                stream
                    .get_mut()
                    .stream
                    .shutdown(std::net::Shutdown::Write)
                    .ok();
                drain(&mut stream.get_mut().stream);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The first flight alone, without a socket.
    pub fn client_hello(&self) -> Result<Vec<u8>> {
        let ssl = self.ssl(false)?;
        match ssl.connect(Recorder::default()) {
            Err(HandshakeError::WouldBlock(mut stream)) => {
                Ok(std::mem::take(&mut stream.get_mut().0))
            }
            _ => bail!("a client without a peer cannot finish"),
        }
    }

    /// Writes the PROXY header, where there is one, and `bytes` in segments of this profile.
    pub fn write_raw(&self, socket: TcpStream, bytes: &[u8]) -> Result<TcpStream> {
        let mut stream = self.prepare(socket)?;
        stream.write_all(bytes)?;
        Ok(stream.stream)
    }

    fn handshake(&self, socket: TcpStream, resume: bool) -> Result<SslStream<Chopped>> {
        self.connect(socket, resume)?
            .map_err(|error| anyhow::anyhow!("{error}"))
    }

    fn connect(
        &self,
        socket: TcpStream,
        resume: bool,
    ) -> Result<std::result::Result<SslStream<Chopped>, HandshakeError<Chopped>>> {
        let stream = self.prepare(socket)?;
        Ok(self.ssl(resume)?.connect(stream))
    }

    /// A socket with what this client sends before TLS.
    pub fn prepare(&self, socket: TcpStream) -> Result<Chopped> {
        let mut stream = Chopped {
            stream: socket,
            size: usize::MAX,
        };
        if let Some(proxy) = self.profile.proxy {
            let header = proxy_header(
                proxy,
                stream.stream.local_addr()?,
                stream.stream.peer_addr()?,
            );
            stream.write_all(&header)?;
        }
        stream.size = self.profile.segment.unwrap_or(usize::MAX);
        Ok(stream)
    }

    /// A connection to be made, which offers the latest session or none.
    pub fn ssl(&self, resume: bool) -> Result<Ssl> {
        let mut ssl = Ssl::new(&self.context)?;
        if let Some(name) = &self.profile.server_name {
            ssl.set_hostname(name)?;
        }
        if self.profile.status {
            ssl.set_status_type(StatusType::OCSP)?;
        }
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let (true, Some(session)) = (resume, session.as_ref()) {
            // SAFETY: the session came from this very context (its new-session callback).
            unsafe { ssl.set_session(session)? };
        }
        Ok(ssl)
    }
}

/// The address that a PROXY header announces for a connection from `local`: a documentation
/// address (RFC 5737, RFC 3849) with the same port.
pub fn announced(local: SocketAddr) -> SocketAddr {
    let address = match local.ip() {
        IpAddr::V4(_) => IpAddr::from([203, 0, 113, 9]),
        IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9]),
    };
    SocketAddr::new(address, local.port())
}

/// Connects from exactly `local` to `server`.
pub fn open(local: SocketAddr, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(server),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    connect(socket, local, server)
}

/// The same with a TCP socket that exists already, and lives where it was made.
pub fn connect(socket: Socket, local: SocketAddr, server: SocketAddr) -> io::Result<TcpStream> {
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(local))?;
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&SockAddr::from(server), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Ends a connection in order.
/// Closes in an orderly way.
pub fn goodbye(mut stream: SslStream<Chopped>) {
    // The peer may have closed already, which is as good. Reading on takes in the tickets of a
    // TLS 1.3 server whose client asked for nothing.
    let _ = stream.shutdown();
    let _ = stream.get_ref().stream.shutdown(std::net::Shutdown::Write);
    while matches!(stream.ssl_read(&mut [0; 1024]), Ok(1..)) {}
}

/// Connects to a port of 127.0.0.1, from whatever port is free.
pub fn dial(port: u16) -> io::Result<TcpStream> {
    let local = Ipv4Addr::LOCALHOST;
    loop {
        match open((local, 0).into(), (local, port).into()) {
            // The kernel picked a port whose last connection is still in TIME_WAIT.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
                ) => {}
            other => return other,
        }
    }
}

/// Closes with a RST instead of a FIN.
pub fn reset(stream: TcpStream) -> io::Result<()> {
    Socket::from(stream).set_linger(Some(Duration::ZERO))
}

/// Reads until the peer is done, whatever it says.
pub fn drain(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while matches!(patiently(|| stream.read(&mut buffer)), Ok(1..)) {}
}

/// Tries again what a signal interrupted, which the kernel does not do on a socket with a timeout:
/// a child's end (SIGCHLD) can get through to this process while another one is being started.
fn patiently<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// RFC-less, but fixed: haproxy.org/download/2.6/doc/proxy-protocol.txt, sections 2.1 and 2.2.
fn proxy_header(version: Proxy, local: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let client = announced(local);
    match (version, client.ip(), server.ip()) {
        (Proxy::V1, source, destination) => {
            let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
            format!(
                "PROXY {family} {source} {destination} {} {}\r\n",
                client.port(),
                server.port()
            )
            .into_bytes()
        }
        (Proxy::V2, source, destination) => {
            let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
            let (family, addresses) = match (source, destination) {
                (IpAddr::V4(a), IpAddr::V4(b)) => (0x11, [&a.octets()[..], &b.octets()].concat()),
                (a, b) => {
                    let octets = |address: IpAddr| match address {
                        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                        IpAddr::V6(address) => address.octets(),
                    };
                    (0x21, [octets(a), octets(b)].concat())
                }
            };
            header.push(family);
            header.extend((addresses.len() as u16 + 4).to_be_bytes());
            header.extend(addresses);
            header.extend(client.port().to_be_bytes());
            header.extend(server.port().to_be_bytes());
            header
        }
    }
}

fn huge_alpn() -> Vec<u8> {
    let mut list = Vec::new();
    for index in 0..300 {
        let name = format!("made-up-protocol-{index:03}");
        list.push(name.len() as u8);
        list.extend(name.as_bytes());
    }
    list.extend(b"\x08http/1.1");
    list
}

/// A socket that sends at most `size` bytes at a time. With TCP_NODELAY each piece is a segment of
/// its own, which loopback's 64 KiB MTU would otherwise never produce.
#[derive(Debug)]
pub struct Chopped {
    stream: TcpStream,
    size: usize,
}

impl Write for Chopped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        patiently(|| self.stream.write(&bytes[..bytes.len().min(self.size)]))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

impl Read for Chopped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        patiently(|| self.stream.read(buffer))
    }
}

/// Keeps what is written; has nothing to read.
#[derive(Debug, Default)]
struct Recorder(Vec<u8>);

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Recorder {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
